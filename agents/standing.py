"""How an agent stands: what it has in hand, how fast it is, what it costs. This is what its offers are made of."""

import asyncio
from collections.abc import Iterable, Sequence

from ..contracts import AgentId, AwardId, CapabilityName, Offer
from .agent import Agent
from .run import Run

_OVERDUE_SECONDS = 5.0
"""After this a handler that was canceled and does not end makes its agent unhealthy."""
_SMOOTHING = 0.2
"""Weight of the newest call in the latency."""


class Standing:
    def __init__(self, agent: Agent) -> None:
        self.depth = 0
        """Calls accepted and not yet answered."""
        self._agent = agent
        self._latency_ms: dict[CapabilityName, float] = {}
        self._idle: asyncio.Future[None] | None = None

    def enter(self) -> None:
        self.depth += 1

    def leave(self) -> None:
        self.depth -= 1
        if self._idle and not self.depth:
            self._idle.set_result(None)
            self._idle = None

    async def idle(self, seconds: float) -> None:
        """Waits until nothing is in hand, but not longer than this."""
        if self.depth:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=seconds)

    def took(self, capability: CapabilityName, milliseconds: float) -> None:
        before = self._latency_ms.get(capability, milliseconds)
        self._latency_ms[capability] = before + _SMOOTHING * (milliseconds - before)

    def latency_ms(self, capability: CapabilityName) -> float:
        """Exponentially weighted mean over the calls; what the contract says until there was one."""
        seen = self._latency_ms.get(capability)
        return self._agent.capabilities[capability].contract.latency_ms if seen is None else seen

    def offer(self, ailment: str, working: Sequence[AwardId]) -> Offer:
        agent, latency_ms = AgentId(self._agent.name), dict(self._latency_ms)
        return Offer(agent, self.depth, latency_ms, self._prices(), not ailment, ailment, working)

    def _prices(self) -> dict[CapabilityName, float]:
        if type(self._agent).price_cents is Agent.price_cents:
            return {}
        return {name: self._agent.price_cents(name) for name in self._agent.capabilities}


def stuck(runs: Iterable[Run]) -> str:
    """Says which handler was canceled long ago and has not ended; empty when there is none."""
    since = asyncio.get_running_loop().time() - _OVERDUE_SECONDS
    names = (run.call.capability for run in runs if run.cause and run.given_up_at < since)
    return next((f"a handler of {name} was canceled and does not end" for name in names), "")
