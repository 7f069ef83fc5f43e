"""What clients see: the JSON of the HTTP surface, of `--json` and of `Federation`, as pydantic models.

Change only by addition. Times are RFC 3339 in UTC, money is in cents.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .schema import JsonObject


class TaskStatus(StrEnum):
    """A2A 1.0's task states in lower case."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    AUTH_REQUIRED = "auth_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"

    @property
    def terminal(self) -> bool:
        # By identity: hashing an enum member is a call into Python, and this is asked several times a step.
        return (
            self is TaskStatus.COMPLETED
            or self is TaskStatus.FAILED
            or self is TaskStatus.CANCELED
            or self is TaskStatus.REJECTED
        )


class StepStatus(StrEnum):
    """Where a step is."""

    WAITING = "waiting"
    """for the steps it depends on"""
    INPUT_REQUIRED = "input_required"
    """for a person"""
    RETRYING = "retrying"
    """for its next attempt"""
    WORKING = "working"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    COMPENSATED = "compensated"


class ApprovalStatus(StrEnum):
    """What became of a question. `void`: the task ended without it."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    VOID = "void"


class View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Budget(BaseModel):
    """What a task, or one step of it, may spend. What is left out has no limit at this level."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Prices of steps, with the models that they pay from them."""
    tokens: int | None = Field(default=None, ge=0, le=1 << 53)
    """Read and written by models."""
    seconds: float | None = Field(default=None, gt=0, le=366 * 86400, allow_inf_nan=False)
    """By the clock on the wall: of a task from its submission, of a step from its first award."""
    human_minutes: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of people's time, as the rules that ask them estimate it."""

    def to_data(self) -> JsonObject:
        """`cents` always, the rest where it was given: what idempotency keys of earlier versions stand for stays."""
        return {"cents": self.cents} | self.model_dump(exclude_none=True)


class Amounts(View):
    """So much of everything that can be spent."""

    cents: float = 0
    tokens: int = 0
    seconds: float = 0
    human_minutes: float = 0


class BudgetView(View):
    """One level of a budget: what may be spent there, what is held for work under way, what is gone."""

    level: str
    """`tenant`, `task` or `step`."""
    of: str = ""
    """The tenant with its day in UTC, the task's id, or the step's."""
    limit: Budget = Field(default_factory=Budget)
    reserved: Amounts = Field(default_factory=Amounts)
    spent: Amounts = Field(default_factory=Amounts)


class Submission(BaseModel):
    """What a caller asks for: exactly one of `goal`, `call` (with `input`) and `plan`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    goal: str | None = Field(default=None, max_length=20_000)
    call: str | None = Field(default=None, max_length=200)
    plan: Any = None
    input: Any = None
    budget: Budget | None = None
    deadline_seconds: float | None = Field(default=None, gt=0, le=366 * 86400, allow_inf_nan=False)
    labels: dict[str, str] = Field(default_factory=dict[str, str], max_length=64)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=255)
    priority: int | None = Field(default=None, ge=0, le=9)
    """From 0 to 9, 5 when left out: which of a tenant's steps go first where there is not room for all."""
    model: str | None = Field(default=None, min_length=1, max_length=100)
    """The tier that answers whatever this task asks of models, and no other. Left out, the router chooses."""

    def to_data(self) -> JsonObject:
        """Plain data of what was given. What the caller wrote as input and plan stays as it is, nulls included."""
        given = {name: value for name, value in self if value is not None}
        return given | {"budget": self.budget.to_data()} if self.budget else given


class Fork(BaseModel):
    """A new task from a task's prefix: what was done before `step`, and beside it, is carried over; the rest is done
    anew."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    step: str = Field(min_length=1, max_length=100)
    """Where the new task goes its own way: this step of the plan, and whatever comes after it."""
    input: Any = None
    """Of the task, instead of the first one's. What has changed something must keep the input it had."""
    plan: Any = None
    """Instead of the first one's."""
    versions: dict[str, str] = Field(default_factory=dict[str, str], max_length=1000)
    """Wanted contract version by capability, for the steps that are done anew."""
    budget: Budget | None = None
    """The first one's when left out. What is carried over costs nothing."""
    deadline_seconds: float | None = Field(default=None, gt=0, le=366 * 86400, allow_inf_nan=False)
    labels: dict[str, str] | None = Field(default=None, max_length=64)
    """The first one's when left out."""
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=255)
    model: str | None = Field(default=None, min_length=1, max_length=100)
    """The tier that answers whatever the new task asks of models. The first one's when left out."""

    def to_data(self) -> JsonObject:
        """Plain data of what was given, so that an input of null is told from none."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return given | {"budget": self.budget.model_dump()} if self.budget else given


class Problem(View):
    """An error as RFC 9457 has it, with the ids it is about."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    ids: JsonObject = Field(default_factory=dict[str, Any])
    base: str = ""
    """For a code that only its author's process knows: that of the nearest error that everybody knows."""


