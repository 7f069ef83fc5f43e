"""The coordinator: owns tasks; negotiates, executes and recovers them. A thin driver.

What to do is decided elsewhere, by pure functions: `execution` says what has become possible, `negotiation` who gets
it, `approvals` whether a person must be asked. Here messages and timers come in, events go into the journal and
through `Run.apply`, and only when they are on disk does anything leave: calls to agents, answers to clients.

Every coordinator owns the tasks whose id carries its shard. It holds nothing that the journal does not hold, so after a
crash it folds the open tasks again, waits for the agents to dial in, and sends once more what was in flight: the same
call under the same key, which an agent that did it already answers from its receipt.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Protocol

from ..contracts import (
    AgentId,
    Bid,
    Clock,
    Conflict,
    Contract,
    DeadlineExceeded,
    Digest,
    Entropy,
    Event,
    Failed,
    Fenced,
    HanseError,
    InvalidInput,
    JsonObject,
    Kind,
    LoopDetected,
    Negotiation,
    NotFound,
    Overloaded,
    RetryPolicy,
    StepStatus,
    StorageError,
    Store,
    Submission,
    TaskId,
    Tenant,
    TimedOut,
    Unavailable,
    Write,
    digest,
)
from ..contracts.events import FORMAT
from ..contracts.holding import Why
from ..contracts.ids import award_id, coordinator_name, uuid7
from ..contracts.labels import marks_of, to_data
from ..contracts.messages import Drop, Hello, Offers, Progress, Proposed, Request, Result, Results, Welcome
from ..contracts.ports import Faults, NoFaults
from . import faults
from .approvals import AUTOMATIC
from .audit.anchoring import Anchoring, Witnesses
from .breakers import Breakers
from .budgets import Budgets, Cap, amount, out_of_time, spent_in_vain
from .checker import Proved
from .children import Children
from .directory import Directory, Member
from .eligibility import Eligibility
from .execution import Abort, Conclude, Expand, Inherit, Refuse, Run, Skip, Start, StepRun, fold
from .fairness import Shares
from .foresight import Foregone, check_foregone
from .heartbeats import Heartbeats
from .holds import Holds, may_ask, why_held, worth_another_try
from .intake import Intake, Origin, begun_with, submitted
from .journal import Journal
from .leases import Leases
from .limits import Limits
from .link import Link
from .negotiation import Decision, Weights, decide
from .parking import Parking
from .quarantine import Quarantine
from .questions import Gate, Minds, Questions, done_before
from .rates import Rates
from .replay import BROKEN
from .roster import Roster
from .seating import Seating
from .standing import Standing
from .tenders import Tenders
from .timers import Timers
from .watchers import Watchers

_log = logging.getLogger(__name__)

KEPT_RUNS = 2000
"""Ended tasks whose run stays in memory for quick answers. Older ones are folded from the journal when asked for."""
TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What a coordinator is told at its start."""

    name: str = "hanse"
    shard: int = 0
    shards: int = 1
    expected_agents: frozenset[str] = frozenset()
    """Until these have dialed in, an unknown capability is `Unavailable` rather than `NotFound`."""
    gate: Gate = lambda contract, input, situation: AUTOMATIC
    minds: Minds | None = None
    """What of the labels that may come up in a handler the gate has a word about. None where none come up."""
    foregone: Foregone | None = None
    """What the gate says of a step whatever else comes up. None where it says so of none."""
    caps: Mapping[Tenant, Cap] = field(default_factory=dict[Tenant, Cap])
    """This shard's part of what each tenant may spend on a day."""
    notify: bool = False
    """Whether somebody is told of questions: then each is put in the outbox with its event."""
    weights: Weights = field(default_factory=Weights)
    limits: Limits = field(default_factory=Limits)
    tiers: frozenset[str] = frozenset()
    """Of the model pool, by name."""
    witnesses: Witnesses | None = None
    """None for a journal that ends with its process."""
    data: Path | None = None
    """Where the stores of the federation lie, for the evidence of a task; None when they end with their process."""

    draining: bool = False
    """Takes no new tasks, and ends those that are open."""

    @property
    def journal(self) -> str:
        """The name of its journal: that of the store's file."""
        return coordinator_name(self.shard)


