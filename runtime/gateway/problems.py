"""Errors as answers: `application/problem+json` (RFC 9457), and the errors that only HTTP knows.

Every answer of 400 and above is made here, also those that the framework would make, so a caller reads one shape.
"""

import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from ...contracts import HanseError, JsonObject, NotAuthenticated, NotFound, Permanent, Problem, TooLarge
from ..views import problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


class BadRequest(Permanent):
    """The request is not one that this surface understands."""

    code = "bad_request"
    status = 400


class InvalidJson(BadRequest):
    """The body is not JSON."""

    code = "invalid_json"


class MethodNotAllowed(Permanent):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class UnsupportedMediaType(Permanent):
    """Bodies are JSON, in UTF-8 and not compressed."""

    code = "unsupported_media_type"
    status = 415


class Misdirected(Permanent):
    """The request came under a name that is not this gateway's."""

    code = "misdirected"
    status = 421


class Internal(HanseError):
    """Something went wrong here. The log has the rest under `incident`."""

    code = "internal"


def respond(error: HanseError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error."""
    return respond_with(problem(error), {**headers_of(error), **(headers or {})})


def respond_with(about: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error that a view already carries."""
    status = about.status if 400 <= about.status <= 599 else 500
    return Response(dump(about), status, {**_retry_after(status), **(headers or {})}, MEDIA_TYPE)


def from_status(status: int, detail: str) -> HanseError:
    """Our error for one of the framework's."""
    known = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge}.get(status)
    if known is not None:
        return known(detail)
    error = BadRequest(detail) if 400 <= status < 500 else Internal(detail)
    error.__dict__["status"] = status
    return error


def dump(about: Problem) -> bytes:
    """Ids may hold anything that an agent put there; what JSON cannot carry becomes text."""
    return orjson.dumps(jsonable(about), default=str, option=orjson.OPT_NON_STR_KEYS)


def jsonable(about: Problem) -> JsonObject:
    return about.model_dump(warnings=False)


def headers_of(error: HanseError) -> dict[str, str]:
    """What an error says in headers, whatever shape its body has."""
    if isinstance(error, NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if error.status == 413:
        return {"Connection": "close"}
    seconds: Any = error.ids.get("retry_after_seconds")
    if error.status in (429, 503) and isinstance(seconds, int | float):
        return {"Retry-After": str(max(RETRY_SECONDS, math.ceil(seconds)))}
    return _retry_after(error.status)


def _retry_after(status: int) -> dict[str, str]:
    return {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
