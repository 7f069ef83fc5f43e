"""Child tasks as a handler uses them: work that other agents do, on behalf of the step.

    refund = await context.tasks.call("payments.refund", {"order_id": order, "cents": cents})

A child is negotiated, journaled, approved, compensated and audited like any other task; what it ends with, the handler
gets. A handler that runs again gets the same child: in a capability that writes, a child is an effect in the ledger;
in one that reads, its key is made of the step's and of its place. Only a child that failed has a successor, when the
step is tried again. While a handler waits for a child its own time stands still and its slot is free, because a child
may wait for a person.

A child has at most the authority of its step: it changes nothing that the step may not change, ends before the step's
deadline, and spends what the step has left of its price. A step that has begun to undo itself undoes what its children
did by its own compensation: a child that has completed is over.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..contracts import (
    AgentId,
    BudgetExhausted,
    Canceled,
    DeadlineExceeded,
    Failed,
    HanseError,
    InvalidInput,
    NotCleared,
    OutcomeUnknown,
    Verdict,
)
from ..contracts.delegation import CHILD_TASKS, ChildEnded, Delegates, Delegation, Parent
from ..contracts.labels import IN_ERROR, marks_of, noted, to_data
from ..contracts.messages import Call
from ..contracts.plain import check
from ..contracts.schema import fitted
from .asking import PATIENCE_SECONDS, Purse
from .connector import Answer, Connector, operation
from .effects import Effects
from .marking import Marking

Perform = Callable[[str, Mapping[str, Any]], Awaitable[ChildEnded]]
"""Runs one child under a key. Raises the error that ended it."""


class ChildTasks(Connector):
    """The federation as the ledger sees it: asked twice under one key, it does nothing twice."""

    name = CHILD_TASKS

    def __init__(self, perform: Perform | None = None) -> None:
        """Without `perform` it only stands for those that have one, where an effect of theirs is in doubt."""
        super().__init__(timeout_seconds=PATIENCE_SECONDS)
        self._perform = perform

    @property
    def repeatable(self) -> bool:
        return True

    async def reconcile(self, operation: str, key: str, request: dict[str, Any]) -> Answer:
        """There may be a child, and its step asks for it again. Until then nobody may say that nothing was begun."""
        raise OutcomeUnknown("the child task is asked for again when its step is", effect=key)

    @operation()
    async def run(self, key: str, request: dict[str, Any]) -> dict[str, Any]:
        assert self._perform is not None
        ended = await self._perform(key, request)
        return {"task": ended.task, "output": ended.output, "cost_cents": ended.cost_cents} | noted(ended.labels)


class Tasks:
    """The child tasks of one run of a handler."""

    def __init__(
        self,
        delegates: Delegates,
        call: Call,
        agent: AgentId,
        purse: Purse,
        effects: Effects | None,
        aside: Callable[[], AbstractAsyncContextManager[None]],
        alive: Callable[[], None],
        marking: Marking,
    ) -> None:
        """`aside` is entered while the handler waits for a child; `alive` raises when the handler is over; `marking`
        has the labels that go to a child and come back with what it says.
        """
        self._delegates, self._call, self._purse, self._effects = delegates, call, purse, effects
        self._parent = Parent(call.tenant, agent, call.task, call.step)
        self._aside, self._alive, self._marking = aside, alive, marking
        self._count = 0

    async def call(
        self,
        capability: str,
        input: Any = None,
        *,
        name: str = "",
        budget_cents: float | None = None,
        deadline_seconds: float | None = None,
    ) -> Any:
        """The output of one capability, done as a child task.

        `name` makes the child known by it instead of by its place among the step's effects, for children whose order
        differs from run to run. `budget_cents` is what it may spend: all that the step has left when left out, so
        children that run beside each other and cost something need one each.

        Raises the error that ended the child, or `Failed` where that one would be worth another try: a child tries by
        itself as often as its contracts say. And NotAllowed, BudgetExhausted, LoopDetected, InvalidPlan, InvalidInput.
        """
        asked = {"call": capability, "input": {} if input is None else input}
        return await self._run(asked, name, budget_cents, deadline_seconds)

    async def run(
        self,
        plan: Mapping[str, Any],
        input: Any = None,
        *,
        name: str = "",
        budget_cents: float | None = None,
        deadline_seconds: float | None = None,
    ) -> Any:
        """The output of a whole plan, done as one child task. Otherwise as `call`."""
        return await self._run({"plan": dict(plan), "input": input}, name, budget_cents, deadline_seconds)

    async def _run(
        self, asked: dict[str, Any], name: str, budget_cents: float | None, deadline_seconds: float | None
    ) -> Any:
        self._alive()
        request = _plain(asked) | {"budget_cents": budget_cents, "deadline_seconds": deadline_seconds}
        if self._effects is None:
            self._count += 1
            key = f"{self._call.key}!{self._call.attempt}.{name or self._count}"
            return (await self._perform(key, request)).output
        child = ChildTasks(self._perform)
        try:
            done = await self._effects.perform(child, child.operations["run"], name, {"request": request})
        except HanseError as error:
            self._marking.take(marks_of(error.ids.get(IN_ERROR)))  # also where the ledger has kept it
            raise
        self._marking.take(marks_of(done.get("labels")))
        self._purse.delegated[done["task"]] = done["cost_cents"]
        return done["output"]

    async def _perform(self, key: str, request: Mapping[str, Any]) -> ChildEnded:
        """The completed child. What it may spend is out of the purse meanwhile. Raises the error that ended it."""
        left = round(max(0.0, self._call.budget_cents - self._purse.spoken_for), 6)
        cents = left if request["budget_cents"] is None else request["budget_cents"]
        if cents > left:
            raise BudgetExhausted(
                f"a child task may spend {cents:g} cents; its step has {left:g} left", level="step", left=left
            )
        labels = self._marking.data() or {}
        asked = fitted(Delegation, {**request, "key": key, "budget_cents": cents, "labels": labels})
        self._purse.delegated[key] = cents
        try:
            async with self._aside():
                ended = await self._delegates.run(asked, self._parent)
        finally:
            del self._purse.delegated[key]
        self._purse.delegated[ended.task] = ended.cost_cents
        self._marking.take(ended.labels)
        if ended.error is not None:
            error = final(ended.error, ended)
            error.ids[IN_ERROR] = to_data(ended.labels)
            raise error
        return ended


def final(error: HanseError, ended: ChildEnded) -> HanseError:
    """A child's error as its parent's step has it: never one that is worth another try, for the child has tried."""
    is_of_a_step = isinstance(error, Canceled | DeadlineExceeded | NotCleared)  # that its time is over, or it may ask
    if error.verdict is Verdict.ABORT and not is_of_a_step:
        return error.about(child=ended.task)
    return Failed(f"a child task ended with: {error.detail}", child=ended.task, child_code=error.code)


def _plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Plan and input as plain data. Raises InvalidInput."""
    try:
        data = to_jsonable_python(asked, by_alias=True)
    except PydanticSerializationError as error:
        raise InvalidInput(f"context.tasks: {error}") from None
    check(data)
    return data
