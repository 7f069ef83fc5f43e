"""`/v1/memory`: remembering, recalling, revising and forgetting, for people and for programs that are no agents.

Whose memory it is comes from the credential, and so does who wrote it: a draft that names another task, step or agent
is refused. A revision says which version it saw (`If-Match`), so nobody overwrites what they have not read.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Query as Parameter
from starlette.responses import Response

from ...contracts import Conflict, IdempotencyKey, InvalidInput, NotFound
from ...contracts.memory import BoundMemory, Certificate, Change, Layer, Query, Recollection, Record, Scope
from ...memory import tools
from . import answers
from .bodies import read_json, read_model, read_optional
from .desk import client_of, desk_of
from .openapi import KEY_PARAMETER, body, gives
from .problems import BadRequest
from .schemas import CertificateList, Erasing, Forgetting, RecordList, RememberedList, Remembering, ToolList
from .security import idempotency_key

router = APIRouter(tags=["memory"])

MAX_ID = 200
MAX_PAGE = 1000
VERBS = frozenset(
    {
        *("access", "audit", "certificate", "certificates", "consolidate", "erase", "export", "grant", "grants"),
        *("progress", "rebuild", "redact", "restore", "snapshot", "stats", "tidy"),
    }
)
"""Of `tell`, those that callers outside may use."""
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The version that you have seen: its ETag, a number in quotes.",
    "schema": {"type": "string"},
}
Id = Annotated[str, Parameter(max_length=MAX_ID)]
_ETAG = re.compile(r'(?:W/)?"?([1-9][0-9]{0,17})"?')
_OF_THE_RUNTIME = ("task", "step", "agent")


class VersionRequired(BadRequest):
    """Say which version you have seen: `If-Match: "3"`."""

    code = "version_required"
    status = 428


class VersionGone(Conflict):
    """The record is not at the version that you have seen. Read it again, and decide again."""

    code = "version_gone"
    status = 412


# Records


@router.post(
    "/v1/memory/records",
    summary="Remember",
    responses=gives(_200=RememberedList),
    openapi_extra=body(Remembering, parameters=(KEY_PARAMETER,)),
)
async def remember(request: Request) -> Response:
    """What became of each draft: stored, merged, an echo, or quarantined, and why. It is on disk when this answers."""
    asked = _of_the_caller(await read_model(request, Remembering))
    key = idempotency_key(request.headers)
    told = await _memory(request).remember(asked.drafts, key=IdempotencyKey(key) if key else None)
    return answers.views("remembered", told)


@router.get("/v1/memory/records", summary="List records", responses=gives(_200=RecordList))
async def records(
    request: Request,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 100,
    id: Annotated[list[str] | None, Parameter(max_length=100, description="These, and no others.")] = None,
    layer: Annotated[list[Layer] | None, Parameter()] = None,
    scope: Annotated[list[Scope] | None, Parameter()] = None,
    owner: Annotated[list[str] | None, Parameter()] = None,
    subject: Annotated[list[str] | None, Parameter()] = None,
    episode: Annotated[list[str] | None, Parameter()] = None,
    label: Annotated[list[str] | None, Parameter()] = None,
    as_of_ms: int | None = None,
    quarantined: Annotated[bool, Parameter(description="Those that the write gate kept aside, too.")] = False,
) -> Response:
    """The newest that fit all of what is asked for; a filter that is given several times takes any of its values."""
    if id:
        found = [await _memory(request).get(_record_id(each)) for each in dict.fromkeys(id)]
        return answers.views("records", found)
    query = Query(
        limit=limit,
        layers=tuple(layer or ()),
        scopes=tuple(scope or ()),
        owners=tuple(owner or ()),
        subjects=tuple(subject or ()),
        episodes=tuple(episode or ()),
        labels=tuple(label or ()),
        as_of_ms=as_of_ms,
        include_quarantined=quarantined,
    )
    told = await _memory(request).recall(query)
    return answers.views("records", [hit.record for hit in told.hits])


@router.get("/v1/memory/records/{id}", summary="Look at a record", responses=gives(_200=Record))
async def record(request: Request, id: str) -> Response:
    """Its version is its ETag."""
    return _record(await _memory(request).get(_record_id(id)))


@router.get("/v1/memory/records/{id}/history", summary="Look at a record's versions", responses=gives(_200=RecordList))
async def history(request: Request, id: str) -> Response:
    """Oldest first. For a record that was forgotten, 404 says when and why."""
    return answers.views("records", await _memory(request).history(_record_id(id)))


@router.patch(
    "/v1/memory/records/{id}",
    summary="Revise a record",
    responses=gives(_200=Record),
    openapi_extra=body(Change, parameters=(IF_MATCH, KEY_PARAMETER)),
)
async def revise(request: Request, id: str) -> Response:
    """Only what is given changes. 412 when the record is not at that version any more, 428 when none was named."""
    version, key = _version_seen(request), idempotency_key(request.headers)
    change = await read_model(request, Change)
    try:
        revised = await _memory(request).revise(
            _record_id(id), change, version=version, key=IdempotencyKey(key) if key else None
        )
    except Conflict as error:
        raise VersionGone(error.detail, **error.ids) from error
    return _record(revised)


@router.delete("/v1/memory/records/{id}", summary="Forget a record", responses=gives(_200=Certificate))
async def forget(request: Request, id: str) -> Response:
    """Deletes it, and what was derived from it. The certificate says what went, and holds nothing of it."""
    return answers.view(await _memory(request).forget([_record_id(id)]))


@router.post("/v1/memory/records/{id}:pin", summary="Pin a record", responses=gives(_200=Record))
async def pin(request: Request, id: str) -> Response:
    """An anchor: hygiene leaves it alone, and only people change it."""
    return _record(await _memory(request).pin(_record_id(id)))


@router.post("/v1/memory/records/{id}:unpin", summary="Unpin a record", responses=gives(_200=Record))
async def unpin(request: Request, id: str) -> Response:
    """It is a record as any other again."""
    return _record(await _memory(request).pin(_record_id(id), pinned=False))


# Finding


@router.post("/v1/memory/recall", summary="Recall", responses=gives(_200=Recollection), openapi_extra=body(Query))
async def recall(request: Request) -> Response:
    """What fits best, each hit with its reason. The labels are those of all hits together: they travel along."""
    return answers.view(await _memory(request).recall(await read_model(request, Query)))


@router.get("/v1/memory/timeline", summary="Look at what happened", responses=gives(_200=RecordList))
async def timeline(
    request: Request,
    episode: Annotated[str | None, Parameter(max_length=500)] = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 100,
    before: Annotated[
        int | None, Parameter(description="A position within the episode, else Unix milliseconds.")
    ] = None,
) -> Response:
    """Episodic records in order, newest last."""
    found = await _memory(request).timeline(episode=episode, limit=limit, before=before)
    return answers.views("records", found)


# Subjects, and the less frequent verbs


@router.post("/v1/memory/subjects/{subject}:access", summary="Everything about a subject", responses=gives(_200=None))
async def access(request: Request, subject: str) -> Response:
    """All that is kept about it, with every version, and what was derived from it."""
    return answers.data(await _tell(request, "access", {"subject": _subject(subject)}))


@router.post(
    "/v1/memory/subjects/{subject}:erase",
    summary="Erase a subject",
    responses=gives(_200=Certificate),
    openapi_extra=body(Erasing, required=False),
)
async def erase(request: Request, subject: str) -> Response:
    """Deletes all that is kept about it, and what was derived from it, for good, and masks its aliases elsewhere."""
    asked = await read_optional(request, Erasing)
    return answers.data(await _tell(request, "erase", {"subject": _subject(subject), "aliases": asked.aliases}))


@router.post(
    "/v1/memory:forget", summary="Forget records", responses=gives(_200=Certificate), openapi_extra=body(Forgetting)
)
async def forget_all(request: Request) -> Response:
    """Several at once, with one certificate."""
    asked = await read_model(request, Forgetting)
    return answers.view(await _memory(request).forget([_record_id(id) for id in asked.ids], reason=asked.reason))


@router.get("/v1/memory/certificates", summary="List certificates of erasure", responses=gives(_200=CertificateList))
async def certificates(
    request: Request,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = 100,
    before: Annotated[str | None, Parameter(max_length=MAX_ID, description="The last id of the page before.")] = None,
) -> Response:
    """Newest first. Each is signed with the federation's key, and can be checked without it."""
    return answers.data(await _memory(request).tell("certificates", {"limit": limit, "before": before}))


