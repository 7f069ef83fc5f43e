"""The engine of one agent: takes calls, and makes each step happen once.

The way of a call:

    1. token        allows this very call, or nothing is looked at
    2. receipt      the step was executed before: its stored output is the answer; or it is under way: wait for it
    3. deadline     has passed: dropped unexecuted
    4. slot         at most so many handlers at once, in the order of arrival
    5. handler      with typed input, buffering what it writes
    6. admission    in memory, if what it read is still so; otherwise again from 5
    7. commit       writes and receipt in one transaction; the answer waits until it is on disk

A capability that only reads has no receipt and waits for no disk of its own: asked twice, it runs twice, and may answer
differently the second time. It does wait until what it saw of others is on disk.

The receipt comes before the deadline, because a step that was executed must not be reported as dropped: its plan would
abort without undoing it.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Any

from ..contracts import (
    AgentId,
    AwardId,
    Bid,
    Canceled,
    Capability,
    CapabilityName,
    Clock,
    Contract,
    Demand,
    Digest,
    Effect,
    Entropy,
    Failed,
    HanseError,
    IdempotencyKey,
    JsonObject,
    NotFound,
    Offer,
    OutcomeUnknown,
    StepId,
    StorageError,
    Store,
    TaskId,
    Tenant,
    Token,
    TokenInvalid,
    Unavailable,
    digest,
)
from ..contracts.delegation import CHILD_TASKS, Delegates
from ..contracts.ids import step_key
from ..contracts.labels import IN_ERROR
from ..contracts.memory import Memory
from ..contracts.messages import Call, Progress, Proposal, Result
from ..contracts.plain import unpack
from ..contracts.pool import Models
from ..contracts.ports import Faults, NoFaults
from ..contracts.token import Allowance, Key, verify
from . import faults as points
from .agent import Agent, bid_of
from .asking import NOTHING_USED, Used
from .connector import Connector
from .context import Context, Surroundings
from .ledger import Ledger
from .reporter import Reporter
from .run import Run, key_reused
from .runner import Commit, Runner
from .secrets import secrets_in
from .standing import Standing, stuck
from .state import Transaction
from .tasks import ChildTasks

log = logging.getLogger("hanse.agents")

_BID_SECONDS = 2.0
_MOMENT_SECONDS = 2.0
"""A step that takes longer is named in every heartbeat."""


def _ignore(progress: Progress) -> None: ...


class Engine:
    """Runs one agent over one store. All methods are called on the event loop on which the store was opened."""

    def __init__(
        self,
        agent: Agent,
        store: Store,
        *,
        key: Key,
        clock: Clock,
        entropy: Entropy,
        connectors: Mapping[str, Connector] | None = None,
        faults: Faults | None = None,
        on_progress: Callable[[Progress], None] = _ignore,
        models: Models | None = None,
        memory: Memory | None = None,
        delegates: Delegates | None = None,
        max_concurrency: int = 64,
        max_queue: int = 4096,
        bulkheads: Mapping[str, int] | None = None,
    ) -> None:
        """`key` is the agent's own (`contracts.token.agent_key`). Store, connectors, models, memory and delegates
        stay the caller's to close. `bulkheads` say for patterns of capabilities how many handlers of each run at once;
        the first that fits counts, and where none does, the contract's `max_concurrent`.
        """
        self.agent = agent
        self.agent_id = AgentId(agent.name)
        self._store, self._key, self._clock = store, key, clock
        self._faults = faults or NoFaults()
        connectors = {name: each.called(name).guarded(clock) for name, each in (connectors or {}).items()}
        self._reporter = Reporter(self.agent_id, (*secrets_in(agent.options), *_secrets(connectors)))
        self._standing = Standing(agent)
        self._bounds = dict(_bounds(agent, bulkheads or {}))
        self._surroundings = Surroundings(
            self.agent_id, clock, entropy, connectors, on_progress, self.offer, self._labels, models, memory, delegates
        )
        own = {CHILD_TASKS: ChildTasks()} if delegates is not None else {}
        self.ledger = Ledger(store, clock, {**connectors, **own}, self._faults)
        """What was done outside. For whoever must decide about an effect whose outcome nobody knows."""
        self._runner = Runner(
            agent,
            store,
            self.ledger,
            self._surroundings,
            self._reporter,
            self._standing,
            self._faults,
            max_concurrency,
            max_queue,
            self._bounds,
        )
        self._running: dict[IdempotencyKey, Run] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._stopping = False
        self._broken: StorageError | None = None

    # Its life

    async def start(self) -> None:
        """Runs `on_start` to its commit, while open effects are asked about.

        Raises the HanseError that `on_start` raised, or Failed for any other, about this agent.
        """
        try:
            await self._prepare()
        except HanseError as error:
            raise error.about(agent=self.agent_id) from None
        except Exception as error:
            self._reporter.bug(error, "on_start")
            raise Failed(f"it cannot start: {self._reporter.words(error)}", agent=self.agent_id) from None

    async def _prepare(self) -> None:
        if self.ledger.open_entries():
            self._recovery = asyncio.create_task(self.ledger.reconcile(), name=f"reconcile {self.agent_id}")
        transaction = Transaction(self._runner.rows)
        await self.agent.on_start(Context(_unasked(self), Effect.REVERSIBLE, self._surroundings, transaction, None))
        transaction.ended = True
        self._faults.reach(points.STARTING)
        if transaction.writes:
            await transaction.admit(())

    async def stop(self, grace_seconds: float = 10) -> None:
        """Takes no more calls, waits for those in hand, cancels what is late, runs `on_stop`. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        await self._standing.idle(grace_seconds)
        for run in list(self._running.values()):
            run.give_up(Unavailable("the agent stopped"))
        await self._standing.idle(grace_seconds)
        self._runner.deadlines.stop()
        await self._stop_recovery()
        await self._reporter.quietly(self.agent.on_stop(), "on_stop")

    # What it does

    async def execute(self, call: Call) -> Result:
        """Executes one step, or finds that it was. Errors are in the result; only StorageError is raised.

        After that the process must stop: what the disk holds is not known any more.
        """
        begun = self._clock.monotonic()
        self._standing.enter()
        try:
            self._faults.reach(points.CALL_RECEIVED)
            output, replayed, used = await self._answer(call)
            return Result(call.award, output, None, (self._clock.monotonic() - begun) * 1000, replayed, *used)
        except StorageError as error:
            raise await self._fence(error) from None
        except HanseError as error:
            return self._refusal(call, error, begun)
        except Exception as error:
            self._reporter.bug(error, "the engine")
            return self._refusal(call, Failed(self._reporter.words(error)), begun)
        finally:
            self._standing.leave()

    def stop_award(self, award: AwardId) -> None:
        """Nobody waits for this award. Its handler is canceled, unless it is admitted or somebody else waits."""
        for run in self._running.values():
            if award in run.awards:
                run.drop(award, Canceled("nobody waits for this step any more"))

    async def propose(self, proposal: Proposal) -> Bid:
        """The agent's bid. Never raises: what goes wrong is a refusal with its reason."""
        if proposal.capability not in self.agent.capabilities:
            reason = f"{self.agent_id} does not offer {proposal.capability}"
            return Bid(self.agent_id, "", 0, 0, self._standing.depth, refusal=reason)
        try:
            async with asyncio.timeout(_BID_SECONDS):
                return await self._bid(proposal)
        except TimeoutError:
            return self._no_bid(proposal, f"it did not make up its mind within {_BID_SECONDS} s")
        except HanseError as error:
            return self._no_bid(proposal, self._reporter.clean(error.detail))
        except Exception as error:
            self._reporter.bug(error, "propose")
            return self._no_bid(proposal, self._reporter.words(error))

    def offer(self) -> Offer:
        """The standing offer, as of now."""
        return self._standing.offer(self._ailment(), self._working())

    def _working(self) -> list[AwardId]:
        """What it has had for longer than a moment. The oldest come first, so this looks at few more than it finds."""
        since = self._clock.monotonic() - _MOMENT_SECONDS
        old = takewhile(lambda run: run.accepted < since, self._running.values())
        return [award for run in old for award in run.awards]

    def _labels(self, capability: CapabilityName) -> tuple[str, ...]:
        known = self.agent.capabilities.get(capability)
        return known.contract.labels if known else ()

    def describe(self) -> JsonObject:
        """What a host says of this agent in its `Hello`."""
        return {
            "agent": self.agent_id,
            "domain": self.agent.domain,
            "description": inspect.cleandoc(type(self.agent).__doc__ or ""),
            "contracts": [self._contract(each).to_data() for each in self.agent.capabilities.values()],
            "epoch": self._store.epoch,
        }

    def _contract(self, capability: Capability) -> Contract:
        """With the limits of this very agent."""
        return replace(capability.contract, max_concurrent=self._bounds.get(capability.contract.name))

    # The way of a call

    async def _answer(self, call: Call) -> tuple[Any, bool, Used]:
        """The output, whether it was there already, and what models took for it this time."""
        self._check_open()
        capability = self.agent.capabilities.get(call.capability)
        if capability is None:
            raise NotFound(f"{self.agent_id} does not offer {call.capability}")
        wanted = digest(call.input)
        stale, allowance = self._verify(call, wanted)
        followed = call.ruling is None
        while (run := self._running.get(call.key)) or not followed:
            if run is None:
                followed = await self._follow(call)
                continue
            run.check_same(call, wanted)
            if outcome := await run.joined(call.award):
                return (*outcome, run.used)
        if capability.contract.effect.writes and (receipt := self._receipt(call, wanted)):
            return unpack(receipt), True, self._said_then(call)
        self._runner.check_deadline(call)
        if stale:
            raise stale
        output, used = await self._run(call, capability, wanted, allowance)
        return output, False, used

    async def _follow(self, call: Call) -> bool:
        """Tells the ledger what a person found out. Raises OutcomeUnknown when it can make nothing of it."""
        ruling = call.ruling or {}
        try:
            await self.ledger.rule(call.key, happened=bool(ruling["happened"]), result=ruling["result"])
        except OutcomeUnknown as error:
            raise error.about(stay_with=self.agent_id) from None
        return True

    def _verify(self, call: Call, wanted: Digest) -> tuple[TokenInvalid | None, Allowance]:
        """What the token says of the data. Raises TokenInvalid. One that is only too old still opens an existing
        receipt: then that is returned.
        """
        if call.key != step_key(call.task, call.step):
            raise TokenInvalid("the idempotency key is not the step's")
        token, now = Token.from_data(call.token), self._clock.now_ms()
        demand = Demand(call.task, call.step, call.capability, call.tenant, wanted, now, call.budget_cents)
        try:
            return None, verify(token, self._key, demand)
        except TokenInvalid as error:
            return error, verify(token, self._key, replace(demand, now_ms=0))

    def _receipt(self, call: Call, wanted: Digest) -> bytes | None:
        for capability, input_digest, output, _ in self._store.read("receipt", (call.key,)):
            if (capability, input_digest) != (call.capability, wanted):
                raise key_reused(call)
            return output
        return None

    def _said_then(self, call: Call) -> Used:
        """The labels that stand beside a receipt."""
        for (labels,) in self._store.read("receipt_labels", (call.key,)):
            return NOTHING_USED._replace(labels=unpack(labels))
        return NOTHING_USED

    async def _run(self, call: Call, capability: Capability, wanted: Digest, allowance: Allowance) -> tuple[Any, Used]:
        transaction, accepted = Transaction(self._runner.rows), self._clock.monotonic()
        run = self._running[call.key] = Run(call, wanted, transaction, self._runner.deadlines, accepted, allowance)
        try:
            output, commit = await self._runner.run(run, capability)
        except BaseException as error:
            if isinstance(error, HanseError) and run.purse:
                error.about(model_cents=run.used.cents, model_tokens=run.used.tokens)
            if isinstance(error, HanseError) and run.marking and run.marking.taken:
                error.ids[IN_ERROR] = run.marking.data()
            self._end(run, (None, error) if isinstance(error, HanseError) else None)
            raise
        if commit is not None:
            await self._durable(run, output, commit)
        self._end(run, (output, None))
        self._standing.took(call.capability, (self._clock.monotonic() - run.began) * 1000)
        return output, run.used

    async def _durable(self, run: Run, output: Any, commit: Commit) -> None:
        try:
            await asyncio.shield(commit)
        except StorageError as error:
            self._end(run, (None, error))
            raise
        except asyncio.CancelledError:
            # The caller has gone, but until the receipt is on disk the run must be found by whoever comes.
            commit.add_done_callback(lambda commit: self._end(run, (output, None)))
            raise
        self._faults.reach(points.AFTER_COMMIT)

    def _end(self, run: Run, outcome: tuple[Any, HanseError | None] | None) -> None:
        del self._running[run.call.key]
        run.end(outcome)

    # Bids

    async def _bid(self, proposal: Proposal) -> Bid:
        transaction = Transaction(self._runner.rows)
        context = Context(_unasked(self, proposal), Effect.READ, self._surroundings, transaction, None)
        try:
            return await self.agent.propose(proposal, context)
        finally:
            transaction.ended = True

    def _no_bid(self, proposal: Proposal, reason: str) -> Bid:
        return replace(bid_of(self.agent, self.offer(), proposal.capability), refusal=reason or "it gives no reason")

    # What goes wrong

    def _check_open(self) -> None:
        if self._broken:
            raise self._broken
        if self._stopping:
            raise Unavailable(f"{self.agent_id} is stopping")

    async def _fence(self, error: StorageError) -> StorageError:
        """From now on nothing is accepted."""
        if self._broken is None:
            self._broken = error
            log.critical("%s stops: %s", self.agent_id, error, extra={"action": "agent.fenced", "agent": self.agent_id})
            await self._reporter.quietly(self.agent.on_failure(error), "on_failure")
        return self._broken

    def _refusal(self, call: Call, error: HanseError, begun: float) -> Result:
        error.about(agent=self.agent_id, capability=call.capability, task=call.task, step=call.step)
        return Result(call.award, None, self._reporter.data(error), (self._clock.monotonic() - begun) * 1000)

    def _ailment(self) -> str:
        if self._broken or self._stopping:
            return str(self._broken or "it is stopping")
        return stuck(self._running.values()) or self.agent.ailment()

    async def _stop_recovery(self) -> None:
        if self._recovery:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self.ledger.stop()


def _unasked(engine: Engine, proposal: Proposal | None = None) -> Call:
    """A call for what no task called for: a start, or a bid."""
    nobody = (TaskId(""), StepId(""), Tenant(""), CapabilityName("on_start"))
    about = (proposal.task, proposal.step, proposal.tenant, proposal.capability) if proposal else nobody
    return Call(AwardId(""), IdempotencyKey(""), engine.agent_id, *about, None, None, 0, 0)


def _bounds(agent: Agent, bulkheads: Mapping[str, int]) -> Iterator[tuple[CapabilityName, int]]:
    for name, each in agent.capabilities.items():
        own = (most for pattern, most in bulkheads.items() if fnmatchcase(name, pattern))
        if (most := next(own, each.contract.max_concurrent)) is not None:
            yield name, most


def _secrets(connectors: Mapping[str, Connector]) -> list[str]:
    return [secret for each in connectors.values() for secret in each.secrets()]
