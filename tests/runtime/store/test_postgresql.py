"""PostgreSQL keeps the port, as SQLite does; what only a server can do to a store; and the dialect."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import Any

import psycopg
import pytest

from hanse.contracts import Fenced, StorageError, Write
from hanse.runtime.store import postgresql
from hanse.runtime.store.postgresql import PostgresReader, PostgresStore, in_postgresql, namespace, store_names
from hanse.runtime.store.statements import load_statements

from ...suites.store import DurableStoreSuite, state, value
from ...support.postgres import Server

_numbers = count()


@pytest.fixture
def federation() -> str:
    """One of its own for each test."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def open(server: Server, federation: str) -> Callable[[], PostgresStore]:
    return lambda: PostgresStore(server.url, federation, "agents/till", "agent")


class TestPostgresql(DurableStoreSuite):
    @pytest.fixture
    def open(self, server: Server, federation: str) -> Callable[[], PostgresStore]:
        return lambda: PostgresStore(server.url, federation, "agents/till", "agent")

    @pytest.fixture
    def look(self, server: Server, federation: str) -> Callable[[], PostgresReader]:
        return lambda: PostgresReader(server.url, federation, "agents/till", "agent")


@pytest.mark.parametrize("schema", ["agent", "journal", "memory", "models"])
async def test_every_statement_is_one_that_the_server_takes(server: Server, federation: str, schema: str):
    store = PostgresStore(server.url, federation, "s", schema)
    statements = in_postgresql(schema)
    for name, text in (statements.writes | statements.queries).items():
        store._writer.execute(f'PREPARE "{name}" AS {text}', prepare=False)  # type: ignore[arg-type]
    await store.close()


@pytest.mark.parametrize("schema", ["agent", "journal", "memory", "models"])
def test_no_type_and_no_word_of_sqlites_is_left(schema: str):
    statements = in_postgresql(schema)
    text = "\n".join([statements.schema, *statements.writes.values(), *statements.queries.values()])
    for word in ("INTEGER", "BLOB", "ROWID", "OR IGNORE", "?", "x'"):
        assert word not in text
    assert statements.writes.keys() == load_statements(schema).writes.keys()


_CONTROL = ["\x00", "\x00\x00", "\x01", "\x01\x01", "\x01\x02", "\x02", "a\x00", "a\x00b", "a\x01", "a\x02"]
TEXTS = ["", *_CONTROL, "a", "é", "z", "🦊"]


async def test_any_text_comes_back_and_sorts_as_its_bytes_do(open: Callable[[], PostgresStore]):
    store = open()
    await store.commit([state(text, text.encode()) for text in TEXTS])
    rows = store.read("scan", ("c", "", "\U0010ffff", "", 100))
    assert [key for key, *_ in rows] == sorted(TEXTS, key=str.encode)[1:]  # the empty key is not above itself
    assert [value(store, text) for text in TEXTS] == [text.encode() for text in TEXTS]
    await store.close()


async def test_sums_are_whole_numbers_and_a_truth_is_a_number(server: Server, federation: str):
    store = PostgresStore(server.url, federation, "models", "models")
    row = ("t", "2026-11-22", "task", "step", "small", True, 1, 2**40, 3, 4)
    await store.commit([Write("add_usage", row), Write("add_usage", row)])
    assert store.read("usage_by_day", ("t", "2026")) == [("2026-11-22", "", "small", 2, 2, 2**41, 6, 8)]
    assert all(type(each) is int for each in store.read("spent_on_day", ("t", "2026-11-22"))[0])
    await store.close()


async def test_what_was_committed_survives_the_death_of_the_server(server: Server, open: Callable[[], PostgresStore]):
    """And what was on its way is unknown: refused here, it may be there afterwards, whole and in order."""
    store = open()
    await store.commit([state("before", b"v")])
    futures = [store.commit([state("k", b"%d" % i, i), state(f"k{i}", b"v")]) for i in range(2000)]
    await asyncio.sleep(0)
    await asyncio.to_thread(server.kill)
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    acknowledged = sum(outcome is None for outcome in outcomes)
    assert all(isinstance(outcome, StorageError) for outcome in outcomes[acknowledged:])
    with pytest.raises(StorageError):
        await store.commit([state("later", b"v")])
    await store.close()
    await asyncio.to_thread(server.start)
    again = open()
    there = sum(value(again, f"k{i}") is not None for i in range(2000))
    assert there >= acknowledged
    assert [value(again, f"k{i}") for i in range(there)] == [b"v"] * there
    assert (value(again, "before"), value(again, "later")) == (b"v", None)
    await again.close()


async def test_opening_waits_for_a_server_that_is_down(
    server: Server, open: Callable[[], PostgresStore], federation: str
):
    await open().close()
    server.stop()
    with pytest.raises(StorageError, match=r"No such file|refused"):
        PostgresStore(server.url, federation, "agents/till", "agent", patience=0.2)
    starting = asyncio.to_thread(server.start)
    later = asyncio.get_running_loop().run_in_executor(None, asyncio.run, _opened(server.url, federation))
    await starting
    assert await later == 2


