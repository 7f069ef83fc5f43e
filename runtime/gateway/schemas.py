"""Bodies and pages that only HTTP has. Requests are closed to unknown keys, answers grow by addition."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ...contracts import AgentView, ApprovalView, Budget, Contract, GroupView, JsonObject, Problem, StepView, TaskView
from ...contracts.memory import MAX_ALIASES, MAX_REASON, Certificate, Draft, Record, Remembered
from ...contracts.outcomes import Total
from ...contracts.pool import CacheView, CallView, PromptView, TierView, UsageView


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True)


class Cancellation(_Asked):
    """Why a task should end. The whole body may be left out."""

    reason: str = Field(default="", max_length=2000)


class Decision(_Asked):
    """A person's yes or no to exactly what was seen. Who decides comes from the credential."""

    digest: str = Field(max_length=200)
    """The digest of the approval as it was shown."""
    note: str = Field(default="", max_length=2000)
    plan: str = Field(default="", max_length=200)
    """The digest of the plan as it was shown. May be left out."""
    input: Any = None
    """With a yes: what is to run instead of what was shown. It must keep the contract, and rules look at it anew."""


class Decisions(_Asked):
    """One yes or no to many questions, each named with the digest that was seen."""

    approve: bool
    seen: dict[str, str] = Field(min_length=1, max_length=2000)
    """Digest by id, as a group shows it. What is not named is not decided."""
    note: str = Field(default="", max_length=2000)


class Resumption(_Asked):
    """How a held step goes on."""

    choice: str = Field(max_length=40)
    """One of the choices in the task's `held`."""
    step: str | None = Field(default=None, max_length=200)
    """Where several are held."""
    note: str = Field(default="", max_length=2000)
    result: Any = None
    """Of the outside effect, when it happened."""
    output: Any = None
    """Of the step, when it was done by hand."""


class CapabilityCall(_Asked):
    """One call of one capability."""

    input: Any = None
    budget: Budget | None = None
    deadline_seconds: float | None = Field(default=None, gt=0, le=366 * 86400, allow_inf_nan=False)
    labels: dict[str, str] = Field(default_factory=dict[str, str], max_length=64)


class Remembering(_Asked):
    """What to remember. Whose it is, and who writes it, come from the credential."""

    drafts: list[Draft] = Field(min_length=1, max_length=1000)


class Forgetting(_Asked):
    """What to forget, by id, and why."""

    ids: list[str] = Field(min_length=1, max_length=1000)
    reason: str = Field(default="", max_length=MAX_REASON)


class Erasing(_Asked):
    """By which other names and addresses a subject is mentioned. The whole body may be left out."""

    aliases: list[str] = Field(default_factory=list[str], max_length=MAX_ALIASES)


class Bundle(_Given):
    """The evidence of a task. Signed as a whole: what is changed, added or left out is found out."""

    kind: str
    version: int
    task: str
    made_at: str
    journals: list[JsonObject]
    """Of each: its signed head, and entries with their bytes (base64) and the path to the head's root."""
    receipts: list[JsonObject]
    effects: list[JsonObject]
    children: list[JsonObject]
    """The bundles of the child tasks that its steps asked for."""
    missing: list[str]
    """What could not be had, and why."""
    key: str
    signature: str


class RefusedDecision(_Given):
    id: str
    problem: Problem


class TaskList(_Given):
    """One page, newest first."""

    tasks: list[TaskView]
    next: str | None
    """Write it as `before` to get the next page. Null on the last one."""


class StepList(_Given):
    """In the order of the plan."""

    steps: list[StepView]


class AgentList(_Given):
    agents: list[AgentView]


class CapabilityList(_Given):
    capabilities: list[Contract]


class ApprovalList(_Given):
    approvals: list[ApprovalView] = Field(default_factory=list[ApprovalView])
    groups: list[GroupView] = Field(default_factory=list[GroupView])
    """Instead of `approvals`, with `?group=true`."""


class DecidedList(_Given):
    """What became of each question."""

    decided: list[ApprovalView]
    refused: list[RefusedDecision]
    """Those that were not decided by this, and why not."""


class EventData(_Given):
    """One entry of the journal."""

    sequence: int
    at: str
    kind: str
    task: str | None
    step: str | None
    data: JsonObject


class EventPage(_Given):
    """What an event stream says, for those who would rather ask again."""

    events: list[EventData]
    next: str
    """Write it as `after` to get what comes next."""


class RememberedList(_Given):
    """In the order of the drafts."""

    remembered: list[Remembered]


class RecordList(_Given):
    records: list[Record]


class CertificateList(_Given):
    certificates: list[Certificate]


class ToolDescription(_Given):
    """In the shape of MCP."""

    name: str
    title: str
    description: str
    inputSchema: JsonObject
    annotations: JsonObject


class ToolList(_Given):
    tools: list[ToolDescription]


class Health(_Given):
    status: str


class TotalList(_Given):
    """Series since the beginning; each only grows."""

    totals: list[Total]


class TierPage(_Given):
    tiers: list[TierView]


class UsageList(_Given):
    usage: list[UsageView]


class CallList(_Given):
    calls: list[CallView]


class CacheList(_Given):
    caches: list[CacheView]


class PromptList(_Given):
    prompts: list[PromptView]


class Words(_Given):
    digest: str
    text: str


class Purged(_Given):
    """How many answers were forgotten."""

    purged: int
