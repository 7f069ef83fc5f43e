"""The shared memory as an actor on real Ray: killed, it comes back with what it acknowledged (F3), and what needs no
memory goes on meanwhile.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray

from hanse import Federation
from hanse.contracts import HanseError, Unavailable
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
