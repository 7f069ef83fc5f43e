"""Gathering: items of a stream that come faster than it pays to send them one by one."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")
PAUSE_SECONDS = 0.01
"""Longer than a message costs, shorter than anybody sees."""


class _End:
    """Of the stream, and why."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def gathered(items: AsyncIterator[T], pause_seconds: float = PAUSE_SECONDS) -> AsyncIterator[list[T]]:
    """The first item at once, then whatever came during each pause. Raises what the stream raises, after its items."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue()
    reader = asyncio.create_task(_read(items, queue))
    try:
        while True:
            batch, end = _taken(await queue.get(), queue)
            if batch:
                yield batch
            if end is not None:
                if end.error is not None:
                    raise end.error
                return
            await asyncio.sleep(pause_seconds)
    finally:
        reader.cancel()


async def _read(items: AsyncIterator[T], queue: "asyncio.Queue[T | _End]") -> None:
    try:
        async for item in items:
            queue.put_nowait(item)
    except Exception as error:
        queue.put_nowait(_End(error))
    else:
        queue.put_nowait(_End(None))


def _taken(first: T | _End, queue: "asyncio.Queue[T | _End]") -> tuple[list[T], _End | None]:
    batch: list[T] = []
    item = first
    while not isinstance(item, _End):
        batch.append(item)
        if queue.empty():
            return batch, None
        item = queue.get_nowait()
    return batch, item
