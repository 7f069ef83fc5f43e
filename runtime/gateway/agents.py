"""`/v1/agents` and `/v1/status`: who is here, and how the whole is."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...contracts import FederationView
from . import answers
from .desk import client_of
from .openapi import gives
from .schemas import AgentList

router = APIRouter(tags=["federation"])


@router.get("/v1/agents", summary="List agents", responses=gives(_200=AgentList))
async def agents(request: Request) -> Response:
    """Where each lives, what it offers, whether it is healthy, and how much waits for it."""
    return answers.views("agents", await client_of(request).agents())


@router.get("/v1/status", summary="Look at the federation", responses=gives(_200=FederationView))
async def status(request: Request) -> Response:
    """What `hanse status` shows, with the tasks of the caller's tenant."""
    return answers.view(await client_of(request).status())
