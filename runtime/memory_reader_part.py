"""A reader of the shared memory as a part of the federation: a process beside that of its shard, which answers what
only reads. See `memory.reader` for what it promises.

It has an embedder of its own, because that is most of what a recall costs. Until that is loaded the part has not
started, and clients ask the shard.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..contracts import HanseError, StorageError, Tenant
from ..contracts.pool import Embedder
from ..memory.lately import Given
from ..memory.reader import MemoryReader
from ..memory.service import Parts
from .answering import Counter
from .assembly import Failure, World, look_at_store
from .client import Shard
from .config import Configuration
from .config import Memory as Section
from .late_embedder import LateEmbedder, embedder_of
from .link import Receiver
from .memory_client import memory_name
from .memory_part import check_layout, reading_counter_of, settings_of
from .memory_parts import parts
from .store.place import Reader

STORE_SECONDS = 60.0
"""For which a reader waits for its shard to make the store: they start side by side."""
_LOOK_AGAIN_SECONDS = 0.1


class MemoryReaderPart:
    """One reader behind a counter. Not started."""

    def __init__(
        self,
        configuration: Configuration,
        world: World,
        fail: Failure,
        *,
        shard: int,
        way: Shard,
        embedder: Embedder | None = None,
        made: Parts | None = None,
    ) -> None:
        """`way` leads to the shard. `embedder` and `made` stand in for what the configuration says."""
        self._configuration, self._world, self._fail = configuration, world, fail
        self._shard, self._way = shard, way
        self._embedder, self._made = embedder, made
        self._late: LateEmbedder | None = None
        self.reader: MemoryReader
        self.counter: Counter

    async def start(self) -> Receiver:
        section = self._configuration.memory or Section()
        self._store = await self._opened()
        embedder = self._embedder or await self._loaded()
        self.reader = MemoryReader(
            self._store,
            self._world.clock,
            self._world.entropy,
            embedder,
            self._made or parts(self._world.clock),
            tell=self._tell,
            settings=settings_of(section, self._configuration.tenants),
            faults=self._world.faults,
            on_failure=self._fail,
        )
        check_layout(self.reader.log, section.shards)
        await self.reader.start()
        self.counter = reading_counter_of(self.reader)
        return self.counter

    async def stop(self) -> None:
        await self.counter.stop()
        await self.reader.stop()
        self._way.close()
        self._store.close()
        if self._late is not None:
            await self._late.close()

    async def _opened(self) -> Reader:
        """The store of the shard, as soon as the shard has made it. Raises StorageError."""
        give_up = time.monotonic() + STORE_SECONDS
        while True:
            try:
                return look_at_store(self._configuration, memory_name(self._shard), "memory", "journal")
            except StorageError:
                if time.monotonic() > give_up:
                    raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _loaded(self) -> Embedder:
        """Where it cannot be loaded, questions are answered by words."""
        self._late = embedder_of(self._configuration)
        with suppress(HanseError):
            await self._late.loaded()
        return self._late

    async def _tell(self, given: Mapping[Tenant, Sequence[Given]]) -> None:
        said = {"given": {tenant: [list(each) for each in some] for tenant, some in given.items()}}
        await self._way.ask("recalled", Tenant(""), "reader", said)
