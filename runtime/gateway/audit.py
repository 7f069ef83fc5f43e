"""`/v1/audit`: proving that the journal is what was written."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...contracts import AuditReport, Overloaded
from . import answers
from .desk import client_of, desk_of
from .openapi import gives
from .waiting import while_there

router = APIRouter(tags=["federation"])

_one_at_a_time = asyncio.Semaphore(1)
"""It reads the whole journal, which is work enough for one."""


@router.post("/v1/audit:verify", summary="Verify the journal", responses=gives(_200=AuditReport))
async def verify(request: Request) -> Response:
    """Recomputes the hash chain of every journal from its genesis."""
    if _one_at_a_time.locked():
        raise Overloaded("the journal is being verified already", retry_after_seconds=5)
    async with _one_at_a_time:
        with desk_of(request).admission.wait():
            return answers.view(await while_there(request.receive, client_of(request).verify()))
