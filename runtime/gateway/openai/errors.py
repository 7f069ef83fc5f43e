"""Errors in OpenAI's shape, on OpenAI's paths, so that their clients raise their own typed exceptions.

    {"error": {"message": …, "type": "invalid_request_error", "param": "messages", "code": "model_not_found"}}

What Hanse says of the same error stands beside it, under `hanse`. A client tries 408, 409, 429 and everything from 500
again; where that is of no use, `x-should-retry` says so.
"""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from ....contracts import (
    BudgetExhausted,
    HanseError,
    InvalidConfiguration,
    InvalidContract,
    InvalidInput,
    NotAuthenticated,
    PersonNeeded,
)
from ...views import problem
from ..answers import JSON
from ..problems import headers_of, jsonable

PATHS = ("/v1/models", "/v1/chat/", "/v1/embeddings", "/v1/score")

_STATUS: tuple[tuple[type[HanseError], int], ...] = (
    (InvalidInput, 400),
    (InvalidContract, 400),
    (InvalidConfiguration, 400),
    (BudgetExhausted, 429),
)
_CODES: tuple[tuple[type[HanseError], str], ...] = (
    (BudgetExhausted, "insufficient_quota"),
    (NotAuthenticated, "invalid_api_key"),
)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_IN_VAIN = (BudgetExhausted, PersonNeeded)
"""Errors with a status that a client tries again, and that another attempt would not change."""


def speaks(path: str) -> bool:
    """Whether OpenAI's clients ask at this path."""
    return path.startswith(PATHS)


def respond(error: HanseError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error."""
    given = {**headers_of(error), **_advice(error), **(headers or {})}
    return Response(body(error), status_of(error), given, JSON)


def body(error: HanseError) -> bytes:
    """The error as JSON, in an answer or in a stream."""
    status = status_of(error)
    about = {
        "message": error.detail,
        "type": "insufficient_quota" if isinstance(error, BudgetExhausted) else _type(status),
        "param": _parameter(error),
        "code": next((code for kind, code in _CODES if isinstance(error, kind)), error.code),
        "hanse": jsonable(problem(error)),
    }
    return orjson.dumps({"error": about}, default=str, option=orjson.OPT_NON_STR_KEYS)


def status_of(error: HanseError) -> int:
    found = next((status for kind, status in _STATUS if isinstance(error, kind)), error.status)
    return found if 400 <= found <= 599 else 500


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def _parameter(error: HanseError) -> str | None:
    """`messages` for a pointer such as `/messages/0/content`."""
    given = error.ids.get("param") or str(error.ids.get("pointer") or "").strip("/").replace("/", ".")
    return str(given) or None


def _advice(error: HanseError) -> dict[str, str]:
    return {"x-should-retry": "false"} if isinstance(error, _IN_VAIN) else {}