async def test_a_server_that_comes_up_just_after_it_said_no_is_asked_again(
    server: Server, open: Callable[[], PostgresStore], federation: str, monkeypatch: pytest.MonkeyPatch
):
    await open().close()
    connected, answers = postgresql._connected, iter([psycopg.OperationalError("the database system is starting up")])

    def starts_up(url: str) -> Any:
        if (error := next(answers, None)) is not None:
            raise error
        return connected(url)

    monkeypatch.setattr(postgresql, "_connected", starts_up)
    assert await _opened(server.url, federation) == 2


async def _opened(url: str, federation: str) -> int:
    store = PostgresStore(url, federation, "agents/till", "agent")
    await store.close()
    return store.epoch


async def test_reading_goes_on_when_the_server_was_away(server: Server, open: Callable[[], PostgresStore]):
    store = open()
    await store.commit([state("k", b"v")])
    server.stop()
    with pytest.raises(StorageError):
        store.read("state", ("c", "k"))
    server.start()
    assert store.read("state", ("c", "k")) == [(b"v", 1)]
    await store.close()


async def test_a_writer_that_fell_silent_does_not_hold_up_the_next(
    open: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
):
    """As one whose machine went away in the middle of a transaction."""
    monkeypatch.setattr("hanse.runtime.store.postgresql._LEFT_OPEN", "100ms")
    silent = open()
    silent._writer.execute("BEGIN")
    silent._writer.execute("SELECT epoch FROM writer FOR SHARE")
    successor = await asyncio.to_thread(asyncio.run, _committed_by(open))
    assert successor == silent.epoch + 1
    with pytest.raises(StorageError):
        await silent.commit([state("k", b"v")])
    await silent.close()


async def _committed_by(open: Callable[[], PostgresStore]) -> int:
    store = open()
    await store.commit([state("k2", b"v")])
    await store.close()
    return store.epoch


async def test_a_fenced_writer_says_by_whom(open: Callable[[], PostgresStore]):
    old, new = open(), open()
    with pytest.raises(Fenced) as fenced:
        await old.commit([state("k", b"v")])
    assert fenced.value.ids["current"] == new.epoch
    await old.close()
    await new.close()


async def test_a_server_that_does_not_sync_is_refused(server: Server, federation: str):
    """`fsync` is set for a whole server, so this one is told to say what such a one would say."""
    server.stop()
    server.start("-c full_page_writes=off")
    try:
        with pytest.raises(StorageError, match="full_page_writes = off, and loses what it acknowledges"):
            PostgresStore(server.url, federation, "s", "agent")
    finally:
        server.stop()
        server.start()


async def test_stores_are_found_by_name_however_long(server: Server, federation: str):
    names = ["agents/till", f"agents/{'long' * 30}", f"agents/{'long' * 30}er", "coordinator-0"]
    for name in names:
        await PostgresStore(server.url, federation, name, "agent").close()
    await PostgresStore(server.url, f"{federation}-other", "coordinator-0", "agent").close()
    assert store_names(server.url, federation) == sorted(names)
    assert len({namespace(federation, name) for name in names}) == len(names)


async def test_a_reader_reads_while_it_is_written_and_writes_nothing(
    server: Server, open: Callable[[], PostgresStore], federation: str
):
    with pytest.raises(StorageError, match="no such store"):
        PostgresReader(server.url, federation, "agents/till", "agent")
    store = open()
    await store.commit([state("k", b"v")])
    reader = PostgresReader(server.url, federation, "agents/till", "agent")
    assert reader.read("state", ("c", "k")) == [(b"v", 1)]
    assert (reader.has("state"), reader.has("journal"), reader.problems()) == (True, False, [])
    await store.commit([state("k", b"w", 2)])
    assert reader.read("state", ("c", "k")) == [(b"w", 2)]
    with pytest.raises(StorageError, match="no query"):
        reader.read("nothing")
    reader.close()
    await store.close()


async def test_scrubbing_and_compacting_keep_what_is_there(open: Callable[[], PostgresStore]):
    store = open()
    await store.commit([state(f"k{i}", b"v" * 100) for i in range(100)])
    await store.scrub()
    await store.compact()
    await store.commit([state("k0", b"w", 2)])
    assert [value(store, f"k{i}") for i in (0, 99)] == [b"w", b"v" * 100]
    await store.close()


@pytest.mark.parametrize(
    "url", ["", "no address", "postgresql://hanse:secret@127.0.0.1:1/none", "postgresql://:secret@[bad/none"]
)
async def test_an_address_that_leads_nowhere_is_an_error_without_its_password(url: str):
    with pytest.raises(StorageError) as refused:
        PostgresStore(url, "test", "s", "agent", patience=0)
    assert "secret" not in str(refused.value)
    assert "secret" not in str(refused.value.to_data())


async def test_a_reader_that_lost_its_server_looks_for_it_again(
    server: Server, open: Callable[[], PostgresStore], federation: str
):
    store = open()
    await store.commit([state("k", b"v")])
    with closing(PostgresReader(server.url, federation, "agents/till", "agent")) as reader:
        await asyncio.to_thread(server.stop)
        with pytest.raises(StorageError):
            reader.read("state", ("c", "k"))
        await asyncio.to_thread(server.start)
        assert reader.read("state", ("c", "k")) == [(b"v", 1)]
    await store.close()
