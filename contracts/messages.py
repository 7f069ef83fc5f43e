"""What parties say to each other over a link. All are small frozen values; `wire` turns them into bytes.

Fields are written in order, so a message grows only by new fields with defaults at its end. Inputs and outputs are
plain JSON data, checked by whoever owns the schema.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .ids import AgentId, AwardId, CapabilityName, IdempotencyKey, StepId, TaskId, Tenant


class Hello(NamedTuple):
    """A host dials a coordinator: these agents live here, with these contracts (`Contract.to_data`)."""

    host: str
    incarnation: str
    """New for every start of the host's process, so a restart is told from a reconnection."""
    agents: Sequence[Mapping[str, Any]]
    """Per agent: `agent`, `domain`, `description`, `contracts`, `node`, `pid`, and the `epoch` of its store."""


class Welcome(NamedTuple):
    """The coordinator takes the host in."""

    shard: int
    epoch: int


class Offers(NamedTuple):
    """Standing offers (`Offer.to_data`) of the agents behind this link. Also the heartbeat."""

    offers: Sequence[Mapping[str, Any]]
    now_ms: int = 0
    """The host's wall clock, unix milliseconds; 0 when it does not say."""


class Call(NamedTuple):
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


class Result(NamedTuple):
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
    labels: Mapping[str, Sequence[str]] | None = None
    """What it has taken up beyond what it was given: label to where it comes from. None for nothing; of an error they
    are among its ids, as `data_labels`."""


class Calls(NamedTuple):
    """Many calls in one frame: everything for this link since the last one was sent."""

    calls: Sequence[Call]


class Results(NamedTuple):
    """Many results in one frame."""

    results: Sequence[Result]


class Stop(NamedTuple):
    """Nobody waits for these awards any more. A handler that has not committed is canceled."""

    awards: Sequence[AwardId]


class Progress(NamedTuple):
    """A running step says how far it is. Not journaled; may be lost."""

    task: TaskId
    step: StepId
    fraction: float
    note: str = ""


class Proposal(NamedTuple):
    """A call for proposals, sent to one agent. The answer is `Proposed` with the same number."""

    number: int
    agent: AgentId
    task: TaskId
    step: StepId
    tenant: Tenant
    capability: CapabilityName
    input: Any


class Proposed(NamedTuple):
    """A bid (`Bid.to_data`)."""

    number: int
    bid: Mapping[str, Any]


class Request(NamedTuple):
    """A client asks the coordinator for something. The answer is `Response` with the same number."""

    number: int
    method: str
    tenant: Tenant
    parameters: Mapping[str, Any] = {}
    by: str = ""
    """Who asks, taken from the credential."""


class Response(NamedTuple):
    """The answer to a request: a result, or an error (`HanseError.to_data`)."""

    number: int
    result: Any
    error: Mapping[str, Any] | None = None


class Piece(NamedTuple):
    """A part of the answer to the request with this number, before its `Response` ends it."""

    number: int
    data: Any


class Drop(NamedTuple):
    """Nobody waits for the answer to the request with this number any more."""

    number: int
