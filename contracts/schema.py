"""Types, JSON Schema, canonical JSON and digests: how a value is described, compared and named.

Canonical JSON is RFC 8785's shape as far as Python's numbers allow: keys sorted by code point, no spaces, UTF-8, and
plain data only (see `plain`). A digest of it names exactly one value on every machine.
"""

import hashlib
import re
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from .errors import InvalidContract, InvalidInput
from .ids import Digest
from .plain import check, pack, pointer, unpack

Model = TypeVar("Model", bound=BaseModel)

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
JsonObject = dict[str, Any]


def canonical(value: Any) -> bytes:
    """Canonical JSON of plain data. Raises InvalidInput, with a pointer, for anything else."""
    if (text := check(value)) is not None:
        return text
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # it takes no subclasses of text as keys, nor named tuples; there and back they are plain
        return orjson.dumps(unpack(pack(value)), option=orjson.OPT_SORT_KEYS)


def digest(value: Any) -> Digest:
    """SHA-256 over the canonical JSON of `value`."""
    return Digest("sha256:" + hashlib.sha256(canonical(value)).hexdigest())


class Shape:
    """One Python type seen from outside: its JSON Schema, and the way from plain data to a value and back.

    `mode` says whose schema it is: of what `load` takes (`validation`) or of what `dump` gives (`serialization`, which
    has computed fields, and a Decimal as the text that it becomes).
    """

    __slots__ = ("_takes_none", "adapter", "schema", "type")

    def __init__(self, type_: Any, where: str, mode: Literal["validation", "serialization"] = "validation") -> None:
        self.type = type_
        self.adapter: TypeAdapter[Any] = _adapter(type_, where)
        self.schema: JsonObject = _schema(self.adapter, where, mode)
        self._takes_none = _takes_none(self.adapter)

    def load(self, data: Any) -> Any:
        """The typed value of plain data. Raises InvalidInput that names the place and what was expected."""
        try:
            return self.adapter.validate_python(data)
        except ValidationError as error:
            raise invalid(error) from None

    def dump(self, value: Any) -> Any:
        """Plain data of a typed value. Raises InvalidInput when it is not of this type or holds what JSON cannot."""
        if value is None and not self._takes_none:  # which pydantic lets pass, and a forgotten `return` gives
            raise InvalidInput(f"cannot be written as {self.schema.get('title', 'its type')}: it is None")
        try:
            data = self.adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        except Exception as error:  # a serializer is the author's code and may raise anything
            title = self.schema.get("title", "its type")
            raise InvalidInput(f"cannot be written as {title}: {_without_value(error)}") from None
        check(data)
        return data


def fitted(model: type[Model], data: Any) -> Model:
    """The data as an instance. Raises InvalidInput with a pointer to the first thing that does not fit."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None


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


def _takes_none(adapter: TypeAdapter[Any]) -> bool:
    try:
        adapter.validate_python(None)
    except Exception:  # a validator is the author's code and may raise anything
        return False
    return True


def _without_value(error: Exception) -> str:
    """What pydantic says, less the value it says it about: that may be a secret, and errors are written down."""
    text = re.sub(r"input_value=.*, input_type", "input_type", str(error)[:1000])
    return " ".join(text.removeprefix("Pydantic serializer warnings:").split())


def _adapter(type_: Any, where: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(type_)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise InvalidContract(
            f"{where}: {type_!r} cannot be sent between agents. "
            "Write a pydantic model, a dataclass or plain JSON types."
        ) from error


def _schema(adapter: TypeAdapter[Any], where: str, mode: Literal["validation", "serialization"]) -> JsonObject:
    try:
        return adapter.json_schema(mode=mode)
    except PydanticUserError as error:
        if error.code == "class-not-fully-defined":
            raise InvalidContract(
                f"{where}: the type refers to a name that cannot be found. "
                "Define or import it at the top of the module, above the agent."
            ) from error
        raise InvalidContract(
            f"{where}: the type has no JSON Schema ({str(error).splitlines()[0]}). "
            "Write only fields that JSON can carry."
        ) from error
