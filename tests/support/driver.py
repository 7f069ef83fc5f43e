"""Drives a `Run` the way a coordinator may, with every choice left to whoever plays: Hypothesis, or a seed.

The driver has no opinion of its own. It does what the commands say, or parks them, lets steps land one way or another,
asks people, cancels; and it keeps the events, so that the referee can judge them and a second run can be folded from
them.
"""

from typing import Any

from hanse.contracts import Epoch, Event, Kind, Sequence, StepId, TaskId, digest
from hanse.contracts.holding import CHOICES, Why
from hanse.runtime.execution import Abort, Command, Conclude, Expand, Refuse, Run, Skip, Start, StepRun

from .plans import Choose, output

TASK = TaskId("task")
ERRORS = {
    "refused": "policy",
    "invalid_input": "permanent",
    "budget_exhausted": "budget_exhausted",
    "contract_breach": "contract_breach",
    "unavailable": "transient",
    "outcome_unknown": "outcome_unknown",
}
"""Code and branch of what a step may fail with."""


class Driver:
    def __init__(self, data: dict[str, Any], choose: Choose) -> None:
        self._choose = choose
        self.events: list[Event] = []
        self.due: set[str] = set()
        """Steps whose time to be tried again has come, and which have not been."""
        self.run = Run(self._event(Kind.TASK_SUBMITTED, None, data))

    def record(self, kind: Kind, step: StepRun | None, data: dict[str, Any]) -> None:
        event = self._event(kind, step.id if step else None, data)
        self.run.apply(event)
        self.due.discard(str(event.step))

    def _event(self, kind: Kind, step: StepId | None, data: dict[str, Any]) -> Event:
        number = len(self.events) + 1
        event = Event(Sequence(number), Epoch(1), number, kind, TASK, step, data)
        self.events.append(event)
        return event

    # What the commands say

    def advance(self) -> None:
        """Until nothing more is possible, in the order that the run gives."""
        moved = True
        while moved and not self.run.status.terminal:
            moved = False
            for command in self.run.next():
                self.do(command)
                moved = True

    def do(self, command: Command) -> None:
        match command:
            case Start(step):
                self._start(step)
            case Skip(step, reason):
                self.record(Kind.STEP_SKIPPED, step, {"reason": reason})
            case Refuse(step, error):
                self._fail(step, error.to_data(), None, None)
            case Expand(step, count):
                self.record(Kind.STEP_EXPANDED, step, {"count": count})
            case Abort(error, about):
                self.record(Kind.TASK_ABORTING, None, {"error": error, "step": about})
            case Conclude(kind, data):
                self.record(kind, None, data)

    def _start(self, step: StepRun) -> None:
        if step.approval is not None and step.approval["decision"] != "approved":
            self._fail(step, {"code": "approval_denied", "branch": "policy"}, None, None)
            return
        options = ["award"] * 16 + ["park", "park", "fail"] + ["ask"] * self._may_ask(step)
        match self._choose(options):
            case "award":
                self._award(step)
            case "park":
                step.parked = True
            case "fail":
                self._fail(step, self._error() | {"ids": {}}, None, self._retry_at(step))
            case "ask":
                asked = {"approval": f"{TASK}:{step.id}", "digest": digest(step.input), "input": step.input}
                self.record(Kind.APPROVAL_REQUESTED, step, {**asked, "rule": "r", "expires_ms": None})

    def _may_ask(self, step: StepRun) -> bool:
        return step.approval is None and not (step.settles or step.attempt or self.run.winding_down)

    def _award(self, step: StepRun) -> None:
        price = self._choose([0, 0, 0, 0.1, 0.2, 1])
        missing = max(0.0, price - step.charged_cents)
        own = step.budget.cents if step.budget else None
        affordable = self.run.can_afford(missing - step.reserved.cents) and (own is None or price <= own)
        if not (step.settles or affordable):
            self._fail(step, {"code": "budget_exhausted", "branch": "budget_exhausted"}, None, None)
            return
        attempt = step.attempt + 1
        data = {
            "agent": self._choose(["one", "two"]),
            "attempt": attempt,
            "award": f"{TASK}/{step.id}#{attempt}",
            "price_cents": price,
            "input": digest(step.input),
            "approval": step.approval and step.approval["approval"],
            "reserved": self._choose([None, {"day": "2026-11-21", "cents": round(missing, 6), "tokens": None}]),
        }
        if step.settles:
            data["reserved"] = None
        self.record(Kind.STEP_AWARDED, step, data)

    # What comes from outside

    def moves(self) -> list[tuple[str, Any]]:
        """Everything that may happen now without the plan's doing."""
        run = self.run
        found: list[tuple[str, Any]] = [("land", step) for step in run.in_flight.values()]
        found += [("retry", step) for step in run.retrying.values()]
        found += [("decide", step) for step in run.asking.values()]
        found += [("resume", step) for step in run.held.values()]
        found += [("unpark", step) for step in run.steps.values() if step.parked]
        return found

    def play(self, move: tuple[str, Any]) -> None:
        match move:
            case ("land", step):
                self._land(step)
            case ("retry", step):
                self.run.retry(step)
                self.due.add(step.id)
            case ("decide", step):
                decision = self._choose(["approved", "approved", "denied", "expired"])
                same = {name: step.asked[name] for name in ("approval", "digest")}
                self.record(
                    Kind.APPROVAL_DECIDED, step, {**same, "decision": decision, "by": "p", "note": "", "rule": "r"}
                )
            case ("resume", step):
                self._resume(step)
            case ("unpark", step):
                step.parked = False
            case ("cancel", _):
                self.record(Kind.TASK_CANCELING, None, {"reason": "enough", "by": "p"})
            case ("deadline", _):
                late = {"code": "deadline_exceeded", "branch": "permanent"}
                self.record(Kind.TASK_ABORTING, None, {"error": late, "step": None})

    def interrupts(self, choose: Choose) -> list[tuple[str, Any]]:
        """What may happen to a plan that goes forward, at any time; mostly nothing does."""
        if self.run.winding_down or self.run.past_return or self.run.status.terminal or choose(range(30)) != 29:
            return []
        return [("cancel", None), ("deadline", None)]

    def _land(self, step: StepRun) -> None:
        about = {"agent": step.agent, "attempt": step.attempt}
        match self._choose(["complete"] * 10 + ["fail", "fail", "hold", "interrupt"]):
            case "complete":
                done = {"output": output(self._choose), "latency_ms": 1.0, "replayed": False}
                self.record(Kind.STEP_COMPLETED, step, about | done)
            case "fail":
                self._fail(step, self._error(), step.agent, self._retry_at(step))
            case "hold":
                self._hold(step)
            case "interrupt":
                self.record(Kind.STEP_INTERRUPTED, step, about | {"reason": "the link broke"})
                if self._choose([False, True]):
                    self.record(Kind.STEP_SUSPECTED, step, about | {"deaths": step.deaths + 1})

    def _fail(self, step: StepRun, error: Any, agent: str | None, retry_at: int | None) -> None:
        data = {"agent": agent, "attempt": step.attempt, "error": error, "retry_at_ms": retry_at}
        data["spent_cents"] = min(step.reserved.cents, self._choose([0, 0, 0.1, 5]))
        self.record(Kind.STEP_FAILED, step, data)

    def _hold(self, step: StepRun) -> None:
        why = self._choose([Why.OUTCOME_UNKNOWN, Why.HALF_DONE, Why.COMPENSATION_FAILED, Why.POISONED])
        choices = {str(choice): "" for choice in CHOICES[why]}
        data = {"agent": step.agent, "attempt": step.attempt, "error": self._error(), "why": str(why)}
        self.record(Kind.STEP_HELD, step, data | {"question": "?", "choices": choices})

    def _resume(self, step: StepRun) -> None:
        assert step.held is not None
        choice = self._choose(list(step.held["choices"]))
        found = {"result": None, "output": output(self._choose) if choice == "by_hand" else None}
        self.record(Kind.STEP_RESUMED, step, {"choice": choice, "by": "p", "note": "", **found})

    def _error(self) -> dict[str, Any]:
        """Sometimes one of an agent that has begun something outside."""
        code = self._choose(sorted(ERRORS))
        ids = {"stay_with": "one"} if self._choose([False, False, False, True]) else {}
        return {"code": code, "branch": ERRORS[code], "ids": ids}

    def _retry_at(self, step: StepRun) -> int | None:
        """Only what undoes, confirms or was begun is tried again when nothing else is wanted any more."""
        hopeless = self.run.winding_down and not (step.settles or step.begun)
        return None if hopeless or step.attempt >= 3 else self._choose([len(self.events), len(self.events), None])
