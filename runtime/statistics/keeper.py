"""Keeps a projection up to date and answers from it. Nothing is read before somebody asks."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path

from ...contracts import Clock, Tenant
from ...contracts.outcomes import OutcomesView, Total
from .measures import outcomes, totals
from .projection import Projection
from .reading import Sources, read_on

DAY_SECONDS = 86_400.0
MAX_SECONDS = 10 * 366 * DAY_SECONDS


class Keeper:
    """A projection and the journals that it is made of. Blocks; one thread at a time calls it."""

    def __init__(self, path: Path | None, sources: Callable[[], AbstractContextManager[Sources]], clock: Clock) -> None:
        """`path` is the projection's file, None for memory; `sources` opens the journals for one reading."""
        self._path, self._sources, self._clock = path, sources, clock
        self._projection: Projection | None = None

    def read_on(self) -> Generator[int]:
        """Takes in what is on disk, a batch with each step; between them there is time for answers.

        Raises Unavailable, StorageError.
        """
        with self._sources() as sources:
            yield from read_on(self._open(), sources)

    def catch_up(self) -> None:
        """All of it at once."""
        for _ in self.read_on():
            pass

    def outcomes(self, tenant: Tenant, since_seconds: float, by: str) -> OutcomesView:
        """Of the last so many seconds. Raises InvalidInput, StorageError."""
        until_ms = self._clock.now_ms()
        return outcomes(self._open(), tenant, until_ms - round(since_seconds * 1000), until_ms, by)

    def totals(self, tenant: Tenant) -> list[Total]:
        return totals(self._open(), tenant)

    def close(self) -> None:
        if self._projection is not None:
            self._projection.close()
            self._projection = None

    def _open(self) -> Projection:
        if self._projection is None:
            self._projection = Projection(self._path)
        return self._projection
