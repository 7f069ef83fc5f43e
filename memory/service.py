"""The shared memory as a plain class: keeps the `Memory` protocol over one shard's log.

    caller ─> access ─> shelf of its tenant ─> index and tables ─> recollection
                    └─> embedding ─> gate ─> log ─> disk

It can be built and driven with no Ray, on any store, clock and embedder.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..contracts import Clock, Entropy, Faults, IdempotencyKey, InvalidInput, NoFaults, NotFound, Store, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import (
    MAX_REASON,
    Certificate,
    Change,
    Draft,
    Query,
    Recollection,
    Record,
    Remembered,
    Restored,
    State,
)
from ..contracts.plain import check
from ..contracts.pool import Embedder
from .access import Lifetimes, View, check_read, check_text, is_person, view_of
from .certificates import Signer
from .derivation import everything_derived
from .embedding import Embedding
from .lately import Given, LatelyOfAll
from .log import Log, Recorder
from .ports import Gate, Index, MakeIndex, PlanErasure, Recollect, Scored, Scrubber
from .progress import Works
from .restoring import restore
from .shelf import FactKey, Shelf, fact_key
from .shelves import Shelves, check_tenant
from .snapshot import Snapshots
from .tables import Database, check_filters
from .upkeep import Upkeep
from .verbs import VERBS, Verb
from .writing import Budget, Clean, Plan, Writing, unchanged

Result = TypeVar("Result")
AnyShelf = TypeVar("AnyShelf", bound=Shelf)

_PAGE = 200
_LATEST = 1 << 62
"""Records that are read at a time, and a position and a moment above all that there are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a shard is told."""

    open_tenants: int = 256
    open_records: int = 2_000_000
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    budget: Budget = field(default_factory=Budget)
    """Of each tenant that has none of its own in `budgets`."""
    budgets: Mapping[Tenant, Budget] = field(default_factory=dict[Tenant, Budget])
    receipt_days: float = 30
    """How long a key is known again."""
    compact_seconds: float = 60
    """After something was forgotten, until the file is written anew. What was deleted is overwritten before."""
    snapshot_seconds: float | None = None
    """Between two snapshots of what changed. None makes them only when asked."""
    tidy_seconds: float | None = None
    """Between two rounds in which what changed is summarised and kept within its budget. None makes them when asked."""

    def budget_of(self, tenant: Tenant) -> Budget:
        return self.budgets.get(tenant, self.budget)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a shard is made of, beside its store."""

    make_index: MakeIndex
    recollect: Recollect
    gate: Gate | None = None
    clean: Clean = unchanged
    """What every text passes before anything is made of it."""
    plan_erasure: PlanErasure = everything_derived
    key_of: FactKey = fact_key
    verbs: Mapping[str, Verb] = field(default_factory=dict[str, Verb])
    """Beside those of `verbs.py`."""


