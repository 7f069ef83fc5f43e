"""Power cuts and bad disks: what was acknowledged is on disk, whatever happens to the machine (I1, F21, F22, F25, F26).

`simulation.power` stands between SQLite and its files and keeps what was not synced apart. A small checkpoint interval
makes a run pass through everything that SQLite does with its files. That the tests can fail is proved on stores that do
not sync.
"""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random

import apsw
import pytest

from hanse.contracts import StorageError, Store
from hanse.runtime.simulation.power import Disk, Operation
from hanse.runtime.store import SqliteStore
from hanse.runtime.store import sqlite as adapter

from ...suites.store import receipt, state

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""What a dead process held is collected here, and its connections say that the power is off."""

CUTS = 300
FOREVER = 1 << 30


@pytest.fixture(autouse=True)
def _buried():
    """The dead are collected before the next test."""
    yield
    gc.collect()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch):
    """Checkpoints so often that each run passes through some."""
    monkeypatch.setattr(adapter, "_PRAGMAS", adapter._PRAGMAS.replace("= 4000", "= 8"))


@contextmanager
def opened(disk: Disk) -> Iterator[Store]:
    """A store whose process simply ends."""
    yield SqliteStore.open(disk.path(), "agent", vfs=disk.name, inline=True)


class Client:
    """Commits numbered things, a few at a time, and remembers what it was told."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.submitted = self.acknowledged = 0

    async def work(self, store: Store, bursts: int) -> None:
        for _ in range(bursts):
            futures = [self._submit(store) for _ in range(self._chance.randint(1, 4))]
            for future in futures:
                await future
                self.acknowledged += 1

    def _submit(self, store: Store) -> "asyncio.Future[None]":
        number = self.submitted
        self.submitted += 1
        rows = [state(f"{number}/{i}", bytes(self._chance.randint(0, 3000))) for i in range(number % 3)]
        return store.commit([*rows, receipt(f"{number}")])

    def check(self, store: Store) -> None:
        """Whole commits, in order, at least all that were acknowledged."""
        ((found,),) = store.read("receipt_count")
        assert self.acknowledged <= found <= self.submitted, "an acknowledged commit is gone"
        for number in range(self.submitted):
            expected = number < found
            assert bool(store.read("receipt", (f"{number}",))) is expected
            for i in range(number % 3):
                assert bool(store.read("state", ("c", f"{number}/{i}"))) is expected
        self.acknowledged = self.submitted = found


async def live_and_die(seed: int, folder: Path, lives: int = 3) -> int:
    """Some lives of one store, each ended by a power cut somewhere, even while it is being opened. Counts the cuts."""
    chance, cuts = Random(seed), 0
    client = Client(chance)
    disk = Disk(folder / f"{seed}")
    for _ in range(lives):
        disk.cut_at = disk.operations + chance.randint(1, 120)
        try:
            with opened(disk) as store:
                client.check(store)
                await client.work(store, 12)
        except StorageError:
            cuts += 1
        disk = disk.after_power_cut(chance.choice([None, seed]))
    with opened(disk) as store:
        client.check(store)
        await client.work(store, 1)
    return cuts


async def live_and_die_often(cuts: int, folder: Path) -> None:
    for seed in count():
        try:
            cuts -= await live_and_die(seed, folder)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        if cuts <= 0:
            return


@pytest.mark.usefixtures("often")
async def test_no_acknowledged_commit_is_lost_in_a_power_cut(tmp_path: Path):
    await live_and_die_often(CUTS, tmp_path)


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
async def test_a_store_that_does_not_sync_is_caught(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adapter, "_PRAGMAS", adapter._PRAGMAS.replace("FULL", mode))
    monkeypatch.setattr(adapter, "_check_mode", lambda connection, path: None)
    with pytest.raises((AssertionError, StorageError)):
        await live_and_die_often(20, tmp_path)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("times", [1, FOREVER], ids=["once", "for ever"])
