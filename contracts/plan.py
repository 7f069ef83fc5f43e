"""A plan: a DAG as data. A step calls one capability; its inputs bind literals, task input and earlier outputs.

    {"steps": [{"id": "s1", "call": "orders.get", "input": {"order_id": "#W1"}},
               {"id": "s2", "call": "payments.refund", "input": {"amount": {"$from": "s1.total"}}}],
     "output": {"$from": "s2"}}

What a step's input, its condition (`when`) and its `for_each` are made of is in `template`. A step that was skipped or
refused has no output; a step that refers to it is skipped too, while `after` only orders.

`Plan.parse` proves what can be proved from the plan alone: shape, names, references, no cycles, bounds.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from pydantic import ValidationError

from .errors import InvalidInput, InvalidPlan
from .ids import CapabilityName, Digest, StepId
from .plain import check, pointer
from .schema import JsonObject, digest
from .template import (
    RESERVED,
    check_condition,
    check_fan,
    check_template,
    enumerated,
    list_of,
    literal,
    located,
    ok_steps,
    references,
    step_id,
    wrong,
)
from .views import Budget

MAX_STEPS = 10_000

_CALL = re.compile(r"([a-z][a-z0-9_]{0,63}\.[A-Za-z_][A-Za-z0-9_]{0,63})(?:@([0-9]{1,9}(?:\.[0-9]{1,9})?))?\Z")
_STEP_KEYS = {"id", "call", "input", "after", "when", "for_each", "optional", "budget"}


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
    budget: Budget | None = None
    """What it may spend, whatever the task has left. Each member of a `for_each` has so much of its own."""

    def to_data(self) -> JsonObject:
        data: JsonObject = {"id": self.id, "call": self.full_call, "input": self.input}
        if self.after:
            data["after"] = list(self.after)
        if self.when is not None:  # false is a condition too
            data["when"] = self.when
        if self.for_each is not None:  # and an empty list a list
            data["for_each"] = self.for_each
        if self.budget is not None:
            data["budget"] = self.budget.model_dump(exclude_none=True)
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
        steps = list_of(body.get("steps"), "/steps")
        if not 1 <= len(steps) <= MAX_STEPS:
            raise wrong("/steps", f"a plan has between 1 and {MAX_STEPS} steps, this one has {len(steps)}")
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
    def sources(self) -> dict[StepId, frozenset[StepId]]:
        """Whose outputs, or whose success, each step is made of: its input, its condition and its list. `after` only
        orders.
        """
        return {step.id: _referred(step) for step in self.steps}

    @cached_property
    def answered_from(self) -> frozenset[StepId]:
        """Whose outputs the task answers with."""
        return _steps_in(references(self.output))

    @cached_property
    def dependents(self) -> dict[StepId, list[StepId]]:
        """Who waits for a step; steps that nobody waits for are not in it."""
        found: dict[StepId, list[StepId]] = {}
        for step, needs in self.dependencies.items():
            for need in needs:
                found.setdefault(need, []).append(step)
        return found

    def and_after(self, steps: Iterable[StepId]) -> set[StepId]:
        """These steps, and all that wait for them."""
        found, waiting = set[StepId](), list(steps)
        while waiting:
            if (step := waiting.pop()) not in found:
                found.add(step)
                waiting += self.dependents.get(step, ())
        return found

    @cached_property
    def need_counts(self) -> dict[StepId, int]:
        """How many steps each one waits for."""
        return {step: len(needs) for step, needs in self.dependencies.items()}


def _referred(step: Step) -> frozenset[StepId]:
    templates = (step.input, step.when, step.for_each)
    found = _steps_in(text for template in templates for text in references(template))
    return found | {StepId(target) for _, target in ok_steps(step.when)}


def _steps_in(texts: Iterable[str]) -> frozenset[StepId]:
    return frozenset(StepId(root) for root in {text.partition(".")[0] for text in texts} - RESERVED)


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
        check_template(body.get(part), f"{at}/{part}")
    if body.get("when") is not None:
        check_condition(body["when"], f"{at}/when")
    check_fan(body.get("for_each"), f"{at}/for_each")
    return Step(
        id=step_id(body.get("id"), at + "/id"),
        call=name,
        version=version,
        input=body.get("input", {}),
        after=tuple(step_id(each, where) for where, each in enumerated(body.get("after", []), f"{at}/after")),
        when=body.get("when"),
        for_each=body.get("for_each"),
        optional=_boolean(body.get("optional", False), at + "/optional"),
        budget=_budget(body.get("budget"), at + "/budget"),
    )


def _budget(data: Any, at: str) -> Budget | None:
    try:
        return None if data is None else Budget.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise wrong(at + pointer(*problem["loc"]), problem["msg"]) from None


def _call(text: Any, at: str) -> tuple[CapabilityName, str | None]:
    match = _CALL.match(text) if isinstance(text, str) else None
    if match is None:
        raise wrong(at, f"{text!r:.80} is not a capability. Write domain.method or domain.method@1.2")
    return CapabilityName(match[1]), match[2]


def _boolean(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(at, "must be true or false")
    return value


def _object(data: Any, at: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise wrong(at, f"must be an object, not {type(data).__name__}")
    body = cast("dict[str, Any]", data)
    if unknown := [key for key in body if key not in keys]:
        raise wrong(at, f"unknown key {unknown[0]!r:.80}. Known: {', '.join(sorted(keys))}")
    return body


def _check(plan: Plan) -> None:
    check_template(plan.output, "/output")
    if len(plan.by_id) != len(plan.steps):
        raise wrong("/steps", f"two steps are called {_twice([step.id for step in plan.steps])!r}")
    for i, step in enumerate(plan.steps):
        _check_references(plan, step, pointer("steps", i))
    for where, text in located(plan.output, "/output"):
        _check_target(plan, text, where, inside_each=False)
    _check_acyclic(plan)


def _check_references(plan: Plan, step: Step, at: str) -> None:
    for i, target in enumerate(step.after):
        _check_step(plan, target, f"{at}/after/{i}")
    each = step.for_each is not None
    for part, inside in (("input", each), ("when", each), ("for_each", False)):
        for where, text in located(getattr(step, part), f"{at}/{part}"):
            _check_target(plan, text, where, inside_each=inside)
    for where, target in ok_steps(step.when, f"{at}/when"):
        _check_step(plan, target, where)


def _check_step(plan: Plan, target: str, at: str) -> None:
    if target not in plan.by_id:
        raise wrong(at, f"{target!r} is no step of this plan{_near(target, plan)}")


def _check_target(plan: Plan, text: str, at: str, *, inside_each: bool) -> None:
    root = text.partition(".")[0]
    if root in ("item", "index"):
        if not inside_each:
            raise wrong(at, f"{text!r:.80} means something only inside for_each")
    elif root != "input" and root not in plan.by_id:
        raise wrong(at, f"{text!r:.80} refers to {root!r:.80}, which is neither a step nor 'input'{_near(root, plan)}")


def _near(name: str, plan: Plan) -> str:
    near = difflib.get_close_matches(name[:64], itertools.islice(plan.by_id, 1000), n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


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
        raise wrong("/steps", f"the steps wait for each other in a circle: {_spelled(_cycle(waiting))}")


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
