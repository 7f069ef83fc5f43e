"""A shelf: one tenant's memory while it is open. Its index, its tables, and what is at hand of its records.

All of it is a projection of the log, made when the shelf is opened and gone when it is closed. A write changes it by a
note that the next question finds: so a writer waits for the disk and never for a reader, and a reader sees every write
that was acknowledged before it asked.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..contracts import Corrupt, Faults, Tenant
from ..contracts.memory import Fact, Query, Recollection, Record, State
from . import faults as points
from .access import View
from .log import Kept, Log
from .ports import Allowed, Index, MakeIndex, Scored
from .tables import Database, Tables
from .turn import Turn

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

Result = TypeVar("Result")

RECALLED_LATELY = 256
"""Records that are remembered as given out, for the gate."""
AT_HAND = 4096
"""Records that need not be read from the log."""
SMALL = 20_000
"""Records up to which a question is answered on the spot: a thread would cost more than it frees."""
PAST = "@"
"""Between the id and the version of a record as the past knows it."""

FactKey = Callable[[Fact], str]
Finish = Callable[[Sequence[Scored], Mapping[str, Record], Index], Recollection]
"""Makes the answer of what was found, its records, and the index that found it."""


def fact_key(fact: Fact) -> str:
    return f"{fact.entity.casefold().strip()}\n{fact.attribute.casefold().strip()}"


class Projection:
    """Index and tables over the same records, by the same numbers. One thread at a time calls it."""

    def __init__(self, index: Index, database: Database) -> None:
        self.index = index
        self.tables = Tables(database)
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, each: Kept, known_ms: int | None = None, ended_ms: int | None = None) -> None:
        self._drop(each.record.id)
        number, self._next = self._next, self._next + 1
        self._numbers[each.record.id], self._ids[number] = number, each.record.id
        self.tables.put(number, each.record, known_ms, ended_ms)
        self.index.put(each.record, each.vector, number)

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._drop(id)
        self.index.remove(ids)

    def search(self, query: Query, vector: Any, view: View, now_ms: int) -> list[Scored]:
        if not query.text.strip():
            return self._newest(query, view, now_ms)
        numbers = self.tables.allowed(query, view, now_ms)
        if numbers is None:
            return self.index.search(query, vector, None, now_ms)
        allowed = Allowed(numbers, lambda: [self._ids[int(number)] for number in numbers])
        return self.index.search(query, vector, allowed, now_ms) if len(numbers) else []

    def ids(self) -> set[str]:
        return set(self._numbers)

    def close(self) -> None:
        self.tables.close()

    def _newest(self, query: Query, view: View, now_ms: int) -> list[Scored]:
        numbers = self.tables.newest(query, view, now_ms, query.limit)
        return [Scored(self._ids[number], 1 - i / len(numbers), {"recency": 1.0}) for i, number in enumerate(numbers)]

    def _drop(self, id: str) -> None:
        if (number := self._numbers.pop(id, None)) is not None:
            del self._ids[number]
            self.tables.remove(number)


class Shelf:
    """One tenant's open memory. All methods are called on one event loop."""

    def __init__(
        self,
        tenant: Tenant,
        log: Log,
        make_index: MakeIndex,
        database: Database,
        *,
        model: str,
        dimensions: int,
        faults: Faults,
        key_of: FactKey = fact_key,
    ) -> None:
        self.tenant = tenant
        self.model = model
        """Of the vectors in the index. A vector of another model is as good as none."""
        self.gate = asyncio.Lock()
        """For whoever looks and then writes, where nobody else may write in between."""
        self._log, self._database, self._faults = log, database, faults
        self._make_index, self._dimensions, self.key_of = make_index, dimensions, key_of
        self._present = Projection(make_index(dimensions), database)
        self._past: Projection | None = None
        self._stale: list[Projection] = []
        self._written = 0
        self._changes: list[Kept | tuple[str, ...]] = []
        """Not in the projection yet: records, or ids that went."""
        self._meanwhile: list[Kept | tuple[str, ...]] | None = None
        """While another projection is made: what it may not have seen in the log."""
        self._making = asyncio.Lock()
        """One other projection at a time: two would share what happened meanwhile, and the first would end it."""
        self._turn = Turn()
        self._cache: OrderedDict[str, Record] = OrderedDict()
        self._facts: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._lately: OrderedDict[str, Record] = OrderedDict()
        self._grants: dict[str, set[str]] = {}
        self.live = 0
        self.text_bytes = 0

    async def open(self) -> None:
        """Makes the projections from the log, page by page."""
        for each in self._log.granted(self.tenant):
            self._grants.setdefault(each["reader"], set()).add(each["owner"])
        for page in self._log.live(self.tenant):
            for each in page:
                self._counted(each.record)
            await self._in_turn(self._take_in, self._present, page)
            self._faults.reach(points.REBUILDING)

    def close(self) -> None:
        """When nobody uses it."""
        self._present.close()
        self._forget_past()
        self._clear_stale()

    # What happened

    def put(self, records: Iterable[Kept], *, before: Mapping[str, Record] | None = None) -> None:
        """New records, and new versions of those in `before`."""
        for each in records:
            old = (before or {}).get(each.record.id)
            if old is not None:
                self._uncounted(old)
            self._counted(each.record)
            self._cache.pop(each.record.id, None)
            self._changes.append(each)
        self._forget_past()

    def remove(self, records: Iterable[Record]) -> dict[str, int]:
        """Records that are gone, everywhere. Returns how many entries went, by place."""
        gone = {record.id: record for record in records}
        for record in gone.values():
            self._uncounted(record)
        cached = sum(self._cache.pop(id, None) is not None for id in gone)
        recalled = sum(self._lately.pop(id, None) is not None for id in gone)
        self._changes.append(tuple(gone))
        self._forget_past()
        return {"cache": cached + recalled}

    def grant(self, owner: str, reader: str, granted: bool) -> None:
        owners = self._grants.setdefault(reader, set())
        owners.add(owner) if granted else owners.discard(owner)

    def recalled(self, records: Iterable[Record]) -> None:
        """Notes what was given out. What is given out again is there once, as the latest."""
        for record in records:
            self._lately[record.id] = record
            self._lately.move_to_end(record.id)
        while len(self._lately) > RECALLED_LATELY:
            self._lately.popitem(last=False)

    # Questions

    @property
    def grants(self) -> Mapping[str, set[str]]:
        """Owners by reader."""
        return self._grants

    @property
    def recalled_lately(self) -> list[Record]:
        """Oldest first."""
        return list(self._lately.values())

    def record(self, id: str) -> Record | None:
        """The current version, or None."""
        if (found := self._cache.get(id)) is not None:
            self._cache.move_to_end(id)
            return found
        if (found := self._log.record(self.tenant, id)) is None:
            return None
        if found.tenant != self.tenant:
            raise Corrupt("a record of another tenant lies on this shelf")
        self._cache[id] = found
        if len(self._cache) > AT_HAND:
            self._cache.popitem(last=False)
        return found

    def kept(self, id: str) -> Kept | None:
        """The current version with its vector, or None."""
        found = self._log.current(self.tenant, id)
        return found if found and self.record(id) else None

    def facts(self, fact: Fact) -> list[Record]:
        """Live records with the same entity and attribute."""
        found = (self.record(id) for id in self._facts.get(self.key_of(fact), ()))
        return [each for each in found if each is not None and each.state is State.LIVE]

    async def search(
        self, query: Query, vector: "NDArray[float32] | None", view: View, now_ms: int, finish: Finish
    ) -> Recollection:
        """What `finish` makes of what was found and its records. Those of the past have their version in their id."""
        past = query.as_of_ms is not None and self._log.has_past(self.tenant, query.as_of_ms)
        async with self._turn.take():
            projection = await self._of_the_past() if past else self._present
            if not past:
                await self._catch_up(projection)
            scored = await self._aside(projection, projection.search, query, vector, view, now_ms)
            return finish(scored, self._past_records(scored) if past else self._records(scored), projection.index)

    async def near(self, text: str, vector: "NDArray[float32] | None", limit: int) -> list[tuple[Scored, Record]]:
        """The most similar records, for the gate."""
        async with self._turn.take(urgent=True):
            await self._catch_up(self._present)
            scored = self._present.index.near(text, vector, limit)  # takes less than a thread costs
        found = ((each, self.record(each.id)) for each in scored)
        return [(each, record) for each, record in found if record is not None]

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of an analytical question over `records` and `payload`."""
        return await self._in_turn(lambda: self._present.tables.select(sql, parameters))

    async def indexed(self) -> tuple[set[str], set[str]]:
        """Ids in the index and in the tables. For checks."""
        return await self._in_turn(lambda: (self._present.index.ids(), self._present.tables.ids()))

    async def rebuild(self) -> None:
        """Makes the projections anew beside the old ones, which answer until then."""
        async with self._making:
            await self._make_anew()

    async def _make_anew(self) -> None:
        fresh = Projection(self._make_index(self._dimensions), self._database)
        self._meanwhile = []
        try:
            for page in self._log.live(self.tenant):
                await asyncio.to_thread(self._take_in, fresh, page)
                self._faults.reach(points.REBUILDING)
            async with self._turn.take():
                await asyncio.to_thread(self._take_in, fresh, self._meanwhile)
                old, self._present = self._present, fresh
                old.close()
        finally:
            self._meanwhile = None

    async def settle(self) -> None:
        """Returns when the projections know what is known now."""
        await self._in_turn(lambda: None)

    def _records(self, scored: Iterable[Scored]) -> dict[str, Record]:
        found = {each.id: self.record(each.id) for each in scored}
        return {id: record for id, record in found.items() if record is not None}

    def _past_records(self, scored: Sequence[Scored]) -> dict[str, Record]:
        """By id and version, as the past knows them."""
        ids = {_id(each.id) for each in scored}
        versions = {id: {each.version: each for each in self._log.versions(self.tenant, id)} for id in ids}
        found = {each.id: versions[_id(each.id)].get(_version(each.id)) for each in scored}
        return {id: record for id, record in found.items() if record is not None}

    async def _of_the_past(self) -> Projection:
        """Made when it is asked for, and gone with the next write."""
        while self._past is None:
            before = self._written
            made = await self._make_past()
            if before == self._written:
                self._past = made
            else:
                made.close()
        return self._past

    def _clear_stale(self) -> None:
        stale, self._stale = self._stale, []
        for each in stale:
            each.close()

    async def _make_past(self) -> Projection:
        """Every version there was, each under its id and version."""
        past = Projection(self._make_index(self._dimensions), self._database)
        for page in self._log.all_versions(self.tenant):
            for each in page:
                key = f"{each.record.id}{PAST}{each.record.version}"
                kept = Kept(each.record.model_copy(update={"id": key}), self._comparable(each.record, each.vector))
                past.put(kept, each.known_ms, each.ended_ms)
            await asyncio.sleep(0)
        return past

    def _forget_past(self) -> None:
        self._written += 1
        if self._past is not None:
            self._stale.append(self._past)  # somebody may be searching it
            self._past = None

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any, urgent: bool = False) -> Result:
        """Does the work when the projection is up to date and nobody else is at it."""
        async with self._turn.take(urgent=urgent):
            await self._catch_up(self._present)
            return await self._aside(self._present, work, *arguments)

    async def _aside(self, projection: Projection, work: Callable[..., Result], *arguments: Any) -> Result:
        if len(projection) <= SMALL:
            return work(*arguments)
        return await asyncio.to_thread(work, *arguments)

    async def _catch_up(self, projection: Projection) -> None:
        self._clear_stale()
        changes, self._changes = self._changes, []
        if self._meanwhile is not None:
            self._meanwhile += changes
        if len(changes) > 16 and len(projection) > SMALL:
            await asyncio.to_thread(self._take_in, projection, changes)
        elif changes:
            self._take_in(projection, changes)

    def _take_in(self, projection: Projection, changes: Iterable[Kept | tuple[str, ...]]) -> None:
        for each in changes:
            if isinstance(each, Kept):
                projection.put(Kept(each.record, self._comparable(*each)))
            else:
                projection.remove(each)

    def _comparable(self, record: Record, vector: "NDArray[float32] | None") -> "NDArray[float32] | None":
        return vector if record.embedding == self.model else None

    def _counted(self, record: Record) -> None:
        self.live += 1
        self.text_bytes += len(record.text)
        if record.fact:
            self._facts[self.key_of(record.fact)][record.id] = None

    def _uncounted(self, record: Record) -> None:
        self.live -= 1
        self.text_bytes -= len(record.text)
        if record.fact:
            self._facts[self.key_of(record.fact)].pop(record.id, None)


def _id(key: str) -> str:
    return key.rpartition(PAST)[0]


def _version(key: str) -> int:
    return int(key.rpartition(PAST)[2])
