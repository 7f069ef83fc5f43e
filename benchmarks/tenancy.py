"""Random reads over many tenants, with everything that might make one see another's: hostile filters, ids and names,
answers kept from before, writes, revisions, deletions, and kills.

Each record says in its text, its payload, its labels, its subject and its episode whose it is, in a word that stands
nowhere else; so does what an agent keeps to itself. Whatever a read gives, answer or error, is searched for the word of
anybody else. A process of its own holds the memory and asks; it is killed again and again, and goes on over the same
files. `--workers 2` has two such memories side by side, each with half of the reads; `--readers 2` gives each of them
two readers. `--reads 1000000` is the whole of it, and Ctrl-C ends it with what was found until then.

    python -m hanse.benchmarks.tenancy --reads 1000000 --tenants 50 --kills 20 --workers 2
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy
from rich.progress import Progress

from ..contracts import Conflict, Digest, HanseError, StorageError, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import ONLY_READ, Change, Draft, Layer, Query, Scope
from ..memory.lately import Given
from ..memory.reader import MemoryReader
from ..memory.service import MemoryService, Settings
from ..memory.snapshot import Snapshots
from ..runtime.actors import calm_collector
from ..runtime.journal import Journal
from ..runtime.memory_parts import parts
from ..runtime.store import SqliteStore
from ..runtime.store.reading import StoreReader
from ..runtime.world import SystemClock, SystemEntropy
from .machine import show

DIMENSIONS = 64
READERS, WRITERS = 16, 8
"""At once. A write waits at more places than a read does, so there are some twenty reads to each."""
WORDS = ("order", "refund", "address", "letter", "kettle", "door", "red", "blue", "late", "lost", "paid", "open")
AGENTS = ("orders", "mail", "payments")
HOSTILE = (
    "' OR 1=1 --",
    "'; DROP TABLE records; --",
    "records'; SELECT * FROM payload --",
    '" OR ""="',
    "%",
    "_",
    "*",
    "$(id)",
    "{}",
    "{records}",
    "?",
    "\\",
    "\x00",
    "‮",
    "NULL",
    "true",
    "read_csv('/etc/passwd')",
)
_MARK = re.compile(r"canary[0-9a-f]{16}|private[0-9a-f]{16}")


class HashedWords:
    """An embedder with no weights: each word is a direction (feature hashing, Weinberger et al., ICML 2009)."""

    digest = Digest("hashed-words-1")
    dimensions = DIMENSIONS

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> Any:
        return numpy.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Any:
        total = numpy.full(DIMENSIONS, 1e-3, numpy.float32)
        for word in text.lower().split():
            total[_number(word) % DIMENSIONS] += 1
        return total / numpy.linalg.norm(total)


def _number(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")


def canary(tenant: str) -> str:
    """The word of a tenant."""
    return f"canary{_number(tenant):016x}"


def private(tenant: str, agent: str) -> str:
    """The word of what one agent keeps to itself."""
    return f"private{_number(f'{tenant}/{agent}'):016x}"


def names(count: int) -> list[str]:
    """Tenants, some of whom are called like an attack, or almost like their neighbour."""
    odd = ["shop", "shop ", "Shop", "sho", "shop'--", "shop/../shop", "t1", "%", "shop\u200b", "' OR '1'='1"]
    odd = [name for name in odd if name.isprintable()]
    return [*odd, *(f"tenant-{i}" for i in range(count))][:count]


class Beside:
    """The memory as a client has it: what only reads is asked of the readers of the shard by chance, or of itself."""

    def __init__(self, service: MemoryService, readers: Sequence[MemoryReader], chance: random.Random) -> None:
        self._service, self._readers, self._chance = service, readers, chance

    async def tell(self, verb: str, parameters: Mapping[str, Any], caller: Caller) -> Any:
        return await (self._anybody() if verb in ONLY_READ else self._service).tell(verb, parameters, caller)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._anybody() if name in _READS else self._service, name)

    def _anybody(self) -> MemoryService | MemoryReader:
        return self._chance.choice([self._service, *self._readers])


_READS = frozenset({"recall", "get", "history", "timeline"})


@asynccontextmanager
async def readers_of(file: Path, service: MemoryService, count: int) -> AsyncIterator[list[MemoryReader]]:
    """So many readers of a shard, in this process."""

    async def tell(given: Mapping[Tenant, Sequence[Given]]) -> None:
        for tenant, some in given.items():
            service.told(tenant, some)

    async with AsyncExitStack() as stack:
        readers = list[MemoryReader]()
        for _ in range(count):
            store = stack.enter_context(closing(StoreReader(file, "memory")))
            made, clock = service.parts, service.clock
            reader = MemoryReader(
                store, clock, SystemEntropy(), HashedWords(), made, tell=tell, settings=service.settings
            )
            stack.push_async_callback(reader.stop)
            await reader.start()
            readers.append(reader)
        yield readers


class Reader:
    """Asks, and looks through what comes back."""

    def __init__(self, service: Any, tenants: Sequence[str], records: int, chance: random.Random) -> None:
        self._service, self._tenants, self._chance = service, tenants, chance
        self._records = records
        """Of a tenant, first and last: the last read of a million takes as long as the first."""
        self.counts = Counter[str]()
        self.foreign: list[str] = []
        self._ids: dict[str, list[str]] = {tenant: [] for tenant in tenants}
        """Records by tenant, some of them forgotten by now."""

    async def prepare(self) -> None:
        """Gives a tenant that has nothing its records."""
        for tenant in self._tenants:
            found = await self._service.recall(
                Query(limit=1000, include_quarantined=True), Caller(tenant=Tenant(tenant))
            )
            self._ids[tenant] = [hit.record.id for hit in found.hits]
            if not found.hits:
                for agent in AGENTS:
                    await self._remember(tenant, agent, self._records // len(AGENTS))

    async def run(self, seconds: float, reads: int) -> None:
        """Reads and writes side by side."""
        until = time.monotonic() + seconds
        readers = (self._work(until, reads) for _ in range(READERS))
        await asyncio.gather(*readers, *(self._write(until, reads) for _ in range(WRITERS)))

    async def _work(self, until: float, reads: int) -> None:
        while time.monotonic() < until and self.counts["reads"] < reads:
            self.counts["reads"] += 1
            await self._read()

    async def _write(self, until: float, reads: int) -> None:
        while time.monotonic() < until and self.counts["reads"] < reads:
            tenant, agent = self._chance.choice(self._tenants), self._chance.choice(AGENTS)
            try:
                await self._change(tenant, agent)
            except (Conflict, HanseError) as error:
                self._look(tenant, agent, str(error), "write")
            await asyncio.sleep(0)

    async def _change(self, tenant: str, agent: str) -> None:
        self.counts["writes"] += 1
        caller = _caller(tenant, agent)
        ids = self._ids[tenant]
        what = self._chance.random()
        if not ids or (what < 0.4 and len(ids) < self._records):
            await self._remember(tenant, agent, 2)
        elif what < 0.7:
            record = await self._service.get(self._chance.choice(ids), caller)
            change = Change(text=f"{self._text(tenant)} {record.version}", importance=self._chance.random())
            await self._service.revise(record.id, change, caller, version=record.version)
        elif what < 0.95:
            await self._service.forget([ids.pop(self._chance.randrange(len(ids)))], caller)
        else:
            person = Caller(tenant=Tenant(tenant), by=agent)
            await self._service.tell(self._chance.choice(("snapshot", "rebuild")), {}, person)

    async def _remember(self, tenant: str, agent: str, count: int) -> None:
        mark = canary(tenant)
        drafts = [
            Draft(
                text=f"{self._text(tenant)} {private(tenant, agent) if own else ''}",
                layer=Layer.EPISODIC,
                scope=Scope.AGENT if own else Scope.FEDERATION,
                subject=mark,
                episode=mark,
                labels=(mark,),
                payload={"mark": mark, "cents": self._chance.randrange(1000), "status": self._chance.choice(WORDS)},
            )
            for own in (self._chance.random() < 0.3 for _ in range(count))
        ]
        told = await self._service.remember(drafts, _caller(tenant, agent))
        self._ids[tenant] += [each.record.id for each in told]

    async def _read(self) -> None:
        tenant, agent = self._chance.choice(self._tenants), self._chance.choice(AGENTS)
        ask = self._chance.choice((self._recall, self._recall, self._recall, self._by_id, self._line, self._other))
        try:
            answer = await ask(tenant, _caller(tenant, agent))
        except StorageError:
            raise
        except HanseError as error:
            self.counts["refused"] += 1
            answer = _text(error.to_data())
        self._look(tenant, agent, answer, "read")

    async def _recall(self, tenant: str, caller: Caller) -> str:
        found = await self._service.recall(self._query(tenant), caller)
        self.counts["hits"] += len(found.hits)
        return found.model_dump_json()

    async def _by_id(self, tenant: str, caller: Caller) -> str:
        """A record by an id: one's own, anybody's, or none at all."""
        ids = self._ids[self._chance.choice(self._tenants)] or [""]
        id = self._chance.choice([self._chance.choice(ids), self._chance.choice(HOSTILE), f"{ids[-1]}@1"])
        if self._chance.random() < 0.5:
            return (await self._service.get(id, caller)).model_dump_json()
        return "".join(each.model_dump_json() for each in await self._service.history(id, caller))

    async def _line(self, tenant: str, caller: Caller) -> str:
        episode = self._chance.choice([None, canary(tenant), self._mark(), self._chance.choice(HOSTILE)])
        line = await self._service.timeline(caller, episode=episode, limit=20)
        return "".join(each.model_dump_json() for each in line)

    async def _other(self, tenant: str, caller: Caller) -> str:
        """Verbs, and writes that only somebody else may do."""
        verb = self._chance.choice(("stats", "export", "grants", "audit", *HOSTILE))
        if self._chance.random() < 0.3:
            ids = self._ids[self._chance.choice(self._tenants)] or [""]
            revised = await self._service.revise(self._chance.choice(ids), Change(importance=0.1), caller, version=99)
            return revised.model_dump_json()
        return _text(await self._service.tell(verb, {"limit": 20}, caller))

    def _query(self, tenant: str) -> Query:
        """Words, filters and moments, half of them another's or an attack."""
        chance, anybody = self._chance, (self._mark, lambda: canary(tenant), lambda: chance.choice(HOSTILE))

        def some(share: float) -> tuple[str, ...]:
            return tuple(chance.choice(anybody)() for _ in range(2)) if chance.random() < share else ()

        payload: dict[str, Any] = {}
        if chance.random() < 0.3:
            payload[chance.choice(("mark", "status", *HOSTILE))] = chance.choice(anybody)()
        if chance.random() < 0.2:
            payload["cents"] = {"gte": chance.randrange(1000)}
        words = " ".join(chance.choice([*WORDS, self._mark(), chance.choice(HOSTILE)]) for _ in range(3))
        return Query(
            text=chance.choice(("", words, words, words)),
            limit=chance.choice((1, 10, 50)),
            subjects=some(0.1),
            episodes=some(0.1),
            owners=some(0.1),
            labels=some(0.1)[:1],
            without_labels=some(0.1),
            payload=payload,
            as_of_ms=int(time.time() * 1000) - chance.randrange(20_000) if chance.random() < 0.05 else None,
            include_quarantined=chance.random() < 0.5,
        )

    def _mark(self) -> str:
        return canary(self._chance.choice(self._tenants))

    def _text(self, tenant: str) -> str:
        """Something new: what was said already would be merged."""
        words = " ".join(self._chance.choice(WORDS) for _ in range(5))
        return f"{canary(tenant)} {words} number {self._chance.randrange(1 << 40)}"

    def _look(self, tenant: str, agent: str, text: str, where: str) -> None:
        """Finds another's word in what was given. What was asked for may come back in an error."""
        own = {canary(tenant), private(tenant, agent)}
        for mark in set(_MARK.findall(text)) - own:
            self.foreign.append(f"{where}: {tenant!r} saw {mark}")


