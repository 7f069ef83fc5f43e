"""Taking turns: a lock that is handed over, so that whoever sees it free has it without waiting."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """One at a time, in the order of their coming."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> bool:
        """Also while it goes from one to the next."""
        return self._taken

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        await self._acquire()
        try:
            yield
        finally:
            self._pass_on()

    async def _acquire(self) -> None:
        if not self._taken:
            self._taken = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it was given the turn in the very moment it left
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_result(None)
                return
        self._taken = False
