"""`/v1/approvals`: questions to people, and their answers.

Who answers is taken from the credential and never from the body, and an answer carries the digest of what was seen, so
nobody approves what they have not looked at.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...contracts import ApprovalView, NotFound
from ..flood import decide_all, grouped
from ..views import problem
from . import answers
from .bodies import read_model
from .desk import client_of
from .openapi import body, gives
from .schemas import ApprovalList, DecidedList, Decision, Decisions

router = APIRouter(tags=["approvals"])

MAX_ID = 200


@router.get("/v1/approvals", summary="List approvals", responses=gives(_200=ApprovalList))
async def approvals(
    request: Request,
    pending: Annotated[bool, Query(description="Only those that wait for an answer.")] = True,
    group: Annotated[bool, Query(description="As few prompts: one per rule and capability.")] = False,
) -> Response:
    """What each would run, with which input, and which rule asks."""
    found = await client_of(request).approvals(pending=pending or group)
    return answers.views("groups", grouped(found)) if group else answers.views("approvals", found)


@router.post(
    "/v1/approvals:decide", summary="Decide many", responses=gives(_200=DecidedList), openapi_extra=body(Decisions)
)
async def decide_many(request: Request) -> Response:
    """One answer to every question that is named, each by itself and bound to the digest that was seen."""
    asked = await read_model(request, Decisions)
    decided, refused = await decide_all(client_of(request), asked.seen, approve=asked.approve, note=asked.note)
    problems = [{"id": id, "problem": problem(error).model_dump(mode="json")} for id, error in refused.items()]
    return answers.views("decided", decided, refused=problems)


@router.post(
    "/v1/approvals/{approval}:approve",
    summary="Approve",
    responses=gives(_200=ApprovalView),
    openapi_extra=body(Decision),
)
async def approve(request: Request, approval: str) -> Response:
    """Lets exactly the step that was seen run."""
    return await _decide(request, approval, approve=True)


@router.post(
    "/v1/approvals/{approval}:deny",
    summary="Deny",
    responses=gives(_200=ApprovalView),
    openapi_extra=body(Decision),
)
async def deny(request: Request, approval: str) -> Response:
    """The step does not run, and its task goes on or is undone as its plan says."""
    return await _decide(request, approval, approve=False)


async def _decide(request: Request, approval: str, *, approve: bool) -> Response:
    if len(approval) > MAX_ID:
        raise NotFound(f"there is no approval {approval[:64]!r}", approval=approval[:64])
    asked = await read_model(request, Decision)
    client = client_of(request)
    return answers.view(
        await client.decide(
            approval, approve=approve, digest=asked.digest, note=asked.note, plan=asked.plan, input=asked.input
        )
    )
