"""Durable calls per second of one agent alone: token, receipt, handler, admission, commit with fsync; no Ray, no links.

The workload is that of `steps`: a 300-byte payload kept in the agent's state. `bare commit` is the floor: the same two
rows written by the store with nothing around them. Processor time is of the whole process, so it can be read on a
machine that has other things to do.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import uvloop
from pydantic import BaseModel

from ..agents import Agent, Context, Engine
from ..contracts import (
    AgentId,
    AwardId,
    CapabilityName,
    IdempotencyKey,
    StepId,
    TaskId,
    Tenant,
    Write,
    capability,
    digest,
)
from ..contracts.messages import Call
from ..contracts.token import Key, agent_key, mint
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock, SystemEntropy
from .machine import percentile, show

PAYLOAD = "x" * 300


class Parcel(BaseModel):
    key: str
    payload: str


class Kept(BaseModel):
    bytes: int


class Depot(Agent):
    """Keeps parcels."""

    domain = "depot"

    @capability(effect="irreversible")
    async def put(self, request: Parcel, context: Context) -> Kept:
        """Keep a parcel."""
        await context.state.put("parcels", request.key, request.payload)
        return Kept(bytes=len(request.payload))

    @capability(effect="irreversible")
    async def swap(self, request: Parcel, context: Context) -> Kept:
        """Keep a parcel and look at the one before."""
        before = await context.state.get("parcels", request.key, default="")
        await context.state.put("parcels", request.key, request.payload)
        return Kept(bytes=len(before))

    @capability(effect="read")
    async def look(self, request: Parcel, context: Context) -> Kept:
        """Look at a parcel."""
        return Kept(bytes=len(await context.state.get("parcels", request.key, default="")))


def calls(key: Key, name: str, count: int, run: str) -> list[Call]:
    """Awarded steps of as many tasks, over a tenth as many parcels."""
    deadline = SystemClock().now_ms() + 3_600_000
    return [_call(key, CapabilityName(name), f"{run}-{n:08}", n % (count // 10 or 1), deadline) for n in range(count)]


def _call(key: Key, name: CapabilityName, task: str, parcel: int, deadline: int) -> Call:
    input = {"key": f"parcel-{parcel}", "payload": PAYLOAD}
    caveats = {"task": task, "step": "s0", "capability": name, "tenant": "default", "input": digest(input)}
    return Call(
        AwardId(f"{task}/s0#1"),
        IdempotencyKey(f"{task}/s0"),
        AgentId("depot"),
        TaskId(task),
        StepId("s0"),
        Tenant("default"),
        name,
        input,
        mint(key, caveats | {"before": deadline}).to_data(),
        1,
        deadline,
    )


async def measure(
    what: str, work: Callable[[Any], Awaitable[None]], items: Iterable[Any], at_once: int
) -> dict[str, Any]:
    left, times = iter(items), list[float]()

    async def worker() -> None:
        for each in left:
            started = time.perf_counter()
            await work(each)
            times.append(time.perf_counter() - started)

    started, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    seconds = time.perf_counter() - started
    return {
        "what": what,
        "concurrency": at_once,
        "per_second": len(times) / seconds,
        "ms_p50": percentile(times, 0.5) * 1000,
        "ms_p99": percentile(times, 0.99) * 1000,
        "cpu_us": (time.process_time() - busy) / len(times) * 1e6,
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    store = SqliteStore.open(folder / "depot.sqlite", "agent")
    key = agent_key(bytes(32), AgentId("depot"))
    engine = Engine(Depot(), store, key=key, clock=SystemClock(), entropy=SystemEntropy())
    await engine.start()

    async def execute(call: Call) -> None:
        result = await engine.execute(call)
        assert result.error is None, result.error

    async def commit(number: int) -> None:
        row = (f"bare-{number}", "depot.put", "", b"", "", 0)
        await store.commit(
            [Write("write_state", ("bare", str(number), PAYLOAD.encode(), 1)), Write("insert_receipt", row)]
        )

    rows: list[dict[str, Any]] = []
    numbers = iter(range(10_000_000))
    for at_once in options.concurrency:
        count = min(options.calls, 1000 * at_once)
        rows.append(await measure("bare commit", commit, (next(numbers) for _ in range(count)), at_once))
        for name in ("put", "swap", "look"):
            work = calls(key, f"depot.{name}", count, f"{name}-{at_once}")
            rows.append(await measure(name, execute, work, at_once))
    await engine.stop()
    await store.close()
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="calls per row, at most")
    parser.add_argument("--concurrency", type=_numbers, default=[1, 64, 256], help="such as 1,64,256")
    parser.add_argument("--folder", default=".", help="where the store lies; a real disk")
    show("engine", uvloop.run(run(parser.parse_args())))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
