"""Child tasks of one shard: taken on for a step that is under way, with no more authority than the step has, and told
to stop when nobody waits for the step any more.

A child belongs to its parent's shard, so both are in one journal: that the step asked for it (`step.delegated`) stands
beside the child's own beginning, and what it came to (`step.returned`) beside its end. What a question to a person is
part of, what a step's children have cost, and who stops with whom is read off there, also after a crash.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Protocol

from ..contracts import (
    AgentId,
    Budget,
    BudgetExhausted,
    Canceled,
    Clock,
    Conflict,
    DeadlineExceeded,
    Digest,
    Effect,
    InvalidInput,
    JsonObject,
    Kind,
    LoopDetected,
    NotAllowed,
    StepId,
    Submission,
    TaskId,
    TaskStatus,
    digest,
)
from ..contracts.delegation import MAX_DEPTH, Delegation
from ..contracts.labels import Marks, joined, marks_of, placed
from .checker import Proved
from .driver import Driver
from .execution import Run, StepRun
from .intake import Intake, Origin, input_of

STOPPED = "nobody waits any more for the step that asked for it"
_RANK = {effect: rank for rank, effect in enumerate(Effect)}


class TakeOn(Protocol):
    """Journals a task and begins with it: `Coordinator.take_on`."""

    def __call__(self, submission: Submission, body: Digest, proved: Proved, origin: Origin) -> Run: ...


class Children:
    """Who asked for whom, among the tasks that are open."""

    def __init__(
        self,
        driver: Driver,
        intake: Intake,
        clock: Clock,
        runs: Mapping[TaskId, Run],
        take_on: TakeOn,
        cancel: Callable[[Run, str, str], None],
    ) -> None:
        self._driver, self._intake, self._clock = driver, intake, clock
        self._runs, self._take_on, self._cancel = runs, take_on, cancel

    # A step asks

    def delegate(self, parent: Run, step: StepId, agent: AgentId, asked: Delegation) -> Run:
        """A new child of a step that this agent has in hand. It is not on disk yet.

        Raises Canceled when nobody waits for the step, LoopDetected, NotAllowed for what the step may not do itself,
        BudgetExhausted, DeadlineExceeded, InvalidPlan, InvalidInput, NotFound, Unavailable.
        """
        asking = self._asking(parent, step, agent)
        path = [*parent.path, _place(parent, asking)]
        submission = self._submission(parent, asking, asked)
        _check_loop(path, submission)
        proved = self._intake.prove(submission)
        _check_effects(parent, asking, proved)
        above, marks = {"path": path, "settles": asking.settles}, _marks(parent, asking, asked)
        origin = Origin(parent.tenant, parent.by, parent=above, marks=marks, ends_ms=self._ends_ms(parent, asking))
        return self._take_on(submission, body_of(parent.task, step, asked), proved, origin)

    def _asking(self, parent: Run, step: StepId, agent: AgentId) -> StepRun:
        asking = parent.in_flight.get(step)
        if asking is None or asking.agent != agent or not _may_ask(parent, asking):
            raise Canceled(STOPPED, task=parent.task, step=step)
        return asking

    def _submission(self, parent: Run, step: StepRun, asked: Delegation) -> Submission:
        if (asked.call is None) == (asked.plan is None):
            raise InvalidInput("a child task has either a call or a plan")
        return Submission(
            call=asked.call,
            plan=asked.plan,
            input=asked.input,
            budget=None if step.settles else _budget(parent, step, asked),
            deadline_seconds=asked.deadline_seconds,
            labels=dict(parent.labels),
            idempotency_key=asked.key,
            priority=parent.priority,
            model=parent.model,
        )

    def _ends_ms(self, parent: Run, step: StepRun) -> int | None:
        """Until when somebody waits for the step. Raises DeadlineExceeded when nobody does any more."""
        ends = None if step.settles or step.begun else parent.ends_ms
        if ends is not None and ends <= self._clock.now_ms():
            raise DeadlineExceeded(task=parent.task, step=step.id)
        return ends

    # Beginnings and ends

    def adopt(self, child: Run) -> None:
        """Puts a child under its step, in memory and, where that is not yet said, in the parent's journal."""
        place = child.path[-1]
        parent = self._runs.get(place["task"])
        if parent is None or parent.status.terminal:
            return
        step = parent.steps[place["step"]]
        parent.children.setdefault(step.id, {})[child.task] = child
        if child.task not in step.children:
            data = {"agent": place["agent"], "child": child.task, "call": _call_of(child), "cents": child.budget_cents}
            self._driver.record(parent, Kind.STEP_DELEGATED, step, data)

    def ended(self, child: Run) -> None:
        """Tells the parent's journal what became of a child."""
        place = child.path[-1]
        parent = self._runs.get(place["task"])
        if parent is not None and not parent.status.terminal:
            self.adopt(child)
            self._returned(parent, parent.steps[place["step"]], child)
            del parent.children[place["step"]][child.task]

    def _returned(self, parent: Run, step: StepRun, child: Run) -> None:
        data = {
            "child": child.task,
            "status": str(child.status),
            "cost_cents": child.spent_cents,
            "minutes": child.spent_minutes,
        }
        self._driver.record(parent, Kind.STEP_RETURNED, step, data)

    def stop(self, parent: Run) -> None:
        """Cancels the children of steps that nobody waits for. What they did is undone by themselves."""
        for step, children in list(parent.children.items()):
            for child in list(children.values()):
                if parent.status.terminal or not _is_wanted(parent, parent.steps[step], child):
                    self._stop(child)

    def _stop(self, child: Run) -> None:
        with suppress(Conflict):  # past its point of no return it is brought to its end
            self._cancel(child, STOPPED, "hanse")

    def recover(self, ended: Callable[[TaskId], Run | None]) -> None:
        """After a start. `ended` gives a task that is over."""
        for run in list(self._runs.values()):
            if run.path:
                self.adopt(run)
        for parent in list(self._runs.values()):
            for step, child in [*_unreturned(parent)]:
                if child not in self._runs and (over := ended(child)) is not None:
                    self._returned(parent, step, over)
            self.stop(parent)
        for child in list(self._runs.values()):
            if child.path and child.path[-1]["task"] not in self._runs:
                self._stop(child)

    def above(self, run: Run) -> Iterator[Run]:
        """The open tasks that a child is part of, the nearest one first."""
        for place in reversed(run.path):
            if (parent := self._runs.get(place["task"])) is not None:
                yield parent


