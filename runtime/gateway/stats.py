"""`/v1/stats`: how well work went, and what it cost."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...contracts.outcomes import OutcomesView
from ..statistics.keeper import DAY_SECONDS, MAX_SECONDS
from . import answers
from .desk import client_of
from .openapi import gives
from .schemas import TotalList

router = APIRouter(tags=["federation"])

SINCE = Query(gt=0, le=MAX_SECONDS, allow_inf_nan=False, description="Length of the window that ends now, in seconds.")
BY = Query(max_length=20, description="`capability`, `agent` or `tenant`.")


@router.get("/v1/stats", summary="Look at outcomes", responses=gives(_200=OutcomesView))
async def stats(
    request: Request,
    since_seconds: Annotated[float, SINCE] = DAY_SECONDS,
    by: Annotated[str, BY] = "capability",
) -> Response:
    """Success, cost, people's part, repair, retries, refusals and latency of the caller's tasks."""
    return answers.view(await client_of(request).stats(since_seconds=since_seconds, by=by))


@router.get("/v1/stats:totals", summary="Look at totals", responses=gives(_200=TotalList))
async def totals(request: Request) -> Response:
    """What `/metrics` says of outcomes, as JSON."""
    return answers.views("totals", await client_of(request).totals())