class ForkedFrom(View):
    """The task that another one was forked from."""

    task: str
    step: str
    inherited: list[str] = Field(default_factory=list[str])
    """Steps that were done there, and not here."""


class HeldView(View):
    """A step with which nothing more is tried before a person has chosen."""

    step: str
    call: str
    why: str
    """outcome_unknown, half_done, compensation_failed, confirmation_failed or poisoned."""
    question: str
    choices: dict[str, str]
    """What may be chosen, and what each choice means."""
    since: str


class PlaceView(View):
    """A step that a child task is part of."""

    task: str
    step: str
    call: str
    agent: str | None = None


class TaskView(View):
    id: str
    tenant: str
    status: TaskStatus
    created_at: str
    updated_at: str
    idempotency_key: str | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    deadline_at: str | None = None
    budget_cents: float | None = None
    cost_cents: float = 0
    budget: BudgetView | None = None
    """Of a task that has one."""
    steps_total: int = 0
    steps_done: int = 0
    approvals: list[str] = Field(default_factory=list[str])
    """Ids of the questions it waits for, and that its child tasks wait for."""
    forked_from: ForkedFrom | None = None
    part_of: list[PlaceView] = Field(default_factory=list[PlaceView])
    """Of a child task: the steps that it is part of, from the outermost one on."""
    model: str | None = None
    """The tier that answers whatever it asks of models; None where the router chooses."""
    held: list[HeldView] = Field(default_factory=list[HeldView])
    """Steps that a person has to resume."""
    output_labels: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])
    """What is known of what it came to, such as `private`, each with where it comes from."""
    output: Any = None
    error: Problem | None = None


class BidView(View):
    agent: str
    price_cents: float = 0
    latency_ms: float = 0
    queue_depth: int = 0
    refusal: str = ""


class EditView(View):
    """A person has changed what would run."""

    by: str
    was: str
    """Digest of the input that was asked about first."""
    note: str = ""


class ChildView(View):
    """A child task that a step has asked for."""

    task: str
    call: str | None = None
    """None for a plan of its own."""
    status: str | None = None
    """That it ended with; None while it is open."""
    cents: float = 0
    """That it may spend; once it has ended, that it cost. Part of the step's price."""


class StepView(View):
    id: str
    call: str
    status: StepStatus
    depends_on: list[str] = Field(default_factory=list[str])
    agent: str | None = None
    attempts: int = 0
    price_cents: float = 0
    model_cents: float = 0
    """What of the price went to models."""
    model_tokens: int = 0
    """Read and written by models for it, as its agent said."""
    budget: BudgetView | None = None
    """Of a step that has one of its own."""
    latency_ms: float | None = None
    reason: str = ""
    """Why this agent got it, or why it was skipped."""
    bids: list[BidView] = Field(default_factory=list[BidView])
    edited: EditView | None = None
    """A person has changed its input before approving it."""
    progress: float | None = None
    """Fraction done, in [0, 1], as the agent last said while working."""
    note: str = ""
    children: list[ChildView] = Field(default_factory=list[ChildView])
    labels: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])
    """What is known of the data it works on, such as `untrusted`, each with where it comes from."""
    output: Any = None
    error: Problem | None = None


class MaterialRow(View):
    """One row of what a person is shown to decide: made of contract, rule and arguments, never written by a model."""

    label: str
    value: str


class ApprovalView(View):
    id: str
    task: str
    step: str
    capability: str
    input: Any
    digest: str
    rule: str
    """The policy that asks, in words."""
    requested_at: str
    expires_at: str | None = None
    decision: ApprovalStatus = ApprovalStatus.PENDING
    by: str | None = None
    note: str = ""
    plan: str = ""
    """Digest of the plan that the step belongs to: what is approved is this step of this plan."""
    requested_by: str = ""
    """Who submitted the task; of a child task, whoever submitted the first of those it is part of."""
    part_of: list[PlaceView] = Field(default_factory=list[PlaceView])
    """Where a child task asks: the steps that it is part of, from the outermost one on."""
    about: str = ""
    """The rule without what is this step's own. Questions that agree in it and in the capability can be grouped."""
    amount: float | None = None
    """What the rule looked at, where that is a number."""
    quorum: int = 1
    """How many must say yes."""
    votes: list[str] = Field(default_factory=list[str])
    """Who has, so far."""
    approvers: list[str] = Field(default_factory=list[str])
    """Who may decide; everybody of the tenant when empty."""
    material: list[MaterialRow] = Field(default_factory=list[MaterialRow])
    labels: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])
    """What is known of the data that would go into the step, each with where it comes from. The digest binds them."""
    edited: EditView | None = None


