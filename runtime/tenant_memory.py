"""The shared memory on behalf of somebody outside of any step: a person's program, a client of the gateway.

Two classes keep `BoundMemory`: `LinkedMemory` here speaks to the memory of its own cluster, `HttpMemory`
(`http_memory.py`) to a gateway.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..contracts import IdempotencyKey, MemoryView
from ..contracts.caller import Caller
from ..contracts.memory import Certificate, Change, Draft, Memory, Query, Recollection, Record, Remembered


class ReachedMemory(Memory, Protocol):
    """A memory at the other end of something that can be closed."""

    async def processes(self) -> list[MemoryView]: ...

    async def close(self) -> None: ...


class LinkedMemory:
    """Keeps `BoundMemory` over a memory and a caller."""

    def __init__(self, memory: Memory, caller: Caller) -> None:
        self._memory, self._caller = memory, caller

    async def remember(self, drafts: Sequence[Draft], *, key: IdempotencyKey | None = None) -> list[Remembered]:
        return await self._memory.remember(drafts, self._caller, key=key)

    async def recall(self, query: Query) -> Recollection:
        return await self._memory.recall(query, self._caller)

    async def revise(self, id: str, change: Change, *, version: int, key: IdempotencyKey | None = None) -> Record:
        return await self._memory.revise(id, change, self._caller, version=version, key=key)

    async def get(self, id: str) -> Record:
        return await self._memory.get(id, self._caller)

    async def history(self, id: str) -> list[Record]:
        return await self._memory.history(id, self._caller)

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        return await self._memory.timeline(self._caller, episode=episode, limit=limit, before=before)

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate:
        return await self._memory.forget(ids, self._caller, reason=reason)

    async def pin(self, id: str, *, pinned: bool = True) -> Record:
        return await self._memory.pin(id, self._caller, pinned=pinned)

    async def tell(self, verb: str, parameters: Mapping[str, Any]) -> Any:
        return await self._memory.tell(verb, parameters, self._caller)


def memory_in_words(processes: Sequence[MemoryView]) -> str:
    """`1 shard, 2 readers (1 not answering)`."""
    kinds = ((kind, [each for each in processes if each.kind == kind]) for kind in ("shard", "reader"))
    return ", ".join(_counted(kind, found) for kind, found in kinds if found) or "not configured"


def _counted(kind: str, found: Sequence[MemoryView]) -> str:
    away = sum(not each.answers for each in found)
    return f"{len(found)} {kind}{'s' if len(found) > 1 else ''}" + (f" ({away} not answering)" if away else "")
