"""Execution as a pure fold: a task's events in, commands out.

A `Run` is what a task's events add up to. `apply` takes one event; `next` says what has become possible. Nothing here
knows Ray, the journal, the clock or the network: the coordinator does what the commands say and writes down what came
of it, and that event comes back through `apply`. Replaying a journal is the same fold over stored events, so what a
recovered coordinator knows is what the dead one knew.

A plan that cannot go on *aborts*: no new step starts, what is in flight is awaited, then completed reversible steps are
compensated in reverse order of completion, one after another, and only then does the task end.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ..contracts import (
    AgentId,
    Budget,
    CapabilityName,
    Compensation,
    Contract,
    Digest,
    Effect,
    Event,
    HanseError,
    InvalidPlan,
    JsonObject,
    Kind,
    NotCleared,
    Plan,
    Step,
    StepId,
    StepStatus,
    TaskId,
    TaskStatus,
    Tenant,
)
from ..contracts.capability import satisfies
from ..contracts.holding import Choice, Why
from ..contracts.labels import (
    IN_BEGINNING,
    IN_ERROR,
    NO_MARKS,
    OUTWARD,
    Marks,
    joined,
    marked,
    marks_of,
    placed,
)
from ..contracts.template import ABSENT, MAX_FAN_OUT, MissingOutput, Scope, holds, resolve, resolve_or_null

DEFAULT_PRIORITY = 5
"""Of a task that says nothing of its own, from 0 to 9. Higher goes first."""

SUSPICIOUS = 2
"""Deaths of its agent from which on a step is sent alone."""

_DONE = frozenset({StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, StepStatus.COMPENSATED})


@dataclass(frozen=True, slots=True)
class Pin:
    """What a task knows of a capability from the moment it was submitted: enough to fold its events anywhere."""

    version: str
    effect: Effect
    compensation: Compensation | None = None
    confirmation: Compensation | None = None
    contract: Digest | None = None
    """The whole contract, which the coordinator's store keeps. None where it was not written down."""
    labels: tuple[str, ...] = ()
    """What the contract says of the data."""

    @staticmethod
    def of(contract: Contract) -> "Pin":
        named = (contract.compensation, contract.confirmation)
        return Pin(contract.version, contract.effect, *named, contract.digest, contract.labels)

    def to_data(self) -> JsonObject:
        confirm = {"confirm": _to_data(self.confirmation)} if self.confirmation else {}
        return {
            "version": self.version,
            "effect": str(self.effect),
            "undo": self.compensation and _to_data(self.compensation),
            **confirm,
            **({"contract": self.contract} if self.contract else {}),
            **({"labels": list(self.labels)} if self.labels else {}),
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Pin":
        undo, confirm = data["undo"], data.get("confirm")
        return Pin(
            data["version"],
            Effect(data["effect"]),
            undo and Compensation(**undo),
            confirm and Compensation(**confirm),
            data.get("contract"),
            tuple(data.get("labels") or ()),
        )


def _to_data(named: Compensation) -> JsonObject:
    return {"capability": named.capability, "input": named.input}


class Reserved(NamedTuple):
    """What is reserved: in the step's budget, in its task's, and in the tenant's on that day."""

    cents: float = 0.0
    tokens: int = 0
    minutes: float = 0.0
    day: str = ""
    """In UTC, as `2026-11-21`. Empty for what no tenant's day counts."""


NOTHING_RESERVED = Reserved()
FREE = Budget()
"""Nothing is limited."""


class StepRun:
    """One step, one member of a `for_each` (`s[2]`), one compensation (`s~`), or one confirmation (`s+`), as far as it
    has come.

    Tasks have many steps and most never leave the common path, so what is unusual stands here as a default of the class
    and costs an instance nothing until it happens.
    """

    status: StepStatus = StepStatus.WAITING
    input: Any = ABSENT
    input_digest: str = ""
    """Digest of the input with which it is about to be awarded. Not journaled before that."""
    parent: "StepRun | None" = None
    undoes: "StepRun | None" = None
    confirms: "StepRun | None" = None
    settles: bool = False
    """Whether it undoes or confirms a step. That is never held up by policy, budget or deadline."""
    item: Any = ABSENT
    index: int = 0
    attempt: int = 0
    agent: AgentId | None = None
    award: Mapping[str, Any] = MappingProxyType({})
    interrupted: bool = False
    interruptions: int = 0
    """How often the link to its agent broke with it in hand."""
    deaths: int = 0
    """How often the process of its agent died with it in hand."""
    output: Any = ABSENT
    error: Mapping[str, Any] | None = None
    retry_at_ms: int = 0
    failed_agents: frozenset[AgentId] = frozenset()
    stay_with: AgentId | None = None
    """The agent that did, or may have done, something outside for this step: only its ledger knows, so nobody else
    may try."""
    held: Mapping[str, Any] | None = None
    """Why nothing more is tried, and what a person may choose."""
    held_ms: int = 0
    ruling: Mapping[str, Any] | None = None
    """What a person found out about an effect that was in doubt. Its agent is told with the next call."""
    resumed: Mapping[str, Any] | None = None
    """What a person chose when it was last held. None for a step that never was."""
    forgiven: int = 0
    """Attempts that no longer count, because a person said: again."""
    approval: Mapping[str, Any] | None = None
    """The last decision for it."""
    asked: Mapping[str, Any] | None = None
    """The question it waits for, as it stands now."""
    votes: tuple[Mapping[str, Any], ...] = ()
    """Those who have said yes to it, where several must."""
    edited: Mapping[str, Any] | None = None
    """What a person made of its input."""
    asked_ms: int = 0
    rule: str = ""
    """What policy said when it was last looked at."""
    latency_ms: float | None = None
    model_cents: float = 0.0
    """What of its price went to models, as its agent said."""
    model_tokens: int = 0
    """What models read and wrote for it, all attempts together."""
    reserved: Reserved = NOTHING_RESERVED
    """What is reserved for the attempt under way, and for the question that is open."""
    charged_cents: float = 0.0
    """What was spent for it so far: of attempts that failed, what models took; in the end, its price."""
    minutes: float = 0.0
    """Of people's time that was spent on its questions."""
    began_ms: int = 0
    """Its first award, in unix milliseconds."""
    reason: str = ""
    children: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Child tasks that it has asked for, by id: `call`, `cents` that they may spend or have cost, `status` at their
    end, and whether it asked `late`: when the task was winding down, to bring to its end what it had begun."""
    members: "list[StepRun] | None" = None
    members_left: int = 0
    progress: float | None = None
    note: str = ""
    taken: Marks = NO_MARKS
    """Labels of what its handler has taken up, in all attempts, beyond what it was given."""
    carries: Marks = NO_MARKS
    """Labels of what it gave. Of a step that is done."""
    uncleared: bool = False
    """It would have sent something outward of which policy did not know: policy looks at it again."""
    clearings: int = 0
    """How often that was so."""
    inherited: Mapping[str, Any] | None = None
    """Where it was done, when that was another task: see `step.inherited`."""
    waits: str = ""
    """What it waits for while it is parked, or in the hands of an agent that cannot go on, in words. Not journaled."""
    parked: bool = False
    """The driver has tried and waits for something outside: an agent to join, bids to come in. Not journaled."""

    def __init__(self, id: StepId, call: CapabilityName, version: str | None, step: Step | None) -> None:
        """`step` is None for a compensation and a confirmation."""
        self.id = id
        self.call = call
        self.version = version
        self.step = step

    @property
    def done(self) -> bool:
        return self.status in _DONE

    @property
    def optional(self) -> bool:
        return self.step is not None and self.step.optional

    @property
    def budget(self) -> Budget | None:
        """Its own. A compensation has none: undoing is never held up."""
        return self.step.budget if self.step is not None else None

    @property
    def ends_ms(self) -> int | None:
        """Unix milliseconds at which its own time is over; None when it has no limit, or has not begun."""
        return self.ends_if_begun(self.began_ms) if self.began_ms else None

    def ends_if_begun(self, now_ms: int) -> int | None:
        """The same for a step that, if it has not begun before, begins now."""
        seconds = self.budget.seconds if self.budget is not None else None
        return None if seconds is None else (self.began_ms or now_ms) + round(seconds * 1000)

    @property
    def is_top(self) -> bool:
        """Whether it stands in the plan itself: no member of a `for_each`, and nothing that undoes or confirms."""
        return self.parent is None and not self.settles

    @property
    def begun(self) -> bool:
        """Whether it did something outside, or may have. Then it is finished before it can be undone."""
        return self.stay_with is not None or self.ruling is not None

    @property
    def attempts_that_count(self) -> int:
        return self.attempt - self.forgiven


@dataclass(frozen=True, slots=True)
class Start:
    """Find an agent for this step and award it."""

    step: StepRun


@dataclass(frozen=True, slots=True)
class Skip:
    step: StepRun
    reason: str


@dataclass(frozen=True, slots=True)
class Inherit:
    """The task that this one was forked from has done it."""

    step: StepRun
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The step cannot be started at all."""

    step: StepRun
    error: HanseError


@dataclass(frozen=True, slots=True)
class Expand:
    """A `for_each` has its list: make so many members of it."""

    step: StepRun
    count: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The plan cannot go on."""

    error: Mapping[str, Any]
    step: StepId | None


@dataclass(frozen=True, slots=True)
class Conclude:
    """The task ends."""

    kind: Kind
    data: JsonObject


Command = Start | Skip | Inherit | Refuse | Expand | Abort | Conclude


class Run:
    """What the events of one task add up to."""

    def __init__(
        self, submitted: Event, plan: Plan | None = None, pins: Mapping[CapabilityName, Pin] | None = None
    ) -> None:
        """`plan` and `pins` spare reading them again where they were just made."""
        data = submitted.data
        assert submitted.task is not None
        self.task: TaskId = submitted.task
        self.tenant = Tenant(data["tenant"])
        self.key: str | None = data.get("key")
        self.plan = plan or Plan.parse(data["plan"])
        self.input: Any = data.get("input")
        self.pins = pins or {CapabilityName(name): Pin.from_data(pin) for name, pin in data["pins"].items()}
        self.budget_cents: float | None = data.get("budget_cents")
        self.budget = _budget_of(data)
        self.deadline_ms: int | None = data.get("deadline_ms")
        self.format: int = data.get("format", 1)
        """Of the journal when it was submitted: see `contracts.events.FORMAT`."""
        self.labels: Mapping[str, str] = data.get("labels") or {}
        self.forked_from: Mapping[str, Any] | None = data.get("forked_from")
        self.inherits: Mapping[str, Mapping[str, Any]] = (self.forked_from or {}).get("steps") or {}
        """What the task that this one was forked from has done of this plan, by step."""
        self._carried = self.inherits.keys() | {name.partition("[")[0] for name in self.inherits}
        parent: Mapping[str, Any] = data.get("parent") or {}
        self.marks = joined(*(marks_of(each.get(IN_BEGINNING)) for each in (data, self.forked_from or {})))
        """Labels of everything the task was begun with."""
        self.labelled: bool = bool(self.marks) or any(pin.labels for pin in self.pins.values())
        """Whether anything in it has a label."""
        self.path: tuple[Mapping[str, Any], ...] = tuple(parent.get("path") or ())
        """Of a child task: the steps that it is part of, from the outermost one on."""
        self.settles: bool = bool(parent.get("settles"))
        """A child of what undoes or confirms a step. That is never held up by policy."""
        self.children: dict[StepId, dict[TaskId, Run]] = {}
        """Child tasks that are open, by step. Not journaled: kept by the driver."""
        self.priority: int = data.get("priority", DEFAULT_PRIORITY)
        self.by: str = data.get("by") or ""
        self.model: str | None = data.get("model")
        self.created_ms = self.updated_ms = submitted.at_ms
        seconds = self.budget.seconds
        self.budget_ends_ms: int | None = None if seconds is None else self.created_ms + round(seconds * 1000)
        """Unix milliseconds at which the budget's time is over."""
        ends = [each for each in (self.budget_ends_ms, self.deadline_ms) if each]
        self.ends_ms: int | None = min(ends, default=self.deadline_ms)
        """Unix milliseconds at which nobody waits any more, or the budget's time is over; None when neither."""
        self.sequence = submitted.sequence
        self.status = TaskStatus.SUBMITTED
        self.output: Any = None
        self.error: Mapping[str, Any] | None = None
        self.aborting: Mapping[str, Any] | None = None
        self.canceling: str | None = None
        self.reserved_cents = 0.0
        self.spent_cents = 0.0
        self.reserved_tokens = 0
        self.spent_tokens = 0
        self.reserved_minutes = 0.0
        self.spent_minutes = 0.0
        self.ready: dict[StepId, StepRun] = {}
        self.in_flight: dict[StepId, StepRun] = {}
        self.retrying: dict[StepId, StepRun] = {}
        self.asking: dict[StepId, StepRun] = {}
        self.held: dict[StepId, StepRun] = {}
        """Steps with which nothing more is tried before a person has chosen."""
        self.steps: dict[StepId, StepRun] = {}
        self._left = len(self.plan.steps)
        self._may_repeat = len(self.plan.steps) > 1
        self._calls: dict[tuple[AgentId, CapabilityName, str], int] = {}
        """How often each call was made: agent, capability, digest of the input."""
        self._blocking = dict(self.plan.need_counts)
        self._may_fail: frozenset[StepId] = frozenset()
        """Steps that what cannot be undone waits for; empty where there is no such thing."""
        self._before_barrier = 0
        """How many of those are not done."""
        self._fatal: Abort | None = None
        self._to_undo: list[StepRun] = []
        """Completed reversible calls, the last one at the end."""
        self._undoing: StepRun | None = None
        """The compensation under way."""
        self._to_confirm: list[StepRun] = []
        """Completed calls whose effect is only staged, the first one in front."""
        self._confirming: StepRun | None = None
        """The confirmation under way."""
        self.past_return = False
        """A confirmation was begun: from here the task only goes forward."""
        self._stuck: StepRun | None = None
        self._lay_out()

    # What has become possible

    def next(self) -> Iterator[Command]:
        """Commands for the state as it is. The driver turns each into events before it asks again."""
        if self.status.terminal:
            return
        if self.winding_down:
            yield from self._go_back()
        elif self._fatal is not None:
            yield self._fatal
        else:
            yield from self._go_forward()

    def _go_back(self) -> Iterator[Command]:
        """What was begun outside is finished first, because only then it is known what has to be undone."""
        for step in [step for step in self.ready.values() if not step.parked]:
            yield Start(step)
        if not (self.in_flight or self.ready or self.held or any(step.begun for step in self.retrying.values())):
            yield from self._unwind()

    def _go_forward(self) -> Iterator[Command]:
        """Each command is looked at again when its turn comes: the ones before it may have ended the plan. When they
        have lifted the barrier, whoever asks comes again, so that what waited for that has its turn in its place.
        """
        barred = self._before_barrier > 0
        for step in [step for step in self.ready.values() if not (step.parked or self.is_barred(step))]:
            if self._goes_on and step.id in self.ready:
                yield self.command(step)
            if barred and not self._before_barrier:
                return
        if not self._left and self._goes_on:
            yield from self._finalize()

    def _finalize(self) -> Iterator[Command]:
        """Everything that could fail is done. What was only staged becomes final, one after another."""
        if self._stuck is not None:
            yield self._end(self._stuck)
        elif (waiting := self._confirming) is not None:
            if waiting.status is StepStatus.WAITING and not waiting.parked:
                yield Start(waiting)
        elif self._to_confirm:
            yield Start(self._prepared_to_confirm(self._to_confirm[0]))
        else:
            yield Conclude(Kind.TASK_COMPLETED, {"output": self._answer(), "cost_cents": self.spent_cents})

    def is_barred(self, step: StepRun) -> bool:
        """What cannot be undone waits until all that may still fail is done, whether it depends on that or not."""
        waits = self._before_barrier > 0 and self.pin(step).effect is Effect.IRREVERSIBLE
        return waits and step.id not in self._carried

    @property
    def winding_down(self) -> bool:
        """No new step starts: the plan aborts, or somebody has canceled the task."""
        return self.aborting is not None or self.canceling is not None

    @property
    def fatal(self) -> Abort | None:
        """What the plan cannot live with, until it aborts."""
        return None if self.winding_down else self._fatal

    @property
    def _goes_on(self) -> bool:
        return self._fatal is None and not self.winding_down

    def scope(self, step: StepRun) -> "_Scope":
        return _Scope(self, step)

    @property
    def undoable(self) -> int:
        """Completed steps that an abort would undo."""
        return len(self._to_undo)

    @property
    def unfinished(self) -> int:
        """Calls of the plan, as far as they are known, that have not ended."""
        return self._left

    def can_afford(self, cents: float) -> bool:
        """Whether the budget covers this beside what is spent and reserved."""
        return self.budget_cents is None or _cents(self.spent_cents + self.reserved_cents + cents) <= self.budget_cents

    def made(self, agent: AgentId, step: StepRun) -> int:
        """How many other steps have made this very call. Members of a `for_each` do not count, since their list says
        how many there are; neither does undoing or confirming, nor another attempt.
        """
        return 0 if step.attempt or not step.is_top else self._calls.get((agent, step.call, step.input_digest), 0)

    def material(self, step: StepRun) -> Marks:
        """Labels of what goes into a step, and of what its handler has taken up so far."""
        if not self.labelled:
            return NO_MARKS
        if (settled := step.undoes or step.confirms) is not None:
            return joined(settled.carries, self._own(step))
        return joined(self._given(step), self._own(step))

    def answer_marks(self) -> Marks:
        """Labels of what the task came to. An end other than the planned one may be the doing of any step."""
        if not self.labelled:
            return NO_MARKS
        if self.status is TaskStatus.COMPLETED:
            return joined(self.marks, *(self.steps[step].carries for step in sorted(self.plan.answered_from)))
        return joined(self.marks, *(self.known_of(step) for step in self.steps.values()))

    def known_of(self, step: StepRun) -> Marks:
        """Labels of what it gave, when it is done; of what it works on before that."""
        return step.carries if step.done and not step.settles else self.material(step)

    def _given(self, step: StepRun) -> Marks:
        """Labels of what the plan makes it of: of its input, its condition, its list. A step that was skipped has
        labels too, those of what decided so.
        """
        made_of = self.plan.sources[(step.parent or step).id]
        return joined(self.marks, *(self.steps[each].carries for each in sorted(made_of)))

    def _own(self, step: StepRun) -> Marks:
        labels = [label for label in self._pin_labels(step) if label != OUTWARD]
        of_contract = marked(labels, f"contract {step.call}")
        return placed(joined(of_contract, step.taken), f"step {step.id}") if labels or step.taken else NO_MARKS

    def _pin_labels(self, step: StepRun) -> tuple[str, ...]:
        pin = self.pins.get(step.call)
        return pin.labels if pin is not None else ()

    def _carried_by(self, step: StepRun) -> Marks:
        members = [member.carries for member in step.members or ()]
        ran = step.attempt or step.inherited
        return joined(self._given(step), *members, self._own(step) if ran else NO_MARKS)

    def _takes(self, step: StepRun, marks: Marks) -> None:
        if marks:
            step.taken, self.labelled = joined(step.taken, marks), True

    def retry(self, step: StepRun) -> None:
        """Its waiting time is over."""
        if self.retrying.pop(step.id, None) is not None:
            step.status = StepStatus.WAITING
            if not step.settles:
                self.ready[step.id] = step

    @property
    def not_undone(self) -> list[StepRun]:
        """Completed steps that their compensation would undo, the last one first."""
        return list(reversed(self._to_undo))

    @property
    def waiting_for_person(self) -> bool:
        """Nothing else goes on. What cannot be undone and stands ready waits behind the same person; a step that has
        asked for child tasks waits when they do.
        """
        if self.retrying or not (self.asking or self.held or self.children):
            return False
        waiting = [self._waits_for_person(step) for step in self.in_flight.values()]
        if not (self.asking or self.held or waiting) or not all(waiting):
            return False
        return all(self.is_barred(step) for step in self.ready.values())

    def _waits_for_person(self, step: StepRun) -> bool:
        children = self.children.get(step.id)
        return bool(children) and all(child.waiting_for_person for child in children.values())

    @property
    def shown_status(self) -> TaskStatus:
        """The status with `input_required` as soon as a person is asked and nothing else is going on."""
        if self.status.terminal:
            return self.status
        return TaskStatus.INPUT_REQUIRED if self.waiting_for_person else self.status

    def pin(self, step: StepRun) -> Pin:
        return self.pins[step.call]

    def version(self, step: StepRun) -> str | None:
        """The contract version that an agent must offer to be given the step: the pinned one, or one that can stand in
        for it. None takes any.
        """
        pin = self.pins.get(step.call)
        if pin is None or (step.version and not satisfies(pin.version, step.version)):
            return step.version  # a plan may call two versions of one capability, and there is one pin
        return pin.version

    # The fold

    def apply(self, event: Event) -> None:
        """Takes in one event. Deterministic; an event that the state does not allow raises AssertionError."""
        assert not self.status.terminal, f"{event.kind} after {self.status}"
        self.updated_ms = event.at_ms
        self.sequence = event.sequence
        _APPLY[event.kind](self, event)

    def _step_of(self, event: Event) -> StepRun:
        assert event.step is not None
        return self.steps.get(event.step) or self._settling(event)

    def _expanded(self, event: Event) -> None:
        step = self._step_of(event)
        del self.ready[step.id]
        step.status = StepStatus.WORKING
        items = resolve(step.step.for_each, self.scope(step)) if step.step else []
        step.members = [self._member(step, i, item) for i, item in enumerate(items)]
        step.members_left = len(step.members)
        self._left += len(step.members)
        if not step.members:
            self._join(step)

    def _member(self, parent: StepRun, index: int, item: Any) -> StepRun:
        member = StepRun(StepId(f"{parent.id}[{index}]"), parent.call, parent.version, parent.step)
        member.parent, member.index, member.item = parent, index, item
        self.steps[member.id] = self.ready[member.id] = member
        return member

    def _skipped(self, event: Event) -> None:
        step = self._step_of(event)
        self.ready.pop(step.id, None)
        step.status, step.reason = StepStatus.SKIPPED, event.data["reason"]
        self._finish(step)

    def _inherited(self, event: Event) -> None:
        """It costs nothing here, and is never undone here: it belongs to the task that did it."""
        step = self._step_of(event)
        self.ready.pop(step.id, None)
        self._bind_input(step)
        step.inherited, step.agent = event.data, event.data["agent"]
        step.reason = f"inherited from {event.data['task']}"
        self._takes(step, marks_of(event.data.get("labels")))
        if (error := event.data["error"]) is None:
            step.status, step.output = StepStatus.COMPLETED, event.data["output"]
        else:
            step.status, step.error = StepStatus.FAILED, error
        self._finish(step)

    def _awarded(self, event: Event) -> None:
        self.status = TaskStatus.WORKING
        step = self._step_of(event)
        step.status, step.award, step.interrupted, step.waits = StepStatus.WORKING, event.data, False, ""
        if step.uncleared:
            step.uncleared = False
        step.agent, step.attempt = event.data["agent"], event.data["attempt"]
        self.ready.pop(step.id, None)
        self.retrying.pop(step.id, None)
        self.in_flight[step.id] = step
        self.past_return = self.past_return or step.confirms is not None
        self._bind_input(step)
        if step.attempt == 1 and self._may_repeat and step.is_top:
            call = (event.data["agent"], step.call, event.data["input"])
            self._calls[call] = self._calls.get(call, 0) + 1
        step.began_ms = step.began_ms or event.at_ms
        self._hold(step, _reserved(step))

    def _hold(self, step: StepRun, held: Reserved) -> None:
        """Replaces what is reserved for a step."""
        before = step.reserved
        if before is held:
            return
        step.reserved = held
        self.reserved_cents = _cents(self.reserved_cents + held.cents - before.cents)
        self.reserved_tokens += held.tokens - before.tokens
        self.reserved_minutes = _cents(self.reserved_minutes + held.minutes - before.minutes)

    def _charge(self, step: StepRun, cents: float, tokens: int = 0) -> None:
        """Settles what was reserved for an attempt."""
        self._hold(step, NOTHING_RESERVED)
        if not (cents or tokens):
            return
        self._pay(step, cents)
        step.model_tokens += tokens
        self.spent_tokens += tokens

    def _pay(self, step: StepRun, cents: float) -> None:
        step.charged_cents = _cents(step.charged_cents + cents)
        self.spent_cents = _cents(self.spent_cents + cents)

    def _bind_input(self, step: StepRun) -> None:
        """While replaying nobody asked for commands, so the input of an awarded step is bound here."""
        if step.input is ABSENT and step.step is not None:
            step.input = resolve(step.step.input, self.scope(step))

    def _interrupted(self, event: Event) -> None:
        step = self._step_of(event)
        step.interrupted, step.interruptions = True, step.interruptions + 1

    def _suspected(self, event: Event) -> None:
        self._step_of(event).deaths = event.data["deaths"]

    def _delegated(self, event: Event) -> None:
        step, data = self._step_of(event), event.data
        about = {
            "call": data["call"],
            "cents": data["cents"] or 0.0,
            "status": None,
            "attempt": step.attempt,
            "late": self.winding_down,
        }
        step.children = {**step.children, data["child"]: about}

    def _returned(self, event: Event) -> None:
        """What it cost is paid at once, out of what is reserved for the step's price."""
        step, data = self._step_of(event), event.data
        about = {**step.children[data["child"]], "cents": data["cost_cents"], "status": data["status"]}
        step.children = {**step.children, data["child"]: about}
        self._hold(step, step.reserved._replace(cents=max(0.0, _cents(step.reserved.cents - data["cost_cents"]))))
        self._pay(step, data["cost_cents"])
        step.minutes = _cents(step.minutes + data["minutes"])
        self.spent_minutes = _cents(self.spent_minutes + data["minutes"])

    def _completed(self, event: Event) -> None:
        step = self._landed(event)
        self._charge(step, max(0.0, _price(step) - step.charged_cents), event.data.get("model_tokens") or 0)
        step.status, step.output = StepStatus.COMPLETED, event.data["output"]
        step.latency_ms, step.error = event.data["latency_ms"], None
        if cents := event.data.get("model_cents"):
            step.model_cents = cents
        if labels := event.data.get("labels"):
            self._takes(step, marks_of(labels))
        self._did(step)

    def _did(self, step: StepRun) -> None:
        if step.undoes is not None:
            step.undoes.status, self._undoing = StepStatus.COMPENSATED, None
            self._to_undo.pop()
        elif step.confirms is not None:
            self._confirming = None
            self._to_confirm.pop(0)
        else:
            self._keep_for_undoing(step)
            self._finish(step)

    def _keep_for_undoing(self, step: StepRun) -> None:
        pin = self.pin(step)
        if pin.compensation is not None:
            self._to_undo.append(step)
        if pin.confirmation is not None:
            self._to_confirm.append(step)

    def _failed(self, event: Event) -> None:
        step = self._landed(event) if event.step in self.in_flight else self._step_of(event)
        self._charge(step, event.data.get("spent_cents") or 0.0, event.data.get("spent_tokens") or 0)
        self._went_wrong(step, event)
        if event.data["retry_at_ms"] is not None:
            step.status, step.retry_at_ms = StepStatus.RETRYING, event.data["retry_at_ms"]
            self.retrying[step.id] = step
            if event.data["error"].get("code") == NotCleared.code:
                step.uncleared, step.clearings, step.forgiven = True, step.clearings + 1, step.forgiven + 1
        else:
            self._give_up(step, event.data["error"])

    def _went_wrong(self, step: StepRun, event: Event) -> None:
        self.ready.pop(step.id, None)
        step.error = event.data["error"]
        agent, ids = event.data.get("agent"), (step.error or {}).get("ids", {})
        if agent and (step.error or {}).get("code") != NotCleared.code:
            step.failed_agents |= {agent}
        step.stay_with = ids.get("stay_with") or step.stay_with
        if labels := ids.get(IN_ERROR):
            self._takes(step, marks_of(labels))

    def _give_up(self, step: StepRun, error: Mapping[str, Any]) -> None:
        self.retrying.pop(step.id, None)
        step.status = StepStatus.FAILED
        if step.settles:
            self._stuck = step
            return
        if not (step.optional and _may_be_left_out(error)):
            self._fatal = self._fatal or Abort(error, step.id)
        self._finish(step)

    def _was_held(self, event: Event) -> None:
        was_in_flight = event.step in self.in_flight
        step = self._landed(event) if was_in_flight else self._step_of(event)
        spent = event.data.get("spent_cents") or 0.0
        kept = step.reserved._replace(cents=_cents(max(0.0, step.reserved.cents - spent)), tokens=0)
        self._charge(step, spent, event.data.get("spent_tokens") or 0)
        if was_in_flight and event.data["why"] == Why.OUTCOME_UNKNOWN:
            self._hold(step, kept)  # while nobody knows whether it was spent
        self._went_wrong(step, event)
        self.retrying.pop(step.id, None)
        step.status, step.held, step.held_ms = StepStatus.INPUT_REQUIRED, event.data, event.at_ms
        self.held[step.id] = step

    def _resumed(self, event: Event) -> None:
        """A person has chosen how a held step goes on."""
        step = self._step_of(event)
        del self.held[step.id]
        step.held, step.forgiven, step.resumed = None, step.attempt, event.data
        step.deaths, step.interruptions = min(step.deaths, SUSPICIOUS), min(step.interruptions, SUSPICIOUS)
        choice = Choice(event.data["choice"])
        if choice is Choice.GIVE_UP or (choice is Choice.NOT_HAPPENED and self.winding_down and not step.settles):
            self._hold(step, NOTHING_RESERVED)
            self._give_up(step, step.error or {})
        elif choice is Choice.BY_HAND:
            self._done_by_hand(step, event)
        else:
            step.ruling = event.data if choice.is_ruling else step.ruling
            self._waits_again(step)

    def _waits_again(self, step: StepRun) -> None:
        step.status = StepStatus.WAITING
        if not step.settles:
            self.ready[step.id] = step

    def _done_by_hand(self, step: StepRun, event: Event) -> None:
        """Somebody did it, or knows that it was done and with what outcome."""
        self._charge(step, max(0.0, _price(step) - step.charged_cents))
        step.status, step.error, step.output = StepStatus.COMPLETED, None, event.data.get("output")
        step.reason = f"done by hand, says {event.data['by']}"
        self._did(step)

    def _landed(self, event: Event) -> StepRun:
        return self.in_flight.pop(event.step)  # pyright: ignore[reportArgumentType]

    def _asked(self, event: Event) -> None:
        step = self._step_of(event)
        self.ready.pop(step.id, None)
        self.retrying.pop(step.id, None)
        step.status, step.asked, step.asked_ms = StepStatus.INPUT_REQUIRED, event.data, event.at_ms
        step.votes, self.asking[step.id] = (), step
        self._hold(step, _attention(event.data))

    def _voted(self, event: Event) -> None:
        step = self._step_of(event)
        step.votes = (*step.votes, event.data)
        self._spend_minutes(step)

    def _edited(self, event: Event) -> None:
        """Another input is another question: who has said yes has said it to the first one."""
        step, data = self._step_of(event), event.data
        changed = {name: data[name] for name in ("input", "digest", "rule", "terms", "material")}
        step.asked, step.input, step.edited, step.votes = {**(step.asked or {}), **changed}, data["input"], data, ()
        self._hold(step, _attention(data))

    def _escalated(self, event: Event) -> None:
        step = self._step_of(event)
        asked = step.asked or {}
        terms = asked["terms"]
        approvers = [*terms["approvers"], *event.data["to"]] if terms["approvers"] else []
        step.asked = {**asked, "terms": {**terms, "approvers": approvers, "escalate_ms": None}}

    def _decided(self, event: Event) -> None:
        step = self._step_of(event)
        del self.asking[step.id]
        if event.data["decision"] != "expired":
            self._spend_minutes(step)
        self._hold(step, NOTHING_RESERVED)
        step.approval, step.asked, step.status, step.uncleared = event.data, None, StepStatus.WAITING, False
        self.ready[step.id] = step

    def _spend_minutes(self, step: StepRun) -> None:
        """One decision of one person was made."""
        minutes = ((step.asked or {}).get("terms") or {}).get("minutes") or 0.0
        self._hold(step, step.reserved._replace(minutes=_cents(max(0.0, step.reserved.minutes - minutes))))
        step.minutes = _cents(step.minutes + minutes)
        self.spent_minutes = _cents(self.spent_minutes + minutes)

    def _aborting(self, event: Event) -> None:
        self.aborting = event.data["error"]
        self._drop_waiting()

    def _repinned(self, event: Event) -> None:
        """Other contracts have taken the place of those it was submitted under."""
        repinned = {CapabilityName(name): Pin.from_data(pin) for name, pin in event.data["pins"].items()}
        self.pins = {**self.pins, **repinned}
        self.labelled = self.labelled or any(pin.labels for pin in repinned.values())

    def _canceling(self, event: Event) -> None:
        self.canceling = event.data["reason"]
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Questions are void, and a step that failed is not tried again; unless it may have done something outside."""
        for steps in (self.ready, self.retrying, self.asking, self.held):
            for step in [step for step in steps.values() if not (step.begun and self.format > 1)]:
                step.status = StepStatus.FAILED if step.error else StepStatus.WAITING
                step.asked = step.held = None
                self._hold(step, NOTHING_RESERVED)
                del steps[step.id]
                if self.labelled:
                    step.carries = self._carried_by(step)
        if self._confirming is not None:  # it was only prepared: what is begun is not dropped any more
            del self.steps[self._confirming.id]
            self._confirming = None

    def _ended(self, event: Event) -> None:
        for step in self.in_flight.values():  # only of a task that tripped us up: what became of them nobody knows
            self._charge(step, step.reserved.cents)
        self.status = STATUS_OF[event.kind]
        self.output = event.data.get("output")
        self.error = event.data.get("error")

    # Moving on

    def _lay_out(self) -> None:
        for step in self.plan.steps:
            self.steps[step.id] = StepRun(step.id, step.call, step.version, step)
        for step_id, count in self._blocking.items():
            if not count:
                self.ready[step_id] = self.steps[step_id]
        barriers = [step.id for step in self.plan.steps if self.pins[step.call].effect is Effect.IRREVERSIBLE]
        if barriers:
            self._may_fail = frozenset(self.steps.keys() - self.plan.and_after(barriers))
            self._before_barrier = len(self._may_fail)

    def _finish(self, step: StepRun) -> None:
        self._left -= 1
        if self.labelled:
            step.carries = self._carried_by(step)
        if (parent := step.parent) is not None:
            parent.members_left -= 1
            if not parent.members_left:
                self._join(parent)
            return
        if step.id in self._may_fail:
            self._before_barrier -= 1
        for dependent in self.plan.dependents.get(step.id, ()):
            self._blocking[dependent] -= 1
            if not (self._blocking[dependent] or self.winding_down):
                self.ready[dependent] = self.steps[dependent]

    def _join(self, parent: StepRun) -> None:
        """A `for_each` is done with its last member; a member without output leaves a null in the list."""
        members = parent.members or []
        failed = not parent.optional and any(member.status is StepStatus.FAILED for member in members)
        parent.status = StepStatus.FAILED if failed else StepStatus.COMPLETED
        parent.output = [None if member.output is ABSENT else member.output for member in members]
        self._finish(parent)

    def command(self, step: StepRun) -> Command:
        """What a ready step wants. Binds its input."""
        try:
            return self._expansion(step) if _is_fan(step) else self._call(step)
        except MissingOutput as missing:
            return Skip(step, f"{missing} does not exist, because its step was skipped or refused")

    def _expansion(self, step: StepRun) -> Command:
        assert step.step is not None
        items = resolve(step.step.for_each, self.scope(step))
        if not isinstance(items, list) or len(items) > MAX_FAN_OUT:
            what = f"{len(items)} items" if isinstance(items, list) else type(items).__name__
            return Refuse(step, _wrong_fan(step, what))
        return Expand(step, len(items))

    def _call(self, step: StepRun) -> Command:
        if step.input is ABSENT and step.step is not None:
            scope = self.scope(step)
            if step.step.when is not None and not holds(step.step.when, scope):
                return Skip(step, "its condition is false")
            step.input = resolve(step.step.input, scope)
        carried = self.inherits.get(step.id)
        return Start(step) if carried is None else Inherit(step, carried)

    def _answer(self) -> Any:
        return resolve_or_null(self.plan.output, lambda root: self.look_up(root))

    def look_up(self, root: str) -> Any:
        if root == "input":
            return self.input
        step = self.steps.get(StepId(root))
        return step.output if step is not None else ABSENT

    # Going back

    def _unwind(self) -> Iterator[Command]:
        if self._stuck is not None:
            yield self._end(stuck=self._stuck)
        elif (waiting := self._undoing) is not None:
            if waiting.status is StepStatus.WAITING and not waiting.parked:
                yield Start(waiting)
        elif self._to_undo:
            yield Start(self._prepared_to_undo(self._to_undo[-1]))
        else:
            yield self._end()

    def _prepared_to_undo(self, step: StepRun) -> StepRun:
        made = self._undoing = self._settler(step, "~", self.pin(step).compensation)
        made.undoes, made.settles = step, True
        return made

    def _prepared_to_confirm(self, step: StepRun) -> StepRun:
        made = self._confirming = self._settler(step, "+", self.pin(step).confirmation)
        made.confirms, made.settles = step, True
        return made

    def _settler(self, step: StepRun, mark: str, named: Compensation | None) -> StepRun:
        """The call that undoes or confirms a step, bound to what went into it and what came out."""
        assert named is not None
        values = {"input": step.input, "output": step.output}
        made = StepRun(StepId(f"{step.id}{mark}"), named.capability, None, None)
        made.input = _bound(named.input, lambda root: values.get(root, ABSENT))
        self.steps[made.id] = made
        return made

    def _settling(self, event: Event) -> StepRun:
        """While replaying, the first event of a compensation or a confirmation makes its step run."""
        assert event.step is not None
        prepare = self._prepared_to_confirm if event.step.endswith("+") else self._prepared_to_undo
        return prepare(self.steps[StepId(event.step[:-1])])

    def _end(self, stuck: StepRun | None = None) -> Conclude:
        cost = {"cost_cents": self.spent_cents}
        if stuck is not None:
            return Conclude(Kind.TASK_FAILED, {"error": self._stuck_error(stuck).to_data(), **cost})
        if self.canceling is not None:
            return Conclude(Kind.TASK_CANCELED, {"reason": self.canceling, **cost})
        return Conclude(Kind.TASK_FAILED, {"error": self.aborting, **cost})

    def _stuck_error(self, stuck: StepRun) -> HanseError:
        """What is left standing of a saga that could not be brought to an end, and why."""
        if stuck.confirms is not None:
            staged = ", ".join(step.id for step in self._to_confirm)
            return ConfirmationFailed(
                f"the confirmation {stuck.id} ({stuck.call}) failed, so {staged} stay staged and not final. "
                "Confirm or cancel them by hand.",
                task=self.task,
                step=stuck.id,
                cause=stuck.error,
            )
        left = [step.id for step in reversed(self._to_undo)]
        return CompensationFailed(
            f"the compensation {stuck.id} ({stuck.call}) failed, so {', '.join(left)} stand as they are. "
            "Mend the cause and undo them by hand.",
            task=self.task,
            step=stuck.id,
            left=left,
            cause=stuck.error,
            aborted_by=self.aborting,
        )


class CompensationFailed(HanseError):
    """A plan was rolled back only in part."""

    code = "compensation_failed"


class ConfirmationFailed(HanseError):
    """What a plan had staged could be made final only in part."""

    code = "confirmation_failed"


class _Scope:
    """Gives templates the values they refer to, as seen from one step."""

    __slots__ = ("_run", "_step")

    def __init__(self, run: Run, step: StepRun) -> None:
        self._run = run
        self._step = step

    def __call__(self, root: str) -> Any:
        if root == "item":
            return self._step.item
        if root == "index":
            return self._step.index
        return self._run.look_up(root)


def fold(events: Iterator[Event]) -> Run | None:
    """The run of a task's events, or None when there are none."""
    first = next(events, None)
    if first is None:
        return None
    run = Run(first)
    for event in events:
        run.apply(event)
    return run


def _is_fan(step: StepRun) -> bool:
    return step.step is not None and step.step.for_each is not None and step.parent is None


def _bound(template: Mapping[str, Any], scope: Scope) -> JsonObject:
    """The input of a compensation or a confirmation. What the step left to its defaults, that leaves to its own."""
    bound: JsonObject = {}
    for name, value in template.items():
        with suppress(MissingOutput):
            bound[name] = resolve(value, scope)
    return bound


def _price(step: StepRun) -> float:
    """What the task pays. Undoing and confirming is never held up, so it cannot be at the expense of a budget that may
    be used up: their price is part of that of the step.
    """
    return 0.0 if step.settles else step.award["price_cents"]


def _budget_of(data: Mapping[str, Any]) -> Budget:
    """`FREE` itself where nothing is limited: most tasks, and it is asked for every step."""
    cents, beside = data.get("budget_cents"), data.get("budget")
    return FREE if cents is None and not beside else Budget(cents=cents, **(beside or {}))


def _attention(asked: Mapping[str, Any]) -> Reserved:
    """What a question reserves of people's time. Before questions had terms it was nothing."""
    terms = asked.get("terms") or {}
    return Reserved(minutes=_cents(terms["minutes"] * terms["quorum"]), day=terms["day"]) if terms else NOTHING_RESERVED


def _reserved(step: StepRun) -> Reserved:
    """What an award reserves. Before awards said so it was the price."""
    reserved = step.award.get("reserved")
    if reserved is None:
        missing = _cents(max(0.0, _price(step) - step.charged_cents))
        return Reserved(cents=missing) if missing else NOTHING_RESERVED
    return Reserved(reserved["cents"], reserved["tokens"] or 0, day=reserved["day"])


def _cents(sum: float) -> float:
    """To a millionth of a cent, so that adding and taking away tenths leaves nothing over."""
    return round(sum, 6)


def _may_be_left_out(error: Mapping[str, Any]) -> bool:
    return error.get("branch") in ("policy", "permanent")


def _wrong_fan(step: StepRun, what: str) -> HanseError:
    return InvalidPlan(f"for_each of {step.id} must be a list of at most {MAX_FAN_OUT} items, not {what}", step=step.id)


STATUS_OF = {
    Kind.TASK_COMPLETED: TaskStatus.COMPLETED,
    Kind.TASK_FAILED: TaskStatus.FAILED,
    Kind.TASK_CANCELED: TaskStatus.CANCELED,
}

_APPLY = {
    Kind.TASK_REPINNED: Run._repinned,
    Kind.TASK_CANCELING: Run._canceling,
    Kind.TASK_ABORTING: Run._aborting,
    Kind.TASK_COMPLETED: Run._ended,
    Kind.TASK_FAILED: Run._ended,
    Kind.TASK_CANCELED: Run._ended,
    Kind.STEP_EXPANDED: Run._expanded,
    Kind.STEP_SKIPPED: Run._skipped,
    Kind.STEP_INHERITED: Run._inherited,
    Kind.STEP_AWARDED: Run._awarded,
    Kind.STEP_DELEGATED: Run._delegated,
    Kind.STEP_RETURNED: Run._returned,
    Kind.STEP_INTERRUPTED: Run._interrupted,
    Kind.STEP_SUSPECTED: Run._suspected,
    Kind.STEP_COMPLETED: Run._completed,
    Kind.STEP_FAILED: Run._failed,
    Kind.STEP_HELD: Run._was_held,
    Kind.STEP_RESUMED: Run._resumed,
    Kind.APPROVAL_REQUESTED: Run._asked,
    Kind.APPROVAL_VOTED: Run._voted,
    Kind.APPROVAL_EDITED: Run._edited,
    Kind.APPROVAL_ESCALATED: Run._escalated,
    Kind.APPROVAL_DECIDED: Run._decided,
}
