"""What one durable step cannot do without, each thing measured alone, beside what `steps` takes: how much of a step is
named, and how much is the federation's own Python between.

`floor` leaves a federation out and measures what remains, in wall-clock time. Here nothing is left out and nothing runs
together: each part is done again and again with bare libraries (msgpack, SQLite, SHA-256, pydantic, the event loop), in
the sizes and batches of `steps` at 256, and what it takes of a processor is counted. Then `steps` runs, and what its
processes took is counted too, and then the parts once more. So both come from the same minutes of the same machine.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgpack
import orjson
import uvloop
from pydantic import BaseModel, TypeAdapter

from ..contracts import Write
from ..runtime.audit import Signer
from ..runtime.audit.anchors import FileAnchor
from ..runtime.audit.merkle import Tree, leaf_hash
from ..runtime.federation import Federation
from ..runtime.outbox import BATCH
from ..runtime.store import SqliteStore
from .machine import processor_seconds, show
from .steps import AGENTS, PAYLOAD, measure

STEPS_A_TASK = 10
ENTRIES = 2 + 2 / STEPS_A_TASK
"""In the journal for each step: its award and its outcome, and a part of its task's beginning and end."""
STEPS_A_COMMIT = 64
"""At the coordinator, when 256 tasks are under way: two batches of results that have come in meanwhile."""
HEAD_ENTRIES = 100
"""Between two heads of the journal."""
SUMS = ("all of these", "what `steps` takes", "the rest: decisions, in Python")

TASK = "01a20666-3a74-7000-999c-143cb7d75639"
INPUT = {"number": 7, "payload": PAYLOAD}
DIGEST = "sha256:" + "0" * 64
CAVEATS = {
    "task": TASK,
    "step": "s7",
    "capability": "south.put",
    "tenant": "default",
    "input": DIGEST,
    "before": 1_800_000_000_000,
    "cents": 0.0,
}
KEY = hmac.new(b"k" * 32, digestmod="sha256")
BLOCK = msgpack.packb(CAVEATS)
CALL = (f"{TASK}/s7#1", f"{TASK}/s7", "south", TASK, "s7", "default", "south.put", INPUT, [[BLOCK], bytes(32)], 1)
RESULT = (f"{TASK}/s7#1", INPUT, None, 1.25, False, 0, 0, None)
BID = {"agent": "south", "version": "1.0", "price_cents": 0.0, "latency_ms": 1.0, "queue_depth": 12, "confidence": 1.0}
AWARDED = (
    *(7, 1, 1_800_000_000_000, "step.awarded", TASK, "s7"),
    {"agent": "south", "version": "1.0", "attempt": 1, "award": f"{TASK}/s7#1", "price_cents": 0.0, "bids": [BID]}
    | {"reason": "south is the only one who may", "input": DIGEST, "rule": "no rule", "approval": None}
    | {"weights": None, "reserved": None, "before": 1_800_000_000_000},
)
COMPLETED = (
    *(8, 1, 1_800_000_000_000, "step.completed", TASK, "s7"),
    {"agent": "south", "attempt": 1, "output": INPUT, "latency_ms": 1.25, "replayed": False}
    | {"model_cents": 0, "model_tokens": 0},
)
PACKED = [msgpack.packb(AWARDED), msgpack.packb(COMPLETED)]


class Parcel(BaseModel):
    """As the agents of `steps` have it."""

    number: int
    payload: str


@dataclass(frozen=True, slots=True)
class Part:
    """Something that each step needs: what it takes once, in microseconds of a processor, and how often a step needs it
    in the coordinator and in an agent.
    """

    what: str
    micros: float
    coordinator: float = 0
    agent: float = 0

    def row(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "once_us": self.micros,
            "coordinator_us": self.micros * self.coordinator,
            "agents_us": self.micros * self.agent,
        }


def alone(work: Callable[[], Any], times: int = 2000, rounds: int = 7) -> float:
    """Microseconds of a processor for one go: the least of some rounds, since others are on the machine too."""

    def a_round() -> float:
        started = time.process_time()
        for _ in range(times):
            work()
        return time.process_time() - started

    return min(a_round() for _ in range(rounds)) / times * 1e6


async def awaited(work: Callable[[], Awaitable[Any]], times: int = 60, rounds: int = 7) -> float:
    """The same of something to wait for, other threads of this process included."""
    least = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(times):
            await work()
        least = min(least, time.process_time() - started)
    return least / times * 1e6


# The parts


