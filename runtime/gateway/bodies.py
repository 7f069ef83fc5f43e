"""Reads a body: bytes to JSON to a checked value, each step with its own clear refusal."""

import json
import re
from typing import Any, NoReturn, TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from ...contracts import InvalidInput
from ...contracts.plain import check
from ...contracts.schema import fitted
from .desk import desk_of
from .problems import InvalidJson

Model = TypeVar("Model", bound=BaseModel)
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


async def read_json(request: Request) -> Any:
    """Raises InvalidJson, InvalidInput for what is nested too deeply, and TooLarge."""
    raw = await request.body()
    value = parse(raw)
    limit = desk_of(request).settings.json_depth
    if raw.count(b"[") + raw.count(b"{") > limit and is_deeper(value, limit):
        raise InvalidInput(f"the body is nested deeper than {limit}", limit=limit)
    return value


async def read_model(request: Request, model: type[Model]) -> Model:
    """Raises InvalidInput with a pointer to the first thing that does not fit."""
    return object_of(model, await read_json(request))


async def read_optional(request: Request, model: type[Model]) -> Model:
    """The same, with nothing said where there is no body."""
    return await read_model(request, model) if await request.body() else model()


def object_of(model: type[Model], value: Any) -> Model:
    """The same for a body that was read."""
    if not isinstance(value, dict):
        raise InvalidInput(f"the body is an object, not {_kind(value)}")
    return fitted(model, value)


def parse(raw: bytes) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no half surrogates, and no number that would come out as another one."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None
    if _LONG_NUMBER.search(raw):
        check(_parse_slowly(raw))
    return value


def _parse_slowly(raw: bytes) -> Any:
    """With whole numbers of any length, which orjson turns into fractions that are near."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def is_deeper(value: Any, limit: int) -> bool:
    """Level by level, so that a deep value cannot exhaust the stack."""
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for each in level:
            if each.__class__ is dict:
                below += each.values()
            elif each.__class__ is list:
                below += each
        level = [each for each in below if each.__class__ in (dict, list)]
        if not level:
            return False
    return True


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
