"""Counters: the end of a link at which a part of the federation answers requests, one asyncio task each.

    async def count(asked: Asked) -> int: ...
    async def write(asked: Asked) -> AsyncIterator[Any]: ...          # pieces; the last one is the answer

    Counter("memory", {"count": count, "write": write})

Whatever a method raises arrives at whoever asked: an error that Hanse knows as itself, another one by its name alone.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..contracts import Failed, HanseError, NotFound, Tenant
from ..contracts.messages import Drop, Piece, Request, Response
from .link import Link

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    tenant: Tenant
    by: str
    parameters: Mapping[str, Any]


Method = Callable[[Asked], "Awaitable[Any] | AsyncIterator[Any]"]


class Counter:
    """Answers requests by a table of methods. Plain data in, plain data out."""

    def __init__(self, name: str, methods: Mapping[str, Method]) -> None:
        self._name = name
        self._methods = methods
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}

    def received(self, link: Link, message: Any) -> None:
        if isinstance(message, Request):
            self._begin(link, message)
        elif isinstance(message, Drop):
            self._drop(id(link), message.number)

    def closed(self, link: Link, reason: str) -> None:
        """Nobody is there to be told: what was asked over this link stops where it stands."""
        for owner, number in [key for key in self._running if key[0] == id(link)]:
            self._drop(owner, number)

    async def stop(self) -> None:
        """Ends what is under way; those who wait for it see the link close."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, link: Link, request: Request) -> None:
        key = (id(link), request.number)
        task = asyncio.create_task(self._answer(link, request))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    def _drop(self, owner: int, number: int) -> None:
        if task := self._running.get((owner, number)):
            task.cancel()

    async def _answer(self, link: Link, request: Request) -> None:
        try:
            result = await self._result(link, request)
            link.send(Response(request.number, result))
        except Exception as error:
            link.send(Response(request.number, None, self._named(error, request).to_data()))

    async def _result(self, link: Link, request: Request) -> Any:
        if (method := self._methods.get(request.method)) is None:
            raise NotFound(f"{self._name} has no method {request.method!r}")
        answer = method(Asked(request.tenant, request.by, request.parameters))
        return await answer if inspect.isawaitable(answer) else await self._pieces(link, request.number, answer)

    async def _pieces(self, link: Link, number: int, pieces: AsyncIterator[Any]) -> Any:
        last: Any = None
        async for piece in pieces:
            link.send(Piece(number, piece))
            last = piece
        return last

    def _named(self, error: Exception, request: Request) -> HanseError:
        if isinstance(error, HanseError):
            return error
        _log.error("%s failed", request.method, exc_info=error, extra={"action": "request.failed"})
        return Failed(f"{self._name} could not answer {request.method}: {type(error).__name__}")
