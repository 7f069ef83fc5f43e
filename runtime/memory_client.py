"""`MemoryClient`: the shared memory over links, from any process of the cluster. Keeps the `Memory` protocol.

A tenant's memory lies in one shard, found by the tenant's name. What only reads goes to a reader of that shard where
there are some and one is there, and to the shard else; everything else goes to the shard. A link that breaks is made
again, and the question is asked again: so every write carries a key, by which the memory knows one that it has done
already.
"""

import asyncio
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..contracts import IdempotencyKey, JsonObject, MemoryView
from ..contracts.caller import Caller
from ..contracts.memory import ONLY_READ, Certificate, Change, Draft, Query, Recollection, Record, Remembered
from .client import Shard
from .memory_readers import SILENT_SECONDS, PassedOver, Readers

ABOUT_SECONDS = 1.0
"""How long the status of a federation waits for that of its memory."""


class MemoryClient:
    """The memory of all tenants over the ways to its shards. What cannot be reached is Unavailable."""

    def __init__(self, ways: Sequence[Shard], readers: Sequence[Readers] = ()) -> None:
        """`readers` of each shard, in the order of the shards, or none at all."""
        self._ways = ways
        self._readers = readers

    async def remember(
        self, drafts: Sequence[Draft], caller: Caller, *, key: IdempotencyKey | None = None
    ) -> list[Remembered]:
        said = [draft.model_dump(mode="json", exclude_defaults=True) for draft in drafts]
        results = await self._ask("remember", caller, drafts=said, key=key or uuid.uuid4().hex)
        return [Remembered.model_validate(each) for each in results]

    async def recall(self, query: Query, caller: Caller) -> Recollection:
        said = query.model_dump(mode="json", exclude_defaults=True)
        return Recollection.model_validate(await self._read("recall", caller, query=said))

    async def revise(
        self, id: str, change: Change, caller: Caller, *, version: int, key: IdempotencyKey | None = None
    ) -> Record:
        said = {"id": id, "change": change.model_dump(mode="json", exclude_none=True), "version": version}
        return Record.model_validate(await self._ask("revise", caller, **said, key=key or uuid.uuid4().hex))

    async def get(self, id: str, caller: Caller) -> Record:
        return Record.model_validate(await self._read("get", caller, id=id))

    async def history(self, id: str, caller: Caller) -> list[Record]:
        return [Record.model_validate(each) for each in await self._read("history", caller, id=id)]

    async def timeline(
        self, caller: Caller, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        found = await self._read("timeline", caller, episode=episode, limit=limit, before=before)
        return [Record.model_validate(each) for each in found]

    async def forget(self, ids: Sequence[str], caller: Caller, *, reason: str = "") -> Certificate:
        return Certificate.model_validate(await self._ask("forget", caller, ids=list(ids), reason=reason))

    async def pin(self, id: str, caller: Caller, *, pinned: bool = True) -> Record:
        return Record.model_validate(await self._ask("pin", caller, id=id, pinned=pinned))

    async def tell(self, verb: str, parameters: Mapping[str, Any], caller: Caller) -> Any:
        if verb in ONLY_READ:  # it may read all that a tenant has
            return await self._read("tell", caller, None, verb=verb, parameters=dict(parameters))
        return await self._ask("tell", caller, verb=verb, parameters=dict(parameters))

    async def processes(self) -> list[MemoryView]:
        """How each of them is; those that do not answer at once say nothing."""
        everybody = [Readers(self._ways), *self._readers]
        shards, *beside = await asyncio.gather(*(each.ask_each("about", ABOUT_SECONDS) for each in everybody))
        found = [_view(memory_name(shard), "shard", said) for shard, said in enumerate(shards)]
        for shard, readers in enumerate(beside):
            found += [_view(reader_name(shard, number), "reader", said) for number, said in enumerate(readers)]
        return found

    async def close(self) -> None:
        for each in (*self._ways, *self._readers):
            each.close()

    async def _read(
        self, method: str, caller: Caller, patience_seconds: float | None = SILENT_SECONDS, **parameters: Any
    ) -> Any:
        if self._readers:
            readers = self._readers[shard_of_tenant(caller.tenant, len(self._ways))]
            while (way := readers.pick(caller.tenant)) is not None:
                with suppress(PassedOver):
                    said = about(caller, **parameters)
                    return await way.ask(method, caller.tenant, caller.by, said, patience_seconds)
        return await self._ask(method, caller, **parameters)

    async def _ask(self, method: str, caller: Caller, **parameters: Any) -> Any:
        way = self._ways[shard_of_tenant(caller.tenant, len(self._ways))]
        return await way.ask(method, caller.tenant, caller.by, about(caller, **parameters))


def memory_name(shard: int) -> str:
    """Of a shard of the memory: its actor, its socket, its store."""
    return f"memory-{shard}"


def reader_name(shard: int, number: int) -> str:
    """Of a reader of a shard: its actor, its socket."""
    return f"{memory_name(shard)}-reader-{number}"


def _view(name: str, kind: str, said: Mapping[str, Any] | None) -> MemoryView:
    return MemoryView.model_validate({"name": name, "kind": kind, "answers": said is not None, **(said or {})})


def shard_of_tenant(tenant: str, shards: int) -> int:
    """Where a tenant's memory lies."""
    return zlib.crc32(tenant.encode()) % shards


def about(caller: Caller, **parameters: Any) -> JsonObject:
    """Tenant and name travel with the request itself, where a link's owner vouches for them."""
    return {"caller": caller.model_dump(mode="json", exclude={"tenant", "by"}, exclude_defaults=True), **parameters}
