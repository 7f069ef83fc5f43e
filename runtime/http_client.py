"""`HttpClient`: the client of a federation behind a gateway. It speaks HTTP and raises our errors.

Every verb is safe to repeat, so a lost connection or a gateway that is just coming back is tried again for a while: a
submission always carries an idempotency key, and a decision or a cancellation that was made is made.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from ..contracts import (
    AgentView,
    ApprovalView,
    AuditReport,
    Contract,
    Event,
    FederationView,
    HanseError,
    JsonObject,
    Overloaded,
    Problem,
    StepView,
    Submission,
    TaskStatus,
    TaskView,
    Unavailable,
)
from ..contracts.outcomes import OutcomesView, Total
from . import sse
from .http_memory import HttpMemory
from .http_models import HttpModels
from .models_client import reached
from .views import error_from

PAGE_SECONDS = 60.0
"""The longest single wait. Proxies on the way may not like longer ones."""
BUNDLE_SECONDS = 60.0
"""For gathering the evidence of a task."""
SLACK_SECONDS = 15.0
"""Beyond what was asked for, until a silent gateway counts as gone."""
SILENCE_SECONDS = 60.0
"""On an event stream, on which a gateway gives signs of life four times as often."""
ANSWER_SECONDS = 600.0
"""For what a model says."""
CONNECTIONS = 256
_JSON = {"Content-Type": "application/json"}
_PERSON = (TaskStatus.INPUT_REQUIRED, TaskStatus.AUTH_REQUIRED)

Model = TypeVar("Model", bound=BaseModel)


class HttpClient:
    """Keeps `Client` over the HTTP surface. The tenant, and who acts, come from the token."""

    def __init__(self, url: str, token: str | None = None, *, patience_seconds: float = 20.0) -> None:
        """`url` is the gateway's, such as `http://127.0.0.1:8000`. Raises Unavailable for what is no such URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unavailable(f"{url!r} is not the URL of a gateway. Write http://HOST:PORT")
        self._patience = patience_seconds
        self._shards = 0
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            trust_env=parts.hostname not in ("localhost", "127.0.0.1", "::1"),
        )

    async def submit(self, submission: Submission) -> TaskView:
        key = submission.idempotency_key or uuid.uuid4().hex
        body = submission.model_dump(exclude_none=True, exclude={"idempotency_key"})
        return await self._view(TaskView, "POST", "/v1/tasks", body, headers={"Idempotency-Key": key})

    async def task(self, task: str) -> TaskView:
        return await self._view(TaskView, "GET", _path("tasks", task))

    async def tasks(self, *, status: str | None = None, limit: int = 100, before: str | None = None) -> list[TaskView]:
        wanted = {"status": status, "limit": limit, "before": before}
        return await self._views(TaskView, "tasks", "/v1/tasks", **wanted)

    async def steps(self, task: str) -> list[StepView]:
        return await self._views(StepView, "steps", _path("tasks", task, "steps"))

    async def events(
        self,
        task: str | None = None,
        *,
        after: int = 0,
        wait_seconds: float = 0,
        limit: int = 1000,
        shard: int | None = None,
    ) -> list[Event]:
        path = "/v1/events" if task is None else _path("tasks", task, "events")
        cursor = str(after) if task is not None or shard is not None else await self._cursor(after)
        wanted = {"after": cursor, "wait": wait_seconds, "limit": limit, "shard": shard}
        page = await self._data("GET", path, headers={"Accept": "application/json"}, seconds=wait_seconds, **wanted)
        return [Event.from_json(event) for event in page["events"]]

    async def stream(self, task: str | None = None, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        """Events as they happen, each with the cursor behind it, of a task until its end or of the tenant for ever.

        A stream that breaks is taken up again where it broke. Raises what the gateway says, Unavailable when it stays
        away.
        """
        path = "/v1/events" if task is None else _path("tasks", task, "events")
        patience = _Patience(self._patience)
        while True:
            try:
                async for sent in self._stream(path, after):
                    event = Event.from_json(orjson.loads(sent.data))
                    after, patience = sent.id, _Patience(self._patience)
                    yield after, event
                    if task is not None and event.kind.ends_task:
                        return
                if task is not None and (await self.task(task)).status.terminal:
                    return
            except Unavailable as error:
                await patience.lose(error)

    async def wait(self, task: str, seconds: float) -> TaskView:
        until = time.monotonic() + seconds
        while True:
            some = max(0.0, min(PAGE_SECONDS, until - time.monotonic()))
            view = await self._view(TaskView, "GET", _path("tasks", task), seconds=some, wait=some)
            if view.status.terminal or view.status in _PERSON or time.monotonic() >= until:
                return view

    async def cancel(self, task: str, reason: str = "") -> TaskView:
        return await self._view(TaskView, "POST", _path("tasks", task) + ":cancel", {"reason": reason})

    async def resume(
        self, task: str, choice: str, *, step: str | None = None, note: str = "", result: Any = None, output: Any = None
    ) -> TaskView:
        said = {"choice": choice, "step": step, "note": note, "result": result, "output": output}
        return await self._view(TaskView, "POST", _path("tasks", task) + ":resume", said)

    async def agents(self) -> list[AgentView]:
        return await self._views(AgentView, "agents", "/v1/agents")

    async def capabilities(self) -> list[Contract]:
        page = await self._data("GET", "/v1/capabilities")
        return [Contract.from_data(each) for each in page["capabilities"]]

    async def capability(self, name: str) -> Contract:
        return Contract.from_data(await self._data("GET", _path("capabilities", name)))

    async def approvals(self, *, pending: bool = True) -> list[ApprovalView]:
        return await self._views(ApprovalView, "approvals", "/v1/approvals", pending=pending)

    async def decide(
        self, approval: str, *, approve: bool, digest: str, note: str = "", plan: str = "", input: Any = None
    ) -> ApprovalView:
        path = _path("approvals", approval) + (":approve" if approve else ":deny")
        given = {"plan": plan or None, "input": input}
        body = {"digest": digest, "note": note} | {name: each for name, each in given.items() if each is not None}
        return await self._view(ApprovalView, "POST", path, body)

    async def status(self) -> FederationView:
        return await self._view(FederationView, "GET", "/v1/status")

    async def stats(self, *, since_seconds: float = 86_400, by: str = "capability") -> OutcomesView:
        return await self._view(OutcomesView, "GET", "/v1/stats", since_seconds=since_seconds, by=by)

    async def totals(self) -> list[Total]:
        return await self._views(Total, "totals", "/v1/stats:totals")

    async def verify(self) -> AuditReport:
        return await self._view(AuditReport, "POST", "/v1/audit:verify", {}, seconds=3600)

    async def bundle(self, task: str) -> JsonObject:
        return await self._data("GET", _path("tasks", task, "bundle"), seconds=BUNDLE_SECONDS)

    @property
    def models(self) -> HttpModels:
        return HttpModels(self._question, self._pieces)

    @property
    def memory(self) -> HttpMemory:
        return HttpMemory(self._data)

    async def close(self) -> None:
        await self._http.aclose()

    # The way there and back

    async def _view(self, model: type[Model], method: str, path: str, body: Any = None, **options: Any) -> Model:
        return model.model_validate_json(await self._ask(method, path, body, **options))

    async def _views(self, model: type[Model], name: str, path: str, **wanted: Any) -> list[Model]:
        return [model.model_validate(each) for each in (await self._data("GET", path, **wanted))[name]]

    async def _data(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        return orjson.loads(await self._ask(method, path, body, **options))

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = 0,
        patience_seconds: float | None = None,
        **wanted: Any,
    ) -> bytes:
        """The answer's body. `seconds` is how long the gateway may take by being asked to; `wanted` is the query."""
        patience = _Patience(self._patience if patience_seconds is None else patience_seconds)
        query = {name: _text(value) for name, value in wanted.items() if value is not None}
        content = None if body is None else orjson.dumps(body)
        typed = {**_JSON, **(headers or {})} if content is not None else headers
        while True:
            try:
                answer = await self._http.request(
                    method, path, params=query, content=content, headers=typed, timeout=seconds + SLACK_SECONDS
                )
                _check(answer)
                return answer.content
            except httpx.TransportError as error:
                await patience.lose(Unavailable(f"the gateway cannot be reached: {_words(error)}"), error)
            except Unavailable as error:
                await patience.lose(error)

    async def _question(self, method: str, path: str, body: Any = None, **wanted: Any) -> Any:
        """What a model says. Asked once, because asking costs."""
        with reached():
            patience_seconds = self._patience if body is None else 0
            return orjson.loads(
                await self._ask(method, path, body, seconds=ANSWER_SECONDS, patience_seconds=patience_seconds, **wanted)
            )

    async def _pieces(self, path: str, body: Any) -> AsyncIterator[str]:
        """The data of a stream that `[DONE]` ends. Raises the error that ends it instead."""
        with reached():
            async for data in self._posted(path, body):
                if data == "[DONE]":
                    return
                _check_event(data)
                yield data
            raise Unavailable("the answer broke off")

    async def _posted(self, path: str, body: Any) -> AsyncIterator[str]:
        try:
            content = orjson.dumps(body)
            async with self._http.stream(
                "POST", path, content=content, headers=_JSON, timeout=ANSWER_SECONDS
            ) as answer:
                if answer.is_error:
                    await answer.aread()
                _check(answer)
                async for sent in sse.read(answer.aiter_lines()):
                    yield sent.data
        except httpx.TransportError as error:
            raise Unavailable(f"the answer broke off: {_words(error)}") from error

    async def _stream(self, path: str, after: str | None) -> AsyncIterator[sse.Sent]:
        """One connection's worth of events. Raises Unavailable when it breaks."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=SILENCE_SECONDS) as answer:
                if answer.is_error:
                    await answer.aread()
                _check(answer)
                async for sent in sse.read(answer.aiter_lines(), after or ""):
                    if sent.name == "problem":
                        raise _error(orjson.loads(sent.data))
                    yield sent
        except httpx.TransportError as error:
            raise Unavailable(f"the event stream broke: {_words(error)}") from error

    async def _cursor(self, after: int) -> str:
        """`after` for each shard."""
        self._shards = self._shards or len((await self.status()).heads)
        return ",".join([str(after)] * self._shards)


class _Patience:
    """How long to go on after losses that may heal, with growing pauses."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = 0.02

    async def lose(self, error: HanseError, cause: Exception | None = None) -> None:
        """Waits a little before the next attempt. Raises `error` when it has taken too long."""
        if time.monotonic() + self._pause > self._until:
            raise error from cause
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, 1.0)


