"""A store's file to look at: nothing is written into it, and no writer is fenced off by it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from ...contracts import StorageError
from .sqlite import BUSY_MS, translated
from .statements import Statements, load_statements


class StoreReader:
    """Reads a store whether or not somebody has it open for writing. It has no epoch."""

    def __init__(self, path: Path, schema: str) -> None:
        """Raises StorageError, and Corrupt for a file that is no database."""
        self.path = path
        self._statements: Statements = load_statements(schema)
        with translated(str(path)):
            self._connection = _open(path)

    def has(self, table: str) -> bool:
        with translated(str(self.path)):
            rows = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
            return rows.fetchone() is not None

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong with pages and indexes; it reads the whole file."""
        with translated(str(self.path)):
            found = [text for (text,) in self._connection.execute("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if (sql := self._statements.queries.get(query)) is None:
            raise StorageError(f"no query named {query!r}", path=str(self.path))
        with translated(str(self.path)):
            return list(self._connection.execute(sql, parameters))

    def close(self) -> None:
        self._connection.close(force=True)


def _open(path: Path) -> apsw.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(BUSY_MS)  # a writer that recovers or cuts off its log is waited for
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opening alone reads nothing
    except apsw.Error:
        connection.close(force=True)
        raise
    return connection
