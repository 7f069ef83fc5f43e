"""The whole service of the memory, as `memory` times it: access, gate, log on the disk, index, tables, packing.

What was drawn is written to the log at once, as if it had been there, and the service opens it from there. What is
measured then goes through its verbs alone.
"""

import asyncio
import gc
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.caller import Caller
from ..contracts.ids import AgentId, Tenant
from ..contracts.memory import Change, Draft, Query, Record
from ..contracts.pool import Embedder
from ..memory.log import Kept
from ..memory.service import MemoryService, Settings
from .machine import percentile
from .shard import shard

LIMIT = 10
STREAM, SOME, CALLERS = 512, 32, 4
"""Records that are added in one go, how many of them a caller sends at once, and how many callers there are."""
PAGE = 2000
TENANT_RECORDS = 100


class Ready:
    """Vectors that are there already, for what of a time is not the embedder's. What has none gets a real one."""

    def __init__(self, embedder: Embedder, texts: Sequence[str], vectors: Any) -> None:
        self._embedder, self.digest, self.dimensions = embedder, embedder.digest, embedder.dimensions
        self.vectors = dict(zip(texts, vectors, strict=True))
        self.asleep = False
        """Everything is the embedder's."""

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> Any:
        if not self.asleep and all(text in self.vectors for text in texts):
            return np.stack([self.vectors[text] for text in texts])
        return await self._embedder.embed(texts, interactive=interactive)


def caller(tenant: str) -> Caller:
    return Caller(tenant=Tenant(tenant), by="scribe", agent=AgentId("scribe"))


async def fill(service: MemoryService, records: Sequence[Record], vectors: Any, tenant: str, model: str) -> None:
    """Into the log, and nowhere else."""
    for start in range(0, len(records), PAGE):
        part = zip(records[start : start + PAGE], vectors[start : start + PAGE], strict=True)
        update = {"tenant": Tenant(tenant), "embedding": model}
        service.log.add(caller(tenant), [Kept(each.model_copy(update=update), vector) for each, vector in part])
        await service.log.durable()


