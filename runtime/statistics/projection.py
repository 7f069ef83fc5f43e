"""The projection: DuckDB tables of what the journals say, in a file beside them. Never the truth.

Batches are merged one after the other, each in one transaction with the position that was read to, so a crash leaves
it at the end of some batch. Where the file is missing, cannot be read, or was made by another version of this code, it
begins empty and everything is read again; what was removed from a journal meanwhile is then missing here.
"""

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from ...contracts import StorageError, Unavailable
from ..store import load_statements
from .facts import COLUMNS, Batch

LAYOUT = 1
"""Raise it when the rows that `facts` makes of an event change. A change of the SQL is noticed without."""
INSTALL = "statistics need DuckDB and Arrow: pip install 'hanse[statistics]'"
_SETTINGS = {
    "threads": 1,  # the cores are for the work that is counted
    "memory_limit": "512MB",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}

Row = Mapping[str, Any]


class Projection:
    """The tables. One thread at a time calls it."""

    def __init__(self, path: Path | None) -> None:
        """In memory without a path. Raises Unavailable where DuckDB is missing or another process has the file."""
        if find_spec("duckdb") is None or find_spec("pyarrow") is None:
            raise Unavailable(INSTALL)
        self._path = path
        self._lock = _locked(path) if path else None
        self._statements = load_statements("statistics")
        self._version = _version(self._statements.schema, self._statements.writes)
        self._connection = self._kept() or self._made()

    def position(self, source: str) -> tuple[int, bytes]:
        """Sequence and hash of the last entry of a source that was read; (0, b"") before the first."""
        rows = self.rows("position", source=source)
        return (rows[0]["sequence"], bytes(rows[0]["hash"])) if rows else (0, b"")

    def absorb(self, source: str, batch: Batch, sequence: int, hash: bytes) -> None:
        """Merges a batch that ends with this entry of the source: all of it or nothing. Raises StorageError."""
        for table, columns in batch.columns.items():
            self._connection.register(table, _arrow(COLUMNS[table], columns))
        with self._transaction():
            for name, sql in self._statements.writes.items():
                self._run(name, sql)
            self._run("advance", self._statements.queries["advance"], source=source, sequence=sequence, hash=hash)

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        """Of a named query. Raises StorageError."""
        answer = self._run(query, self._statements.queries[query], **parameters)
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def clear(self) -> None:
        """Begins empty: a source is no longer the one that was read."""
        self._connection.close()
        self._connection = self._made()

    def close(self) -> None:
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def _kept(self) -> Any:
        """What an earlier process made with the same code, or None."""
        if self._path is None or not self._path.exists():
            return None
        connection = None
        with suppress(*_errors()):
            connection = _connect(self._path)
            if connection.execute(self._statements.queries["maker"]).fetchall() == [(self._version,)]:
                return connection
        if connection is not None:
            connection.close()
        return None

    def _made(self) -> Any:
        if self._path is not None:
            for path in (self._path, self._path.with_name(f"{self._path.name}.wal")):
                path.unlink(missing_ok=True)
        connection = _connect(self._path)
        connection.execute(self._statements.schema)
        connection.execute(self._statements.queries["sign"], {"version": self._version})
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def _run(self, name: str, sql: str, **parameters: Any) -> Any:
        try:
            return self._connection.execute(sql, parameters or None)
        except _errors() as error:
            # The words of DuckDB's error may quote what lies in the tables.
            raise StorageError(f"the statistics cannot {name}: {type(error).__name__}") from None


def _version(schema: str, writes: Mapping[str, str]) -> str:
    import duckdb

    text = "\n".join((str(LAYOUT), duckdb.__version__, schema, *writes.values()))
    return hashlib.sha256(text.encode()).hexdigest()


def _connect(path: Path | None) -> Any:
    """Reads no other files, and loads no extensions."""
    import duckdb

    connection = duckdb.connect(str(path) if path else ":memory:", config=_SETTINGS)
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")
    return connection


def _errors() -> tuple[type[Exception], ...]:
    import duckdb

    return (duckdb.Error,)


def _arrow(types: Mapping[str, str], columns: Mapping[str, list[Any]]) -> Any:
    import pyarrow

    of: Mapping[str, Callable[[], Any]] = {
        "string": pyarrow.string,
        "int64": pyarrow.int64,
        "double": pyarrow.float64,
        "bool": pyarrow.bool_,
    }
    return pyarrow.table({name: pyarrow.array(columns[name], of[type]()) for name, type in types.items()})


def _locked(path: Path) -> IO[str]:
    """Held until the file is closed, or the process ends. Raises Unavailable when another process holds it."""
    file = path.with_suffix(".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Unavailable("another process keeps the statistics of this data") from None
    return file
