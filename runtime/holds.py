"""Holds: where trying again cannot help, nothing is given up silently. A person is told what stands, and chooses.

A step is held when nobody knows what came of it, when only some of its outside effects happened, when its compensation
keeps failing, or when its agent keeps dying under it. The task waits as `input_required`, across restarts and at no
cost, until somebody resumes it with one of the choices.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..contracts import (
    AgentId,
    Canceled,
    Conflict,
    DeadlineExceeded,
    HanseError,
    InvalidInput,
    JsonObject,
    Kind,
    NotCleared,
    OutcomeUnknown,
    PersonNeeded,
    Verdict,
)
from ..contracts.holding import CHOICES, Choice, Why
from .budgets import spent_in_vain
from .checker import check_output
from .directory import Directory
from .driver import Driver
from .execution import Run, StepRun

MAX_CLEARINGS = 8
_SAID = ("choice", "result", "output")
_log = logging.getLogger(__name__)


class Holds:
    """The held steps of one shard."""

    def __init__(self, driver: Driver, directory: Directory) -> None:
        self._driver = driver
        self._directory = directory

    def hold(self, run: Run, step: StepRun, why: Why, error: HanseError, agent: AgentId | None) -> None:
        """The alarm: in the log, in the journal, and in what lists of tasks show."""
        data = hold_data(run, step, why, error, agent)
        self._driver.record(run, Kind.STEP_HELD, step, data)
        about = {"action": "step.held", "task": run.task, "step": step.id, "why": str(why)}
        _log.error("task %s needs a person: %s", run.task, data["question"], extra=about)

    def resume(self, run: Run, step: StepRun, answer: Mapping[str, Any], by: str) -> None:
        """Takes a person's choice: `choice`, and where they belong `note`, `result`, `output`.

        Raises Conflict when the step is not held, InvalidInput for what is not among its choices, or for an output
        that the contract does not promise.
        """
        if step.held is None:
            raise Conflict(f"step {step.id} is not held up, it is {step.status}", task=run.task, step=step.id)
        choice = _chosen(step.held, answer)
        output = answer.get("output")
        if choice is Choice.BY_HAND and not step.settles:
            check_output(self._directory.contract(step.call, run.version(step)), output)
        data = {"choice": str(choice), "by": by, "note": str(answer.get("note") or ""), "output": output}
        self._driver.record(run, Kind.STEP_RESUMED, step, data | {"result": answer.get("result")})
        self._driver.advance(run)


def hold_data(run: Run, step: StepRun, why: Why, error: HanseError, agent: AgentId | None) -> JsonObject:
    """The data of `step.held`."""
    data = {
        "agent": agent,
        "attempt": step.attempt,
        "error": error.to_data(),
        "why": str(why),
        "question": _QUESTIONS[why].format(step=step.id, call=step.call, error=error.detail, left=_left(run)),
        "choices": {str(choice): _meaning(choice, run, step) for choice in CHOICES[why]},
    }
    return data | spent_in_vain(step, error)


def why_held(run: Run, step: StepRun, error: HanseError) -> Why | None:
    """Why a step that is not tried again is held, rather than failed; None when it has simply failed."""
    if error.verdict is Verdict.RECONCILE and (step.settles or run.pin(step).effect.writes):
        return Why.OUTCOME_UNKNOWN
    if step.confirms is not None:
        return Why.CONFIRMATION_FAILED
    if step.undoes is not None:
        return Why.COMPENSATION_FAILED
    if isinstance(error, PersonNeeded) and not run.winding_down:
        return Why.PERSON_NEEDED
    return Why.HALF_DONE if error.ids.get("effects_done") else None


def worth_another_try(run: Run, step: StepRun, error: HanseError, retry_on: Sequence[str] | None = None) -> bool:
    """What was begun outside is brought to its end even when nobody waits for it any more: only then can it be undone.
    So is what undoes or confirms.

    `retry_on` is what the contract says: codes or branches of errors that are tried again, in place of their types.
    """
    begun = step.begun or "stay_with" in error.ids
    if _is_refused_answer(error) or (run.winding_down and not begun and not step.settles):
        return False
    cut_short = begun and isinstance(error, Canceled | DeadlineExceeded)
    if retry_on is not None and not (begun or error.verdict is Verdict.RECONCILE):
        return error.code in retry_on or error.to_data()["branch"] in retry_on
    return cut_short or error.verdict in (Verdict.RETRY, Verdict.REAUCTION, Verdict.RECONCILE)


def may_ask(run: Run, step: StepRun, error: HanseError) -> bool:
    """Whether policy looks at the step again, because it would have taken something outward that policy did not know
    of. That is no attempt that failed; how often it may be so has an end, whatever an agent says.
    """
    wanted = step.settles or not run.winding_down
    return isinstance(error, NotCleared) and wanted and step.clearings < MAX_CLEARINGS


def _is_refused_answer(error: HanseError) -> bool:
    """Whether the agent could make nothing of what a person found out. Trying again would not help."""
    return isinstance(error, OutcomeUnknown) and bool(error.ids.get("answer_refused"))


def _chosen(held: Mapping[str, Any], answer: Mapping[str, Any]) -> Choice:
    choice = str(answer.get("choice") or "")
    if choice not in held["choices"]:
        raise InvalidInput(f"{choice!r:.80} is no choice here. Choose one of {', '.join(held['choices'])}")
    return Choice(choice)


_QUESTIONS = {
    Why.OUTCOME_UNKNOWN: "Did {call} (step {step}) happen? {error}",
    Why.HALF_DONE: "Step {step} ({call}) did some of its outside effects and cannot go on: {error}",
    Why.COMPENSATION_FAILED: "Step {step} ({call}) should undo what was done and cannot: {error}. Until then {left}.",
    Why.CONFIRMATION_FAILED: "Step {step} ({call}) should confirm what was staged and cannot: {error}",
    Why.PERSON_NEEDED: "Step {step} ({call}) needs a person's answer: {error}",
    Why.POISONED: "Step {step} ({call}) seems to kill its agent: {error}",
}


def _left(run: Run) -> str:
    left = [each.id for each in run.not_undone]
    return f"{', '.join(left)} stand{'s' if len(left) == 1 else ''} as done"


def _meaning(choice: Choice, run: Run, step: StepRun) -> str:
    if choice is Choice.NOT_HAPPENED:
        undone = run.winding_down and not step.settles
        return "it did not happen: there is nothing to undo" if undone else "it did not happen: it is done now"
    return _MEANINGS[choice]


_MEANINGS = {
    Choice.AGAIN: "the cause is mended: try again",
    Choice.HAPPENED: "it happened: its agent finishes the step with that, and does not do it again",
    Choice.BY_HAND: "somebody has done it by hand: the step counts as done",
    Choice.GIVE_UP: "leave what stands as it is: the step has failed",
}


def was_chosen(run: Run, answer: Mapping[str, Any], by: str) -> bool:
    """Whether this was chosen before, for a step that has not been held since: who was not told asks again."""
    named = answer.get("step")
    if named is None and run.held:
        return False
    said = {name: answer.get(name) for name in _SAID} | {"note": str(answer.get("note") or ""), "by": by}
    steps = [step for step in run.steps.values() if step.held is None and named in (None, step.id)]
    return any(step.resumed is not None and said.items() <= step.resumed.items() for step in steps)


def resumable(run: Run, step_id: str | None) -> StepRun:
    """The held step of that id, or the only one. Raises InvalidInput, Conflict when nothing is held."""
    if step_id is not None:
        found = run.steps.get(step_id)  # pyright: ignore[reportArgumentType]
        if found is None:
            raise InvalidInput(f"task {run.task} has no step {step_id!r:.80}", task=run.task)
        return found
    if len(run.held) == 1:
        return next(iter(run.held.values()))
    if not run.held:
        raise Conflict(f"nothing of task {run.task} is held up: it is {run.shown_status}", task=run.task)
    raise InvalidInput(f"several steps are held up. Say which: {', '.join(run.held)}", task=run.task)
