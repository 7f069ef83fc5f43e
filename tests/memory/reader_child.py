"""The processes that `test_reader_crash` kills: one that writes a shard and says what it has acknowledged, and a reader
that answers each line with what it finds."""

import asyncio
import sys
from pathlib import Path

from hanse.contracts.memory import Draft, Query
from tests.memory.plain import ann, memory
from tests.memory.test_reader import reader_of


def say(*words: object) -> None:
    print(*words, flush=True)


async def write(folder: Path) -> None:
    """For ever. Every third record is forgotten again."""
    async with memory(folder / "m.sqlite") as service:
        for number in range(1_000_000):
            [told] = await service.remember([Draft(text=f"lamp number {number} of {id(service)}")], ann())
            if number % 3 < 2:
                say("kept", told.record.id)
            else:
                await service.forget([told.record.id], ann())
                say("forgot", told.record.id)


async def read(folder: Path) -> None:
    """Until its input ends."""
    async with reader_of(folder / "m.sqlite", None) as reader:
        while await asyncio.to_thread(sys.stdin.readline):
            found = await reader.recall(Query(limit=1000), ann())
            say(*(hit.record.id for hit in found.hits))


if __name__ == "__main__":
    asyncio.run({"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2])))
