"""A plan: a DAG as data. A step calls one capability; its inputs bind literals, task input and earlier outputs.

    {"steps": [{"id": "s1", "call": "orders.get", "input": {"order_id": "#W1"}},
               {"id": "s2", "call": "payments.refund", "input": {"amount": {"$from": "s1.total"}}}],
     "output": {"$from": "s2"}}

A template is JSON in which an object with the single key `$from` stands for a value: `step.field.0.field`,
`input.field`, and inside `for_each` also `item.field` and `index`. `{"$first": [a, b]}` takes the first that exists
and is not null. A step that was skipped or refused has no output; a step that refers to it is skipped too, while
`after` only orders.

`Plan.parse` proves what can be proved from the plan alone: shape, names, references, no cycles, bounds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from .errors import InvalidPlan
from .ids import CapabilityName, Digest, StepId
from .schema import JsonObject, digest, pointer

MAX_STEPS = 10_000
MAX_DEPTH = 64
MAX_FAN_OUT = 10_000
RESERVED = frozenset({"input", "item", "index", "output"})

_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_CALL = re.compile(r"([a-z][a-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*)(?:@(\d+(?:\.\d+)?))?\Z")
_STEP_KEYS = {"id", "call", "input", "after", "when", "for_each", "optional"}
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


@dataclass(frozen=True, slots=True)
class Step:
    """One call of one capability."""

    id: StepId
    call: CapabilityName
    version: str | None = None
    """Wanted contract version, `1` or `1.2`; None takes any."""
    input: Any = None
    after: tuple[StepId, ...] = ()
    when: Any = None
    for_each: Any = None
    optional: bool = False
    """A policy or permanent failure of this step leaves it without output and does not abort the plan."""

    def to_data(self) -> JsonObject:
        data: JsonObject = {"id": self.id, "call": self.full_call, "input": self.input}
        extra = {"after": list(self.after), "when": self.when, "for_each": self.for_each, "optional": self.optional}
        return data | {name: value for name, value in extra.items() if value}

    @property
    def full_call(self) -> str:
        return f"{self.call}@{self.version}" if self.version else self.call


@dataclass(frozen=True)
class Plan:
    """Steps and what the task answers with. Parsed plans are acyclic and every reference has a target."""

    steps: tuple[Step, ...]
    output: Any = None

    @staticmethod
    def parse(data: Any) -> "Plan":
        """Raises InvalidPlan with a JSON pointer to the first problem and what to write instead."""
        body = _object(data, "", {"steps", "output"})
        steps = _list(body.get("steps"), "/steps")
        if not 1 <= len(steps) <= MAX_STEPS:
            raise _wrong("/steps", f"a plan has between 1 and {MAX_STEPS} steps, this one has {len(steps)}")
        plan = Plan(tuple(_step(each, pointer("steps", i)) for i, each in enumerate(steps)), body.get("output"))
        _check(plan)
        return plan

    @staticmethod
    def of_call(call: str, input: Any) -> "Plan":
        """The plan of a task that is one call; the step is named `call`."""
        return Plan.parse({"steps": [{"id": "call", "call": call, "input": input}], "output": {"$from": "call"}})

    def to_data(self) -> JsonObject:
        return {"steps": [step.to_data() for step in self.steps], "output": self.output}

    @cached_property
    def digest(self) -> Digest:
        return digest(self.to_data())

    @cached_property
    def by_id(self) -> dict[StepId, Step]:
        return {step.id: step for step in self.steps}

    @cached_property
    def dependencies(self) -> dict[StepId, frozenset[StepId]]:
        """What each step waits for: the targets of its references, and `after`."""
        return {step.id: frozenset(step.after) | _referred(step) for step in self.steps}


def references(template: Any) -> Iterator[str]:
    """Every `$from` text in a template."""
    if isinstance(template, Mapping):
        node = cast("Mapping[str, Any]", template)
        if is_binding(node):
            yield str(node["$from"])
        else:
            for value in node.values():
                yield from references(value)
    elif isinstance(template, (list, tuple)):
        for value in cast("Sequence[Any]", template):
            yield from references(value)


def is_binding(node: Any) -> bool:
    return isinstance(node, Mapping) and len(cast("Mapping[str, Any]", node)) == 1 and "$from" in node


def has_bindings(template: Any) -> bool:
    """Whether a template is anything but a literal."""
    if isinstance(template, Mapping):
        node = cast("Mapping[str, Any]", template)
        return is_binding(node) or "$first" in node or any(has_bindings(value) for value in node.values())
    return isinstance(template, (list, tuple)) and any(has_bindings(each) for each in cast("Sequence[Any]", template))


def resolve(template: Any, scope: Scope) -> Any:
    """The value of a template. Raises MissingOutput when something it refers to does not exist."""
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        if len(node) == 1:
            if "$from" in node:
                return look_up(node["$from"], scope)
            if "$first" in node:
                return _first(node["$first"], scope)
        return {name: resolve(value, scope) for name, value in node.items()}
    if isinstance(template, list):
        return [resolve(value, scope) for value in cast("list[Any]", template)]
    return template


def resolve_or_null(template: Any, scope: Scope) -> Any:
    """As `resolve`, with null for what does not exist: the way a plan's own output is made."""
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        if len(node) == 1 and ("$from" in node or "$first" in node):
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
    except TypeError:
        return False


