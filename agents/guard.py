"""The guard before a connector: how much of it at once, how fast, and whether it is worth trying at all.

Everything here happens before an effect is claimed, so whoever is sent away has begun nothing and may come again. What
is in doubt is never sent away: to clear it up is worth every try.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from ..contracts import Clock, Conflict, ContractBreach, HanseError, OutcomeUnknown, Overloaded, Transient, Unavailable
from ..contracts.breaker import Breaker, Passage
from ..contracts.bucket import Bucket
from .slots import Slots

_LONGEST_SECONDS = 8.0


class Bounds(Protocol):
    """As much of a connector's options as is about limits."""

    max_concurrent: int | None
    max_waiting: int
    per_second: float | None
    burst: float
    breaker_failures: int
    breaker_seconds: float


class Guard:
    """Breaker, bulkhead and rate of one connector in one agent."""

    def __init__(self, name: str, bounds: Bounds, clock: Clock) -> None:
        self._name = name
        self._breaker = Breaker(clock, bounds.breaker_failures, bounds.breaker_seconds, _LONGEST_SECONDS)
        self._slots = Slots(bounds.max_concurrent, bounds.max_waiting) if bounds.max_concurrent else None
        self._bucket = Bucket(clock, bounds.per_second, bounds.burst) if bounds.per_second else None
        self._paced, self._max_waiting = 0, bounds.max_waiting

    @asynccontextmanager
    async def passage(self, *, anyway: bool = False) -> AsyncIterator[Passage]:
        """One operation on its way; the passage is to be told how it went. Waits for its place and its turn. `anyway`
        goes past the breaker.

        Raises Unavailable when the outside system is being left alone, Overloaded when too many wait already.
        """
        if not anyway:
            self._check()
        if self._slots and not self._slots.take():
            await self._slots.wait(retry_after_seconds=1)
        try:
            await self._pace()
            passage = Passage(self._breaker) if anyway else self._enter()
            try:
                yield passage
            finally:
                passage.said_nothing()  # unless it was told before
        finally:
            if self._slots:
                self._slots.give()

    def _check(self) -> None:
        if not self._breaker.admits:
            pause = self._breaker.pause_seconds
            next_try = f"next try in {pause:.1f} s" if self._breaker.seconds_left else "it is being tried just now"
            raise Unavailable(
                f"{self._name} has failed {self._breaker.failures} times in a row and is left alone; {next_try}",
                connector=self._name,
                retry_after_seconds=pause,
            )

    def _enter(self) -> Passage:
        """It may have been opened while this one waited."""
        self._check()
        passage = self._breaker.enter()
        assert passage is not None
        return passage

    async def _pace(self) -> None:
        """Waits for a token, in the order of arrival."""
        if self._bucket is None:
            return
        if self._paced >= self._max_waiting:
            raise Overloaded(f"{self._paced} operations wait for {self._name} already", retry_after_seconds=1)
        self._paced += 1
        try:
            await asyncio.sleep(self._bucket.take_on_credit())
        except asyncio.CancelledError:
            self._bucket.give_back()
            raise
        finally:
            self._paced -= 1


def is_its_fault(error: HanseError) -> bool:
    """Whether an error says that the outside system is not well. A no is an answer."""
    return isinstance(error, Transient | OutcomeUnknown | ContractBreach) and not isinstance(error, Conflict)
