"""Where an event stream reads: pages of events, each with the cursor that stands behind it.

The cursor of one journal is the sequence number of an event. A tenant's events lie in as many journals as there are
shards, each with a sequence of its own, so that cursor has a number for each: `17,4`.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...contracts import Event, NotFound
from ..client import Client
from .problems import BadRequest

_CURSOR = re.compile(r"[0-9]{1,18}(?:,[0-9]{1,18}){0,4095}")

Placed = tuple[str, Event]
"""A cursor, and the event before it."""


class Feed(Protocol):
    """Pages, oldest first."""

    ended: bool
    """Whether the last event was read."""

    @property
    def cursor(self) -> str: ...

    async def page(self, wait_seconds: float, limit: int = 1000) -> list[Placed]:
        """What comes next. Empty when nothing came for `wait_seconds`. Raises Unavailable; then ask again."""
        ...

    async def over(self) -> bool:
        """Whether what it tells of has come to its end, read or not."""
        ...

    def close(self) -> None: ...


class TaskFeed:
    """The events of one task."""

    def __init__(self, client: Client, task: str, after: int) -> None:
        self._client = client
        self._task = task
        self._after = after
        self.ended = False

    @property
    def cursor(self) -> str:
        return str(self._after)

    async def page(self, wait_seconds: float, limit: int = 1000) -> list[Placed]:
        found = await self._client.events(self._task, after=self._after, wait_seconds=wait_seconds, limit=limit)
        if found:
            self._after, self.ended = found[-1].sequence, found[-1].kind.ends_task
        return [(str(event.sequence), event) for event in found]

    async def over(self) -> bool:
        return (await self._client.task(self._task)).status.terminal

    async def exhausted(self) -> bool:
        """Whether the task has ended and there is nothing behind the cursor."""
        return await self.over() and not await self._client.events(self._task, after=self._after, limit=1)

    def close(self) -> None:
        """Holds nothing."""


class TenantFeed:
    """The events of all tasks of a tenant, from all shards, each asked on its own. It never ends."""

    ended = False

    def __init__(self, client: Client, after: Mapping[int, int]) -> None:
        """`after` is the place in each shard that is read."""
        self._client = client
        self._after = dict(after)
        self._idle = False
        """Whether the last page was empty. Then the next one looks where the journal ends first: if nothing of this
        tenant comes before that place, the cursor may go there, and other tenants' events are not read again."""
        self._asking: dict[int, asyncio.Task[list[Event]]] = {}

    @property
    def cursor(self) -> str:
        return ",".join(map(str, self._after.values()))

    async def page(self, wait_seconds: float, limit: int = 1000) -> list[Placed]:
        for shard in self._after:
            if shard not in self._asking:
                self._asking[shard] = asyncio.create_task(self._ask(shard, wait_seconds, limit))
        until = asyncio.FIRST_COMPLETED if wait_seconds > 0 else asyncio.ALL_COMPLETED
        done, _ = await asyncio.wait(self._asking.values(), return_when=until)
        answered = [shard for shard, asked in self._asking.items() if asked in done]
        return [placed for shard in answered for placed in self._placed(shard, self._asking.pop(shard).result())]

    async def over(self) -> bool:
        return False

    def close(self) -> None:
        for asked in self._asking.values():
            asked.cancel()

    async def _ask(self, shard: int, wait_seconds: float, limit: int) -> list[Event]:
        after = self._after[shard]
        head = (await self._client.status()).heads[shard] if self._idle else after
        found = await self._client.events(None, after=after, wait_seconds=wait_seconds, limit=limit, shard=shard)
        self._idle = not found
        if not found:
            self._after[shard] = max(after, head)
        return found

    def _placed(self, shard: int, events: Sequence[Event]) -> list[Placed]:
        found: list[Placed] = []
        for event in events:
            self._after[shard] = event.sequence
            found.append((self.cursor, event))
        return found


async def feed_of_task(client: Client, task: str, after: str | None) -> TaskFeed:
    """From the task's beginning, or behind `after`. Raises NotFound, BadRequest."""
    numbers = _numbers(after or "0")
    if len(numbers) != 1:
        raise _no_cursor(after)
    await client.task(task)
    return TaskFeed(client, task, numbers[0])


async def feed_of_tenant(client: Client, after: str | None, shard: int | None = None) -> TenantFeed:
    """From now on, or behind `after`; `0` is the beginning. Of one shard, or of all. Raises BadRequest, NotFound."""
    heads = dict(enumerate((await client.status()).heads))
    if shard is not None:
        if shard not in heads:
            raise NotFound(f"there is no shard {shard}")
        heads = {shard: heads[shard]}
    if after is None:
        return TenantFeed(client, heads)
    numbers = _numbers(after)
    if numbers == [0]:
        numbers = [0] * len(heads)
    if len(numbers) != len(heads):
        raise _no_cursor(after)
    return TenantFeed(client, dict(zip(heads, numbers, strict=True)))


def _numbers(cursor: str) -> list[int]:
    if not _CURSOR.fullmatch(cursor):
        raise _no_cursor(cursor)
    return [int(each) for each in cursor.split(",")]


def _no_cursor(cursor: str | None) -> BadRequest:
    return BadRequest(f"{(cursor or '')[:64]!r} is not a place in this event stream. Send back an id as it came")
