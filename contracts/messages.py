"""What parties say to each other over a link. All are small frozen values; `wire` turns them into bytes.

Fields are written in order, so a message grows only by new fields with defaults at its end. Inputs and outputs are
plain JSON data, checked by whoever owns the schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .ids import AgentId, AwardId, CapabilityName, IdempotencyKey, StepId, TaskId, Tenant


@dataclass(frozen=True, slots=True)
class Hello:
    """A host dials a coordinator: these agents live here, with these contracts (`Contract.to_data`)."""

    host: str
    incarnation: str
    """New for every start of the host's process, so a restart is told from a reconnection."""
    agents: Sequence[Mapping[str, Any]]
    """Per agent: `agent`, `domain`, `description`, `contracts`, `node`, `pid`, and the `epoch` of its store."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator takes the host in."""

    shard: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Offers:
    """Standing offers (`Offer.to_data`) of the agents behind this link. Also the heartbeat."""

    offers: Sequence[Mapping[str, Any]]
    now_ms: int = 0
    """The host's wall clock, unix milliseconds; 0 when it does not say."""


@dataclass(frozen=True, slots=True)
class Call:
    """One awarded step. The key is the same for each attempt; the award is not."""

    award: AwardId
    key: IdempotencyKey
    agent: AgentId
    task: TaskId
    step: StepId
    tenant: Tenant
    capability: CapabilityName
    input: Any
    token: Any
    """`Token.to_data`."""
    attempt: int
    deadline_ms: int
    """Unix milliseconds after which nobody waits for it: expired work is dropped unexecuted."""
    budget_cents: float = 0
    ruling: Mapping[str, Any] | None = None
    """What a person found out about the step's outside effects in doubt: `happened`, and the `result` if it did."""
    budget_tokens: int | None = None
    """What models may read and write for it; None when nobody set a limit."""
    model: str | None = None
    """The tier that answers whatever it asks of models; None lets the router choose."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one call: an output, or an error (`HanseError.to_data`)."""

    award: AwardId
    output: Any
    error: Mapping[str, Any] | None = None
    latency_ms: float = 0
    replayed: bool = False
    """The receipt existed: nothing ran this time."""
    model_cents: float = 0
    """What was spent on models this time, out of the step's budget."""
    model_tokens: int = 0
    """What models read and wrote for it this time."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Many calls in one frame: everything for this link since the last one was sent."""

    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Results:
    """Many results in one frame."""

    results: Sequence[Result]


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody waits for these awards any more. A handler that has not committed is canceled."""

    awards: Sequence[AwardId]


@dataclass(frozen=True, slots=True)
class Progress:
    """A running step says how far it is. Not journaled; may be lost."""

    task: TaskId
    step: StepId
    fraction: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A call for proposals, sent to one agent. The answer is `Proposed` with the same number."""

    number: int
    agent: AgentId
    task: TaskId
    step: StepId
    tenant: Tenant
    capability: CapabilityName
    input: Any


@dataclass(frozen=True, slots=True)
class Proposed:
    """A bid (`Bid.to_data`)."""

    number: int
    bid: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A client asks the coordinator for something. The answer is `Response` with the same number."""

    number: int
    method: str
    tenant: Tenant
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    by: str = ""
    """Who asks, taken from the credential."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request: a result, or an error (`HanseError.to_data`)."""

    number: int
    result: Any
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the answer to the request with this number, before its `Response` ends it."""

    number: int
    data: Any


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody waits for the answer to the request with this number any more."""

    number: int
