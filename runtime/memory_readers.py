"""The readers of a shard as a client sees them: whom it asks, and when it asks the shard itself instead.

A question goes to the reader that has the fewest of this client's questions in hand; of several, each tenant has one
that it prefers, so that while there is room a tenant's indexes lie in one reader only. A reader that is not there, or
says nothing, is passed over for a while. Nobody waits for a link to one: it is made on the side, and the shard answers
meanwhile, which always may.
"""

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..contracts import HanseError, JsonObject, StorageError, Tenant, Unavailable
from .client import Shard

SILENT_SECONDS = 2.0
"""A reader that takes longer for a question is passed over: it hangs, or opens a tenant that the shard has open."""
REST_SECONDS = 0.5
"""How long a reader is not asked that was not there; twice as long each time, up to `LONGEST_REST_SECONDS`."""
LONGEST_REST_SECONDS = 30.0


@dataclass(eq=False, slots=True)
class Way:
    """That to one reader."""

    shard: Shard
    busy: int = 0
    """Questions of this client that it has in hand."""
    rests_until: float = 0.0
    rest_seconds: float = REST_SECONDS
    reaching: "asyncio.Task[None] | None" = None

    async def ask(self, method: str, tenant: Tenant, by: str, said: JsonObject, patience: float | None) -> Any:
        """Raises PassedOver when somebody else is to be asked."""
        self.busy += 1
        try:
            async with asyncio.timeout(patience):
                answer = await self.shard.ask(method, tenant, by, said)
        except (Unavailable, StorageError, TimeoutError) as error:
            self.rest()
            raise PassedOver from error
        finally:
            self.busy -= 1
        self.rest_seconds = REST_SECONDS
        return answer

    def rest(self) -> None:
        self.rests_until = _now() + self.rest_seconds
        self.rest_seconds = min(2 * self.rest_seconds, LONGEST_REST_SECONDS)

    def reach(self) -> None:
        """Makes the link, on the side."""
        if self.reaching is None or self.reaching.done():
            self.reaching = asyncio.create_task(self._reach())

    async def _reach(self) -> None:
        try:
            await self.shard.reach()
        except HanseError:
            self.rest()

    def close(self) -> None:
        if self.reaching is not None:
            self.reaching.cancel()
        self.shard.close()


class PassedOver(Exception):
    """This reader has no answer now. Never leaves the client."""


class Readers:
    """Those of one shard."""

    def __init__(self, ways: Sequence[Shard]) -> None:
        """Ways without patience: whoever is not there is not waited for."""
        self._ways = [Way(each) for each in ways]

    def pick(self, tenant: Tenant) -> Way | None:
        """The one to ask. None when none is there."""
        awake = [way for way in self._ways if way.rests_until <= _now()]
        for way in awake:
            if not way.shard.is_reached:
                way.reach()
        there = [way for way in awake if way.shard.is_reached]
        return min(there, key=lambda way: (way.busy, self._distance(way, tenant)), default=None)

    async def ask_each(self, method: str, seconds: float) -> list[Any]:
        """Of every reader what it says, or None."""
        return await asyncio.gather(*(_asked(way.shard, method, seconds) for way in self._ways))

    def close(self) -> None:
        for way in self._ways:
            way.close()

    def _distance(self, way: Way, tenant: Tenant) -> int:
        return zlib.crc32(f"{self._ways.index(way)}/{tenant}".encode())


async def _asked(shard: Shard, method: str, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await shard.ask(method, Tenant(""), "status", {})
    except (HanseError, TimeoutError):
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()
