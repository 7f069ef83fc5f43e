"""A shard and its readers in processes of their own, killed with SIGKILL (F3): whatever was acknowledged is in the next
answer of a reader, what was forgotten never is, and neither holds the other up.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hanse.contracts.memory import Draft, Query
from hanse.memory.reader import MemoryReader

from .plain import SHOP, ann, memory
from .test_erasure_on_disk import SOUND, traces
from .test_reader import reader_of

ROOT = Path(__file__).resolve().parents[2]
CHILD = "import runpy; runpy.run_module('tests.memory.reader_child', run_name='__main__')"


@asynccontextmanager
async def child(role: str, folder: Path) -> AsyncIterator[Process]:
    """Killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, role, str(folder)), stdin=PIPE, stdout=PIPE, cwd=ROOT, env=os.environ
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def said(process: Process) -> list[str]:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().split()


async def found_by(reader: MemoryReader) -> set[str]:
    return {hit.record.id for hit in (await reader.recall(Query(limit=1000), ann())).hits}


class Acknowledged:
    """What a shard has said until now."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.gone: set[str] = set()

    def hear(self, what: str, id: str) -> None:
        {"kept": self.kept, "forgot": self.gone}[what].add(id)

    async def check(self, reader: MemoryReader) -> None:
        found = await found_by(reader)
        assert self.kept <= found
        assert not self.gone & found


async def test_a_reader_goes_on_while_its_shard_is_killed_and_comes_back(tmp_path: Path):
    heard = Acknowledged()
    async with memory(tmp_path / "m.sqlite"):
        pass
    async with reader_of(tmp_path / "m.sqlite", None) as reader:
        for life in range(3):
            async with child("write", tmp_path) as writer:
                for _ in range(20 + 7 * life):
                    heard.hear(*await said(writer))
                    await heard.check(reader)
            await heard.check(reader)
        async with memory(tmp_path / "m.sqlite") as service:
            await service.forget([heard.kept.pop()], ann())
            assert await found_by(reader) == service.log.live_ids(SHOP)
        assert await reader.check(SHOP) == SOUND


async def test_a_reader_that_is_killed_holds_nobody_up_and_the_next_one_knows_all(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite") as service:
        kept = set[str]()
        for life in range(3):
            async with child("read", tmp_path) as reader:
                assert reader.stdin is not None
                for number in range(5):
                    told = await service.remember(
                        [Draft(text=f"{w} zq{life}x{number}") for w in ("lamp", "door")], ann()
                    )
                    kept.add(told[0].record.id)
                    reader.stdin.write(b"ask\n")
                    assert {*await said(reader)} == {*kept, told[1].record.id}
                    await service.forget([told[1].record.id], ann())
                    assert traces(tmp_path, f"door zq{life}x{number}") == []
                reader.stdin.write(b"ask\n" * 50)  # so that it is killed while it reads
        assert service.log.live_ids(SHOP) == kept
