"""The statistics as a part of the federation: one process beside the coordinators, on the node where their journals
lie, so that counting never holds up a coordinator's loop. It reads all shards' files, and what they hold needs no
merging afterwards.

Nothing waits for it, and it reads nothing before somebody asks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from ..contracts import InvalidInput, JsonObject, Unavailable
from .answering import Asked, Counter
from .assembly import World
from .config import Configuration
from .link import Receiver
from .statistics import Keeper, Sources, readers
from .statistics.keeper import DAY_SECONDS, MAX_SECONDS

NAME = "statistics"
FILE = "statistics.duckdb"
PATIENCE_SECONDS = 10.0
"""For reading on, before whoever asks is told to come again. After a first start there may be much to read."""

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
        await self._safely(self._keeper.close)

    async def _outcomes(self, asked: Asked) -> JsonObject:
        wanted = asked.parameters
        await self._read_on()
        view = await self._safely(
            partial(self._keeper.outcomes, asked.tenant, seconds_of(wanted), str(wanted.get("by") or "capability"))
        )
        return view.model_dump(mode="json")

    async def _totals(self, asked: Asked) -> list[JsonObject]:
        await self._read_on()
        return [each.model_dump(mode="json") for each in await self._safely(partial(self._keeper.totals, asked.tenant))]

    async def _read_on(self) -> None:
        """Whatever was on disk when this was called is counted. Raises Unavailable while that takes long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.shield(await self._next_reading())
        except TimeoutError:
            read = self._keeper.entries
            raise Unavailable(f"the journals are still being read, {read} entries so far; ask again") from None

    async def _next_reading(self) -> "asyncio.Task[None]":
        """One that begins after this was called. Those who come while one is under way share the next."""
        current = self._reading
        if current is not None and not current.done():
            await asyncio.wait([current])
        if self._reading is current:
            self._reading = asyncio.create_task(self._safely(self._keeper.catch_up))
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        assert self._reading is not None
        return self._reading

    async def _safely(self, work: Callable[[], Any]) -> Any:
        """Alone, and to its end, even when whoever asked has gone."""
        return await asyncio.shield(asyncio.create_task(self._one(work)))

    async def _one(self, work: Callable[[], Any]) -> Any:
        async with self._alone:
            return await self._do(work)


def make_statistics(
    configuration: Configuration, world: World, fail: Callable[[BaseException], None]
) -> StatisticsPart:
    """Over the files of a data folder. What it keeps can be made again, so nothing here ends the process."""
    path, shards = configuration.data / FILE, configuration.coordinator.shards

    @contextmanager
    def sources() -> Iterator[Sources]:
        """Opened for each reading: a file may have been replaced by a copy."""
        found = readers(configuration.data, shards)
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
