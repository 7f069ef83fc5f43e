"""A plan: a DAG as data. A step calls one capability; its inputs bind literals, task input and earlier outputs.

    {"steps": [{"id": "s1", "call": "orders.get", "input": {"order_id": "#W1"}},
               {"id": "s2", "call": "payments.refund", "input": {"amount": {"$from": "s1.total"}}}],
     "output": {"$from": "s2"}}

A template is JSON in which an object with the single key `$from` stands for a value: `step.field.0.field`,
`input.field`, and inside `for_each` also `item.field` and `index`. `{"$first": [a, b]}` takes the first that exists
and is not null; a written null at its end is taken. `{"$literal": value}` is the value as it stands, for data that has
such keys itself. A step that was skipped or refused has no output; a step that refers to it is skipped too, while
`after` only orders.

A condition (`when`) is true, false, a reference, or one of the operators below over conditions or templates.

`Plan.parse` proves what can be proved from the plan alone: shape, names, references, no cycles, bounds.
"""

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from .errors import InvalidInput, InvalidPlan
from .ids import CapabilityName, Digest, StepId
from .plain import check, pointer
from .schema import JsonObject, digest

MAX_STEPS = 10_000
MAX_DEPTH = 64
MAX_FAN_OUT = 10_000
RESERVED = frozenset({"input", "item", "index", "output"})
_MARKS = frozenset({"$from", "$first", "$literal"})

_STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_CALL = re.compile(r"([a-z][a-z0-9_]{0,63}\.[A-Za-z_][A-Za-z0-9_]{0,63})(?:@([0-9]{1,9}(?:\.[0-9]{1,9})?))?\Z")
_INDEX = re.compile(r"[0-9]{1,9}\Z")
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
        if self.after:
            data["after"] = list(self.after)
        if self.when is not None:  # false is a condition too
            data["when"] = self.when
        if self.for_each is not None:  # and an empty list a list
            data["for_each"] = self.for_each
        return data | ({"optional": True} if self.optional else {})

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
        _check_plain(data)
        body = _object(data, "", {"steps", "output"})
        steps = _list(body.get("steps"), "/steps")
        if not 1 <= len(steps) <= MAX_STEPS:
            raise _wrong("/steps", f"a plan has between 1 and {MAX_STEPS} steps, this one has {len(steps)}")
        plan = Plan(tuple(_step(each, pointer("steps", i)) for i, each in enumerate(steps)), body.get("output"))
        _check(plan)
        return plan

    @staticmethod
    def of_call(call: str, input: Any) -> "Plan":
        """The plan of a task that is one call; the step is named `call`. The input is data, not a template."""
        step = {"id": "call", "call": call, "input": literal(input)}
        return Plan.parse({"steps": [step], "output": {"$from": "call"}})

    def to_data(self) -> JsonObject:
        return {"steps": [step.to_data() for step in self.steps], "output": self.output}

    @cached_property
    def digest(self) -> Digest:
        return digest(self.to_data())

    @cached_property
    def data(self) -> JsonObject:
        """`to_data`, made once. Not to be changed."""
        return self.to_data()

    @cached_property
    def by_id(self) -> dict[StepId, Step]:
        return {step.id: step for step in self.steps}

    @cached_property
    def dependencies(self) -> dict[StepId, frozenset[StepId]]:
        """What each step waits for: the targets of its references, and `after`."""
        return {step.id: frozenset(step.after) | _referred(step) for step in self.steps}

    @cached_property
    def dependents(self) -> dict[StepId, list[StepId]]:
        """Who waits for a step; steps that nobody waits for are not in it."""
        found: dict[StepId, list[StepId]] = {}
        for step, needs in self.dependencies.items():
            for need in needs:
                found.setdefault(need, []).append(step)
        return found

    @cached_property
    def need_counts(self) -> dict[StepId, int]:
        """How many steps each one waits for."""
        return {step: len(needs) for step, needs in self.dependencies.items()}


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


