"""How a task comes in: what was asked for becomes a plan, and the plan is proved before anything is written."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from ..contracts import Budget, Digest, InvalidInput, JsonObject, NotFound, Submission, Tenant, Unavailable
from ..contracts.events import FORMAT
from ..contracts.labels import IN_BEGINNING, NO_MARKS, Marks, joined, noted, of_task
from .checker import Checker, Proved, check_input
from .directory import Directory
from .execution import DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task comes from."""

    tenant: Tenant
    by: str
    """Who asked for it; for a child task, who asked for the first of those it is part of."""
    forked_from: JsonObject | None = None
    """What another task has done of its plan already, as `fork` has it."""
    parent: JsonObject | None = None
    """Of a child task: `path`, the steps it is part of from the outermost one on, and whether the last `settles`."""
    marks: Marks = field(default_factory=lambda: NO_MARKS)
    """Of a child task: labels of what its step works on and has taken up."""
    ends_ms: int | None = None
    """Unix milliseconds after which nobody waits, whatever the submission says; None when somebody always does."""


class Intake:
    """Proves submissions against the contracts that are offered."""

    def __init__(self, directory: Directory, expected: Set[str]) -> None:
        """Until the expected agents have dialed in, an unknown capability is `Unavailable` rather than `NotFound`."""
        self._directory = directory
        self._expected = expected
        self._checker = Checker(directory)

    def prove(self, submission: Submission) -> Proved:
        """Raises InvalidPlan, InvalidInput (for a goal in words too), NotFound, Unavailable."""
        try:
            proved = self._checker.prove(plan_of(submission))
            if submission.call is not None:
                check_input(self._directory.contract(proved.plan.steps[0].call), input_of(submission))
        except NotFound as error:
            if missing := self.missing():
                waiting = f"{error.detail}; still waiting for {', '.join(sorted(missing))}"
                raise Unavailable(waiting, **error.ids) from error
            raise
        return proved

    def missing(self) -> set[str]:
        """Expected agents that have not dialed in since the start."""
        return {*self._expected} - self._directory.members.keys()


def plan_of(submission: Submission) -> JsonObject:
    """The plan of a submission, as data. A call is a plan of one step whose input is the task's.

    Raises InvalidInput for a goal in words: nothing here makes plans of them yet, however often it is sent again.
    """
    if submission.goal is not None:
        raise InvalidInput("a goal in words needs a planner, and there is none yet. Send call and input, or a plan")
    if submission.call is not None:
        step = {"id": "call", "call": submission.call, "input": {"$from": "input"}}
        return {"steps": [step], "output": {"$from": "call"}}
    return submission.plan


def input_of(submission: Submission) -> Any:
    """A call without input is a call with an empty one."""
    return {} if submission.call is not None and submission.input is None else submission.input


def submitted(origin: Origin, submission: Submission, body: Digest, proved: Proved, now: int) -> JsonObject:
    """The data of `task.submitted`. `now` is in unix milliseconds."""
    return {
        "tenant": origin.tenant,
        "key": submission.idempotency_key,
        "body": body,
        "by": origin.by,
        "plan": proved.plan.data,
        "input": input_of(submission),
        "pins": proved.pins_data,
        "budget_cents": submission.budget.cents if submission.budget else None,
        "budget": _beside_cents(submission.budget),
        "deadline_ms": min(_ends(origin, submission, now), default=None),
        "labels": submission.labels,
        "forked_from": origin.forked_from,
        "parent": origin.parent,
        "model": submission.model,
        "format": FORMAT,
        "priority": DEFAULT_PRIORITY if submission.priority is None else submission.priority,
        **noted(begun_with(origin, submission), IN_BEGINNING),
    }


def begun_with(origin: Origin, submission: Submission) -> Marks:
    """Labels of all that the task is begun with. Most have none."""
    return joined(origin.marks, of_task(submission.labels))


def _ends(origin: Origin, submission: Submission, now: int) -> Iterator[int]:
    if submission.deadline_seconds is not None:
        yield now + round(submission.deadline_seconds * 1000)
    if origin.ends_ms is not None:
        yield origin.ends_ms


def _beside_cents(budget: Budget | None) -> JsonObject | None:
    """What else a budget limits. None when nothing."""
    return (budget.model_dump(exclude_none=True, exclude={"cents"}) or None) if budget else None
