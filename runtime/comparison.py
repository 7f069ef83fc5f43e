"""Two tasks beside one another: what they were asked, what their plans say, and how each step went.

Pure: what clients see of two tasks goes in, and what differs comes out. Times always differ, so they are shown and
make no difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..contracts import Event, JsonObject, Kind, StepView, TaskView
from ..contracts.schema import pointer
from .client import Client, all_events

_MISSING = object()
COMPARED = ("call", "status", "agent", "award", "attempts", "price_cents", "output", "error", "decisions")
"""Of a step, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Told:
    """One task, as far as it can be looked at."""

    view: TaskView
    steps: Sequence[StepView]
    events: Sequence[Event]

    @property
    def asked(self) -> Mapping[str, Any]:
        """The data of its submission."""
        return self.events[0].data


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two values differ. What is not there at all is None."""

    at: str
    """JSON pointer."""
    first: Any
    second: Any

    def to_data(self) -> JsonObject:
        return {"at": self.at, "first": self.first, "second": self.second}


@dataclass(frozen=True, slots=True)
class StepPair:
    """One step in both tasks; an empty object where it is in one alone."""

    step: str
    first: JsonObject
    second: JsonObject

    @property
    def differs(self) -> list[str]:
        return [name for name in COMPARED if self.first.get(name) != self.second.get(name)]

    def to_data(self) -> JsonObject:
        return {"step": self.step, "differs": self.differs, "first": self.first, "second": self.second}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing."""

    first: TaskView
    second: TaskView
    plan: Sequence[Difference]
    input: Sequence[Difference]
    ends: Sequence[Difference]
    """Status, output, error and cost."""
    steps: Sequence[StepPair]

    @property
    def same(self) -> bool:
        return not (self.plan or self.input or self.ends or any(pair.differs for pair in self.steps))

    def to_data(self) -> JsonObject:
        """As `--json` shows it."""
        return {
            "first": self.first.id,
            "second": self.second.id,
            "same": self.same,
            "plan": [each.to_data() for each in self.plan],
            "input": [each.to_data() for each in self.input],
            "ends": [each.to_data() for each in self.ends],
            "steps": [each.to_data() for each in self.steps],
        }


async def told(client: Client, task: str) -> Told:
    """Everything about one task that a comparison needs. Raises NotFound."""
    return Told(await client.task(task), await client.steps(task), await all_events(client, task))


def compare(first: Told, second: Told) -> Comparison:
    return Comparison(
        first.view,
        second.view,
        list(differences(_by_step(first.asked["plan"]), _by_step(second.asked["plan"]))),
        list(differences(first.asked.get("input"), second.asked.get("input"))),
        list(differences(_end(first.view), _end(second.view))),
        list(_pairs(first, second)),
    )


def differences(first: Any, second: Any, at: str = "") -> Iterator[Difference]:
    """The smallest places in which two values of plain data differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        one, other = cast("JsonObject", first), cast("JsonObject", second)
        for name in dict.fromkeys([*one, *other]):
            yield from differences(one.get(name, _MISSING), other.get(name, _MISSING), at + pointer(name))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{at}/{i}")
    elif first is _MISSING or second is _MISSING or first != second:
        yield Difference(at, _or_none(first), _or_none(second))


def _or_none(value: Any) -> Any:
    return None if value is _MISSING else value


def _by_step(plan: Mapping[str, Any]) -> JsonObject:
    """By id, so that a step that was put between two others is one difference."""
    return {"steps": {step["id"]: step for step in plan["steps"]}, "output": plan.get("output")}


def _end(view: TaskView) -> JsonObject:
    return {
        "status": str(view.status),
        "output": view.output,
        "error": view.error and view.error.code,
        "cost_cents": view.cost_cents,
    }


def _pairs(first: Told, second: Told) -> Iterator[StepPair]:
    ones, others = _steps(first), _steps(second)
    for name in dict.fromkeys([*ones, *others]):
        yield StepPair(name, ones.get(name, {}), others.get(name, {}))


def _steps(told: Told) -> dict[str, JsonObject]:
    decisions = _decisions(told.events)
    return {step.id: _step(step, decisions.get(step.id, [])) for step in told.steps}


def _step(step: StepView, decisions: list[str]) -> JsonObject:
    return {
        "call": step.call,
        "status": str(step.status),
        "agent": step.agent,
        "award": step.reason,
        "attempts": step.attempts,
        "price_cents": step.price_cents,
        "output": step.output,
        "error": step.error and step.error.code,
        "decisions": decisions,
        "latency_ms": step.latency_ms,
    }


def _decisions(events: Sequence[Event]) -> dict[str, list[str]]:
    """What people said of each step, in order."""
    found: dict[str, list[str]] = {}
    for event in events:
        if event.kind is Kind.APPROVAL_DECIDED and event.step:
            said = f"{event.data.get('decision')} by {event.data.get('by') or 'nobody'}"
            found.setdefault(event.step, []).append(said)
    return found
