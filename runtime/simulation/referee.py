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
_ASKS = (
    Kind.APPROVAL_REQUESTED,
    Kind.APPROVAL_VOTED,
    Kind.APPROVAL_EDITED,
    Kind.APPROVAL_ESCALATED,
    Kind.APPROVAL_DECIDED,
)
_ASIDE = (*_ASKS, Kind.STEP_SUSPECTED, Kind.STEP_DELEGATED, Kind.STEP_RETURNED)
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
    confirm: Mapping[str, Undo] = field(default_factory=dict)
    """The confirmation of each capability that only stages its effect."""
    irreversible: frozenset[str] = frozenset()
    """Capabilities that nothing can undo."""
    input: Any = None
    budget_cents: float | None = None
    inherits: Mapping[str, Any] = field(default_factory=dict)
    """What another task has done of the plan, by step."""
    human_minutes: float | None = None

    @staticmethod
    def of(submitted: Event) -> "Rules":
        pins = submitted.data["pins"]
        return Rules(
            submitted.data["plan"],
            {name: Undo(**pin["undo"]) for name, pin in pins.items() if pin["undo"]},
            {name: Undo(**pin["confirm"]) for name, pin in pins.items() if pin.get("confirm")},
            frozenset(name for name, pin in pins.items() if pin["effect"] == "irreversible"),
            submitted.data["input"],
            submitted.data["budget_cents"],
            (submitted.data.get("forked_from") or {}).get("steps", {}),
            (submitted.data.get("budget") or {}).get("human_minutes"),
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
        """The last thing that happened to the step, questions, suspicions and child tasks aside."""
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
        """Here, by hand, or in the task that this one was forked from."""
        last = self.last(step)
        if last is not None and last.kind is Kind.STEP_INHERITED:
            return last.data["error"] is None
        return last is not None and (last.kind is Kind.STEP_COMPLETED or _choice(last) == "by_hand")

    def flies(self, step: str) -> bool:
        return (last := self.last(step)) is not None and last.kind in _FLIES

    def gave_up(self, step: str) -> bool:
        last = self.last(step)
        if last is None:
            return False
        if last.kind is Kind.STEP_FAILED:
            return last.data["retry_at_ms"] is None
        void = _choice(last) == "not_happened" and self._came_late(last) and not _settles(step)
        return void or _choice(last) == "give_up"

    def _came_late(self, event: Event) -> bool:
        """After the task began to wind down."""
        return any(each.kind in _WINDS_DOWN and each.sequence < event.sequence for each in self.history)

    def begun(self, step: str) -> bool:
        """It did something outside, or may have: its agent said so, or a person."""
        return any(
            _choice(event) in ("happened", "not_happened")
            or event.data.get("error", {}).get("ids", {}).get("stay_with")
            for event in self.story(step)
        )

    def held(self, step: str) -> Event | None:
        """Why nothing more is tried with it before a person has chosen."""
        last = self.last(step)
        if last is None or last.kind is not Kind.STEP_HELD:
            return None
        dropped = self.winding_down and not self._came_late(last) and not self.begun(step) and not _settles(step)
        return None if dropped else last

    def must_be_finished(self, step: str) -> bool:
        """Though the task winds down: it began something outside, or a person wants to know."""
        if self.settled(step) or self.is_many(step) or self.flies(step) or self.last(step) is None:
            return False
        last = self.last(step)
        return self.begun(step) or (_choice(last) != "" and self._came_late(last))  # type: ignore[arg-type]

    @property
    def past_return(self) -> bool:
        """A confirmation was begun."""
        return any(event.kind is Kind.STEP_AWARDED and str(event.step).endswith("+") for event in self.history)

    def waits_for_retry(self, step: str) -> bool:
        besides = (Kind.STEP_SUSPECTED, Kind.STEP_DELEGATED, Kind.STEP_RETURNED)
        told = [event for event in self.story(step) if event.kind not in besides]
        last = told[-1] if told else None
        retries = last is not None and last.kind is Kind.STEP_FAILED and last.data["retry_at_ms"] is not None
        return retries and step not in self.due

    def is_many(self, step: str) -> bool:
        return (last := self.last(step)) is not None and last.kind is Kind.STEP_EXPANDED

    def settled(self, step: str) -> bool:
        """Nothing more will happen to it on the way forward."""
        if self.is_many(step):
            return all(self.settled(member) for member in self.members(step))
        last = self.last(step)
        done = last is not None and last.kind in (Kind.STEP_SKIPPED, Kind.STEP_INHERITED)
        return self.gave_up(step) or self.completed(step) or done

    def asks(self, step: str) -> Event | None:
        """The open question about it."""
        questions = [e for e in self.story(step) if e.kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED)]
        is_open = bool(questions) and questions[-1].kind is Kind.APPROVAL_REQUESTED and not self.winding_down
        return questions[-1] if is_open else None

    def question(self, step: str) -> Event | None:
        """What the open question is about now: as it was asked, or as a person has changed it."""
        asked = self.asks(step)
        edits = [e for e in self.story(step) if e.kind is Kind.APPROVAL_EDITED]
        return edits[-1] if asked and edits else asked

    def votes(self, step: str) -> list[Event]:
        """Those who said yes since the question was asked or changed, of whom several are needed."""
        since = self.question(step)
        return [e for e in self.story(step) if e.kind is Kind.APPROVAL_VOTED and since and e.sequence > since.sequence]

    def decision(self, step: str) -> Event | None:
        decided = [event for event in self.story(step) if event.kind is Kind.APPROVAL_DECIDED]
        return decided[-1] if decided else None

    @property
    def fatal(self) -> Event | None:
        """The first failure that the plan cannot live with."""
        return next((event for event in self.history if self._is_fatal(event)), None)

    def _is_fatal(self, event: Event) -> bool:
        if _settles(event.step) or not (self._has_failed(event) or _choice(event) == "give_up"):
            return False
        optional = self.rules.step(str(event.step)).get("optional", False)
        return not (optional and self._error_of(event)["branch"] in ("policy", "permanent"))

    def _has_failed(self, event: Event) -> bool:
        return event.kind is Kind.STEP_FAILED and event.data["retry_at_ms"] is None

    def _error_of(self, event: Event) -> Any:
        """What a step failed with; when somebody gave it up, what it was held with."""
        story = [each for each in self.story(str(event.step)) if each.sequence <= event.sequence]
        return [each.data["error"] for each in story if "error" in each.data][-1]

    # What things are worth

    def output(self, step: str) -> Any:
        if self.is_many(step) and self.settled(step):
            outputs = [self.output(member) for member in self.members(step)]
            return [None if output is NOTHING else output for output in outputs]
        return self.last(step).data.get("output") if self.completed(step) else NOTHING  # type: ignore[union-attr]

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
        if _settles(step):
            named = self.undo_of(step[:-1]) if _is_undo(step) else self.confirm_of(step[:-1])
            return self._named_input(named, step[:-1])
        edits = [event for event in self.story(step) if event.kind is Kind.APPROVAL_EDITED]
        if edits:
            return edits[-1].data["input"]
        return worth(self.rules.step(step).get("input", {}), self.roots(step))

    def _named_input(self, undo: Undo | None, step: str) -> Any:
        assert undo is not None
        roots = {"input": self.input(step), "output": self.output(step)}
        bound = {name: worth(template, roots) for name, template in undo.input.items()}
        return {name: value for name, value in bound.items() if value is not NOTHING}

    def undo_of(self, step: str) -> Undo | None:
        return self.rules.undo.get(self.rules.step(step)["call"].partition("@")[0])

    def confirm_of(self, step: str) -> Undo | None:
        return self.rules.confirm.get(self.rules.step(step)["call"].partition("@")[0])

    # What may come next

    def commands(self) -> list[tuple[Any, ...]]:
        """What the plan wants now, as plain tuples, in no order that matters."""
        if self.ended:
            return []
        if self.winding_down:
            return list(self._backward())
        if (fatal := self.fatal) is not None:
            return [("abort", self._error_of(fatal), fatal.step)]
        wanted = [self._wanted(step) for step in self.steps() if self.may_start(step)]
        return wanted or self._complete()

    def may_start(self, step: str) -> bool:
        if (
            self.settled(step)
            or self.flies(step)
            or self.is_many(step)
            or self.waits_for_retry(step)
            or self.asks(step)
            or self.held(step)
            or self.is_barred(step)
        ):
            return False
        return step.endswith("]") or all(self.settled(need) for need in self.needs(step))

    def is_barred(self, step: str) -> bool:
        """What cannot be undone comes after all that can, unless that comes after such a step itself. What was done in
        another task need not be kept from being done.
        """
        if not self._is_irreversible(step.partition("[")[0]) or self._is_carried(step):
            return False
        return any(not self.settled(each["id"]) for each in self.rules.plan["steps"] if self._may_fail(each["id"]))

    def _may_fail(self, step: str) -> bool:
        return not self._is_irreversible(step) and all(self._may_fail(need) for need in self.needs(step))

    def _is_carried(self, step: str) -> bool:
        """It was done in another task, or, before it has become many, one of its members."""
        return step in self.rules.inherits or any(each.startswith(f"{step}[") for each in self.rules.inherits)

    def _is_irreversible(self, step: str) -> bool:
        return self.rules.step(step)["call"].partition("@")[0] in self.rules.irreversible

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
        if value is NOTHING:
            return ("skip", step)
        return ("inherit", step) if step in self.rules.inherits else ("start", step, value)

    def _complete(self) -> list[tuple[Any, ...]]:
        if all(self.settled(step["id"]) for step in self.rules.plan["steps"]):
            for step in self.to_confirm():
                if not self.completed(confirm := f"{step}+"):
                    return self._settling(confirm)
            return [("conclude", "task.completed", worth(self.rules.plan.get("output"), self.roots(), null=True))]
        return []

    def _backward(self) -> Iterator[tuple[Any, ...]]:
        unfinished = [step for step in self.steps() if self.must_be_finished(step)]
        for step in unfinished:
            if not (self.held(step) or self.waits_for_retry(step)):
                yield ("start", step, self.input(step))
        if unfinished or any(self.flies(step) or self.held(step) for step in self.steps()):
            return
        for step in self.to_undo():
            if not self.completed(undo := f"{step}~"):
                yield from self._settling(undo)
                return
        yield ("conclude", "task.canceled" if self.canceled else "task.failed", None)

    def _settling(self, step: str) -> list[tuple[Any, ...]]:
        """What a compensation or a confirmation wants that is not completed."""
        if self.gave_up(step):
            return [("conclude", "task.failed", "compensation_failed" if _is_undo(step) else "confirmation_failed")]
        waits = self.flies(step) or self.waits_for_retry(step) or self.held(step)
        return [] if waits else [("start", step, self.input(step))]

    def _done(self) -> list[str]:
        """The completed calls of the plan, in the order in which they completed."""
        ends = [event for event in self.history if event.kind is Kind.STEP_COMPLETED or _choice(event) == "by_hand"]
        return [str(event.step) for event in ends if not _settles(event.step)]

    def to_undo(self) -> list[str]:
        """I4: the completed calls that can be undone, the last one to complete first."""
        return [step for step in reversed(self._done()) if self.undo_of(step)]

    def to_confirm(self) -> list[str]:
        """The completed calls whose effect is only staged, the first one to complete first."""
        return [step for step in self._done() if self.confirm_of(step)]

    # Money

    @property
    def reserved_cents(self) -> float:
        return sum(self.reserved_of(step) for step in self.steps())

    def _keeps(self, step: str) -> bool:
        """Nobody knows whether what was reserved for it was spent: its last award ended so, and nothing settled it."""
        keeps, flies = False, False
        for event in self.history:
            if event.step == step and event.kind is Kind.STEP_HELD:
                keeps = keeps or (flies and event.data["why"] == "outcome_unknown")
            elif event.step == step and event.kind not in (Kind.STEP_INTERRUPTED, *_ASIDE):
                keeps = keeps and _choice(event) in ("again", "happened", "not_happened") and not self._voids(event)
            elif event.kind in _WINDS_DOWN:
                keeps = keeps and self.begun(step)
            flies = event.kind in _FLIES if event.step == step and event.kind not in _ASIDE else flies
        return keeps

    def _voids(self, event: Event) -> bool:
        return _choice(event) == "not_happened" and self._came_late(event)

    @property
    def spent_cents(self) -> float:
        return sum(self.spent_of(step) for step in self.steps())

    def reserved_of(self, step: str) -> float:
        """What is missing of the price of an attempt under way, after what earlier ones have cost."""
        return max(0.0, self.price(step) - self.lost(step)) if self.flies(step) or self._keeps(step) else 0.0

    def spent_of(self, step: str) -> float:
        """The price of what was done; of what was not, what models and child tasks took in vain."""
        return max(self.price(step), self.lost(step)) if self.completed(step) else self.lost(step)

    def price(self, step: str) -> float:
        awarded = self.awarded(step)
        return awarded.data["price_cents"] if awarded else 0.0

    def lost(self, step: str) -> float:
        failures = [event for event in self.story(step) if event.kind in (Kind.STEP_FAILED, Kind.STEP_HELD)]
        children = [event for event in self.story(step) if event.kind is Kind.STEP_RETURNED]
        taken = sum(event.data.get("spent_cents") or 0.0 for event in failures)
        return taken + sum(event.data["cost_cents"] for event in children)

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
        after._judge_step_budget(event)

    def _judge_step_budget(self, event: Event) -> None:
        if event.step is None or _settles(event.step):
            return
        step = str(event.step)
        limit = (self.rules.step(step).get("budget") or {}).get("cents")
        if limit is not None and self.reserved_of(step) + self.spent_of(step) > limit + 1e-6:
            raise Foul(f"{event.sequence}: {step} holds or has spent more than its {limit} cents")

    def _wants(self, *command: Any) -> bool:
        return any(wanted[: len(command)] == command for wanted in self.commands())

    def _may_be_tried(self, step: str) -> bool:
        """It is wanted, or its time to be tried again may have come."""
        return self._wants("start", step) or (self.waits_for_retry(step) and self._is_still_wanted(step))

    def _is_still_wanted(self, step: str) -> bool:
        if _is_undo(step):
            return self.winding_down
        return self.begun(step) if self.winding_down else self.fatal is None or _settles(step)

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
            begun = _settles(step) or Game(self.rules, [*self.history, event]).begun(step)
            hopeless = self.winding_down and not begun
            return not (hopeless and event.data["retry_at_ms"] is not None)
        return self._may_be_tried(step) or self._wants("refuse", step)

    def _judge_landing(self, event: Event) -> bool:
        awarded = self.awarded(str(event.step))
        return (
            self.flies(str(event.step))
            and awarded is not None
            and (awarded.data["agent"], awarded.data["attempt"]) == (event.data["agent"], event.data["attempt"])
        )

    def _judge_delegation(self, event: Event) -> bool:
        """Whoever has the step in hand asks; when the task winds down, only for what was begun."""
        step, awarded = str(event.step), self.awarded(str(event.step))
        has_it = self.flies(step) and awarded is not None and awarded.data["agent"] == event.data["agent"]
        wanted = not self.winding_down or self.begun(step) or _settles(step)
        return has_it and wanted and event.data["child"] not in self._children(step, Kind.STEP_DELEGATED)

    def _judge_return(self, event: Event) -> bool:
        step, child = str(event.step), event.data["child"]
        asked, ended = (self._children(step, kind) for kind in (Kind.STEP_DELEGATED, Kind.STEP_RETURNED))
        return child in asked and child not in ended

    def _children(self, step: str, kind: Kind) -> list[str]:
        return [event.data["child"] for event in self.story(step) if event.kind is kind]

    def _judge_suspicion(self, event: Event) -> bool:
        """The agent had it in hand at some time, and every death counts once, or starts to anew after a hold."""
        story = self.story(str(event.step))
        had_it = any(each.kind is Kind.STEP_AWARDED and each.data["agent"] == event.data["agent"] for each in story)
        return had_it and 1 <= event.data["deaths"] <= 1 + sum(each.kind is Kind.STEP_SUSPECTED for each in story)

    def _judge_question(self, event: Event) -> bool:
        """Asked once, before its first award: what is finished to be undone was allowed before. And again about what an
        attempt has taken up since, which nobody knew of when they were asked.
        """
        step = str(event.step)
        if self.winding_down or _settles(step) or not self._may_be_tried(step):
            return False
        return self._has_news(step) or (self.awarded(step) is None and self.decision(step) is None)

    def _has_news(self, step: str) -> bool:
        """Whether its last attempt said what is known of the data that it has taken up, and nobody was asked since."""
        told = self.last(step)
        said = told is not None and bool((told.data.get("error") or {}).get("ids", {}).get("data_labels"))
        decided = self.decision(step)
        return said and told is not None and (decided is None or decided.sequence < told.sequence)

    def _judge_decision(self, event: Event) -> bool:
        """A yes is the last of as many as are needed, each in a place of its own and none of whom may not."""
        step = str(event.step)
        asked = self.question(step)
        if asked is None or asked.data["digest"] != event.data["digest"]:
            return False
        terms = asked.data.get("terms") or {}
        if event.data["decision"] != "approved" or not terms:
            return True
        return self._may_say_yes(step, event) and len(self.votes(step)) + 1 >= terms["quorum"]

    def _judge_vote(self, event: Event) -> bool:
        asked = self.question(str(event.step))
        same = asked is not None and asked.data["digest"] == event.data["digest"]
        return same and self._may_say_yes(str(event.step), event)

    def _may_say_yes(self, step: str, event: Event) -> bool:
        asked = self.question(step)
        assert asked is not None
        terms, seat, by = asked.data["terms"], event.data["seat"], event.data["by"]
        higher = [e for e in self.story(step) if e.kind is Kind.APPROVAL_ESCALATED and e.sequence > asked.sequence]
        may = [*terms["approvers"], *(higher[-1].data["to"] if higher and terms["approvers"] else [])]
        own = self.history[0].data.get("by")
        return (
            (not may or seat in may)
            and (seat == by or terms["delegates"].get(seat) == by)
            and seat not in [vote.data["seat"] for vote in self.votes(step)]
            and not (terms["four_eyes"] and own in (by, seat))
        )

    def _judge_hold(self, event: Event) -> bool:
        step = str(event.step)
        return self.flies(step) or self._may_be_tried(step)

    def _judge_resumption(self, event: Event) -> bool:
        held = self.held(str(event.step))
        return held is not None and event.data["choice"] in held.data["choices"]

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
    Kind.STEP_DELEGATED: Game._judge_delegation,
    Kind.STEP_RETURNED: Game._judge_return,
    Kind.STEP_HELD: Game._judge_hold,
    Kind.STEP_RESUMED: Game._judge_resumption,
    Kind.STEP_SKIPPED: lambda game, event: game._wants("skip", str(event.step)),
    Kind.STEP_INHERITED: lambda game, event: (
        game._wants("inherit", str(event.step)) and event.data == game.rules.inherits[str(event.step)]
    ),
    Kind.STEP_EXPANDED: lambda game, event: game._wants("expand", str(event.step), event.data["count"]),
    Kind.APPROVAL_REQUESTED: Game._judge_question,
    Kind.APPROVAL_DECIDED: Game._judge_decision,
    Kind.TASK_REPINNED: lambda game, event: True,
    Kind.APPROVAL_VOTED: Game._judge_vote,
    Kind.APPROVAL_EDITED: lambda game, event: game.asks(str(event.step)) is not None,
    Kind.APPROVAL_ESCALATED: lambda game, event: game.asks(str(event.step)) is not None,
    Kind.TASK_ABORTING: lambda game, event: not (game.winding_down or game.past_return),
    Kind.TASK_CANCELING: lambda game, event: not (game.winding_down or game.past_return),
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


def _settles(step: str | None) -> bool:
    return step is not None and step.endswith(("~", "+"))


def _choice(event: Event) -> str:
    """What a person has chosen for a held step."""
    return event.data["choice"] if event.kind is Kind.STEP_RESUMED else ""
