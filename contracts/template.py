"""A template: JSON with places where values come in. A condition is made of them, and says whether a step runs.

An object with the single key `$from` stands for a value: `step.field.0.field`, `input.field`, and inside `for_each`
also `item.field` and `index`. `{"$first": [a, b]}` takes the first that exists and is not null; a written null at its
end is taken. `{"$literal": value}` is the value as it stands, for data that has such keys itself.

A condition is true, false, a reference, or one of the operators below over conditions or templates.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from .errors import InvalidPlan
from .ids import StepId
from .plain import pointer

MAX_DEPTH = 64
MAX_FAN_OUT = 10_000
RESERVED = frozenset({"input", "item", "index", "output"})
_MARKS = frozenset({"$from", "$first", "$literal"})
_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_INDEX = re.compile(r"[0-9]{1,9}\Z")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda a, b: a == b,
    "$ne": lambda a, b: a != b,
    "$gt": lambda a, b: a > b,
    "$ge": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$le": lambda a, b: a <= b,
    "$in": lambda a, b: a in b,
}


class MissingOutput(Exception):
    """A template refers to an output that does not exist. Never leaves `execution`."""


class Absent:
    """The value of an output that does not exist, where null is a value."""

    __slots__ = ()


ABSENT = Absent()
Scope = Callable[[str], Any]
"""Gives the value of a root (`input`, `item`, a step's id), or ABSENT."""


def references(template: Any) -> Iterator[str]:
    """Every `$from` text in a template, in order."""
    left = [template]
    while left:
        node = left.pop()
        if is_binding(node):
            yield str(node["$from"])
        elif not is_literal(node):
            left.extend(reversed(_inside(node)))


def has_bindings(template: Any) -> bool:
    """Whether a template is anything but plain data: resolving it may give something else."""
    left = [template]
    while left:
        node = left.pop()
        if isinstance(node, Mapping) and not _MARKS.isdisjoint(cast("Mapping[str, Any]", node)):
            return True
        left.extend(_inside(node))
    return False


def literal(value: Any) -> Any:
    """The template that stands for just this value."""
    return {"$literal": value} if has_bindings(value) else value


def is_binding(node: Any) -> bool:
    return _is_marked(node) and "$from" in node


def is_literal(node: Any) -> bool:
    return _is_marked(node) and "$literal" in node


def _is_marked(node: Any) -> bool:
    """Whether an object stands for something else."""
    return isinstance(node, dict) and len(keys := list(cast("dict[str, Any]", node))) == 1 and keys[0] in _MARKS


def _inside(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(cast("dict[str, Any]", node).values())
    return cast("list[Any]", node) if isinstance(node, list) else ()


def resolve(template: Any, scope: Scope) -> Any:
    """The value of a template. Raises MissingOutput when something it refers to does not exist."""
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        if len(node) == 1:
            if "$from" in node:
                return look_up(node["$from"], scope)
            if "$first" in node:
                return _first(node["$first"], scope)
            if "$literal" in node:
                return node["$literal"]
        return {name: resolve(value, scope) for name, value in node.items()}
    if isinstance(template, list):
        return [resolve(value, scope) for value in cast("list[Any]", template)]
    return template


def resolve_or_null(template: Any, scope: Scope) -> Any:
    """As `resolve`, with null for what does not exist: the way a plan's own output is made."""
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        if len(node) == 1 and not _MARKS.isdisjoint(node):
            return _or_null(node, scope)
        return {name: resolve_or_null(value, scope) for name, value in node.items()}
    if isinstance(template, list):
        return [resolve_or_null(value, scope) for value in cast("list[Any]", template)]
    return template


def look_up(reference: str, scope: Scope) -> Any:
    """The value at `root.field.0.field`. Raises MissingOutput when the root or a part of the path is not there."""
    root, *path = reference.split(".")
    value = scope(root)
    for part in path:
        value = _member(value, part)
    if value is ABSENT:
        raise MissingOutput(reference)
    return value


def holds(condition: Any, scope: Scope) -> bool:
    """Whether a `when` is true. What does not exist is null; comparing things that have no order is false."""
    if isinstance(condition, dict) and len(node := cast("dict[str, Any]", condition)) == 1:
        name, operand = next(iter(node.items()))
        if name in _COMPARISONS:
            left, right = (resolve_or_null(each, scope) for each in operand)
            return _compare(_COMPARISONS[name], left, right)
        if name in _LOGIC:
            return _LOGIC[name](operand, scope)
    return bool(resolve_or_null(condition, scope))


_LOGIC: dict[str, Callable[[Any, Scope], bool]] = {
    "$not": lambda operand, scope: not holds(operand, scope),
    "$and": lambda operand, scope: all(holds(each, scope) for each in operand),
    "$or": lambda operand, scope: any(holds(each, scope) for each in operand),
    "$ok": lambda operand, scope: scope(operand) is not ABSENT,
}


def _compare(comparison: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    try:
        return comparison(left, right)
    except (TypeError, RecursionError):
        return False


def _first(options: Sequence[Any], scope: Scope) -> Any:
    for option in options:
        if (value := _or_null(option, scope)) is not None or option is None:
            return value
    raise MissingOutput("$first")


def _or_null(template: Any, scope: Scope) -> Any:
    try:
        return resolve(template, scope)
    except MissingOutput:
        return None


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).get(part, ABSENT)
    if isinstance(value, list) and _INDEX.match(part) and int(part) < len(cast("list[Any]", value)):
        return cast("Any", value[int(part)])
    return ABSENT


def ok_steps(condition: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """The targets of `$ok` in a condition, with the pointers to them."""
    node = cast("dict[str, Any]", condition if isinstance(condition, dict) else {})
    for name, operand in node.items():
        here = at + pointer(name)
        if name == "$ok":
            yield here, str(operand)
        elif name == "$not":
            yield from ok_steps(operand, here)
        elif name in ("$and", "$or"):
            for i, each in enumerate(cast("list[Any]", operand)):
                yield from ok_steps(each, f"{here}/{i}")


def located(template: Any, at: str) -> Iterator[tuple[str, str]]:
    """References with the pointers to them, of a template whose depth was checked."""
    if is_binding(template):
        yield at, template["$from"]
    elif isinstance(template, dict) and not is_literal(template):
        for key, value in cast("dict[str, Any]", template).items():
            yield from located(value, at + pointer(key))
    elif isinstance(template, list):
        for i, value in enumerate(cast("list[Any]", template)):
            yield from located(value, f"{at}/{i}")


def check_template(template: Any, at: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise wrong(at, f"is nested deeper than {MAX_DEPTH}")
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        _check_marks(node, at)
        for key, value in node.items() if not is_literal(node) else ():
            check_template(value, at + pointer(key), depth + 1)
    elif isinstance(template, list):
        for i, value in enumerate(cast("list[Any]", template)):
            check_template(value, f"{at}/{i}", depth + 1)
    elif isinstance(template, tuple):
        raise wrong(at, "is a tuple, in which references are not looked for. Write a list")


def _check_marks(node: dict[str, Any], at: str) -> None:
    if len(node) != 1 and (marks := sorted(_MARKS & node.keys())):
        raise wrong(at, f"{marks[0]} stands alone in its object. Data that has such a key goes into $literal")
    if "$from" in node and not (isinstance(node["$from"], str) and all(node["$from"].split("."))):
        raise wrong(at, f"$from takes a reference, such as step.field.0, not {node['$from']!r:.80}")
    if "$first" in node and not (isinstance(node["$first"], list) and node["$first"]):
        raise wrong(at, "$first takes a list with something in it")


def check_fan(fan: Any, at: str) -> None:
    if isinstance(fan, list):
        if len(cast("list[Any]", fan)) > MAX_FAN_OUT:
            raise wrong(at, f"has more than {MAX_FAN_OUT} items")
    elif fan is not None and not _is_marked(fan):
        raise wrong(at, "takes a list, or a reference to one")


def check_condition(condition: Any, at: str) -> None:
    if isinstance(condition, bool):
        return
    if not isinstance(condition, dict) or len(node := cast("dict[str, Any]", condition)) != 1:
        raise wrong(at, f"a condition is true, false, a reference, or one of {_OPERATORS}")
    name, operand = next(iter(node.items()))
    here = at + pointer(name)
    if name in _COMPARISONS:
        _check_operands(name, operand, here)
    elif name in ("$and", "$or"):
        for where, each in enumerated(operand, here):
            check_condition(each, where)
    elif name == "$not":
        check_condition(operand, here)
    elif name == "$ok":
        step_id(operand, here)
    elif name not in ("$from", "$first"):
        raise wrong(at, f"unknown condition {name!r:.80}. Known: {_OPERATORS}")


def _check_operands(name: str, operands: Any, at: str) -> None:
    if not isinstance(operands, list) or len(cast("list[Any]", operands)) != 2:
        raise wrong(at, f"{name} takes a list of two")
    for i, each in enumerate(cast("list[Any]", operands)):
        if isinstance(each, dict) and len(node := cast("dict[str, Any]", each)) == 1 and next(iter(node)) in _KNOWN:
            raise wrong(f"{at}/{i}", f"{name} compares values; conditions are joined with $and, $or and $not")


_KNOWN = frozenset({*_COMPARISONS, *_LOGIC})
_OPERATORS = ", ".join([*_COMPARISONS, *_LOGIC])


def step_id(text: Any, at: str) -> StepId:
    if not isinstance(text, str) or not _STEP_ID.match(text):
        raise wrong(at, f"{text!r:.80} is not a step id. Write letters, digits, _ and -, at most 64, no digit first")
    if text in RESERVED:
        raise wrong(at, f"{text!r} is reserved for references. Take another id")
    return StepId(text)


def list_of(data: Any, at: str) -> list[Any]:
    if not isinstance(data, list):
        raise wrong(at, f"must be a list, not {type(data).__name__}")
    return cast("list[Any]", data)


def enumerated(data: Any, at: str) -> Iterator[tuple[str, Any]]:
    return ((f"{at}/{i}", each) for i, each in enumerate(list_of(data, at)))


def wrong(at: str, detail: str) -> InvalidPlan:
    return InvalidPlan(f"{at or '/'}: {detail}", pointer=at)
