"""Event streams: what happens to a task, or to a whole tenant, as server-sent events.

    id: 17
    event: step.completed
    data: {"sequence": 17, "at": "…", "kind": "step.completed", "task": "…", "step": "s1", "data": {…}}

A stream that broke is taken up with `Last-Event-ID` (or `?after=`), without a gap and without a repetition, because the
id is the event's place in the journal. Comments keep the connection alive through silence. The stream of a task ends
after the task's last event; who comes again behind that gets 204, which tells a browser to stop.

Who would rather ask again than hold a connection sends `Accept: application/json` and gets a page.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...contracts import HanseError, Transient
from ..views import problem
from . import answers
from .desk import client_of, desk_of
from .feeds import Feed, Placed, feed_of_task, feed_of_tenant
from .openapi import RESUME, STREAM
from .problems import dump
from .settings import Settings
from .tasks import MAX_PAGE, WAIT, task_id
from .waiting import while_there

router = APIRouter(tags=["events"])

RECONNECT_MS = 1000
STILL_HERE = b": still here\n\n"
PAUSE_SECONDS = 0.25
LAST_LOOKS = 20
"""Empty pages after which the stream of a task that ended is closed, though its last event was never read."""
AFTER = Query(max_length=40_000, description="The id of the last event that was seen; goes before Last-Event-ID.")
LIMIT = Query(ge=1, le=MAX_PAGE, description="Events on a page.")


@router.get("/v1/tasks/{task}/events", summary="Watch a task", responses=STREAM, openapi_extra=RESUME)
async def task_events(
    request: Request,
    task: str,
    after: Annotated[str | None, AFTER] = None,
    wait: Annotated[float, WAIT] = 0,
    limit: Annotated[int, LIMIT] = MAX_PAGE,
) -> Response:
    """From the task's beginning to its end, or from where the caller left off. `wait` and `limit` are for a page."""
    seen = after or request.headers.get("last-event-id")
    feed = await feed_of_task(client_of(request), task_id(task), seen)
    if _wants_page(request):
        return await _page(request, feed, wait, limit)
    if seen and await feed.exhausted():
        return Response(status_code=204)
    return _Stream(request, feed)


@router.get("/v1/events", summary="Watch the tenant", responses=STREAM, openapi_extra=RESUME)
async def tenant_events(
    request: Request,
    after: Annotated[str | None, AFTER] = None,
    wait: Annotated[float, WAIT] = 0,
    limit: Annotated[int, LIMIT] = MAX_PAGE,
    shard: Annotated[int | None, Query(ge=0, description="Only what this shard of the coordinator says.")] = None,
) -> Response:
    """All tasks of the tenant, from now on or from where the caller left off; `after=0` is the very beginning."""
    feed = await feed_of_tenant(client_of(request), after or request.headers.get("last-event-id"), shard)
    return await _page(request, feed, wait, limit) if _wants_page(request) else _Stream(request, feed)


def _wants_page(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/event-stream" not in accepted


async def _page(request: Request, feed: Feed, wait: float, limit: int) -> Response:
    desk = desk_of(request)
    try:
        if wait <= 0:
            found = await feed.page(0, limit)
        else:
            with desk.admission.wait():
                seconds = min(wait, desk.settings.max_wait_seconds)
                found = await while_there(request.receive, feed.page(seconds, limit))
    finally:
        feed.close()
    return answers.data({"events": [event.to_json() for _, event in found], "next": feed.cursor})


class _Stream(StreamingResponse):
    """Holds a place among those who wait for as long as it streams."""

    def __init__(self, request: Request, feed: Feed) -> None:
        desk = desk_of(request)
        self._admission = desk.admission
        super().__init__(_frames(feed, desk.settings), media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._admission.wait():
            await super().__call__(scope, receive, send)


async def _frames(feed: Feed, settings: Settings) -> AsyncIterator[bytes]:
    """The bytes of a stream, page by page."""
    yield b"retry: %d\n\n" % RECONNECT_MS
    try:
        async for page in _pages(feed, settings):
            yield b"".join(map(_frame, page)) or STILL_HERE
    except HanseError as error:
        yield b"event: problem\ndata: " + dump(problem(error)) + b"\n\n"
    finally:
        feed.close()


async def _pages(feed: Feed, settings: Settings) -> AsyncIterator[list[Placed]]:
    """Until the last event was read; an empty page is a sign of life. Raises Transient when patience is at its end."""
    reached, empty = time.monotonic(), 0
    while not feed.ended and empty < LAST_LOOKS:
        try:
            page = await feed.page(settings.keep_alive_seconds)
            reached = time.monotonic()
        except Transient:
            if time.monotonic() - reached > settings.patience_seconds:
                raise
            page = []
            await asyncio.sleep(PAUSE_SECONDS)
        yield page
        empty = empty + 1 if not page and await _over(feed) else 0


async def _over(feed: Feed) -> bool:
    """Whether the task ended, though its last event was not among what was read: it is coming, or was passed over."""
    try:
        over = await feed.over()
    except Transient:
        return False
    if over:
        await asyncio.sleep(PAUSE_SECONDS)
    return over


def _frame(placed: Placed) -> bytes:
    cursor, event = placed
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (cursor.encode(), event.kind.encode(), orjson.dumps(event.to_json()))
