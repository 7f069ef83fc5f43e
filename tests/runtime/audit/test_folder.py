"""The audit of a folder: every store with a journal is read, what was done to it is found, and nothing is written."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from hanse.contracts import InvalidInput, Kind, NotFound, TaskId, Write
from hanse.runtime.audit import Head, audit, journals
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore
from hanse.runtime.store.place import Folder
from hanse.runtime.world import SystemClock

ENTRIES = 7


async def keep(path: Path, entries: int = ENTRIES) -> None:
    """A store with a journal, as a coordinator leaves it."""
    store = SqliteStore.open(path, "journal")
    journal = Journal(store, SystemClock(), _no_failure)
    for number in range(entries):
        journal.append(Kind.AGENT_LEFT, None, None, {"number": number})
    await journal.durable()
    await store.close()


def _no_failure(error: BaseException) -> None:
    raise error


def change(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    for name in ("coordinator-0", "coordinator-1", "models"):
        await keep(tmp_path / f"{name}.sqlite")
    await SqliteStore.open(tmp_path / "agents" / "ledger.sqlite", "agent").close()
    return tmp_path


async def test_every_store_with_a_journal_is_read(data: Path):
    found = audit(data)
    assert [each.journal for each in found] == ["coordinator-0", "coordinator-1", "models"]
    assert all(each.report.ok and each.report.entries == ENTRIES for each in found)
    assert len({each.head for each in found}) == 3


async def test_no_epoch_is_raised_and_no_byte_changed(data: Path):
    def files() -> dict[Path, bytes]:
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in data.rglob("*.sqlite")}

    before = files()
    audit(data)
    assert files() == before


async def test_a_writer_is_not_held_up_and_what_it_has_committed_is_read(tmp_path: Path):
    store = SqliteStore.open(tmp_path / "coordinator-0.sqlite", "journal")
    journal = Journal(store, SystemClock(), _no_failure)
    for number in range(3):
        journal.append(Kind.AGENT_LEFT, None, None, {"number": number})
        await journal.durable()
        assert audit(tmp_path)[0].report.entries == number + 1
    await store.close()


async def test_a_copy_where_sqlite_can_put_nothing_beside_it_can_be_read(data: Path):
    """As on a disk that cannot be written: what stands in the place of SQLite's own file keeps it away."""
    (data / "models.sqlite-shm").mkdir()
    assert all(each.report.ok for each in audit(data))
    (data / "models.sqlite-wal").write_bytes(b"what was committed and is not in the store yet" * 8)
    assert [each.journal for each in audit(data) if not each.report.ok] == ["models"], "it may be cut off"


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (lambda path: change(path, "UPDATE journal SET entry = x'00' WHERE sequence = 3"), "entry 3 was changed"),
        (lambda path: change(path, "DELETE FROM journal WHERE sequence = 3"), "entry 3 is missing"),
        (lambda path: change(path, "UPDATE journal SET task = 't' WHERE sequence = 3"), "entry 3 is about task"),
        (lambda path: path.write_bytes(b"no database" * 1000), "not the database it was"),
        (lambda path: path.unlink(), "it is missing"),
    ],
)
async def test_what_was_done_to_one_of_them_is_found(data: Path, done: Callable[[Path], None], said: str):
    done(data / "coordinator-0.sqlite")
    found = {each.journal: each.report for each in audit(data)}
    (problem,) = found["coordinator-0"].problems
    assert said in problem
    assert not found["coordinator-0"].ok
    assert found["coordinator-1"].ok
    assert found["models"].ok


ALICE = {"tenant": "default", "key": "k", "body": "b"}


