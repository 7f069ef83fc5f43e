"""`POST /v1/chat/completions`: a conversation, answered at once or piece by piece.

A stream begins with its first piece, not before: what goes wrong until then has a status of its own. What goes wrong
afterwards is the stream's last event, `{"error": …}` instead of `[DONE]`. Who hangs up ends the work.
"""

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ....contracts import HanseError, JsonObject
from ....contracts.pool import Ask, Message, Piece, Tool, ToolCall
from ....contracts.schema import invalid
from ...tenant_models import TenantModels
from .. import answers
from ..admission import Admission
from ..bodies import read_model
from ..desk import desk_of
from ..openapi import body, gives
from ..waiting import CallerGone, while_there
from . import errors
from .bodies import Chat, Turn
from .completions import Reply, headers_of
from .listing import models_of, the_tier
from .shapes import CompletionShape

router = APIRouter(tags=["models"])

ANSWERS: dict[int | str, Any] = {
    200: gives(_200=CompletionShape)[200]
    | {"description": "The answer, or with `stream` its pieces.", "content": {"text/event-stream": {}}}
}


@router.post("/v1/chat/completions", summary="Answer a conversation", responses=ANSWERS, openapi_extra=body(Chat))
async def complete(request: Request) -> Response:
    """OpenAI's chat completions. `model` is a tier, or `hanse`, which lets the router choose and escalate."""
    asked = await read_model(request, Chat)
    tier = await the_tier(request, asked.model, "generate")
    ask, models = ask_of(asked, tier.name if tier else None), _acting(models_of(request), asked)
    reply = Reply(asked.model, bool(asked.stream_options and asked.stream_options.include_usage))
    if asked.stream:
        return _Stream(models.stream(ask), reply, desk_of(request).admission)
    with desk_of(request).admission.wait():
        answer = await while_there(request.receive, models.ask(ask))
    return answers.data(reply.whole(answer), headers=headers_of(answer))


def ask_of(asked: Chat, tier: str | None) -> Ask:
    """What the pool is asked. Raises InvalidInput."""
    try:
        return Ask.model_validate(_ask(asked, tier))
    except ValidationError as error:
        raise invalid(error) from None


def _ask(asked: Chat, tier: str | None) -> JsonObject:
    more = asked.hanse
    given = {
        "max_tokens": asked.max_completion_tokens or asked.max_tokens,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "stop": asked.stop,
        "tool_choice": asked.tool_choice,
        "validators": more.validators,
        "prompt": more.prompt,
        "inputs": more.inputs,
        "correction": more.correction,
    }
    return {
        "messages": [_message(turn) for turn in asked.messages],
        "purpose": more.purpose,
        "answer": _schema(asked),
        "tools": [_tool(each.function) for each in asked.tools or ()],
        "tier": tier,
        "only": tier is not None if more.only is None else more.only,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        **more.model_dump(include={"sources", "postconditions", "pure", "pinned", "shorten"}),
        **{name: value for name, value in given.items() if value is not None},
    }


def _message(turn: Turn) -> Message:
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in turn.tool_calls or ()
    )
    role = "system" if turn.role == "developer" else turn.role
    return Message(role=role, content=turn.content, name=turn.name, tool_calls=calls, tool_call_id=turn.tool_call_id)


def _tool(function: Any) -> Tool:
    return Tool(name=function.name, description=function.description or "", parameters=function.parameters or {})


def _schema(asked: Chat) -> JsonObject | None:
    wanted = asked.response_format
    if wanted is None or wanted.type == "text":
        return None
    return wanted.json_schema.schema_ if wanted.json_schema else {"type": "object"}


def _acting(models: TenantModels, asked: Chat) -> TenantModels:
    """The pool, told how urgent this is and what it may cost. A stream is watched by somebody."""
    more, urgent = asked.hanse, {"priority": True, "flex": False}
    return models.but(
        interactive=urgent.get(asked.service_tier or "", bool(asked.stream)),
        budget_cents=more.budget_cents,
        deadline_ms=int((time.time() + more.deadline_seconds) * 1000) if more.deadline_seconds else 0,
        labels=tuple(more.labels),
    )


class _Stream(Response):
    """Holds a place among those who wait for as long as it streams."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[Piece], reply: Reply, admission: Admission) -> None:
        super().__init__()
        self._pieces, self._reply, self._admission = pieces, reply, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what went wrong before the first piece."""
        with self._admission.wait():
            first = await while_there(receive, _next(self._pieces))
            response = StreamingResponse(
                self._frames(first), media_type=self.media_type, headers={"x-request-id": self._reply.id}
            )
            with suppress(CallerGone):
                await while_there(receive, response.stream_response(send))

    async def _frames(self, first: Piece | None) -> AsyncIterator[bytes]:
        reply, piece = self._reply, first
        yield reply.opening()
        try:
            while piece is not None:
                for frame in _frames_of(piece, reply):
                    yield frame
                piece = await _next(self._pieces)
        except HanseError as error:
            yield b"data: " + errors.body(error) + b"\n\n"


async def _next(pieces: AsyncIterator[Piece]) -> Piece | None:
    """The next one."""
    return await anext(pieces, None)


def _frames_of(piece: Piece, reply: Reply) -> list[bytes]:
    frames: list[bytes] = []
    if piece.text:
        frames.append(reply.text(piece.text))
    if piece.tool_calls:
        frames.append(reply.calls(piece))
    if piece.answer is not None:
        frames += reply.closing(piece.answer)
    return frames
