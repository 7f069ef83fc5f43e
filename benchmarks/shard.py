"""One shard of the shared memory as a federation has it: default settings, write gate, log on the disk, no Ray."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..contracts import Clock
from ..contracts.pool import Embedder
from ..memory.service import MemoryService, Settings
from ..runtime.journal import Journal
from ..runtime.memory_parts import parts
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock, SystemEntropy


class Moved:
    """A clock whose wall time stands until it is moved, for what was said on another day."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return time.monotonic()


@asynccontextmanager
async def shard(
    folder: Path, embedder: Embedder | None, clock: Clock | None = None, settings: Settings | None = None
) -> AsyncIterator[MemoryService]:
    """Its file lies in the folder. The embedder stays the caller's."""
    clock = clock or SystemClock()
    store = SqliteStore.open(folder / "memory.db", "memory", secure_delete=True)
    journal = Journal(store, clock, lambda error: None)
    service = MemoryService(
        store, journal, clock, SystemEntropy(), embedder, parts(clock), settings=settings, scrubber=store
    )
    try:
        yield service
    finally:
        await service.stop()
        await journal.stop()
        await store.close()
