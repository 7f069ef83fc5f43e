"""`/v1/models`: the tiers, and `hanse`, under which the router chooses among them."""

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from ....contracts import InvalidInput, JsonObject, Unavailable
from ....contracts.pool import TierView
from ...tenant_models import TenantModels
from .. import answers
from ..desk import client_of, desk_of
from ..openapi import gives
from ..tier_list import ModelNotFound
from .bodies import ANY
from .shapes import ModelPage, ModelShape

router = APIRouter(tags=["models"])

_STARTED = int(time.time())
"""When this process came up: clients want to know when a model was made, and tiers do not say."""
_DOES = {"generate": "chat completions", "embed": "embeddings", "classify": "scores"}


@router.get("/v1/models", summary="List models", responses=gives(_200=ModelPage))
async def models(request: Request) -> Response:
    """In OpenAI's shape. A model is a tier; `hanse` is all of them."""
    try:
        found = await desk_of(request).tiers.all(models_of(request))
    except ModelNotFound:
        return answers.data({"object": "list", "data": []})
    return answers.data({"object": "list", "data": [_model(ANY, None), *(_model(each.name, each) for each in found)]})


@router.get("/v1/models/{model}", summary="Look at a model", responses=gives(_200=ModelShape))
async def model(request: Request, model: str) -> Response:
    """One model in OpenAI's shape, with its state under `hanse`."""
    view = None if model == ANY else await desk_of(request).tiers.find(models_of(request), model, (ANY,))
    return answers.data(_model(model, view))


def models_of(request: Request) -> TenantModels:
    """The pool on behalf of the caller. Raises ModelNotFound when there is none: trying again would not help."""
    try:
        return client_of(request).models
    except Unavailable as error:
        raise ModelNotFound(error.detail, param="model") from None


async def the_tier(request: Request, name: str, kind: str) -> TierView | None:
    """The tier that a client named; None for `hanse`. Raises ModelNotFound, InvalidInput for one of another kind."""
    models = models_of(request)
    if name == ANY:
        return None
    view = await desk_of(request).tiers.find(models, name, (ANY,))
    if view.kind != kind:
        raise InvalidInput(f"{name} is for {_DOES.get(view.kind, view.kind)}, not for {_DOES[kind]}", param="model")
    return view


def _model(name: str, view: TierView | None) -> JsonObject:
    about: JsonObject = {"id": name, "object": "model", "created": _STARTED, "owned_by": "hanse"}
    return about | {"hanse": view.model_dump(mode="json")} if view else about
