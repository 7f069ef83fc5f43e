"""The shared memory as a part of the federation: for each shard one process that holds log, indexes and tables.

Nothing waits for it: a federation starts, and does work that needs no memory, while it restores itself; and its
embedder warms up while it answers by words.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from ..contracts import InvalidConfiguration, InvalidInput, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Change, Draft, Layer, Query, Record
from ..contracts.pool import Embedder, Models
from ..contracts.ports import Faults
from ..contracts.schema import digest, fitted, invalid
from ..memory.access import Lifetimes
from ..memory.log import Log
from ..memory.redaction import Masks
from ..memory.service import MemoryService, Parts, Settings
from ..memory.snapshot import Snapshots
from ..memory.writing import Budget
from .answering import Asked, Counter
from .assembly import Failure, World, in_memory, open_store, witnessed
from .audit.head import Signer
from .config import Configuration, TenantMemory
from .config import Memory as Section
from .config import Tenant as TenantEntry
from .journal import Journal
from .late_embedder import LateEmbedder, embedder_of
from .link import Receiver
from .memory_client import memory_name
from .memory_parts import parts
from .secret_key import root_key
from .store.place import OpenStore

_DAY = 86_400.0
_LAID_OUT = (Tenant(""), "layout", "shards")
"""The note that says how many shards the tenants were dealt out to."""


class MemoryPart:
    """One shard behind a counter. Not started."""

    def __init__(
        self,
        configuration: Configuration,
        world: World,
        fail: Failure,
        *,
        shard: int = 0,
        embedder: Embedder | None = None,
        models: Models | None = None,
        made: Parts | None = None,
    ) -> None:
        """`models` write the summaries of old episodes, where there are some. `embedder` and `made` stand in for what
        the configuration says.
        """
        self._configuration, self._world, self._fail = configuration, world, fail
        self._shard = shard
        self._embedder, self._models, self._made = embedder, models, made
        self._late: LateEmbedder | None = None
        self.service: MemoryService
        self.counter: Counter

    async def start(self) -> Receiver:
        section = self._configuration.memory or Section()
        self._store = open_store(self._configuration, memory_name(self._shard), "memory", secure_delete=True)
        self._journal = Journal(self._store, self._world.clock, self._fail)
        self._anchoring = witnessed(self._configuration, self._journal, memory_name(self._shard), self._world)
        if self._anchoring is not None:
            self._anchoring.start()
        self.service = self._service(section, self._store)
        await self._check_layout(section.shards)
        await self.service.start()
        self.counter = counter_of(self.service)
        return self.counter

    async def stop(self) -> None:
        await self.counter.stop()
        await self.service.stop()
        await self._journal.stop()
        if self._anchoring is not None:
            await self._anchoring.stop()
        await self._store.close()
        if self._late is not None:
            await self._late.close()

    def _service(self, section: Section, store: OpenStore) -> MemoryService:
        return MemoryService(
            store,
            self._journal,
            self._world.clock,
            self._world.entropy,
            self._embedder or self._warm(),
            self._made or parts(self._world.clock, self._models, masks_of(section, self._configuration.tenants)),
            settings=settings_of(section, self._configuration.tenants),
            scrubber=store,
            snapshots=self._snapshots(section),
            signer=signer_of(self._configuration),
            faults=self._world.faults,
        )

    def _warm(self) -> Embedder:
        self._late = embedder_of(self._configuration)
        self._late.begin()
        return self._late

    def _snapshots(self, section: Section) -> Snapshots | None:
        if section.snapshots is None:
            return None
        root = root_key(self._configuration.data)
        return snapshots_at(self._configuration, section.snapshots, root, self._world.faults)

    async def _check_layout(self, shards: int) -> None:
        """Raises InvalidConfiguration when the tenants were dealt out to another number of shards."""
        log = self.service.log
        check_layout(log, shards)
        log.write_note(*_LAID_OUT, shards)
        await log.durable()


def snapshots_at(configuration: Configuration, place: str, root: bytes, faults: Faults | None = None) -> Snapshots:
    """The snapshots at a place, sealed by the federation whose root key it is."""
    location = place if "://" in place else str(configuration.folder / Path(place).expanduser())
    return Snapshots(location, digest(["memory snapshots", root.hex()]).encode(), faults)


def signer_of(configuration: Configuration) -> Signer | None:
    """Who signs certificates of erasure. None for a memory that ends with its process."""
    if in_memory(configuration):
        return None
    return Signer(configuration.federation.name, root_key(configuration.data))


def check_layout(log: Log, shards: int) -> None:
    """Raises InvalidConfiguration when the tenants were dealt out to another number of shards."""
    if (was := log.note(*_LAID_OUT)) not in (None, shards):
        raise InvalidConfiguration(
            f"this memory was laid out in {was} shards, and memory.shards says {shards}. Write shards: {was}, or "
            "export each tenant and remember it anew"
        )


def settings_of(section: Section, tenants: Iterable[TenantEntry] = ()) -> Settings:
    days: Mapping[Layer, float | None] = {Layer.EPISODIC: section.episodic_days, Layer.SEMANTIC: section.semantic_days}
    return Settings(
        open_tenants=section.open_tenants,
        open_records=section.open_records,
        lifetimes=Lifetimes(
            working_seconds=section.working_seconds,
            max_working_seconds=section.max_working_seconds,
            by_layer={layer: None if each is None else each * _DAY for layer, each in days.items()},
        ),
        budget=Budget(section.records_per_tenant, section.characters_per_tenant),
        budgets={Tenant(each.name): _budget(each.memory, section) for each in tenants if each.memory is not None},
        compact_seconds=section.compact_seconds,
        snapshot_seconds=section.snapshot_seconds,
        tidy_seconds=section.tidy_seconds,
    )


def masks_of(section: Section, tenants: Iterable[TenantEntry]) -> Masks:
    """What every write passes."""
    own = {Tenant(each.name): each.memory.mask for each in tenants if each.memory and each.memory.mask is not None}
    return Masks(section.mask, region=section.mask_region, tenants=own)


def _budget(own: TenantMemory, section: Section) -> Budget:
    return Budget(own.records or section.records_per_tenant, own.characters or section.characters_per_tenant)


def counter_of(service: Any) -> Counter:
    """Answers what a `MemoryClient` asks."""
    methods = _Methods(service)
    names = (*_READING, "remember", "revise", "forget", "pin", "recalled")
    return Counter("the memory", {name: getattr(methods, name) for name in names})


def reading_counter_of(reader: Any) -> Counter:
    """Answers what a `MemoryClient` asks that changes nothing."""
    methods = _Methods(reader)
    return Counter("a reader of the memory", {name: getattr(methods, name) for name in _READING})


_READING = ("recall", "get", "history", "timeline", "tell", "about")


class _Methods:
    """Plain data to values and back."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._reads = 0

    async def about(self, asked: Asked) -> Any:
        """How this process is. Counts `recall`, `get`, `history` and `timeline` since it started."""
        return {**self._service.condition(), "pid": os.getpid(), "reads": self._reads}

    async def recalled(self, asked: Asked) -> Any:
        """A reader gave these out: ids and versions by tenant."""
        for tenant, given in fitted(_Recalled, asked.parameters).given.items():
            self._service.told(tenant, given)

    async def remember(self, asked: Asked) -> Any:
        drafts = _read_all(asked.parameters["drafts"])
        results = await self._service.remember(drafts, _caller(asked), key=asked.parameters.get("key"))
        return [each.model_dump(mode="json") for each in results]

    async def recall(self, asked: Asked) -> Any:
        self._reads += 1
        found = await self._service.recall(fitted(Query, asked.parameters["query"]), _caller(asked))
        return found.model_dump(mode="json")

    async def revise(self, asked: Asked) -> Any:
        given = asked.parameters
        change = fitted(Change, given["change"])
        revised = await self._service.revise(
            given["id"], change, _caller(asked), version=given["version"], key=given.get("key")
        )
        return _plain(revised)

    async def get(self, asked: Asked) -> Any:
        self._reads += 1
        return _plain(await self._service.get(asked.parameters["id"], _caller(asked)))

    async def history(self, asked: Asked) -> Any:
        self._reads += 1
        return [_plain(each) for each in await self._service.history(asked.parameters["id"], _caller(asked))]

    async def timeline(self, asked: Asked) -> Any:
        self._reads += 1
        given = {name: asked.parameters[name] for name in ("episode", "limit", "before")}
        return [_plain(each) for each in await self._service.timeline(_caller(asked), **given)]

    async def forget(self, asked: Asked) -> Any:
        given = asked.parameters
        return _plain(await self._service.forget(given["ids"], _caller(asked), reason=given["reason"]))

    async def pin(self, asked: Asked) -> Any:
        given = asked.parameters
        return _plain(await self._service.pin(given["id"], _caller(asked), pinned=given["pinned"]))

    async def tell(self, asked: Asked) -> Any:
        given = asked.parameters
        return await self._service.tell(given["verb"], given["parameters"], _caller(asked))


class _Recalled(BaseModel):
    given: dict[Tenant, list[tuple[str, int]]]


_DRAFTS = TypeAdapter(list[Draft])


def _caller(asked: Asked) -> Caller:
    return fitted(Caller, {**asked.parameters.get("caller", {}), "tenant": asked.tenant, "by": asked.by})


def _read_all(data: Any) -> list[Draft]:
    try:
        return _DRAFTS.validate_python(data)
    except ValidationError as error:
        raise invalid(error) from None
    except TypeError as error:
        raise InvalidInput(str(error)) from None


def _plain(value: BaseModel | Record) -> Any:
    return value.model_dump(mode="json")
