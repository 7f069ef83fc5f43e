"""The application: routes, the edge around them, and one shape for every error."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from ...contracts import HanseError, InvalidInput
from ...contracts.plain import pointer
from . import agents, approvals, audit, capabilities, console, events, health, memory, problems, stats, tasks, tiers
from .desk import ClientFor, Desk
from .edge import Edge
from .openai import chat, embeddings, listing, scores
from .openai import errors as openai_errors
from .openapi import describe
from .problems import from_status
from .queries import refuse_unknown
from .settings import Settings

ROUTERS = (
    *(tasks, capabilities, agents, approvals, events, audit, stats, tiers, memory),
    *(listing, chat, embeddings, scores),
    *(health, console),
)
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(client_for: ClientFor, settings: Settings, *, lifespan: Lifespan | None = None) -> FastAPI:
    """An ASGI application over any `Client`.

    `client_for` gives the client that acts for a tenant on behalf of `by`; the application asks it once for each
    caller and closes none of them. `lifespan` is entered before the first request.
    """
    app = FastAPI(
        title="Hanse",
        version="1",
        description="A federation of domain agents: durable tasks, negotiated between agents, with people in the loop.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan or _nothing,
        telemetry=NO_TELEMETRY,
    )
    app.state.desk = Desk(client_for, settings)
    app.state.pulse = health.Pulse()
    app.add_middleware(Edge, desk=app.state.desk)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.openapi = lambda: describe(app)
    for each in ROUTERS:
        app.include_router(each.router)
    refuse_unknown(app)
    return app


@asynccontextmanager
async def _nothing(app: FastAPI) -> AsyncIterator[None]:
    yield


async def _framework_error(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    detail = {404: f"there is nothing at {where}", 405: f"{where} is not possible here"}.get(error.status_code)
    headers = {"Allow": _methods(request)} if error.status_code == 405 else error.headers
    return _shaped(request, from_status(error.status_code, detail or str(error.detail)), headers)


def _methods(request: Request) -> str:
    """All that this path knows, which may be spread over several routes: the router itself names those of the first."""
    there = [route for route in request.app.routes if isinstance(route, Route) and route.methods]
    found = {name for route in there if route.matches(request.scope)[0] != Match.NONE for name in route.methods or ()}
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


def _shaped(request: Request, error: HanseError, headers: Mapping[str, str] | None = None) -> Response:
    """The error in the shape that clients of this path read."""
    shape = openai_errors if openai_errors.speaks(request.url.path) else problems
    return shape.respond(error, headers)


async def _invalid_parameters(request: Request, error: Exception) -> Response:
    """Parameters in the path or after the question mark."""
    assert isinstance(error, RequestValidationError)
    found = [{"pointer": pointer(*each["loc"]), "detail": each["msg"]} for each in error.errors()]
    first = found[0]
    return _shaped(request, InvalidInput(f"{first['pointer']}: {first['detail']}", problems=found[:20]))
