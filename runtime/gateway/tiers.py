"""`/v1/tiers`: the model pool as its users see it, what they have used of it, and what it keeps of theirs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from . import answers
from .desk import client_of, desk_of
from .openapi import gives
from .schemas import CacheList, CallList, PromptList, Purged, TierPage, UsageList, Words

router = APIRouter(tags=["models"])

MAX_PAGE = 1000
DAYS = Query(ge=1, le=366, description="Days in UTC, today included.")
BY_TASK = Query(description="A line for each task.")
LIMIT = Query(ge=1, le=MAX_PAGE, description="Calls on a page.")
DIGEST = Query(min_length=1, max_length=200, description="As a call has it.")
BEFORE = Query(max_length=200, description="The id of the last call that was seen.")


@router.get("/v1/tiers", summary="List tiers", responses=gives(_200=TierPage))
async def tiers(request: Request) -> Response:
    """How each tier is: its state with progress and what to do about it, its queue, what it was used for so far."""
    return answers.views("tiers", await desk_of(request).tiers.all(client_of(request).models))


@router.get("/v1/tiers:usage", summary="Look at usage", responses=gives(_200=UsageList))
async def usage(
    request: Request, days: Annotated[int, DAYS] = 1, by_task: Annotated[bool, BY_TASK] = False
) -> Response:
    """What the caller's tenant has used, by day and tier."""
    return answers.views("usage", await client_of(request).models.usage(days, by_task=by_task))


@router.get("/v1/tiers:calls", summary="List calls", responses=gives(_200=CallList))
async def calls(
    request: Request, limit: Annotated[int, LIMIT] = 50, before: Annotated[str | None, BEFORE] = None
) -> Response:
    """Calls of the caller's tenant, newest first, with what each attempt made of them."""
    return answers.views("calls", await client_of(request).models.calls(limit, before))


@router.get("/v1/tiers:text", summary="Read a prompt or an answer", responses=gives(_200=Words))
async def text(request: Request, digest: Annotated[str, DIGEST]) -> Response:
    """By the digest that a call names. What is old is forgotten; its digest stays."""
    return answers.view(Words(digest=digest, text=await client_of(request).models.text(digest)))


@router.get("/v1/tiers:caches", summary="Look at caches", responses=gives(_200=CacheList))
async def caches(request: Request) -> Response:
    """How many answers are kept for the caller's tenant, and how often they were given again."""
    return answers.views("caches", await client_of(request).models.caches())


@router.get("/v1/tiers:prompts", summary="List prompts", responses=gives(_200=PromptList))
async def prompts(request: Request) -> Response:
    """The prompt files, with the versions that are current and those that run beside them."""
    return answers.views("prompts", await client_of(request).models.prompts())


@router.post("/v1/tiers:purge", summary="Forget cached answers", responses=gives(_200=Purged))
async def purge(request: Request) -> Response:
    """Forgets the answers that were kept for the caller's tenant, of the same words and of the same meaning."""
    return answers.view(Purged(purged=await client_of(request).models.purge()))
