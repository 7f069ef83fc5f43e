"""Who may come in, and what a request may look like. Everything here is decided before a route is asked.

Decided on headers alone: the bearer token, the body's announced size, its type, and whether it is compressed (a small
compressed body can be a large one). Decided while it arrives: the size of a body that did not announce one. So nothing
is ever held that is over the cap.

Where requests without a token are let in, which is on loopback only, a web page of somebody else in a browser on this
machine is the one to keep out: it can reach a loopback address under a name of its own, and send what HTML forms send.
Hence the looks at `Host` and `Origin`.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from ...contracts import NotAllowed, NotAuthenticated, Tenant, TooLarge
from .problems import BadRequest, Misdirected, UnsupportedMediaType
from .settings import OPEN, Settings, is_loopback

IDEMPOTENCY_KEY = "idempotency-key"
MAX_KEY = 255
_JSON = re.compile(r'application/(?:[\w.!#$&^-]+\+)?json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?\Z', re.IGNORECASE)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the credential says."""

    tenant: Tenant
    by: str


def identify(headers: Headers, settings: Settings) -> Caller:
    """The caller. Raises NotAuthenticated, or NotAllowed and Misdirected where no token is asked for."""
    given = headers.getlist("authorization")
    if given:
        return _with_token(given, settings)
    if settings.open_for is None:
        raise NotAuthenticated("send a token: Authorization: Bearer TOKEN")
    _check_is_not_a_foreign_page(headers)
    return Caller(settings.open_for, OPEN)


def _with_token(given: list[str], settings: Settings) -> Caller:
    scheme, _, token = given[0].partition(" ")
    if len(given) != 1 or scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("the Authorization header is not one bearer token. Write: Authorization: Bearer TOKEN")
    digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
    found = None
    for credential in settings.credentials:  # all of them, so that the time taken does not say which was near
        if hmac.compare_digest(credential.digest, digest):
            found = Caller(credential.tenant, credential.by)
    if found is None:
        raise NotAuthenticated("this token is not known here")
    return found


def _check_is_not_a_foreign_page(headers: Headers) -> None:
    host = headers.get("host", "")
    if not is_loopback(_hostname(f"//{host}")):
        raise Misdirected(f"this gateway is open to this machine only and does not answer for {host[:100]!r}")
    origin = headers.get("origin")
    if origin is not None and urlsplit_or_none(origin) != host:
        raise NotAllowed(f"a page of {origin[:100]!r} may not ask this gateway", origin=origin[:200])


def urlsplit_or_none(origin: str) -> str | None:
    """Host and port of an origin; None for one that is none (`null`, or not a URL)."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def check_body(method: str, headers: Headers, settings: Settings) -> None:
    """Raises TooLarge, UnsupportedMediaType or BadRequest for what the headers say of the body."""
    if "content-encoding" in headers:
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding")
    length = headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdecimal()):
            raise BadRequest("Content-Length is not a number")
        if int(length) > settings.body_bytes:
            raise _too_large(settings.body_bytes)
    if method not in ("GET", "HEAD", "DELETE", "OPTIONS") and (
        length not in (None, "0") or "transfer-encoding" in headers
    ):
        _check_type(headers.get("content-type"))


def _check_type(content_type: str | None) -> None:
    if content_type is None or not _JSON.match(content_type.strip()):
        raise UnsupportedMediaType(
            f"the body is JSON. Write: Content-Type: application/json, not {(content_type or 'none')[:100]!r}"
        )


def capped(receive: Receive, limit: int) -> Receive:
    """`receive` that raises TooLarge as soon as more than `limit` bytes have come."""
    taken = 0

    async def receive_capped() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
        return message

    return receive_capped


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a body has at most {limit} bytes", limit=limit)


def idempotency_key(headers: Headers) -> str | None:
    """The caller's key. Raises BadRequest for one that is empty, too long, sent twice or not printable ASCII."""
    keys = headers.getlist(IDEMPOTENCY_KEY)
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 1 <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise BadRequest(f"Idempotency-Key is one key of 1 to {MAX_KEY} printable ASCII characters")
    return key


def traceparent(headers: Headers) -> str | None:
    """The caller's W3C trace context; None when there is none or it is not well formed, as the standard asks."""
    given = headers.get("traceparent")
    return given if given is not None and _TRACEPARENT.match(given) else None