def _first(options: Sequence[Any], scope: Scope) -> Any:
    for option in options:
        if (value := _or_null(option, scope)) is not None:
            return value
    raise MissingOutput("$first")


def _or_null(template: Any, scope: Scope) -> Any:
    try:
        return resolve(template, scope)
    except MissingOutput:
        return None


def _member(value: Any, part: str) -> Any:
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(part, ABSENT)
    if isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(cast("Sequence[Any]", value)):
        return cast("Any", value[int(part)])
    return ABSENT


def _referred(step: Step) -> frozenset[StepId]:
    templates = (step.input, step.when, step.for_each)
    roots = {text.partition(".")[0] for template in templates for text in references(template)}
    return frozenset(StepId(root) for root in (roots | set(_ok_steps(step.when))) - RESERVED)


def _ok_steps(condition: Any) -> Iterator[str]:
    if isinstance(condition, Mapping):
        for name, operand in cast("Mapping[str, Any]", condition).items():
            yield from [str(operand)] if name == "$ok" else _ok_steps(operand)
    elif isinstance(condition, (list, tuple)):
        for each in cast("Sequence[Any]", condition):
            yield from _ok_steps(each)


# What follows reads and proves a plan that came from outside.


def _step(data: Any, at: str) -> Step:
    body = _object(data, at, _STEP_KEYS)
    name, version = _call(body.get("call"), at + "/call")
    for part in ("input", "when", "for_each"):
        _check_template(body.get(part), f"{at}/{part}")
    _check_condition(body.get("when"), f"{at}/when")
    return Step(
        id=_step_id(body.get("id"), at + "/id"),
        call=name,
        version=version,
        input=body.get("input", {}),
        after=tuple(
            _step_id(each, pointer_at) for pointer_at, each in _enumerate(body.get("after", []), at + "/after")
        ),
        when=body.get("when"),
        for_each=body.get("for_each"),
        optional=_boolean(body.get("optional", False), at + "/optional"),
    )


def _call(text: Any, at: str) -> tuple[CapabilityName, str | None]:
    match = _CALL.match(text) if isinstance(text, str) else None
    if match is None:
        raise _wrong(at, f"{text!r:.80} is not a capability. Write domain.method or domain.method@1.2")
    return CapabilityName(match[1]), match[2]


def _step_id(text: Any, at: str) -> StepId:
    if not isinstance(text, str) or not _STEP_ID.match(text):
        raise _wrong(at, f"{text!r:.80} is not a step id. Write letters, digits, _ and -, at most 64, no digit first")
    if text in RESERVED:
        raise _wrong(at, f"{text!r} is reserved for references. Take another id")
    return StepId(text)


def _boolean(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, "must be true or false")
    return value


