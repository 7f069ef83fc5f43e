"""HTTP with JSON. One connector reaches one base URL and nothing else.

What came of a request is judged as strictly as the protocol allows. Before the request has left, nothing happened. A
2xx says that it did. A 4xx says that it did not. Everything between (no answer in time, a reset, a 5xx, an answer
that cannot be read) says nothing at all, and only the outside system can be asked: at `status_path`, or, where it
keeps the promise of `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), by doing the same again.

Requests go to the configured host only: a path is a path, whatever is in it; redirects are not followed; neither the
environment's proxies nor its `.netrc` are used.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ...contracts import (
    InvalidInput,
    JsonObject,
    OutcomeUnknown,
    Overloaded,
    Permanent,
    TimedOut,
    TooLarge,
    Unavailable,
)
from ...contracts.plain import check
from ..connector import Absent, Answer, Connector, ConnectorOptions, Done, operation

_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OURS = frozenset(
    {"host", "authorization", "connection", "content-length", "content-type", "cookie", "transfer-encoding"}
)
"""Headers that a handler does not set."""
_EXCERPT = 300


class HttpRefused(Permanent):
    """The outside system refused the request. `status` says how."""

    code = "http.refused"


class Reply(BaseModel):
    """A successful answer."""

    model_config = ConfigDict(frozen=True)

    status: int
    body: Any = None
    """JSON as data, anything else as text."""


class HttpOptions(ConnectorOptions):
    base_url: str
    """Everything goes below it. Example: `https://erp.example.com/api`"""
    token: SecretStr | None = None
    """Sent as a bearer token."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict[str, SecretStr])
    """Sent with each request."""
    connect_seconds: float = Field(default=3, gt=0, allow_inf_nan=False)
    max_response_bytes: int = Field(default=1024 * 1024, gt=0)
    max_connections: int = Field(default=32, gt=0)
    idempotent_by_key: bool = False
    """The system does nothing twice for one key, so what is in doubt is simply sent again."""
    key_header: str = "Idempotency-Key"
    status_path: str | None = None
    """Where to ask for one key: 200 says that it was done, 404 that it was not. Example: `/payments?key={key}`

    A key has slashes in it; in a path they are sent as %2F, which not every server takes for what it is.
    """
    nothing_happened: tuple[int, ...] = (408, 425, 429)
    """Statuses by which the system says that it has not even begun, and that trying again may help."""

    @field_validator("base_url")
    @classmethod
    def _is_base(cls, value: str) -> str:
        url = httpx.URL(value)
        if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or url.userinfo:
            raise ValueError("write http:// or https://, a host and perhaps a path, and nothing else")
        return value.rstrip("/")

    @field_validator("status_path")
    @classmethod
    def _has_key(cls, value: str | None) -> str | None:
        if value is not None and "{key}" not in value:
            raise ValueError("write {key} where the key goes, such as /operations?key={key}")
        return value


