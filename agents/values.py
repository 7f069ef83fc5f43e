"""Values as an agent keeps them: plain data in msgpack, with the way from pydantic models and dataclasses and back.

What is put is copied by being packed, and what is got is a fresh copy, so a handler that changes a list it was given
changes nothing of anybody else's.

A value that was put while its step worked on labelled data has the labels in front of it, so that they come and go with
it: `0xc1`, the byte with which no msgpack begins (its specification calls it "never used"), then both in a list.
"""

from functools import cache
from typing import Any

import msgpack
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..contracts import Failed, InvalidInput
from ..contracts.labels import NO_MARKS, Marks, marks_of, to_data
from ..contracts.plain import check, pack
from ..contracts.schema import invalid

_LABELLED = b"\xc1"
unpacked = msgpack.unpackb


def packed(value: Any) -> bytes:
    """The bytes of a value. Raises InvalidInput, with a pointer, for what plain data cannot carry."""
    try:
        check(value)
    except InvalidInput:
        value = _plain(value)  # a model, a dataclass, a date, or something that holds one
        check(value)
    return pack(value)


def labelled(data: bytes, marks: Marks) -> bytes:
    """The bytes of a value with its labels, to be kept."""
    return _LABELLED + msgpack.packb((to_data(marks), data))


def opened(data: bytes) -> tuple[bytes, Marks]:
    """The bytes of a value, and its labels, out of what is kept."""
    if not data.startswith(_LABELLED):
        return data, NO_MARKS
    labels, value = msgpack.unpackb(memoryview(data)[1:])
    return value, marks_of(labels)


def typed(data: bytes, type_: Any, where: str) -> Any:
    """The value as `type_`. Raises Failed when what was kept is of another shape."""
    try:
        return _adapter(type_).validate_python(unpacked(data))
    except ValidationError as error:
        name = getattr(type_, "__name__", type_)
        raise Failed(f"what is kept at {where} is no {name}: {invalid(error).detail}") from None


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value, by_alias=True)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidInput(f"{error}. Keep plain data, pydantic models or dataclasses") from None


@cache
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)
