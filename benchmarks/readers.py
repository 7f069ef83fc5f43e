"""What readers of the memory give: recalls while somebody writes, with the shard alone and with readers beside it.

    python -m hanse.benchmarks.readers --readers 0 1 2 --records 2000 --seconds 5

Shard and readers are processes of their own, as in a federation, reached over their sockets and without Ray; each has
the real embedder, index and gate. Callers ask one after the other, so many at once, and one writer remembers one text
after the other meanwhile. With fewer cores than processes they take them from one another, and readers give nothing;
what can be seen then too is how much processor time of the shard a recall takes, when nobody writes.
"""

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ..contracts import Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Draft, Query
from ..runtime.actors import calm_collector
from ..runtime.assembly import World
from ..runtime.client import Shard
from ..runtime.config import Configuration
from ..runtime.link import Link, Receiver, dial, listen, socket_path
from ..runtime.memory_client import MemoryClient, memory_name, reader_name
from ..runtime.memory_part import MemoryPart
from ..runtime.memory_reader_part import MemoryReaderPart
from ..runtime.memory_readers import Readers
from .embedder import _shipped_texts as shipped_texts
from .machine import percentile, show

CALLER = Caller(tenant=Tenant("benchmark"), by="benchmark")
BATCH = 100
"""Texts that are remembered at once before anything is measured."""
ALONE = 100
"""Recalls, one after the other, of which the shard's processor time is taken."""
PATIENCE_SECONDS = 60.0


def way(data: Path, name: str, patience: float) -> Shard:
    async def to_process(receiver: Receiver) -> Link:
        return await dial(socket_path(data, name), receiver)

    return Shard(to_process, patience, whom=name)


def configured(data: Path, readers: int = 0) -> Configuration:
    return Configuration.for_agents([], data=data, memory={"readers": readers})


async def serve(data: Path, name: str) -> None:
    """The shard, or one of its readers, until its input ends."""
    configuration, world = configured(data), World.real()
    if name == memory_name(0):
        part: Any = MemoryPart(configuration, world, _fail)
    else:
        part = MemoryReaderPart(configuration, world, _fail, shard=0, way=way(data, memory_name(0), PATIENCE_SECONDS))
    receiver = await part.start()
    await listen(socket_path(data, name), lambda link: receiver)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await part.stop()


def _fail(error: BaseException) -> None:
    print(f"failed: {error}", file=sys.stderr)
    os._exit(1)


@asynccontextmanager
async def process(data: Path, name: str) -> AsyncIterator[int]:
    """Its id. Ready when this begins, over when it ends."""
    command = [sys.executable, "-m", "hanse.benchmarks.readers", "--folder", str(data), "--serve", name]
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        await _ready(child, name)
        yield child.pid
    finally:
        await child.communicate(b"")  # the end of its input


async def _ready(child: Process, name: str) -> None:
    assert child.stdout is not None
    if (await child.stdout.readline()).strip() != b"ready":
        raise SystemExit(f"{name} did not start")


@asynccontextmanager
async def memory_with(data: Path, readers: int) -> AsyncIterator[MemoryClient]:
    """A client that has a link to every reader, each of which has the tenant open."""
    async with AsyncExitStack() as stack:
        names = [reader_name(0, number) for number in range(readers)]
        for name in names:
            await stack.enter_async_context(process(data, name))
        ways = [way(data, name, 0) for name in names]
        client = MemoryClient([way(data, memory_name(0), PATIENCE_SECONDS)], [Readers(ways)] if ways else ())
        stack.push_async_callback(client.close)
        for each in ways:
            await each.reach()
            query = {"query": {"text": "open"}, "caller": {}}
            await each.ask("recall", CALLER.tenant, CALLER.by, query)
        yield client


async def filled(data: Path, records: int) -> None:
    async with memory_with(data, 0) as client:
        while (await client.recall(Query(text="is it there"), CALLER)).degraded:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.2)
        texts = [_text(number) for number in range(records)]
        for start in range(0, records, BATCH):
            await client.remember([Draft(text=text) for text in texts[start : start + BATCH]], CALLER)


@cache
def _said() -> list[str]:
    return shipped_texts()


def _text(number: int) -> str:
    """As people say it, and never the same."""
    said, chance = _said(), random.Random(number)
    return f"{chance.choice(said)} {chance.choice(said)} r{number}"


def processor_ms(pid: int) -> float:
    """That a process has used until now, in all its threads."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text(encoding="ascii").split()[0]) for each in threads) / 1e6


async def measure(data: Path, shard: int, readers: int, callers: int, seconds: float, numbers: Any) -> dict[str, Any]:
    async with memory_with(data, readers) as client:
        questions, until = itertools.cycle(_said()[-500:]), time.monotonic() + seconds
        recalls, writes = list[float](), list[float]()

        async def ask() -> None:
            while (began := time.monotonic()) < until:
                await client.recall(Query(text=next(questions), limit=10), CALLER)
                recalls.append(1000 * (time.monotonic() - began))

        async def write() -> None:
            while (began := time.monotonic()) < until:
                await client.remember([Draft(text=_text(next(numbers)))], CALLER)
                writes.append(1000 * (time.monotonic() - began))

        await asyncio.gather(write(), *(ask() for _ in range(callers)))
        used = processor_ms(shard)
        for question in itertools.islice(questions, ALONE):
            await client.recall(Query(text=question, limit=10), CALLER)
        used = processor_ms(shard) - used
    return {
        "readers": readers,
        "recalls_per_s": len(recalls) / seconds,
        "recall_ms_p50": percentile(recalls, 0.5),
        "recall_ms_p99": percentile(recalls, 0.99),
        "writes_per_s": len(writes) / seconds,
        "write_ms_p50": percentile(writes, 0.5),
        "shard_ms_per_recall": used / ALONE,
    }


async def measure_all(counts: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as temporary:
        data, numbers = options.folder or Path(temporary), itertools.count(1_000_000)
        async with process(data, memory_name(0)) as shard:
            await filled(data, options.records)
            how = (options.callers, options.seconds, numbers)
            return [await measure(data, shard, count, *how) for count in counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, nargs="+", default=[0, 1, 2], help="beside the shard, one row each")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=16, help="who ask at once")
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    parser.add_argument("--folder", type=Path, help="where the memory lies; a temporary one when left out")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    calm_collector()
    if options.serve:
        asyncio.run(serve(options.folder, options.serve))
        return
    show("readers", asyncio.run(measure_all(options.readers, options)), records=options.records)


if __name__ == "__main__":
    main()
