"""The referee: a second, independent opinion on what a task's history may look like, and what may come next.

`runtime.execution` folds events into counters and sets, step by step. The referee keeps nothing: for each question it
reads the whole history again and derives the answer from the definitions (DESIGN sections 3 and 6). It is slow, and
written so that the two can hardly share a mistake. Not even the templates are evaluated by the same code.

`commands` is what the plan wants next; `judge` says whether one more event is legal (I3, I4, I6).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...contracts import Event, Kind

NOTHING = object()
"""What a template gives that refers to something that is not there."""

_FLIES = (Kind.STEP_AWARDED, Kind.STEP_INTERRUPTED)
_COMPARED = ("$eq", "$ne", "$gt", "$ge", "$lt", "$le", "$in")
_ASIDE = (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED, Kind.STEP_SUSPECTED)
_WINDS_DOWN = (Kind.TASK_ABORTING, Kind.TASK_CANCELING)


class Foul(AssertionError):
    """This history is not legal."""


@dataclass(frozen=True)
class Undo:
    capability: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Rules:
    """What was fixed when the task was submitted."""

    plan: Mapping[str, Any]
    """As JSON, the way a caller sends it."""
    undo: Mapping[str, Undo] = field(default_factory=dict)
    """The compensation of each capability that has one."""
    input: Any = None
    budget_cents: float | None = None

    @staticmethod
    def of(submitted: Event) -> "Rules":
        pins = {name: pin["undo"] for name, pin in submitted.data["pins"].items() if pin["undo"]}
        return Rules(
            submitted.data["plan"],
            {name: Undo(undo["capability"], undo["input"]) for name, undo in pins.items()},
            submitted.data["input"],
            submitted.data["budget_cents"],
        )

    def step(self, name: str) -> Mapping[str, Any]:
        """The step, or for a member the step it belongs to."""
        return next(step for step in self.plan["steps"] if step["id"] == name.partition("[")[0])


class Game:
    """One task's history so far, of which `task.submitted` is the first event."""

    def __init__(self, rules: Rules, history: Sequence[Event]) -> None:
        self.rules = rules
        self.history = list(history)
        self.due: set[str] = set()
        """Steps whose time to be tried again has come. Only a clock knows."""

    # What is

    def story(self, step: str) -> list[Event]:
        return [event for event in self.history if event.step == step]

    def last(self, step: str) -> Event | None:
        """The last thing that happened to the step, questions and suspicions aside."""
        told = [event for event in self.story(step) if event.kind not in _ASIDE]
        return told[-1] if told else None

    @property
    def ended(self) -> bool:
        return any(event.kind.ends_task for event in self.history)

    @property
    def winding_down(self) -> bool:
        return any(event.kind in _WINDS_DOWN for event in self.history)

    @property
    def canceled(self) -> bool:
        return any(event.kind is Kind.TASK_CANCELING for event in self.history)

    def steps(self) -> Iterator[str]:
        """Every step of the plan, and every member of those that have become many."""
        for step in self.rules.plan["steps"]:
            yield step["id"]
            yield from self.members(step["id"])

    def members(self, step: str) -> list[str]:
        expanded = [event for event in self.story(step) if event.kind is Kind.STEP_EXPANDED]
        return [f"{step}[{i}]" for i in range(expanded[0].data["count"])] if expanded else []

    def completed(self, step: str) -> bool:
        return (last := self.last(step)) is not None and last.kind is Kind.STEP_COMPLETED

    def flies(self, step: str) -> bool:
        return (last := self.last(step)) is not None and last.kind in _FLIES

    def gave_up(self, step: str) -> bool:
        last = self.last(step)
        return last is not None and last.kind is Kind.STEP_FAILED and last.data["retry_at_ms"] is None

    def waits_for_retry(self, step: str) -> bool:
        last = next(reversed(self.story(step)), None)
        retries = last is not None and last.kind is Kind.STEP_FAILED and last.data["retry_at_ms"] is not None
        return retries and step not in self.due

    def is_many(self, step: str) -> bool:
        return (last := self.last(step)) is not None and last.kind is Kind.STEP_EXPANDED

    def settled(self, step: str) -> bool:
        """Nothing more will happen to it on the way forward."""
        if self.is_many(step):
            return all(self.settled(member) for member in self.members(step))
        last = self.last(step)
        return self.gave_up(step) or (last is not None and last.kind in (Kind.STEP_COMPLETED, Kind.STEP_SKIPPED))

    def asks(self, step: str) -> Event | None:
        """The open question about it."""
        questions = [e for e in self.story(step) if e.kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED)]
        is_open = bool(questions) and questions[-1].kind is Kind.APPROVAL_REQUESTED and not self.winding_down
        return questions[-1] if is_open else None

    def decision(self, step: str) -> Event | None:
        decided = [event for event in self.story(step) if event.kind is Kind.APPROVAL_DECIDED]
        return decided[-1] if decided else None

    @property
    def fatal(self) -> Event | None:
        """The first failure that the plan cannot live with."""
        return next((event for event in self.history if self._is_fatal(event)), None)

    def _is_fatal(self, event: Event) -> bool:
        if event.kind is not Kind.STEP_FAILED or event.data["retry_at_ms"] is not None or _is_undo(event.step):
            return False
        optional = self.rules.step(str(event.step)).get("optional", False)
        return not (optional and event.data["error"]["branch"] in ("policy", "permanent"))

    # What things are worth

    def output(self, step: str) -> Any:
        if self.is_many(step) and self.settled(step):
            outputs = [self.output(member) for member in self.members(step)]
            return [None if output is NOTHING else output for output in outputs]
        return self.last(step).data["output"] if self.completed(step) else NOTHING  # type: ignore[union-attr]

    def roots(self, step: str | None = None) -> dict[str, Any]:
        """What a template of this step can refer to."""
        found = {step["id"]: self.output(step["id"]) for step in self.rules.plan["steps"]}
        found["input"] = self.rules.input
        if step and step.endswith("]"):
            name, _, index = step[:-1].partition("[")
            items = worth(self.rules.step(name)["for_each"], self.roots())
            found |= {"item": items[int(index)], "index": int(index)}
        return found

    def input(self, step: str) -> Any:
        if _is_undo(step):
            return self._undo_input(_undone(step))
        return worth(self.rules.step(step).get("input", {}), self.roots(step))

    def _undo_input(self, step: str) -> Any:
        undo = self.undo_of(step)
        assert undo is not None
        roots = {"input": self.input(step), "output": self.output(step)}
        bound = {name: worth(template, roots) for name, template in undo.input.items()}
        return {name: value for name, value in bound.items() if value is not NOTHING}

    def undo_of(self, step: str) -> Undo | None:
        return self.rules.undo.get(self.rules.step(step)["call"].partition("@")[0])

    # What may come next

    def commands(self) -> list[tuple[Any, ...]]:
        """What the plan wants now, as plain tuples, in no order that matters."""
        if self.ended:
            return []
        if self.winding_down:
            return list(self._backward())
        if (fatal := self.fatal) is not None:
            return [("abort", fatal.data["error"], fatal.step)]
        wanted = [self._wanted(step) for step in self.steps() if self.may_start(step)]
        return wanted or self._complete()

    def may_start(self, step: str) -> bool:
        if (
            self.settled(step)
            or self.flies(step)
            or self.is_many(step)
            or self.waits_for_retry(step)
            or self.asks(step)
        ):
            return False
        return step.endswith("]") or all(self.settled(need) for need in self.needs(step))

    def needs(self, step: str) -> set[str]:
        one = self.rules.step(step)
        texts = [*_texts(one.get("input")), *_texts(one.get("when")), *_texts(one.get("for_each"))]
        known = {each["id"] for each in self.rules.plan["steps"]}
        return ({text.split(".")[0] for text in texts} & known) | set(one.get("after", ())) | set(_oks(one.get("when")))

    def _wanted(self, step: str) -> tuple[Any, ...]:
        one = self.rules.step(step)
        if one.get("for_each") is not None and not step.endswith("]"):
            return _fan(step, worth(one["for_each"], self.roots()))
        tried = any(event.kind is Kind.STEP_AWARDED for event in self.story(step)) or self.decision(step)
        if not tried and one.get("when") is not None and not true(one["when"], self.roots(step)):
            return ("skip", step)
        value = self.input(step)
        return ("skip", step) if value is NOTHING else ("start", step, value)

    def _complete(self) -> list[tuple[Any, ...]]:
        if all(self.settled(step["id"]) for step in self.rules.plan["steps"]):
            return [("conclude", "task.completed", worth(self.rules.plan.get("output"), self.roots(), null=True))]
        return []

    def _backward(self) -> Iterator[tuple[Any, ...]]:
        if any(self.flies(step) for step in self.steps()):
            return
        for step in self.to_undo():
            undo = f"{step}~"
            if self.gave_up(undo):
                yield ("conclude", "task.failed", "compensation_failed")
                return
            if not self.completed(undo):
                if not (self.flies(undo) or self.waits_for_retry(undo)):
                    yield ("start", undo, self.input(undo))
                return
        yield ("conclude", "task.canceled" if self.canceled else "task.failed", None)

    def to_undo(self) -> list[str]:
        """I4: the completed calls that can be undone, the last one to complete first."""
        completed = [event for event in self.history if event.kind is Kind.STEP_COMPLETED and not _is_undo(event.step)]
        return [event.step for event in reversed(completed) if self.undo_of(event.step)]  # type: ignore[misc]

    # Money

    @property
    def reserved_cents(self) -> float:
        flying = [self.awarded(step) for step in self.steps() if self.flies(step)]
        return sum(event.data["price_cents"] for event in flying if event)

    @property
    def spent_cents(self) -> float:
        done = [self.awarded(step) for step in self.steps() if self.completed(step)]
        return sum(event.data["price_cents"] for event in done if event)

    def awarded(self, step: str) -> Event | None:
        awards = [event for event in self.story(step) if event.kind is Kind.STEP_AWARDED]
        return awards[-1] if awards else None

    # Judging

    def judge(self, event: Event) -> None:
        """Raises Foul unless `event` may come next."""
        if self.ended:
            raise Foul(f"{event.kind} after the end")
        if not _JUDGES[event.kind](self, event):
            raise Foul(f"{event.sequence} {event.kind} {event.step or ''} is not legal here; wanted: {self.commands()}")
        after = Game(self.rules, [*self.history, event])
        budget = self.rules.budget_cents
        if budget is not None and after.reserved_cents + after.spent_cents > budget + 1e-6:
            raise Foul(f"{event.sequence}: {after.reserved_cents} reserved and {after.spent_cents} spent of {budget}")

    def _wants(self, *command: Any) -> bool:
        return any(wanted[: len(command)] == command for wanted in self.commands())

    def _may_be_tried(self, step: str) -> bool:
        """It is wanted, or its time to be tried again may have come."""
        return self._wants("start", step) or (self.waits_for_retry(step) and self._is_still_wanted(step))

    def _is_still_wanted(self, step: str) -> bool:
        if _is_undo(step):
            return self.winding_down
        return not self.winding_down and self.fatal is None

    def _judge_award(self, event: Event) -> bool:
        step = str(event.step)
        asked = self.decision(step)
        approved = asked is None or (
            asked.data["decision"] == "approved"
            and asked.data["digest"] == event.data["input"]
            and asked.data["approval"] == event.data["approval"]
        )
        attempts = sum(each.kind is Kind.STEP_AWARDED for each in self.story(step))
        return self._may_be_tried(step) and approved and event.data["attempt"] == attempts + 1

    def _judge_failure(self, event: Event) -> bool:
        """An awarded step may fail at any time; one that was not awarded only when it was about to be."""
        step = str(event.step)
        if self.flies(step):
            return not (self.winding_down and not _is_undo(step) and event.data["retry_at_ms"] is not None)
        return self._may_be_tried(step) or self._wants("refuse", step)

    def _judge_landing(self, event: Event) -> bool:
        awarded = self.awarded(str(event.step))
        return (
            self.flies(str(event.step))
            and awarded is not None
            and (awarded.data["agent"], awarded.data["attempt"]) == (event.data["agent"], event.data["attempt"])
        )

    def _judge_suspicion(self, event: Event) -> bool:
        """The agent had it in hand at some time, and every death counts once."""
        story = self.story(str(event.step))
        had_it = any(each.kind is Kind.STEP_AWARDED and each.data["agent"] == event.data["agent"] for each in story)
        return had_it and event.data["deaths"] == 1 + sum(each.kind is Kind.STEP_SUSPECTED for each in story)

    def _judge_question(self, event: Event) -> bool:
        return (
            self._may_be_tried(str(event.step)) and not _is_undo(event.step) and self.decision(str(event.step)) is None
        )

    def _judge_decision(self, event: Event) -> bool:
        asked = self.asks(str(event.step))
        return asked is not None and asked.data["digest"] == event.data["digest"]

    def _judge_conclusion(self, event: Event) -> bool:
        if event.kind is Kind.TASK_COMPLETED:
            return self._wants("conclude", str(event.kind), event.data["output"])
        return self._wants("conclude", str(event.kind))