class Companion(Protocol):
    """What runs beside a coordinator and never holds it up."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...


class Coordinator:
    """One shard. A plain class: the Ray actor around it is in `actors.py`."""

    def __init__(
        self,
        store: Store,
        root_key: bytes,
        clock: Clock,
        entropy: Entropy,
        settings: Settings,
        *,
        faults_port: Faults | None = None,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.store = store
        self.settings = settings
        self.clock = clock
        self.directory = Directory()
        self.journal = Journal(store, clock, on_failure)
        self.anchoring: Anchoring | None = None
        if settings.witnesses is not None:
            self.anchoring = settings.witnesses.of(self.journal, settings.journal, settings.name, root_key, clock)
        self._on_failure = on_failure
        self.runs: dict[TaskId, Run] = {}
        self.ended: dict[TaskId, Run] = {}
        self.standing = Standing(store)
        self.keys: dict[tuple[Tenant, str], tuple[TaskId, str]] = {}
        """Idempotency keys of the tasks in memory: a key counts from the moment its task is journaled, not on disk."""
        self.started_ms = clock.now_ms()
        self._entropy = entropy
        self._faults = faults_port or NoFaults()
        self._tested = faults_port is not None
        self._weighed = settings.weights.to_data()
        self._loop = asyncio.get_running_loop()
        self._roster = Roster(self.directory, root_key, clock)
        self._tenders = Tenders(self._roster, self._bids_are_in)
        limits = settings.limits
        self._rates = Rates(limits.rates, clock)
        self._shares = Shares(limits.open_tasks, limits.weights)
        self._timers = Timers(clock)
        self._intake = Intake(self.directory, settings.expected_agents)
        self.watchers = Watchers(self.journal)
        self.holds = Holds(self, self.directory)
        self.budgets = Budgets(store, self.journal, clock, settings.caps)
        self.questions = Questions(
            self,
            self.directory,
            self.journal,
            self._timers,
            clock,
            settings.gate,
            self.budgets,
            minds=settings.minds,
            notices=settings.notify,
        )
        self.breakers = Breakers(limits, self.journal, self.watchers, clock)
        self._quarantine = Quarantine(self, self._roster, limits.deaths, self._hold_poison)
        self._eligibility = Eligibility(self.directory, self.breakers, self._quarantine, limits, clock)
        self._parking = Parking(self.advance, self._eligibility.only_doer, limits.weights)
        self._heartbeats = Heartbeats(clock, limits.lease_seconds, TICK_SECONDS)
        self._seating = Seating(
            self,
            self.directory,
            self._roster,
            self.journal,
            self.watchers,
            clock,
            breakers=self.breakers,
            quarantine=self._quarantine,
            heartbeats=self._heartbeats,
            faults_port=self._faults,
        )
        self.children = Children(self, self._intake, clock, self.runs, self.take_on, self.cancel)
        self._leases = Leases(self, self._roster, clock, self._may_retry)
        self._companions: list[Companion] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._handle_request: Callable[[Link, Request], None] | None = None

    # Life

    async def start(self) -> None:
        """Recovers every open task from the journal. Calls go out when their agents dial in."""
        if self.anchoring:
            self.anchoring.start()
        for (task,) in self.store.read("open_tasks"):
            run = fold(self.journal.read(task))
            assert run is not None, f"open task {task} has no events"
            if run.status.terminal:  # its row was damaged: the journal is the truth
                self.journal.write(Write("update_task", (str(run.status), run.updated_ms, run.task)))
            else:
                self._take_up(run)
        if self.runs:
            self._faults.reach(faults.RECOVERING)
        self.journal.append(
            Kind.COORDINATOR_STARTED,
            None,
            None,
            {
                "epoch": self.store.epoch,
                "shard": self.settings.shard,
                "tasks": len(self.runs),
                "format": FORMAT,
            },
        )
        self.children.recover(lambda task: fold(self.journal.read(task)))
        for run in list(self.runs.values()):
            self.advance(run)
        await self.journal.durable()
        self._tick()
        for each in self._companions:
            each.start()

    def on_request(self, handle: Callable[[Link, Request], None]) -> None:
        """Who answers clients."""
        self._handle_request = handle

    def accompany(self, companion: Companion) -> None:
        """Runs beside the coordinator, from its start to its end."""
        self._companions.append(companion)

    async def stop(self) -> None:
        """Stops taking part. What is in flight is recovered by the next start."""
        if self._ticking:
            self._ticking.cancel()
        self._timers.clear()
        self._parking.stop()
        for each in self._companions:
            await each.stop()
        self._roster.close("the coordinator stops")
        await self.journal.stop()
        if self.anchoring:
            await self.anchoring.stop()
        await self.store.close()

    def _take_up(self, run: Run) -> None:
        self.runs[run.task] = run
        self._shares.opened(run.tenant)
        for step in run.in_flight.values():
            if self._is_as_awarded(run, step):
                self._roster.give(run, step)
        for step in run.retrying.values():
            self._retry_later(run, step)
        for step in run.asking.values():
            self.questions.take_up(run, step)
        self.budgets.take_up(run)
        self._watch_deadline(run)

    def _is_as_awarded(self, run: Run, step: StepRun) -> bool:
        """Whether the call that would be sent again is the one that was sent. With a plan that was changed, or by code
        that makes another input of it, it is not: then nothing is sent, for nobody knows what came of the first one.
        """
        if digest(step.input) == step.award["input"]:
            return True
        step.waits = "was awarded with another input than its plan gives now: see hanse tasks replay"
        about = {"action": "step.changed", "task": run.task, "step": step.id}
        _log.critical("task %s, step %s %s", run.task, step.id, step.waits, extra=about)
        return False

    def _tick(self) -> None:
        """Once a second: agents that fell silent may have come back, and parked steps look again. And another process
        may have taken over: one that had nothing to write would never hear of it, and keep its agents to itself.
        """
        if self._is_replaced():
            return
        self._ticking = self._loop.call_later(TICK_SECONDS, self._tick)
        self._seating.look_after()
        self._parking.tidy()
        self._leases.look()
        self._parking.look_again()
        self.watchers.touch(None)

    def check_reign(self) -> None:
        """Raises Unavailable when another process has taken over: what this one has in memory is of the past."""
        if self._is_replaced():
            raise Unavailable("another coordinator has taken over")

    def _is_replaced(self) -> bool:
        """Whether a later process owns the store. This one ends when it hears of it."""
        ((reign,),) = self.store.read("reign")
        if reign > self.store.epoch:
            self._on_failure(Fenced(f"epoch {reign} owns the store, this is {self.store.epoch}"))
        return reign > self.store.epoch

    # Tasks come in

    def submit(self, origin: Origin, submission: Submission, body: Digest) -> Run:
        """Takes a task on; it is not on disk yet. `body` is the digest that its idempotency key stands for.

        Raises InvalidPlan, InvalidInput, NotFound, ModelUnavailable for a goal in words, Overloaded, Unavailable.
        """
        if self.settings.draining:
            raise Unavailable(f"this federation drains: it takes no new tasks, and {len(self.runs)} are still open")
        if not self._shares.admits(origin.tenant, len(self.runs)):
            raise Overloaded(f"{len(self.runs)} tasks are open; come again", retry_after_seconds=1)
        if submission.model is not None and submission.model not in self.settings.tiers:
            known = ", ".join(sorted(self.settings.tiers)) or "none, for no model pool is configured"
            raise InvalidInput(f"there is no tier {submission.model!r}. Tiers: {known}", pointer="/model")
        self._rates.submit(origin.tenant)
        return self.take_on(submission, body, self._intake.prove(submission), origin)

    def _foresee(self, submission: Submission, proved: Proved, origin: Origin) -> None:
        """Raises NotAllowed for a plan that a rule refuses whatever its steps come to. What settles is not held up, and
        of a plan that was forked a part is done.
        """
        foregone, settles = self.settings.foregone, (origin.parent or {}).get("settles")
        if foregone is None or settles or origin.forked_from is not None:
            return
        contracts = {step.id: self.directory.contract(step.call, step.version) for step in proved.plan.steps}
        check_foregone(proved.plan, contracts, begun_with(origin, submission), submission.labels, foregone)

    def take_on(self, submission: Submission, body: Digest, proved: Proved, origin: Origin) -> Run:
        """Journals a task and begins with it. A child is always let in: it is part of what was let in before.

        Raises NotAllowed for what policy refuses as a whole.
        """
        self._foresee(submission, proved, origin)
        now, key, tenant = self.clock.now_ms(), submission.idempotency_key, origin.tenant
        task = TaskId(uuid7(now, self._entropy.bytes(8), self.settings.shard))
        data = submitted(origin, submission, body, proved, now)
        event = self.journal.append(Kind.TASK_SUBMITTED, task, None, data)
        self.journal.write(Write("insert_task", (task, tenant, key, body, "submitted", now, now)))
        run = self.runs[task] = Run(event, proved.plan, proved.pins)
        self._shares.opened(tenant)
        if key is not None:
            self.keys[tenant, key] = (task, body)
        self.watchers.touch(task)
        if self._tested:
            self._reach(Kind.TASK_SUBMITTED)
        if run.path:
            self.children.adopt(run)
        self._watch_deadline(run)
        self.advance(run)
        return run

    @property
    def is_gathering(self) -> bool:
        """Whether agents that are expected have not dialed in since the start."""
        return bool(self._intake.missing())

    def cancel(self, run: Run, reason: str, by: str) -> None:
        """Asks for the end of a task. What is in flight is stopped or awaited, then undone.

        Raises Conflict when its staged effects are already being confirmed.
        """
        if run.past_return and not run.status.terminal:
            raise Conflict("it is past its point of no return: what was staged is being made final", task=run.task)
        if not (run.status.terminal or run.winding_down):
            self._wind_down(run, Kind.TASK_CANCELING, {"reason": reason, "by": by})
            self.advance(run)

    # The driver

    def advance(self, run: Run) -> None:
        """Does what has become possible until nothing more is. A plan that trips us up fails alone."""
        try:
            self._go_on(run)
        except StorageError:
            raise
        except Exception as error:
            _log.exception("task %s cannot go on", run.task, extra={"action": "task.broken"})
            self._break_off(run, _internal(error))
        self.watchers.look(run)
        for each in self.children.above(run) if run.path else ():
            self.watchers.look(each)

    def _break_off(self, run: Run, error: JsonObject) -> None:
        """Ends a task that trips us up: by undoing what was done or, when that trips us up too, as it stands."""
        if run.status.terminal:
            return
        if not (run.winding_down or run.past_return):
            self._abort(run, error, None)
            self.advance(run)
        else:
            self._conclude(run, Kind.TASK_FAILED, {"error": error, "cost_cents": run.spent_cents})

    def _go_on(self, run: Run) -> None:
        moved = True
        while moved and not run.status.terminal:
            moved = False
            for command in run.next():
                self._do(run, command)
                moved = True

    def _do(self, run: Run, command: Any) -> None:
        match command:
            case Start(step):
                self._start(run, step)
            case Skip(step, reason):
                self.record(run, Kind.STEP_SKIPPED, step, {"reason": reason})
            case Inherit(step, carried):
                self.record(run, Kind.STEP_INHERITED, step, dict(carried))
            case Refuse(step, error):
                self.fail(run, step, error, None)
            case Expand(step, count):
                self.record(run, Kind.STEP_EXPANDED, step, {"count": count})
            case Abort(error, step_id):
                self._abort(run, error, step_id)
            case Conclude(kind, data):
                self._conclude(run, kind, data)

    def record(self, run: Run, kind: Kind, step: StepRun | None, data: JsonObject) -> Event:
        """Fold and journal. Nothing else changes a run."""
        was = self.budgets.before(run, step, kind, data)
        event = self.journal.append(kind, run.task, step.id if step else None, data, run.apply)
        if was:
            self.budgets.after(run, was, event)
        self.watchers.touch(run.task)
        if self._tested:
            self._reach(kind, undoing=step is not None and step.undoes is not None)
        return event

    def _reach(self, kind: Kind, *, undoing: bool = False) -> None:
        faults.pass_by(self._faults, self.journal, kind, undoing=undoing)

    def _abort(self, run: Run, error: Mapping[str, Any], step: str | None) -> None:
        self._wind_down(run, Kind.TASK_ABORTING, {"error": error, "step": step})

    def _wind_down(self, run: Run, kind: Kind, data: JsonObject) -> None:
        """Nothing new starts, questions are void, and what is in flight is told that nobody waits for it."""
        self.questions.withdraw(run)
        self.record(run, kind, None, data)
        for step in run.in_flight.values():
            self._roster.stop(step)
        if run.children:
            self.children.stop(run)

    def _conclude(self, run: Run, kind: Kind, data: JsonObject) -> None:
        self.record(run, kind, None, data)
        self.journal.write(Write("update_task", (str(run.status), run.updated_ms, run.task)))
        self.runs.pop(run.task)
        self._shares.closed(run.tenant)
        self.ended[run.task] = run
        self.standing.ended(run.tenant, run.status)
        if len(self.ended) > KEPT_RUNS:
            self._forget(self.ended.pop(next(iter(self.ended))))
        self._timers.cancel_all(run.task)
        if run.children:
            self.children.stop(run)
        if run.path:
            self.children.ended(run)

    def _forget(self, run: Run) -> None:
        if run.key is not None:
            self.keys.pop((run.tenant, run.key), None)

    # Negotiation and award

    def _start(self, run: Run, step: StepRun) -> None:
        try:
            step.input_digest = digest(step.input)  # refuses what templates in templates made too deep
            contract = self.directory.contract(step.call, run.version(step))
        except NotFound:
            self._parking.park(run, step, self._eligibility.obstacles(run, step))
            return
        except InvalidInput as error:
            self.fail(run, step, error, None)
            return
        ruling = self.questions.ruling(run, step, contract)
        step.rule = ruling.words
        if ruling.review:
            self.questions.ask(run, step, contract, ruling)
        elif ruling.refused:
            self.fail(run, step, ruling.refusal(step.id).about(**done_before(step)), None)
        elif error := self.questions.objection(run, step):
            self.fail(run, step, error, None)
        elif not self._has_to_wait(run, step):
            self._find_taker(run, step, contract)

    def _find_taker(self, run: Run, step: StepRun, contract: Contract) -> None:
        members = self.eligible(run, step)
        if not members:
            self._parking.park(run, step, self._eligibility.obstacles(run, step))
        elif contract.negotiation is Negotiation.PROPOSALS:
            self._tenders.call(run, step, members)
        else:
            bids = [member.bid_for(step.call) for member in members]
            if self.breakers.circuits:
                bids += self.breakers.refusals(self._eligibility.barred(run, step), step)
            self._settle(run, step, bids)

    def _has_to_wait(self, run: Run, step: StepRun) -> bool:
        """Parks a step when others were there before, or when its tenant or its capability is over a rate."""
        if self._parking.places and self._parking.has_to_wait(run, step):
            return True
        if not self._rates.on_steps or step.settles:
            return False
        if left := self._rates.seconds_left(run.tenant, step.call):
            why = f"{run.tenant} has used up its rate of {step.call}"
            self._parking.park(run, step, why, only_tenant=True, seconds=left)
        return left > 0

    def eligible(self, run: Run, step: StepRun) -> list[Member]:
        return self._eligibility.of(run, step)

    def _settle(self, run: Run, step: StepRun, bids: Sequence[Bid]) -> None:
        """Awards the step, or parks it until somebody can take it."""
        bids = self.budgets.affordable(run, step, bids)
        decision = decide(bids, self.settings.weights, avoid=step.failed_agents)
        if decision.winner is None:
            self._nobody(run, step, bids, decision)
        else:
            self._award(run, step, decision.winner, bids, decision.reason)

    def _nobody(self, run: Run, step: StepRun, bids: Sequence[Bid], decision: Decision) -> None:
        """Refusals of all who are here end the step; an empty room is waited out."""
        if bids:
            refused = HanseError.from_data(_refused(step, decision.reason))
            self.fail(run, step, self.budgets.objection(run, step, bids) or refused, None)
        else:
            self._parking.park(run, step, self._eligibility.obstacles(run, step))

    def _award(self, run: Run, step: StepRun, winner: Bid, bids: Sequence[Bid], reason: str) -> None:
        attempt = step.attempt + 1
        award = award_id(run.task, step.id, attempt)
        approval = step.approval
        most = self.settings.limits.repeated_calls
        if most is not None and len(run.steps) > most and run.made(winner.agent, step) >= most:
            self.fail(run, step, _in_a_loop(run, step, winner, most), None)
            return
        self.record(
            run,
            Kind.STEP_AWARDED,
            step,
            {
                "agent": winner.agent,
                "version": winner.version,
                "attempt": attempt,
                "award": award,
                "price_cents": winner.price_cents,
                "reason": reason,
                "bids": [bid.to_data() for bid in bids],
                "input": step.input_digest,
                "rule": approval["rule"] if approval else step.rule,
                "approval": approval["approval"] if approval else None,
                "weights": self._weighed,
                "reserved": self.budgets.reserved(run, step, winner),
                "before": self._roster.expiry(run, step, winner.agent),
                **(self._labels(run, step) if run.labelled or self.settings.minds else {}),
            },
        )
        self._roster.give(run, step)
        if self.breakers.circuits:
            self.breakers.given(step, award, winner.agent)
        if self._rates.on_steps and not step.settles:
            self._rates.take(run.tenant, step.call)
        self.journal.then(lambda: self._roster.send(award))

    def _labels(self, run: Run, step: StepRun) -> JsonObject:
        return self.questions.labels(run, step, self.directory.contract(step.call, run.version(step)))

    def _bids_are_in(self, run: Run, step: StepRun, bids: Sequence[Bid]) -> None:
        wanted = step.id in run.ready or (step.settles and step.status is StepStatus.WAITING)
        if wanted and not run.status.terminal:
            self._settle(run, step, bids)
            self.advance(run)

    # Outcomes

    def _land(self, result: Result) -> None:
        entry = self._roster.take(result.award)
        if entry is None:
            return  # late: this award was settled otherwise
        run, step = entry
        if result.error is None:
            if self.breakers.circuits:
                self.breakers.succeeded(step, result.award)
            self.record(
                run,
                Kind.STEP_COMPLETED,
                step,
                {
                    "agent": step.agent,
                    "attempt": step.attempt,
                    "output": result.output,
                    "latency_ms": result.latency_ms,
                    "replayed": result.replayed,
                    "model_cents": result.model_cents,
                    "model_tokens": int(amount(result.model_tokens)),
                    **({"labels": to_data(marks_of(result.labels))} if result.labels else {}),
                },
            )
        else:
            error = self._error_of(run, step, result.error)
            self.breakers.failed(step, result.award, error)
            self.fail(run, step, error, step.agent)
        if self._quarantine.kept:
            self._seating.settled(AgentId(step.award["agent"]), result.award)
        self.advance(run)

    def _error_of(self, run: Run, step: StepRun, data: Mapping[str, Any]) -> HanseError:
        """An agent drops what comes too late. If only the call was late and not the task, it may be sent again; what
        undoes, confirms or was begun is wanted after the task's deadline too.
        """
        error = HanseError.from_data(data)
        in_time = run.ends_ms is None or self.clock.now_ms() < run.ends_ms or step.settles or step.begun
        return TimedOut(error.detail, **error.ids) if isinstance(error, DeadlineExceeded) and in_time else error

    def fail(self, run: Run, step: StepRun, error: HanseError, agent: AgentId | None) -> None:
        if not (step.settles or step.begun or "stay_with" in error.ids):
            error = self.budgets.overdue(step, error)
        policy = self._retry_policy(run, step)
        retry_at = self._retry_at(run, step, error, policy, agent)
        if retry_at is None and (why := why_held(run, step, error)) is not None:
            self.holds.hold(run, step, why, error, agent)
            return
        data = {
            "agent": agent,
            "attempt": step.attempt,
            "error": error.to_data(),
            "retry_at_ms": retry_at,
            "max_attempts": policy.max_attempts,
            "retry_on": policy.retry_on and list(policy.retry_on),
        }
        data |= spent_in_vain(step, error)
        self.record(run, Kind.STEP_FAILED, step, data)
        if retry_at is not None:
            self._retry_later(run, step)

    def _hold_poison(self, run: Run, step: StepRun, error: HanseError, agent: AgentId) -> None:
        self.holds.hold(run, step, Why.POISONED, error, agent)

    def _retry_at(
        self, run: Run, step: StepRun, error: HanseError, policy: RetryPolicy, agent: AgentId | None
    ) -> int | None:
        """When to try again, in unix milliseconds, or None. The type of the error carries the verdict.

        An unknown outcome is not tried again: the same call under the same key asks the agent's ledger once more, which
        asks the outside system and does nothing that it cannot vouch for.
        """
        if may_ask(run, step, error):
            return self.clock.now_ms()
        if not worth_another_try(run, step, error, policy.retry_on):
            return None
        if step.attempts_that_count >= policy.max_attempts:
            return None
        wait = policy.interval(max(step.attempts_that_count, 1), self._entropy.fraction())
        if "stay_with" in error.ids or not self._others(run, step, agent):
            wait = max(wait, error.pause_seconds)
        return self.clock.now_ms() + ceil(wait * 1000)

    def _others(self, run: Run, step: StepRun, agent: AgentId | None) -> bool:
        """Whether somebody may be given the step who has not failed at it: nobody waits then for those who have."""
        failed = step.failed_agents | {agent}
        return any(member.agent not in failed for member in self.eligible(run, step))

    def _may_retry(self, run: Run, step: StepRun) -> bool:
        return step.attempts_that_count < self._retry_policy(run, step).max_attempts

    def _retry_policy(self, run: Run, step: StepRun) -> RetryPolicy:
        try:
            return self.directory.contract(step.call, run.version(step)).retry
        except NotFound:
            return RetryPolicy()

    def _retry_later(self, run: Run, step: StepRun) -> None:
        """Never later than the longest pause from now: a wall clock that was set back by an hour while nobody ran would
        make it wait for an hour.
        """
        asked = HanseError.from_data(step.error).pause_seconds if step.error else 0
        latest = self.clock.now_ms() + ceil(max(self._retry_policy(run, step).max_interval, asked) * 1000)
        at = min(step.retry_at_ms, latest)
        self._timers.at(run.task, f"retry {step.id}", at, lambda: self._retry(run, step))

    def _retry(self, run: Run, step: StepRun) -> None:
        if not run.status.terminal:
            run.retry(step)
            self.advance(run)

    def _watch_deadline(self, run: Run) -> None:
        if run.deadline_ms is not None:
            late = DeadlineExceeded(task=run.task)
            self._timers.at(run.task, "deadline", run.deadline_ms, lambda: self._expire_task(run, late))
        if run.budget_ends_ms is not None:
            spent = out_of_time(run)
            self._timers.at(run.task, "seconds", run.budget_ends_ms, lambda: self._expire_task(run, spent))

    def _expire_task(self, run: Run, error: HanseError) -> None:
        if not (run.status.terminal or run.winding_down or run.past_return):
            self._abort(run, error.to_data(), None)
            self.advance(run)

    # Links

    def received(self, link: Link, message: Any) -> None:
        match message:
            case Results(results):
                for result in results:
                    self._land(result)
                self._parking.look_again()
            case Request():
                assert self._handle_request is not None
                self._handle_request(link, message)
            case Offers():
                self._heard(message)
            case Hello():
                self._joined(link, message)
            case Proposed():
                self._tenders.proposed(message)
            case Progress():
                self._progressed(message)
            case Drop():
                pass  # what a coordinator is asked, it has answered by now, or waits for at no cost
            case _:
                link.close(f"a coordinator does not take {type(message).__name__}")

    def closed(self, link: Link, reason: str) -> None:
        self._seating.closed(link, reason)
        self._parking.look_again()

    def _joined(self, link: Link, hello: Hello) -> None:
        link.send(Welcome(self.settings.shard, self.store.epoch))
        self._seating.joined(link, hello)
        self._parking.look_again()

    def _heard(self, message: Offers) -> None:
        now, ahead = self.clock.monotonic(), (message.now_ms - self.clock.now_ms()) / 1000
        for offer in message.offers:
            self.directory.heard(offer, now, ahead)
            if working := offer.get("working"):
                self._heartbeats.heard(working)
        self._parking.look_again()

    def _progressed(self, message: Progress) -> None:
        run = self.runs.get(message.task)
        if run is not None and (step := run.steps.get(message.step)) is not None:
            step.progress, step.note = message.fraction, message.note
            if award := step.award.get("award"):
                self._heartbeats.heard((award,))

    # Looking

    def run_of(self, tenant: Tenant, task: TaskId) -> Run:
        """The run of a task, folded from the journal when it ended long ago. Raises NotFound."""
        run = self.runs.get(task) or self.ended.get(task) or fold(self.journal.read(task))
        if run is None or run.tenant != tenant:
            raise NotFound(f"there is no task {task}", task=task)
        return run

    @property
    def parked(self) -> int:
        """Steps that wait for somebody who can take them."""
        return len(self._parking)

    def members(self) -> Iterator[Member]:
        yield from self.directory.members.values()


def _internal(error: Exception) -> JsonObject:
    return Failed(f"{BROKEN}: {type(error).__name__}: {error}").to_data()


def _in_a_loop(run: Run, step: StepRun, winner: Bid, most: int) -> LoopDetected:
    text = f"{most} steps have made the call {step.call} with this very input to {winner.agent} already"
    return LoopDetected(text, task=run.task, step=step.id, agent=winner.agent, capability=step.call)


def _refused(step: StepRun, reason: str) -> JsonObject:
    return {"code": "refused", "branch": "policy", "detail": f"nobody takes {step.call}: {reason}", "ids": {}}
