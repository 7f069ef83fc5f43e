"""The breaker: after failures in a row somebody is left alone for a while, then one call probes whether he is back.

Closed lets everything through, open nothing, half-open one call at a time (Nygard, Release It!, 2007). The pause
doubles with each probe that fails. Tiers of the model pool, connectors, and the capabilities of agents have one each.
"""

from enum import StrEnum
from math import ceil

from .ports import Clock

LONGEST_SECONDS = 120.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`enter` before a call; what it gives is told once how the call ended."""

    def __init__(self, clock: Clock, failures: int, seconds: float, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._clock, self._limit, self._first, self._longest = clock, failures, seconds, max(seconds, longest_seconds)
        self.failures = 0
        """In a row, by now."""
        self._pause = seconds
        self._opened_at: float | None = None
        self._probe: Passage | None = None

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.seconds_left <= 0 else BreakerState.OPEN

    @property
    def seconds_left(self) -> float:
        """Until the next probe."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._pause - self._clock.monotonic())

    @property
    def pause_seconds(self) -> float:
        """For how long whoever is not admitted had better stay away: until the next probe or, while one is on its way
        and nobody knows what comes of it, once more what it waited for. In whole milliseconds, rounded up.
        """
        return ceil((self.seconds_left or self._pause) * 1000) / 1000

    @property
    def admits(self) -> bool:
        state = self.state
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and self._probe is None)

    def enter(self) -> "Passage | None":
        """A passage for one call, or None when it is to be left alone. In half-open it is the probe's."""
        if not self.admits:
            return None
        passage = Passage(self)
        if self._opened_at is not None:
            self._probe = passage
        return passage

    def ended(self, passage: "Passage", success: bool | None) -> None:
        was_probe, self._probe = passage is self._probe, None if passage is self._probe else self._probe
        if success:
            self._close()
        elif success is not None:
            self._count(was_probe)

    def _close(self) -> None:
        self.failures, self._pause, self._opened_at = 0, self._first, None

    def _count(self, was_probe: bool) -> None:
        """A call that began before the breaker opened may fail late: only a probe makes the pause longer."""
        self.failures += 1
        if was_probe:
            self._pause = min(self._longest, 2 * self._pause)
        if was_probe or (self._opened_at is None and self.failures >= self._limit):
            self._opened_at = self._clock.monotonic()


class Passage:
    """One call on its way through. Only the first word about its end counts."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker: Breaker | None = breaker

    def succeeded(self) -> None:
        self._end(True)

    def failed(self) -> None:
        self._end(False)

    def said_nothing(self) -> None:
        """The call ended in a way that tells nothing about the other side: a full queue, a caller who went away."""
        self._end(None)

    def _end(self, success: bool | None) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.ended(self, success)
