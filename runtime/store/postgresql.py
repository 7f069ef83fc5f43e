"""The store of a cluster: PostgreSQL through `psycopg` 3, a schema of one database for each store.

It reads the same `.sql` files as SQLite; `in_postgresql` says what differs. A commit is one transaction and, with
`psycopg`'s pipeline mode, one round trip; commits that queue up meanwhile share the next one.

Each transaction first locks the row that holds the epoch, against writers, not readers: whoever begins a new reign
waits for commits under way, and every later commit of the one before is refused by the server.

A connection that is lost in the middle of a commit leaves it unknown whether the commit happened. As with a disk that
refuses, nothing more is accepted then: whoever uses the store closes it, opens it again and recovers. Opening waits for
a server that is not up.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, LiteralString, cast

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Ping
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader

from ...contracts import Corrupt, Epoch, Fenced, StorageError, Write
from .committing import Threaded, Waiting, gathered
from .statements import Statements, load_statements

PATIENCE_SECONDS = 60.0
"""For which an opening waits for a server that is down or starts up."""
CONNECTIONS = 2
"""Of an open store: one that writes and one that reads."""
_LONGEST_NAME = 63
"""Bytes of an identifier: PostgreSQL cuts off what is longer."""
_LEFT_OPEN = "10s"
"""After which the server ends the transaction of a writer that says nothing more: it would hold up the next reign."""
_QUIET = {
    "application_name": "hanse",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
_SAFE = {"fsync": "on", "full_page_writes": "on"}

_FENCE = 'SELECT 1 / (epoch = $1)::int FROM writer WHERE "only" = 1 FOR SHARE'
"""Fails in the server, so that a pipeline need not come back to look before it goes on."""


class PostgresStore:
    """One schema, one writer. Keeps the `Store` port."""

    def __init__(
        self, url: str, federation: str, name: str, schema: str, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Opens the store for writing, made when it is not there, and raises its epoch. Blocks.

        Raises StorageError when no server answers within `patience` seconds, or one that does not sync its disk.
        """
        self.path = where(url, federation, name)
        self._namespace = namespace(federation, name)
        self._statements = in_postgresql(schema)
        self._loop = asyncio.get_running_loop()
        self._broken: StorageError | None = None
        self._closing: asyncio.Future[None] | None = None
        with translated(self.path):
            self._writer = _patient(url, patience)
            try:
                _check_safety(self._writer, self.path)
                self.epoch = self._begin_reign(federation, name)
                self._reader = _Looking(url, self._namespace, self.path, self._statements)
            except BaseException:
                self._writer.close()
                raise
        self._committer = Threaded(self)

    def _begin_reign(self, federation: str, name: str) -> Epoch:
        """Two who open at once take turns."""
        with self._writer.transaction():
            self._writer.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", (self._namespace,))
            _make_schema(self._writer, self._namespace, _label(federation, name))
            self._writer.execute(cast("LiteralString", self._statements.schema), prepare=False)
            row = self._writer.execute("UPDATE writer SET epoch = epoch + 1 RETURNING epoch").fetchone()
        assert row is not None
        return Epoch(row[0])

    def commit(self, writes: Iterable[Write]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        if (refusal := self._refusal) is not None:
            future.set_exception(refusal)
        else:
            self._committer.put((writes, future))
        return future

    @property
    def _refusal(self) -> StorageError | None:
        return self._broken or (StorageError("the store is closed", path=self.path) if self._closing else None)

    def scrub(self) -> "asyncio.Future[None]":
        """Done when what was deleted before is free room in the tables. What the server keeps beside them, its
        write-ahead log, replicas and backups, is the affair of whoever runs it.
        """
        return self._do("VACUUM")

    def compact(self) -> "asyncio.Future[None]":
        """The same by writing the tables anew, which also gives back their room. Commits wait meanwhile."""
        return self._do("VACUUM (FULL)")

    def _do(self, command: LiteralString) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        if (refusal := self._refusal) is not None:
            future.set_exception(refusal)
        else:
            self._committer.do(lambda: self._on_tables(command), future)
        return future

    def _on_tables(self, command: LiteralString) -> None:
        tables = self._writer.execute("SELECT tablename FROM pg_tables WHERE schemaname = $1", (self._namespace,))
        names = sql.SQL(", ").join(sql.Identifier(table) for (table,) in tables.fetchall())
        self._writer.execute(sql.SQL(f"{command} {{}}").format(names))

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._reader.read(query, parameters)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._committer.stop()
        self._reader.close()
        self._writer.close()

    # For the committer

    def begin_at_once(self) -> bool:
        """Never: the rows go out on the wire from the thread that waits for the server."""
        return False

    def write(self, group: Sequence[Waiting]) -> StorageError | None:
        raise AssertionError(f"{len(group)} commits without a transaction")

    def sync(self) -> StorageError | None:
        raise AssertionError("nothing was begun")

    def run(self, group: Sequence[Waiting]) -> StorageError | None:
        if self._broken is None:
            self._broken = self._tried(lambda: self._commit(group))
            if self._broken is not None:
                self._writer.close()  # so that nothing of it holds up whoever comes next
        return self._broken

    def between(self, work: Callable[[], None]) -> StorageError | None:
        return self._tried(work)

    def _tried(self, work: Callable[[], None]) -> StorageError | None:
        try:
            with translated(self.path):
                work()
        except StorageError as error:
            return error
        except Exception as error:  # a row that cannot be written; whoever waits must hear of it
            return StorageError(f"cannot be written: {type(error).__name__}: {error}", path=self.path)
        return None

    def _commit(self, group: Sequence[Waiting]) -> None:
        parts = gathered(group, self._statements)
        try:
            with self._writer.pipeline(), self._writer.transaction(), self._writer.cursor() as cursor:
                cursor.execute(_FENCE, (self.epoch,))
                for statement, rows in parts:
                    cursor.executemany(cast("LiteralString", statement), list(map(_escaped, rows)))
        except errors.DivisionByZero as error:
            raise Fenced(path=self.path, epoch=self.epoch, current=self._current_epoch()) from error

    def _current_epoch(self) -> int | None:
        with suppress(psycopg.Error):
            if row := self._reader.connection.execute("SELECT epoch FROM writer").fetchone():
                return row[0]
        return None


class _Looking:
    """A connection that reads. One that lost its server looks for it again, once: it changed nothing."""

    def __init__(self, url: str, namespace: str, path: str, statements: Statements) -> None:
        self._url, self._namespace, self._path, self._statements = url, namespace, path, statements
        self.connection = _look_at(url, namespace)

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated(self._path):
            if self.connection.broken:
                self._look_again()
            try:
                return self._rows(query, parameters)
            except psycopg.OperationalError:
                if not self.connection.broken:
                    raise
                self._look_again()
                return self._rows(query, parameters)

    def close(self) -> None:
        self.connection.close()

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return rows_of(self.connection, self._statements, query, parameters)

    def _look_again(self) -> None:
        self.connection = _look_at(self._url, self._namespace)


class PostgresReader:
    """A store to look at: nothing is written into it, and no writer is fenced off by it. It has no epoch."""

    def __init__(self, url: str, federation: str, name: str, schema: str) -> None:
        """Raises StorageError, also where there is no such store."""
        self.path = where(url, federation, name)
        self._namespace = namespace(federation, name)
        with translated(self.path):
            self._looking = _Looking(url, self._namespace, self.path, in_postgresql(schema))
            there = self._looking.connection.execute(
                "SELECT 1 FROM pg_namespace WHERE nspname = $1", (self._namespace,)
            )
            if there.fetchone() is None:
                self.close()
                raise StorageError("there is no such store", path=self.path)

    def has(self, table: str) -> bool:
        with translated(self.path):
            found = "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2"
            return self._looking.connection.execute(found, (self._namespace, table)).fetchone() is not None

    def problems(self) -> list[str]:
        """None that we know of: the server looks at its pages whenever it reads one, if its checksums are on."""
        return []

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._looking.read(query, parameters)

    def close(self) -> None:
        self._looking.close()


def store_names(url: str, federation: str) -> list[str]:
    """Of all stores of a federation that are there, sorted. Raises StorageError."""
    with translated(where(url, federation)), _connected(url) as connection:
        found = connection.execute("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace").fetchall()
    start = _label(federation, "")
    return sorted(label.removeprefix(start) for (label,) in found if label and label.startswith(start))


@dataclass(frozen=True, slots=True)
class Examined:
    """What answers at an address."""

    version: str
    milliseconds: float
    """That a question takes there and back."""
    connections: int
    """That it takes at once from everybody."""


def examined(url: str) -> Examined:
    """Raises StorageError when nobody answers, or a server that loses what it acknowledges."""
    path = _plain(url)
    with translated(path), _connected(url) as connection:
        _check_safety(connection, path)
        began = time.perf_counter()
        connection.execute("SELECT 1")
        milliseconds = (time.perf_counter() - began) * 1000
        return Examined(_shown(connection, "server_version"), milliseconds, int(_shown(connection, "max_connections")))


def where(url: str, federation: str, name: str = "") -> str:
    """The address of a store, without what is secret about it. Raises StorageError for what is no address."""
    return f"{_plain(url)}#{federation}/{name}"


def _plain(url: str) -> str:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise StorageError("this is no address of a PostgreSQL database. Write postgresql://HOST/DATABASE") from error
    return f"postgresql://{parts.get('host', '')}/{parts.get('dbname', '')}"


def namespace(federation: str, name: str) -> str:
    """The schema that holds a store. A long name ends with its digest."""
    plain = f"{federation}/{name}"
    if len(plain.encode()) <= _LONGEST_NAME:
        return plain
    return f"{plain.encode()[:40].decode(errors='ignore')}~{hashlib.sha256(plain.encode()).hexdigest()[:20]}"


def _label(federation: str, name: str) -> str:
    """What stands as a comment at the schema: the whole name, however long."""
    return f"hanse {federation}/{name}"


# The dialect


@cache
def in_postgresql(schema: str) -> Statements:
    """The statements of a `.sql` file as PostgreSQL takes them."""
    found = load_statements(schema)
    return replace(
        found,
        schema=_translated(found.schema),
        writes={name: _translated(each) for name, each in found.writes.items()},
        queries={name: _translated(each) for name, each in found.queries.items()},
    )


_WORDS = (
    (re.compile(r"\) WITHOUT ROWID"), ")"),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),  # ordered by bytes, as everywhere else
    (re.compile(r"\bx'([0-9a-f]*)'"), r"'\\x\1'::bytea"),
)
_PARAMETER = re.compile(r"\?(\d*)")


