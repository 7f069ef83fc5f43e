"""`POST /v1/score`: what a validator thinks of texts, in the words of vLLM's score API."""

import asyncio
import secrets
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from ....contracts import JsonObject, NotFound
from ....contracts.pool import Judgement
from ....models.price import guess_tokens
from .. import answers
from ..bodies import read_model
from ..desk import desk_of
from ..openapi import body, gives
from ..tier_list import ModelNotFound
from ..waiting import while_there
from .bodies import Score
from .listing import models_of
from .shapes import ScorePage

router = APIRouter(tags=["models"])


@router.post("/v1/score", summary="Judge texts", responses=gives(_200=ScorePage), openapi_extra=body(Score))
async def score(request: Request) -> Response:
    """`model` is a validator, or a tier by which one alone judges, `text_1` what it judges, `text_2` the sources. It
    advises; policy decides.
    """
    asked = await read_model(request, Score)
    models = models_of(request)

    async def judged() -> list[Judgement]:
        return await asyncio.gather(*(models.judge(asked.model, text, asked.text_2) for text in asked.text_1))

    with desk_of(request).admission.wait():
        try:
            found = await while_there(request.receive, judged())
        except NotFound as error:
            raise ModelNotFound(error.detail, param="model") from None
    return answers.data(_page(asked, found))


def _page(asked: Score, found: list[Judgement]) -> JsonObject:
    data = [
        {"index": index, "object": "score", "score": each.score, "reason": each.reason}
        for index, each in enumerate(found)
    ]
    head = {"id": f"score-{secrets.token_hex(12)}", "object": "list", "created": int(time.time()), "model": asked.model}
    tokens = sum(guess_tokens((text, *asked.text_2)) for text in asked.text_1)
    return {**head, "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
