"""Upkeep: what has to be done though nobody asks. What expires is deleted, what has no vector gets one, what was
deleted leaves the files, and snapshots follow.

Nothing here is needed for an answer to be right: a record that is due is not shown, whether or not it is deleted yet.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..contracts import HanseError, StorageError, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Record
from . import faults as points
from .log import Kept
from .ports import Scrubber
from .shelf import Shelf

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

    # Getting rid

    async def cleaned(self, tenant: Tenant) -> dict[str, int]:
        """After something was forgotten: it leaves the files of the store and the snapshots. How many of those went."""
        self._wake_compaction.set()
        log, snapshots = self._service.log, self._service.snapshots
        deleted = log.unclean.get(tenant, 0)
        await self._scrub()
        self._service.faults.reach(points.SCRUBBED)
        count = await snapshots.discard(tenant) if snapshots else 0
        log.clean(tenant, deleted)
        return {"snapshots": count}

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

    async def snapshot(self, tenant: Tenant) -> dict[str, Any]:
        """A snapshot of what the tenant has now. Returns its manifest."""
        snapshots = self._service.snapshots
        if snapshots is None:
            return {}
        self._changed.discard(tenant)
        await self._service.log.durable()
        before, sequence, records = snapshots.forgotten(tenant), self._service.log.sequence, list[Kept]()
        for page in self._service.log.live(tenant):
            records += page
            await asyncio.sleep(0)
        return await snapshots.write(tenant, sequence, records, before)

    async def _snapshots(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            for tenant in list(self._changed):
                await self._quietly(lambda tenant=tenant: self.snapshot(tenant))

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