class Reading:
    """What is asked of a shard and changes nothing. Of two kinds: whoever writes its log, and whoever follows it."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        embedder: Embedder | None,
        parts: Parts,
        settings: Settings | None,
        faults: Faults | None,
    ) -> None:
        self.settings = settings or Settings()
        self.clock, self.parts = clock, parts
        self.faults: Faults = faults or NoFaults()
        self.log = log
        self.embedding = Embedding(embedder)
        self.database = Database()
        self.shelves = self._make_shelves()

    async def recall(self, query: Query, caller: Caller) -> Recollection:
        """What fits best, of what the caller may read. Sees every write that was acknowledged before."""
        check_query(query)
        text = query.text.strip()
        vectors = await self.embedding.of([text] if text else [], interactive=True)
        async with self.shelves.use(caller.tenant) as shelf:
            view, now_ms = view_of(caller, shelf.grants), self.clock.now_ms()

            def finish(scored: Sequence[Scored], records: Mapping[str, Record], index: Index) -> Recollection:
                shown = {
                    id: record for id, record in records.items() if fits(record, query, shelf.tenant, view, now_ms)
                }
                left = [each for each in scored if each.id in shown]
                return self.parts.recollect(query, left, shown, index, now_ms=now_ms)

            vector = vectors.rows[0] if vectors.rows else None
            found = await shelf.search(query, vector, view, now_ms, finish)
            await self._gave(shelf, [hit.record for hit in found.hits])
        return _labelled(found, vectors.missing)

    async def get(self, id: str, caller: Caller) -> Record:
        async with self.shelves.use(caller.tenant) as shelf:
            return self._readable(shelf, id, caller)

    async def history(self, id: str, caller: Caller) -> list[Record]:
        """Its versions, oldest first. Raises NotFound, which tells people how a record went that was there."""
        async with self.shelves.use(caller.tenant) as shelf:
            if is_person(caller) and (farewell := self._farewell(shelf, id)):
                raise NotFound(farewell, record=id[:100])
            self._readable(shelf, id, caller)
            return self.log.versions(caller.tenant, id)

    async def timeline(
        self, caller: Caller, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        if not 1 <= limit <= 1000:
            raise InvalidInput("limit is 1 to 1000", pointer="/limit")
        check([episode, before])
        async with self.shelves.use(caller.tenant) as shelf:
            view, found = view_of(caller, shelf.grants), list[Record]()
            until = _LATEST if before is None else max(-_LATEST, min(before, _LATEST))
            for page in self._pages(caller.tenant, episode, until):
                found += [record for record in page if view.shows(record) and self._is_shown(record)]
                if len(found) >= limit:
                    break
                await asyncio.sleep(0)
        return found[:limit][::-1]

    async def check(self, tenant: Tenant) -> dict[str, list[str]]:
        """What the projections have and the log has not, and the other way round. Empty lists are as it should be."""
        async with self.shelves.use(tenant) as shelf, shelf.gate:
            await self.log.durable()
            indexed, tabled = await shelf.indexed()
            live = self.log.live_ids(tenant)
        return {
            "only_in_index": sorted(indexed - live),
            "only_in_tables": sorted(tabled - live),
            "not_in_index": sorted(live - indexed),
            "not_in_tables": sorted(live - tabled),
        }

    def condition(self) -> dict[str, int]:
        """How far it is in the log, how many tenants it has open, and how many records of theirs."""
        shelves = self.shelves.open
        return {"sequence": self.sequence, "tenants": len(shelves), "records": sum(each.live for each in shelves)}

    @property
    def sequence(self) -> int:
        """Of the last journal entry that it knows."""
        return self.log.sequence

    def _make_shelves(self) -> Shelves:
        return Shelves(self._shelf, open_tenants=self.settings.open_tenants, open_records=self.settings.open_records)

    def _shelf(self, tenant: Tenant) -> Shelf:
        return self._make_shelf(tenant, Shelf)

    def _make_shelf(self, tenant: Tenant, make: Callable[..., AnyShelf], **more: Any) -> AnyShelf:
        return make(
            tenant,
            self.log,
            self.parts.make_index,
            self.database,
            model=self.embedding.model,
            dimensions=self.embedding.dimensions,
            faults=self.faults,
            key_of=self.parts.key_of,
            **more,
        )

    async def _gave(self, shelf: Shelf, records: Sequence[Record]) -> None:
        """These were given out, which the gate has to know."""
        shelf.lately.gave(records)

    def _readable(self, shelf: Shelf, id: str, caller: Caller) -> Record:
        check(id, "/id")
        record = shelf.record(id)
        if record is None or not self._is_shown(record):
            raise NotFound("there is no such record", record=id[:100])
        check_read(record, view_of(caller, shelf.grants))
        return record

    def _farewell(self, shelf: Shelf, id: str) -> str:
        """How a record went, in words. Nothing when it is there, or never was."""
        check(id, "/id")
        found = None if shelf.record(id) else self.log.farewell(shelf.tenant, id)
        if found is None:
            return ""
        day = datetime.fromtimestamp(found.at_ms / 1000, UTC).date()
        return f"this record has gone ({found.cause}, {day})" + (f": {found.reason}" if found.reason else "")

    def _is_shown(self, record: Record) -> bool:
        return record.expires_ms is None or record.expires_ms > self.clock.now_ms()

    def _pages(self, tenant: Tenant, episode: str | None, before: int) -> Any:
        offset = 0
        while page := (
            self.log.timeline(tenant, before, _PAGE, offset)
            if episode is None
            else self.log.episode(tenant, episode, before, _PAGE, offset)
        ):
            yield page
            offset += _PAGE


class MemoryService(Reading):
    """One shard. All methods are called on the event loop on which the store was opened."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        entropy: Entropy,
        embedder: Embedder | None,
        parts: Parts,
        *,
        settings: Settings | None = None,
        scrubber: Scrubber | None = None,
        snapshots: Snapshots | None = None,
        signer: Signer | None = None,
        faults: Faults | None = None,
    ) -> None:
        """`scrubber` is the store itself where it can get rid of what was deleted, `signer` signs certificates. The
        store stays the caller's.
        """
        super().__init__(Log(store, recorder, clock, entropy), clock, embedder, parts, settings, faults)
        self.entropy = entropy
        self.lately = LatelyOfAll(self.settings.open_tenants, self.shelves.is_open)
        self.writing = Writing(
            self.log,
            self.embedding,
            clock,
            entropy,
            self.faults,
            gate=parts.gate,
            plan_erasure=parts.plan_erasure,
            lifetimes=self.settings.lifetimes,
            budget_of=self.settings.budget_of,
            clean=parts.clean,
        )
        self.snapshots = snapshots
        self.works = Works()
        self.signer = signer
        self.upkeep = Upkeep(self, scrubber)
        self._verbs = {**VERBS, **parts.verbs}
        self._writes: set[asyncio.Task[Any]] = set()

    # Its life

    async def start(self) -> None:
        """Begins to look after what expires and what has no vector. Opens no shelf: each opens when it is asked for."""
        self.upkeep.start()

    async def stop(self) -> None:
        """Ends what is under way, then closes all shelves. Idempotent."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self.upkeep.stop()
        self.shelves.close()
        self.database.close()

    def told(self, tenant: Tenant, given: Sequence[Given]) -> None:
        """A reader gave these out; see `lately`."""
        check_tenant(tenant)
        self.lately.of(tenant).told(given)

    # Writing. A write that was begun is done, also when whoever asked for it has gone.

    async def remember(
        self, drafts: Sequence[Draft], caller: Caller, *, key: IdempotencyKey | None = None
    ) -> list[Remembered]:
        remembered = await self._written(caller, lambda shelf: self.writing.remember(shelf, drafts, caller, key))
        self.upkeep.written(caller.tenant, (each.record for each in remembered))
        return remembered

    async def revise(
        self, id: str, change: Change, caller: Caller, *, version: int, key: IdempotencyKey | None = None
    ) -> Record:
        check(id, "/id")
        revised = await self._written(
            caller, lambda shelf: self.writing.revise(shelf, id, change, caller, version, key)
        )
        self.upkeep.written(caller.tenant, [revised])
        return revised

    async def pin(self, id: str, caller: Caller, *, pinned: bool = True) -> Record:
        check(id, "/id")
        record = await self._written(caller, lambda shelf: self.writing.pin(shelf, id, caller, pinned=pinned))
        self.upkeep.written(caller.tenant)
        return record

    async def forget(self, ids: Sequence[str], caller: Caller, *, reason: str = "") -> Certificate:
        """Deletes the records and what cannot be told apart from them in what was derived; see `writing.forget`.

        When this returns, nothing of them is in the files of the store, its snapshots, or anything in memory here. No
        reader gives them out either, and they leave its memory when it looks at the log next. Where a file cannot be
        cleaned now, because somebody reads it or the snapshots are out of reach, the certificate says so (`pending`),
        and the upkeep does it later. The reason stays, and `history` tells it to people. Raises InvalidInput for one
        that is too long.
        """
        check([*ids, reason])
        if len(reason) > MAX_REASON:
            raise InvalidInput(f"a reason has at most {MAX_REASON} characters", pointer="/reason")
        [made] = await self._erased(caller, lambda shelf: self.writing.forget(shelf, ids, caller, reason))
        return made

    async def erase(self, plan: Plan, caller: Caller) -> list[Certificate]:
        """Erases by a plan that is made when nobody else writes: in one commit, or not at all. A certificate for each
        claim of the plan.
        """
        return await self._erased(caller, lambda shelf: self.writing.erase(shelf, plan, caller))

    async def _erased(self, caller: Caller, erase: Callable[[Shelf], Awaitable[list[str]]]) -> list[Certificate]:
        async def work(shelf: Shelf) -> list[Certificate]:
            due = await erase(shelf)
            pending = await self.upkeep.cleaned_by_and_by(caller.tenant)
            owed = {each.id: each.model_copy(update={"pending": pending}) for each in self.log.owed(caller.tenant)}
            made = ((id, self.log.certificate(caller.tenant, id)) for id in due)
            return [found for id, each in made if (found := each or owed.get(id))]

        return await self._written(caller, work)

    async def tell(self, verb: str, parameters: Mapping[str, Any], caller: Caller) -> Any:
        """Raises NotFound, naming the verbs there are."""
        if (found := self._verbs.get(verb)) is None:
            raise NotFound(f"the memory has no verb {verb!r:.100}. It has: {', '.join(sorted(self._verbs))}")
        check(dict(parameters))
        return await found(self, parameters, caller)

    # For the verbs

    async def expire(self) -> dict[Tenant, int]:
        """Deletes what is due. Returns how many records of whom."""
        due: dict[Tenant, list[str]] = {}
        for tenant, id in self.log.due(self.clock.now_ms()):
            due.setdefault(tenant, []).append(id)
        count: dict[Tenant, int] = {}
        for tenant, ids in due.items():
            async with self.shelves.use(tenant) as shelf:
                count[tenant] = await asyncio.shield(self._task(self.writing.expire(shelf, ids)))
        return count

    async def restore(self, snapshots: Snapshots, caller: Caller, *, merge: bool = False) -> Restored:
        """Brings back a snapshot of the caller's tenant, also when whoever asked has gone; see `restoring`."""

        async def work() -> Restored:
            with self.works.begun(caller.tenant, "restore") as progress:
                restored = await restore(self, snapshots, caller, progress, merge=merge)
            self.upkeep.restored(caller.tenant)
            return restored

        return await asyncio.shield(self._task(work()))

    def _shelf(self, tenant: Tenant) -> Shelf:
        gated = self.parts.gate is not None
        return self._make_shelf(tenant, Shelf, lately=self.lately.of(tenant), gated=gated)

    async def _written(self, caller: Caller, write: Callable[[Shelf], Awaitable[Result]]) -> Result:
        """The result of a write, which goes on when the caller does not wait for it."""

        async def work() -> Result:
            async with self.shelves.use(caller.tenant) as shelf:
                return await write(shelf)

        return await asyncio.shield(self._task(work()))

    def _task(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._writes.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()  # seen, also where nobody waits any more


def check_query(query: Query) -> None:
    """Raises InvalidInput."""
    check(query.model_dump(mode="json"))
    check_text(query.text)
    check_filters(query)


def fits(record: Record, query: Query, tenant: Tenant, view: View, now_ms: int) -> bool:
    """What the tables said already, asked of the record itself: an index that is wrong must not leak."""
    state = record.state is not State.QUARANTINED or query.include_quarantined
    lives = record.expires_ms is None or record.expires_ms > now_ms
    return record.tenant == tenant and view.shows(record) and state and lives


def _labelled(found: Recollection, missing: str) -> Recollection:
    """With the labels of all hits, and what could not be used."""
    labels = sorted({label for hit in found.hits for label in hit.record.labels} | {*found.labels})
    degraded = "; ".join(each for each in (found.degraded, missing) if each)
    return found.model_copy(update={"labels": labels, "degraded": degraded})