class GroupView(View):
    """Many questions as one prompt: same capability, same rule. Each is still decided by itself, by its own digest."""

    id: str
    capability: str
    about: str
    """The rule that asks."""
    count: int
    sum: float | None = None
    """Of the amounts that the rule looked at, where there are any."""
    min: float | None = None
    max: float | None = None
    requested_by: list[str] = Field(default_factory=list[str])
    """Up to ten of those who asked."""
    oldest: str
    expires_at: str | None = None
    """When the first of them expires."""
    example: ApprovalView
    """The one with the largest amount, or the oldest."""
    seen: dict[str, str]
    """Digest by id of every question in it: what deciding the group decides."""


class AgentView(View):
    id: str
    domain: str
    description: str = ""
    healthy: bool = True
    reason: str = ""
    host: str = ""
    node: str = ""
    pid: int = 0
    queue_depth: int = 0
    in_flight: int = 0
    capabilities: list[str] = Field(default_factory=list[str])
    troubles: list[str] = Field(default_factory=list[str])
    """What it is not given although it is well: a capability whose breaker is open, since when and why."""


class AnchorView(View):
    """A place outside that holds the heads of a journal."""

    name: str
    sequence: int = 0
    """Of the last head that it took since the coordinator started."""
    at: str | None = None
    """When it took it."""
    error: str = ""
    """Why it did not take the last one it was given; it is tried again."""


class AnchoringView(View):
    """How much of one journal is vouched for outside."""

    journal: str
    sequence: int
    """Of the last entry on disk."""
    unanchored: int
    """Entries behind the last head that any anchor holds."""
    anchors: list[AnchorView] = Field(default_factory=list[AnchorView])
    alarm: str = ""
    """Set when an anchor holds what the journal does not: it was rolled back, or written anew."""


class MemoryView(View):
    """One process of the shared memory."""

    name: str
    kind: Literal["shard", "reader"]
    """A shard writes and reads, a reader only reads."""
    answers: bool
    pid: int | None = None
    sequence: int = 0
    """Of the last entry of the shard's journal that it knows. A reader looks for more whenever it is asked."""
    tenants: int = 0
    """Of whom it has the indexes open."""
    records: int = 0
    """Of these tenants together."""
    reads: int = 0
    """Recalls and look-ups that it answered since it started."""


class FederationView(View):
    """What `hanse status` shows."""

    name: str
    shards: int
    epoch: int
    started_at: str
    agents: list[AgentView]
    tasks: dict[str, int]
    """Count per status."""
    coordinators: list[int] = Field(default_factory=list[int])
    """Process id of each shard's coordinator."""
    approvals_pending: int
    budgets: list[BudgetView] = Field(default_factory=list[BudgetView])
    """What this tenant's day may cost, when it has a limit; all shards together."""
    events: int
    heads: list[int] = Field(default_factory=list[int])
    """Sequence of the last event in the journal of each shard: from here on is from now on."""
    models: str = "not configured"
    memory: str = "not configured"
    memory_processes: list[MemoryView] = Field(default_factory=list[MemoryView])
    anchoring: list[AnchoringView] = Field(default_factory=list[AnchoringView])
    """Of each shard."""


class AuditReport(View):
    """What `audit verify` found."""

    ok: bool
    entries: int
    head: str
    problems: list[str] = Field(default_factory=list[str])
    seconds: float = 0
    compacted: int = 0
    """Entries of which only hashes are left."""


class Divergence(View):
    """The first event that is not what it had to be."""

    sequence: int
    """Of the event, or where one is missing."""
    kind: str
    step: str | None = None
    what: str
    """Field of its data, or `kind`, `step`, `task`, `state`, `bytes`."""
    expected: Any = None
    found: Any = None


class ReplayReport(View):
    """What came of reading a task's journal again."""

    task: str
    ok: bool
    status: str = ""
    """The task's, as far as it was read."""
    events: int
    decided: int
    """Events that were decided again, and came out the same. Of the others, from outside, only the place is judged."""
    state: str
    """SHA-256 in hex over every state that the task went through."""
    divergence: Divergence | None = None
