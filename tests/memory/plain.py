"""A memory for tests: the real service, log and store, an embedder that knows words, and an index that is exact."""

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy

from hanse.contracts import Digest, ModelUnavailable, Tenant
from hanse.contracts.caller import Caller
from hanse.contracts.memory import Hit, Query, Recollection, Record
from hanse.memory.ports import Allowed, Index, Scored
from hanse.memory.service import MemoryService, Parts, Settings
from hanse.memory.snapshot import Snapshots
from hanse.memory.wording import keys_of
from hanse.runtime.audit.head import Signer
from hanse.runtime.memory_parts import shard_over
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock, SystemEntropy

DIMENSIONS = 32
SHOP = Tenant("shop")


class Clock:
    """A clock that a test moves."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class WordEmbedder:
    """Each word is a direction of its own, as far as there is room; so texts that share words are near."""

    def __init__(self, digest: str = "words-1", dimensions: int = DIMENSIONS) -> None:
        self._digest, self.dimensions = Digest(digest), dimensions
        self.away = False
        self.asked: list[str] = []

    @property
    def digest(self) -> Digest:
        return self._digest

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> Any:
        if self.away:
            raise ModelUnavailable("no tier embeds")
        self.asked += texts
        return numpy.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Any:
        total = numpy.full(self.dimensions, 1e-3, numpy.float32)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            total += numpy.random.default_rng(seed).standard_normal(self.dimensions).astype(numpy.float32)
        return total / numpy.linalg.norm(total)


class ExactIndex:
    """Looks at every record there is."""

    def __init__(self, dimensions: int) -> None:
        self._records: dict[str, tuple[Record, Any, int]] = {}

    def put(self, record: Record, vector: Any, number: int) -> None:
        self._records[record.id] = record, vector, number

    def remove(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._records.pop(id, None)

    def search(self, query: Query, vector: Any, allowed: Allowed | None, now_ms: int) -> list[Scored]:
        numbers = None if allowed is None else {*map(int, allowed.numbers)}
        words = {*query.text.lower().split()}
        found = [
            _scored(record, made, vector, words)
            for record, made, number in self._records.values()
            if numbers is None or number in numbers
        ]
        return sorted((each for each in found if each.score > 0), key=lambda each: -each.score)[: 2 * query.limit]

    def near(self, text: str, vector: Any, limit: int) -> list[Scored]:
        words = {*text.lower().split()}
        found = [_scored(record, made, vector, words) for record, made, _ in self._records.values()]
        return sorted(found, key=lambda each: -each.score)[:limit]

    def listen(self) -> None:
        pass

    def may_say(self, keys: Collection[str]) -> bool:
        return any(keys_of(record.text).issuperset(keys) for record, _, _ in self._records.values())

    def ids(self) -> set[str]:
        return {*self._records}


def _scored(record: Record, made: Any, vector: Any, words: set[str]) -> Scored:
    theirs = {*record.text.lower().split()}
    parts = {"text": len(words & theirs) / len(words | theirs)}
    if made is not None and vector is not None:
        parts["vector"] = float(made @ vector)
    return Scored(record.id, max(parts.values()), parts)


def recollect(
    query: Query, scored: Sequence[Scored], records: Mapping[str, Record], index: Index, *, now_ms: int
) -> Recollection:
    """The best, in their order."""
    best = scored[: query.limit]
    return Recollection(hits=[Hit(record=records[each.id], score=each.score, why="") for each in best])


def ann(tenant: str = SHOP, **about: Any) -> Caller:
    """A person."""
    return Caller(tenant=Tenant(tenant), by="ann", **about)


def agent(name: str, tenant: str = SHOP, task: str | None = None, **about: Any) -> Caller:
    return Caller.model_validate({"tenant": tenant, "by": name, "agent": name, "task": task, **about})


def _store(place: str | Path) -> Any:
    """In a file; or in a database, `postgresql://…#NAME`."""
    url, _, name = str(place).rpartition("#")
    if url.startswith("postgresql://"):
        from hanse.runtime.store.postgresql import PostgresStore

        return PostgresStore(url, "shop", name, "memory")
    return SqliteStore.open(place, "memory", secure_delete=True)


@asynccontextmanager
async def memory(
    path: str | Path = ":memory:",
    *,
    embedder: WordEmbedder | None = None,
    clock: Any = None,
    settings: Settings | None = None,
    snapshots: Path | str | None = None,
    faults: Any = None,
    started: bool = False,
    store: Any = None,
    **parts: Any,
) -> AsyncIterator[MemoryService]:
    """A service over the store at `path`, or over `store`."""
    clock = clock or SystemClock()
    store = store or _store(path)
    async with shard_over(
        store,
        clock,
        SystemEntropy(),
        WordEmbedder() if embedder is None else embedder,
        Parts(**{"make_index": ExactIndex, "recollect": recollect, **parts}),
        settings=settings,
        snapshots=Snapshots(snapshots, b"k" * 32, faults) if snapshots else None,
        signer=Signer("shop", b"r" * 32),
        faults=faults,
    ) as service:
        if started:
            await service.start()
        yield service
