"""`/v1/capabilities`: what the federation can do, and doing one of it."""

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...contracts import Canceled, Contract, JsonObject, NotFound, Problem, Submission, TaskStatus, TaskView
from ..views import problem
from . import answers
from .bodies import object_of, read_json
from .desk import client_of
from .openapi import KEY_PARAMETER, body, gives
from .problems import respond_with
from .schemas import CapabilityCall, CapabilityList
from .security import idempotency_key
from .tasks import WAIT, submit_and_wait

router = APIRouter(tags=["capabilities"])

MAX_NAME = 200
CALL_SECONDS = 60.0
"""How long a call waits for its end where the caller says nothing."""


@router.get("/v1/capabilities", summary="List capabilities", responses=gives(_200=CapabilityList))
async def capabilities(request: Request) -> Response:
    """The contract of each."""
    contracts = await client_of(request).capabilities()
    return answers.data({"capabilities": [contract.to_data() for contract in contracts]})


@router.get("/v1/capabilities/{name}", summary="Read a contract", responses=gives(_200=Contract))
async def capability(request: Request, name: str) -> Response:
    """Input, output, effect, risk, price, compensation, and how long it takes. `name` may end in a version: `@1.2`."""
    return answers.data((await client_of(request).capability(_name(name))).to_data())


@router.post(
    "/v1/capabilities/{name}:call",
    summary="Call a capability",
    responses={
        200: {"description": "The capability's output.", "content": {"application/json": {"schema": {}}}},
        202: {"description": "It goes on, or waits for a person.", "model": TaskView},
    },
    openapi_extra=body(CapabilityCall, parameters=(KEY_PARAMETER,)),
)
async def call(request: Request, name: str, wait: Annotated[float, WAIT] = CALL_SECONDS) -> Response:
    """Submits a task of one call and waits. The header `Hanse-Task` names the task."""
    asked = object_of(CapabilityCall, await read_json(request))
    submission = Submission(call=_name(name), idempotency_key=idempotency_key(request.headers), **_options(asked))
    return _answer(await submit_and_wait(request, submission, wait))


def _options(asked: CapabilityCall) -> JsonObject:
    return {option: getattr(asked, option) for option in asked.model_fields_set}


def _answer(view: TaskView) -> Response:
    about = {"Hanse-Task": view.id}
    if not view.status.terminal:
        return answers.task(view, about)
    if view.status is TaskStatus.COMPLETED:
        return answers.data(view.output, headers=about)
    return respond_with(_why(view), about)


def _why(view: TaskView) -> Problem:
    """The task's error, which also names the task."""
    error = view.error or problem(Canceled("the task was canceled"))
    return error.model_copy(update={"ids": {**error.ids, "task": view.id}})


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise NotFound(f"there is no capability {text[:64]!r}")
    return text
