"""The gate for JSON Schemas: which ones may be used at all, and what exactly is wrong with an answer.

A schema may come from anybody who may ask. It decides how much work the engine's grammar and our validator do, and a
validator that follows references would fetch what they name. So a schema is small, shallow, made of known words, and
refers to nothing outside of itself.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NoReturn, cast

import jsonschema_rs

from ..contracts import InvalidInput, JsonObject, canonical
from ..contracts.plain import pointer

MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_PATTERN = 500
MAX_WEIGHT = 100_000
"""Parts of a schema when each of its references is written out: a few that refer twice to the next would take years."""
PROBLEMS = 10
"""Told of one answer. More would not help a model to repair it."""

_NO_OTHER_WORLD = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$anchor", "$id", "$vocabulary")
_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Words below which the keys are names and not words of JSON Schema."""


def check_schema(schema: JsonObject) -> None:
    """Raises InvalidInput, with a pointer into the schema, for one that may not be used."""
    if len(canonical(schema)) > MAX_BYTES:
        raise InvalidInput(f"a schema has at most {MAX_BYTES} bytes", pointer="")
    for at, word, value in _words(schema, "", 0):
        _check_word(at, word, value)
    _compiled(canonical(schema))
    if _Weight(schema).of(schema) > MAX_WEIGHT:
        raise InvalidInput(f"written out, a schema has at most {MAX_WEIGHT} parts", pointer="")


def problems(value: Any, schema: JsonObject) -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong there) for a value that does not fit; empty when it does."""
    found = islice(_compiled(canonical(schema)).iter_errors(value), PROBLEMS)
    return [(pointer(*error.instance_path), _short(error.message)) for error in found]


def _words(schema: Any, at: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """Every word of a schema with its value. Literals (`enum`, `const`, …) hold no words."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"a schema is at most {MAX_DEPTH} deep", pointer=at)
    if isinstance(schema, list):
        for number, each in enumerate(cast("list[Any]", schema)):
            yield from _words(each, at + pointer(number), depth + 1)
    elif isinstance(schema, Mapping):
        for word, value in cast("Mapping[str, Any]", schema).items():
            yield at + pointer(word), word, value
            yield from _below(word, value, at + pointer(word), depth + 1)


def _below(word: str, value: Any, at: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    if word in ("enum", "const", "default", "examples"):
        return
    if word in _OF_SCHEMAS and isinstance(value, Mapping):
        for name, each in cast("Mapping[str, Any]", value).items():
            yield from _words(each, at + pointer(name), depth + 1)
    else:
        yield from _words(value, at, depth)


def _check_word(at: str, word: str, value: Any) -> None:
    if word in _NO_OTHER_WORLD:
        raise InvalidInput(f"{at}: {word} is not supported. Write the schema out, or use $defs", pointer=at)
    if word == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        raise InvalidInput(f"{at}: a schema refers only to itself, as in #/$defs/Line", pointer=at)
    if word == "pattern" and isinstance(value, str) and len(value) > MAX_PATTERN:
        raise InvalidInput(f"{at}: a pattern has at most {MAX_PATTERN} characters", pointer=at)


class _Weight:
    """How many parts a schema has when its references are written out, each circle once."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._known: dict[str, int] = {}

    def of(self, part: Any) -> int:
        if isinstance(part, list):
            return 1 + sum(map(self.of, cast("list[Any]", part)))
        if not isinstance(part, Mapping):
            return 1
        words = cast("Mapping[str, Any]", part)
        return 1 + sum(self._referred(each) if word == "$ref" else self.of(each) for word, each in words.items())

    def _referred(self, reference: Any) -> int:
        if not isinstance(reference, str):
            return self.of(reference)
        if reference not in self._known:
            self._known[reference] = 1
            self._known[reference] = min(self.of(_target(self._root, reference)), MAX_WEIGHT + 1)
        return self._known[reference]


def _target(root: Any, reference: str) -> Any:
    """What a local reference names; None for nothing, which is refused elsewhere."""
    found = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(name)]
        else:
            found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    return found


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    """Patterns run on the engine that needs time linear in the text, and nothing is ever fetched."""
    try:
        return jsonschema_rs.Draft202012Validator(
            schema.decode(), pattern_options=jsonschema_rs.RegexOptions(), retriever=_fetches_nothing
        )
    except ValueError as error:
        raise InvalidInput(f"this is no JSON Schema: {_short(str(error))}", pointer="") from None


def _fetches_nothing(uri: str) -> NoReturn:
    raise ValueError(f"a schema refers only to itself, not to {uri}")


def _short(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= 300 else first[:299] + "…"
