"""Replay: a task's journal, read again by somebody who does not take its word for anything that was decided here.

A journal holds two kinds of things. What came from outside is *given*: what an agent answered, what a person said,
that a link broke. What the coordinator made of it is *decided*, and is decided again: which step may start and with
which input, who wins the auction and why, what is skipped, expanded, tried again, asked, undone, and how the task ends
and what it cost. Each event is compared with what these same pure functions (`execution`, `negotiation`) say at that
place. No agent is called, no model, nothing is written. The first event that is not what it had to be ends the replay.

What a release cannot see is not held against a journal: figures that older ones did not write (the weights of an
auction, the limit of attempts) are taken at what they meant then.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..contracts import (
    Bid,
    Event,
    HanseError,
    InvalidInput,
    InvalidPlan,
    JsonObject,
    Kind,
    Plan,
    StepId,
    Verdict,
)
from ..contracts.holding import CHOICES, Why
from ..contracts.ids import approval_id, award_id
from ..contracts.labels import joined, noted, to_data
from ..contracts.plain import check as check_plain
from ..contracts.schema import canonical, digest
from ..contracts.template import ABSENT
from ..contracts.views import ApprovalStatus, Divergence, ReplayReport
from ..contracts.wire import decode_event, encode_event
from .execution import Abort, Command, Conclude, Expand, Inherit, Refuse, Run, Skip, Start, StepRun
from .holds import may_ask, why_held, worth_another_try
from .negotiation import Weights, decide
from .questions import Questions

BROKEN = "the coordinator cannot go on with this task"
"""How the error begins that ends a task which trips the coordinator up. What tripped it may be mended since."""
_MISSING = object()
_UNREADABLE = (AssertionError, LookupError, TypeError, ValueError, AttributeError, OverflowError, HanseError)
"""What a fold, or whoever reads an event's data, raises for what cannot be."""


