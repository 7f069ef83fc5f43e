"""Timers of tasks: retries, deadlines, expiry of questions. They hold nothing that the journal does not say again."""

import asyncio
from collections.abc import Callable

from ..contracts import Clock, TaskId


class Timers:
    """At most one timer per task and purpose."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._handles: dict[TaskId, dict[str, asyncio.TimerHandle]] = {}

    def at(self, task: TaskId, purpose: str, unix_ms: int, action: Callable[[], None]) -> None:
        """Runs `action` at a moment of the wall clock, at once when it has passed. Replaces the one before."""
        self.cancel(task, purpose)
        delay = max(0, unix_ms - self._clock.now_ms()) / 1000
        self._handles.setdefault(task, {})[purpose] = self._loop.call_later(delay, action)

    def cancel(self, task: TaskId, purpose: str) -> None:
        if handle := self._handles.get(task, {}).pop(purpose, None):
            handle.cancel()

    def cancel_all(self, task: TaskId) -> None:
        for handle in self._handles.pop(task, {}).values():
            handle.cancel()

    def clear(self) -> None:
        for task in list(self._handles):
            self.cancel_all(task)
