"""Sagas as a state machine (G5): plans of up to 30 steps, failures, kills, unknown outcomes; an outside that counts.

The coordinator's decisions are the real ones (`Run`, `why_held`, `worth_another_try`, `hold_data`). Played are its
agents, each with receipts and an outside that may do what is asked and lose the answer; a person, who knows what the
outside saw; and death, of an agent or of the coordinator, which folds its journal anew.

At the end I4 is read off the outside: what a failed plan did is undone exactly once, in reverse order, what it did not
do is not undone, and what was staged is final exactly when the plan is completed. `python -m tests.runtime.test_sagas
10000` plays ten thousand.
"""

import os
import sys
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hanse.contracts import (
    DeadlineExceeded,
    Epoch,
    Event,
    HanseError,
    Kind,
    OutcomeUnknown,
    Refusal,
    Sequence,
    StepId,
    StepStatus,
    TaskId,
    TaskStatus,
    Unavailable,
    digest,
)
from hanse.contracts.holding import Choice, Why
from hanse.runtime.execution import Abort, Conclude, Expand, Refuse, Run, Skip, Start, StepRun, fold
from hanse.runtime.holds import hold_data, why_held, worth_another_try
from hanse.runtime.simulation.referee import referee

from ..support.plans import output, plan, submitted, task_input

CASES = int(os.environ.get("HANSE_SAGAS", "150"))
MAX_ATTEMPTS = 3
TASK = TaskId("task")


