"""Vectors of a tier on an engine, for many callers: what `rung` is for words.

A call's texts go to the engine in portions, so that a call of a few texts does not wait for the whole of one of
thousands; portions of interactive calls go first, and tenants take turns. The engine puts what it has in hand, whosever
it is, into one batch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contracts import Clock, ContractBreach, Digest, HanseError, ModelUnavailable, Tenant, TimedOut
from .backend import Condition
from .entrance import Entrance
from .policy import Policy
from .purse import paid
from .queue import TierQueue
from .serve_backend import ServePooling

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

PORTIONS = 2
"""Of each replica at once: one is computed while the next is on its way."""
ANYBODY = Tenant("")
"""Whom a call is for that is nobody's own: a comparison, or a text that several ask about."""


class PooledEmbedder:
    """Keeps `Embedder` over a tier, with its queue and its breaker."""

    def __init__(
        self,
        pooling: ServePooling,
        clock: Clock,
        policy: Policy,
        *,
        seconds: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """A portion has `seconds`, or as long as its tier says. Of each text `max_tokens` are seen, or all that fit."""
        tier = pooling.tier
        self.pooling, self._clock = pooling, clock
        self._seconds, self._max_tokens = seconds or tier.timeout_seconds, max_tokens
        self._entrance = Entrance(tier.name, pooling.condition, clock, policy)
        self._queue = TierQueue(tier.name, PORTIONS, tier.queue, clock)
        self._dimensions = 0
        pooling.watch(self._fit_queue)

    @property
    def digest(self) -> Digest:
        """Empty until the weights have been found."""
        return self.pooling.digest

    @property
    def dimensions(self) -> int:
        """0 until something was embedded."""
        return self._dimensions

    def open(self) -> bool:
        """Whether there is any use in asking it now."""
        return self._entrance.open()

    def condition(self) -> Condition:
        """For `hanse models`."""
        found, queue = self._entrance.condition(), self._queue
        return replace(found, digest=str(self.digest), queued=queue.waiting, in_flight=queue.in_flight)

    def close(self, error: HanseError) -> None:
        """Those who wait, and all who come, get `error`."""
        self._queue.close(error)

    async def embed(
        self, texts: Sequence[str], *, interactive: bool = False, tenant: Tenant = ANYBODY, deadline_ms: int = 0
    ) -> "NDArray[float32]":
        """A call pays it from its purse. Raises ModelUnavailable, Overloaded, TimedOut, BudgetExhausted, and
        DeadlineExceeded when a turn comes too late.
        """
        import numpy

        size = self.pooling.tier.concurrency
        portions = [texts[at : at + size] for at in range(0, len(texts), size)]
        async with paid(self.pooling.tier, texts):
            rows = [await self._portion(portion, tenant, interactive, deadline_ms) for portion in portions]
        return numpy.concatenate(rows) if rows else numpy.empty((0, self._dimensions), numpy.float32)

    async def _portion(
        self, texts: Sequence[str], tenant: Tenant, interactive: bool, deadline_ms: int
    ) -> "NDArray[float32]":
        self._entrance.check()
        async with self._queue.place(tenant, interactive=interactive, deadline_ms=deadline_ms):
            passage, seconds = self._entrance.enter(), self._left(deadline_ms)
            try:
                vectors = await self.pooling.embed(texts, seconds, self._max_tokens)
            except BaseException as error:
                late = isinstance(error, TimedOut) and seconds >= self._seconds
                tells = late or isinstance(error, ModelUnavailable | ContractBreach)
                passage.failed() if tells else passage.said_nothing()
                raise
            passage.succeeded()
        self._dimensions = vectors.shape[-1]
        return vectors

    def _left(self, deadline_ms: int) -> float:
        """Seconds for a portion. That a caller has less of them says nothing about the tier."""
        left = (deadline_ms - self._clock.now_ms()) / 1000 if deadline_ms else self._seconds
        return max(0.001, min(self._seconds, left))

    def _fit_queue(self) -> None:
        self._queue.resize(PORTIONS * max(1, self.pooling.condition().replicas))
