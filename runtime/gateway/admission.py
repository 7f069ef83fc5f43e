"""How many requests may be inside at once. One more is told at once to come again, which costs next to nothing.

A request that waits for something to happen (an event stream, `?wait=`) holds a little memory and no time, so those are
counted apart: a thousand watchers do not keep the next task from being submitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ...contracts import Overloaded

RETRY_SECONDS = 1


class Admission:
    """Two counters of one gateway process."""

    def __init__(self, in_flight: int, waiting: int) -> None:
        self._limits = (in_flight, waiting)
        self.in_flight = 0
        self.waiting = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Raises Overloaded when too many requests are being worked on."""
        if self.in_flight >= self._limits[0]:
            raise Overloaded(f"{self.in_flight} requests are being answered", retry_after_seconds=RETRY_SECONDS)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Within `work`: gives the place back for as long as it waits. Raises Overloaded when too many do."""
        if self.waiting >= self._limits[1]:
            raise Overloaded(f"{self.waiting} requests are waiting already", retry_after_seconds=RETRY_SECONDS)
        self.waiting += 1
        self.in_flight -= 1
        try:
            yield
        finally:
            self.waiting -= 1
            self.in_flight += 1
