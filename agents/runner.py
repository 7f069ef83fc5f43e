"""Running one handler: its slot, its time, and as many goes as it takes until what it read is still so at its end.

A handler runs first in good faith. If somebody else's writes were admitted meanwhile, what it read then is pinned and
it runs again, now undisturbed. When it has changed something outside, its pins are kept, so that it finds what it
found before and wants what it wanted before.
"""

import asyncio
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from ..contracts import (
    Capability,
    CapabilityName,
    Clock,
    Conflict,
    ContractBreach,
    DeadlineExceeded,
    Entropy,
    Failed,
    HanseError,
    InvalidInput,
    OutcomeUnknown,
    StorageError,
    Store,
    Write,
)
from ..contracts.messages import Call
from ..contracts.plain import pack
from ..contracts.ports import Faults
from . import faults as points
from .agent import Agent
from .context import Context, Surroundings
from .deadlines import Deadlines
from .effects import Effects
from .ledger import Ledger
from .reporter import Reporter
from .rows import Deadlock, Rows
from .run import Run
from .slots import Slots
from .standing import Standing
from .state import Rerun, Transaction

Commit = asyncio.Future[None]

_MAX_RUNS = 20
"""Of one handler for one call. Only the first is without pins, so this is far away."""
_DEADLOCK = "two handlers with outside effects want each other's rows"