class Replay:
    """One task, event by event, up to the first one that diverges."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.events = 0
        self.decided = 0
        """Events that were decided again, and came out the same. Of the others only their place was judged."""
        self.divergence: Divergence | None = None
        self._state = bytes(32)
        self._due: dict[StepId, Command] = {}
        """What the plan does without waiting for anything, in its order: skip, expand, refuse."""
        self._known: set[StepId] = set()
        self._barred: set[StepId] = set()
        self._sequence = 0

    def take(self, event: Event, entry: bytes | None = None) -> bool:
        """Reads the next event; `entry` is it as it stands in the journal. False when it is not what it had to be, and
        from then on.
        """
        if self.divergence is None:
            try:
                self._take(event, entry)
            except _Diverged as found:
                self.divergence = found.at(event.sequence, str(event.kind), event.step)
            except _UNREADABLE as error:  # data of any shape may stand there
                found = _Diverged("data", "data that can be read", f"{type(error).__name__}: {error}")
                self.divergence = found.at(event.sequence, str(event.kind), event.step)
        return self.divergence is None

    def end(self) -> "Replay":
        """There is no further event. What the plan would do now without waiting for anybody must not be missing."""
        if self.divergence is None and (missing := self._missing()):
            self.divergence = missing.at(self._sequence + 1, "", None)
        return self

    def report(self) -> ReplayReport:
        return ReplayReport(
            task=self.run.task if self.run else "",
            ok=self.divergence is None,
            status=str(self.run.status) if self.run else "",
            events=self.events,
            decided=self.decided,
            state=self.state,
            divergence=self.divergence,
        )

    @property
    def state(self) -> str:
        """SHA-256 in hex over what the run was after each event, one after the other, and what it is now."""
        whole = [_step_state(step) for step in self.run.steps.values()] if self.run else []
        return hashlib.sha256(self._state + canonical(whole)).hexdigest()

    # One event

    def _take(self, event: Event, entry: bytes | None) -> None:
        if entry is not None and encode_event(event) != entry:
            raise _Diverged("bytes", encode_event(event).hex(), entry.hex())
        if self.run is None:
            self._begin(event)
        else:
            self._go_on(self.run, event)
        self.events, self._sequence = self.events + 1, event.sequence
        self._look()
        self._mark(event)

    def _begin(self, event: Event) -> None:
        _same("kind", str(Kind.TASK_SUBMITTED), str(event.kind))
        try:
            plan = Plan.parse(event.data["plan"])
            _same("plan", plan.data, event.data["plan"])
            self.run = Run(event, plan)
        except (InvalidPlan, LookupError, TypeError, ValueError) as error:
            raise _Diverged("plan", "a plan that can be read", str(error)) from error
        self.decided += 1

    def _go_on(self, run: Run, event: Event) -> None:
        _same("task", run.task, event.task)
        if event.sequence <= self._sequence:
            raise _Diverged("sequence", f"above {self._sequence}", event.sequence)
        if run.status.terminal:
            raise _Diverged("kind", f"nothing, for the task has ended as {run.status}", str(event.kind))
        self._in_turn(run, event)
        self._decide(run, event)
        try:
            run.apply(event)
        except _UNREADABLE as error:
            raise _Diverged(
                "state", "an event that the task's state allows", f"{type(error).__name__}: {error}"
            ) from error
        self._due.pop(_step(event), None)
        self._known.discard(_step(event))

    def _in_turn(self, run: Run, event: Event) -> None:
        """What the plan does by itself comes before anything from outside, as it did when it was first done."""
        due = self._next(run)
        if due is None or _is_break(event) or _does(due, event):
            return
        if isinstance(due, (Abort, Conclude)) or event.kind not in _STARTS or not self._stands_before(due, event):
            raise _Diverged("kind", _words(due), _said(event))

    def _stands_before(self, due: Command, event: Event) -> bool:
        """Whether the event's step had its turn before the one that does something by itself."""
        assert self.run is not None and not isinstance(due, (Abort, Conclude))  # noqa: PT018
        for name in self.run.ready:
            if name == due.step.id or name == event.step:
                return name == event.step
        return False

    def _decide(self, run: Run, event: Event) -> None:
        """Compares what this event decides with what is decided now."""
        derive = _DERIVED.get(event.kind)
        if derive is None:
            return
        for name, expected in derive(self, run, event).items():
            _same(name, expected, event.data.get(name, _MISSING))
        self.decided += event.kind not in _GIVEN

    def _next(self, run: Run) -> Command | None:
        """What must come next because nobody has to be waited for. None while something is waited for."""
        if run.winding_down or not run.ready:
            command = next(run.next(), None)
            return command if isinstance(command, (Abort, Conclude)) else None
        fatal = run.fatal
        return fatal if fatal is not None else next(iter(self._due.values()), None)

    def _look(self) -> None:
        """Steps that have become ready stand at the end, so this looks at those alone."""
        assert self.run is not None
        if not self.run.ready or (self._barred and not any(map(self._is_barred, self._barred))):
            self._due.clear()
            self._known.clear()
            self._barred.clear()
        fresh: list[StepId] = []
        for name in reversed(self.run.ready):
            if name in self._known:
                break
            fresh.append(name)
        for name in reversed(fresh):
            self._known.add(name)
            if self._is_barred(name):
                self._barred.add(name)
                continue
            command = self.run.command(self.run.ready[name])
            if not isinstance(command, Start):
                self._due[name] = command

    def _is_barred(self, name: StepId) -> bool:
        """Whether it must wait although it is ready. When that is over, its turn is that of its place."""
        run = self.run
        assert run is not None
        return run.format > 1 and name in run.ready and run.is_barred(run.ready[name])

    def _missing(self) -> "_Diverged | None":
        if self.run is None:
            return _Diverged("kind", str(Kind.TASK_SUBMITTED), "nothing")
        due = None if self.run.status.terminal else self._next(self.run)
        return _Diverged("kind", _words(due), "the end of the journal") if due is not None else None

    def _mark(self, event: Event) -> None:
        run = self.run
        assert run is not None
        step = run.steps.get(event.step) if event.step else None
        now = [event.sequence, _run_state(run), step and _step_state(step)]
        self._state = hashlib.sha256(self._state + canonical(now)).digest()

    # What is decided

    def _expanded(self, run: Run, event: Event) -> JsonObject:
        command = self._command(run, event, Expand)
        return {"count": command.count}

    def _skipped(self, run: Run, event: Event) -> JsonObject:
        return {"reason": self._command(run, event, Skip).reason}

    def _inherited(self, run: Run, event: Event) -> JsonObject:
        return dict(self._command(run, event, Inherit).data)

    def _command(self, run: Run, event: Event, kind: type) -> Any:
        step = run.ready.get(_step(event))
        if step is None:
            raise _Diverged("step", "one that is ready", event.step)
        command = run.command(step)
        if not isinstance(command, kind):
            raise _Diverged("kind", _words(command), _said(event))
        return command

    def _awarded(self, run: Run, event: Event) -> JsonObject:
        step = self._startable(run, event)
        _check_plain(step)
        if error := Questions.objection(run, step):
            raise _Diverged("kind", f"step.failed {step.id}: {error.code}", _said(event))
        decision = decide(_bids(event), _weights(event), avoid=step.failed_agents)
        winner = decision.winner
        if winner is None:
            raise _Diverged("agent", f"nobody: {decision.reason}", event.data.get("agent"))
        if not (step.settles or run.can_afford(winner.price_cents - step.reserved.cents - step.charged_cents)):
            raise _Diverged("price_cents", f"within the budget of {run.budget_cents:g} cents", winner.price_cents)
        if step.stay_with is not None:
            _same("agent", step.stay_with, winner.agent)
        attempt, approval = step.attempt + 1, step.approval
        return (
            {
                "agent": winner.agent,
                "version": winner.version,
                "attempt": attempt,
                "award": award_id(run.task, step.id, attempt),
                "price_cents": winner.price_cents,
                "reason": decision.reason,
                "input": digest(step.input),
                "approval": approval["approval"] if approval else None,
            }
            | ({"rule": approval["rule"]} if approval else {})
            | _labels(run, step)
        )

    def _startable(self, run: Run, event: Event) -> StepRun:
        """The step, which may start now: ready, or the next to be undone or confirmed, or to be tried again by now."""
        name = _step(event)
        if name in run.retrying:
            run.retry(run.retrying[name])
        if name in run.ready:
            wanted = [] if name in self._due or self._is_barred(name) else [run.ready[name]]
        else:
            wanted = [command.step for command in run.next() if isinstance(command, Start)]
        step = next((each for each in wanted if each.id == name), None)
        if step is None:
            may = ", ".join(each.id for each in wanted) or "nothing that is not under way already"
            raise _Diverged("step", may, event.step)
        if step.input is ABSENT:
            run.command(step)  # binds it
        return step

    def _asked(self, run: Run, event: Event) -> JsonObject:
        step = self._startable(run, event)
        marks = run.material(step)
        known = (step.approval or {}).get("labels") or {}
        if step.settles or (step.approval is not None and not step.uncleared and marks.keys() <= known.keys()):
            raise _Diverged("kind", "no question: undoing is never held up, and nothing is asked twice", _said(event))
        return {
            "approval": approval_id(run.task, step.id),
            "capability": step.call,
            "input": step.input,
            "digest": digest(step.input),
        } | noted(marks)

    def _decided(self, run: Run, event: Event) -> JsonObject:
        step = run.asking.get(_step(event))
        if step is None or step.asked is None:
            raise _Diverged("step", "one that a person was asked about", event.step)
        if event.data.get("decision") not in _DECISIONS:
            raise _Diverged("decision", " or ".join(_DECISIONS), event.data.get("decision"))
        return {name: step.asked[name] for name in ("approval", "digest", "rule")}

    def _voted(self, run: Run, event: Event) -> JsonObject:
        """A yes of several, a changed input, or a question that was passed on: what people did about an open one."""
        step = run.asking.get(_step(event))
        if step is None or step.asked is None:
            raise _Diverged("step", "one that a person was asked about", event.step)
        about = {"approval": step.asked["approval"]}
        if event.kind is Kind.APPROVAL_VOTED:
            return about | {"digest": step.asked["digest"]}
        if event.kind is Kind.APPROVAL_EDITED:
            return about | {"was": step.asked["digest"], "digest": digest(event.data["input"])}
        return about

    def _landed(self, run: Run, event: Event) -> JsonObject:
        step = run.in_flight.get(_step(event))
        if step is None:
            raise _Diverged("step", "one that is under way", event.step)
        return {"agent": step.agent, "attempt": step.attempt}

    def _delegated(self, run: Run, event: Event) -> JsonObject:
        return {"agent": self._landed(run, event)["agent"]}

    def _returned(self, run: Run, event: Event) -> JsonObject:
        step = run.steps.get(_step(event))
        open_ones = [child for child, about in (step.children if step else {}).items() if about["status"] is None]
        if event.data.get("child") not in open_ones:
            raise _Diverged("child", " or ".join(open_ones) or "none that is open", event.data.get("child"))
        return {}

    def _failed(self, run: Run, event: Event) -> JsonObject:
        return _verdict(run, self._went_wrong(run, event), event)

    def _held(self, run: Run, event: Event) -> JsonObject:
        step = self._went_wrong(run, event)
        why = event.data.get("why")
        if why != Why.POISONED:  # how often an agent died under it is known to the coordinator alone
            _same("why", why_held(run, step, HanseError.from_data(event.data["error"])), why)
        _same("choices", [str(choice) for choice in CHOICES[Why(why)]], list(event.data.get("choices") or ()))
        return {}

    def _resumed(self, run: Run, event: Event) -> JsonObject:
        step = run.held.get(_step(event))
        if step is None or step.held is None:
            raise _Diverged("step", "one that was held", event.step)
        if event.data.get("choice") not in step.held["choices"]:
            raise _Diverged("choice", " or ".join(step.held["choices"]), event.data.get("choice"))
        return {}

    def _went_wrong(self, run: Run, event: Event) -> StepRun:
        """The step that could not be done, with who tried and why not as far as that is known."""
        if (step := run.in_flight.get(_step(event))) is not None:
            who = {"agent": step.agent, "attempt": step.attempt}
        else:
            step, error = self._unstarted(run, event)
            who = {"agent": None, "attempt": step.attempt} | ({"error": error.to_data()} if error else {})
        for name, expected in who.items():
            _same(name, expected, event.data.get(name, _MISSING))
        return step

    def _unstarted(self, run: Run, event: Event) -> tuple[StepRun, HanseError | None]:
        """A step that never came to an award, and why as far as the plan says it: else its bids were not written."""
        if (due := self._due.get(_step(event))) is not None:
            if not isinstance(due, Refuse):
                raise _Diverged("kind", _words(due), _said(event))
            return due.step, due.error
        step = self._startable(run, event)
        error = _not_plain(step) or Questions.objection(run, step)
        if error is None and _code(event) not in _UNSTARTED:
            raise _Diverged("error", " or ".join(sorted(_UNSTARTED)), _code(event))
        return step, error

    def _aborting(self, run: Run, event: Event) -> JsonObject:
        _check_goes_on(run, event)
        if (due := self._next(run)) is not None and not _is_break(event):
            assert isinstance(due, Abort)
            return {"error": due.error, "step": due.step}
        if not _is_break(event) and (_code(event) not in _OUT_OF_TIME):
            raise _Diverged("error", "a failure of a step before it, or a deadline that passed", _code(event))
        return {"step": None}

    def _canceling(self, run: Run, event: Event) -> JsonObject:
        _check_goes_on(run, event)
        return {}

    def _ended(self, run: Run, event: Event) -> JsonObject:
        due = self._next(run)
        if (run.winding_down or run.past_return) and _is_break(event):
            return {"cost_cents": run.spent_cents}
        if not isinstance(due, Conclude):
            raise _Diverged("kind", _words(due) if due else "something that is waited for", _said(event))
        return due.data


