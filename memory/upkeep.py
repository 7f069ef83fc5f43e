"""Upkeep: what has to be done though nobody asks. What expires is deleted, what has no vector gets one, what was
deleted leaves the files, and snapshots follow.

Nothing here is needed for an answer to be right: a record that is due is not shown, whether or not it is deleted yet.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..contracts import Conflict, HanseError, StorageError, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Record
from . import faults as points
from .certificates import sealed
from .log import Kept
from .ports import Scrubber
from .progress import Progress
from .restoring import continues, is_current
from .shelf import Shelf
from .snapshot import RECORDS, ROWS, Mark, Part, Snapshots

if TYPE_CHECKING:
    from .service import MemoryService

_log = logging.getLogger(__name__)

BATCH = 256
"""Texts that are embedded at once, when vectors are made up for."""
BY = "upkeep"
"""Who did it, in journal and provenance."""
LONGEST_SECONDS = 3600.0
SHORTEST_SECONDS = 0.05
RETRY_SECONDS = (1.0, 60.0)
"""After the embedder was away: first pause, longest pause."""
_SCRUBS = 5
_DAY_MS = 86_400_000
_NEVER = 1 << 62
"""Attempts at cleaning the files while readers hold them, milliseconds of a day, and a moment above all others."""


class Upkeep:
    """The tasks that run beside a service."""

    def __init__(self, service: "MemoryService", scrubber: Scrubber | None) -> None:
        self._service, self._scrubber = service, scrubber
        self._tasks: list[asyncio.Task[None]] = []
        self._wake_expiry = asyncio.Event()
        self._wake_vectors = asyncio.Event()
        self._wake_compaction = asyncio.Event()
        self._changed: set[Tenant] = set()
        self._untidy: set[Tenant] = set()
        self._to_be_taken_again: set[Tenant] = set()
        """Whose snapshot had to go, because it had something that was forgotten."""
        self._cleaning: dict[Tenant, asyncio.Lock] = {}
        """One at a time for each tenant: two would certify the same."""
        self._next_due = 0
        """Unix milliseconds of the expiry that is waited for."""
        self._receipts_dropped_ms = 0

    def start(self) -> None:
        loops = (self._expiry, self._vectors, self._compaction)
        self._tasks = [asyncio.create_task(loop()) for loop in loops]
        if self._service.snapshots is not None and self._service.settings.snapshot_seconds is not None:
            self._tasks.append(asyncio.create_task(self._snapshots(self._service.settings.snapshot_seconds)))
        if self._service.settings.tidy_seconds is not None:
            self._tasks.append(asyncio.create_task(self._tidying(self._service.settings.tidy_seconds)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def written(self, tenant: Tenant, records: Iterable[Record] = ()) -> None:
        """Something was: it may expire before what was looked at last, or lack a vector."""
        self._changed.add(tenant)
        self._untidy.add(tenant)
        for record in records:
            if record.expires_ms is not None and record.expires_ms < self._next_due:
                self._next_due = record.expires_ms
                self._wake_expiry.set()
            if record.embedding is None:
                self._wake_vectors.set()

    def restored(self, tenant: Tenant) -> None:
        """Much was written: some of it may be due, lack a vector or have one of another model. The snapshot may still
        have what was left out, so it is taken again.
        """
        self._changed.add(tenant)
        self._to_be_taken_again.add(tenant)
        self._untidy.add(tenant)
        for wake in (self._wake_expiry, self._wake_vectors, self._wake_compaction):
            wake.set()

    # Getting rid

    async def cleaned(self, tenant: Tenant) -> None:
        """After something was forgotten: it leaves the files of the store and the snapshots. That is certified then."""
        self._wake_compaction.set()
        log, snapshots = self._service.log, self._service.snapshots
        async with self._cleaning.setdefault(tenant, asyncio.Lock()):
            await log.durable()
            deleted, owed = log.unclean.get(tenant, 0), log.owed(tenant)
            await self._scrub()
            self._service.faults.reach(points.SCRUBBED)
            found = await self._discarded(snapshots, tenant) if snapshots else {"snapshots": 0}
            for each in owed:
                log.certify(sealed(each, found, self._service.signer))
            log.clean(tenant, deleted)
            await log.durable()

    async def cleaned_by_and_by(self, tenant: Tenant) -> str:
        """The same, now or as soon as it can be done. Why it cannot now; empty when it is done. What was forgotten is
        forgotten either way, so nobody is told that it failed.
        """
        try:
            await self.cleaned(tenant)
        except StorageError as error:
            _log.warning("what was forgotten stays in a file: %s", error, extra={"action": "memory.upkeep"})
            return error.detail
        return ""

    async def _discarded(self, snapshots: Snapshots, tenant: Tenant) -> dict[str, int]:
        """How many files of the tenant's snapshot went; it is taken again later. One that this log does not go on from
        is the last of a store that was lost, and stays: what is forgotten here does not come back from it.
        """
        if not await self._may_replace(snapshots, tenant):
            return {"snapshots": 0, "snapshots_not_restored": 1}
        if count := await snapshots.discard(tenant):
            self._changed.add(tenant)
            self._to_be_taken_again.add(tenant)
        return {"snapshots": count}

    async def _may_replace(self, snapshots: Snapshots, tenant: Tenant) -> bool:
        manifest = await snapshots.manifest(tenant)
        return manifest is None or continues(self._service.log, manifest)

    async def compact(self) -> None:
        """Writes the store's file anew."""
        if self._scrubber is not None:
            self._service.faults.reach(points.COMPACTING)
            await self._scrubber.compact()

    async def _scrub(self) -> None:
        """Somebody who reads the file from outside, such as a backup, is waited for a little."""
        for left in reversed(range(_SCRUBS)):
            try:
                if self._scrubber is not None:
                    await self._scrubber.scrub()
                return
            except StorageError:
                if not left:
                    raise
                await asyncio.sleep(0.1)

    async def _compaction(self) -> None:
        """First what a crash has kept from leaving the files; then, now and again, what was deleted meanwhile."""
        while True:
            for tenant in list(self._service.log.unclean):
                await self._quietly(lambda tenant=tenant: self.cleaned(tenant))
            await self._wake_compaction.wait()
            await asyncio.sleep(self._service.settings.compact_seconds)
            self._wake_compaction.clear()
            await self._quietly(self.compact)
            for tenant in list(self._to_be_taken_again):
                await self._quietly(lambda tenant=tenant: self.snapshot(tenant))

    # What expires

    async def _expiry(self) -> None:
        while True:
            self._wake_expiry.clear()
            await self._quietly(self._expire)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake_expiry.wait(), self._until_next())

    async def _expire(self) -> None:
        for tenant in await self._service.expire():
            await self.cleaned(tenant)
        now_ms = self._service.clock.now_ms()
        if now_ms - self._receipts_dropped_ms > _DAY_MS:
            self._receipts_dropped_ms = now_ms
            self._service.log.drop_receipts(now_ms - int(self._service.settings.receipt_days * _DAY_MS))

    def _until_next(self) -> float:
        """Seconds until the next record is due."""
        due = self._service.log.next_due()
        self._next_due = _NEVER if due is None else due
        wait = (self._next_due - self._service.clock.now_ms()) / 1000
        return min(LONGEST_SECONDS, max(SHORTEST_SECONDS, wait))

    # Vectors

    async def _vectors(self) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            self._wake_vectors.clear()
            if await self._filled():
                pause = RETRY_SECONDS[0]
                await self._wake_vectors.wait()
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _filled(self) -> bool:
        """Whether every record has its vector now, as far as there is an embedder at all."""
        model = self._service.embedding.model
        if not model:
            return not self._service.embedding.expected
        self._service.shelves.drop_stale(model)
        with suppress(HanseError):
            return all([await self.fill(tenant) for tenant in self._service.log.tenants_without_vector(model)])
        return False

    async def fill(self, tenant: Tenant) -> bool:
        """Gives the records of a tenant the vectors that they lack. False when the embedder is away."""
        after = ""
        model = self._service.embedding.model
        while records := self._service.log.without_vector(tenant, model, after, BATCH):
            vectors = await self._service.embedding.of([record.text for record in records])
            if vectors.model is None:
                return False
            async with self._service.shelves.use(tenant) as shelf, shelf.gate:
                made = [Kept(*each) for each in zip(records, vectors.rows, strict=True)]
                self._take_in(shelf, [each for each in made if _is_current(shelf, each)], vectors.model)
                await self._service.log.durable()
            after = records[-1].id
        return True

    def _take_in(self, shelf: Shelf, made: list[Kept], model: str) -> None:
        """Vectors change neither the version of a record nor what it says."""
        vectors = [(each.record.id, each.record.version, each.vector) for each in made]
        self._service.log.embed(shelf.tenant, BY, model, vectors)
        with_model = [Kept(each.record.model_copy(update={"embedding": model}), each.vector) for each in made]
        shelf.put(with_model, before={each.record.id: each.record for each in made})

    # Snapshots

    async def snapshot(self, tenant: Tenant, *, replace: bool = False) -> dict[str, Any]:
        """A snapshot of what the tenant has now. Returns its manifest; an empty one when something was forgotten
        meanwhile.

        Raises Conflict where that of another store lies, unless it is to be replaced.
        """
        snapshots = self._service.snapshots
        if snapshots is None:
            return {}
        if not (replace or await self._may_replace(snapshots, tenant)):
            raise Conflict(
                f"at {snapshots.location} lies a snapshot of {tenant} that this store does not go on from: its own was "
                "lost. Bring it back first: hanse memory restore. To let go of it: hanse memory snapshot --replace"
            )
        self._changed.discard(tenant)
        self._to_be_taken_again.discard(tenant)
        with self._service.works.begun(tenant, "snapshot") as progress:
            await self._service.log.durable()
            before, mark = snapshots.forgotten(tenant), self._mark()
            manifest = await snapshots.write(tenant, mark, self._contents(tenant, progress), before)
        return manifest.model_dump(mode="json") if manifest else {}

    def _mark(self) -> Mark:
        log = self._service.log
        return Mark(log.sequence, log.head_at(log.sequence) or "", self._service.clock.now_ms())

    async def _contents(self, tenant: Tenant, progress: Progress) -> AsyncIterator[Part]:
        """All that the tenant has, a page at a time."""
        log, rows = self._service.log, list[Kept]()
        progress.begin(log.count(tenant))
        for page in log.all_versions(tenant):
            rows += [Kept(each.record, each.vector) for each in page]
            progress.advance(len(page))
            if len(rows) >= ROWS:
                yield Part(RECORDS, rows)
                rows = []
            await asyncio.sleep(0)
        if rows:
            yield Part(RECORDS, rows)
        for kind, beside in log.beside(tenant).items():
            if beside:
                yield Part(kind, beside)

    async def _snapshots(self, seconds: float) -> None:
        """Those that changed; at first also those that changed when nobody was there to take one."""
        self._changed |= {*self._service.log.tenants()}
        while True:
            await asyncio.sleep(seconds)
            for tenant in list(self._changed):
                await self._quietly(lambda tenant=tenant: self._snapshot_if_due(tenant))

    async def _snapshot_if_due(self, tenant: Tenant) -> None:
        manifest = await self._service.snapshots.manifest(tenant) if self._service.snapshots else None
        if manifest is not None and is_current(self._service.log, manifest):
            self._changed.discard(tenant)
        else:
            await self.snapshot(tenant)

    # Hygiene

    async def _tidying(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            for tenant in list(self._untidy):
                self._untidy.discard(tenant)
                await self._quietly(lambda tenant=tenant: self._tidy(tenant))

    async def _tidy(self, tenant: Tenant) -> None:
        """Old episodes become summaries; then what is over the budget goes, and what has a summary goes first."""
        caller = Caller(tenant=tenant, by=BY)
        for verb in ("consolidate", "tidy"):
            await self._service.tell(verb, {}, caller)

    async def _quietly(self, work: Callable[[], Awaitable[Any]]) -> None:
        """What cannot be done now is done at the next occasion. A store that cannot be written says so elsewhere."""
        try:
            await work()
        except HanseError as error:
            _log.warning("upkeep of the memory: %s", error, extra={"action": "memory.upkeep"})


def _is_current(shelf: Shelf, each: Kept) -> bool:
    found = shelf.record(each.record.id)
    return found is not None and found.version == each.record.version