_JUDGES = {
    Kind.STEP_AWARDED: Game._judge_award,
    Kind.STEP_FAILED: Game._judge_failure,
    Kind.STEP_COMPLETED: Game._judge_landing,
    Kind.STEP_INTERRUPTED: Game._judge_landing,
    Kind.STEP_SUSPECTED: Game._judge_suspicion,
    Kind.STEP_SKIPPED: lambda game, event: game._wants("skip", str(event.step)),
    Kind.STEP_EXPANDED: lambda game, event: game._wants("expand", str(event.step), event.data["count"]),
    Kind.APPROVAL_REQUESTED: Game._judge_question,
    Kind.APPROVAL_DECIDED: Game._judge_decision,
    Kind.TASK_ABORTING: lambda game, event: not game.winding_down,
    Kind.TASK_CANCELING: lambda game, event: not game.winding_down,
    Kind.TASK_COMPLETED: Game._judge_conclusion,
    Kind.TASK_FAILED: Game._judge_conclusion,
    Kind.TASK_CANCELED: Game._judge_conclusion,
}


def referee(history: Sequence[Event]) -> Game:
    """Judges every event of a task's history from its submission on, and returns the game as it stands."""
    first = history[0]
    assert first.kind is Kind.TASK_SUBMITTED, f"the history begins with {first.kind}"
    game = Game(Rules.of(first), [first])
    for event in history[1:]:
        assert event.task == first.task
        game.judge(event)
        game.history.append(event)
    return game


