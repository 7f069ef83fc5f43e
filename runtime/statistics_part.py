"""The statistics as a part of the federation: one process beside the coordinators, on the node where their journals
lie, so that counting never holds up a coordinator's loop. It reads all shards' files, and what they hold needs no
merging afterwards.

Nothing waits for it, and it reads nothing before somebody asks.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from ..contracts import InvalidInput, JsonObject
from .answering import Asked, Counter
from .assembly import World
from .config import Configuration
from .link import Receiver
from .statistics import Keeper, Sources, readers
from .statistics.keeper import DAY_SECONDS, MAX_SECONDS
from .store.place import settled

NAME = "statistics"
FILE = "statistics.duckdb"
PATIENCE_SECONDS = 10.0
"""For reading on, before whoever asks is told what there is."""
TOTALS_SECONDS = 1.0
"""The same for totals. Who scrapes them must get them while the machine is busy, and comes again anyway."""

NICENESS = 5
"""Beside work that takes all cores, counting gets a quarter of one."""

Do = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something that blocks, and gives what it returns."""


class StatisticsPart:
    """A keeper behind a counter. Not started."""

    def __init__(self, keeper: Keeper, do: Do = asyncio.to_thread) -> None:
        self._keeper, self._do = keeper, do
        self._alone = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self.counter = Counter("the statistics", {"outcomes": self._outcomes, "totals": self._totals})

    async def start(self) -> Receiver:
        return self.counter

    async def stop(self) -> None:
        await self.counter.stop()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._safely(self._keeper.close)

    async def _outcomes(self, asked: Asked) -> JsonObject:
        wanted = asked.parameters
        seconds, by = seconds_of(wanted), str(wanted.get("by") or "capability")
        complete = await self._read_on(PATIENCE_SECONDS)
        view = await self._safely(partial(self._keeper.outcomes, asked.tenant, seconds, by))
        return view.model_copy(update={"complete": complete}).model_dump(mode="json")

    async def _totals(self, asked: Asked) -> list[JsonObject]:
        """Of what was read so far: a series that grows later still grows."""
        await self._read_on(TOTALS_SECONDS)
        return [each.model_dump(mode="json") for each in await self._safely(partial(self._keeper.totals, asked.tenant))]

    async def _read_on(self, seconds: float) -> bool:
        """Whether everything that was on disk when this was called has been read, after so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(await self._next_reading())
        except TimeoutError:
            return False
        return True

    async def _next_reading(self) -> "asyncio.Task[None]":
        """One that begins after this was called. Those who come while one is under way share the next."""
        current = self._reading
        if current is not None and not current.done():
            await asyncio.wait([current])
        if self._reading is current:
            self._reading = asyncio.create_task(self._catch_up())
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        assert self._reading is not None
        return self._reading

    async def _catch_up(self) -> None:
        """Batch by batch, and whoever wants an answer gets it between two of them."""
        steps = self._keeper.read_on()
        try:
            while await self._safely(partial(next, steps, 0)):
                pass
        finally:
            await self._safely(steps.close)

    async def _safely(self, work: Callable[[], Any]) -> Any:
        """Alone, and to its end, even when whoever asked has gone."""
        return await asyncio.shield(asyncio.create_task(self._one(work)))

    async def _one(self, work: Callable[[], Any]) -> Any:
        async with self._alone:
            return await self._do(work)


def make_statistics(
    configuration: Configuration, world: World, fail: Callable[[BaseException], None]
) -> StatisticsPart:
    """Over the journals of a federation, in a process that gives way to those that work. What it keeps can be made
    again, so nothing here ends the process.
    """
    os.nice(NICENESS)
    path, shards = configuration.data / FILE, configuration.coordinator.shards
    place = settled(configuration.data, configuration.address)

    @contextmanager
    def sources() -> Iterator[Sources]:
        """Opened for each reading: a file may have been replaced by a copy."""
        found = readers(place, shards)
        with ExitStack() as stack:
            for reader in found.values():
                stack.enter_context(closing(reader))
            yield found

    return StatisticsPart(Keeper(path, sources, world.clock))


def seconds_of(wanted: Mapping[str, Any]) -> float:
    """Of the window that is asked for: a day when left out. Raises InvalidInput."""
    seconds = wanted.get("since_seconds")
    seconds = DAY_SECONDS if seconds is None else seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
        raise InvalidInput(f"since_seconds is more than 0 and at most {MAX_SECONDS:g}")
    return float(seconds)
