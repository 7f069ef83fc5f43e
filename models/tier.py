"""A tier: a rung of the model pool, as the configuration describes it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..contracts import Digest

GIB = 1024**3


class Kind(StrEnum):
    """What a tier's model does."""

    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    """vectors for the heads of trained validators"""


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung. Money is in cents per 1,000 tokens, memory in GiB."""

    name: str
    kind: Kind
    source: str
    """A folder, a hub id, `package:NAME` for weights that a Python package carries, or `tiny` for a model of random
    weights that is made on the spot.
    """
    digest: Digest | None = None
    """What the weights must be. None takes what is there."""
    rank: int = 0
    """Height: escalation goes upwards."""
    context_window: int = 2048
    concurrency: int = 32
    """Calls in the engine of one replica at once; what all replicas together do not take queues in the pool."""
    queue: int = 256
    """Calls that may wait; the next one is refused as overloaded."""
    cents_per_1k_prompt: float = 0.0
    cents_per_1k_completion: float = 0.0
    timeout_seconds: float = 60.0
    min_replicas: int = 1
    max_replicas: int = 1
    accelerator: str | None = None
    """Ray's name of an accelerator, such as `H200`. None runs on processors."""
    gpus: float = 1.0
    """Share of each of its accelerators."""
    cpus: float = 1.0
    memory_gb: float = 2.0
    """Of one replica: weights, cache, and the programs around them."""
    engine: dict[str, Any] = field(default_factory=dict[str, Any])
    """Options of vLLM's engine, as vLLM names them."""
    heads: tuple[str, ...] = ()
    """Of a tier that classifies: the trained validators that judge by its vectors."""

    @property
    def devices(self) -> int:
        """Accelerators of one replica."""
        parallel = (self.engine.get(f"{way}_parallel_size", 1) for way in ("tensor", "pipeline"))
        return next(parallel) * next(parallel) if self.accelerator else 0


def embedding(tiers: Iterable[Tier]) -> Tier | None:
    """The one whose vectors a pool gives, of tiers in the order of the file: the first. Vectors of two models cannot be
    compared, so there is one for everybody.
    """
    return next((tier for tier in tiers if tier.kind is Kind.EMBED), None)


def idle(tiers: Sequence[Tier]) -> list[Tier]:
    """Those that nobody would ask: all that embed beside the one that does. They are not started."""
    embeds = embedding(tiers)
    return [tier for tier in tiers if tier.kind is Kind.EMBED and tier is not embeds]