def _text(answer: Any) -> str:
    return json.dumps(answer, default=str, ensure_ascii=False)


def _caller(tenant: str, agent: str) -> Caller:
    return Caller.model_validate({"tenant": tenant, "by": agent, "agent": agent})


async def live(
    folder: Path, tenants: int, records: int, reads: int, seconds: float, seed: int, readers: int = 0
) -> dict[str, Any]:
    """One life of the memory: as many reads as are left, or as much time."""
    clock = SystemClock()
    store = SqliteStore.open(folder / "memory.sqlite", "memory", secure_delete=True)
    journal = Journal(store, clock, lambda error: None)
    service = MemoryService(
        store,
        journal,
        clock,
        SystemEntropy(),
        HashedWords(),
        parts(clock),
        settings=Settings(open_tenants=max(2, tenants // 2)),
        scrubber=store,
        snapshots=Snapshots(folder / "snapshots", b"k" * 32),
    )
    await service.start()
    chance = random.Random(seed)
    async with readers_of(folder / "memory.sqlite", service, readers) as beside:
        reader = Reader(Beside(service, beside, chance), names(tenants), records, chance)
        unsound = await _unsound(service, tenants)
        await reader.prepare()
        _say({"ready": True})
        beat = asyncio.create_task(_beat(reader))
        await reader.run(seconds, reads)
        beat.cancel()
        for each in beside:
            unsound += await _unsound(each, tenants)
    await service.stop()
    await journal.stop()
    await store.close()
    return {**reader.counts, "foreign": reader.foreign[:20], "unsound": unsound, "over": True}


async def _unsound(memory: MemoryService | MemoryReader, tenants: int) -> list[str]:
    """Of whom the indexes are not what the log has."""
    found = [(tenant, await memory.check(Tenant(tenant))) for tenant in names(tenants)]
    return [f"{tenant!r}: {differences}" for tenant, differences in found if any(differences.values())]


async def _beat(reader: Reader) -> None:
    """Says now and again how far it is, because the end may never come."""
    while True:
        await asyncio.sleep(0.2)
        _say({**reader.counts, "foreign": reader.foreign[:20]})


def _say(data: dict[str, Any]) -> None:
    print(json.dumps(data), flush=True)


class Lives:
    """One process after the other over the same files, all but the last of them killed."""

    def __init__(self, worker: int, arguments: Sequence[str], reads: int, kills: int, progress: Progress) -> None:
        self._arguments, self._reads, self._kills = arguments, reads, kills
        self._first_seed = 1_000_000 * worker
        self._progress = progress
        self._bar = progress.add_task(f"reads of memory {worker + 1}", total=reads)
        self.counts = Counter[str]()
        self.foreign: list[str] = []
        self.broken: list[str] = []
        """Lives that ended neither by being killed nor when all was read."""
        self._child: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """What was found until now remains."""
        self._reads = 0
        if self._child is not None:
            self._child.kill()

    def run(self) -> None:
        while self.counts["reads"] < self._reads and not self.broken:
            self._live(self.counts["lives"] < self._kills)

    def _live(self, killed: bool) -> None:
        left = self._reads - self.counts["reads"]
        share = max(1, left // (self._kills - self.counts["kills"] + 1)) if killed else left
        self.counts["lives"] += 1
        seed = str(self._first_seed + self.counts["lives"])
        command = [sys.executable, "-m", "hanse.benchmarks.tenancy", "--life", seed, *self._arguments]
        with subprocess.Popen([*command, "--reads", str(left)], stdout=subprocess.PIPE, text=True) as child:
            self._child = child
            last = self._watch(child, lambda said: killed and said.get("reads", 0) >= share)
        for name in ("reads", "writes", "hits", "refused"):
            self.counts[name] += last.get(name, 0)
        self.foreign += [*last.get("foreign", []), *last.get("unsound", [])]
        if self._reads and not (last.get("over") or (killed and child.returncode == -signal.SIGKILL)):
            self.broken.append(f"life {seed} ended by itself: {child.returncode}")

    def _watch(self, child: "subprocess.Popen[str]", enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What it said last."""
        last: dict[str, Any] = {}
        assert child.stdout is not None
        for line in child.stdout:
            last = json.loads(line)
            self._progress.update(self._bar, completed=self.counts["reads"] + last.get("reads", 0))
            if enough(last) and not last.get("over"):
                child.kill()
                self.counts["kills"] += 1
                break
        return last


def measure(
    reads: int, tenants: int, records: int, kills: int, folder: Path, workers: int = 1, readers: int = 0
) -> dict[str, Any]:
    """What came of so many reads. Beats are counted as they are heard: what came after the last one was not read."""
    started = time.perf_counter()
    sizes = ["--tenants", str(tenants), "--records", str(records), "--readers", str(readers)]
    with Progress(transient=True) as progress, ThreadPoolExecutor(workers) as threads:
        lives = [
            Lives(
                worker,
                ["--folder", str(folder / str(worker)), *sizes],
                _part(reads, worker, workers),
                _part(kills, worker, workers),
                progress,
            )
            for worker in range(workers)
        ]
        try:
            list(threads.map(Lives.run, lives))
        except KeyboardInterrupt:
            for each in lives:
                each.stop()
    foreign = [text for each in lives for text in each.foreign]
    broken = [text for each in lives for text in each.broken]
    counts = Counter[str]()
    for each in lives:
        counts.update(each.counts)
    seconds = round(time.perf_counter() - started, 1)
    return {
        "row": {"tenants": workers * tenants, **counts, "foreign": len(foreign), "seconds": seconds},
        "foreign": foreign[:20],
        "broken": broken,
    }


def _part(whole: int, worker: int, workers: int) -> int:
    return whole // workers + (worker < whole % workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--records", type=int, default=30, help="that each tenant has")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="memories side by side, each in a process of its own")
    parser.add_argument("--readers", type=int, default=0, help="of each memory, who answer most of what is asked")
    parser.add_argument("--folder", type=Path, help="where the memory lies; a temporary one when left out")
    parser.add_argument("--life", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.life is not None:
        calm_collector()
        sizes = (options.tenants, options.records, options.reads)
        _say(asyncio.run(live(options.folder, *sizes, 1e9, options.life, options.readers)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        sizes = (options.reads, options.tenants, options.records, options.kills)
        found = measure(*sizes, folder, options.workers, options.readers)
    wrong = {name: found[name] for name in ("foreign", "broken")}
    show("tenancy", [found["row"]], **wrong)
    if any(wrong.values()):
        raise SystemExit("\n".join([*wrong["foreign"], *wrong["broken"]]))


if __name__ == "__main__":
    main()
