"""The past of a shelf: every version of its records, each under its id and version, to be searched as of a moment.

    first asked for ──> all versions, page by page ──┐
    written since ──> noted ──> read anew ───────────┴─> searched

It has an index, tables and a turn of its own, so neither writers nor whoever asks for the present wait for it. What is
written later is noted by id, and of these records alone the versions are read anew when somebody asks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING

from ..contracts import StorageError, Tenant
from ..contracts.memory import Query, Recollection, Record
from .access import View
from .log import Kept, Log, Version
from .ports import Index, Scored
from .projection import Projection, aside, comparable, to_its_end
from .turn import Turn

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

BETWEEN = "@"
"""The id and the version of a record as the past knows it."""
SLICE = 100
"""Versions, or records to be read anew, that are taken in at once: reading them holds the event loop up."""

Finish = Callable[[Sequence[Scored], Mapping[str, Record], Index], Recollection]
"""Makes the answer of what was found, its records, and the index that found it."""


class Past:
    """One tenant's. All methods are called on one event loop."""

    def __init__(self, tenant: Tenant, log: Log, make: Callable[[], Projection], model: str) -> None:
        self._tenant, self._log, self._make, self._model = tenant, log, make, model
        self._projection: Projection | None = None
        self._pages: Iterator[list[Version]] | None = None
        """What is still to be read for the first time."""
        self._last: dict[str, int] = {}
        """The last version of each record in the projection."""
        self._noted: dict[str, int] = {}
        """Records to be read anew, and when they were first noted; the latest stand last. Noted again they keep their
        place: whoever asked after the first time is owed what was written then."""
        self._notes = 0
        self._gone: list[str] = []
        """Of these nothing may stay, as soon as nobody is at the projection."""
        self._broken = False
        """Something could not be taken in, so nobody knows what is in the projection."""
        self._preparing = asyncio.Lock()
        self._turn = Turn()

    def note(self, ids: Iterable[str], *, gone: bool = False) -> None:
        """Something was written of these records; or all that was known of them is `gone`."""
        if self._projection is None:
            return
        self._notes += 1
        for id in ids:
            self._noted.setdefault(id, self._notes)
            self._gone += [id] if gone else []
        if not self._turn.taken:
            self._take_out(self._projection)
            self._drop_when_idle(self._projection)

    async def search(
        self, query: Query, vector: "NDArray[float32] | None", view: View, now_ms: int, finish: Finish
    ) -> Recollection:
        """What `finish` makes of what was found and its records, which have their version in their id.

        Raises StorageError when what was written cannot be read from the disk.
        """
        async with self._preparing:
            await self._prepare()
        async with self._at_it() as projection:
            scored = await aside(projection, projection.search, query, vector, view, now_ms)
            return finish(scored, self._records(scored), projection.index)

    def close(self) -> None:
        """When nobody uses it. What comes later makes it anew."""
        if self._projection is not None:
            self._projection.close()
        self._projection, self._pages, self._broken = None, None, False
        for each in (self._last, self._noted, self._gone):
            each.clear()

    async def _prepare(self) -> None:
        """Until it knows all that was acknowledged by now. Whoever leaves meanwhile leaves the rest to the next one."""
        if self._broken:
            async with self._turn.take():
                self.close()
        if self._projection is None:
            self._projection, self._pages = self._make(), self._log.all_versions(self._tenant, SLICE)
        elif self._pages is None and not self._noted:
            return
        noted = self._notes
        await self._log.durable()  # also what was written before anything was noted
        while self._pages is not None:
            await self._take_in(self._next_page)
        while self._due(noted):
            await self._take_in(lambda: self._read_anew(self._due(noted)))

    async def _take_in(self, read: Callable[[], list[Version]]) -> None:
        async with self._at_it() as projection:
            try:
                await to_its_end(self._put, projection, read())
            except Exception:
                self._broken = True
                raise

    @asynccontextmanager
    async def _at_it(self) -> AsyncIterator[Projection]:
        async with self._turn.take():
            projection = self._projection
            if projection is None:
                raise StorageError("the past was closed while somebody waited for it")
            try:
                yield projection
            finally:
                self._take_out(projection)

    def _next_page(self) -> list[Version]:
        page = next(self._pages or iter(()), None)
        if page is None:
            self._pages = None
        return page or []

    def _due(self, noted: int) -> list[str]:
        return [id for id, at in islice(self._noted.items(), SLICE) if at <= noted]

    def _read_anew(self, ids: Iterable[str]) -> list[Version]:
        for id in ids:
            del self._noted[id]
        return [version for id in ids for version in self._log.kept_versions(self._tenant, id)]

    def _put(self, projection: Projection, versions: Iterable[Version]) -> None:
        for record, vector, known_ms, ended_ms in versions:
            kept = comparable(Kept(record, vector), self._model).vector
            named = record.model_copy(update={"id": f"{record.id}{BETWEEN}{record.version}"})
            projection.put(Kept(named, kept), known_ms, ended_ms)
            self._last[record.id] = max(record.version, self._last.get(record.id, 0))
        projection.tables.flush()

    def _take_out(self, projection: Projection) -> None:
        for id in self._gone:
            last = self._last.pop(id, 0)
            projection.remove([f"{id}{BETWEEN}{version}" for version in range(1, last + 1)])
        self._gone.clear()

    def _drop_when_idle(self, projection: Projection) -> None:
        """When more is to be read anew than it holds, nobody has asked for long, and making it costs no more."""
        if self._pages is None and not self._preparing.locked() and len(self._noted) > len(projection):
            self.close()

    def _records(self, scored: Sequence[Scored]) -> dict[str, Record]:
        """By id and version, as the log has them: what was forgotten since is not among them."""
        ids = {_id(each.id) for each in scored}
        versions = {id: {each.version: each for each in self._log.versions(self._tenant, id)} for id in ids}
        found = {each.id: versions[_id(each.id)].get(_version(each.id)) for each in scored}
        return {id: record for id, record in found.items() if record is not None}


def _id(key: str) -> str:
    return key.rpartition(BETWEEN)[0]


def _version(key: str) -> int:
    return int(key.rpartition(BETWEEN)[2])
