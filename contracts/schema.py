"""Types, JSON Schema, canonical JSON and digests: how a value is described, compared and named.

Canonical JSON is RFC 8785's shape as far as Python's numbers allow: keys sorted by code point, no spaces, UTF-8,
no NaN and no infinity. A digest of it names exactly one value on every machine.
"""

import hashlib
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from .errors import InvalidContract, InvalidInput
from .ids import Digest

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
JsonObject = dict[str, Any]

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Any) -> bytes:
    """Canonical JSON of plain data. Raises InvalidInput for NaN, infinity and anything that is not JSON."""
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from error


def digest(value: Any) -> Digest:
    """SHA-256 over the canonical JSON of `value`."""
    return Digest("sha256:" + hashlib.sha256(canonical(value)).hexdigest())


class Shape:
    """One Python type seen from outside: its JSON Schema, and the way from plain data to a value and back."""

    __slots__ = ("adapter", "schema", "type")

    def __init__(self, type_: Any, where: str) -> None:
        self.type = type_
        self.adapter: TypeAdapter[Any] = _adapter(type_, where)
        self.schema: JsonObject = _schema(self.adapter, where)

    def load(self, data: Any) -> Any:
        """The typed value of plain data. Raises InvalidInput that names the place and what was expected."""
        try:
            return self.adapter.validate_python(data)
        except ValidationError as error:
            raise invalid(error) from None

    def dump(self, value: Any) -> Any:
        """Plain JSON data of a typed value. Raises InvalidInput when it is not of this type."""
        try:
            return self.adapter.dump_python(value, mode="json", warnings="error")
        except Exception as error:
            raise InvalidInput(f"cannot be written as {self.schema.get('title', 'its type')}: {error}") from error


def invalid(error: ValidationError) -> InvalidInput:
    """Our error for pydantic's: the first problem in words, all of them as ids."""
    problems = [
        {"pointer": pointer(*problem["loc"]), "detail": problem["msg"]}
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidInput(
        f"{first['pointer'] or '/'}: {first['detail']}{more}", pointer=first["pointer"], problems=problems[:20]
    )


def pointer(*path: str | int) -> str:
    """RFC 6901 JSON pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _adapter(type_: Any, where: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(type_)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise InvalidContract(
            f"{where}: {type_!r} cannot be sent between agents. Write a pydantic model, a dataclass or plain JSON types."
        ) from error


def _schema(adapter: TypeAdapter[Any], where: str) -> JsonObject:
    try:
        return adapter.json_schema()
    except (PydanticUserError, ValueError) as error:
        raise InvalidContract(
            f"{where}: the type has no JSON Schema ({str(error).splitlines()[0]}). Write only fields that JSON can carry."
        ) from error
