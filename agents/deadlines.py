"""When the time of handlers is up: one timer for all that run, since setting and canceling one for each took longer
than all else that is done at their start and end.
"""

import asyncio
from math import inf
from typing import Protocol

_EARLY_SECONDS = 0.001
"""The resolution of an event loop's timers, by which one may come too early."""


class Timed(Protocol):
    """Something that has to end."""

    @property
    def ends(self) -> float:
        """On the event loop's clock, in seconds."""
        ...

    def is_up(self) -> None:
        """Its time is over. It is not looked at any more."""
        ...


class Deadlines:
    """Those that run at the moment."""

    def __init__(self) -> None:
        self._running: dict[Timed, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = inf

    def begin(self, timed: Timed) -> None:
        self._running[timed] = None
        if timed.ends < self._next:
            self._set(timed.ends)

    def end(self, timed: Timed) -> None:
        """The timer stays, and finds out that there is nothing to do: most end long before it rings."""
        self._running.pop(timed, None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, at: float) -> None:
        self.stop()
        self._next, self._timer = at, asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time() + _EARLY_SECONDS
        self._next, self._timer = inf, None
        for timed in [timed for timed in self._running if timed.ends <= now]:
            del self._running[timed]
            timed.is_up()
        if self._running:
            self._set(min(timed.ends for timed in self._running))
