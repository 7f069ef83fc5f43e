"""An ask as a chat completion of OpenAI's API, which is what engines understand, and what they answer as ours."""

from collections.abc import Mapping
from typing import Any

import orjson

from ..contracts import HanseError
from ..contracts.pool import Ask, Message, Tool, ToolCall
from .backend import Raw, RawPiece
from .tier import Tier


def request(ask: Ask, tier: Tier, *, stream: bool = False) -> bytes:
    """The body of a chat completion."""
    body: dict[str, Any] = {
        "model": tier.name,
        "messages": messages(ask),
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
    }
    body |= {"seed": ask.seed} if ask.seed is not None else {}
    body |= {"stop": list(ask.stop)} if ask.stop else {}
    body |= _answer_format(ask) | _tools(ask)
    return orjson.dumps(body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {}))


def prompt(ask: Ask, tier: Tier) -> bytes:
    """The body of a request to count a prompt's tokens."""
    body = {"model": tier.name, "messages": messages(ask)}
    return orjson.dumps(body | ({"tools": [_tool(each) for each in ask.tools]} if ask.tools else {}))


def messages(ask: Ask) -> list[dict[str, Any]]:
    """As a chat template sees them."""
    return [_message(each) for each in ask.messages]


def estimate(ask: Ask) -> int:
    """A bound on the prompt's tokens: no tokenizer makes more than one of a byte, and a template adds few."""
    words = sum(len(_words(each)) for each in ask.messages)
    tools = sum(len(orjson.dumps(_tool(each))) for each in ask.tools)
    return words + tools + 32 * (len(ask.messages) + len(ask.tools) + 1)


def raw(answer: Mapping[str, Any]) -> Raw:
    """A chat completion."""
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    message = choice["message"]
    return Raw(
        text=message.get("content") or "",
        tool_calls=tuple(_tool_call(each) for each in message.get("tool_calls") or ()),
        finish_reason=choice.get("finish_reason") or "stop",
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
    )


class Assembly:
    """Puts a streamed completion together."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._finish = "stop"
        self._usage: Mapping[str, Any] = {}

    def take(self, event: Mapping[str, Any]) -> RawPiece | None:
        """What one event adds, if anything. Raises the error that came in its place."""
        raise_error(event)
        self._usage = event.get("usage") or self._usage
        choice = next(iter(event.get("choices") or ()), {})
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta") or {}
        text, calls = delta.get("content") or "", delta.get("tool_calls") or ()
        if text:
            self._text.append(text)
        for call in calls:
            self._add(call)
        return RawPiece(text, tool_calls=tuple(calls)) if text or calls else None

    def whole(self) -> Raw:
        """What has come so far."""
        return Raw(
            text="".join(self._text),
            tool_calls=tuple(ToolCall(**self._calls[index]) for index in sorted(self._calls)),
            finish_reason=self._finish,
            prompt_tokens=self._usage.get("prompt_tokens") or 0,
            completion_tokens=self._usage.get("completion_tokens") or 0,
        )

    def _add(self, delta: Mapping[str, Any]) -> None:
        call = self._calls.setdefault(int(delta.get("index") or 0), {"id": "", "name": "", "arguments": ""})
        function = delta.get("function") or {}
        call["id"] = delta.get("id") or call["id"]
        call["name"] = function.get("name") or call["name"]
        call["arguments"] += function.get("arguments") or ""


def raise_error(answer: Mapping[str, Any]) -> None:
    if error := answer.get("error"):
        raise HanseError.from_data(error)


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    said |= {"name": message.name} if message.name else {}
    said |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
    return said | ({"tool_calls": [_called(each) for each in message.tool_calls]} if message.tool_calls else {})


def _called(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _answer_format(ask: Ask) -> dict[str, Any]:
    if ask.answer is None:
        return {}
    schema = {"name": "answer", "schema": ask.answer, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _tools(ask: Ask) -> dict[str, Any]:
    if not ask.tools:
        return {}
    return {"tools": [_tool(each) for each in ask.tools], "tool_choice": ask.tool_choice or "auto"}


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters, "strict": True},
    }


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    return ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])


def _words(message: Message) -> bytes:
    calls = "".join(each.name + each.arguments + each.id for each in message.tool_calls)
    return "".join((message.content or "", message.name or "", calls)).encode(errors="replace")