class HttpConnector(Connector):
    """A JSON API under one base URL. Its operations raise HttpRefused for a 4xx."""

    Options = HttpOptions
    options: HttpOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._base = httpx.URL(self.options.base_url)
        self._client: httpx.AsyncClient | None = None

    @operation(effect="read")
    async def get(
        self, key: str, path: str, *, params: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Looks something up. Not in the ledger."""
        with _translated(effect=False):
            return await self._exchange("GET", key, self._url(path, params), None, headers)

    @operation()
    async def post(
        self,
        key: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Sends JSON that changes something there."""
        with _translated(effect=True):
            return await self._exchange("POST", key, self._url(path, params), body, headers)

    @operation()
    async def put(
        self,
        key: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Sets something there."""
        with _translated(effect=True):
            return await self._exchange("PUT", key, self._url(path, params), body, headers)

    @operation()
    async def patch(
        self,
        key: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Changes a part of something there."""
        with _translated(effect=True):
            return await self._exchange("PATCH", key, self._url(path, params), body, headers)

    @operation()
    async def delete(
        self, key: str, path: str, *, params: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Removes something there."""
        with _translated(effect=True):
            return await self._exchange("DELETE", key, self._url(path, params), None, headers)

    @property
    def repeatable(self) -> bool:
        return self.options.idempotent_by_key

    @property
    def askable(self) -> bool:
        return self.options.status_path is not None

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        if self.options.status_path is None:
            raise OutcomeUnknown(
                "nobody can be asked; set `status_path`, or `idempotent_by_key` if the system keeps keys"
            )
        url = self._below(self.options.status_path.replace("{key}", quote(key, safe="")))
        try:
            with _translated(effect=False):
                return Done((await self._exchange("GET", "", url, None, None)).model_dump())
        except HttpRefused as refused:
            if refused.ids.get("status") == 404:
                return Absent()
            raise OutcomeUnknown(f"asked for the key, it answers: {refused.detail}") from refused

    async def close(self) -> None:
        client, self._client = self._client, None
        if client:
            await client.aclose()

    async def _exchange(
        self, method: str, key: str, url: httpx.URL, body: Any, headers: dict[str, str] | None
    ) -> Reply:
        request = self._open().build_request(
            method, url, content=_content(body), headers=self._headers(key, body, headers)
        )
        response = await self._open().send(request, stream=True)
        try:
            return self._judged(response, await self._body(response), effect=bool(key))
        finally:
            await response.aclose()

    def _judged(self, response: httpx.Response, data: bytes | None, *, effect: bool) -> Reply:
        status = response.status_code
        if status in self.options.nothing_happened:
            raise _not_now(response)
        if response.is_success:
            return Reply(status=status, body=_read(response, data, effect=effect))
        excerpt = (data or b"")[:_EXCERPT].decode(errors="replace")
        text = f"{response.request.method} {response.request.url.path} was answered with {status}: {excerpt}"
        if effect and (status >= 500 or status in _DOUBTFUL or (status == 409 and self.repeatable)):
            raise OutcomeUnknown(text, status=status)
        raise Unavailable(text, status=status) if status >= 500 else HttpRefused(text, status=status)

    async def _body(self, response: httpx.Response) -> bytes | None:
        """At most as many bytes as allowed; None for more, or for what is compressed: we asked for neither."""
        if response.headers.get("content-encoding", "identity") != "identity":
            return None
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > self.options.max_response_bytes:
                return None
        return bytes(data)

    def _url(self, path: str, params: dict[str, Any] | None) -> httpx.URL:
        _check_path(path)
        return self._below(f"{path}?{httpx.QueryParams(params)}" if params else path)

    def _below(self, path: str) -> httpx.URL:
        return self._base.copy_with(raw_path=(self._base.raw_path.decode().rstrip("/") + path).encode())

    def _headers(self, key: str, body: Any, headers: dict[str, str] | None) -> dict[str, str]:
        _check_headers(headers or {})
        ours = {name: value.get_secret_value() for name, value in self.options.headers.items()}
        if self.options.token:
            ours["Authorization"] = f"Bearer {self.options.token.get_secret_value()}"
        if body is not None:
            ours["Content-Type"] = "application/json"
        if key:
            ours[self.options.key_header] = key
        return {**(headers or {}), **ours, "Accept-Encoding": "identity"}

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            seconds = self.options.timeout_seconds
            timeout = httpx.Timeout(seconds, connect=min(seconds / 2, self.options.connect_seconds), pool=seconds / 2)
            limits = httpx.Limits(max_connections=self.options.max_connections, keepalive_expiry=5)
            self._client = httpx.AsyncClient(
                timeout=timeout,
                limits=limits,
                follow_redirects=False,
                trust_env=False,
                verify=self._base.scheme
                == "https",  # without TLS there is nothing to verify, and loading CAs takes 30 ms
                headers={"User-Agent": "hanse"},
            )
        return self._client


_DOUBTFUL = (300, 301, 302, 303, 304)
"""After a POST these may well mean that it was done, and that the answer is elsewhere."""

_BEFORE = (httpx.ConnectError, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.ProxyError)


@contextmanager
def _translated(*, effect: bool) -> Iterator[None]:
    """The one border where httpx's errors become ours."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut("no connection in time") from error
    except _BEFORE as error:
        raise Unavailable(f"no connection: {type(error).__name__}: {error}") from error
    except httpx.TransportError as error:
        text = f"the request was sent and not answered: {type(error).__name__}: {error}"
        raise (OutcomeUnknown(text) if effect else Unavailable(text)) from error
    except httpx.InvalidURL as error:
        raise InvalidInput(f"no URL can be made of this: {error}") from error


def _not_now(response: httpx.Response) -> Overloaded | Unavailable:
    status, wait = response.status_code, response.headers.get("retry-after", "")
    if status != 429:
        return Unavailable(f"it was answered with {status}: not now", status=status)
    seconds = float(wait) if re.fullmatch(r"\d{1,6}", wait) else 1.0
    return Overloaded("it was answered with 429: too much", status=status, retry_after_seconds=seconds)


def _read(response: httpx.Response, data: bytes | None, *, effect: bool) -> Any:
    """The body as plain data. A body too large to take does not undo what was done: then there is none."""
    if data is None:
        if effect:
            return None
        raise TooLarge("the answer is larger than `max_response_bytes`, or compressed")
    text = data.decode(errors="replace")
    if "json" not in response.headers.get("content-type", ""):
        return text
    try:
        body = json.loads(text)
        check(body)
        return body
    except (ValueError, RecursionError, InvalidInput):
        return text


def _content(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _check_path(path: str) -> None:
    segments = [unquote(segment) for segment in path.split("/")[1:]]
    if not _PATH.fullmatch(path) or any(each in (".", "..") or set(each) & set("/\\") for each in segments):
        raise InvalidInput(f"{path!r} is no path below the base URL. Write /a/b, with urllib.parse.quote for each part")
    if path.startswith("//"):
        raise InvalidInput(f"{path!r} begins with two slashes. Write one")


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
            raise InvalidInput(f"{name!r} is no header, or its value is not printable ASCII")
        if name.lower() in _OURS:
            raise InvalidInput(f"a handler does not set {name}; what is the same for all requests goes in hanse.yaml")
