"""The description of the surface. Bodies are read by hand, because they are hot, so they are described by hand too."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ...contracts import Fork, JsonObject, Problem, Submission
from ...contracts.memory import Change, Query
from .openai.bodies import Chat, Embeddings, Score
from .openai.errors import speaks
from .openai.shapes import OpenAiError
from .problems import MEDIA_TYPE
from .schemas import (
    Cancellation,
    CapabilityCall,
    Decision,
    Decisions,
    Erasing,
    EventPage,
    Forgetting,
    Remembering,
    Resumption,
)

DESCRIBED: tuple[type[BaseModel], ...] = (
    *(Problem, Submission, Fork, CapabilityCall, Cancellation, Resumption, Decision, Decisions, EventPage),
    *(Chat, Embeddings, Score, OpenAiError),
    *(Remembering, Forgetting, Erasing, Change, Query),
)
_REF = "#/components/schemas/{model}"
_PUBLIC = ("/", "/healthz")

KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Chosen by the caller. The same key with the same body gives the first task, with another body 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
RESUME: JsonObject = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The id of the last event that was seen: the stream goes on behind it.",
            "schema": {"type": "string"},
        }
    ]
}


def body(model: type[BaseModel], *, required: bool = True, parameters: tuple[JsonObject, ...] = ()) -> JsonObject:
    """`openapi_extra` of a route that reads this body."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    extra: JsonObject = {"requestBody": {"required": required, "content": content}}
    return extra | ({"parameters": list(parameters)} if parameters else {})


def gives(**statuses: Any) -> dict[int | str, JsonObject]:
    """`responses` of a route: `gives(_200=TaskView)`."""
    return {int(name.removeprefix("_")): {"model": model} for name, model in statuses.items()}


STREAM: dict[int | str, JsonObject] = {
    200: {
        "description": "Events as they come on disk. Each has its place in the journal as `id`.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": _REF.format(model="EventPage")}},
        },
    },
    204: {"description": "The task has ended and everything has been seen: there is no reason to come again."},
}


def describe(app: FastAPI) -> JsonObject:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _add_schemas(document)
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(document: JsonObject) -> None:
    _, definitions = models_json_schema([(model, "validation") for model in DESCRIBED], ref_template=_REF)
    components = document.setdefault("components", {})
    components["schemas"] = {**definitions["$defs"], **components.get("schemas", {})}
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}


def _complete(path: str, operation: JsonObject) -> None:
    """What every operation has: problems in one shape, and who may ask."""
    responses: Mapping[str, Any] = operation["responses"]
    operation["responses"] = {status: each for status, each in responses.items() if status != "422"}
    kind, model = ("application/json", "OpenAiError") if speaks(path) else (MEDIA_TYPE, "Problem")
    content = {kind: {"schema": {"$ref": _REF.format(model=model)}}}
    operation["responses"]["default"] = {"description": "What went wrong.", "content": content}
    if path not in _PUBLIC:
        operation["security"] = [{"bearer": []}]
