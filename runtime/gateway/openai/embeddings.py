"""`POST /v1/embeddings`: texts to vectors of unit length."""

import base64
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ....contracts import InvalidInput, JsonObject
from ....contracts.pool import TierView
from ....models.price import guess_tokens
from .. import answers
from ..bodies import read_model
from ..desk import desk_of
from ..openapi import body, gives
from ..waiting import while_there
from .bodies import Embeddings
from .listing import models_of, the_tier
from .shapes import EmbeddingPage

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

router = APIRouter(tags=["models"])


@router.post(
    "/v1/embeddings", summary="Embed texts", responses=gives(_200=EmbeddingPage), openapi_extra=body(Embeddings)
)
async def embed(request: Request) -> Response:
    """OpenAI's embeddings. `model` is the tier that embeds, the first of its kind in hanse.yaml, or `hanse`."""
    asked = await read_model(request, Embeddings)
    if "" in asked.input:
        raise InvalidInput("an empty text has no vector", pointer=f"/input/{asked.input.index('')}")
    tier = await the_tier(request, asked.model, "embed")
    _check_embeds(tier)
    with desk_of(request).admission.wait():
        vectors = await while_there(request.receive, models_of(request).embed(asked.input))
    _check_dimensions(asked, vectors.shape[1])
    return answers.data(_page(asked, tier.name if tier else asked.model, vectors))


def _check_embeds(tier: TierView | None) -> None:
    """Vectors of another model than the one asked for would be compared with those of that model."""
    if tier is not None and tier.instead:
        raise InvalidInput(f"{tier.name} does not embed here, {tier.instead} does: ask for that one", param="model")


def _check_dimensions(asked: Embeddings, dimensions: int) -> None:
    if asked.dimensions not in (None, dimensions):
        raise InvalidInput(f"vectors here have {dimensions} dimensions, and cannot be cut", pointer="/dimensions")


def _page(asked: Embeddings, model: str, vectors: "NDArray[float32]") -> JsonObject:
    write = _base64 if asked.encoding_format == "base64" else _numbers
    data = [{"object": "embedding", "index": index, "embedding": write(row)} for index, row in enumerate(vectors)]
    tokens = guess_tokens(asked.input)
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _numbers(row: Any) -> list[float]:
    return row.tolist()


def _base64(row: Any) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode()
