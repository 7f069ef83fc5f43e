"""A reader tells its shard what it gave out, so that the write gate knows an echo whoever answered.

    a recall ──> told, and waited for ──> answered
    recalls meanwhile ──> wait for the next message, which has all of theirs

As with group commit, one message is on its way and the next one takes everything that came meanwhile: under load a
shard hears of many recalls at once. A recall waits for its message, so what a caller was given is known before it can
come back. While the shard is away nobody waits: it can take in no echo either, and hears of all as soon as it is back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from ..contracts import HanseError, Tenant
from .lately import KEPT, Given

PATIENCE_SECONDS = 0.25
"""A recall waits no longer for a shard that says nothing."""
RETRY_SECONDS = 0.2
TENANTS = 1000
"""Whose recalls are kept for a shard that is away."""

Send = Callable[[Mapping[Tenant, Sequence[Given]]], Awaitable[None]]
"""Tells the shard. Raises what keeps it from being told."""


class Telling:
    """On the event loop of its reader."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: OrderedDict[Tenant, OrderedDict[str, int]] = OrderedDict()
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when what waits now was told, or cannot be told now."""
        self._sending: asyncio.Task[None] | None = None
        self.away = False
        """The shard did not take the last message, or not in time."""

    async def tell(self, tenant: Tenant, given: Iterable[Given]) -> None:
        """Returns when the shard knows; at once while it is away, and after `PATIENCE_SECONDS` when it becomes so."""
        self._put(tenant, given)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        if not self.away:
            told = self._next
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.shield(told)
            self.away = self.away or not told.done()

    async def stop(self) -> None:
        """What was not told by then is lost, as it would be with the shard."""
        if (sending := self._sending) is not None:
            await asyncio.wait([sending], timeout=0 if self.away else PATIENCE_SECONDS)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _put(self, tenant: Tenant, given: Iterable[Given]) -> None:
        lately = self._waiting.setdefault(tenant, OrderedDict())
        for id, version in given:
            lately[id] = version
            lately.move_to_end(id)
        while len(lately) > KEPT:
            lately.popitem(last=False)
        while len(self._waiting) > TENANTS:
            self._waiting.popitem(last=False)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_one()
        finally:
            self._sending = None

    async def _send_one(self) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        told, self._next = self._next, asyncio.get_running_loop().create_future()
        try:
            await self._send({tenant: list(given.items()) for tenant, given in waiting.items()})
            self.away = False
        except HanseError:
            self.away = True
            self._put_back(waiting)
        finally:
            told.set_result(None)
        if self.away:
            await asyncio.sleep(RETRY_SECONDS)

    def _put_back(self, earlier: "OrderedDict[Tenant, OrderedDict[str, int]]") -> None:
        later, self._waiting = self._waiting, earlier
        for tenant, given in later.items():
            self._put(tenant, given.items())