def body_of(parent: TaskId, step: StepId, asked: Delegation) -> Digest:
    """What a child's key stands for. What it may spend and how long it may take differ from attempt to attempt."""
    return digest([parent, step, asked.call, asked.plan, asked.input])


def came_to_nothing(parent: Run, step: StepId, child: Run) -> bool:
    """Whether a child's failure is that of an earlier attempt at its step. What it did, it has undone itself, so the
    attempt under way may have another. A task that winds down begins nothing anew, except to undo or confirm."""
    asking = parent.in_flight.get(step)
    if asking is None or not child.status.terminal or child.status is TaskStatus.COMPLETED:
        return False
    wanted = asking.settles or not parent.winding_down
    return wanted and asking.children[child.task]["attempt"] < asking.attempt


def _may_ask(parent: Run, step: StepRun) -> bool:
    """Whether somebody waits for the step. What was begun, undoes or confirms is brought to its end in any case."""
    return not parent.winding_down or step.begun or step.settles


def _is_wanted(parent: Run, step: StepRun, child: Run) -> bool:
    """Whether somebody waits for a child, or needs it to bring a step to its end."""
    return not parent.winding_down or step.settles or step.children[child.task]["late"]


def _place(parent: Run, step: StepRun) -> JsonObject:
    about = {"task": parent.task, "step": step.id, "call": step.call, "agent": step.agent}
    return about | {"input": digest(step.input)}


def _check_loop(path: list[JsonObject], submission: Submission) -> None:
    if len(path) > MAX_DEPTH:
        raise LoopDetected(f"{MAX_DEPTH} tasks are within one another already", task=path[0]["task"])
    if submission.call is None:
        return
    wanted = (submission.call, digest(input_of(submission)))
    for place in path:
        if (place["call"], place["input"]) == wanted:
            text = f"{submission.call} with this very input is what step {place['step']} is doing"
            raise LoopDetected(text, task=place["task"], step=place["step"], capability=submission.call)


def _check_effects(parent: Run, step: StepRun, proved: Proved) -> None:
    """A child changes nothing in a way that its step may not."""
    own = parent.pin(step).effect
    for each in proved.plan.steps:
        effect = proved.pins[each.call].effect
        if _RANK[effect] > _RANK[own]:
            raise NotAllowed(
                f"{step.call} is {own}, so it may not ask for {each.call}, which is {effect}. Declare "
                f'effect="{effect}", or make {each.call} a step of the plan',
                capability=each.call,
                step=step.id,
            )


def _budget(parent: Run, step: StepRun, asked: Delegation) -> Budget:
    """At most what is left of the step's price, of the tokens it was granted, and of people's time."""
    taken = sum(each["cents"] for each in step.children.values())
    left = round(max(0.0, step.award["price_cents"] - taken), 6)
    if asked.budget_cents > left:
        text = f"the child tasks of a step spend at most its price: {left:g} cents are left of it"
        raise BudgetExhausted(text, task=parent.task, step=step.id, level="step", left=left)
    tokens = (step.award.get("reserved") or {}).get("tokens")
    return Budget(cents=asked.budget_cents, tokens=tokens, human_minutes=_minutes(parent, step))


def _minutes(parent: Run, step: StepRun) -> float | None:
    """Of people's time that neither the step nor its task has used, nor given to a child that is open."""
    given = sum(
        max(0.0, (child.budget.human_minutes or 0) - child.spent_minutes)
        for children in parent.children.values()
        for child in children.values()
    )
    limits = [
        (step.budget and step.budget.human_minutes, step.reserved.minutes + step.minutes),
        (parent.budget.human_minutes, parent.reserved_minutes + parent.spent_minutes),
    ]
    known = [max(0.0, limit - used - given) for limit, used in limits if limit is not None]
    return min(known, default=None)


def _marks(parent: Run, step: StepRun, asked: Delegation) -> Marks:
    """What the step works on, and what its handler has taken up by now: the child's plan and input are made of it."""
    here = f"step {step.id}, task {parent.task}"
    known = placed(parent.material(step), f"task {parent.task}")
    return joined(known, placed(marks_of(asked.labels), here))


def _call_of(child: Run) -> str | None:
    """What was called; None for a plan of its own."""
    steps = child.plan.steps
    return steps[0].call if len(steps) == 1 and steps[0].id == "call" else None


def _unreturned(parent: Run) -> Iterator[tuple[StepRun, TaskId]]:
    for step in list(parent.steps.values()):
        for child, about in list(step.children.items()):
            if about["status"] is None:
                yield step, TaskId(child)
