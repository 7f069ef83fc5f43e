"""A reader: a process beside the one that writes a shard, which answers questions from projections of its own.

    a question ──> the journal since the last one ──> which records changed ──> read anew ──> shelf ──> the answer
    a recall's answer ──> told to the shard (`telling`)

It opens the shard's log to read and follows it. The journal is the feed: every entry says which records of whom it is
about, and what was committed is in it in the order of its coming, also what was forgotten, embedded and granted. So
before each answer the reader asks for the entries behind the last one that it knows, notes which records of the open
tenants they name, and reads those anew from the rows, as they are now. An acknowledgement means that its commit is on
disk, and what is on disk is read; so whatever was acknowledged before a question is in its answer, and what was
forgotten is in none.

What it costs. Each question costs one look at the journal: 10 µs over SQLite, a round trip over PostgreSQL. Each entry
of the shard costs each of its readers 5 µs; each changed record of a tenant that a reader has open 50 µs to be read,
and then what it costs the shard itself to index it. A recall also waits until the shard has heard what it gave out.
Readers have their own indexes, so a tenant takes its memory once more in every reader that is asked for it. The writer
waits for no reader, and a reader holds no snapshot of the file open between two statements, so the file's log can be
cut off.

What was forgotten leaves a reader's memory (cache, rows, vectors, words) with the next question about its tenant, at
the latest `FOLLOW_SECONDS` after the commit. Should the journal not be the one that was followed, because a store was
put back, the reader ends and begins anew.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from ..contracts import Clock, Corrupt, Entropy, Event, Faults, HanseError, Kind, NotAllowed, Tenant, Unavailable
from ..contracts.caller import Caller
from ..contracts.memory import ONLY_READ, Record
from ..contracts.plain import check
from ..contracts.pool import Embedder
from ..contracts.wire import decode_event
from .log import TOGETHER, Kept, Log, Readable
from .service import Parts, Reading, Settings
from .shelf import Shelf
from .shelves import Shelves
from .telling import Send, Telling
from .verbs import VERBS

_log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.5
"""Between two looks at the journal when nobody asks."""
_ENTRIES = 500
"""That are read at once."""
_RECORDS = 8 * TOGETHER
"""That are read anew until others have a turn."""


class MemoryReader(Reading):
    """One reader of one shard. All methods are called on one event loop."""

    def __init__(
        self,
        store: Readable,
        clock: Clock,
        entropy: Entropy,
        embedder: Embedder | None,
        parts: Parts,
        *,
        tell: Send,
        settings: Settings | None = None,
        faults: Faults | None = None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        """`tell` reaches the shard. `on_failure` is called once when the journal is not the one that was followed: then
        this reader answers nothing any more. The store stays the caller's.
        """
        log = Log(store, _NoRecorder(), clock, entropy)
        super().__init__(log, clock, embedder, parts, settings, faults)
        self._at, self._hash = log.head()
        self._changed: dict[Tenant, _Changed] = {}
        """Of each tenant that is open, what is to be read anew."""
        self._telling = Telling(tell)
        self._on_failure = on_failure
        self._broken: Corrupt | None = None
        self._following: asyncio.Task[None] | None = None
        self._verbs = {name: verb for name, verb in {**VERBS, **parts.verbs}.items() if name in ONLY_READ}

    @property
    def sequence(self) -> int:
        """Of the last journal entry that it knows."""
        return self._at

    # Its life

    async def start(self) -> None:
        """Begins to follow also when nobody asks. Opens no shelf: each opens when it is asked for."""
        self._following = asyncio.create_task(self._follow_on())

    async def stop(self) -> None:
        """Idempotent."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._telling.stop()
        self.shelves.close()
        self.database.close()

    # Reading

    async def tell(self, verb: str, parameters: Mapping[str, Any], caller: Caller) -> Any:
        """Raises NotAllowed for verbs that change something, or that are about the shard itself."""
        if (found := self._verbs.get(verb)) is None:
            known = ", ".join(sorted(self._verbs))
            raise NotAllowed(f"a reader does not {verb:.100}: ask the shard. It knows {known}")
        check(dict(parameters))
        return await found(cast("Any", self), parameters, caller)

    async def _gave(self, shelf: Shelf, records: Sequence[Record]) -> None:
        if records:
            await self._telling.tell(shelf.tenant, [(record.id, record.version) for record in records])

    # Following

    async def catch_up(self, shelf: "FollowingShelf") -> None:
        """Returns when the shelf knows everything that was committed when this was called."""
        await self.follow()
        changed = self._changed[shelf.tenant]
        while changed:
            self._take_in(shelf, changed)
            if changed:
                await asyncio.sleep(0)

    async def follow(self) -> None:
        """Notes what was committed by now. Raises Unavailable when the journal is not the one that was followed."""
        more = self._read_on()
        while more:
            await asyncio.sleep(0)  # what was away for long has much to read, and others have a turn meanwhile
            more = self._read_on()

    def watch(self, tenant: Tenant) -> None:
        """From here on its changes are noted: what was committed before is read by whoever opens its shelf now."""
        self._changed[tenant] = _Changed()

    def unwatch(self, tenant: Tenant) -> None:
        self._changed.pop(tenant, None)

    def _read_on(self) -> bool:
        """Whether there may be more."""
        if self._broken is not None:
            raise Unavailable("this reader followed a log that is not there any more; it begins anew")
        rows = self.log.news(self._at, _ENTRIES)
        if self._at and (not rows or rows[0][0] != self._at or rows[0][2] != self._hash):
            self._break(Corrupt(f"entry {self._at} of the memory's journal is not the one that was followed"))
        for sequence, entry, hash in rows:
            if entry is not None:
                self._note(self._decoded(entry))
                self._at, self._hash = sequence, hash
        return len(rows) == _ENTRIES

    def _decoded(self, entry: bytes) -> Event:
        try:
            return decode_event(entry)
        except Corrupt as error:
            self._break(error)

    def _break(self, error: Corrupt) -> NoReturn:
        self._broken = error
        self._on_failure(error)
        raise Unavailable(error.detail) from error

    def _note(self, event: Event) -> None:
        if (changed := self._changed.get(event.data.get("tenant", ""))) is not None:
            changed.ids.update(dict.fromkeys(_ids(event)))
            changed.grants |= event.kind in (Kind.MEMORY_GRANTED, Kind.MEMORY_RESTORED)

    def _take_in(self, shelf: "FollowingShelf", changed: "_Changed") -> None:
        """Some of what changed, as it is on disk now: what was committed since is noted again when it is read of."""
        if changed.grants:
            changed.grants = False
            shelf.read_grants()
        ids = [id for id, _ in zip(changed.ids, range(_RECORDS), strict=False)]
        shelf.replace(ids, [*self.log.current_some(shelf.tenant, ids)])
        for id in ids:
            del changed.ids[id]

    async def _follow_on(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            if model := self.embedding.model:
                self.shelves.drop_stale(model)
            try:
                await self.follow()
                for shelf in self.shelves.open:
                    await self._settle(cast("FollowingShelf", shelf))
            except HanseError as error:
                _log.warning("a reader of the memory: %s", error, extra={"action": "memory.follow"})

    async def _settle(self, shelf: "FollowingShelf") -> None:
        """What was forgotten leaves the memory, though nobody asks."""
        async with self.shelves.held(shelf.tenant):
            if shelf.tenant in self._changed and shelf in self.shelves.open:
                await self.catch_up(shelf)
                await shelf.settle()

    def _make_shelves(self) -> Shelves:
        settings = self.settings
        return _FollowingShelves(self, open_tenants=settings.open_tenants, open_records=settings.open_records)

    def _shelf(self, tenant: Tenant) -> Shelf:
        return self._make_shelf(tenant, FollowingShelf)


@dataclass(slots=True)
class _Changed:
    """What a shelf is to read anew."""

    ids: dict[str, None] = field(default_factory=dict[str, None])
    grants: bool = False

    def __bool__(self) -> bool:
        return bool(self.ids) or self.grants


class FollowingShelf(Shelf):
    """One whose tenant is written elsewhere. It counts its records, but not what they say: that is for the gate."""

    async def open(self) -> None:
        await super().open()
        self._count()

    def read_grants(self) -> None:
        self._read_grants()

    def replace(self, ids: Iterable[str], found: Sequence[Kept]) -> None:
        """These records are other than they were: here are those that are still there. Nothing is known of how much of
        their past is left, so that is read anew too."""
        there = {each.record.id for each in found}
        if found:
            self.put(found, rewritten=True)
        if gone := tuple(id for id in ids if id not in there):
            self._let_go(gone)
        self._count()

    async def settle(self) -> None:
        """The projection knows what the shelf knows."""
        if self._changes:
            await self._in_turn(lambda: None)
            self._count()

    def _count(self) -> None:
        """As of the last question: enough to know whose room is needed."""
        self.live = len(self._present)

    def _counted(self, record: Record) -> None:
        pass

    def _uncounted(self, record: Record) -> None:
        pass


class _FollowingShelves(Shelves):
    """Those of a reader: each is up to date whenever somebody has it."""

    def __init__(self, reader: MemoryReader, *, open_tenants: int, open_records: int) -> None:
        super().__init__(reader._shelf, open_tenants=open_tenants, open_records=open_records)
        self._reader = reader

    @asynccontextmanager
    async def use(self, tenant: Tenant) -> AsyncIterator[Shelf]:
        async with super().use(tenant) as shelf:
            await self._reader.catch_up(cast("FollowingShelf", shelf))
            yield shelf

    async def _open(self, tenant: Tenant) -> Shelf:
        self._reader.watch(tenant)
        try:
            return await super()._open(tenant)
        except BaseException:
            self._reader.unwatch(tenant)
            raise

    def _close(self, tenant: Tenant) -> None:
        super()._close(tenant)
        self._reader.unwatch(tenant)


class _NoRecorder:
    """Keeps `Recorder` for a log that is only read. All that is there is on disk."""

    sequence = 0

    def append(self, kind: Kind, task: object, step: object, data: object) -> NoReturn:
        raise NotAllowed(f"a reader of the memory writes nothing, and this was {kind}")

    def write(self, write: object) -> NoReturn:
        raise NotAllowed("a reader of the memory writes nothing")

    def durable(self) -> "Future[None]":
        done: Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def _ids(event: Event) -> Iterable[str]:
    """Of the records that an entry is about."""
    match event.kind:
        case Kind.MEMORY_REMEMBERED | Kind.MEMORY_REVISED | Kind.MEMORY_PINNED | Kind.MEMORY_RESTORED:
            return [each[0] for each in event.data["records"]]
        case Kind.MEMORY_FORGOTTEN:
            return [*event.data["records"], *event.data["derived"]]
        case Kind.MEMORY_EMBEDDED:
            return event.data["records"]
        case _:
            return ()
