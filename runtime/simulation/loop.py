"""An event loop on which time passes only when nobody has anything to do, and on which processes can die.

Everything that runs belongs to a `Process`, by the context it was scheduled in. A killed process is never run again:
not its callbacks, not the rest of its coroutines, not their `finally`. That is what SIGKILL does. A process that is
stopped keeps its turn until it is continued, as after SIGSTOP.
"""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import logging
import selectors
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, TypeVar

from ...contracts import Clock

T = TypeVar("T")
_current: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Stuck(AssertionError):
    """Nothing will ever happen again, and somebody still waits."""


class Process:
    """What lives and dies together."""

    def __init__(self, name: str, loop: "VirtualLoop") -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.turns = 0
        """Callbacks and pieces of coroutines that it has run."""
        self.dies_at_turn: int | None = None
        self.on_death: list[Callable[[], None]] = []
        self._loop = loop
        self._held: list[tuple[contextvars.Context, Callable[..., Any], tuple[Any, ...]]] = []
        self.context = contextvars.copy_context()
        self.context.run(_current.set, self)

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        """Runs a coroutine as this process."""
        return self.context.run(self._loop.create_task, work)

    def later(self, seconds: float, action: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Runs `action` as this process, if it lives by then."""
        return self._loop.call_later(seconds, action, *arguments, context=self.context.copy())

    def run(self, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """One turn. Called by the loop."""
        if not self.alive:
            return _bury(action)
        if self.stopped:
            self._held.append((contextvars.copy_context(), action, arguments))
            return
        self.turns += 1
        if self.turns == self.dies_at_turn:
            self.kill()
            return _bury(action)
        action(*arguments)

    def kill(self) -> None:
        """Ends it at once. What it had in memory is gone."""
        if self.alive:
            held, self.alive, self._held = self._held, False, []
            for _, action, _ in held:
                _bury(action)
            for tell in self.on_death:
                tell()

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """Continues it: everything that was to happen meanwhile happens now, in order."""
        self.stopped = False
        held, self._held = self._held, []
        for context, action, arguments in held:
            self._loop.call_soon(action, *arguments, context=context)


def _bury(action: Callable[..., Any]) -> None:
    """Of a dead process. A coroutine that was to begin now was not forgotten, which Python would say of it."""
    task = getattr(action, "__self__", None)
    work = task.get_coro() if isinstance(task, asyncio.Task) else None
    if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


def current() -> Process | None:
    """The process whose turn it is."""
    return _current.get()


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time starts at 0 and jumps to the next timer as soon as nothing is left to be done."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Idle(self))
        self.set_exception_handler(_quietly)

    def time(self) -> float:
        """Seconds."""
        return self._now

    def later(self, seconds: float, action: Callable[..., Any], *arguments: Any) -> asyncio.TimerHandle:
        """Runs `action` as nobody's process: whoever asks for it may be dead by then."""
        return self.call_later(seconds, action, *arguments, context=contextvars.Context())

    def pass_time(self, seconds: float) -> None:
        self._now += seconds

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:  # pyright: ignore[reportIncompatibleMethodOverride]
        context = contextvars.copy_context() if context is None else context
        if (process := context.get(_current)) is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(process.run, callback, args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:  # pyright: ignore[reportIncompatibleMethodOverride]
        context = contextvars.copy_context() if context is None else context
        if (process := context.get(_current)) is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, process.run, callback, args, context=context)


def run_to_end(loop: VirtualLoop, work: Awaitable[T], judge: Callable[[], object] = bool) -> T:
    """What `work` comes to. Lets `judge` look at what is left, and closes the loop. Raises Stuck.

    Nothing is collected meanwhile: when dead coroutines are is nobody's choice, and their `finally` must not run.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        result = loop.run_until_complete(work)
        judge()
        return result
    finally:
        _unwind(loop)
        loop._ready.clear()  # type: ignore[attr-defined]
        loop._scheduled.clear()  # type: ignore[attr-defined]
        loop.close()
        if collecting:
            gc.enable()


def _unwind(loop: VirtualLoop) -> None:
    """Ends every coroutine that was left in the middle. Nobody looks any more, so its `finally` may run now; if the
    collector met it later, that would be in the middle of somebody else's work."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for task in asyncio.all_tasks(loop):
            _close(task.get_coro())
    finally:
        logging.disable(level)


def _close(work: Any) -> None:
    """A `finally` that waits refuses to be closed; it is asked again for what comes after it."""
    while inspect.iscoroutine(work) and inspect.getcoroutinestate(work) != inspect.CORO_CLOSED:
        with contextlib.suppress(BaseException):
            work.close()


class _Idle(selectors.BaseSelector):
    """Waits by letting time pass. No file is ever ready, for there are none."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing will ever happen again, and somebody still waits")
        self._loop.pass_time(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj if isinstance(fileobj, int) else fileobj.fileno()]

    def close(self) -> None:
        self._keys.clear()


def _quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tasks of dead processes are never finished, and that is as it should be. Anything else is a mistake."""
    if isinstance(context.get("exception"), BaseException) and "was never retrieved" not in context["message"]:
        loop.default_exception_handler(context)


class SimulatedClock(Clock):
    """One process's view of the time: the wall clock may be wrong, and may jump."""

    def __init__(self, loop: VirtualLoop, epoch_ms: int) -> None:
        self._loop = loop
        self._epoch_ms = epoch_ms
        self.skew_ms = 0

    def now_ms(self) -> int:
        return self._epoch_ms + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()


class SimulatedEntropy:
    """Randomness from the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()
