"""What stands behind the question mark: a parameter that a route does not have is refused, as a field of a body is.

Passed over, `?stauts=failed` would be answered with every task there is, and nobody would know why.
"""

import difflib
from collections.abc import Iterable
from urllib.parse import parse_qsl

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from ...contracts import InvalidInput
from .openai import errors as openai_errors

SHOWN = 64
"""Characters of a name that is said back."""


def refuse_unknown(app: FastAPI) -> None:
    """Looks at the query of every route from now on. Not of those that OpenAI's clients and browsers ask: theirs have
    parameters of their own making, which the originals pass over.
    """
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema and not openai_errors.speaks(route.path):
            route.app = _looking(route.app, frozenset(each.alias for each in route.dependant.query_params))


def _looking(app: ASGIApp, known: frozenset[str]) -> ASGIApp:
    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            check((name for name, _ in _pairs(scope["query_string"])), known)
        await app(scope, receive, send)

    return look


def check(names: Iterable[str], known: frozenset[str]) -> None:
    """Raises InvalidInput for the first name that is not known, with the one that was likely meant."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name[:SHOWN], known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            there = f" Known: {', '.join(sorted(known))}" if known else " There is none here"
            problem = {"pointer": f"/query/{name[:SHOWN]}", "detail": f"no such parameter.{meant}{there}"}
            raise InvalidInput(f"{problem['pointer']}: {problem['detail']}", problems=[problem])


def _pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)
