"""The engine of one agent: takes calls, runs handlers, and makes each step happen once.

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
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_jsonable_python

from ..contracts import (
    AgentId,
    AwardId,
    Bid,
    Canceled,
    Capability,
    CapabilityName,
    Clock,
    Conflict,
    ContractBreach,
    DeadlineExceeded,
    Demand,
    Digest,
    Effect,
    Entropy,
    Failed,
    Faults,
    HanseError,
    IdempotencyKey,
    InvalidInput,
    JsonObject,
    NoFaults,
    NotFound,
    Offer,
    OutcomeUnknown,
    StepId,
    StorageError,
    Store,
    TaskId,
    Tenant,
    TimedOut,
    Token,
    TokenInvalid,
    Unavailable,
    Write,
    digest,
)
from ..contracts.ids import step_key
from ..contracts.messages import Call, Progress, Proposal, Result
from ..contracts.token import Key, verify
from ..contracts.wire import pack, unpack
from . import faults as points
from .agent import Agent, bid_of
from .connector import Connector
from .context import Context, Surroundings
from .effects import Effects
from .ledger import NOTHING, Ledger
from .rows import Deadlock, Rows
from .run import Run, key_reused
from .secrets import secrets_in, without
from .slots import Slots
from .state import Rerun, Transaction

log = logging.getLogger("hanse.agents")

_MAX_RUNS = 20
"""Of one handler for one call, because of others' writes. Only the first is optimistic, so this is far away."""
_OVERDUE_SECONDS = 5.0
_BID_SECONDS = 2.0
_MAX_WORDS = 500
_DEADLOCK = "two handlers with outside effects want each other's rows"
_SMOOTHING = 0.2
"""Weight of the newest call in the latency an offer shows."""


def _ignore(progress: Progress) -> None: ...


