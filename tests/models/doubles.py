"""A clock that is set by hand, and a cluster that does what a test says. `tests/models/vllm` has the real one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from hanse.contracts import Digest, HanseError
from hanse.models.deployer import Deployed
from hanse.models.door import Door
from hanse.models.source import Weights
from hanse.models.tier import GIB, Tier

WEIGHTS = Weights(Path("/models/llama"), Digest("sha256:" + "1" * 64), 10_000_000)


class Watch:
    """A clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


class PaperDoor:
    """A way to replicas that are functions here."""

    def __init__(self) -> None:
        self.answer: Callable[[str, bytes], bytes | HanseError] = lambda method, body: b"{}"
        self.items: list[bytes | HanseError] = []
        self.asked: list[tuple[str, bytes]] = []
        self.left: list[str] = []
        """Streams that were not read to their end."""
        self.wrong: HanseError | None = None
        self.silent = False

    async def call(self, method: str, body: bytes) -> bytes:
        self.asked.append((method, body))
        if self.silent:
            await asyncio.Event().wait()
        answer = self.answer(method, body)
        if isinstance(answer, HanseError):
            raise answer
        return answer

    async def stream(self, method: str, body: bytes) -> AsyncIterator[bytes]:
        self.asked.append((method, body))
        try:
            for item in self.items:
                if isinstance(item, HanseError):
                    raise item
                yield item
            if self.silent:
                await asyncio.Event().wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.left.append(method)
            raise

    async def report(self) -> dict[str, Any]:
        if self.wrong is not None:
            raise self.wrong
        return {"pid": 1, "unfinished": 0}


class PaperCluster:
    """A deployer of one node."""

    def __init__(self, memory_gb: float = 8, cpus: float = 8) -> None:
        self.has_engine = True
        self.is_up = True
        self.node = {"CPU": cpus, "memory": memory_gb * GIB}
        self.tiers: dict[str, Deployed] = {}
        self.begun: list[str] = []
        self.wished: list[str] = []
        self.doors: dict[str, PaperDoor] = {}
        self._taken: dict[str, Tier] = {}

    def engine(self) -> bool:
        return self.has_engine

    async def up(self) -> bool:
        return self.is_up

    async def deploy(self, tier: Tier, weights: Weights) -> None:
        self.begun.append(tier.name)
        self.tiers[tier.name] = Deployed()
        self._taken[tier.name] = tier

    async def remove(self, tier: Tier) -> None:
        self.tiers.pop(tier.name, None)
        self._taken.pop(tier.name, None)

    async def deployed(self, tiers: Sequence[Tier]) -> dict[str, Deployed | None]:
        return {tier.name: self.tiers.get(tier.name) for tier in tiers}

    async def free(self) -> list[dict[str, float]]:
        taken = self._taken.values()
        memory = self.node["memory"] - sum(each.memory_gb * GIB for each in taken)
        return [self.node | {"memory": memory, "CPU": self.node["CPU"] - sum(each.cpus for each in taken)}]

    async def wish(self, tier: Tier) -> None:
        self.wished.append(tier.name)

    def door(self, tier: Tier) -> Door:
        return self.doors.setdefault(tier.name, PaperDoor())