def messages() -> Iterator[Part]:
    """There and back, in batches."""
    calls, results = [CALL] * BATCH, [RESULT] * BATCH
    packed_calls, packed_results = msgpack.packb(calls), msgpack.packb(results)
    yield Part("a call into msgpack", alone(lambda: msgpack.packb(calls), 200) / BATCH, coordinator=1)
    yield Part("a call out of msgpack", alone(lambda: msgpack.unpackb(packed_calls), 200) / BATCH, agent=1)
    yield Part("a result into msgpack", alone(lambda: msgpack.packb(results), 200) / BATCH, agent=1)
    yield Part("a result out of msgpack", alone(lambda: msgpack.unpackb(packed_results), 200) / BATCH, coordinator=1)


async def wakeups(folder: Path) -> Iterator[Part]:
    """What the event loop takes: to carry a batch over a socket, and to run a task that waits once for the disk."""
    frame = bytes(len(msgpack.packb([CALL] * BATCH)))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 18):
            writer.write(data)
        writer.close()

    server = await asyncio.start_unix_server(echo, folder / "socket", limit=1 << 18)
    reader, writer = await asyncio.open_unix_connection(folder / "socket", limit=1 << 18)

    async def there_and_back() -> None:
        writer.write(frame)
        await reader.readexactly(len(frame))

    round_trip = await awaited(there_and_back)
    writer.close()
    server.close()
    await server.wait_closed()
    loop = asyncio.get_running_loop()

    async def handler(on_disk: asyncio.Future[None]) -> None:
        await on_disk

    async def a_batch_of_tasks() -> None:
        on_disk = [loop.create_future() for _ in range(BATCH)]
        tasks = [loop.create_task(handler(each)) for each in on_disk]
        await asyncio.sleep(0)
        for each in on_disk:
            each.set_result(None)
        await asyncio.gather(*tasks)

    share = 1 / BATCH
    return iter(
        [
            Part(f"half a socket's round trip, {BATCH} at once", round_trip / 2, coordinator=share, agent=share),
            Part("a task that waits once", await awaited(a_batch_of_tasks) / BATCH, agent=1),
        ]
    )


def proofs() -> Iterator[Part]:
    """What makes a step trustworthy, less the disk: digests, the token, the chain and the tree."""
    entry, head, rows = PACKED[1], bytes(32), [bytes(32)] * 256
    signature = _signed(BLOCK)

    def checked() -> None:
        assert hmac.compare_digest(_signed(BLOCK), signature)
        assert msgpack.unpackb(BLOCK) == CAVEATS

    yield Part(
        "the digest of an input: sorted JSON, SHA-256",
        alone(lambda: hashlib.sha256(orjson.dumps(INPUT, option=orjson.OPT_SORT_KEYS)).hexdigest()),
        coordinator=1,
        agent=1,
    )
    yield Part("a token: packed and signed", alone(lambda: _signed(msgpack.packb(CAVEATS))), coordinator=1)
    yield Part("a token: checked and read", alone(checked), agent=1)
    yield Part(
        "a journal entry: packed", sum(alone(lambda e=e: msgpack.packb(e)) for e in (AWARDED, COMPLETED)) / 2, ENTRIES
    )
    yield Part("a journal entry: chained", alone(lambda: hashlib.sha256(head + entry).digest()), ENTRIES)
    tree = alone(lambda: Tree().extend(map(leaf_hash, [entry] * len(rows))), 20) / len(rows)
    yield Part("a journal entry: leaf of the tree", tree, ENTRIES)


def _signed(block: bytes) -> bytes:
    signed = KEY.copy()
    signed.update(block)
    return signed.digest()


def types() -> Iterator[Part]:
    """From plain data to the handler's types and back."""
    adapter, parcel = TypeAdapter(Parcel), Parcel(number=7, payload=PAYLOAD)
    yield Part("an input, validated", alone(lambda: adapter.validate_python(INPUT)), agent=1)
    yield Part("an output, made and dumped", alone(lambda: _made(adapter, parcel)), agent=1)
    yield Part("what is kept, into msgpack", alone(lambda: msgpack.packb(INPUT)), agent=2)


def _made(adapter: TypeAdapter[Parcel], parcel: Parcel) -> Any:
    return adapter.dump_python(Parcel(number=parcel.number + 1, payload=parcel.payload), mode="json")