class Engine:
    """Runs one agent over one store. All methods are called on the event loop the store was opened on."""

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
        max_concurrency: int = 64,
        max_queue: int = 4096,
    ) -> None:
        """`key` is the agent's own, from `contracts.token.agent_key`. Store and connectors stay the caller's to close."""
        self.agent = agent
        self.id = AgentId(agent.name)
        self._store, self._key, self._clock, self._entropy = store, key, clock, entropy
        self._faults = faults or NoFaults()
        self._connectors = connectors or {}
        self._rows = Rows(store)
        self.ledger = Ledger(store, clock, self._connectors, self._faults)
        self._surroundings = Surroundings(self.id, clock, entropy, self._connectors, on_progress, self.offer)
        self._handlers = {name: getattr(agent, each.method) for name, each in agent.capabilities.items()}
        self._slots, self._max_concurrency = Slots(max_concurrency, max_queue), max_concurrency
        self._running: dict[IdempotencyKey, Run] = {}
        self._depth = 0
        self._idle: asyncio.Future[None] | None = None
        self._latency_ms: dict[CapabilityName, float] = {}
        self._secrets = (
            *secrets_in(agent.options),
            *(secret for each in self._connectors.values() for secret in each.secrets()),
        )
        self._recovery: asyncio.Task[None] | None = None
        self._stopping = False
        self._broken: StorageError | None = None

    # Its life

    async def start(self) -> None:
        """Runs `on_start` to its commit, while open effects are asked about. Raises what `on_start` raises."""
        if self.ledger.open_entries():
            self._recovery = asyncio.create_task(self.ledger.reconcile(), name=f"reconcile {self.id}")
        transaction = Transaction(self._rows)
        await self.agent.on_start(self._context(self._unasked(), Effect.REVERSIBLE, transaction, None))
        transaction.ended = True
        if transaction.writes:
            await transaction.admit(())

    async def stop(self, grace_seconds: float = 10) -> None:
        """Takes no more calls, waits for those under way, cancels what is not done in time, runs `on_stop`. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        await self._become_idle(grace_seconds)
        for run in list(self._running.values()):
            run.give_up(Unavailable("the agent stopped"))
        await self._become_idle(grace_seconds)
        await self._stop_recovery()
        await self._quietly(self.agent.on_stop())

    # What it does

    async def execute(self, call: Call) -> Result:
        """Executes one step, or finds that it was. Errors are in the result; only StorageError is raised, and then the process must stop."""
        begun = self._clock.monotonic()
        self._depth += 1
        try:
            self._faults.reach(points.CALL_RECEIVED)
            output, replayed = await self._answer(call)
            return Result(call.award, output, None, (self._clock.monotonic() - begun) * 1000, replayed)
        except StorageError as error:
            raise await self._fence(error) from None
        except HanseError as error:
            return self._refusal(call, error, begun)
        except Exception as error:
            self._log_bug(error, "engine", call.capability)
            return self._refusal(call, Failed(self._words(error)), begun)
        finally:
            self._depth -= 1
            if self._idle and not self._depth:
                self._idle.set_result(None)
                self._idle = None

    def stop_award(self, award: AwardId) -> None:
        """Nobody waits for this award any more: its handler is canceled, if it has not been admitted and nobody else waits."""
        for run in self._running.values():
            if award in run.awards:
                return run.drop(award, Canceled("nobody waits for this step any more"))
        return None

    async def propose(self, proposal: Proposal) -> Bid:
        """The agent's bid. Never raises: what goes wrong is a refusal with its reason."""
        if proposal.capability not in self.agent.capabilities:
            return Bid(self.id, "", 0, 0, self._depth, refusal=f"{self.id} does not offer {proposal.capability}")
        bid = bid_of(self.agent, self.offer(), proposal.capability)
        transaction = Transaction(self._rows)
        context = self._context(self._unasked(proposal), Effect.READ, transaction, None)
        try:
            async with asyncio.timeout(_BID_SECONDS):
                return await self.agent.propose(proposal, context)
        except TimeoutError:
            return _refused(bid, f"it took longer than {_BID_SECONDS} s to think about it")
        except HanseError as error:
            return _refused(bid, without(self._secrets, error.detail))
        except Exception as error:
            self._log_bug(error, "propose", proposal.capability)
            return _refused(bid, self._words(error))
        finally:
            transaction.ended = True

    def offer(self) -> Offer:
        """The standing offer, as of now."""
        reason = self._ailment()
        return Offer(self.id, self._depth, dict(self._latency_ms), self._prices(), not reason, reason)

    def describe(self) -> JsonObject:
        """What a host says of this agent in its `Hello`."""
        return {
            "agent": self.id,
            "domain": self.agent.domain,
            "description": inspect.cleandoc(type(self.agent).__doc__ or ""),
            "contracts": [each.contract.to_data() for each in self.agent.capabilities.values()],
        }

    # The way of a call

    async def _answer(self, call: Call) -> tuple[Any, bool]:
        self._check_open()
        capability = self.agent.capabilities.get(call.capability)
        if capability is None:
            raise NotFound(f"{self.id} does not offer {call.capability}")
        wanted = digest(call.input)
        late = self._verify(call, wanted)
        while run := self._running.get(call.key):
            run.check_same(call, wanted)
            if outcome := await run.joined(call.award):
                return outcome
        if capability.contract.effect.writes and (receipt := self._receipt(call, wanted)):
            return unpack(receipt), True
        if late:
            raise late
        self._check_deadline(call)
        return await self._run(call, capability, wanted), False

    def _verify(self, call: Call, wanted: Digest) -> HanseError | None:
        """Raises TokenInvalid. A token that is only too old still opens an existing receipt; then it is returned."""
        if call.key != step_key(call.task, call.step):
            raise TokenInvalid("the idempotency key is not the step's")
        token = Token.from_data(call.token)
        demand = Demand(
            call.task, call.step, call.capability, call.tenant, wanted, self._clock.now_ms(), call.budget_cents
        )
        try:
            verify(token, self._key, demand)
            return None
        except TokenInvalid as error:
            verify(
                token,
                self._key,
                Demand(call.task, call.step, call.capability, call.tenant, wanted, 0, call.budget_cents),
            )
            return error if not self._is_past(call) else self._too_late(call)

    def _receipt(self, call: Call, wanted: Digest) -> bytes | None:
        for capability, input_digest, output, _ in self._store.read("receipt", (call.key,)):
            if (capability, input_digest) != (call.capability, wanted):
                raise key_reused(call)
            return output
        return None

    def _check_deadline(self, call: Call) -> None:
        if self._is_past(call):
            raise self._too_late(call)

    def _too_late(self, call: Call) -> HanseError:
        """Nothing was done, unless an earlier attempt, which a crash cut short, has done something outside."""
        effects = [entry for entry in self.ledger.of(call.key).values() if entry.is_effect] if self._connectors else []
        if all(entry.status in NOTHING for entry in effects):
            return DeadlineExceeded("the step came after its deadline, and was not begun")
        return OutcomeUnknown(
            "the step came after its deadline, but an earlier attempt has begun effects outside",
            effects={entry.key: str(entry.status) for entry in effects},
        )

    def _is_past(self, call: Call) -> bool:
        return 0 < call.deadline_ms <= self._clock.now_ms()

    async def _run(self, call: Call, capability: Capability, wanted: Digest) -> Any:
        run = self._running[call.key] = Run(call, wanted, Transaction(self._rows))
        try:
            output, commit = await self._handled(run, capability)
        except BaseException as error:
            self._end(run, (None, error) if isinstance(error, HanseError) else None)
            raise
        if commit is not None:
            await self._durable(run, output, commit)
        self._end(run, (output, None))
        self._note_latency(capability, run)
        return output

    async def _durable(self, run: Run, output: Any, commit: "asyncio.Future[None]") -> None:
        try:
            await asyncio.shield(commit)
        except StorageError as error:
            self._end(run, (None, error))
            raise
        except (
            asyncio.CancelledError
        ):  # the caller has gone; whoever joins must still find the run until the receipt is there
            commit.add_done_callback(lambda commit: self._end(run, (output, None)))
            raise
        self._faults.reach(points.AFTER_COMMIT)

    def _end(self, run: Run, outcome: tuple[Any, HanseError | None] | None) -> None:
        del self._running[run.call.key]
        run.end(outcome)

    async def _handled(self, run: Run, capability: Capability) -> tuple[Any, "asyncio.Future[None] | None"]:
        """Output and commit of the handler, within its slot and its time."""
        timer: asyncio.TimerHandle | None = None
        try:
            await self._slots.take(self._retry_after_seconds(capability))
            try:
                timer = self._set_timer(run, capability)
                return await self._attempts(run, capability)
            finally:
                self._slots.give()
        except asyncio.CancelledError:
            if cause := run.caught():
                raise self._honest(run, cause) from None
            raise
        finally:
            run.over = True
            self._rows.pins.release(run)
            if timer:
                timer.cancel()

    def _set_timer(self, run: Run, capability: Capability) -> asyncio.TimerHandle:
        """Starts the handler's time. Raises DeadlineExceeded when the slot came too late."""
        seconds = capability.contract.timeout_seconds
        error: type[HanseError] = TimedOut
        if run.call.deadline_ms > 0:
            left = (run.call.deadline_ms - self._clock.now_ms()) / 1000
            if left <= 0:
                raise self._too_late(run.call)
            if left < seconds:
                seconds, error = left, DeadlineExceeded
        run.began = self._clock.monotonic()
        cause = error(f"the handler did not end within {seconds:.3g} s")
        return asyncio.get_running_loop().call_later(seconds, run.give_up, cause)

    async def _attempts(self, run: Run, capability: Capability) -> tuple[Any, "asyncio.Future[None] | None"]:
        if capability.contract.effect.writes and self._connectors:
            run.effects = Effects(self.ledger, run.call.key, self._entropy, run.pin)
        for _ in range(_MAX_RUNS):
            try:
                return await self._attempt(run, capability)
            except (Rerun, Deadlock) as lost:
                await self._prepare_rerun(run, lost)
        raise self._honest(run, Conflict(f"the handler lost against others {_MAX_RUNS} times"))

    async def _prepare_rerun(self, run: Run, lost: BaseException) -> None:
        """Pins what the next run will most likely read, so that it does not lose again."""
        begun = run.effects is not None and run.effects.begun
        if not begun:
            self._rows.pins.release(run)
        elif isinstance(lost, Deadlock):
            raise self._honest(run, Conflict(_DEADLOCK)) from None
        if run.effects:
            await run.effects.quiet()
            run.effects.restart()
        try:
            await self._rows.pins.take(run, *run.transaction.footprint())
        except Deadlock:
            raise self._honest(run, Conflict(_DEADLOCK)) from None
        run.transaction = Transaction(self._rows)

    async def _attempt(self, run: Run, capability: Capability) -> tuple[Any, "asyncio.Future[None] | None"]:
        """One run of the handler, from its input to its admission. Raises Rerun, Deadlock, or the error to answer with."""
        transaction = run.transaction
        try:
            value = await self._call_handler(run, capability)
            output = self._checked_output(capability, value, transaction)
        except asyncio.CancelledError as error:
            if run.is_canceled:
                raise
            raise await self._failure(run, error) from None
        except BaseExceptionGroup as group:
            raise await self._failure(run, _leaf(group)) from None
        except Exception as error:
            raise await self._failure(run, error) from None
        finally:
            transaction.ended = True
        await self._clear_the_way(run)
        if run.cause:
            raise asyncio.CancelledError  # which the handler has swallowed
        if not transaction.is_current():
            raise Rerun
        run.over = True
        return output[0], self._admitted(run, capability, output[1])

    async def _call_handler(self, run: Run, capability: Capability) -> Any:
        request = capability.input.load(run.call.input)
        self._faults.reach(points.BEFORE_HANDLER)
        handler = self._handlers[run.call.capability]
        if not capability.takes_context:
            return await handler(request)
        return await handler(request, self._context(run.call, capability.contract.effect, run.transaction, run.effects))

    def _checked_output(self, capability: Capability, value: Any, transaction: Transaction) -> tuple[Any, bytes]:
        """The output as plain data and as bytes. Raises ContractBreach."""
        if transaction.breach:
            raise transaction.breach
        try:
            output = capability.output.dump(value)
            return output, pack(output)
        except (InvalidInput, TypeError, ValueError, OverflowError) as error:
            text = f"{capability.contract.name} returned what its contract does not promise: {error}"
            raise ContractBreach(text) from None

    async def _clear_the_way(self, run: Run) -> None:
        """Waits for effects the handler did not await, and for pins on what it writes. Raises Deadlock."""
        if run.effects:
            await run.effects.quiet()
        if self._rows.pins and run.transaction.writes:
            await self._rows.pins.free(run, run.transaction.writes)

    def _admitted(self, run: Run, capability: Capability, output: bytes) -> "asyncio.Future[None] | None":
        """The commit the answer waits for; None when there is nothing to wait for."""
        if not capability.contract.effect.writes:
            return self._barrier(run.transaction)
        call = run.call
        receipt = (call.key, call.capability, run.digest, output, call.award, self._clock.now_ms())
        self._faults.reach(points.BEFORE_COMMIT)
        return run.transaction.admit((Write("insert_receipt", receipt),))

    def _barrier(self, transaction: Transaction) -> "asyncio.Future[None] | None":
        """An empty commit behind those whose writes were seen, when they are not on disk yet."""
        return self._store.commit(()) if transaction.saw > self._rows.durable else None

    # What goes wrong

    async def _failure(self, run: Run, error: BaseException) -> BaseException:
        """What to raise for a handler's error: the error to answer with, or Rerun when it may come from old data."""
        if run.cause:
            return asyncio.CancelledError()
        if isinstance(error, Rerun | Deadlock):
            return error
        if not run.transaction.is_current() and not isinstance(error, StorageError):
            return Rerun()
        run.over = True
        return await self._final(run, error)

    async def _final(self, run: Run, error: BaseException) -> HanseError:
        if isinstance(error, StorageError):
            return error
        known = run.transaction.breach or error
        if not isinstance(known, HanseError):
            self._log_bug(known, "handler", run.call.capability)
            await self._quietly(self.agent.on_failure(known))
            known = Failed(self._words(known))
        if run.effects:
            await run.effects.quiet()
        if barrier := self._barrier(run.transaction):
            await asyncio.shield(barrier)
        return self._honest(run, known)

    def _honest(self, run: Run, error: HanseError) -> HanseError:
        """The error, as seen by somebody who must know what happened outside."""
        effects = run.effects
        if effects is None:
            return error
        if (doubt := effects.in_doubt()) and not isinstance(error, OutcomeUnknown):
            keys = [entry.key for entry in doubt]
            return OutcomeUnknown(
                f"{error.detail}; what came of {doubt[0].what} is not known", effects=keys, after=error.code
            )
        if done := effects.happened():
            error.about(effects_done=[entry.key for entry in done], stay_with=self.id)
        return error

    async def _fence(self, error: StorageError) -> StorageError:
        """From now on nothing is accepted: what the disk holds is not known."""
        if self._broken is None:
            self._broken = error
            log.critical("%s stops: %s", self.id, error, extra={"action": "agent.fenced", "agent": self.id})
            await self._quietly(self.agent.on_failure(error))
        return self._broken

    def _check_open(self) -> None:
        if self._broken:
            raise self._broken
        if self._stopping:
            raise Unavailable(f"{self.id} is stopping")

    def _refusal(self, call: Call, error: HanseError, begun: float) -> Result:
        error.about(agent=self.id, capability=call.capability, task=call.task, step=call.step)
        data = error.to_data()
        data["detail"] = without(self._secrets, error.detail)
        data["ids"] = to_jsonable_python(error.ids, serialize_unknown=True)
        return Result(call.award, None, data, (self._clock.monotonic() - begun) * 1000)

    def _words(self, error: BaseException) -> str:
        """An unexpected error in a line that may leave the process."""
        text = " ".join(str(error).split())[:_MAX_WORDS]
        return without(self._secrets, f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _log_bug(self, error: BaseException, where: str, capability: str) -> None:
        text = without(self._secrets, "".join(traceback.format_exception(error)))
        about = {"action": f"{where}.failed", "agent": self.id, "capability": capability}
        log.error("%s: %s failed\n%s", self.id, capability, text, extra=about)

    async def _quietly(self, hook: Awaitable[None]) -> None:
        """A hook whose errors change nothing."""
        try:
            await hook
        except Exception as error:
            self._log_bug(error, "hook", "a lifecycle hook")

    # What it says of itself

    def _note_latency(self, capability: Capability, run: Run) -> None:
        name, taken = run.call.capability, (self._clock.monotonic() - run.began) * 1000
        before = self._latency_ms.get(name)
        self._latency_ms[name] = taken if before is None else before + _SMOOTHING * (taken - before)

    def _prices(self) -> dict[CapabilityName, float]:
        if type(self.agent).price_cents is Agent.price_cents:
            return {}
        return {name: self.agent.price_cents(name) for name in self.agent.capabilities}

    def _ailment(self) -> str:
        if self._broken or self._stopping:
            return str(self._broken or "stopping")
        overdue_since = asyncio.get_running_loop().time() - _OVERDUE_SECONDS
        for run in self._running.values():
            if run.cause and run.given_up_at < overdue_since:
                return f"a handler of {run.call.capability} was canceled and does not end"
        return self.agent.ailment()

    def _retry_after_seconds(self, capability: Capability) -> float:
        each_ms = self._latency_ms.get(capability.contract.name, capability.contract.latency_ms)
        return round(max(0.1, self._depth * each_ms / self._max_concurrency / 1000), 1)

    # Odds and ends

    def _context(self, call: Call, effect: Effect, transaction: Transaction, effects: Effects | None) -> Context:
        return Context(call, effect, self._surroundings, transaction, effects)

    def _unasked(self, proposal: Proposal | None = None) -> Call:
        """A call for what no task called for: a start, or a bid."""
        task, step, tenant = (
            (proposal.task, proposal.step, proposal.tenant) if proposal else (TaskId(""), StepId(""), Tenant(""))
        )
        name = proposal.capability if proposal else CapabilityName("on_start")
        return Call(AwardId(""), IdempotencyKey(""), self.id, task, step, tenant, name, None, None, 0, 0)

    async def _become_idle(self, seconds: float) -> None:
        if self._depth:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=seconds)

    async def _stop_recovery(self) -> None:
        if self._recovery:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await self.ledger.stop()


def _refused(bid: Bid, reason: str) -> Bid:
    return replace(bid, refusal=reason or "it gave no reason")


def _leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    """What a task group really says: that the handler must run again, or its only error, or all of them."""
    if lost := group.subgroup((Rerun, Deadlock)):
        return _leaf(lost) if isinstance(lost.exceptions[0], BaseExceptionGroup) else lost.exceptions[0]
    only = group.exceptions[0] if len(group.exceptions) == 1 else group
    return _leaf(only) if only is not group and isinstance(only, BaseExceptionGroup) else only