def _object(data: Any, at: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _wrong(at, f"must be an object, not {type(data).__name__}")
    body = cast("dict[str, Any]", data)
    if unknown := [key for key in body if key not in keys]:
        raise _wrong(at, f"unknown key {unknown[0]!r:.80}. Known: {', '.join(sorted(keys))}")
    return body


def _list(data: Any, at: str) -> list[Any]:
    if not isinstance(data, list):
        raise _wrong(at, f"must be a list, not {type(data).__name__}")
    return cast("list[Any]", data)


def _enumerate(data: Any, at: str) -> Iterator[tuple[str, Any]]:
    return ((f"{at}/{i}", each) for i, each in enumerate(_list(data, at)))


def _check_template(template: Any, at: str, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _wrong(at, f"is nested deeper than {MAX_DEPTH}")
    if isinstance(template, dict):
        node = cast("dict[str, Any]", template)
        _check_binding(node, at)
        for key, value in node.items():
            _check_template(value, at + pointer(key), depth + 1)
    elif isinstance(template, list):
        for i, value in enumerate(cast("list[Any]", template)):
            _check_template(value, f"{at}/{i}", depth + 1)


def _check_binding(node: dict[str, Any], at: str) -> None:
    for key, kind in (("$from", str), ("$first", list)):
        if key in node and (len(node) != 1 or not isinstance(node[key], kind) or not node[key]):
            raise _wrong(at, f"{key} stands alone and takes a {'reference' if kind is str else 'list'}")


def _check_condition(condition: Any, at: str) -> None:
    if isinstance(condition, dict) and len(node := cast("dict[str, Any]", condition)) == 1:
        name, operand = next(iter(node.items()))
        if name in _COMPARISONS and not (isinstance(operand, list) and len(cast("list[Any]", operand)) == 2):
            raise _wrong(at, f"{name} takes a list of two")
        if name in ("$and", "$or"):
            for where, each in _enumerate(operand, f"{at}/{name}"):
                _check_condition(each, where)
        elif name == "$not":
            _check_condition(operand, f"{at}/{name}")
        elif name == "$ok":
            _step_id(operand, f"{at}/{name}")
        elif name.startswith("$") and name not in {*_COMPARISONS, "$from", "$first"}:
            raise _wrong(at, f"unknown condition {name!r}. Known: {', '.join([*_COMPARISONS, *_LOGIC])}")


def _check(plan: Plan) -> None:
    _check_template(plan.output, "/output")
    if len(plan.by_id) != len(plan.steps):
        raise _wrong("/steps", f"two steps are called {_twice([step.id for step in plan.steps])!r}")
    for i, step in enumerate(plan.steps):
        _check_references(plan, step, pointer("steps", i))
    for text in references(plan.output):
        _check_target(plan, text, "/output", inside_each=False)
    _check_acyclic(plan)


def _check_references(plan: Plan, step: Step, at: str) -> None:
    for target in plan.dependencies[step.id]:
        if target not in plan.by_id:
            raise _wrong(at, f"refers to {target!r}, which is no step of this plan")
    each = step.for_each is not None
    for part, inside in (("input", each), ("when", each), ("for_each", False)):
        for text in references(getattr(step, part)):
            _check_target(plan, text, f"{at}/{part}", inside_each=inside)


def _check_target(plan: Plan, text: str, at: str, *, inside_each: bool) -> None:
    root = text.partition(".")[0]
    if root in ("item", "index"):
        if not inside_each:
            raise _wrong(at, f"{text!r} means something only inside for_each")
    elif root != "input" and root not in plan.by_id:
        raise _wrong(at, f"{text!r} refers to {root!r}, which is neither a step nor 'input'")


def _check_acyclic(plan: Plan) -> None:
    """Kahn's algorithm; what is left over is a cycle, which the message spells out."""
    waiting = {step: set(needs) for step, needs in plan.dependencies.items()}
    dependents: dict[StepId, list[StepId]] = {step: [] for step in waiting}
    for step, needs in waiting.items():
        for need in needs:
            dependents[need].append(step)
    free = [step for step, needs in waiting.items() if not needs]
    for step in free:
        del waiting[step]
        for dependent in dependents[step]:
            waiting[dependent].discard(step)
            if not waiting[dependent]:
                free.append(dependent)
    if waiting:
        raise _wrong("/steps", f"the steps wait for each other in a circle: {' -> '.join(_cycle(waiting))}")


def _cycle(waiting: Mapping[StepId, set[StepId]]) -> list[StepId]:
    path = [next(iter(waiting))]
    while (step := min(need for need in waiting[path[-1]] if need in waiting)) not in path:
        path.append(step)
    return [*path[path.index(step) :], step]


def _twice(names: Sequence[StepId]) -> StepId:
    seen: set[StepId] = set()
    return next(name for name in names if name in seen or seen.add(name))


def _wrong(at: str, detail: str) -> InvalidPlan:
    return InvalidPlan(f"{at or '/'}: {detail}", pointer=at)
