"""SQLite keeps the port: on disk with its thread, on disk on the event loop, and in memory."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from hanse.contracts import Corrupt, StorageError, Write
from hanse.runtime.store import SqliteStore, load_statements
from hanse.runtime.store import sqlite as adapter
from hanse.runtime.store.reading import StoreReader

from ...suites.store import DurableStoreSuite, StoreSuite, state


class TestOnDisk(DurableStoreSuite):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore.open(tmp_path / "new" / "folder" / "store.sqlite", "agent")

    @pytest.fixture
    def look(self, tmp_path: Path) -> Callable[[], StoreReader]:
        return lambda: StoreReader(tmp_path / "new" / "folder" / "store.sqlite", "agent")


class TestOnDiskOnTheLoop(DurableStoreSuite):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore.open(tmp_path / "store.sqlite", "agent", inline=True)

    @pytest.fixture
    def look(self, tmp_path: Path) -> Callable[[], StoreReader]:
        return lambda: StoreReader(tmp_path / "store.sqlite", "agent")


class TestInMemory(StoreSuite):
    @pytest.fixture
    def open(self) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore.open(":memory:", "agent")


@pytest.mark.parametrize("path", ["disk", ":memory:"])
async def test_the_statements_of_a_commit_run_in_the_order_of_the_file(path: str, tmp_path: Path):
    """So a row may be changed in the commit that makes it, in whichever order the caller wrote them."""
    store = SqliteStore.open(tmp_path / path if path == "disk" else path, "journal")
    insert = Write("insert_task", ("id", "tenant", None, "body", "submitted", 1, 1))
    await store.commit([Write("update_task", ("completed", 2, "id")), insert])
    assert store.read("task", ("id",)) == [("id", "tenant", None, "body", "completed", 1, 2)]
    await store.close()


async def test_a_store_whose_rows_lie_in_the_order_of_their_keys_stays_so_and_is_read_and_written(tmp_path: Path):
    """State and receipts of stores that were made before they lay in the order in which they came."""
    path = tmp_path / "store.sqlite"
    schema = load_statements("agent").schema
    for table in ("state", "receipt"):
        schema = re.sub(
            rf"(CREATE TABLE IF NOT EXISTS {table} \(.*?\n\));", r"\1 WITHOUT ROWID;", schema, flags=re.DOTALL
        )
    assert schema.count("WITHOUT ROWID") == load_statements("agent").schema.count("WITHOUT ROWID") + 2
    with apsw.Connection(str(path)) as before:
        before.execute(schema)
        before.execute("INSERT INTO receipt VALUES ('t/s0', 'a.b', 'sha256:0', x'c0', 't/s0#1', 1)")
    store = SqliteStore.open(path, "agent")
    assert store.read("receipt", ("t/s0",)) == [("a.b", "sha256:0", b"\xc0", "t/s0#1")]
    await store.commit([state("k", b"1"), Write("insert_receipt", ("t/s1", "a.b", "sha256:0", b"", "t/s1#1", 1))])
    await store.commit([state("k", b"2")])
    assert store.read("state", ("c", "k"))[0][0] == b"2"
    assert store.read("receipt_count") == [(2,)]
    await store.close()
    before.close()


async def test_two_stores_in_memory_know_nothing_of_each_other():
    one, other = SqliteStore.open(":memory:", "agent"), SqliteStore.open(":memory:", "agent")
    await one.commit([state("k", b"v")])
    assert other.read("state", ("c", "k")) == []
    await one.close()
    await other.close()


async def test_many_commits_share_a_transaction(tmp_path: Path):
    store = SqliteStore.open(tmp_path / "store.sqlite", "agent")
    transactions = 0

    def count() -> bool:
        nonlocal transactions
        transactions += 1
        return False

    store._writer.set_commit_hook(count)
    futures = [store.commit([state(f"k{i}", b"v")]) for i in range(1000)]
    for future in futures:
        await future
    assert transactions < 100
    await store.close()


async def test_a_file_that_is_no_store_is_corrupt(tmp_path: Path):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this was never a database" * 100)
    with pytest.raises(Corrupt):
        SqliteStore.open(path, "agent")


async def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        SqliteStore.open(tmp_path / "file" / "store.sqlite", "agent")


async def test_a_disk_without_write_ahead_log_is_refused(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(adapter, "_PRAGMAS", "PRAGMA journal_mode = DELETE;")
    with pytest.raises(StorageError, match="write-ahead log"):
        SqliteStore.open(tmp_path / "store.sqlite", "agent")


async def test_a_disk_that_does_not_sync_is_refused(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(adapter, "_PRAGMAS", adapter._PRAGMAS.replace("FULL", "NORMAL"))
    with pytest.raises(StorageError, match="write-ahead log"):
        SqliteStore.open(tmp_path / "store.sqlite", "agent")


async def test_every_setting_is_in_force(tmp_path: Path):
    """apsw runs a text of several statements only as far as somebody reads on: settings after the first were lost."""
    store = SqliteStore.open(tmp_path / "store.sqlite", "agent")
    spoken = {"WAL": "wal", "FULL": "2", "MEMORY": "2"}
    for name, wanted in re.findall(r"PRAGMA (\w+) = (.+);", adapter._PRAGMAS):
        ((found,),) = store._writer.execute(f"PRAGMA {name}")
        assert str(found) == spoken.get(wanted, wanted), name
    await store.close()


@pytest.mark.parametrize("schema", ["agent", "journal"])
def test_every_statement_runs_on_its_schema(schema: str):
    statements = load_statements(schema)
    connection = apsw.Connection(":memory:")
    connection.execute(statements.schema)
    connection.execute(statements.schema)  # opening again changes nothing
    for sql in (*statements.writes.values(), *statements.queries.values()):
        assert len(list(connection.execute(f"EXPLAIN {sql}", (None,) * sql.count("?"))))


@pytest.mark.parametrize("schema", ["agent", "journal"])
def test_no_query_reads_a_whole_table(schema: str):
    """A store of a million rows answers as fast as one of a thousand (SCAN is allowed where a count is wanted)."""
    statements = load_statements(schema)
    connection = apsw.Connection(":memory:")
    connection.execute(statements.schema)
    scans = {
        name: detail
        for name, sql in statements.queries.items()
        for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))
        if detail.startswith("SCAN") and "USING INDEX" not in detail and "USING COVERING INDEX" not in detail
    }
    assert scans.keys() <= {"receipt_count", "head"}, scans


async def test_a_key_of_half_a_pair_is_an_error_for_readers_too(tmp_path: Path):
    store = SqliteStore.open(tmp_path / "store.sqlite", "agent")
    with pytest.raises(StorageError):
        store.read("state", ("c", "\ud800"))
    with pytest.raises(StorageError):
        store.read("state", ("c", 1 << 70))
    await store.commit([Write("write_state", ("c", "k", b"v", 1))])
    await store.close()