def _check(answer: httpx.Response) -> None:
    """Raises the error that a bad answer carries."""
    if answer.is_success:
        return
    try:
        raise _error(orjson.loads(answer.content), answer)
    except (orjson.JSONDecodeError, ValidationError, LookupError, TypeError):
        raise _foreign(answer) from None


def _check_event(data: str) -> None:
    """Raises the error that an event of an answer carries."""
    if data.startswith('{"error"'):
        raise _error(orjson.loads(data))


def _error(body: Mapping[str, Any], answer: httpx.Response | None = None) -> HanseError:
    """Of a problem, or of an error in the shape of OpenAI's clients, which has a problem inside."""
    error = error_from(Problem.model_validate(body["error"]["hanse"] if "error" in body else body))
    after = answer.headers.get("retry-after", "") if answer is not None else ""
    return (
        error.about(retry_after_seconds=float(after)) if isinstance(error, Overloaded) and after.isdecimal() else error
    )


def _foreign(answer: httpx.Response) -> HanseError:
    """An answer that no gateway of ours gave: of a proxy on the way, or of something else at that address."""
    what = f"{answer.status_code} from {answer.url.host}, and not from a gateway"
    return Unavailable(what) if answer.status_code >= 500 else HanseError(what, status=answer.status_code)


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe=":@") for part in parts)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
