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
from .lately import Lately
from .log import Kept, Log
from .past import Finish, Past
from .ports import MakeIndex, Scored, Sought
from .progress import Progress
from .projection import SMALL, Projection, aside, comparable, to_its_end
from .tables import Database
from .turn import Turn
from .wording import keys_of

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

Result = TypeVar("Result")

AT_HAND = 4096
"""Records that need not be read from the log."""

FactKey = Callable[[Fact], str]


def fact_key(fact: Fact) -> str:
    return f"{fact.entity.casefold().strip()}\n{fact.attribute.casefold().strip()}"


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
        lately: Lately | None = None,
        gated: bool = False,
    ) -> None:
        """`gated` where drafts are compared with what is here."""
        self.tenant = tenant
        self.model = model
        """Of the vectors in the index. A vector of another model is as good as none."""
        self.gate = asyncio.Lock()
        """For whoever looks and then writes, where nobody else may write in between."""
        self._log, self._database, self._faults = log, database, faults
        self._make_index, self._dimensions, self.key_of = make_index, dimensions, key_of
        self._gated = gated
        self._present = self._made()
        self._past = Past(tenant, log, self._empty, model)
        self._changes: list[Kept | tuple[str, ...]] = []
        """Not in the projection yet: records, or ids that went."""
        self._meanwhile: list[Kept | tuple[str, ...]] | None = None
        """While another projection is made: what it may not have seen in the log."""
        self._making = asyncio.Lock()
        """One other projection at a time: two would share what happened meanwhile, and the first would end it."""
        self._turn = Turn()
        """Whose it is asks the projection, for as long as it takes: DuckDB's connection is for one thread at a time."""
        self._changing = asyncio.Lock()
        """Whose it is changes the projection, or looks at its index beside whoever has the turn."""
        self._cache: OrderedDict[str, Record] = OrderedDict()
        self._facts: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.lately = Lately() if lately is None else lately
        self._grants: dict[str, set[str]] = {}
        self.live = 0
        self.aside = 0
        """Of the live ones in quarantine."""
        self.text_bytes = 0

    async def open(self) -> None:
        """Makes the projections from the log, page by page."""
        self._read_grants()
        for page in self._log.live(self.tenant):
            for each in page:
                self._counted(each.record)
            await self._in_turn(self._take_in, self._present, page)
            self._faults.reach(points.REBUILDING)
        if len(self._present) > SMALL:
            await self._in_turn(self._present.tables.flush)

    def close(self) -> None:
        """When nobody uses it."""
        self._present.close()
        self._past.close()
        self.lately.rest()

    # What happened

    def put(
        self, records: Sequence[Kept], *, before: Mapping[str, Record] | None = None, rewritten: bool = False
    ) -> None:
        """New records, and new versions of those in `before`. Of what was `rewritten` no earlier version stays."""
        for each in records:
            old = (before or {}).get(each.record.id)
            if old is not None:
                self._uncounted(old)
            self._counted(each.record)
            self._cache.pop(each.record.id, None)
            self._changes.append(each)
        self._past.note([each.record.id for each in records], gone=rewritten)

    def remove(self, records: Iterable[Record]) -> dict[str, int]:
        """Records that are gone, everywhere. Returns how many entries went, by place."""
        gone = {record.id: record for record in records}
        for record in gone.values():
            self._uncounted(record)
        return {"cache": self._let_go(tuple(gone))}

    def grant(self, owner: str, reader: str, granted: bool) -> None:
        owners = self._grants.setdefault(reader, set())
        owners.add(owner) if granted else owners.discard(owner)

    # Questions

    @property
    def grants(self) -> Mapping[str, set[str]]:
        """Owners by reader."""
        return self._grants

    async def read_lately(self) -> None:
        """Reads what was given out since the last time, before `recalled_lately` is asked about many texts."""
        await self.lately.read(self._version)

    def recalled_lately(self, text: str) -> list[Record]:
        """What the text may come from; each as it was given out, the latest first."""
        return self.lately.said_in(text, self._version)

    def record(self, id: str) -> Record | None:
        """The current version, or None."""
        if (found := self._cache.get(id)) is not None:
            self._cache.move_to_end(id)
            return found
        if (found := self._log.record(self.tenant, id)) is not None:
            self._have_at_hand(found)
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
        if query.as_of_ms is not None and self._log.has_past(self.tenant, query.as_of_ms):
            return await self._past.search(query, vector, view, now_ms, finish)
        async with self._turn.take():
            await self._catch_up()
            scored = await aside(self._present, self._present.search, query, vector, view, now_ms)
            return finish(scored, self._records(scored), self._present.index)

    async def near(
        self, text: str, vector: "NDArray[float32] | None", limit: int, sought: Sought
    ) -> list[tuple[Scored, Record]]:
        """The most similar records, for the gate; none where none of them is sought. Waits for no reader: beside one it
        leaves the projection as it is, and compares what is not in it yet one by one.
        """
        async with self._changing:
            if not self._turn.taken:
                async with self._turn.take():
                    await self._take_in_changes()
            if not self._has(sought):
                return []
            scored = self._nearest(text, vector, limit)  # takes less than a thread costs
        found = ((each, self.record(each.id)) for each in scored)
        return [(each, record) for each, record in found if record is not None]

    async def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of an analytical question over `records` and `payload`."""
        return await self._in_turn(lambda: self._present.tables.select(sql, parameters))

    async def indexed(self) -> tuple[set[str], set[str]]:
        """Ids in the index and in the tables. For checks."""
        return await self._in_turn(lambda: (self._present.index.ids(), self._present.tables.ids()))

    async def rebuild(self, progress: Progress) -> None:
        """Makes the projections anew beside the old ones, which answer until then."""
        async with self._making:
            progress.begin(self.live)
            await self._make_anew(progress)

    async def _make_anew(self, progress: Progress) -> None:
        fresh = self._made()
        self._meanwhile = []
        try:
            for page in self._log.live(self.tenant):
                await to_its_end(self._take_in, fresh, page)
                progress.advance(len(page))
                self._faults.reach(points.REBUILDING)
            async with self._turn.take():
                await to_its_end(self._take_in, fresh, self._meanwhile)
                old, self._present = self._present, fresh
                old.close()
        finally:
            self._meanwhile = None

    def _read_grants(self) -> None:
        self._grants.clear()
        for each in self._log.granted(self.tenant):
            self._grants.setdefault(each["reader"], set()).add(each["owner"])

    def _let_go(self, ids: tuple[str, ...]) -> int:
        """Of records that are gone. How many were in a cache."""
        cached = sum(self._cache.pop(id, None) is not None for id in ids)
        self._changes.append(ids)
        self._past.note(ids, gone=True)
        return cached + self.lately.forget(ids)

    def _version(self, id: str, version: int) -> Record | None:
        """A version that is still there, in the state that it was in."""
        found = self.record(id)
        if found is None or found.version == version:
            return found
        versions = self._log.kept_versions(self.tenant, id)
        return next((each.record for each in versions if each.record.version == version), None)

    def _records(self, scored: Iterable[Scored]) -> dict[str, Record]:
        """Those that are not at hand come from the log together."""
        ids = [each.id for each in scored]
        for id in (at_hand := self._cache.keys() & ids):
            self._cache.move_to_end(id)
        for found in self._log.records(self.tenant, [id for id in ids if id not in at_hand]):
            self._have_at_hand(found)
        return {id: record for id in ids if (record := self._cache.get(id)) is not None}

    def _have_at_hand(self, record: Record) -> None:
        if record.tenant != self.tenant:
            raise Corrupt("a record of another tenant lies on this shelf")
        self._cache[record.id] = record
        if len(self._cache) > AT_HAND:
            self._cache.popitem(last=False)

    def _has(self, sought: Sought) -> bool:
        """Whether there may be a record that is sought."""
        if (sought.aside and self.aside) or self._present.index.may_say(sought.keys):
            return True
        return any(
            each is not None and sought.keys <= keys_of(each.record.text) for each in self._not_taken_in().values()
        )

    def _nearest(self, text: str, vector: "NDArray[float32] | None", limit: int) -> list[Scored]:
        """Those in the index, less those that changed since, and those that are not in it yet."""
        new = self._not_taken_in()
        found = [each for each in self._present.index.near(text, vector, limit + len(new)) if each.id not in new]
        compared = [_compared(each, vector) for each in new.values() if each is not None]
        found += [each for each in compared if each.parts]
        latest = [each for each in compared if not each.parts][-limit:]
        return sorted(found, key=lambda each: -each.score)[:limit] + latest

    def _not_taken_in(self) -> dict[str, Kept | None]:
        """By id, the latest that is not in the projection yet; None is gone."""
        new: dict[str, Kept | None] = {}
        for each in self._changes:
            new |= {each.record.id: self._comparable(each)} if isinstance(each, Kept) else dict.fromkeys(each)
        return new

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Does the work when the projection is up to date and nobody else is at it."""
        async with self._turn.take():
            await self._catch_up()
            return await aside(self._present, work, *arguments)

    async def _catch_up(self) -> None:
        async with self._changing:
            await self._take_in_changes()

    async def _take_in_changes(self) -> None:
        changes, self._changes = self._changes, []
        if self._meanwhile is not None:
            self._meanwhile += changes
        if len(changes) > 16 and len(self._present) > SMALL:
            await to_its_end(self._take_in, self._present, changes)
        elif changes:
            self._take_in(self._present, changes)

    def _made(self) -> Projection:
        """An empty one of the present."""
        projection = self._empty()
        if self._gated:
            projection.index.listen()
        return projection

    def _empty(self) -> Projection:
        return Projection(self._make_index(self._dimensions), self._database)

    def _take_in(self, projection: Projection, changes: Iterable[Kept | tuple[str, ...]]) -> None:
        for each in changes:
            if isinstance(each, Kept):
                projection.put(self._comparable(each))
            else:
                projection.remove(each)

    def _comparable(self, each: Kept) -> Kept:
        return comparable(each, self.model)

    def _counted(self, record: Record) -> None:
        self.live += 1
        self.aside += record.state is State.QUARANTINED
        self.text_bytes += len(record.text)
        if record.fact:
            self._facts[self.key_of(record.fact)][record.id] = None

    def _uncounted(self, record: Record) -> None:
        self.live -= 1
        self.aside -= record.state is State.QUARANTINED
        self.text_bytes -= len(record.text)
        if record.fact:
            self._facts[self.key_of(record.fact)].pop(record.id, None)


def _compared(each: Kept, vector: "NDArray[float32] | None") -> Scored:
    """By cosine, where there is one."""
    if vector is None or each.vector is None:
        return Scored(each.record.id, 0, {})
    cosine = float(each.vector @ vector)
    return Scored(each.record.id, cosine, {"vector": cosine})