class Runner:
    """Runs the handlers of one agent."""

    def __init__(
        self,
        agent: Agent,
        store: Store,
        ledger: Ledger,
        surroundings: Surroundings,
        reporter: Reporter,
        standing: Standing,
        faults: Faults,
        max_concurrency: int,
        max_queue: int,
        bounds: Mapping[CapabilityName, int],
    ) -> None:
        self.rows, self.deadlines = Rows(store), Deadlines()
        self._agent, self._store, self._ledger = agent, store, ledger
        self._surroundings, self._reporter, self._standing = surroundings, reporter, standing
        self._faults = faults
        self._clock: Clock = surroundings.clock
        self._entropy: Entropy = surroundings.entropy
        self._handlers = {name: getattr(agent, each.method) for name, each in agent.capabilities.items()}
        self._max_concurrency, self._slots = max_concurrency, Slots(max_concurrency, max_queue)
        self._bulkheads = {name: Slots(most, max_queue) for name, most in bounds.items()}

    async def run(self, run: Run, capability: Capability) -> tuple[Any, Commit | None]:
        """Output, and the commit to be waited for. Raises what is to be answered with."""
        bulkhead = self._bulkheads.get(capability.contract.name)
        slots = (self._slots,) if bulkhead is None else (bulkhead, self._slots)
        try:
            for each in slots:
                if not each.take():
                    await self._wait_for_slot(run, capability, each)
                run.slots.append(each)
            self._start_clock(run, capability)
            return await self._goes(run, capability)
        except asyncio.CancelledError:
            if cause := run.caught():
                raise self._honest(run, cause) from None
            raise
        finally:
            for each in run.slots:
                each.give()
            self.rows.pins.release(run)
            run.close()

    def check_deadline(self, call: Call) -> None:
        """Raises DeadlineExceeded when it is too late; OutcomeUnknown if an attempt before a crash did something."""
        if not 0 < call.deadline_ms <= self._clock.now_ms():
            return
        effects = [entry for entry in self._ledger.of(call.key).values() if entry.is_effect]
        if all(entry.status.is_nothing for entry in effects):
            raise DeadlineExceeded("the step came after its deadline, and was not begun")
        states = {entry.key: str(entry.status) for entry in effects}
        raise OutcomeUnknown(
            "the step came after its deadline, but an earlier attempt began effects outside",
            effects=states,
            stay_with=self._agent.name,
        )

    # Slot and time

    def _start_clock(self, run: Run, capability: Capability) -> None:
        """Starts the handler's time."""
        run.began = self._clock.monotonic()
        deadline = run.call.deadline_ms
        left = (deadline - self._clock.now_ms()) / 1000 if deadline > 0 else inf
        run.time.start(capability.contract.timeout_seconds, left)

    async def _wait_for_slot(self, run: Run, capability: Capability, slots: Slots) -> None:
        each_ms = self._standing.latency_ms(capability.contract.name)
        seconds = self._standing.depth * each_ms / self._max_concurrency / 1000
        await slots.wait(retry_after_seconds=round(max(0.1, seconds), 1))
        try:
            self.check_deadline(run.call)
        except HanseError:
            slots.give()
            raise

    # Goes

    async def _goes(self, run: Run, capability: Capability) -> tuple[Any, Commit | None]:
        if self._ledger.connectors and capability.contract.effect.writes:
            run.effects = Effects(self._ledger, run.call, run.digest, self._entropy, run.pin)
        for _ in range(_MAX_RUNS):
            try:
                return await self._go(run, capability)
            except (Rerun, Deadlock) as lost:
                await self._prepare_next(run, lost)
        raise self._honest(run, Conflict(f"the handler lost against others {_MAX_RUNS} times"))

    async def _go(self, run: Run, capability: Capability) -> tuple[Any, Commit | None]:
        """One run of the handler, to its admission. Raises Rerun, Deadlock, or what is to be answered with."""
        transaction = run.transaction
        try:
            value = await self._handled(run, capability)
            output, data = self._checked(capability, value, transaction)
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
        if run.marking is not None and transaction.writes and capability.contract.is_outward:
            run.marking.check_outward(capability.contract.name)
        if self.rows.pins or (run.effects and run.effects.under_way):
            await self._clear_the_way(run)
        if run.cause:
            raise asyncio.CancelledError  # which the handler has swallowed
        if not transaction.is_current():
            raise Rerun
        run.over = True
        return output, self._admitted(run, capability, data)

    async def _handled(self, run: Run, capability: Capability) -> Any:
        request = capability.input.load(run.call.input)
        self._faults.reach(points.BEFORE_HANDLER)
        handler = self._handlers[run.call.capability]
        if not capability.takes_context:
            return await handler(request)
        effect = capability.contract.effect
        context = Context(
            run.call,
            effect,
            self._surroundings,
            run.transaction,
            run.effects,
            run.open_purse,
            run.aside,
            run.deadline_ms,
            run.open_marking,
        )
        return await handler(request, context)

    def _checked(self, capability: Capability, value: Any, transaction: Transaction) -> tuple[Any, bytes]:
        """The output as plain data and as bytes. Raises ContractBreach."""
        if transaction.breach:
            raise transaction.breach
        try:
            output = capability.output.dump(value)
            return output, pack(output)
        except InvalidInput as error:
            raise ContractBreach(
                f"{capability.contract.name} answers what it does not promise: {error.detail}"
            ) from None

    async def _clear_the_way(self, run: Run) -> None:
        """Waits for effects the handler did not await, and for pins on what it writes. Raises Deadlock."""
        if run.effects:
            await run.effects.quiet()
        if run.transaction.writes:
            await self.rows.pins.free(run, run.transaction.writes)

    def _admitted(self, run: Run, capability: Capability, output: bytes) -> Commit | None:
        """The commit the answer waits for; None when there is nothing to wait for."""
        if not capability.contract.effect.writes:
            return self._seen(run.transaction)
        call = run.call
        receipt = (call.key, call.capability, run.digest, output, call.award, self._clock.now_ms())
        self._faults.reach(points.BEFORE_COMMIT)
        run.transaction.label(run.marks)
        return run.transaction.admit((Write("insert_receipt", receipt), *_labels(run)))

    def _seen(self, transaction: Transaction) -> Commit | None:
        """An empty commit behind those whose writes were seen, when they are not on disk yet."""
        return self._store.commit(()) if transaction.saw > self.rows.durable else None

    async def _prepare_next(self, run: Run, lost: BaseException) -> None:
        """Pins what the next go will most likely read, so that it does not lose again."""
        if run.effects:
            await run.effects.quiet()
        if not (run.effects and run.effects.begun):
            self.rows.pins.release(run)
        elif isinstance(lost, Deadlock):
            raise self._honest(run, Conflict(_DEADLOCK)) from None
        if run.effects:
            run.effects.restart()
        try:
            await self.rows.pins.take(run, *run.transaction.footprint())
        except Deadlock:
            raise self._honest(run, Conflict(_DEADLOCK)) from None
        run.transaction = Transaction(self.rows)

    # What goes wrong

    async def _failure(self, run: Run, error: BaseException) -> BaseException:
        """What to raise for a handler's error: the error to answer with, or Rerun when it may come from old data."""
        if run.cause:
            return asyncio.CancelledError()
        if isinstance(error, Rerun | Deadlock | StorageError):
            return error
        if not run.transaction.is_current():
            return Rerun()
        run.over = True
        known = await self._known(run.transaction.breach or error)
        if run.effects:
            await run.effects.quiet()
        if seen := self._seen(run.transaction):
            await asyncio.shield(seen)
        return self._honest(run, known)

    async def _known(self, error: BaseException) -> HanseError:
        if isinstance(error, HanseError):
            return error
        self._reporter.bug(error, "a handler")
        await self._reporter.quietly(self._agent.on_failure(error), "on_failure")
        return Failed(self._reporter.words(error))

    def _honest(self, run: Run, error: HanseError) -> HanseError:
        """The error, for somebody who must know what has happened outside."""
        effects = run.effects
        if effects is None:
            return error
        if (doubt := effects.in_doubt()) and not isinstance(error, OutcomeUnknown):
            keys = [entry.key for entry in doubt]
            text = f"{error.detail}; what came of {doubt[0].what} is not known"
            error = OutcomeUnknown(text, effects=keys, after=error.code)
        if done := effects.happened():
            error.about(effects_done=[entry.key for entry in done])
        return error if not effects.begun else error.about(stay_with=self._agent.name)


def _labels(run: Run) -> Iterator[Write]:
    """What its receipt says of the answer beside it. Most answers have no label."""
    if run.marking is not None and run.marking.taken:
        yield Write("insert_receipt_labels", (run.call.key, pack(run.marking.data())))


def _leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    """What a task group really says: that the handler must run again, or its only error, or all of them."""
    if lost := group.subgroup((Rerun, Deadlock)):
        group = lost
    first = group.exceptions[0]
    if not lost and len(group.exceptions) > 1:
        return group
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
