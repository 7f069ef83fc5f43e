"""Group commit (DeWitt et al., SIGMOD 1984): what queues up while one commit is on its way goes with the next one.

A commit of one row costs about as much as a commit of a hundred, because both wait once for a disk.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from ...contracts import StorageError, Write
from .statements import Statements

Waiting = tuple[Iterable[Write], "asyncio.Future[None]"]


class Committing(Protocol):
    """What a committer asks of a store. None of it raises; an error is given back."""

    path: str

    def run(self, group: Sequence[Waiting]) -> StorageError | None:
        """One transaction for the whole group, to its end on disk. Blocks."""
        ...

    def begin_at_once(self) -> bool:
        """Begins a transaction, if that takes no time and the rows are to be written on the event loop."""
        ...

    def write(self, group: Sequence[Waiting]) -> StorageError | None:
        """The group's rows, into the transaction that was begun."""
        ...

    def sync(self) -> StorageError | None:
        """The end of the transaction. Blocks until it is on disk."""
        ...

    def between(self, work: Callable[[], None]) -> StorageError | None:
        """Does something else while nothing is written. It may fail and go on."""
        ...


def gathered(group: Sequence[Waiting], statements: Statements) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The group's rows by statement, in the order in which they run. Raises StorageError for a name that none has."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for writes, _ in group:
        for statement, row in writes:
            rows.setdefault(statement, []).append(row)
    if unknown := rows.keys() - statements.writes.keys():
        raise StorageError(f"no statement named {min(unknown)!r}")
    return [(sql, rows[name]) for name, sql in statements.writes.items() if name in rows]


def settle(group: Sequence[Waiting], error: StorageError | None) -> None:
    """Tells those who wait. On the event loop."""
    for _, future in group:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


class Threaded:
    """Waits for the disk in a thread of its own, with everything that queued up at once.

    The rows are written on the event loop all the same: Python runs one thread at a time, and a thread that comes back
    from SQLite has to wait for its turn, row by row. With the rows in the thread, an agent's call took 65 to 90 µs of
    processor time and now takes 45 (`benchmarks.engine`).
    """

    def __init__(self, store: Committing) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._busy = False
        self._idle: asyncio.Future[None] | None = None
        self._work_between: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._groups: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        """What the thread does; each gives what is then done on the event loop."""
        self._thread = threading.Thread(target=self._work, name=f"commit {store.path}", daemon=True)
        self._thread.start()

    def put(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._wake()

    def do(self, work: Callable[[], None], future: "asyncio.Future[None]") -> None:
        """Work between two commits, behind those that are asked for already."""
        self._work_between.append((work, future))
        self._wake()

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next)

    async def stop(self) -> None:
        if self._busy:
            self._idle = self._loop.create_future()
            await self._idle
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)

    def _next(self) -> None:
        """Takes all that wait, if any do."""
        group, self._waiting = self._waiting, []
        self._busy = bool(group or self._work_between)
        if group:
            self._write(group)
        elif self._work_between:
            self._groups.put(partial(self._between, *self._work_between.pop(0)))
        elif self._idle:
            self._idle.set_result(None)

    def _write(self, group: list[Waiting]) -> None:
        begun = self._store.begin_at_once()
        if begun and (error := self._store.write(group)):
            self._end(group, error)
        else:
            self._groups.put(partial(self._commit, group, begun))

    def _commit(self, group: list[Waiting], begun: bool) -> Callable[[], None]:
        return partial(self._end, group, self._store.sync() if begun else self._store.run(group))

    def _between(self, work: Callable[[], None], future: "asyncio.Future[None]") -> Callable[[], None]:
        return partial(self._end, [((), future)], self._store.between(work))

    def _end(self, group: list[Waiting], error: StorageError | None) -> None:
        settle(group, error)
        self._next()

    def _work(self) -> None:
        while work := self._groups.get():
            then = work()
            try:
                self._loop.call_soon_threadsafe(then)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


class Inline:
    """Commits on the event loop, once per tick: nothing to wait for in memory, and no thread to make order random."""

    def __init__(self, store: Committing) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._group: list[Waiting] = []

    def put(self, waiting: Waiting) -> None:
        if not self._group:
            self._loop.call_soon(self._work)
        self._group.append(waiting)

    def do(self, work: Callable[[], None], future: "asyncio.Future[None]") -> None:
        self._work()
        settle([((), future)], self._store.between(work))

    async def stop(self) -> None:
        self._work()

    def _work(self) -> None:
        group, self._group = self._group, []
        if group:
            settle(group, self._store.run(group))