@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_disk_that_refuses(operation: Operation, error: type[apsw.Error], times: int, tmp_path: Path):
    """At each operation in turn: no false acknowledgement, a typed error, nothing accepted after it, and a way back."""
    for nth in range(1, 40):
        disk = Disk(tmp_path / f"{nth}")
        client = Client(Random(nth))
        with opened(disk) as store:
            await client.work(store, 2)
            disk.fail(operation, nth, error, times=times)
            with pytest.raises(StorageError):
                await client.work(store, 100)
            disk.heal()
            with pytest.raises(StorageError):
                await store.commit([state("later", b"")])
            await store.close()
        with opened(disk) as again:
            assert again.read("state", ("c", "later")) == []
            client.check(again)
            await client.work(again, 3)
        with opened(disk.after_power_cut(nth)) as at_last:
            client.check(at_last)


async def test_a_full_disk_says_so(tmp_path: Path):
    disk = Disk(tmp_path / "disk")
    with opened(disk) as store:
        disk.fail("write", 1, apsw.FullError)
        with pytest.raises(StorageError, match="disk is full"):
            await store.commit([state("k", b"v")])


@pytest.mark.parametrize("operation", ["write", "sync"])
async def test_a_disk_that_refuses_while_the_store_is_opened(operation: Operation, tmp_path: Path):
    for nth in count(1):
        disk = Disk(tmp_path / f"{nth}")
        disk.fail(operation, nth, apsw.IOError)
        try:
            with opened(disk):
                break
        except StorageError:
            disk.heal()
        with opened(disk) as store:
            await store.commit([state("k", b"v")])
    assert nth > 2, "no operation was refused"


async def test_the_thread_that_commits_sees_the_power_go(tmp_path: Path):
    for later in range(5, 40, 5):
        disk = Disk(tmp_path / f"{later}")
        store = SqliteStore.open(disk.path(), "agent", vfs=disk.name)
        client = Client(Random(later))
        disk.cut_at = disk.operations + later
        with pytest.raises(StorageError):
            await client.work(store, 100)
        after = disk.after_power_cut()
        await store.close()
        with opened(after) as again:
            client.check(again)


async def test_what_was_queued_behind_a_failure_fails_too(tmp_path: Path):
    """The thread waits for the disk with the doomed commit alone; the next one stands behind it already."""
    disk = Disk(tmp_path / "disk")
    store = SqliteStore.open(disk.path(), "agent", vfs=disk.name)
    await store.commit([state("before", b"v")])
    syncing, queued = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(operation: Operation) -> None:
        if operation == "sync":
            loop.call_soon_threadsafe(syncing.set)
            queued.wait(10)

    disk.before = hold
    disk.fail("sync", 1, apsw.IOError)
    outcomes = [store.commit([state("doomed", b"v")])]
    await syncing.wait()
    outcomes.append(store.commit([state("behind", b"v")]))
    queued.set()
    assert [type(each) for each in await asyncio.gather(*outcomes, return_exceptions=True)] == [StorageError] * 2
    assert [bool(store.read("state", ("c", key))) for key in ("before", "doomed", "behind")] == [True, False, False]
    await store.close()


async def test_every_torn_tail_gives_the_acknowledged_prefix(tmp_path: Path):
    """The log cut off within its last commits, in many places: what was whole is there, the rest never was (G3)."""
    disk = Disk(tmp_path / "disk")
    with opened(disk) as store:
        ends = []
        for i in range(4):
            await store.commit([state("k", b"%d" % i, i + 1)])
            ends.append(len(disk.path("store.sqlite-wal").read_bytes()))
        log, database = disk.path("store.sqlite-wal").read_bytes(), disk.path().read_bytes()
        for size in range(ends[0], ends[-1] + 1, 17):
            folder = tmp_path / f"cut {size}"
            folder.mkdir()
            (folder / "store.sqlite").write_bytes(database)
            (folder / "store.sqlite-wal").write_bytes(log[:size])
            with opened(Disk(folder)) as again:
                ((_, version),) = again.read("state", ("c", "k"))
                assert version == sum(end <= size for end in ends)
                await again.close()
