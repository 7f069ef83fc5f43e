"""Waits on behalf of a caller, for as long as the caller is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from ...contracts import TaskView
from ..client import Client

Value = TypeVar("Value")


class CallerGone(Exception):
    """The caller has hung up. Nobody reads the answer."""


async def wait_for(request: Request, client: Client, task: str, seconds: float) -> TaskView:
    """The task when it is terminal or needs a person, or as it is after `seconds`. Raises CallerGone."""
    return await while_there(request.receive, client.wait(task, seconds))


async def while_there(receive: Receive, work: Coroutine[Any, Any, Value]) -> Value:
    """The outcome of `work`, which is canceled when the caller hangs up."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerGone
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))  # what is canceled may still have to put something down


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