async def table(path: Path, *, ended: bool) -> None:
    """A coordinator's store with one task."""
    store = SqliteStore.open(path, "journal")
    journal = Journal(store, SystemClock(), _no_failure)
    journal.append(Kind.TASK_SUBMITTED, TaskId("t"), None, ALICE)
    journal.write(Write("insert_task", ("t", "default", "k", "b", "submitted", 1, 1)))
    if ended:
        journal.append(Kind.TASK_COMPLETED, TaskId("t"), None, {})
        journal.write(Write("update_task", ("completed", 2, "t")))
    await journal.durable()
    await store.close()


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE task SET status = 'failed'", "task"),
        ("UPDATE task SET tenant = 'other'", "other things of t"),
        ("UPDATE task SET key = 'other'", "other things of t"),
        ("UPDATE task SET key = NULL", "other things of t"),
        ("UPDATE task SET body = 'other'", "other things of t"),
        ("DELETE FROM task", "has no t"),
    ],
)
async def test_a_table_of_tasks_that_says_other_things_than_the_journal_is_found(
    tmp_path: Path, sql: str, said: str, ended: bool
):
    path = tmp_path / "coordinator-0.sqlite"
    await table(path, ended=ended)
    assert audit(tmp_path)[0].report.ok
    change(path, sql)
    (problem,) = audit(tmp_path)[0].report.problems
    assert said in problem


async def test_an_index_that_does_not_fit_its_table_is_found(tmp_path: Path):
    """A task's events are found by an index: what it does not list is as good as gone."""
    path = tmp_path / "coordinator-0.sqlite"
    await table(path, ended=True)
    connection = apsw.Connection(str(path))
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'journal_of_task'")
    ((size,),) = connection.execute("PRAGMA page_size")
    connection.close()
    held = bytearray(path.read_bytes())
    at = held.index(b"t", (page - 1) * size + 8)
    held[at] = ord("u")
    path.write_bytes(held)
    (problem,) = audit(tmp_path)[0].report.problems
    assert "journal_of_task" in problem


async def test_a_head_that_was_kept_shows_what_is_missing_at_the_end(data: Path):
    heads = {each.journal: Head.parse(each.head) for each in audit(data)}
    assert all(each.report.ok for each in audit(data, heads.values()))
    change(data / "models.sqlite", f"DELETE FROM journal WHERE sequence = {ENTRIES}")
    assert all(each.report.ok for each in audit(data)), "without a head nobody can see it"
    found = {each.journal: each.report for each in audit(data, heads.values())}
    assert not found["models"].ok
    assert found["coordinator-1"].ok


async def test_a_head_that_was_kept_shows_a_journal_that_was_written_anew(tmp_path: Path):
    path = tmp_path / "coordinator-0.sqlite"
    await keep(path)
    (before,) = audit(tmp_path)
    path.unlink()
    await keep(path, ENTRIES + 1)
    _, _, kept = before.head.partition(":")
    (after,) = audit(tmp_path, [Head.parse(kept)])
    assert "written the journal anew" in after.report.problems[0]


async def test_a_head_needs_a_name_where_there_are_several_journals(data: Path):
    with pytest.raises(InvalidInput, match="one of coordinator-0, coordinator-1, models"):
        audit(data, [Head.parse(f"1:{'0' * 64}")])
    with pytest.raises(InvalidInput, match="which journal"):
        audit(data, [Head.parse(f"memory:1:{'0' * 64}")])


@pytest.mark.parametrize("text", ["", "1", "1:ab", "x:1:ab", f"-1:{'0' * 64}", f"1:{'g' * 64}"])
def test_what_is_no_head_is_refused(text: str):
    with pytest.raises(InvalidInput, match="SEQUENCE:HASH"):
        Head.parse(text)


async def test_a_shard_below_another_one_is_missed(data: Path):
    (data / "coordinator-0.sqlite").unlink()
    assert journals(Folder(data)) == ["coordinator-1", "models", "coordinator-0"]


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path):
    with pytest.raises(NotFound, match="--data"):
        audit(tmp_path)


async def test_it_says_how_far_it_is(data: Path):
    seen: list[tuple[str, int, int]] = []
    audit(data, progress=lambda *at: seen.append(at))
    assert ("models", 0, ENTRIES) in seen
    assert ("models", ENTRIES, ENTRIES) in seen