class Outside:
    """What the agents' systems saw, and what the agents wrote down."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.order: list[str] = []
        self.receipts: dict[str, Any] = {}
        self.in_doubt: set[str] = set()
        """Steps whose agent does not know whether they were done."""

    def do(self, step: str) -> None:
        self.done[step] += 1
        self.order.append(step)


class Saga(RuleBasedStateMachine):
    """One task from its submission to its end."""

    @initialize(seed=st.integers(0, 1 << 32), steps=st.integers(1, 30))
    def submit(self, seed: int, steps: int) -> None:
        self.random = Random(seed)
        self.outside = Outside()
        self.events: list[Event] = []
        choose = self.random.choice
        data = submitted(plan(choose, steps), task_input(choose))
        self.run = Run(self._event(Kind.TASK_SUBMITTED, None, data))
        self._advance()

    # What may happen

    @precondition(lambda self: self.run.in_flight)
    @rule(which=st.integers(0, 1000), how=st.integers(0, 19))
    def an_agent_answers(self, which: int, how: int) -> None:
        step = self._pick(self.run.in_flight, which)
        error = self._executed(step, how)
        if error is not None:
            self._failed(step, error)
        elif step.id in self.outside.receipts:
            self._completed(step)
        self._advance()

    @precondition(lambda self: self.run.in_flight)
    @rule(which=st.integers(0, 1000), acted=st.booleans())
    def an_agent_dies(self, which: int, acted: bool) -> None:
        """With or without having acted. Its receipt is committed or not; without one, the effect is in doubt."""
        step = self._pick(self.run.in_flight, which)
        if (
            acted
            and self._writes(step)
            and step.id not in self.outside.receipts
            and step.id not in self.outside.in_doubt
        ):
            self.outside.do(step.id)
            self.outside.in_doubt.add(step.id)
        data = {"agent": step.agent, "attempt": step.attempt, "reason": "it died"}
        self._record(Kind.STEP_INTERRUPTED, step, data)

    @rule()
    def the_coordinator_dies(self) -> None:
        """What it knew is what its journal says."""
        folded = fold(iter(self.events))
        assert folded is not None
        self.run = folded
        if not folded.status.terminal:
            self._advance()

    @precondition(lambda self: self.run.retrying)
    @rule(which=st.integers(0, 1000))
    def time_passes(self, which: int) -> None:
        self.run.retry(self._pick(self.run.retrying, which))
        self._advance()

    @precondition(lambda self: self.run.held)
    @rule(which=st.integers(0, 1000), choice=st.integers(0, 1000))
    def a_person_finds_out(self, which: int, choice: int) -> None:
        """And says the truth."""
        step = self._pick(self.run.held, which)
        assert step.held is not None
        honest = [each for each in step.held["choices"] if self._is_honest(Choice(each), step)]
        chosen = Choice(honest[choice % len(honest)])
        output = None
        if chosen is Choice.BY_HAND:
            if not self.outside.done[step.id]:
                self.outside.do(step.id)
            self.outside.in_doubt.discard(step.id)
            self.outside.receipts[step.id] = output = {"n": 0}
        said = {"choice": str(chosen), "by": "p", "note": "", "result": None, "output": output}
        self._record(Kind.STEP_RESUMED, step, said)
        self._advance()

    @precondition(lambda self: not (self.run.winding_down or self.run.past_return or self.run.status.terminal))
    @rule(luck=st.integers(0, 9), deadline=st.booleans())
    def somebody_wants_the_end(self, luck: int, deadline: bool) -> None:
        if luck:
            return
        late = {"error": DeadlineExceeded().to_data(), "step": None}
        canceled = {"reason": "enough", "by": "p"}
        self._record(*((Kind.TASK_ABORTING, None, late) if deadline else (Kind.TASK_CANCELING, None, canceled)))
        self._advance()

    # What must hold

    @invariant()
    def nothing_happens_twice(self) -> None:
        twice = [step for step, count in self.outside.done.items() if count > 1]
        assert not twice, f"done twice: {twice}"

    @invariant()
    def i4_at_the_end(self) -> None:
        if self.run.status.terminal:
            self._check_end()

    def teardown(self) -> None:
        """Everything heals, and comes to its end."""
        if not hasattr(self, "run"):
            return
        for _ in range(5000):
            if self.run.status.terminal:
                break
            self._heal_on()
        assert self.run.status.terminal, "it does not end"
        self.nothing_happens_twice()
        self._check_end()
        referee(self.events)
        told[str(self.run.status)] += 1
        told["compensations"] += sum(step.undoes is not None for step in self.run.steps.values())
        told["confirmations"] += sum(step.confirms is not None for step in self.run.steps.values())
        told["held"] += sum(event.kind is Kind.STEP_HELD for event in self.events)
        told["kills"] += sum(event.kind is Kind.STEP_INTERRUPTED for event in self.events)

    def _heal_on(self) -> None:
        run = self.run
        if run.in_flight:
            self.an_agent_answers(0, 0)
        elif run.retrying:
            self.time_passes(0)
        elif run.held:
            self.a_person_finds_out(0, 0)
        else:
            self._advance()

    def _check_end(self) -> None:
        run, done = self.run, self.outside.done
        assert not self.outside.in_doubt, "it ended while nobody knew what was done"
        stuck = (run.error or {}).get("code") in ("compensation_failed", "confirmation_failed")
        for step in run.steps.values():
            pin = run.pin(step)
            if step.settles or step.members is not None or stuck or not pin.effect.writes:
                continue
            undone, confirmed = done[f"{step.id}~"], done[f"{step.id}+"]
            if run.status is TaskStatus.COMPLETED:
                assert (undone, confirmed) == (0, done[step.id] if pin.confirmation else 0), step.id
            else:
                assert (undone, confirmed) == (done[step.id] if pin.compensation else 0, 0), step.id
            if step.status in (StepStatus.COMPLETED, StepStatus.COMPENSATED):
                assert done[step.id] == 1, f"{step.id} is {step.status} and was not done"
        self._check_order()

    def _check_order(self) -> None:
        """Compensations in reverse order of completion; nothing irreversible before what may fail."""
        ended = [e for e in self.events if e.kind is Kind.STEP_COMPLETED or e.data.get("choice") == "by_hand"]
        forward = [str(event.step) for event in ended if not str(event.step).endswith(("~", "+"))]
        undone = [str(event.step)[:-1] for event in ended if str(event.step).endswith("~")]
        compensable = [step for step in forward if self.run.pin(self.run.steps[StepId(step)]).compensation]
        assert undone == list(reversed(compensable))[: len(undone)]

    # The agents

    def _executed(self, step: StepRun, how: int) -> HanseError | None:
        """What the agent does with a call, and answers. None when it is done, and for an answer that gets lost."""
        outside = self.outside
        if step.id in outside.receipts:
            return None
        if step.id in outside.in_doubt and (unknown := self._settled(step, how)):
            return unknown
        if step.id in outside.receipts:
            return None
        if not self._writes(step):
            return self._looked(step, how)
        match how:
            case 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12:
                outside.do(step.id)
                self._wrote(step)
            case 13 | 14:
                return Unavailable("not now")
            case 15:
                return Refusal("no")
            case 16 | 17:
                outside.do(step.id)
                outside.in_doubt.add(step.id)
                return OutcomeUnknown("the answer was lost", stay_with="one")
            case 18:
                outside.in_doubt.add(step.id)
                return OutcomeUnknown("the request was lost", stay_with="one")
            case _:
                return DeadlineExceeded("too late, and not begun") if self.run.winding_down else Unavailable("not now")
        return None

    def _writes(self, step: StepRun) -> bool:
        return self.run.pin(step).effect.writes

    def _looked(self, step: StepRun, how: int) -> HanseError | None:
        if how > 13:
            return Unavailable("not now") if how % 2 else Refusal("no")
        self._wrote(step)
        return None

    def _settled(self, step: StepRun, how: int) -> HanseError | None:
        """An effect in doubt: a person has said, or the outside can be asked, or nobody knows."""
        ruled = step.ruling is not None
        if not ruled and how % 3:
            return OutcomeUnknown("nobody can be asked", stay_with="one")
        self.outside.in_doubt.discard(step.id)
        if self.outside.done[step.id]:
            self._wrote(step)
        return None

    def _wrote(self, step: StepRun) -> None:
        self.outside.receipts[step.id] = output(self.random.choice)

    def _is_honest(self, choice: Choice, step: StepRun) -> bool:
        happened = self.outside.done[step.id] > 0
        if choice is Choice.HAPPENED:
            return happened
        if choice is Choice.NOT_HAPPENED:
            if not happened and self.run.winding_down and not step.settles:
                self.outside.in_doubt.discard(step.id)
            return not happened
        # What has happened is not given up, and what is to be undone is given up rarely: then it stands.
        return choice is not Choice.GIVE_UP or (not happened and not self.random.randrange(8))

    # The coordinator

    def _advance(self) -> None:
        moved = True
        while moved and not self.run.status.terminal:
            moved = False
            for command in self.run.next():
                self._do(command)
                moved = True

    def _do(self, command: Any) -> None:
        match command:
            case Start(step):
                self._award(step)
            case Skip(step, reason):
                self._record(Kind.STEP_SKIPPED, step, {"reason": reason})
            case Refuse(step, error):
                self._failed(step, error)
            case Expand(step, count):
                self._record(Kind.STEP_EXPANDED, step, {"count": count})
            case Abort(error, about):
                self._record(Kind.TASK_ABORTING, None, {"error": error, "step": about})
            case Conclude(kind, data):
                self._record(kind, None, data)

    def _award(self, step: StepRun) -> None:
        attempt = step.attempt + 1
        award = {"agent": "one", "attempt": attempt, "award": f"{step.id}#{attempt}", "price_cents": 0}
        self._record(Kind.STEP_AWARDED, step, {**award, "input": digest(step.input), "approval": None})

    def _completed(self, step: StepRun) -> None:
        data = {"agent": "one", "attempt": step.attempt, "output": self.outside.receipts[step.id]}
        self._record(Kind.STEP_COMPLETED, step, data | {"latency_ms": 1.0, "replayed": False})

    def _failed(self, step: StepRun, error: HanseError) -> None:
        """As `Coordinator.fail` does."""
        again = worth_another_try(self.run, step, error) and step.attempts_that_count < MAX_ATTEMPTS
        if not again and (why := why_held(self.run, step, error)) is not None:
            self._hold(step, why, error)
            return
        data = {"agent": "one", "attempt": step.attempt, "error": error.to_data()}
        self._record(Kind.STEP_FAILED, step, data | {"retry_at_ms": len(self.events) if again else None})

    def _hold(self, step: StepRun, why: Why, error: HanseError) -> None:
        self._record(Kind.STEP_HELD, step, hold_data(self.run, step, why, error, None))

    def _record(self, kind: Kind, step: StepRun | None, data: Mapping[str, Any]) -> None:
        self.run.apply(self._event(kind, step.id if step else None, data))

    def _event(self, kind: Kind, step: StepId | None, data: Mapping[str, Any]) -> Event:
        number = len(self.events) + 1
        self.events.append(Event(Sequence(number), Epoch(1), number, kind, TASK, step, data))
        return self.events[-1]

    def _pick(self, steps: Mapping[StepId, StepRun], which: int) -> StepRun:
        return list(steps.values())[which % len(steps)]


told: Counter[str] = Counter()
"""What the sagas of this process went through."""


def play(cases: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Saga,
        settings=settings(
            max_examples=cases, stateful_step_count=60, deadline=None, suppress_health_check=quiet, database=None
        ),
    )


def test_every_saga_is_undone_exactly_once_in_reverse_order():
    told.clear()
    play(CASES)
    assert all(told[each] for each in ("completed", "failed", "canceled", "compensations", "confirmations", "held"))


if __name__ == "__main__":
    play(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    print(f"0 breaches of I4; {dict(told)}")
