"""Child tasks: what a step asks of the federation on behalf of the task that it belongs to.

A child is a task like any other, with less authority than its parent: what it may change, spend and wait for is at most
what its step may. It belongs to the same tenant, and whoever submitted the first of them counts as having submitted it.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from .errors import HanseError
from .ids import AgentId, StepId, TaskId, Tenant
from .labels import NO_MARKS, Marks
from .schema import JsonObject

CHILD_TASKS = "tasks"
"""What child tasks are called in the effect ledger. No configured connector may have this name."""
MAX_DEPTH = 8
"""Children of children of … a task."""


class Delegation(BaseModel):
    """What a step asks for. Exactly one of `call` and `plan` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    key: str = Field(min_length=1, max_length=240)
    """Asked twice under one key, it is one child: the first that did not fail of those that the step's attempts had."""
    call: str | None = Field(default=None, max_length=200)
    plan: dict[str, Any] | None = None
    input: Any = None
    budget_cents: float = Field(default=0, ge=0, allow_inf_nan=False)
    """What the child may spend, of what its step may."""
    deadline_seconds: float | None = Field(default=None, gt=0, le=366 * 86400, allow_inf_nan=False)
    labels: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])
    """What the step has taken up by then, label to where it comes from: all that the child does is made of it."""

    def to_data(self) -> JsonObject:
        """Plain data. An older coordinator takes what says nothing of labels."""
        return self.model_dump(mode="json", exclude=None if self.labels else {"labels"})


@dataclass(frozen=True, slots=True)
class Parent:
    """On whose behalf."""

    tenant: Tenant
    agent: AgentId
    task: TaskId
    step: StepId


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """What a child task came to."""

    task: TaskId
    output: Any
    error: HanseError | None
    """None for one that completed."""
    cost_cents: float
    labels: Marks = field(default_factory=lambda: NO_MARKS)
    """Of what it came to."""


class Delegates(Protocol):
    """Runs child tasks."""

    async def run(self, asked: Delegation, parent: Parent) -> ChildEnded:
        """The child at its end. Asked again under the same key, it is the same child.

        Raises what keeps it from being taken on: InvalidPlan, InvalidInput, NotFound, NotAllowed for what its step may
        not do, BudgetExhausted, LoopDetected, Canceled when nobody waits for the step any more. Never raises because a
        coordinator is away: it waits.
        """
        ...
