"""Memories brought back from snapshots into the stores of a data folder on which no federation works.

What a person does whose federation lost its store, or who moves memories to a new one: whoever may read the folder may
name any place, and the key of the federation that wrote there.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from ..contracts import Corrupt, InvalidConfiguration, InvalidInput, NotFound, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Restored
from ..memory.service import MemoryService
from ..memory.snapshot import Snapshots
from .assembly import World, in_memory, open_store
from .config import Configuration
from .config import Memory as Section
from .data_lock import DataLock
from .memory_client import memory_name, shard_of_tenant
from .memory_part import settings_of, signer_of, snapshots_at
from .memory_parts import parts, shard_over
from .secret_key import read_secret_key, root_key

Watch = Callable[[MemoryService, Tenant, Awaitable[Restored]], Awaitable[Restored]]
"""Waits for a restoring, and may show how far it is."""


async def restore_into(
    configuration: Configuration,
    location: str | None,
    key: bytes | None,
    tenants: Iterable[str],
    watch: Watch,
    *,
    merge: bool,
    by: str,
) -> list[Restored]:
    """What came of each tenant's snapshot; of all that are at the place when none is named.

    `key` is the secret key of the federation that wrote them, when that was another one. Raises Conflict while a
    federation works on the data, InvalidConfiguration, and what `restoring.restore` raises.
    """
    if in_memory(configuration):
        raise InvalidConfiguration("this federation keeps nothing: its data is :memory:. Write data: ./var")
    section = configuration.memory or Section()
    place = location or section.snapshots
    if place is None:
        raise InvalidConfiguration("say where the snapshots are: --from PLACE, or memory.snapshots in hanse.yaml")
    lock = DataLock(configuration.data)
    try:
        snapshots = snapshots_at(configuration, place, key or root_key(configuration.data))
        wanted = [Tenant(each) for each in tenants] or await snapshots.tenants()
        if not wanted:
            raise NotFound(f"there is no snapshot at {place}", place=place)
        return [await _restore(configuration, section, snapshots, each, watch, merge=merge, by=by) for each in wanted]
    finally:
        lock.release()


async def _restore(
    configuration: Configuration,
    section: Section,
    snapshots: Snapshots,
    tenant: Tenant,
    watch: Watch,
    *,
    merge: bool,
    by: str,
) -> Restored:
    """What is over the tenant's budget goes again at once: nobody tidies here later, and a federation that starts looks
    only after what is written then.
    """
    caller = Caller(tenant=tenant, by=by)
    async with _service(configuration, section, shard_of_tenant(tenant, section.shards)) as service:
        restored = await watch(service, tenant, service.restore(snapshots, caller, merge=merge))
        tidied = await service.tell("tidy", {}, caller)
    return restored.model_copy(update={"evicted": len(tidied["evicted"])})


def _service(configuration: Configuration, section: Section, shard: int) -> AbstractAsyncContextManager[MemoryService]:
    """A shard with no embedder: vectors of another model are made when the federation runs."""
    world = World.real()
    return shard_over(
        open_store(configuration, memory_name(shard), "memory", secure_delete=True),
        world.clock,
        world.entropy,
        None,
        parts(world.clock),
        settings=settings_of(section, configuration.tenants),
        signer=signer_of(configuration),
    )


def read_secret(file: Path) -> bytes:
    """The secret key of another federation. Raises InvalidInput."""
    try:
        return read_secret_key(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    except Corrupt as error:
        raise InvalidInput(f"{file} is no secret.key: {error.detail}") from error