def replay(rows: Iterable[tuple[int, bytes, bytes]]) -> Replay:
    """The entries of one task, as the store gives them. Raises Corrupt for what is no entry."""
    found = Replay()
    for _, entry, _ in rows:
        if not found.take(decode_event(entry), entry):
            return found
    return found.end()


class _Diverged(Exception):
    """What had to be, and what is."""

    def __init__(self, what: str, expected: Any, found: Any) -> None:
        super().__init__(what)
        self._what, self._expected, self._found = what, expected, found

    def at(self, sequence: int, kind: str, step: str | None) -> Divergence:
        return Divergence(
            sequence=sequence,
            kind=kind,
            step=step,
            what=self._what,
            expected=self._expected,
            found=None if self._found is _MISSING else self._found,
        )


def _step(event: Event) -> StepId:
    """The step that an event is about; a name that no step has, when it is about none."""
    return event.step or StepId("")


def _same(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise _Diverged(what, expected, found)


def _check_goes_on(run: Run, event: Event) -> None:
    if run.winding_down:
        raise _Diverged("kind", "no further reason to end: the task winds down already", _said(event))
    if run.past_return:
        raise _Diverged("kind", "nothing that ends it: what was staged is being made final", _said(event))


def _verdict(run: Run, step: StepRun, event: Event) -> JsonObject:
    """Whether it is tried again. When is drawn by lot; how often it may be is what the contract said then."""
    limit, again = event.data.get("max_attempts"), event.data.get("retry_at_ms") is not None
    if limit is None:
        return _old_verdict(run, step, event)
    error = HanseError.from_data(event.data["error"])
    may = worth_another_try(run, step, error, event.data.get("retry_on"))
    if again != (may_ask(run, step, error) or (may and step.attempts_that_count < limit)):
        count = f"this is number {step.attempts_that_count} of {limit}" if may else "nothing could come of it"
        wanted = "no further attempt" if again else "another attempt"
        raise _Diverged("retry_at_ms", f"{wanted}: {count}", event.data.get("retry_at_ms"))
    if not again and (why := why_held(run, step, error)) is not None:
        raise _Diverged("kind", f"step.held {step.id}: {why}", _said(event))
    return {}


def _old_verdict(run: Run, step: StepRun, event: Event) -> JsonObject:
    """Before the limit was written down, and before anything was held."""
    hopeless = step.undoes is None and run.winding_down
    final = HanseError.from_data(event.data["error"]).verdict not in _AGAIN
    return {"retry_at_ms": None} if hopeless or final else {}


def _bids(event: Event) -> list[Bid]:
    try:
        return [Bid.from_data(bid) for bid in event.data.get("bids") or ()]
    except (TypeError, AttributeError) as error:
        raise _Diverged("bids", "bids that can be read", str(error)) from error


def _labels(run: Run, step: StepRun) -> JsonObject:
    """What an award says of the data. Which of it may go outward is policy's, and given."""
    marks = run.material(step)
    return {"labels": sorted(marks)} if marks else {}


def _weights(event: Event) -> Weights:
    recorded = event.data.get("weights")
    return Weights(**recorded) if recorded else Weights.unrecorded()


def _check_plain(step: StepRun) -> None:
    if error := _not_plain(step):
        raise _Diverged("kind", f"step.failed {step.id}: {error.code}", str(Kind.STEP_AWARDED))


def _not_plain(step: StepRun) -> InvalidInput | None:
    """Why what the input has become cannot be sent."""
    try:
        check_plain(step.input)
    except InvalidInput as error:
        return error
    return None


def _is_break(event: Event) -> bool:
    """Whether the coordinator was tripped up here by a fault of its own, which nobody can derive."""
    detail = (event.data.get("error") or {}).get("detail", "") if event.kind in _BREAKS else ""
    return isinstance(detail, str) and detail.startswith(BROKEN) and _code(event) == "failed"


def _code(event: Event) -> Any:
    return (event.data.get("error") or {}).get("code")


def _does(command: Command, event: Event) -> bool:
    """Whether this is the event that the command is turned into. What it says is compared later."""
    match command:
        case Skip(step, _):
            return (event.kind, event.step) == (Kind.STEP_SKIPPED, step.id)
        case Inherit(step, _):
            return (event.kind, event.step) == (Kind.STEP_INHERITED, step.id)
        case Expand(step, _):
            return (event.kind, event.step) == (Kind.STEP_EXPANDED, step.id)
        case Refuse(step, _):
            return (event.kind, event.step) == (Kind.STEP_FAILED, step.id)
        case Abort():
            return event.kind is Kind.TASK_ABORTING
        case Conclude(kind, _):
            return event.kind is kind
    return False


def _words(command: Command) -> str:
    match command:
        case Abort(error, step):
            return f"task.aborting for {step}: {error.get('code')}"
        case Conclude(kind, _):
            return str(kind)
        case Skip(step, reason):
            return f"step.skipped {step.id}: {reason}"
        case Inherit(step, _):
            return f"step.inherited {step.id}"
        case Expand(step, count):
            return f"step.expanded {step.id}: {count} members"
        case Refuse(step, error):
            return f"step.failed {step.id}: {error.code}"
        case Start(step):
            return f"an award of {step.id}, or a question about it"


def _said(event: Event) -> str:
    return f"{event.kind} {event.step}" if event.step else str(event.kind)


def _run_state(run: Run) -> list[Any]:
    """What a run is as a whole. What later releases add to a run is not in it, so that its hash stays."""
    return [
        str(run.status),
        run.canceling,
        run.aborting,
        run.reserved_cents,
        run.spent_cents,
        [len(each) for each in (run.in_flight, run.retrying, run.asking, run.held)],
        run.output,
        run.error,
    ]


def _step_state(step: StepRun) -> list[Any]:
    """What one step is. An input that is only a remembered calculation so far is not in it."""
    return [
        step.id,
        str(step.status),
        step.call,
        step.attempt,
        step.agent,
        step.interrupted,
        _there(step.input) if step.attempt or step.asked else [],
        _there(step.output),
        step.error,
        step.retry_at_ms,
        sorted(step.failed_agents),
        step.stay_with,
        step.reason,
        None if step.members is None else [member.id for member in step.members],
        step.approval and [step.approval["decision"], step.approval["digest"]],
        step.held and step.held["why"],
        *([to_data(joined(step.taken, step.carries))] if step.taken or step.carries else []),
    ]


def _there(value: Any) -> list[Any]:
    return [] if value is ABSENT else [value]


_AGAIN = frozenset({Verdict.RETRY, Verdict.REAUCTION, Verdict.RECONCILE})
_STARTS = frozenset({Kind.STEP_AWARDED, Kind.STEP_FAILED, Kind.STEP_HELD, Kind.APPROVAL_REQUESTED})
_BREAKS = frozenset({Kind.TASK_ABORTING, Kind.TASK_FAILED})
_GIVEN = frozenset(
    {
        Kind.STEP_DELEGATED,
        Kind.STEP_RETURNED,
        Kind.STEP_INTERRUPTED,
        Kind.STEP_COMPLETED,
        Kind.STEP_RESUMED,
        Kind.APPROVAL_DECIDED,
        Kind.APPROVAL_VOTED,
        Kind.APPROVAL_EDITED,
        Kind.APPROVAL_ESCALATED,
        Kind.TASK_CANCELING,
    }
)
"""What comes from outside: only its place is judged, and what it is about."""
_UNSTARTED = frozenset({"refused", "budget_exhausted", "not_allowed"})
"""Why a step may fail without an award: bids that were not written down were too dear, or there were none, or a rule
refused it."""
_OUT_OF_TIME = frozenset({"deadline_exceeded", "budget_exhausted"})
_DECISIONS = (str(ApprovalStatus.APPROVED), str(ApprovalStatus.DENIED), str(ApprovalStatus.EXPIRED))
_DERIVED: Mapping[Kind, Callable[[Replay, Run, Event], JsonObject]] = {
    Kind.STEP_EXPANDED: Replay._expanded,
    Kind.STEP_SKIPPED: Replay._skipped,
    Kind.STEP_INHERITED: Replay._inherited,
    Kind.STEP_AWARDED: Replay._awarded,
    Kind.STEP_DELEGATED: Replay._delegated,
    Kind.STEP_RETURNED: Replay._returned,
    Kind.STEP_INTERRUPTED: Replay._landed,
    Kind.STEP_COMPLETED: Replay._landed,
    Kind.STEP_FAILED: Replay._failed,
    Kind.STEP_HELD: Replay._held,
    Kind.STEP_RESUMED: Replay._resumed,
    Kind.APPROVAL_REQUESTED: Replay._asked,
    Kind.APPROVAL_DECIDED: Replay._decided,
    Kind.APPROVAL_VOTED: Replay._voted,
    Kind.APPROVAL_EDITED: Replay._voted,
    Kind.APPROVAL_ESCALATED: Replay._voted,
    Kind.TASK_ABORTING: Replay._aborting,
    Kind.TASK_CANCELING: Replay._canceling,
    Kind.TASK_COMPLETED: Replay._ended,
    Kind.TASK_FAILED: Replay._ended,
    Kind.TASK_CANCELED: Replay._ended,
}
