"""`/v1/tasks`: asking for work and watching over it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...contracts import Fork, NotFound, ReplayReport, Submission, TaskStatus, TaskView
from .. import faults
from . import answers
from .bodies import object_of, read_json, read_model, read_optional
from .desk import client_of, desk_of
from .openapi import KEY_PARAMETER, body, gives
from .problems import BadRequest
from .schemas import Bundle, Cancellation, Resumption, StepList, TaskList
from .security import idempotency_key
from .waiting import wait_for

router = APIRouter(tags=["tasks"])

MAX_PAGE = 1000
WAIT = Query(ge=0, allow_inf_nan=False, description="Seconds to wait for the end, or until a person is needed.")
_TASK_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@router.post(
    "/v1/tasks",
    status_code=202,
    summary="Submit a task",
    responses=gives(_202=TaskView, _200=TaskView),
    openapi_extra=body(Submission, parameters=(KEY_PARAMETER,)),
)
async def submit(request: Request, wait: Annotated[float, WAIT] = 0) -> Response:
    """A goal in words, a call of one capability, or a plan. The task is on disk when this answers."""
    asked = with_key(await read_json(request), idempotency_key(request.headers))
    submission = object_of(Submission, asked)
    if wait > 0:
        return answers.task(await submit_and_wait(request, submission, wait))
    view = await client_of(request).submit(submission)
    desk_of(request).faults.reach(faults.BEFORE_ANSWER)
    return answers.task(view)


@router.get("/v1/tasks", summary="List tasks", responses=gives(_200=TaskList))
async def tasks(
    request: Request,
    status: TaskStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before.")] = None,
) -> Response:
    """Newest first."""
    found = await client_of(request).tasks(status=status, limit=limit, before=before and task_id(before))
    return answers.views("tasks", found, next=found[-1].id if len(found) == limit else None)


@router.get("/v1/tasks/{task}", summary="Look at a task", responses=gives(_200=TaskView))
async def task(request: Request, task: str, wait: Annotated[float, WAIT] = 0) -> Response:
    """As it is, or with `wait` as it is when it has ended or needs a person."""
    client, id = client_of(request), task_id(task)
    if wait <= 0:
        return answers.view(await client.task(id))
    with desk_of(request).admission.wait():
        return answers.view(await wait_for(request, client, id, _clamped(request, wait)))


@router.get("/v1/tasks/{task}/steps", summary="Look at a task's steps", responses=gives(_200=StepList))
async def steps(request: Request, task: str) -> Response:
    """Every step with its bids, its award and why, and what came of it."""
    return answers.views("steps", await client_of(request).steps(task_id(task)))


@router.get("/v1/tasks/{task}/bundle", summary="Get the evidence of a task", responses=gives(_200=Bundle))
async def bundle(request: Request, task: str) -> Response:
    """Every entry about it, proved to be in the journal, and signed: `hanse audit check` checks it anywhere."""
    with desk_of(request).admission.wait():
        return answers.data(await client_of(request).bundle(task_id(task)))


@router.post(
    "/v1/tasks/{task}:cancel",
    summary="Cancel a task",
    responses=gives(_202=TaskView, _200=TaskView),
    openapi_extra=body(Cancellation, required=False),
)
async def cancel(request: Request, task: str) -> Response:
    """What is in flight is stopped or awaited, and what was done is undone. Canceling again changes nothing."""
    id = task_id(task)
    asked = await read_optional(request, Cancellation)
    return answers.task(await client_of(request).cancel(id, asked.reason))


@router.post(
    "/v1/tasks/{task}:fork",
    status_code=202,
    summary="Fork a task",
    responses=gives(_202=TaskView, _200=TaskView),
    openapi_extra=body(Fork, parameters=(KEY_PARAMETER,)),
)
async def fork(request: Request, task: str) -> Response:
    """A new task, in which what was done before the step, and beside it, is not done again."""
    id = task_id(task)
    asked = with_key(await read_json(request), idempotency_key(request.headers))
    return answers.task(await client_of(request).fork(id, object_of(Fork, asked)))


@router.post("/v1/tasks/{task}:replay", summary="Replay a task", responses=gives(_200=ReplayReport))
async def replay(request: Request, task: str) -> Response:
    """Reads its journal again and decides again whatever was decided. Calls no agent and no model."""
    return answers.view(await client_of(request).replay(task_id(task)))


@router.post(
    "/v1/tasks/{task}:resume",
    summary="Resume a held step",
    responses=gives(_202=TaskView, _200=TaskView),
    openapi_extra=body(Resumption),
)
async def resume(request: Request, task: str) -> Response:
    """A person has found out what came of a step, or mended what kept it from going on. The same choice again changes
    nothing.
    """
    id, said = task_id(task), await read_model(request, Resumption)
    found = {"note": said.note, "result": said.result, "output": said.output}
    return answers.task(await client_of(request).resume(id, said.choice, step=said.step, **found))


@router.post("/v1/tasks/{task}:{verb}", include_in_schema=False)
async def other_verb(task: str, verb: str) -> Response:
    """Otherwise `POST` on a task would look like a wrong method on the task itself."""
    raise NotFound(f"a task has no verb {verb[:64]!r}. Known: cancel, fork, replay, resume")


async def submit_and_wait(request: Request, submission: Submission, seconds: float) -> TaskView:
    """Takes a place among those who wait before anything is started. Raises Overloaded when there is none."""
    client = client_of(request)
    with desk_of(request).admission.wait():
        view = await client.submit(submission)
        return await wait_for(request, client, view.id, _clamped(request, seconds))


def with_key(asked: Any, key: str | None) -> Any:
    """The body with the header's key in it. Raises BadRequest when the body has another one."""
    if key is None or not isinstance(asked, dict):
        return asked
    if asked.setdefault("idempotency_key", key) != key:
        raise BadRequest("the Idempotency-Key header and the body's idempotency_key differ. Send one of them")
    return asked


def task_id(text: str) -> str:
    """Raises NotFound for what cannot be a task's id."""
    if not _TASK_ID.fullmatch(text):
        raise NotFound(f"there is no task {text[:64]!r}", task=text[:64])
    return text


def _clamped(request: Request, seconds: float) -> float:
    return min(seconds, desk_of(request).settings.max_wait_seconds)
