"""`HttpModels`: the model pool behind a gateway.

Questions go to the paths that OpenAI's clients use, with what only Hanse knows under `hanse` on the way there and back.
A question is asked once: to ask again would cost again, and whoever asked knows best whether it is worth it.
"""

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..contracts import JsonObject
from ..contracts.pool import (
    Answer,
    Ask,
    CacheView,
    CallView,
    Judgement,
    Message,
    Piece,
    PromptView,
    TierView,
    Tool,
    ToolCall,
    UsageView,
)

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

ANY = "hanse"
CHAT = "/v1/chat/completions"
_EXTENSION = {
    *("purpose", "sources", "postconditions", "validators", "pure", "only"),
    *("prompt", "inputs", "correction", "pinned"),
}

Get = Callable[..., Awaitable[Any]]
"""`get(method, path, body, **query)`: the answer's JSON. Raises our errors; without a gateway ModelUnavailable."""
Frames = Callable[[str, JsonObject], AsyncIterator[str]]
"""`frames(path, body)`: the data of each event of the stream that is the answer. Raises the same."""


class HttpModels:
    """Keeps `TenantModels` over the HTTP surface."""

    def __init__(self, get: Get, frames: Frames, about: JsonObject | None = None) -> None:
        self._get, self._frames, self._about = get, frames, about or {}

    def but(
        self,
        *,
        budget_cents: float | None = None,
        deadline_ms: int = 0,
        interactive: bool = False,
        labels: tuple[str, ...] = (),
    ) -> "HttpModels":
        left = {"deadline_seconds": max(0.001, deadline_ms / 1000 - time.time())} if deadline_ms else {}
        budget = {} if budget_cents is None else {"budget_cents": budget_cents}
        about = {"service_tier": "priority" if interactive else "flex", "labels": list(labels), **left, **budget}
        return HttpModels(self._get, self._frames, about)

    async def ask(self, ask: Ask) -> Answer:
        completion = await self._get("POST", CHAT, self._body(ask))
        (choice,) = completion["choices"]
        message = choice["message"]
        calls: dict[int, JsonObject] = dict(enumerate(message.get("tool_calls") or ()))
        return _answer(ask, message["content"] or "", calls, completion["hanse"], choice["finish_reason"])

    async def stream(self, ask: Ask) -> AsyncIterator[Piece]:
        """The last piece has the answer, put together from those before it."""
        body = self._body(ask) | {"stream": True}
        text, calls = "", dict[int, JsonObject]()
        async for data in self._frames(CHAT, body):
            chunk = orjson.loads(data)
            for choice in chunk["choices"]:
                delta = choice["delta"]
                text += delta.get("content") or ""
                _add(calls, delta.get("tool_calls") or ())
                if delta.get("content") or delta.get("tool_calls"):
                    yield Piece(text=delta.get("content") or "", tool_calls=tuple(delta.get("tool_calls") or ()))
                if choice["finish_reason"]:
                    yield Piece(answer=_answer(ask, text, calls, chunk["hanse"], choice["finish_reason"]))

    async def embed(self, texts: Sequence[str]) -> "NDArray[float32]":
        import numpy

        asked = {"model": ANY, "input": list(texts), "encoding_format": "base64"}
        page = await self._get("POST", "/v1/embeddings", asked)
        rows = b"".join(base64.b64decode(each["embedding"]) for each in page["data"])
        return numpy.frombuffer(bytearray(rows), dtype="<f4").reshape(len(texts), -1)

    async def judge(self, validator: str, text: str, sources: Sequence[str] = ()) -> Judgement:
        asked = {"model": validator, "text_1": text, "text_2": list(sources)}
        (found,) = (await self._get("POST", "/v1/score", asked))["data"]
        return Judgement(validator=validator, score=found["score"], reason=found["reason"])

    async def tiers(self) -> list[TierView]:
        return [TierView.model_validate(each) for each in (await self._get("GET", "/v1/tiers"))["tiers"]]

    async def calls(self, limit: int = 50, before: str | None = None) -> list[CallView]:
        page = await self._get("GET", "/v1/tiers:calls", limit=limit, before=before)
        return [CallView.model_validate(each) for each in page["calls"]]

    async def text(self, digest: str) -> str:
        return (await self._get("GET", "/v1/tiers:text", digest=digest))["text"]

    async def usage(self, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        page = await self._get("GET", "/v1/tiers:usage", days=days, by_task=by_task)
        return [UsageView.model_validate(each) for each in page["usage"]]

    async def caches(self) -> list[CacheView]:
        return [CacheView.model_validate(each) for each in (await self._get("GET", "/v1/tiers:caches"))["caches"]]

    async def purge(self) -> int:
        return (await self._get("POST", "/v1/tiers:purge", {}))["purged"]

    async def prompts(self) -> list[PromptView]:
        return [PromptView.model_validate(each) for each in (await self._get("GET", "/v1/tiers:prompts"))["prompts"]]

    def _body(self, ask: Ask) -> JsonObject:
        about = dict(self._about)
        urgency = {"service_tier": about.pop("service_tier")} if about else {}
        more = ask.model_dump(mode="json", include=_EXTENSION | {"shorten"}, exclude_none=True)
        given = {"seed": ask.seed, "stop": list(ask.stop) or None, "tool_choice": ask.tool_choice}
        return {
            "model": ask.tier or ANY,
            "messages": [_turn(message) for message in ask.messages],
            "max_completion_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            **({"tools": [_tool(tool) for tool in ask.tools]} if ask.tools else {}),
            **({"response_format": _format(ask.answer)} if ask.answer is not None else {}),
            **{name: value for name, value in given.items() if value is not None},
            **urgency,
            "hanse": {**more, **about},
        }


def _turn(message: Message) -> JsonObject:
    calls = {"tool_calls": [_call(call) for call in message.tool_calls]} if message.tool_calls else {}
    given = {"name": message.name, "tool_call_id": message.tool_call_id}
    named = {name: value for name, value in given.items() if value is not None}
    return {"role": message.role, "content": message.content, **calls, **named}


def _call(call: ToolCall) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> JsonObject:
    return {"type": "function", "function": tool.model_dump()}


def _format(schema: JsonObject) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _answer(ask: Ask, text: str, calls: dict[int, JsonObject], report: JsonObject, reason: str) -> Answer:
    made = [{"id": call["id"], **call["function"]} for _, call in sorted(calls.items())]
    data = _parsed(text) if ask.answer is not None else None
    about = {"text": text, "data": data, "tool_calls": made, "finish_reason": reason}
    return Answer.model_validate({**report, **about})


def _add(calls: dict[int, JsonObject], deltas: Sequence[JsonObject]) -> None:
    """Takes in what a piece says of tool calls: the first of a call names it, the others go on with its arguments."""
    for delta in deltas:
        function = delta.get("function") or {}
        call = calls.setdefault(delta["index"], {"id": "", "function": {"name": "", "arguments": ""}})
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