def _translated(text: str) -> str:
    for pattern, instead in _WORDS:
        text = pattern.sub(instead, text)
    numbers = iter(range(1, 100))
    return _PARAMETER.sub(lambda match: f"${match[1] or next(numbers)}", text)


_NUL, _MARK = "\x00", "\x01"


def _escaped(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """PostgreSQL keeps no NUL in a text. Two characters stand for it, in such a way that texts sort as before."""
    return tuple(_without_nul(each) if isinstance(each, str) else each for each in row)


def _without_nul(text: str) -> str:
    if _NUL in text or _MARK in text:
        return text.replace(_MARK, f"{_MARK}\x02").replace(_NUL, _MARK * 2)
    return text


def _as_written(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_with_nul(each) if isinstance(each, str) else each for each in row)


def _with_nul(text: str) -> str:
    return text.replace(_MARK * 2, _NUL).replace(f"{_MARK}\x02", _MARK) if _MARK in text else text


def rows_of(
    connection: "psycopg.Connection[Any]", statements: Statements, query: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Raises StorageError for a query that is not there and for what cannot be looked up."""
    if (text := statements.queries.get(query)) is None:
        raise StorageError(f"no query named {query!r}")
    try:
        found = connection.execute(cast("LiteralString", text), _escaped(tuple(parameters)), binary=True)
    except (psycopg.ProgrammingError, psycopg.DataError, ValueError, OverflowError) as error:
        raise StorageError(f"cannot be looked up: {error}") from error
    return [_as_written(row) for row in found.fetchall()]


# The server


class _Whole(NumericBinaryLoader):
    """A sum of whole numbers is `numeric` there."""

    def load(self, data: Any) -> Any:
        return int(super().load(data))


def _patient(url: str, seconds: float) -> "psycopg.Connection[Any]":
    """A server that restarts is waited for. One that says no is not, if it was up before it said so and is still."""
    until, pause, is_up = time.monotonic() + seconds, 0.05, False
    while True:
        try:
            return _connected(url)
        except psycopg.OperationalError:
            was_up, is_up = is_up, _is_up(url)
            if time.monotonic() > until or (was_up and is_up):
                raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def _is_up(url: str) -> bool:
    return psycopg.pq.PGconn.ping(make_conninfo(url, connect_timeout=5).encode()) in (Ping.OK, Ping.NO_ATTEMPT)


def _connected(url: str) -> "psycopg.Connection[Any]":
    said = conninfo_to_dict(url)
    options: dict[str, Any] = {name: value for name, value in _QUIET.items() if name not in said}
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0, cursor_factory=psycopg.RawCursor, **options)
    for kind in (int, bool):
        connection.adapters.register_dumper(kind, Int8BinaryDumper)
    connection.adapters.register_loader("numeric", _Whole)
    connection.execute("SET client_min_messages TO warning")
    return connection


def _look_at(url: str, name: str) -> "psycopg.Connection[Any]":
    connection = _connected(url)
    connection.execute("SET default_transaction_read_only TO on")
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(name)))
    return connection


def _make_schema(connection: "psycopg.Connection[Any]", name: str, label: str) -> None:
    schema = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(label)))
    connection.execute(sql.SQL("SET search_path TO {}").format(schema))


def _check_safety(connection: "psycopg.Connection[Any]", path: str) -> None:
    """A commit that is acknowledged is on disk, or nothing we promise would hold."""
    for setting, wanted in _SAFE.items():
        found = _shown(connection, setting)
        if found != wanted:
            raise StorageError(f"the server has {setting} = {found}, and loses what it acknowledges", path=path)
    if _shown(connection, "synchronous_commit") == "off":
        connection.execute("SET synchronous_commit TO on")
    connection.execute(sql.SQL("SET idle_in_transaction_session_timeout TO {}").format(sql.Literal(_LEFT_OPEN)))


def _shown(connection: "psycopg.Connection[Any]", setting: str) -> Any:
    row = connection.execute("SELECT current_setting($1)", (setting,)).fetchone()
    return row[0] if row else None


@contextmanager
def translated(path: str) -> Iterator[None]:
    """The one border where psycopg's errors become ours."""
    try:
        yield
    except StorageError as error:
        raise error.about(path=path) from error.__cause__
    except (errors.DataCorrupted, errors.IndexCorrupted) as error:
        raise Corrupt(f"{_said(error)}: this is not the database it was; restore it", path=path) from error
    except errors.DiskFull as error:
        raise StorageError("the server's disk is full; free space and start again", path=path) from error
    except psycopg.Error as error:
        raise StorageError(f"{type(error).__name__}: {_said(error)}", path=path) from error


def _said(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