def _referred(step: Step) -> frozenset[StepId]:
    templates = (step.input, step.when, step.for_each)
    roots = {text.partition(".")[0] for template in templates for text in references(template)}
    roots.update(target for _, target in _ok_steps(step.when))
    return frozenset(StepId(root) for root in roots - RESERVED)


def _ok_steps(condition: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """The targets of `$ok` in a condition, with the pointers to them."""
    node = cast("dict[str, Any]", condition if isinstance(condition, dict) else {})
    for name, operand in node.items():
        here = at + pointer(name)
        if name == "$ok":
            yield here, str(operand)
        elif name == "$not":
            yield from _ok_steps(operand, here)
        elif name in ("$and", "$or"):
            for i, each in enumerate(cast("list[Any]", operand)):
                yield from _ok_steps(each, f"{here}/{i}")


# What follows reads and proves a plan that came from outside.


def _check_plain(data: Any) -> None:
    try:
        check(data)
    except InvalidInput as error:
        raise InvalidPlan(error.detail, **error.ids) from None


def _step(data: Any, at: str) -> Step:
    body = _object(data, at, _STEP_KEYS)
    name, version = _call(body.get("call"), at + "/call")
    for part in ("input", "when", "for_each"):
        _check_template(body.get(part), f"{at}/{part}")
    if body.get("when") is not None:
        _check_condition(body["when"], f"{at}/when")
    _check_fan(body.get("for_each"), f"{at}/for_each")
    return Step(
        id=_step_id(body.get("id"), at + "/id"),
        call=name,
        version=version,
        input=body.get("input", {}),
        after=tuple(_step_id(each, where) for where, each in _enumerate(body.get("after", []), f"{at}/after")),
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
        _check_marks(node, at)
        for key, value in node.items() if not is_literal(node) else ():
            _check_template(value, at + pointer(key), depth + 1)
    elif isinstance(template, list):
        for i, value in enumerate(cast("list[Any]", template)):
            _check_template(value, f"{at}/{i}", depth + 1)
    elif isinstance(template, tuple):
        raise _wrong(at, "is a tuple, in which references are not looked for. Write a list")


def _check_marks(node: dict[str, Any], at: str) -> None:
    if len(node) != 1 and (marks := sorted(_MARKS & node.keys())):
        raise _wrong(at, f"{marks[0]} stands alone in its object. Data that has such a key goes into $literal")
    if "$from" in node and not (isinstance(node["$from"], str) and all(node["$from"].split("."))):
        raise _wrong(at, f"$from takes a reference, such as step.field.0, not {node['$from']!r:.80}")
    if "$first" in node and not (isinstance(node["$first"], list) and node["$first"]):
        raise _wrong(at, "$first takes a list with something in it")


def _check_fan(fan: Any, at: str) -> None:
    if isinstance(fan, list):
        if len(cast("list[Any]", fan)) > MAX_FAN_OUT:
            raise _wrong(at, f"has more than {MAX_FAN_OUT} items")
    elif fan is not None and not _is_marked(fan):
        raise _wrong(at, "takes a list, or a reference to one")


def _check_condition(condition: Any, at: str) -> None:
    if isinstance(condition, bool):
        return
    if not isinstance(condition, dict) or len(node := cast("dict[str, Any]", condition)) != 1:
        raise _wrong(at, f"a condition is true, false, a reference, or one of {_OPERATORS}")
    name, operand = next(iter(node.items()))
    here = at + pointer(name)
    if name in _COMPARISONS:
        _check_operands(name, operand, here)
    elif name in ("$and", "$or"):
        for where, each in _enumerate(operand, here):
            _check_condition(each, where)
    elif name == "$not":
        _check_condition(operand, here)
    elif name == "$ok":
        _step_id(operand, here)
    elif name not in ("$from", "$first"):
        raise _wrong(at, f"unknown condition {name!r:.80}. Known: {_OPERATORS}")


def _check_operands(name: str, operands: Any, at: str) -> None:
    if not isinstance(operands, list) or len(cast("list[Any]", operands)) != 2:
        raise _wrong(at, f"{name} takes a list of two")
    for i, each in enumerate(cast("list[Any]", operands)):
        if isinstance(each, dict) and len(node := cast("dict[str, Any]", each)) == 1 and next(iter(node)) in _KNOWN:
            raise _wrong(f"{at}/{i}", f"{name} compares values; conditions are joined with $and, $or and $not")


_KNOWN = frozenset({*_COMPARISONS, *_LOGIC})
_OPERATORS = ", ".join([*_COMPARISONS, *_LOGIC])


def _check(plan: Plan) -> None:
    _check_template(plan.output, "/output")
    if len(plan.by_id) != len(plan.steps):
        raise _wrong("/steps", f"two steps are called {_twice([step.id for step in plan.steps])!r}")
    for i, step in enumerate(plan.steps):
        _check_references(plan, step, pointer("steps", i))
    for where, text in _located(plan.output, "/output"):
        _check_target(plan, text, where, inside_each=False)
    _check_acyclic(plan)


def _check_references(plan: Plan, step: Step, at: str) -> None:
    for i, target in enumerate(step.after):
        _check_step(plan, target, f"{at}/after/{i}")
    each = step.for_each is not None
    for part, inside in (("input", each), ("when", each), ("for_each", False)):
        for where, text in _located(getattr(step, part), f"{at}/{part}"):
            _check_target(plan, text, where, inside_each=inside)
    for where, target in _ok_steps(step.when, f"{at}/when"):
        _check_step(plan, target, where)


def _check_step(plan: Plan, target: str, at: str) -> None:
    if target not in plan.by_id:
        raise _wrong(at, f"{target!r} is no step of this plan{_near(target, plan)}")


def _check_target(plan: Plan, text: str, at: str, *, inside_each: bool) -> None:
    root = text.partition(".")[0]
    if root in ("item", "index"):
        if not inside_each:
            raise _wrong(at, f"{text!r:.80} means something only inside for_each")
    elif root != "input" and root not in plan.by_id:
        raise _wrong(at, f"{text!r:.80} refers to {root!r:.80}, which is neither a step nor 'input'{_near(root, plan)}")


def _near(name: str, plan: Plan) -> str:
    near = difflib.get_close_matches(name[:64], itertools.islice(plan.by_id, 1000), n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _located(template: Any, at: str) -> Iterator[tuple[str, str]]:
    """References with the pointers to them, of a template whose depth was checked."""
    if is_binding(template):
        yield at, template["$from"]
    elif isinstance(template, dict) and not is_literal(template):
        for key, value in cast("dict[str, Any]", template).items():
            yield from _located(value, at + pointer(key))
    elif isinstance(template, list):
        for i, value in enumerate(cast("list[Any]", template)):
            yield from _located(value, f"{at}/{i}")


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
        raise _wrong("/steps", f"the steps wait for each other in a circle: {_spelled(_cycle(waiting))}")


def _cycle(waiting: Mapping[StepId, set[StepId]]) -> list[StepId]:
    """Whoever is left waits for somebody who is left, so following that comes back to where it was."""
    step = next(iter(waiting))
    path: dict[StepId, int] = {}
    while step not in path:
        path[step] = len(path)
        step = min(need for need in waiting[step] if need in waiting)
    return [*list(path)[path[step] :], step]


def _spelled(cycle: Sequence[StepId]) -> str:
    """A long one is cut in the middle: nobody reads ten thousand names."""
    shown = [*cycle[:8], f"({len(cycle) - 12} more)", *cycle[-4:]] if len(cycle) > 20 else cycle
    return " -> ".join(shown)


def _twice(names: Sequence[StepId]) -> StepId:
    seen: set[StepId] = set()
    return next(name for name in names if name in seen or seen.add(name))


def _wrong(at: str, detail: str) -> InvalidPlan:
    return InvalidPlan(f"{at or '/'}: {detail}", pointer=at)