@router.get("/v1/memory/certificates/{id}", summary="Look at a certificate", responses=gives(_200=Certificate))
async def certificate(request: Request, id: str) -> Response:
    """What an erasure erased, when and at whose word, and nothing of what it said."""
    return answers.data(await _memory(request).tell("certificate", {"id": id[:MAX_ID]}))


@router.get("/v1/memory/tools", summary="The memory as tools for models", responses=gives(_200=ToolList))
async def list_tools() -> Response:
    """In the shape of MCP's `tools/list`."""
    return answers.data({"tools": tools.descriptions()})


@router.post("/v1/memory/tools/{name}:call", summary="Call a tool for a model", responses=gives(_200=None))
async def call_tool(
    request: Request,
    name: str,
    found: Annotated[
        list[str] | None,
        Parameter(max_length=tools.MAX_FOUND, description="Ids of records that the model has found before."),
    ] = None,
) -> Response:
    """The body is the tool's arguments, as the model wrote them. What it keeps is derived from what it had found: the
    ids in the hits of the calls before are given again as `found`.
    """
    conversation = tools.Conversation(_memory(request), [_record_id(each) for each in found or ()])
    return answers.data(await conversation.call(name, await read_json(request)))


@router.post("/v1/memory:{verb}", summary="Audit, export, redact, …", responses=gives(_200=None))
async def tell(request: Request, verb: str) -> Response:
    """`audit`, `export`, `redact`, `consolidate`, `tidy`, `rebuild`, `grant`, `grants`, `snapshot`, `restore`,
    `stats`, with their parameters as the body; `progress` says how far those are that take long."""
    if verb not in VERBS:
        raise NotFound(f"the memory has no verb {verb[:64]!r}. Known: forget, {', '.join(sorted(VERBS))}")
    given = await read_json(request) if await request.body() else {}
    if not isinstance(given, dict):
        raise InvalidInput("the parameters are an object")
    return answers.data(await _tell(request, verb, given))


