"""Disks that lose what was not synced. One `Disk` is one store's file: it outlives the processes that open it.

The file itself is a real SQLite database with the real schema and statements, so what recovery reads is what recovery
would read; only when a commit reaches it, and whether it does, is decided here. Torn and flipped bytes below SQLite are
another test's business: within a disk that keeps its promises a transaction is there or not.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from random import Random
from typing import Any

import apsw

from ...contracts import Epoch, Fenced, StorageError, Write
from ..store.statements import load_statements
from .loop import Process

_Waiting = tuple[list[Write], "asyncio.Future[None]"]


class Trouble(StrEnum):
    """What a disk says instead of storing something."""

    FULL = "ENOSPC"
    """Nothing was written, and nothing will be until there is room."""
    BROKEN_SYNC = "EIO"
    """An fsync failed once: what it was to sync is there, or not."""


class Disk:
    """One file."""

    def __init__(self, schema: str, random: Random) -> None:
        self.statements = load_statements(schema)
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(self.statements.schema)
        self.random = random
        self.epoch = 0
        self.delay = 0.0003
        """Seconds that an fsync takes, on average."""
        self.trouble: Trouble | None = None
        self.on_trouble: Callable[[Trouble], None] = lambda trouble: None

    def open(self, process: Process) -> "SimulatedStore":
        """For writing, in a new reign. Raises StorageError."""
        self.fail()
        (self.epoch,) = next(self.connection.execute("UPDATE writer SET epoch = epoch + 1 RETURNING epoch"))
        return SimulatedStore(self, process, Epoch(self.epoch))

    def fail(self) -> None:
        """Raises StorageError when the disk is in trouble. A failed sync is told once."""
        if (trouble := self.trouble) is not None:
            self.on_trouble(trouble)
            if trouble is Trouble.BROKEN_SYNC:
                self.trouble = None
            raise StorageError(f"{trouble}: simulated")

    def write(self, group: Sequence[_Waiting]) -> None:
        """One transaction. Raises StorageError with nothing written, and what apsw raises for a row that cannot be."""
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for writes, _ in group:
            for write in writes:
                rows.setdefault(write.statement, []).append(write.row)
        with self.connection:
            for name, sql in self.statements.writes.items():
                if given := rows.pop(name, None):
                    self.connection.executemany(sql, given)
        assert not rows, f"no statement named {next(iter(rows))}"

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self.connection.execute(self.statements.queries[query], tuple(parameters)))


class SimulatedStore:
    """A process's hold on a disk. Keeps the `Store` port."""

    def __init__(self, disk: Disk, process: Process, epoch: Epoch) -> None:
        self._disk, self._process, self._epoch = disk, process, epoch
        self._waiting: list[_Waiting] = []
        self._syncing: list[_Waiting] = []
        self._broken: StorageError | None = None
        process.on_death.append(self._cut)

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    def commit(self, writes: Iterable[Write]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._process.alive:
            return future
        if self._broken is not None:
            future.set_exception(self._broken)
            return future
        self._waiting.append((list(writes), future))
        if not self._syncing:
            self._sync()
        return future

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._disk.read(query, parameters)

    async def close(self) -> None:
        while self._syncing:  # noqa: ASYNC110 - whoever closes is the only one who waits
            await asyncio.sleep(self._disk.delay)
        self._broken = self._broken or StorageError("the store is closed")

    def _sync(self) -> None:
        self._syncing, self._waiting = self._waiting, []
        self._process.later(self._disk.random.expovariate(1 / self._disk.delay), self._synced)

    def _synced(self) -> None:
        error = self._tried(self._syncing)
        done, self._syncing = self._syncing, []
        self._broken = error
        for _, future in done if error is None else [*done, *self._waiting]:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)
        if self._waiting and error is None:
            self._sync()

    def _tried(self, group: Sequence[_Waiting]) -> StorageError | None:
        if self._disk.epoch != self._epoch:
            return Fenced(f"epoch {self._disk.epoch} owns the store, this is {self._epoch}")
        try:
            self._disk.fail()
            self._disk.write(group)
        except StorageError as error:
            if "EIO" in error.detail and self._disk.random.random() < 0.5:
                self._disk.write(group)
            return error
        return None

    def _cut(self) -> None:
        """The process is gone. What was on its way to the disk has arrived, or has not."""
        if self._syncing and self._disk.epoch == self._epoch and self._disk.random.random() < 0.5:
            self._disk.write(self._syncing)
        self._syncing, self._waiting = [], []