async def timed(calls: Iterator[Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Wall time of each call and processor time of all threads, in milliseconds."""
    wall, processor = list[float](), list[float]()
    for call in calls:
        await _measured(call, wall, processor)
    return _figures(wall, processor)


async def _measured(call: Callable[[], Awaitable[Any]], wall: list[float], processor: list[float]) -> None:
    started, used = time.perf_counter(), time.process_time()
    await call()
    wall.append((time.perf_counter() - started) * 1000)
    processor.append((time.process_time() - used) * 1000)


def _figures(wall: Sequence[float], processor: Sequence[float]) -> dict[str, float]:
    print(".", end="", flush=True)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    figures = {f"ms_{name}": percentile(wall, share) for name, share in shares.items()}
    return figures | {"processor_ms_p50": percentile(processor, 0.5)}


async def large(data: Any, embedder: Embedder, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """One tenant with everything."""
    ready = Ready(embedder, data.questions, data.asked)
    async with shard(folder, ready) as service:
        await fill(service, data.records, data.vectors, "large", str(embedder.digest))
        who, third, questions = caller("large"), {"team": 1}, data.questions
        started = time.perf_counter()
        await service.recall(Query(text=questions[0]), who)
        opened = time.perf_counter() - started
        await asyncio.to_thread(settle, service.shelves.open[0]._present.index)  # pyright: ignore[reportPrivateUsage]

        async def ask(text: str, **filters: Any) -> None:
            await service.recall(Query(text=text, limit=LIMIT, **filters), who)

        async def ask_embedded(text: str, **filters: Any) -> None:
            ready.asleep = True
            await ask(text, **filters)
            ready.asleep = False

        yield {"what": "service: open a tenant", "ms_p50": opened * 1000}
        await ask(questions[0], payload=third)
        yield {"what": "service: recall", **await timed((lambda q=q: ask(q)) for q in questions)}
        yield {
            "what": "service: recall, a third",
            **await timed((lambda q=q: ask(q, payload=third)) for q in questions),
        }
        yield {
            "what": "service: recall, a third, a filter never used before",
            **await timed(
                (lambda i=i, q=q: ask(q, payload=third, min_confidence=i / 1e6)) for i, q in enumerate(questions, 1)
            ),
        }
        yield {
            "what": "service: recall with the question's embedding",
            **await timed((lambda q=q: ask_embedded(q)) for q in questions),
        }
        yield {
            "what": "service: recall, a third, with the question's embedding",
            **await timed((lambda q=q: ask_embedded(q, payload=third)) for q in questions),
        }
        yield {"what": "service: remember one", **await timed(_writes(service, data, ready, who, "one"))}
        yield {"what": "service: recall right after a write", **await _after_writes(service, data, ready, who)}
        yield {
            "what": "service: recall, a third, right after a write",
            **await _after_writes(service, data, ready, who, payload=third),
        }
        async for row in _past(service, data, who):
            yield row
        ratio, alone = await adds(service, data, embedder, who)
        yield {"what": "service: adds, in parts of the embedder's rate", "share": ratio, "embedded_per_second": alone}


def _writes(
    service: MemoryService, data: Any, ready: Ready, who: Caller, mark: str
) -> Iterator[Callable[[], Awaitable[Any]]]:
    for number in range(len(data.questions)):
        text = f"{data.records[number * 7].text} {mark}{number}"
        ready.vectors[text] = data.vectors[number * 7]
        draft = Draft(text=text, payload={"team": number % 3})
        yield lambda draft=draft: service.remember([draft], who)


async def _after_writes(
    service: MemoryService, data: Any, ready: Ready, who: Caller, **filters: Any
) -> dict[str, float]:
    async def ask(text: str) -> None:
        await service.recall(Query(text=text, limit=LIMIT, **filters), who)

    wall, processor = list[float](), list[float]()
    for text, write in zip(data.questions, _writes(service, data, ready, who, f"then{len(filters)}"), strict=True):
        await write()
        await _measured(lambda text=text: ask(text), wall, processor)
    return _figures(wall, processor)


async def _past(service: MemoryService, data: Any, who: Caller) -> AsyncIterator[dict[str, Any]]:
    """As of a moment at which twenty of the records were another version."""
    moment = service.clock.now_ms() - 1
    for each in data.records[:: len(data.records) // 20]:
        await service.revise(each.id, Change(importance=0.6), who, version=1)

    async def ask(text: str) -> None:
        await service.recall(Query(text=text, limit=LIMIT, as_of_ms=moment), who)

    started = time.perf_counter()
    await ask(data.questions[0])
    yield {"what": "service: first recall of the past", "ms_p50": (time.perf_counter() - started) * 1000}
    await asyncio.to_thread(settle, service.shelves.open[0]._past._projection.index)  # pyright: ignore
    yield {"what": "service: recall as of before", **await timed((lambda q=q: ask(q)) for q in data.questions)}


async def adds(
    service: MemoryService, data: Any, embedder: Embedder, who: Caller, rounds: int = 5
) -> tuple[float, float]:
    """Rate of remembering, in parts of that of embedding alone, and that; medians of rounds that take turns."""
    ratios, rates = list[float](), list[float]()
    for number in range(rounds):
        texts = [f"{each.text} add{number}" for each in data.records[:STREAM]]
        alone = await _stream(texts, embedder.embed)
        through = await _stream(texts, lambda some: service.remember([Draft(text=text) for text in some], who))
        ratios.append(alone / through)
        rates.append(STREAM / alone)
    return percentile(ratios, 0.5), percentile(rates, 0.5)


async def _stream(texts: Sequence[str], send: Callable[[Sequence[str]], Awaitable[Any]]) -> float:
    """Seconds for all of it, by callers who each send the next few when the last ones are taken in."""
    waiting = iter([texts[at : at + SOME] for at in range(0, len(texts), SOME)])

    async def one() -> None:
        for some in waiting:
            await send(some)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CALLERS)))
    return time.perf_counter() - started


async def many(
    data: Any, embedder: Embedder, folder: Path, count: int, settings: Settings | None = None
) -> dict[str, Any]:
    """So many tenants of a hundred records, of which as many are open at once as the settings allow."""
    ready = Ready(embedder, data.questions, data.asked)
    async with shard(folder, ready, settings=settings) as service:
        for tenant in range(count):
            places = [(tenant * TENANT_RECORDS + number) % len(data.records) for number in range(TENANT_RECORDS)]
            own = [data.records[place].model_copy(update={"id": f"{tenant}-{place}"}) for place in places]
            await fill(service, own, data.vectors[places], f"t{tenant}", str(embedder.digest))
        gc.collect()
        before, query = resident_mb(), Query(text=data.questions[0], limit=LIMIT)
        opening = await timed((lambda t=t: service.recall(query, caller(f"t{t}"))) for t in range(count))
        gc.collect()
        first = resident_mb() - before
        again = await timed((lambda t=t: service.recall(query, caller(f"t{t}"))) for t in range(count))
        last = range(count - min(count, service.settings.open_tenants), count)
        there = await timed((lambda t=t: service.recall(query, caller(f"t{t}"))) for t in last)
        return {
            "what": f"service: one of {count:,} tenants of {TENANT_RECORDS}, open",
            **there,
            "memory_mb": first,
            "memory_again_mb": resident_mb() - before,
            "open": len(service.shelves),
            "opening_ms_p50": opening["ms_p50"],
            "opening_ms_p99": opening["ms_p99"],
            "reopening_ms_p50": again["ms_p50"],
        }


def settle(index: Any) -> None:
    """Waits for the graph."""
    while index._vectors.building:
        time.sleep(0.05)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
