"""What is said while a step looks for an agent: standing offer, call for proposals, bid or refusal, award.

The protocol is the contract net (Smith 1980; FIPA SC00029H) in two forms. Agents push standing offers whenever their
state changes, which makes the common award a local decision of the coordinator. Where the contract asks for
proposals, each eligible agent is asked about the very input, and may refuse with a reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .ids import AgentId, AwardId, CapabilityName, StepId, TaskId, Tenant
from .schema import JsonObject


@dataclass(frozen=True, slots=True)
class Offer:
    """What an agent says of itself without being asked. Holds until the next one, or until it is stale."""

    agent: AgentId
    queue_depth: int = 0
    """Calls accepted and not yet answered."""
    latency_ms: Mapping[CapabilityName, float] = field(default_factory=dict[CapabilityName, float])
    """Recently seen time of one call per capability; the contract's figure until there is one."""
    price_cents: Mapping[CapabilityName, float] = field(default_factory=dict[CapabilityName, float])
    """Price per call where it differs from the contract's."""
    healthy: bool = True
    reason: str = ""
    """Why it is not healthy."""
    working: Sequence[AwardId] = ()
    """Awards that it has had for longer than a moment and still works on: the heartbeat of long steps."""

    def to_data(self) -> JsonObject:
        working = {"working": list(self.working)} if self.working else {}
        return {
            "agent": self.agent,
            "queue_depth": self.queue_depth,
            "latency_ms": dict(self.latency_ms),
            "price_cents": dict(self.price_cents),
            "healthy": self.healthy,
            "reason": self.reason,
        } | working

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Offer":
        """What a newer agent added is ignored. Raises TypeError when a field without default is missing."""
        return Offer(**_known(Offer, data))


@dataclass(frozen=True, slots=True)
class CallForProposals:
    """The coordinator asks eligible agents what one step would cost."""

    task: TaskId
    step: StepId
    tenant: Tenant
    capability: CapabilityName
    input: Any


@dataclass(frozen=True, slots=True)
class Bid:
    """One agent's answer, or its standing offer read as an answer. `refusal` says why it will not."""

    agent: AgentId
    version: str
    price_cents: float
    latency_ms: float
    queue_depth: int
    confidence: float = 1.0
    """The agent's own estimate, in [0, 1], that it will keep the contract."""
    refusal: str = ""

    def to_data(self) -> JsonObject:
        return {
            "agent": self.agent,
            "version": self.version,
            "price_cents": self.price_cents,
            "latency_ms": self.latency_ms,
            "queue_depth": self.queue_depth,
            "confidence": self.confidence,
            "refusal": self.refusal,
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Bid":
        """What a newer agent added is ignored. Raises TypeError when a field without default is missing."""
        return Bid(**_known(Bid, data))


def _known(cls: type["Offer | Bid"], data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in cls.__slots__ if name in data}


@dataclass(frozen=True, slots=True)
class Award:
    """Who gets the step, and why in words."""

    id: AwardId
    agent: AgentId
    version: str
    price_cents: float
    reason: str
