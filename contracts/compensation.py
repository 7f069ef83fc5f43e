"""How the input of a compensation is had from the input and the output of the step that it undoes.

A compensation runs when something went wrong already, so what could be missing then is refused now, on the author's
screen. Fields are taken by name from the step's input, then from its output, unless the author wrote where from. What
the coordinator knows of an input is what the caller wrote: a default that the agent's model fills in is not there, so
it becomes part of the template.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

from .errors import InvalidContract
from .schema import JsonObject
from .template import is_binding, literal, references


class Promise(Protocol):
    """The part of a `Contract` that is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def input_schema(self) -> JsonObject: ...
    @property
    def output_schema(self) -> JsonObject: ...


def bind(step: Promise, undo: Promise, written: Mapping[str, Any], role: str = "compensation") -> JsonObject:
    """The template of the compensation's input, over `input` and `output`; or of the confirmation's, as `role` says.

    `written` is what the author gave as `compensation_input`. Raises InvalidContract, saying what to write.
    """
    return _Binding(step, undo, role).template(written)


class _Binding:
    def __init__(self, step: Promise, undo: Promise, role: str) -> None:
        self._role = role
        self._names = step.name, undo.name
        self._input, self._output = _fields(step.input_schema), _fields(step.output_schema)
        self._given = _required(step.input_schema)
        self._wanted, self._needed = _fields(undo.input_schema), _required(undo.input_schema)
        self._open = _is_open(undo.input_schema)
        self._takes = _root(undo.input_schema).get("type", "object")

    def template(self, written: Mapping[str, Any]) -> JsonObject:
        self._check_written(written)
        template = {name: self._completed(value) for name, value in written.items()}
        for name in self._wanted:
            if name not in template and (source := self._source(name)) is not None:
                template[name] = source
        self._check_bound(template)
        return template

    def _check_written(self, written: Mapping[str, Any]) -> None:
        step, undo = self._names
        if self._takes != "object":
            raise InvalidContract(f"{step}: its {self._role} {undo} takes {self._takes}. Write a model with fields")
        for name in written:
            if name not in self._wanted and not self._open:
                raise InvalidContract(f"{step}: {self._role}_input has {name!r}, {_instead(name, self._wanted, undo)}")
        for text in references(dict(written)):
            self._check_reference(text)

    def _check_reference(self, text: str) -> None:
        root, *path = text.split(".")
        step = self._names[0]
        if root not in ("input", "output"):
            raise InvalidContract(f"{step}: {self._role}_input refers to {text!r}. Write input.field or output.field")
        fields = self._input if root == "input" else self._output
        if path and fields and path[0] not in fields:
            raise InvalidContract(
                f"{step}: {self._role}_input refers to {text!r}, {_instead(path[0], fields, f'the {root}')}"
            )

    def _completed(self, value: Any) -> Any:
        """`{"$from": "input.x"}` as the author wrote it, with the default where the caller may leave x out."""
        root, _, name = value["$from"].partition(".") if is_binding(value) else ("", "", "")
        return self._from_input(name) if root == "input" and name in self._input else value

    def _source(self, name: str) -> Any:
        wanted = self._wanted[name]
        if "." in name:
            return None  # cannot be referred to
        if _same_type(self._input.get(name), wanted):
            return self._from_input(name)
        return {"$from": f"output.{name}"} if _same_type(self._output.get(name), wanted) else None

    def _from_input(self, name: str) -> Any:
        from_input = {"$from": f"input.{name}"}
        if name in self._given:
            return from_input
        if _same_type(self._output.get(name), self._input[name]):
            return {"$first": [from_input, {"$from": f"output.{name}"}, None]}
        if "default" in self._input[name]:
            return {"$first": [from_input, literal(self._input[name]["default"])]}
        raise InvalidContract(
            f"{self._names[0]}: its {self._role} {self._names[1]} takes {name!r}, which the caller may leave out of "
            f"the step's input. Make it required, give it a plain default, or add it to the output"
        )

    def _check_bound(self, template: JsonObject) -> None:
        missing = [name for name in self._needed if name not in template]
        if missing:
            raise InvalidContract(
                f"{self._names[0]}: its {self._role} {self._names[1]} needs {missing[0]!r}, which is neither in the "
                f"step's input nor in its output. Add it to the output, or write "
                f'{self._role}_input={{"{missing[0]}": {{"$from": "output.…"}}}}'
            )


def _instead(name: str, known: Iterable[str], whose: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"which {whose} does not have. " + (f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}")


def _root(schema: JsonObject) -> JsonObject:
    """The schema itself: that of a recursive model is only a reference into its `$defs`."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return cast("JsonObject", schema.get("$defs", {}).get(name, schema))


def _fields(schema: JsonObject) -> dict[str, JsonObject]:
    return _root(schema).get("properties", {})


def _required(schema: JsonObject) -> list[str]:
    return _root(schema).get("required", [])


def _is_open(schema: JsonObject) -> bool:
    root = _root(schema)
    return bool(root.get("additionalProperties", "properties" not in root))


def _same_type(there: JsonObject | None, wanted: JsonObject) -> bool:
    """Whether a field can stand for the wanted one, as far as both say."""
    if there is None:
        return False
    kinds = there.get("type"), wanted.get("type")
    return None in kinds or kinds[0] == kinds[1] or kinds == ("integer", "number")
