"""Errors as answers: `application/problem+json` (RFC 9457), and the errors that only HTTP knows.

Every answer of 400 and above is made here, also those that the framework would make, so a caller reads one shape.
"""

import math
from collections.abc import Mapping

import orjson
from starlette.responses import Response

from ...contracts import HanseError, NotAuthenticated, NotFound, Overloaded, Permanent, Problem, TooLarge
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
    return respond_with(problem(error), {**_headers(error), **(headers or {})})


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
    return orjson.dumps(about.model_dump(warnings=False), default=str, option=orjson.OPT_NON_STR_KEYS)


def _headers(error: HanseError) -> dict[str, str]:
    if isinstance(error, Overloaded):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))}
    if isinstance(error, NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    return {"Connection": "close"} if error.status == 413 else {}


def _retry_after(status: int) -> dict[str, str]:
    return {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
