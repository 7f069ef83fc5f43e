"""Durable steps per second: sequential steps, 300-byte payload, three agents in three processes, on real Ray.

Every step is on disk twice before the next begins: its award in the coordinator's journal before the call leaves, its
state change and receipt in the agent's store before the answer does.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..agents import Agent, Context
from ..contracts import Submission, TaskStatus, capability
from ..runtime.federation import Federation
from .machine import percentile, show

PAYLOAD = "x" * 300


class Parcel(BaseModel):
    number: int
    payload: str


class _Depot(Agent):
    """Keeps the last parcel of each step."""

    @capability(version="1.0", effect="reversible", compensation="take_back", latency_ms=1)
    async def put(self, request: Parcel, context: Context) -> Parcel:
        """Keep a parcel and hand it on, one number higher."""
        await context.state.put("parcel", context.idempotency_key, {"payload": request.payload})
        return Parcel(number=request.number + 1, payload=request.payload)

    @capability(version="1.0", effect="reversible", compensation="put", latency_ms=1)
    async def take_back(self, request: Parcel, context: Context) -> Parcel:
        """Forget a parcel."""
        await context.state.delete("parcel", context.idempotency_key)
        return request


class North(_Depot):
    """One of three depots."""

    domain = "north"


class South(_Depot):
    """One of three depots."""

    domain = "south"


class East(_Depot):
    """One of three depots."""

    domain = "east"


AGENTS = (North, South, East)


def plan(steps: int) -> dict[str, Any]:
    """A chain: each step takes the parcel of the one before it."""
    chain: list[dict[str, Any]] = []
    for i in range(steps):
        before = {"$from": f"s{i - 1}"} if i else {"number": 0, "payload": PAYLOAD}
        chain.append({"id": f"s{i}", "call": f"{AGENTS[i % 3].domain}.put", "input": before})
    return {"steps": chain, "output": {"$from": f"s{steps - 1}.number"}}


async def measure(federation: Federation, tasks: int, steps: int, concurrency: int) -> dict[str, Any]:
    """Runs `tasks` of `steps` each, `concurrency` at a time."""
    chain, left, times = plan(steps), iter(range(tasks)), list[float]()

    async def worker() -> None:
        for _ in left:
            started = time.perf_counter()
            view = await federation.client.submit(Submission(plan=chain))
            view = await federation.client.wait(view.id, 120)
            assert view.status is TaskStatus.COMPLETED, view
            assert view.output == steps
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    seconds = time.perf_counter() - started
    return {
        "concurrency": concurrency,
        "tasks": tasks,
        "steps": steps,
        "steps_per_second": tasks * steps / seconds,
        "ms_per_step_p50": percentile(times, 0.5) / steps * 1000,
        "task_ms_p99": percentile(times, 0.99) * 1000,
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        async with Federation.local(agents=AGENTS, data=folder / "data", **_sections(options.store)) as federation:
            await measure(federation, 20, options.steps, 4)
            rows: list[dict[str, Any]] = []
            for concurrency in options.concurrency:
                tasks = options.tasks or max(30, min(40 * concurrency, 3000))
                rows.append(await measure(federation, tasks, options.steps, concurrency))
            return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sections(store: str) -> dict[str, Any]:
    """A federation of its own each time, so that nothing of the last one is found in the database."""
    return {"store": {"url": store}, "federation": {"name": f"steps-{os.urandom(4).hex()}"}} if store else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=0, help="tasks per row; 0 takes as many as the row needs")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--concurrency", type=_numbers, default=[1, 64, 256], help="such as 1,64,256")
    parser.add_argument("--store", default="", help="address of a PostgreSQL database, in place of files")
    parser.add_argument("--folder", default=".", help="where the stores lie; a real disk")
    rows = asyncio.run(run(parser.parse_args()))
    show("steps", rows)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
