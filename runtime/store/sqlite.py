"""The embedded store: SQLite through `apsw`, WAL, `synchronous=FULL`, one connection that writes per file.

A commit of one row costs about as much as a commit of a hundred, because both cost one fsync. So commits queue up
while one is on its way to disk, and the next one takes all of them: group commit (DeWitt et al., SIGMOD 1984). The
rows are written on the event loop, and a thread waits for the disk, because fsync blocks. A store in memory has no
disk to wait for.

A connection may not be used by two threads at once: while the thread has it, the next rows wait on the event loop.
Reads go through a connection of their own.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from ...contracts import Corrupt, Epoch, Fenced, StorageError, Write
from ..files import sync_folder
from .committing import Inline, Threaded, Waiting, gathered
from .statements import Statements, load_statements

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
"""
BUSY_MS = 5000


class SqliteStore:
    """One file, one writer. Keeps the `Store` port."""

    def __init__(
        self,
        path: str,
        statements: Statements,
        *,
        vfs: str | None = None,
        inline: bool = False,
        secure_delete: bool = False,
    ) -> None:
        """Opens `path` for writing and raises its epoch. Blocks; raises StorageError or Corrupt.

        `vfs` names the SQLite VFS that does the I/O. `inline` commits on the event loop as a store in memory does: for
        simulations, in which a thread would make the order of things random. `secure_delete` overwrites what is
        deleted, which `scrub` and `compact` rely on.
        """
        self.path = path
        self._statements = statements
        self._loop = asyncio.get_running_loop()
        self._broken: StorageError | None = None
        self._closing: asyncio.Future[None] | None = None
        with translated(path):
            self._writer = _connect(path, vfs, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            if secure_delete:
                list(self._writer.execute("PRAGMA secure_delete = ON"))
            self.epoch = _begin_reign(self._writer, statements.schema)
            self._reader = self._writer if in_memory(path) else _connect(path, vfs, apsw.SQLITE_OPEN_READONLY)
        self._committer = Inline(self) if inline or in_memory(path) else Threaded(self)

    @classmethod
    def open(
        cls,
        path: str | Path,
        schema: str,
        *,
        vfs: str | None = None,
        inline: bool = False,
        secure_delete: bool = False,
    ) -> "SqliteStore":
        """Opens the store of `schema` (`journal`, `agent`, `memory`), making its folder when needed."""
        if not in_memory(str(path)):
            with translated(str(path)):
                _make_folder(Path(path).absolute().parent)
        return cls(str(path), load_statements(schema), vfs=vfs, inline=inline, secure_delete=secure_delete)

    def commit(self, writes: Iterable[Write]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        if self._broken or self._closing:
            future.set_exception(self._broken or StorageError("the store is closed", path=self.path))
        else:
            self._committer.put((writes, future))
        return future

    def scrub(self) -> "asyncio.Future[None]":
        """Done when what was deleted before is in no file of the store any more: its pages are overwritten, and the
        write-ahead log, which held them as they were, is cut off. Raises StorageError while somebody else reads.
        """
        return self._do(self._scrub)

    def compact(self) -> "asyncio.Future[None]":
        """The same by writing the file anew, which also gives back its room. Commits wait meanwhile."""
        return self._do(self._compact)

    def _do(self, work: Callable[[], None]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        if self._broken or self._closing:
            future.set_exception(self._broken or StorageError("the store is closed", path=self.path))
        else:
            self._committer.do(work, future)
        return future

    def _scrub(self) -> None:
        (busy, _, _) = next(iter(self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")))
        if busy and not in_memory(self.path):
            raise StorageError("the write-ahead log is in use by a reader and cannot be cut off now", path=self.path)

    def _compact(self) -> None:
        list(self._writer.execute("PRAGMA temp_store = FILE; VACUUM; PRAGMA temp_store = MEMORY"))
        self._scrub()

    def between(self, work: Callable[[], None]) -> StorageError | None:
        """Does something to the file while nothing is written. Called by the committer. It may fail and go on."""
        try:
            with translated(self.path):
                self._writer.set_busy_timeout(BUSY_MS)
                work()
        except StorageError as error:
            return error
        return None

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if (sql := self._statements.queries.get(query)) is None:
            raise StorageError(f"no query named {query!r}", path=self.path)
        try:
            return list(self._reader.execute(sql, parameters))
        except Exception as error:  # looked at only now: each call of an agent reads
            raise self._unread(error) from error

    def _unread(self, error: Exception) -> StorageError:
        try:
            with translated(self.path):
                raise error
        except StorageError as known:
            return known
        except (TypeError, ValueError, OverflowError):
            return StorageError(f"cannot be looked up: {error}", path=self.path)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._committer.stop()
        self._reader.close(force=True)
        self._writer.close(force=True)  # the last one out checkpoints; if it cannot, the next opening will

    def run(self, group: Sequence[Waiting]) -> StorageError | None:
        """One transaction for the whole group, to its end on disk. Called by the committer, as are the next three."""
        return self._tried(self._begin, BUSY_MS) or self.write(group) or self.sync()

    def begin_at_once(self) -> bool:
        """Begins a transaction. False when that would take time, because another process writes, or cannot be."""
        try:
            if self._broken is None:
                self._begin(0)
            return self._broken is None
        except apsw.Error:
            return False

    def write(self, group: Sequence[Waiting]) -> StorageError | None:
        """The group's rows, into the transaction that was begun."""
        return self._tried(self._write, group)

    def sync(self) -> StorageError | None:
        """The end of the transaction. Blocks until it is on disk."""
        return self._tried(self._writer.execute, "COMMIT")

    def _tried(self, work: Callable[..., Any], *arguments: Any) -> StorageError | None:
        """What went wrong, now or before. After that nothing is written any more."""
        if self._broken is None:
            try:
                with translated(self.path):
                    work(*arguments)
            except StorageError as error:
                self._broken = error
            except Exception as error:  # a row that cannot be written; whoever waits must hear of it
                self._broken = StorageError(f"cannot be written: {type(error).__name__}: {error}", path=self.path)
            if self._broken is not None:
                _roll_back(self._writer)
        return self._broken

    def _begin(self, wait_ms: int) -> None:
        self._writer.set_busy_timeout(wait_ms)
        self._writer.execute("BEGIN IMMEDIATE")

    def _write(self, group: Sequence[Waiting]) -> None:
        self._check_epoch()
        for sql, rows in gathered(group, self._statements):
            self._writer.executemany(sql, rows)

    def _check_epoch(self) -> None:
        (epoch,) = next(self._writer.execute("SELECT epoch FROM writer"))
        if epoch != self.epoch:
            raise Fenced(path=self.path, epoch=self.epoch, current=epoch)


def in_memory(path: str) -> bool:
    return path == ":memory:"


def _connect(path: str, vfs: str | None, flags: int) -> apsw.Connection:
    connection = apsw.Connection(path, flags=flags, vfs=vfs)
    connection.set_busy_timeout(BUSY_MS)
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
    sync_folder(folder.parent)


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
    """As far as the disk lets it: what went wrong is told already, and nothing is written any more."""
    with suppress(apsw.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """The one border where apsw's errors become ours."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise Corrupt(f"{error}: this is not the database it was; restore it or move it away", path=path) from error
    except UnicodeDecodeError as error:
        raise Corrupt("a text in it is none: this is not the database it was", path=path) from error
    except apsw.FullError as error:
        raise StorageError("the disk is full; free space and start again", path=path) from error
    except (apsw.Error, OSError) as error:
        raise StorageError(f"{type(error).__name__}: {error}", path=path) from error
