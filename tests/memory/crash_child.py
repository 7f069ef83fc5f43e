"""The process that a crash test kills: a memory over its store, which does one thing and says so.

`HANSE_CRASH_AT` says where it dies. What it was acknowledged is printed, line by line, before it goes on.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from hanse.contracts import IdempotencyKey
from hanse.contracts.memory import Change, Draft, Layer, Provenance
from hanse.memory import restoring
from hanse.memory.service import MemoryService
from hanse.runtime.world import faults_from_environment
from tests.memory.plain import Clock, ann, memory

MANY = 30
SECRET = "zqsecretword"


def say(*words: Any) -> None:
    print(*words, flush=True)


async def prepare(service: MemoryService) -> None:
    """What every life begins with: some records, one revised, and two with something derived, of which one expires."""
    told = await service.remember([Draft(text=f"record number {i}") for i in range(MANY)], ann())
    await service.revise(told[0].record.id, Change(text="record number zero"), ann(), version=1)
    [root] = await service.remember([Draft(text=f"{SECRET} root", episode="root")], ann())
    sources = Provenance(derived_from=(root.record.id,))
    await service.remember([Draft(text=f"{SECRET} derived", provenance=sources, episode="derived")], ann())
    soon = Draft(text="soon over", layer=Layer.WORKING, ttl_seconds=1, episode="soon", subject="soon")
    [short] = await service.remember([soon], ann())
    sources = Provenance(derived_from=(short.record.id,))
    await service.remember([Draft(text="made of what ends", provenance=sources)], ann())
    await service.tell("snapshot", {}, ann())
    say("prepared", root.record.id, told[0].record.id)


async def act(service: MemoryService, what: str, root: str, first: str, clock: Clock) -> None:
    match what:
        case "remember":
            drafts = [Draft(text=f"another one {i}") for i in range(3)]
            await service.remember(drafts, ann(), key=IdempotencyKey("key"))
        case "revise":
            await service.revise(first, Change(text="record number null"), ann(), version=2)
        case "forget":
            await service.forget([root], ann())
            await service.tell("compact", {}, ann())
        case "expire":
            clock.ms += 2000
            await service.upkeep._expire()
        case "restore":
            restoring.BATCH = 10
            await service.tell("restore", {}, ann())
        case "snapshot":
            await service.tell("snapshot", {}, ann())
        case _:
            await service.tell("rebuild", {}, ann())
    say("done")


def place_of(folder: Path, database: str, what: str) -> str | Path:
    """Where the records are: in a file of the folder, or in a database where there is one."""
    name = "new" if what == "restore" else "m"
    return f"{database}#{name}" if database else folder / f"{name}.sqlite"


async def main(folder: Path, database: str, what: str) -> None:
    clock = Clock()
    faults = None if what == "prepare" else faults_from_environment()
    async with memory(place_of(folder, database, what), clock=clock, snapshots=folder / "s", faults=faults) as service:
        if what == "prepare":
            await prepare(service)
        else:
            await act(service, what, sys.argv[4], sys.argv[5], clock)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