def worth(template: Any, roots: Mapping[str, Any], null: bool = False) -> Any:
    """The value of a template, or NOTHING; with `null`, null for each part that is not there."""
    if isinstance(template, dict) and set(template) == {"$from"}:
        value = _walk(template["$from"].split("."), roots)
    elif isinstance(template, dict) and set(template) == {"$first"}:
        worths = [worth(option, roots) for option in template["$first"]]
        ends_in_null = template["$first"][-1] is None
        value = next(
            (each for each in worths if each is not NOTHING and each is not None), None if ends_in_null else NOTHING
        )
    elif isinstance(template, dict) and set(template) == {"$literal"}:
        return template["$literal"]
    elif isinstance(template, dict):
        value = {name: worth(each, roots, null) for name, each in template.items()}
        return NOTHING if NOTHING in value.values() else value
    elif isinstance(template, list):
        value = [worth(each, roots, null) for each in template]
        return NOTHING if NOTHING in value else value
    else:
        return template
    return None if null and value is NOTHING else value


def _walk(path: list[str], value: Any) -> Any:
    for name in path:
        if isinstance(value, Mapping):
            value = value.get(name, NOTHING)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return NOTHING
    return value


def true(condition: Any, roots: Mapping[str, Any]) -> bool:
    """Whether a `when` holds."""
    match condition:
        case {"$not": inner} if len(condition) == 1:
            return not true(inner, roots)
        case {"$and": all_of} if len(condition) == 1:
            return all(true(each, roots) for each in all_of)
        case {"$or": any_of} if len(condition) == 1:
            return any(true(each, roots) for each in any_of)
        case {"$ok": step} if len(condition) == 1:
            return roots[step] is not NOTHING
        case dict() if len(condition) == 1 and (name := next(iter(condition))) in _COMPARED:
            return _compared(name, *(worth(each, roots, null=True) for each in condition[name]))
        case _:
            return bool(worth(condition, roots, null=True))


