"""Fork: a new task from the prefix of another one, which never repeats an effect of that prefix.

Forked at a step, a task keeps what is not that step and does not come after it, as far as it was done: those steps are
carried over with their outputs, and everything else is done anew, under the new task's own keys. The first task may
have ended or go on; what is under way in it is not carried over.

What was carried over belongs to the task that did it. The new task pays nothing for it and never undoes it: when the
new task fails, it undoes what it did itself, and when the first one is rolled back later, it undoes what it did,
whether or not somebody has built on it. That is why nothing can be forked from a task that is being rolled back, and
why a step that was undone counts as not done.

With another input or plan, a step that has changed nothing is simply done again where its input is another now. One
that has changed something must keep the input that it had, its capability and its place before the fork; otherwise its
effect would be had twice, or would have no place in the plan, and the fork is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..contracts import (
    Budget,
    Conflict,
    Effect,
    Epoch,
    Event,
    Fork,
    InvalidInput,
    JsonObject,
    Kind,
    NotFound,
    Plan,
    Sequence,
    StepId,
    StepStatus,
    Submission,
    digest,
)
from ..contracts.events import FORMAT
from ..contracts.labels import IN_BEGINNING, noted
from ..contracts.template import resolve
from .execution import Abort, Conclude, Expand, Inherit, Pin, Refuse, Run, Skip, StepRun

_DONE = (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_RESUMED, Kind.STEP_INHERITED)


@dataclass(frozen=True, slots=True)
class Forked:
    """What the coordinator takes on."""

    submission: Submission
    origin: JsonObject
    """`forked_from` of `task.submitted`: task, step, and by step what is carried over."""


def fork(source: Run, events: Iterable[Event], asked: Fork) -> Forked:
    """The new task. `events` are the source's. Pure: nothing is started.

    Raises NotFound for a step that the plan does not have, InvalidPlan, Conflict for a task that is being rolled back
    or does not know what came of a step, InvalidInput where an effect would be had twice.
    """
    _check_source(source, asked)
    prefix = source.plan.by_id.keys() - source.plan.and_after([StepId(asked.step)])
    _check_known(source, prefix)
    done = {step.id: step for step in source.steps.values() if _is_done(step, prefix)}
    sequences = {event.step: event.sequence for event in events if event.kind in _DONE}
    carried = {str(name): _carried(source, step, sequences[name]) for name, step in done.items()}
    plan = _plan(source, asked)
    input = asked.input if "input" in asked.model_fields_set else source.input
    _check_calls(source, done.values(), plan)
    kept = _kept(source, plan, input, asked, carried)
    submission = Submission(
        plan=plan.data,
        input=input,
        budget=asked.budget or (None if source.budget_cents is None else Budget(cents=source.budget_cents)),
        deadline_seconds=asked.deadline_seconds,
        labels=dict(source.labels) if asked.labels is None else asked.labels,
        idempotency_key=asked.idempotency_key,
        model=asked.model or source.model,
    )
    return Forked(
        submission, {"task": source.task, "step": asked.step, "steps": kept} | noted(source.marks, IN_BEGINNING)
    )


def body_of(task: str, asked: Fork) -> JsonObject:
    """What the idempotency key of a fork stands for."""
    body = asked.to_data()
    body.pop("idempotency_key", None)
    return {"fork": task, **body}


# What there is to carry over


def _check_source(source: Run, asked: Fork) -> None:
    if StepId(asked.step) not in source.plan.by_id:
        known = ", ".join(list(source.plan.by_id)[:20])
        raise NotFound(f"the plan has no step {asked.step!r}. Its steps: {known}", task=source.task, step=asked.step)
    if source.winding_down and not source.status.terminal:
        raise Conflict("the task is being rolled back. Fork it when it has ended", task=source.task)


def _check_known(source: Run, prefix: set[StepId]) -> None:
    for step in source.steps.values():
        if not step.settles and (step.parent or step).id in prefix and _is_unknown(source, step):
            raise Conflict(
                f"it is not known what came of {step.id}. Settle that first, or the new task may do it twice",
                task=source.task,
                step=step.id,
            )


def _is_unknown(source: Run, step: StepRun) -> bool:
    """Whether its last attempt may have changed something."""
    if step.members is not None or step.status in (StepStatus.COMPLETED, StepStatus.COMPENSATED):
        return False
    return source.pin(step).effect.writes and (step.error or {}).get("code") == "outcome_unknown"


def _is_done(step: StepRun, prefix: set[StepId]) -> bool:
    """Whether it stands for itself and has been settled: done, or refused where the plan lives without it."""
    top = step.parent or step
    if step.settles or step.members is not None or top.id not in prefix:
        return False
    return step.status is StepStatus.COMPLETED or (
        step.status is StepStatus.FAILED and step.optional and bool(step.attempt)
    )


def _carried(source: Run, step: StepRun, sequence: int) -> JsonObject:
    """As `step.inherited` has it. What was inherited there was done in yet another task."""
    if step.inherited is not None:
        return dict(step.inherited)
    completed = step.status is StepStatus.COMPLETED
    return {
        "task": source.task,
        "step": step.id,
        "sequence": sequence,
        "agent": step.agent,
        "version": step.award.get("version"),
        "input": digest(step.input if step.edited is None else _as_bound(source, step)),
        "output": step.output if completed else None,
        "error": None if completed else step.error,
    } | noted(step.carries)


def _as_bound(source: Run, step: StepRun) -> Any:
    """What the plan made its input, before a person made something else of it."""
    return resolve(step.step.input if step.step else {}, source.scope(step))


def _plan(source: Run, asked: Fork) -> Plan:
    """The plan of the new task, with the wanted versions in the steps that are done anew. Raises InvalidPlan."""
    plan = Plan.parse(asked.plan) if asked.plan is not None else source.plan
    if StepId(asked.step) not in plan.by_id:
        raise InvalidInput(f"the new plan has no step {asked.step!r}, where it goes its own way", step=asked.step)
    if unknown := asked.versions.keys() - {step.call for step in plan.steps}:
        raise InvalidInput(f"no step calls {min(unknown)}, so its version means nothing", capability=min(unknown))
    if not asked.versions:
        return plan
    anew = plan.and_after([StepId(asked.step)])
    return Plan.parse({**plan.data, "steps": [_versioned(each, asked, anew) for each in plan.data["steps"]]})


def _versioned(step: JsonObject, asked: Fork, anew: set[StepId]) -> JsonObject:
    call = step["call"].partition("@")[0]
    if step["id"] not in anew or call not in asked.versions:
        return step
    return {**step, "call": f"{call}@{asked.versions[call]}"}


# What can be carried over


def _check_calls(source: Run, done: Iterable[StepRun], plan: Plan) -> None:
    for step in done:
        there = plan.by_id.get((step.parent or step).id)
        if there is None and _changed_something(source, step):
            raise _twice(source, step.id, "the new plan does not have it. Keep it, under its id")
        if there is not None and there.call != step.call and _changed_something(source, step):
            raise _twice(source, step.id, f"the new plan calls {there.call} there, and it was {step.call}")


def _changed_something(source: Run, step: StepRun) -> bool:
    return step.status is StepStatus.COMPLETED and source.pin(step).effect.writes


def _twice(source: Run, step: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{step} has changed something in task {source.task}, and {why}. Fork from an earlier step to do it again",
        task=source.task,
        step=step,
    )


def _kept(source: Run, plan: Plan, input: Any, asked: Fork, carried: Mapping[str, JsonObject]) -> JsonObject:
    """What of it the new task gets to with the very input it had: tried out on a run that nobody executes."""
    left, kept = {name: each for name, each in carried.items() if _fits(plan, each, source)}, dict[str, JsonObject]()
    trial = _Trial(source, plan, input, asked.step, left)
    for step, given in trial.inherits():
        if digest(step.input) == given["input"]:
            kept[step.id] = given
        elif _changed_something(source, source.steps[step.id]):
            raise _twice(source, step.id, "its input would be another one now")
        else:
            left.pop(step.id)
    for name in carried.keys() - kept.keys():
        if _changed_something(source, source.steps[StepId(name)]):
            raise _twice(source, name, "now it would come after a step that is done anew, or not at all")
    return kept


def _fits(plan: Plan, given: Mapping[str, Any], source: Run) -> bool:
    name = StepId(str(given["step"]).partition("[")[0])
    return name in plan.by_id and plan.by_id[name].call == source.plan.by_id[name].call


class _Trial:
    """A run of the new task in which nothing happens but what needs nobody: to skip, to expand, to inherit."""

    def __init__(self, source: Run, plan: Plan, input: Any, step: str, left: Mapping[str, JsonObject]) -> None:
        origin = {"task": source.task, "step": step, "steps": left}
        data = {
            "tenant": source.tenant,
            "plan": plan.data,
            "input": input,
            "pins": {},
            "forked_from": origin,
            "format": FORMAT,
        }
        self._source = source
        self._count = 0
        pins = {step.call: Pin("", Effect.READ) for step in plan.steps} | dict(source.pins)
        self._run = Run(self._event(Kind.TASK_SUBMITTED, None, data), plan, pins)

    def inherits(self) -> Iterator[tuple[StepRun, JsonObject]]:
        """Each step that comes to be inherited. One that whoever asks has taken out meanwhile is done anew."""
        moved = True
        while moved:
            moved = False
            for command in list(self._run.next()):
                match command:
                    case Inherit(step, given):
                        yield step, dict(given)
                        if step.id not in self._run.inherits:
                            continue
                        self._apply(Kind.STEP_INHERITED, step, dict(given))
                    case Skip(step, reason):
                        self._apply(Kind.STEP_SKIPPED, step, {"reason": reason})
                    case Expand(step, count):
                        self._apply(Kind.STEP_EXPANDED, step, {"count": count})
                    case Refuse(step, error):
                        data = {"agent": None, "attempt": 0, "error": error.to_data(), "retry_at_ms": None}
                        self._apply(Kind.STEP_FAILED, step, data)
                    case Abort() | Conclude():
                        return
                    case _:
                        continue
                moved = True

    def _apply(self, kind: Kind, step: StepRun, data: JsonObject) -> None:
        self._run.apply(self._event(kind, step.id, data))

    def _event(self, kind: Kind, step: StepId | None, data: JsonObject) -> Event:
        self._count += 1
        return Event(Sequence(self._count), Epoch(0), 0, kind, self._source.task, step, data)
