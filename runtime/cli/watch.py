"""Follows a task: drawn live over itself on a terminal, a line for each event in a pipe, JSON lines with `--json`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from rich.live import Live

from ...contracts import Event, TaskView
from ..client import Client
from .output import Output
from .view import plain_line, task_view

WAIT_SECONDS = 10.0
"""Longest wait for the next event; then it is asked for anew."""


async def events(client: Client, task: str, after: int = 0) -> AsyncIterator[list[Event]]:
    """Pages of a task's events, up to the one that ends it. The status may run ahead of them, so it is not asked."""
    ended = False
    while not ended:
        if page := await client.events(task, after=after, wait_seconds=WAIT_SECONDS):
            yield page
            after = page[-1].sequence
            ended = any(event.kind.ends_task for event in page)


async def watch(client: Client, out: Output, task: str) -> TaskView:
    """Shows the task until it ends, and returns it as it ended."""
    await client.task(task)
    if out.live:
        await _draw(client, out, task)
    else:
        await _list(client, out, task)
    return await client.task(task)


async def _draw(client: Client, out: Output, task: str) -> None:
    seen: list[Event] = []
    with Live(console=out.console, auto_refresh=False, vertical_overflow="crop") as live:
        live.update(await picture(client, task, seen), refresh=True)
        async for page in events(client, task):
            seen += page
            live.update(await picture(client, task, seen), refresh=True)


async def picture(client: Client, task: str, seen: list[Event]) -> Any:
    """The task as it is now, with what went wrong on the way."""
    view = await client.task(task)
    asked = await client.approvals() if view.approvals else []
    return task_view(view, await client.steps(task), seen, [each for each in asked if each.task == task])


async def _list(client: Client, out: Output, task: str) -> None:
    async for page in events(client, task):
        for event in page:
            if out.json:
                out.emit(event)
            elif line := plain_line(event):
                out.draw(line)


class Feed:
    """Everything that happens to a tenant, each shard's events in their order, from where the last page ended."""

    def __init__(self, client: Client, shards: int) -> None:
        self._client = client
        self._after = [0] * shards

    async def page(self, wait_seconds: float) -> list[Event]:
        """What is new; waits up to `wait_seconds` for the first of it, with several shards in each of them."""
        pages = await asyncio.gather(*(self._of(shard, wait_seconds) for shard in range(len(self._after))))
        return [event for page in pages for event in page]

    async def _of(self, shard: int, wait_seconds: float) -> list[Event]:
        page = await self._client.events(after=self._after[shard], wait_seconds=wait_seconds, shard=shard)
        self._after[shard] = page[-1].sequence if page else self._after[shard]
        return page
