"""The embedded store: SQLite through `apsw`, WAL, `synchronous=FULL`, one connection that writes per file.

A commit of one row costs about as much as a commit of a hundred, because both cost one fsync. So commits queue up
while one is on its way to disk, and the next one takes all of them: group commit (DeWitt et al., SIGMOD 1984). A
thread does it, because fsync blocks. A store in memory commits on the event loop, in the order of the calls.

A connection may not be used by two threads at once, so everybody else reads on the event loop.
"""

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import apsw

from ...contracts import Corrupt, Epoch, Fenced, StorageError, Write
from .statements import Statements, load_statements

_Waiting = tuple[Iterable[Write], "asyncio.Future[None]"]

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
"""
_BUSY_MS = 5000


class SqliteStore:
    """One file, one writer. Keeps the `Store` port."""

    def __init__(self, path: str, statements: Statements, *, vfs: str | None = None, inline: bool = False) -> None:
        """Opens `path` for writing and raises its epoch. Blocks; raises StorageError or Corrupt.

        `vfs` names the SQLite VFS that does the I/O. `inline` commits on the event loop as a store in memory does: for
        simulations, in which a thread would make the order of things random.
        """
        self.path = path
        self._statements = statements
        self._order = list(statements.writes.items())
        self._loop = asyncio.get_running_loop()
        self._broken: StorageError | None = None
        self._closing: asyncio.Future[None] | None = None
        with translated(path):
            self._writer = _connect(path, vfs, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            self.epoch = _begin_reign(self._writer, statements.schema)
            self._reader = self._writer if in_memory(path) else _connect(path, vfs, apsw.SQLITE_OPEN_READONLY)
        self._committer = _Inline(self) if inline or in_memory(path) else _Thread(self)

    @classmethod
    def open(cls, path: str | Path, schema: str, *, vfs: str | None = None, inline: bool = False) -> "SqliteStore":
        """Opens the store of `schema` (`journal` or `agent`), making its folder when needed."""
        if not in_memory(str(path)):
            with translated(str(path)):
                _make_folder(Path(path).absolute().parent)
        return cls(str(path), load_statements(schema), vfs=vfs, inline=inline)

    def commit(self, writes: Iterable[Write]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        if self._broken or self._closing:
            future.set_exception(self._broken or StorageError("the store is closed", path=self.path))
        else:
            self._committer.put((writes, future))
        return future

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if (sql := self._statements.queries.get(query)) is None:
            raise StorageError(f"no query named {query!r}", path=self.path)
        try:
            with translated(self.path):
                return list(self._reader.execute(sql, parameters))
        except (TypeError, ValueError, OverflowError) as error:
            raise StorageError(f"cannot be looked up: {error}", path=self.path) from error

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._committer.stop()
        with translated(self.path):
            for connection in {self._reader, self._writer}:
                connection.close()

    def run(self, group: Sequence[_Waiting]) -> StorageError | None:
        """One transaction for the whole group. Called by the committer."""
        if self._broken is None:
            try:
                with translated(self.path):
                    self._transact(group)
            except StorageError as error:
                self._broken = error
            except Exception as error:  # a row that cannot be written; whoever waits must hear of it
                self._broken = StorageError(f"cannot be written: {type(error).__name__}: {error}", path=self.path)
        return self._broken

    def _transact(self, group: Sequence[_Waiting]) -> None:
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for writes, _ in group:
            for statement, row in writes:
                rows.setdefault(statement, []).append(row)
        execute = self._writer.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._check_epoch()
            for name, sql in self._order:
                if name in rows:
                    self._writer.executemany(sql, rows.pop(name))
            _refuse_unknown(rows)
            execute("COMMIT")
        except BaseException:
            _roll_back(self._writer)
            raise

    def _check_epoch(self) -> None:
        (epoch,) = next(self._writer.execute("SELECT epoch FROM writer"))
        if epoch != self.epoch:
            raise Fenced(path=self.path, epoch=self.epoch, current=epoch)


def settle(group: Sequence[_Waiting], error: StorageError | None) -> None:
    """Tells those who wait. On the event loop."""
    for _, future in group:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


class _Thread:
    """Commits in a thread of its own, everything that queued up at once."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self.put = self._queue.put
        self._thread = threading.Thread(target=self._work, name=f"commit {store.path}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while group := self._next_group():
            error = self._store.run(group)
            try:
                self._loop.call_soon_threadsafe(settle, group, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _next_group(self) -> list[_Waiting]:
        """Waits for one, takes all. Empty means stop; what came before the stop is still committed."""
        first = self._queue.get()
        group = [] if first is None else [first]
        while group and not self._queue.empty():
            if (more := self._queue.get()) is None:
                self._queue.put(None)
                break
            group.append(more)
        return group


class _Inline:
    """Commits on the event loop, once per tick: nothing to wait for in memory, and no thread to make order random."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._group: list[_Waiting] = []

    def put(self, waiting: _Waiting) -> None:
        if not self._group:
            self._loop.call_soon(self._work)
        self._group.append(waiting)

    async def stop(self) -> None:
        self._work()

    def _work(self) -> None:
        group, self._group = self._group, []
        if group:
            settle(group, self._store.run(group))


def in_memory(path: str) -> bool:
    return path == ":memory:"


def _connect(path: str, vfs: str | None, flags: int) -> apsw.Connection:
    connection = apsw.Connection(path, flags=flags, vfs=vfs)
    connection.set_busy_timeout(_BUSY_MS)
    if flags & apsw.SQLITE_OPEN_READWRITE:
        list(connection.execute(_PRAGMAS))  # to the end: apsw stops at each row that a statement gives
        _check_mode(connection, path)
    return connection


def _check_mode(connection: apsw.Connection, path: str) -> None:
    """SQLite says which mode it took and goes on; without WAL and FULL nothing we promise would hold."""
    (mode,), (synchronous,) = connection.execute("PRAGMA journal_mode; PRAGMA synchronous")
    if (mode, synchronous) not in (("wal", 2), ("memory", 2)):
        raise StorageError(f"no write-ahead log that is synced: journal mode {mode}, {synchronous}", path=path)


def _make_folder(folder: Path) -> None:
    """Makes a folder that is still there after a power cut: its entry in its parent is synced too."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _begin_reign(connection: apsw.Connection, schema: str) -> Epoch:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(schema)
        (epoch,) = next(connection.execute("UPDATE writer SET epoch = epoch + 1 RETURNING epoch"))
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return Epoch(epoch)


def _roll_back(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _refuse_unknown(rows: dict[str, Any]) -> None:
    if rows:
        raise StorageError(f"no statement named {next(iter(rows))!r}")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """The one border where apsw's errors become ours."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise Corrupt(f"{error}: this is not the database it was; restore it or move it away", path=path) from error
    except apsw.FullError as error:
        raise StorageError("the disk is full; free space and start again", path=path) from error
    except (apsw.Error, OSError) as error:
        raise StorageError(f"{type(error).__name__}: {error}", path=path) from error