@router.post("/v1/memory/records/{id}:{verb}", include_in_schema=False)
async def other_verb(id: str, verb: str) -> Response:
    raise NotFound(f"a record has no verb {verb[:64]!r}. Known: pin, unpin")


@router.post("/v1/memory/subjects/{subject}:{verb}", include_in_schema=False)
async def other_subject_verb(subject: str, verb: str) -> Response:
    raise NotFound(f"a subject has no verb {verb[:64]!r}. Known: access, erase")


def _memory(request: Request) -> BoundMemory:
    return client_of(request).memory


async def _tell(request: Request, verb: str, parameters: dict[str, Any]) -> Any:
    """Takes a place among those who wait: a verb may read all that a tenant has."""
    with desk_of(request).admission.wait():
        return await _memory(request).tell(verb, parameters)


def _record(found: Record) -> Response:
    return answers.view(found, headers={"ETag": f'"{found.version}"'})


def _record_id(text: str) -> str:
    if not 1 <= len(text) <= MAX_ID:
        raise NotFound(f"there is no record {text[:64]!r}")
    return text


def _subject(text: str) -> str:
    if not 1 <= len(text) <= 500:
        raise NotFound("there is no such subject")
    return text


def _version_seen(request: Request) -> int:
    given = request.headers.getlist("if-match")
    if not given:
        raise VersionRequired
    match = _ETAG.fullmatch(given[0].strip()) if len(given) == 1 else None
    if match is None:
        raise BadRequest('If-Match is one version in quotes, such as "3"')
    return int(match[1])


def _of_the_caller(asked: Remembering) -> Remembering:
    """Raises InvalidInput for a draft that says that somebody else wrote it."""
    for number, draft in enumerate(asked.drafts):
        claimed = [name for name in (*_OF_THE_RUNTIME, "by") if getattr(draft.provenance, name)]
        if claimed:
            pointer = f"/drafts/{number}/provenance/{claimed[0]}"
            raise InvalidInput(f"{pointer}: who writes comes from the credential. Leave it out", pointer=pointer)
    return asked
