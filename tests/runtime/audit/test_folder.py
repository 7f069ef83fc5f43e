"""The audit of a folder: every store with a journal is read, what was done to it is found, and nothing is written."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from hanse.contracts import InvalidInput, Kind, NotFound
from hanse.runtime.audit import Head, audit, journals
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock

ENTRIES = 7


async def keep(path: Path, entries: int = ENTRIES) -> None:
    """A store with a journal, as a coordinator leaves it."""
    store = SqliteStore.open(path, "journal")
    journal = Journal(store, SystemClock(), _no_failure)
    for number in range(entries):
        journal.append(Kind.TASK_SUBMITTED, None, None, {"number": number})
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
        journal.append(Kind.TASK_SUBMITTED, None, None, {"number": number})
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
    assert list(journals(data)) == ["coordinator-1", "models", "coordinator-0"]


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path):
    with pytest.raises(NotFound, match="--data"):
        audit(tmp_path)


async def test_it_says_how_far_it_is(data: Path):
    seen: list[tuple[str, int, int]] = []
    audit(data, progress=lambda *at: seen.append(at))
    assert ("models", 0, ENTRIES) in seen
    assert ("models", ENTRIES, ENTRIES) in seen
