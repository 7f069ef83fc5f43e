"""The shared memory as actors on real Ray: killed, a shard comes back with what it acknowledged (F3), and what needs no
memory goes on meanwhile; and its readers answer what is asked, are killed, and nobody notices.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray

from hanse import Federation
from hanse.contracts import HanseError, MemoryView, Unavailable
from hanse.runtime.memory_client import memory_name

from .librarian import Librarian

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


async def test_a_killed_memory_comes_back_and_nobody_else_minds(name: str, tmp_path: Path):
    sections = {"federation": {"name": name}, "memory": {"shards": 1}}
    async with Federation.local(agents=[Librarian], data=tmp_path, **sections) as federation:
        for text in ("the kettle of the third floor leaks", "letters to Kiel go by train"):
            await federation.call("librarian.note", {"text": text}, timeout_seconds=60)
        actor = ray.get_actor(memory_name(0), f"hanse-{name}")
        _, _, pid = await asyncio.wrap_future(actor.where.remote().future())
        os.kill(pid, signal.SIGKILL)
        counted, looked = await asyncio.gather(
            federation.call("librarian.count", {"text": "four"}, timeout_seconds=60),
            federation.call("librarian.look", {"text": "leaking kettle"}, timeout_seconds=120),
        )
        assert counted == {"text": "4"}
        assert looked["texts"][0] == "the kettle of the third floor leaks"
        assert len((await federation.memory.recall()).hits) == 2


async def test_a_memory_that_stays_away_is_a_typed_answer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hanse.runtime.actors.MEMORY_SECONDS", 0.5)
    sections = {"federation": {"name": name}, "memory": {"shards": 1}}
    async with Federation.local(agents=[Librarian], data=tmp_path, **sections) as federation:
        ray.kill(ray.get_actor(memory_name(0), f"hanse-{name}"), no_restart=True)
        with pytest.raises(Unavailable):
            await federation.memory.remember("nobody hears this")
        assert await federation.call("librarian.count", {"text": "four"}, timeout_seconds=60) == {"text": "4"}
        with pytest.raises(HanseError):
            await federation.call("librarian.look", {"text": "a"}, deadline_seconds=1, timeout_seconds=60)


async def test_reads_go_to_reader_processes_and_survive_the_kill_of_one(name: str, tmp_path: Path):
    sections = {"federation": {"name": name}, "memory": {"shards": 1, "readers": 2}}
    async with Federation.local(agents=[Librarian], data=tmp_path, **sections) as federation:
        readers = await answering(federation, 2)
        await federation.call("librarian.note", {"text": "the kettle of the third floor leaks"}, timeout_seconds=60)
        await read_by(federation, readers)
        killed = readers[0]
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        for number in range(10):
            told = await federation.memory.remember(f"letter {number} to Kiel goes by train")
            assert told.record.id in {hit.record.id for hit in (await federation.memory.recall(limit=50)).hits}
        again = await answering(federation, 2, without=killed.pid)
        await federation.memory.forget([told.record])
        await read_by(federation, again)
        assert told.record.id not in {hit.record.id for hit in (await federation.memory.recall(limit=50)).hits}
        looked = await federation.call("librarian.look", {"text": "leaking kettle"}, timeout_seconds=60)
        assert looked["texts"][0] == "the kettle of the third floor leaks"


async def answering(federation: Federation, count: int, without: int | None = None) -> list[MemoryView]:
    """So many readers, as soon as they answer, and none that is the process `without`."""
    while True:
        processes = (await federation.client.status()).memory_processes
        there = [each for each in processes if each.kind == "reader" and each.answers and each.pid != without]
        if len(there) == count:
            return there
        await asyncio.sleep(0.1)


async def read_by(federation: Federation, readers: list[MemoryView]) -> None:
    """Asks many things at once, until each of these readers has answered more than it had by then."""
    had = {each.name: each.reads for each in readers}
    while True:
        await asyncio.gather(*(federation.memory.recall("kettle") for _ in range(10)))
        processes = (await federation.client.status()).memory_processes
        if all(each.reads > had[each.name] for each in processes if each.name in had):
            return
        await asyncio.sleep(0.1)