def _compared(name: str, left: Any, right: Any) -> bool:
    if name in ("$eq", "$ne"):
        return (left == right) == (name == "$eq")
    try:
        return left in right if name == "$in" else _ordered(name, left, right)
    except TypeError:
        return False


def _ordered(name: str, left: Any, right: Any) -> bool:
    if name in ("$gt", "$ge"):
        left, right = right, left
    return left < right or (name in ("$ge", "$le") and left == right)


def _fan(step: str, items: Any) -> tuple[Any, ...]:
    if items is NOTHING:
        return ("skip", step)
    return ("expand", step, len(items)) if isinstance(items, list) else ("refuse", step)


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, dict):
        for name, value in template.items():
            if name != "$literal" or len(template) > 1:
                yield from [value] if name == "$from" and len(template) == 1 else _texts(value)
    elif isinstance(template, list):
        for value in template:
            yield from _texts(value)


def _oks(condition: Any) -> Iterator[str]:
    if isinstance(condition, dict):
        for name, value in condition.items():
            yield from [value] if name == "$ok" else _oks(value)
    elif isinstance(condition, list):
        for value in condition:
            yield from _oks(value)


def _is_undo(step: str | None) -> bool:
    return step is not None and step.endswith("~")


def _undone(step: str) -> str:
    return step.removesuffix("~")
