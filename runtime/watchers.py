"""Watchers: who waits for news of a task, and is told once the news is on disk."""

import asyncio
from typing import Any

from ..contracts import TaskId
from .execution import Run
from .journal import Journal


class Watchers:
    """Wakes those who wait. A future that is canceled is forgotten."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._loop = asyncio.get_running_loop()
        self._watching: dict[TaskId | None, set[asyncio.Future[None]]] = {}
        self._settling: dict[TaskId, set[asyncio.Future[None]]] = {}
        self._touched: set[TaskId | None] = set()
        self._turn = -1

    def watch(self, task: TaskId | None) -> "asyncio.Future[None]":
        """Done when something about the task (None: about anything) has newly come on disk."""
        return self._add(self._watching, task)

    def settled(self, run: Run) -> "asyncio.Future[None]":
        """Done when the task is terminal, or waits for a person, and that is on disk."""
        future = self._add(self._settling, run.task)
        self.look(run)
        return future

    def look(self, run: Run) -> None:
        """Called when a run may have settled."""
        if run.task in self._settling and (run.status.terminal or run.waiting_for_person):
            self._journal.then(lambda: _wake(self._settling, run.task))

    def touch(self, task: TaskId | None) -> None:
        """Called when an event of the task (None: of the federation) was appended."""
        if self._turn != self._journal.turn:
            self._turn, self._touched = self._journal.turn, (touched := set[TaskId | None]())
            self._journal.then(lambda: self._wake_all(touched))
        self._touched.add(task)

    def _wake_all(self, touched: set[TaskId | None]) -> None:
        """Whoever began to watch after it was appended and before it was on disk has not seen it, and is woken too."""
        if self._watching:
            for task in [*(touched & self._watching.keys()), None]:
                _wake(self._watching, task)

    def _add(self, where: dict[Any, set["asyncio.Future[None]"]], task: TaskId | None) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self._loop.create_future()
        where.setdefault(task, set()).add(future)
        future.add_done_callback(lambda done: _forget(where, task, done))
        return future


def _forget(where: dict[Any, set["asyncio.Future[None]"]], task: TaskId | None, future: "asyncio.Future[None]") -> None:
    waiting = where.get(task, set())
    waiting.discard(future)
    if not waiting:
        where.pop(task, None)


def _wake(where: dict[Any, set["asyncio.Future[None]"]], task: TaskId | None) -> None:
    for future in list(where.get(task, ())):
        if not future.done():
            future.set_result(None)
