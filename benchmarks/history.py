"""Does a long journal slow work down? Steps per second over a journal of a thousand events and of a million."""

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from ..contracts import Kind, TaskId, Write
from ..contracts.ids import uuid7
from ..runtime.federation import Federation
from ..runtime.journal import Journal
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock, SystemEntropy
from .machine import show
from .steps import AGENTS, measure, plan

PER_TASK = 22
"""Events of a task of ten steps."""
AWARD = {
    "agent": "north",
    "version": "1.0",
    "attempt": 1,
    "award": "",
    "price_cents": 0,
    "reason": "north is the only one who may",
    "bids": [],
    "input": "",
    "rule": "automatic",
    "approval": None,
}
DONE = {"agent": "north", "attempt": 1, "latency_ms": 1, "replayed": False}


async def fill(data: Path, events: int) -> None:
    """Writes the history of finished tasks, as the coordinator would have."""
    store = SqliteStore.open(data / "coordinator-0.sqlite", "journal")
    clock, entropy, chain = SystemClock(), SystemEntropy(), plan(10)
    journal = Journal(store, clock, _raise)
    for _ in track(range(events // PER_TASK), description=f"{events:,} events", transient=True):
        _task(journal, TaskId(uuid7(clock.now_ms(), entropy.bytes(8))), chain)
        await journal.durable()
    await store.close()


def _raise(error: BaseException) -> None:
    raise error


def _task(journal: Journal, task: TaskId, chain: Any) -> None:
    now = 1
    submitted = {"tenant": "default", "body": "", "by": "", "plan": chain, "input": None, "pins": {}}
    journal.append(Kind.TASK_SUBMITTED, task, None, submitted)
    journal.write(Write("insert_task", (task, "default", None, "", "completed", now, now)))
    for step in chain["steps"]:
        journal.append(Kind.STEP_AWARDED, task, step["id"], AWARD)
        journal.append(Kind.STEP_COMPLETED, task, step["id"], DONE | {"output": step["input"]})
    journal.append(Kind.TASK_COMPLETED, task, None, {"output": 10, "cost_cents": 0})


async def rate(data: Path, options: argparse.Namespace) -> float:
    async with Federation.local(agents=AGENTS, data=data) as federation:
        await measure(federation, 200, 10, options.concurrency)
        row = await measure(federation, options.tasks, 10, options.concurrency)
        return row["steps_per_second"]


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The two journals take turns, so that what else the machine does meets both."""
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    rates: dict[int, list[float]] = {events: [] for events in options.events}
    filled: dict[int, float] = {}
    try:
        for events in options.events:
            started = time.perf_counter()
            await fill(folder / str(events), events)
            filled[events] = time.perf_counter() - started
        for _ in range(options.rounds):
            for events in options.events:
                rates[events].append(await rate(folder / str(events), options))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first = rates[options.events[0]]
    return [
        {
            "events": events,
            "steps_per_second": median(found),
            "ratio": median(found) / median(first),
            "best": max(found),
            "ratio_of_best": max(found) / max(first),
            "rounds": len(found),
        }
        for events, found in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=_numbers, default=[1_000, 1_000_000])
    parser.add_argument("--tasks", type=int, default=1500)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=".", help="where the stores lie; a real disk")
    show("history", asyncio.run(run(parser.parse_args())))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
