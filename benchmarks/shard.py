"""One shard of the shared memory as a federation has it: default settings, write gate, log on the disk, no Ray."""

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from ..contracts import Clock
from ..contracts.pool import Embedder
from ..memory.service import MemoryService, Settings
from ..runtime.memory_parts import parts, shard_over
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


def shard(
    folder: Path, embedder: Embedder | None, clock: Clock | None = None, settings: Settings | None = None
) -> AbstractAsyncContextManager[MemoryService]:
    """Its file lies in the folder. The embedder stays the caller's."""
    clock = clock or SystemClock()
    store = SqliteStore.open(folder / "memory.db", "memory", secure_delete=True)
    return shard_over(store, clock, SystemEntropy(), embedder, parts(clock), settings=settings)
