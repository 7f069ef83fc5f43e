"""How many handlers of an agent run at once, and how many calls may wait for that."""

import asyncio
from collections import deque

from ..contracts import Overloaded


class Slots:
    """First come, first served. What does not fit in the queue is refused at once: an endless queue only hides it."""

    def __init__(self, count: int, queue: int) -> None:
        self._free, self._queue = count, queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Takes a slot if one is free now."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def wait(self, retry_after_seconds: float) -> None:
        """Waits for a slot and takes it. Raises Overloaded, which says when to come again."""
        if len(self._waiting) >= self._queue:
            raise Overloaded(f"{self._queue} calls wait already", retry_after_seconds=retry_after_seconds)
        await self._wait()

    async def retake(self) -> None:
        """Takes a slot again that was given back for a while. It was admitted before, so it is never refused."""
        if not self.take():
            await self._wait()

    def give(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                return waiting.set_result(None)
        self._free += 1
        return None

    async def _wait(self) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            self._leave(mine)
            raise

    def _leave(self, mine: "asyncio.Future[None]") -> None:
        if mine.cancelled():
            self._waiting.remove(mine)
        else:
            self.give()  # it was given the slot in the very moment it left
