"""Values as an agent keeps them: JSON's types in msgpack, with the way from pydantic models and dataclasses and back.

What is put is copied by being packed, and what is got is a fresh copy, so a handler that changes a list it was given
changes nothing of anybody else's.
"""

from functools import cache
from typing import Any

import msgpack
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from ..contracts import Failed, InvalidInput
from ..contracts.schema import invalid


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, by_alias=True)


# Strict, so that a subclass such as a StrEnum or a NamedTuple is written as what JSON would make of it.
_pack = msgpack.Packer(use_bin_type=True, strict_types=True, default=_plain).pack
_CONTAINERS = (dict, list)


def packed(value: Any) -> bytes:
    """The bytes of a value. Raises InvalidInput for what JSON cannot carry: a key that is no string, a large integer."""
    try:
        data = _pack(value)
        if type(value) in _CONTAINERS:
            msgpack.unpackb(data)  # refuses keys that are no strings
        return data  # pyright: ignore[reportReturnType]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            f"this value cannot be kept: {error}. Keep JSON types, pydantic models or dataclasses."
        ) from error


unpacked = msgpack.unpackb


def typed(data: bytes, type_: Any, where: str) -> Any:
    """The value as `type_`. Raises Failed when what was kept is of another shape."""
    try:
        return _adapter(type_).validate_python(unpacked(data))
    except ValidationError as error:
        raise Failed(
            f"what is kept at {where} is no {getattr(type_, '__name__', type_)}: {invalid(error).detail}"
        ) from None


@cache
def _adapter(type_: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_)
