"""Writes answers. Views become JSON in one pass, in Rust, and are not checked a second time."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from ...contracts import TaskStatus, TaskView

JSON = "application/json"


def view(value: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(value), status, headers, JSON)


def views(name: str, values: Sequence[BaseModel], **more: Any) -> Response:
    """`{NAME: [...], ...}`: an object, because a list could not grow."""
    inside = b",".join(encoded(value) for value in values)
    rest = b"".join(b"," + orjson.dumps(key) + b":" + orjson.dumps(value) for key, value in more.items())
    return Response(b'{"%s":[%s]%s}' % (name.encode(), inside, rest), 200, None, JSON)


def data(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, JSON)


def task(value: TaskView, headers: Mapping[str, str] | None = None) -> Response:
    """200 for a task that has ended, 202 for one that goes on."""
    status = 200 if TaskStatus(value.status).terminal else 202
    return view(value, status, {"Location": f"/v1/tasks/{value.id}", **(headers or {})})


def encoded(value: BaseModel) -> bytes:
    """Views that came over a link hold what the coordinator wrote, unchecked, hence no warnings about types."""
    return value.__pydantic_serializer__.to_json(value, warnings=False)
