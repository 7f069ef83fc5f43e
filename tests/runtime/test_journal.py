"""The journal: order, durability, and a chain in which every tampering shows (I7, I10)."""

import asyncio
import hashlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from hanse.contracts import Epoch, Event, Kind, Sequence, StepId, StorageError, TaskId
from hanse.contracts.wire import encode_event
from hanse.runtime.audit import Audit, Head, verify
from hanse.runtime.journal import GENESIS, Journal
from hanse.runtime.simulation.power import Disk
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock

ENTRIES = 12
TASKS = [TaskId("a"), TaskId("b"), None]


class Failures(list[BaseException]):
    """What `on_failure` was told."""


def open_store(path: Path | str = ":memory:", **options: Any) -> SqliteStore:
    return SqliteStore.open(path, "journal", **options)


def journal_over(store: SqliteStore, failures: Failures | None = None) -> Journal:
    return Journal(store, SystemClock(), (failures if failures is not None else Failures()).append)


def write(journal: Journal, number: int) -> Event:
    task = TASKS[number % 3]
    return journal.append(Kind.STEP_SKIPPED, task, task and StepId("s"), {"reason": f"because {number}"})


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A journal's file with some entries of two reigns."""
    path = tmp_path / "journal.sqlite"
    for _ in range(2):
        store = open_store(path)
        journal = journal_over(store)
        for number in range(ENTRIES // 2):
            write(journal, number)
        await journal.stop()
        await store.close()
    return path


def tamper(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    connection = apsw.Connection(str(path))
    for sql, row in statements:
        connection.execute(sql, row)
    connection.close()


async def audit(path: Path, known: tuple[int, bytes] = (0, GENESIS)) -> list[str]:
    store = open_store(path)
    found = Audit(store, [Head(*known)])
    while found.read_on(5):
        pass
    assert found.report().ok == (not found.problems)
    await store.close()
    return found.problems


async def test_a_journal_that_nobody_touched_is_in_order(file: Path):
    store = open_store(file)
    report = verify(store)
    assert (report.ok, report.entries, report.problems) == (True, ENTRIES, [])
    assert bytes.fromhex(report.head) == journal_over(store).head
    await store.close()


async def test_an_empty_journal_is_in_order():
    store = open_store()
    assert (verify(store).ok, verify(store).entries, verify(store).head) == (True, 0, GENESIS.hex())
    await store.close()


@pytest.mark.parametrize("number", range(1, ENTRIES + 1))
async def test_an_edit_is_found_where_it_was_made(file: Path, number: int):
    ((entry,),) = apsw.Connection(str(file)).execute("SELECT entry FROM journal WHERE sequence = ?", (number,))
    tamper(file, ("UPDATE journal SET entry = ? WHERE sequence = ?", (entry.replace(b"because", b"BECAUSE"), number)))
    assert await audit(file) == [f"entry {number} was changed: its bytes do not give its hash"]


async def test_every_bit_counts(file: Path):
    connection = apsw.Connection(str(file))
    ((entry, recorded),) = connection.execute("SELECT entry, hash FROM journal WHERE sequence = 7")
    for column, value in (("entry", entry), ("hash", recorded)):
        for bit in range(len(value) * 8):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            connection.execute(f"UPDATE journal SET {column} = ? WHERE sequence = 7", (bytes(flipped),))
            store = _Reading(connection)
            assert not verify(store).ok, f"bit {bit} of the {column}"  # pyright: ignore[reportArgumentType]
        connection.execute(f"UPDATE journal SET {column} = ? WHERE sequence = 7", (value,))
    assert verify(_Reading(connection)).ok  # pyright: ignore[reportArgumentType]
    connection.close()


class _Reading:
    """A store's reading half over a connection of our own."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def read(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        sql = "SELECT sequence, task, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence LIMIT ?"
        return list(self._connection.execute(sql, parameters))


@pytest.mark.parametrize("number", range(1, ENTRIES))
async def test_a_deletion_is_found(file: Path, number: int):
    tamper(file, ("DELETE FROM journal WHERE sequence = ?", (number,)))
    assert await audit(file) == [f"entry {number} is missing: the next one is {number + 1}"]


async def test_a_deletion_is_found_when_the_rest_moves_up(file: Path):
    tamper(
        file,
        ("DELETE FROM journal WHERE sequence = 5", ()),
        *(("UPDATE journal SET sequence = ? WHERE sequence = ?", (n - 1, n)) for n in range(6, ENTRIES + 1)),
    )
    assert await audit(file) == ["entry 5 was changed: its bytes do not give its hash"]


async def test_an_insertion_is_found(file: Path):
    entry = encode_event(Event(Sequence(5), Epoch(1), 1, Kind.STEP_SKIPPED, TaskId("a"), StepId("s"), {"reason": "!"}))
    ((before,),) = apsw.Connection(str(file)).execute("SELECT hash FROM journal WHERE sequence = 4")
    tamper(
        file,
        *(("UPDATE journal SET sequence = ? WHERE sequence = ?", (n + 1, n)) for n in range(ENTRIES, 4, -1)),
        ("INSERT INTO journal VALUES (5, 'a', ?, ?)", (entry, hashlib.sha256(before + entry).digest())),
    )
    assert await audit(file) == ["entry 6 was changed: its bytes do not give its hash"]


async def test_a_swap_is_found(file: Path):
    rows = {n: row for n, *row in apsw.Connection(str(file)).execute("SELECT sequence, task, entry, hash FROM journal")}
    swap = "UPDATE journal SET task = ?, entry = ?, hash = ? WHERE sequence = ?"
    tamper(file, (swap, (*rows[6], 3)), (swap, (*rows[3], 6)))
    assert await audit(file) == ["entry 3 was changed: its bytes do not give its hash"]


async def test_an_entry_filed_under_another_task_is_found(file: Path):
    """The task's column leads to its events, and the chain does not run over it."""
    tamper(file, ("UPDATE journal SET task = 'b' WHERE sequence = 4", ()))
    assert await audit(file) == ["entry 4 is about task a and filed under b"]


async def test_an_entry_of_a_lower_epoch_is_found(file: Path):
    ((before,),) = apsw.Connection(str(file)).execute("SELECT hash FROM journal WHERE sequence = ?", (ENTRIES,))
    zombie = Event(Sequence(ENTRIES + 1), Epoch(1), 1, Kind.STEP_SKIPPED, TaskId("a"), StepId("s"), {"reason": "!"})
    entry = encode_event(zombie)
    row = (ENTRIES + 1, "a", entry, hashlib.sha256(before + entry).digest())
    tamper(file, ("INSERT INTO journal VALUES (?, ?, ?, ?)", row))
    assert await audit(file) == [f"entry {ENTRIES + 1} is from epoch 1, after a higher one"]


async def test_what_is_missing_at_the_end_shows_only_against_a_head_kept_elsewhere(file: Path):
    store = open_store(file)
    head = journal_over(store).head
    await store.close()
    tamper(file, ("DELETE FROM journal WHERE sequence > 9", ()))
    assert await audit(file) == []
    assert await audit(file, (ENTRIES, head)) == [f"the journal ends at entry 9, and there was an entry {ENTRIES}"]


async def test_a_journal_written_anew_shows_only_against_a_head_kept_elsewhere(file: Path, tmp_path: Path):
    store = open_store(file)
    known = (5, store.read("chain", (4, 1))[0][3])
    await store.close()
    forged = open_store(tmp_path / "forged.sqlite")
    journal = journal_over(forged)
    for number in range(ENTRIES, 0, -1):
        write(journal, number)
    await journal.stop()
    await forged.close()
    assert await audit(tmp_path / "forged.sqlite") == []
    (problem,) = await audit(tmp_path / "forged.sqlite", known)
    assert problem.startswith("entry 5 is not the one that was written")


# Appending


async def test_an_event_has_the_next_number_at_once_and_is_read_when_it_is_durable():
    store = open_store()
    journal = journal_over(store)
    events = [write(journal, number) for number in range(5)]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    await journal.durable()
    assert list(journal.read()) == events
    await store.close()


async def test_a_journal_goes_on_where_the_last_one_stopped(tmp_path: Path):
    for start in (0, 3):
        store = open_store(tmp_path / "j.sqlite")
        journal = journal_over(store)
        assert journal.sequence == start
        events = [write(journal, number) for number in range(3)]
        assert {event.epoch for event in events} == {store.epoch}
        await journal.stop()
        await store.close()


@pytest.mark.parametrize(
    "data", [{"reason": object()}, {"reason": 1 << 70}, {"reason": "\ud800"}], ids=["object", "2^70", "surrogate"]
)
async def test_what_cannot_be_written_leaves_the_journal_as_it_was(data: Any):
    store = open_store()
    journal = journal_over(store)
    write(journal, 0)
    with pytest.raises(TypeError):
        journal.append(Kind.STEP_SKIPPED, TaskId("a"), StepId("s"), data)
    assert write(journal, 1).sequence == 2
    await journal.durable()
    assert verify(store).ok
    await store.close()


async def test_what_cannot_be_folded_is_not_journaled():
    store = open_store()
    journal = journal_over(store)

    def refuse(event: Event) -> None:
        raise AssertionError(f"{event.kind} makes no sense here")

    with pytest.raises(AssertionError):
        journal.append(Kind.STEP_SKIPPED, TaskId("a"), StepId("s"), {}, refuse)
    await journal.durable()
    assert list(journal.read()) == []
    assert write(journal, 1).sequence == 1
    await journal.durable()
    assert verify(store).ok
    await store.close()


# Acting on what is on disk


async def test_actions_run_in_order_when_all_before_them_is_on_disk():
    store = open_store()
    journal = journal_over(store)
    seen: list[tuple[int, int]] = []
    for number in range(20):
        write(journal, number)
        journal.then(lambda number=number: seen.append((number, len(list(journal.read())))))
        if number % 3 == 0:
            await asyncio.sleep(0)
    await journal.durable()
    assert [number for number, _ in seen] == list(range(20))
    assert all(there > number for number, there in seen)
    await store.close()


async def test_an_action_runs_also_when_there_is_nothing_to_write():
    store = open_store()
    journal = journal_over(store)
    seen: list[int] = []
    journal.then(lambda: seen.append(1))
    assert seen == []
    await journal.durable()
    assert seen == [1]
    await store.close()


async def test_an_action_without_writes_waits_for_the_commit_before_it(tmp_path: Path):
    store = open_store(tmp_path / "j.sqlite")
    journal = journal_over(store)
    write(journal, 0)
    await asyncio.sleep(0)  # that commit is under way now
    await asyncio.sleep(0)
    there: list[int] = []
    journal.then(lambda: there.append(len(list(journal.read()))))
    await journal.durable()
    assert there == [1]
    await store.close()


async def test_an_action_that_fails_fails_alone(caplog: pytest.LogCaptureFixture):
    store = open_store()
    journal = journal_over(store)
    seen: list[str] = []
    journal.then(lambda: seen.append("before"))
    journal.then(partial(seen.remove, "what is not there"))
    journal.then(lambda: seen.append("after"))
    await journal.durable()
    assert seen == ["before", "after"]
    assert [record.action for record in caplog.records] == ["journal.action_failed"]  # type: ignore[attr-defined]
    await store.close()


# A disk that refuses


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


async def test_a_disk_that_refuses_is_told_once_and_nothing_is_acknowledged(disk: Disk):
    failures, acknowledged, refused = Failures(), list[int](), list[BaseException]()
    store = open_store(disk.path(), vfs=disk.name, inline=True)
    journal = journal_over(store, failures)
    write(journal, 0)
    await journal.durable()
    disk.fail("sync", 1, apsw.IOError)
    for number in range(1, 4):
        write(journal, number)
        journal.then(lambda number=number: acknowledged.append(number), refused.append)
        await asyncio.sleep(0)
    with pytest.raises(StorageError):
        await journal.durable()
    disk.heal()
    write(journal, 9)
    with pytest.raises(StorageError):
        await journal.durable()
    await journal.stop()
    assert (len(failures), acknowledged, len(refused)) == (1, [], 3)
    assert len(list(journal.read())) == 1
    await store.close()


async def test_after_a_stop_nothing_is_written_and_nobody_is_alarmed(tmp_path: Path):
    failures = Failures()
    store = open_store(tmp_path / "j.sqlite")
    journal = journal_over(store, failures)
    write(journal, 0)
    await journal.stop()
    await journal.stop()
    write(journal, 1)
    await store.close()
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="closed"):
        await journal.durable()
    assert failures == []
    again = open_store(tmp_path / "j.sqlite")
    assert len(list(journal_over(again).read())) == 1
    await again.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_after_a_power_cut_the_chain_holds_and_has_all_that_was_acknowledged(tmp_path: Path):
    total = 0
    for seed in range(60):
        disk = Disk(tmp_path / str(seed))
        acknowledged = await write_until_the_power_goes(disk, Random(seed))
        after = disk.after_power_cut(seed)
        store = open_store(after.path(), vfs=after.name, inline=True)
        report = verify(store)
        assert report.ok, (seed, report.problems)
        assert report.entries >= acknowledged, seed
        total += acknowledged
        await store.close()
    assert total > 100, "hardly anything was ever acknowledged"


async def write_until_the_power_goes(disk: Disk, chance: Random) -> int:
    """The last number that was acknowledged."""
    acknowledged = [0]
    journal = journal_over(open_store(disk.path(), vfs=disk.name, inline=True))
    disk.cut_at = disk.operations + chance.randint(1, 60)
    with suppress(StorageError):
        while True:
            number = write(journal, chance.randint(0, 9)).sequence
            journal.then(partial(acknowledged.append, number))
            if chance.random() < 0.5:
                await journal.durable()
    return acknowledged[-1]


# Reading


@pytest.mark.parametrize("task", TASKS[:2])
async def test_events_of_a_task_are_read_in_pages(monkeypatch: pytest.MonkeyPatch, task: TaskId):
    monkeypatch.setattr("hanse.runtime.journal._PAGE", 3)
    store = open_store()
    journal = journal_over(store)
    events = [write(journal, number) for number in range(40)]
    await journal.durable()
    mine = [event for event in events if event.task == task]
    assert list(journal.read(task)) == mine
    assert list(journal.read(task, after=mine[4].sequence)) == mine[5:]
    assert list(journal.read(task, limit=7)) == mine[:7]
    assert list(journal.read(limit=3)) == events[:3]
    assert list(journal.read(after=38, limit=50)) == events[38:]
    assert list(journal.read(limit=0)) == []
    assert list(journal.read(limit=-1)) == []
    await store.close()