async def disk(folder: Path) -> Iterator[Part]:
    """Rows, index, commit and sync: what SQLite and the thread that waits for the disk take."""
    journal, agent = (SqliteStore.open(folder / f"{name}.sqlite", name) for name in ("journal", "agent"))
    signer, anchor, tree = Signer("parts", bytes(32)), FileAnchor(folder / "heads"), Tree()
    numbers, entries = count(1), round(STEPS_A_COMMIT * ENTRIES)

    def taken(count: int) -> list[int]:
        return list(islice(numbers, count))

    async def journal_commit() -> None:
        rows = [(each, _task(each, STEPS_A_TASK * ENTRIES), PACKED[each & 1], bytes(32)) for each in taken(entries)]
        await journal.commit([Write("insert_entry", row) for row in rows])

    async def agent_commit() -> None:
        writes: list[Write] = []
        for number in taken(BATCH):
            key, output = f"{_task(number, STEPS_A_TASK / len(AGENTS))}/s{number}", PACKED[1][-340:]
            writes.append(Write("write_state", ("parcel", key, output, number)))
            writes.append(Write("insert_receipt", (key, "south.put", DIGEST, output, f"{key}#1", number)))
        await agent.commit(writes)

    async def a_head() -> None:
        tree.extend([bytes(32)] * HEAD_ENTRIES)
        await anchor.keep(signer.sign("coordinator-0", tree.size, bytes(32), tree.root, 1_800_000_000_000))

    parts = [
        Part("a journal entry: its row on disk", await awaited(journal_commit) / entries, coordinator=ENTRIES),
        Part("state and receipt: their rows on disk", await awaited(agent_commit) / BATCH, agent=1),
        Part("a head of the journal, signed and on disk", await awaited(a_head), coordinator=ENTRIES / HEAD_ENTRIES),
    ]
    await anchor.close()
    for store in (journal, agent):
        await store.close()
    return iter(parts)


def _task(number: int, rows: float) -> str:
    """Of a row: 256 tasks at once, in no order, until each has so many rows, then the next ones."""
    generation, place = divmod(number, round(256 * rows))
    return f"{TASK[:24]}{generation * 256 + place * 77 % 256:012x}"


async def all_parts(folder: Path) -> list[Part]:
    folder.mkdir()
    return [*messages(), *await wakeups(folder), *proofs(), *types(), *await disk(folder)]


# Beside a federation


def _less(one: Part, other: Part) -> Part:
    """Of what was measured twice: a machine that others use is slower for whole seconds."""
    return one if one.micros < other.micros else other


async def taken_by_steps(folder: Path, concurrency: int, tasks: int, rounds: int) -> dict[str, float]:
    """Microseconds of a processor for each step of `steps`, by kind of process: the least of some rounds."""
    least: dict[str, float] = {}
    async with Federation.local(agents=AGENTS, data=folder / "data") as federation:
        await measure(federation, 300, STEPS_A_TASK, concurrency)
        for _ in range(rounds):
            before = _by_kind()
            await measure(federation, tasks, STEPS_A_TASK, concurrency)
            for kind, seconds in _by_kind().items():
                micros = (seconds - before.get(kind, 0.0)) / tasks / STEPS_A_TASK * 1e6
                least[kind] = min(micros, least.get(kind, micros))
    return least


def _by_kind() -> dict[str, float]:
    sums: dict[str, float] = {"coordinator": 0.0, "agents": 0.0, "others": 0.0}
    for pid, title, seconds in processor_seconds(os.getpid()):
        if pid == os.getpid():
            sums["client"] = seconds
        elif "_CoordinatorProcess" in title:
            sums["coordinator"] += seconds
        elif "_HostProcess" in title:
            sums["agents"] += seconds
        else:
            sums["others"] += seconds
    return sums


def rows_of(parts: list[Part], took: dict[str, float]) -> list[dict[str, Any]]:
    """The parts, their sum, what `steps` took, and what is left over."""
    rows = [part.row() for part in parts]
    sums = {side: sum(row[side] for row in rows) for side in ("coordinator_us", "agents_us")}
    whole = {"coordinator_us": took["coordinator"], "agents_us": took["agents"]}
    rest = {side: whole[side] - sums[side] for side in sums}
    for what, row in zip(SUMS, (sums, whole, rest), strict=True):
        rows.append({"what": what, "once_us": sum(row.values()), **row})
    return rows


def run(options: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        before = uvloop.run(all_parts(folder / "before"))
        took = asyncio.run(taken_by_steps(folder, options.concurrency, options.tasks, options.rounds))
        parts = [*map(_less, before, uvloop.run(all_parts(folder / "after")))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show("parts", rows_of(parts, took), client_us=took["client"], others_us=took["others"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--tasks", type=int, default=1500, help="of each round of steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=".", help="where the stores lie; a real disk")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
