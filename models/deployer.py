"""What a keeper needs of the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .door import Door
from .source import Weights
from .stages import Stage
from .tier import Tier


@dataclass(frozen=True, slots=True)
class Deployed:
    """How the replicas of one tier are."""

    running: int = 0
    wanted: int = 1
    failed: bool = False
    message: str = ""
    stage: Stage | None = None


class Deployer(Protocol):
    """Puts tiers into a cluster. Nothing blocks the loop."""

    def engine(self) -> bool:
        """Whether there is an engine to run them with."""
        ...

    async def up(self) -> bool:
        """Whether the cluster takes tiers."""
        ...

    async def deploy(self, tier: Tier, weights: Weights) -> None:
        """Begins; `deployed` says how it goes."""
        ...

    async def remove(self, tier: Tier) -> None: ...

    async def deployed(self, tiers: Sequence[Tier]) -> dict[str, Deployed | None]:
        """By name; None for one that is not there."""
        ...

    async def free(self) -> list[dict[str, float]]:
        """Resources of each node that nobody has."""
        ...

    async def wish(self, tier: Tier) -> None:
        """Tells a cluster that can grow what is missing."""
        ...

    def door(self, tier: Tier) -> Door: ...
