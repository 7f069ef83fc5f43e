"""What a shard of the memory is made of: its index, its packing, and its hygiene."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..contracts import Clock, Entropy, Faults
from ..contracts.pool import Embedder, Models
from ..memory import hygiene
from ..memory.certificates import Signer
from ..memory.index import TenantIndex
from ..memory.recall import recollect
from ..memory.redaction import Masks
from ..memory.service import MemoryService, Parts, Settings
from ..memory.snapshot import Snapshots
from .journal import Journal
from .store.place import OpenStore


def parts(clock: Clock, models: Models | None = None, masks: Masks | None = None) -> Parts:
    """`models` write summaries; without them they are made of sentences as they were said. `masks` are what every write
    passes; secrets and card numbers are masked when left out.
    """
    return Parts(make_index=TenantIndex, recollect=recollect, **hygiene.parts(clock, models=models, masks=masks))


@asynccontextmanager
async def shard_over(
    store: OpenStore,
    clock: Clock,
    entropy: Entropy,
    embedder: Embedder | None,
    made: Parts,
    *,
    settings: Settings | None = None,
    snapshots: Snapshots | None = None,
    signer: Signer | None = None,
    faults: Faults | None = None,
) -> AsyncIterator[MemoryService]:
    """A shard with no federation around it, not started. Its store is closed with it, the embedder stays the caller's.
    That the journal fails, whoever waits for a write hears.
    """
    journal = Journal(store, clock, lambda error: None)
    service = MemoryService(
        store,
        journal,
        clock,
        entropy,
        embedder,
        made,
        settings=settings,
        scrubber=store,
        snapshots=snapshots,
        signer=signer,
        faults=faults,
    )
    try:
        yield service
    finally:
        await service.stop()
        await journal.stop()
        await store.close()
