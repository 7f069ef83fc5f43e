"""An acknowledged task is on disk: a client's task through service, coordinator and journal, on a disk that tells what
was synced and loses the rest (I1).
"""

import asyncio
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import capability
from hanse.runtime.execution import fold
from hanse.runtime.federation import Federation
from hanse.runtime.journal import Journal
from hanse.runtime.simulation.power import Disk
from hanse.runtime.store import SqliteStore
from hanse.runtime.store import sqlite as adapter
from hanse.runtime.world import SystemClock

JOURNAL = "coordinator-0.sqlite"
TURNS = 200
"""Of the event loop: in a few of them an answer that waits for nothing is with its client."""


class Amount(BaseModel):
    cents: int


class Till(Agent):
    """Takes money."""

    domain = "till"

    @capability(effect="irreversible")
    async def pay(self, request: Amount, context: Context) -> Amount:
        """Pay money out."""
        return request


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Under the coordinator's journal, and nothing else."""
    disk, connect = Disk(tmp_path / "data"), adapter._connect

    def connected(path: str, vfs: str | None, flags: int):
        return connect(path, disk.name if path.endswith(JOURNAL) else vfs, flags)

    monkeypatch.setattr(adapter, "_connect", connected)
    return disk


class Held:
    """Keeps each sync of a disk waiting until it is let go."""

    def __init__(self, disk: Disk) -> None:
        self.reached, self._go = threading.Event(), threading.Event()
        disk.before = self._before

    def let_go(self) -> None:
        self._go.set()

    def _before(self, operation: str) -> None:
        if operation == "sync":
            self.reached.set()
            assert self._go.wait(20), "nobody let go"


async def kept(disk: Disk, task: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a start after a power cut finds the task, open and whole."""
    monkeypatch.undo()
    store = SqliteStore.open(disk.path(JOURNAL), "journal")
    journal = Journal(store, SystemClock(), print)
    run = fold(journal.read(task))  # pyright: ignore[reportArgumentType]
    found = run is not None and run.task == task and (task,) in store.read("open_tasks")
    await store.close()
    return found


async def submitted(disk: Disk, lies: bool) -> tuple[str, Disk]:
    """A task that waits for a person, and the disk as a power cut leaves it the moment its client hears of it."""
    plan = {"steps": [{"id": "pay", "call": "till.pay", "input": {"cents": 1}}]}
    async with Federation.in_process([Till], data=disk.folder, approvals=[{"capability": "till.pay"}]) as federation:
        disk.lies = lies
        held = Held(disk)
        asked = asyncio.create_task(federation.submit(plan=plan))
        assert await asyncio.to_thread(held.reached.wait, 10)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not asked.done(), "told before it was on disk"
        held.let_go()
        task = await asked
        after = disk.after_power_cut()
    return task.id, after


async def test_a_task_is_on_disk_when_its_client_hears_of_it(disk: Disk, monkeypatch: pytest.MonkeyPatch):
    task, after = await submitted(disk, lies=False)
    assert await kept(after, task, monkeypatch)


async def test_on_a_disk_that_only_says_so_it_would_not_be(disk: Disk, monkeypatch: pytest.MonkeyPatch):
    """That the test above can fail."""
    task, after = await submitted(disk, lies=True)
    assert not await kept(after, task, monkeypatch)
