"""Whether one contract can take the place of another for tasks that were planned under that one.

Such a task sends inputs that fit the old input schema, reads outputs by the old output schema, and undoes what it did
as the old contract said. So the new contract must take every input that the old one took, give every field that the old
one gave and of its type, change no more, and be undone and confirmed in the same way. What cannot be told from the
schemas counts as a change.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from ..contracts import Contract, JsonObject
from ..contracts.schema import canonical, pointer
from .checker import resolve_schema

_WORDS = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "$defs", "readOnly"})
"""What says nothing about which values fit."""
_STRUCTURE = frozenset(
    {"$ref", "type", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "enum", "const"}
)
_LEAST = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_MOST = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})


def objections(old: Contract, new: Contract) -> list[str]:
    """Why `new` cannot take the place of `old`, each in words. Empty when it can."""
    found = [*_promises(old, new)]
    found += [f"input{text}" for text in _Comparison(old.input_schema, new.input_schema).objections()]
    given = _Comparison(new.output_schema, old.output_schema, complete=True)
    return found + [f"output{text}" for text in given.objections()]


def _promises(old: Contract, new: Contract) -> Iterator[str]:
    if old.name != new.name:
        yield f"it is {new.name}, and was {old.name}"
    if old.effect is not new.effect:
        yield f"its effect is {new.effect}, and was {old.effect}"
    for role in ("compensation", "confirmation"):
        before, now = getattr(old, role), getattr(new, role)
        if before != now:
            yield f"its {role} is {_named(now)}, and was {_named(before)}"


def _named(other: Any) -> str:
    return f"{other.capability} with {canonical(dict(other.input)).decode()}" if other else "none"


class _Comparison:
    """Looks for values that fit one schema, and not the other one."""

    def __init__(self, given: JsonObject, taken: JsonObject, *, complete: bool = False) -> None:
        """`complete`: each field that `taken` knows must be known to `given`, because somebody may read it."""
        self._given, self._taken, self._complete = given, taken, complete
        self._seen: set[tuple[bytes, bytes]] = set()

    def objections(self) -> Iterator[str]:
        yield from self._within(self._given, self._taken, "")

    def _within(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        """Why not everything that fits `given` fits `taken`, at a pointer."""
        given, taken = resolve_schema(given, self._given), resolve_schema(taken, self._taken)
        pair = canonical(given), canonical(taken)
        if pair in self._seen:
            return  # equal, or a schema that refers to itself
        self._seen.add(pair)
        options, accepted = _options(given), _options(taken)
        if options == [given] and accepted == [taken]:
            yield from self._one(given, taken, at)
            return
        for option in options:
            tried = [[*self._within(option, each, at)] for each in accepted]
            if all(tried):
                yield min(tried, key=len)[0]

    def _one(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        types, accepted = _types(given), _types(taken)
        if accepted and not (types and types <= accepted | ({"integer"} if "number" in accepted else set())):
            yield f"{at or '/'}: {_listed(types)} is not always {_listed(accepted)}"
            return
        yield from self._values(given, taken, at)
        yield from self._fields(given, taken, at)
        yield from self._items(given, taken, at)
        yield from self._bounds(given, taken, at)

    def _values(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        allowed, possible = _enumerated(taken), _enumerated(given)
        if allowed is None:
            return
        if possible is None:
            yield f"{at or '/'}: only some values are left"
        elif gone := [value for value in possible if value not in allowed]:
            yield f"{at or '/'}: {gone[0]!r:.80} is not among the values any more"

    def _fields(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        ours, theirs = given.get("properties", {}), taken.get("properties", {})
        for name in sorted({*taken.get("required", ())} - {*given.get("required", ())}):
            yield f"{at}{pointer(name)}: is required, and may be missing"
        for name, schema in ours.items():
            if name in theirs:
                yield from self._within(schema, theirs[name], at + pointer(name))
            elif taken.get("additionalProperties") is False:
                yield f"{at}{pointer(name)}: is not known any more"
        if self._complete:
            yield from (f"{at}{pointer(name)}: is not given any more" for name in theirs if name not in ours)
        yield from self._others(given, taken, at)

    def _others(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        """Fields that a schema names only by what they all are."""
        ours, theirs = given.get("additionalProperties"), taken.get("additionalProperties")
        if isinstance(theirs, dict):
            schema = cast("JsonObject", ours if isinstance(ours, dict) else {})
            yield from self._within(schema, cast("JsonObject", theirs), f"{at}/*")

    def _items(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        if "items" in taken:
            yield from self._within(given.get("items", {}), taken["items"], f"{at}/*")

    def _bounds(self, given: JsonObject, taken: JsonObject, at: str) -> Iterator[str]:
        for name in sorted(taken.keys() - _WORDS - _STRUCTURE):
            ours, theirs = given.get(name), taken[name]
            looser = ours is not None and (
                (name in _LEAST and ours >= theirs) or (name in _MOST and ours <= theirs) or ours == theirs
            )
            if not looser:
                yield f"{at or '/'}: {name} {theirs!r:.80} was {'not asked for' if ours is None else repr(ours)[:80]}"


def _options(schema: JsonObject) -> list[JsonObject]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _types(schema: Mapping[str, Any]) -> set[str]:
    kind = schema.get("type")
    return {kind} if isinstance(kind, str) else set(kind or ())


def _enumerated(schema: Mapping[str, Any]) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _listed(types: set[str]) -> str:
    return " or ".join(sorted(types)) or "anything"
