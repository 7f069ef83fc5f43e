"""The edge: what every request passes on its way in, and every answer on its way out. Plain ASGI, because it is hot.

In: who asks, is there room, is the body acceptable. Out: the trace it belongs to, two headers that browsers heed, and
a count. What a route raises and nobody expected becomes a problem that says nothing of the inside; the log says all.
"""

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...contracts import HanseError, TooLarge
from . import problems
from .desk import Desk
from .openai import errors as openai_errors
from .problems import Internal
from .security import capped, check_body, identify, traceparent
from .waiting import CallerGone

_log = logging.getLogger(__name__)

TRACE: ContextVar[str | None] = ContextVar("hanse_traceparent", default=None)
"""The caller's W3C trace context, for whatever is done on behalf of this request."""

PUBLIC = frozenset({"/", "/healthz", "/openapi.json"})
"""Paths that say nothing of any tenant."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 8 * 1024 * 1024
"""What is still taken of a body that is too large, after the answer."""

_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class Edge:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._not_http(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _heads(send)
        passage = _Passage(scope, send, self._desk)
        try:
            await self._let_in(passage, receive)
        except HanseError as error:
            await passage.fail(error, receive)
        except CallerGone:
            pass  # nobody would read the answer
        except Exception:
            await passage.fail(_incident(), receive)
        finally:
            passage.count()

    async def _let_in(self, passage: "_Passage", receive: Receive) -> None:
        scope, headers, desk = passage.scope, passage.headers, self._desk
        if scope["path"] not in PUBLIC:
            scope["caller"] = identify(headers, desk.settings)
        with desk.admission.work():
            check_body(scope["method"], headers, desk.settings)
            if passage.trace:
                TRACE.set(passage.trace)
            await self._app(scope, capped(receive, desk.settings.body_bytes), passage.send)

    async def _not_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003})
        else:
            await self._app(scope, receive, send)


class _Passage:
    """One request on its way."""

    __slots__ = ("_desk", "_send", "_since", "_status", "headers", "scope", "trace")

    def __init__(self, scope: Scope, send: Send, desk: Desk) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.trace = traceparent(self.headers)
        self._send = send
        self._desk = desk
        self._status = 0
        self._since = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            added = [(b"traceparent", self.trace.encode()), *_HEADERS] if self.trace else _HEADERS
            message["headers"] = [*message["headers"], *added]
        await self._send(message)

    async def fail(self, error: HanseError, receive: Receive) -> None:
        """Answers with the error, unless an answer is under way: then the caller sees it end too early."""
        if self._status:
            raise error
        answer = openai_errors if openai_errors.speaks(self.scope["path"]) else problems
        lingering = isinstance(error, TooLarge)
        await answer.respond(error)(self.scope, receive, self._send_and_linger(receive) if lingering else self.send)

    def _send_and_linger(self, receive: Receive) -> Send:
        """Sends at once, and takes what still comes before it hangs up: hung up on in the middle of a sentence, a
        caller's system throws away the answer that has come."""

        async def send(message: Message) -> None:
            if message["type"] != "http.response.body":
                return await self.send(message)
            await self.send({**message, "more_body": True})
            await _drop(receive)
            await self.send({"type": "http.response.body"})

        return send

    def count(self) -> None:
        route = getattr(self.scope.get("route"), "path", "unmatched")
        self._desk.meter.count(self.scope["method"], route, self._status, time.perf_counter() - self._since)


def _heads(send: Send) -> Send:
    """Sends what `GET` would, without the body, and ends the work on it: a stream would have no end."""

    async def send_head(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            await send({"type": "http.response.body"})
            raise CallerGone

    return send_head


async def _drop(receive: Receive) -> None:
    """Takes what a caller sends and keeps nothing of it, for a while."""
    left = LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (message := await receive())["type"] == "http.request" and message.get("more_body"):
                left -= len(message.get("body", b""))


def _incident() -> Internal:
    """Called while the exception is handled."""
    incident = secrets.token_hex(8)
    _log.exception("a request failed, incident %s", incident, extra={"action": "gateway.failed"})
    return Internal("something went wrong here; the log has it under this incident", incident=incident)
