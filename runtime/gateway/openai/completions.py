"""The pool's answers in the shapes of chat completions: whole, and as the frames of a stream."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import orjson

from ....contracts import JsonObject
from ....contracts.pool import Answer, Piece, Usage

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """What all frames of one answer have in common."""

    model: str
    """As the client called it."""
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> JsonObject:
        """`chat.completion`."""
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": answer.tier or self.model,
            "system_fingerprint": answer.model or None,
            "choices": [
                {"index": 0, "message": _message(answer), "logprobs": None, "finish_reason": answer.finish_reason}
            ],
            "usage": usage_of(answer.usage),
            "hanse": report_of(answer),
        }

    def opening(self) -> bytes:
        return self._frame({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        """The frame of a piece of text. There are thousands a second, so only the text is written anew."""
        before, after = self._around
        return before + orjson.dumps(text) + after

    def calls(self, piece: Piece) -> bytes:
        return self._frame({"tool_calls": list(piece.tool_calls)})

    def closing(self, answer: Answer) -> Iterator[bytes]:
        """Why it ended, what the pool says of it, and the usage for who wants to know."""
        yield self._frame({}, answer.finish_reason, hanse=report_of(answer))
        if self.include_usage:
            yield _data({**self._head, "choices": [], "usage": usage_of(answer.usage)})
        yield DONE

    @property
    def _head(self) -> JsonObject:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}

    def _frame(self, delta: JsonObject, finish_reason: str | None = None, **more: JsonObject) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self.include_usage else {}
        return _data({**self._head, "choices": [choice], **usage, **more})

    @cached_property
    def _around(self) -> tuple[bytes, bytes]:
        before, _, after = self._frame({"content": _MARK}).partition(orjson.dumps(_MARK))
        return before, after


_MARK = "\0here"


def headers_of(answer: Answer) -> dict[str, str]:
    """What a call took, for whoever counts it without reading bodies."""
    return {
        "Hanse-Call": answer.id,
        "Hanse-Tier": answer.tier,
        "Hanse-Cents": f"{answer.usage.cents:g}",
        "Hanse-Cached": str(answer.cached),
        "x-request-id": answer.id,
    }


def usage_of(usage: Usage) -> JsonObject:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def report_of(answer: Answer) -> JsonObject:
    """The answer less what stands elsewhere in the completion."""
    return answer.model_dump(mode="json", exclude={"text", "data", "tool_calls", "finish_reason"})


def _message(answer: Answer) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if not answer.tool_calls:
        return message | {"content": answer.text}
    return message | {
        "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.tool_calls
        ]
    }


def _data(value: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
