"""The effects of one step, as its handler runs, and runs again.

For the ledger to find its rows, a handler must want the same effects each time. So the n-th effect of a step has the
key `step!n`; the step's clock and its random seed are kept with the first claim, and so is what its connectors looked
up; and the rows of the agent's state that it had read by then are pinned, so that nobody changes them while the effect
is under way. An effect that did not happen, and that the handler went on without, does not happen later either. If the
handler wants something else all the same, that is KeyReused, and nothing is done.

Pins do not outlive a crash. What an effect depends on and other steps may change, such as a balance, is best reserved
by a step before, and used by this one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any

from ..contracts import (
    ContractBreach,
    Digest,
    Effect,
    Entropy,
    HanseError,
    InvalidInput,
    KeyReused,
    OutcomeUnknown,
    TimedOut,
    Transient,
    Unavailable,
    canonical,
)
from ..contracts.breaker import Passage
from ..contracts.messages import Call
from ..contracts.plain import pack, unpack
from . import faults
from .connector import Connector, Operation
from .guard import is_its_fault
from .ledger import Entry, Ledger, Status, request_of
from .process import identity
from .secrets import without

_PAUSES_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Before each look at an effect that is in doubt. Only this agent can clear it up, so it is worth some patience."""
_LEASE_MARGIN_MS = 5000
_RUN = "run"


class Effects:
    """What one step has done outside, and does."""

    def __init__(
        self, ledger: Ledger, call: Call, digest: Digest, entropy: Entropy, pin: Callable[[], Awaitable[None]]
    ) -> None:
        self.key = call.key
        self.under_way = 0
        """Effects the handler has begun and not awaited to their end."""
        self._ledger, self._entropy, self._pin = ledger, entropy, pin
        self._step = (call.capability, digest)
        self._count = 0
        self._idle: asyncio.Future[None] | None = None
        self._unsaved: list[Entry] = []
        self._left: list[Entry] = []
        """What did not happen in this go of the handler."""

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """What the ledger has for the step, read when first used. Raises KeyReused when it was begun as another."""
        entries = self._ledger.of(self.key)
        first = entries.get(f"{self.key}!{_RUN}")
        if first and first.request != canonical(self._step):
            raise KeyReused("effects were begun under this key for another capability or input", key=self.key)
        return entries

    @cached_property
    def moment(self) -> tuple[int, bytes]:
        """Clock (unix milliseconds) and seed of the first run that claimed anything; new ones if there was none."""
        key = f"{self.key}!{_RUN}"
        if key in self.entries:
            now_ms, seed = unpack(self.entries[key].result or b"")
            return now_ms, seed
        now_ms, seed = self._ledger.clock.now_ms(), self._entropy.bytes(16)
        self._unsaved.append(Entry(key, "", _RUN, canonical(self._step), Status.DONE, 0, pack((now_ms, seed)), now_ms))
        return now_ms, seed

    def restart(self) -> None:
        """The handler begins anew."""
        self._count = 0
        self._left.clear()
        self._unsaved = [entry for entry in self._unsaved if entry.operation == _RUN]

    async def quiet(self) -> None:
        """Waits until nothing is under way: a handler may have begun effects and not awaited them."""
        while self.under_way:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def happened(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.is_effect and entry.status is Status.DONE]

    def in_doubt(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.status.is_open]

    @property
    def begun(self) -> bool:
        """Whether the outside world has changed, or may have."""
        return any(entry.is_effect and not entry.status.is_nothing for entry in self.entries.values())

    async def perform(self, connector: Connector, operation: Operation, name: str, request: dict[str, Any]) -> Any:
        """The result: stored, looked up, or done now. Raises what the connector raised, KeyReused, OutcomeUnknown."""
        wanted = self._wanted(connector, operation, name, request)
        found = self._found(wanted)
        with self._counted():
            run = self._look if operation.effect is Effect.READ else self._act
            entry = await run(connector, operation, wanted, found)
        return operation.result.load(_outcome(entry))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if self._idle and not self.under_way:
                self._idle.set_result(None)
                self._idle = None

    def _wanted(self, connector: Connector, operation: Operation, name: str, request: dict[str, Any]) -> Entry:
        if not name:
            name, self._count = str(self._count), self._count + 1
        key = f"{self.key}!{name}"
        return Entry(key, connector.name, operation.name, canonical(request), Status.RELEASED, 0, None, 0)

    def _found(self, wanted: Entry) -> Entry | None:
        found = self.entries.get(wanted.key)
        if found is None or found.same(wanted):
            return found
        if found.status.is_due:
            return None
        raise KeyReused(
            f"effect {wanted.key} is {found.status} as {found.what} with another request. A handler that runs again "
            f"must want the same; reserve in a step before what other steps may change.",
            effect=wanted.key,
        )

    async def _look(self, connector: Connector, operation: Operation, wanted: Entry, found: Entry | None) -> Entry:
        if found and not found.status.is_due:
            return found
        try:
            value = await _read(connector, operation, request_of(wanted))
            entry = self._ledger.closed(wanted, Status.DONE, value)
        except HanseError as error:
            entry = self._failed(wanted, error)
        self._unsaved.append(entry)
        return self._ended(entry)

    async def _act(self, connector: Connector, operation: Operation, wanted: Entry, found: Entry | None) -> Entry:
        passed_over = self._passed_over()
        await self._pin()
        entry = found or wanted
        for pause in _PAUSES_SECONDS:
            if entry.status.is_open:
                await asyncio.sleep(pause)
                entry = await self._settled(connector, entry)
            if entry.status.is_open:
                continue
            if not entry.status.is_due:
                return entry
            entry = await self._once(connector, operation, wanted, passed_over)
            if not entry.status.is_open:
                return entry
        return entry

    def _passed_over(self) -> list[Entry]:
        """What has not happened by now, when the handler goes on to another effect; not what has a name of its own."""
        return [entry._replace(status=Status.PASSED_OVER) for entry in self._left]

    def _ended(self, entry: Entry) -> Entry:
        if entry.status.is_due and entry.key.rpartition("!")[2].isdecimal():
            self._left.append(entry)
        return entry

    async def _settled(self, connector: Connector, entry: Entry) -> Entry:
        """The entry done, or released for another try; open as before when the outside system cannot be asked now."""
        try:
            settled = await self._ledger.settled(entry)
        except OutcomeUnknown:
            if connector.repeatable:
                return entry._replace(status=Status.RELEASED)
            if connector.askable:
                return entry
            raise
        self.entries[entry.key] = settled
        return settled

    async def _once(self, connector: Connector, operation: Operation, wanted: Entry, passed_over: list[Entry]) -> Entry:
        """What is in doubt, and may simply be done again, is done whatever the state of the outside system."""
        doubtful = (known := self.entries.get(wanted.key)) is not None and known.status.is_open
        async with AsyncExitStack() as stack:
            try:
                passage = await stack.enter_async_context(_passage(connector, anyway=doubtful))
            except HanseError as error:
                refused = wanted._replace(lease_until_ms=self._ledger.clock.now_ms())  # an effect, though not begun
                return self._ended(self._failed(refused, error))
            entry = await self._begun(connector, operation, wanted, passed_over)
            _tell(passage, well=entry.status in (Status.DONE, Status.FAILED))
        return self._ended(entry)

    async def _begun(
        self, connector: Connector, operation: Operation, wanted: Entry, passed_over: list[Entry]
    ) -> Entry:
        reach = self._ledger.faults.reach
        reach(faults.BEFORE_CLAIM)
        claim = await self._claim(connector, wanted, passed_over)
        reach(faults.AFTER_CLAIM)
        entry = await self._do(connector, operation, claim)
        reach(faults.AFTER_DO)
        await self._kept(entry)
        reach(faults.AFTER_EFFECT_COMMIT)
        return entry

    async def _claim(self, connector: Connector, wanted: Entry, passed_over: list[Entry]) -> Entry:
        """On disk: the claim, what the handler has learned by now, and what it has left behind."""
        _ = self.moment  # it is kept with the first claim, whether the handler looked at it or not
        now = self._ledger.clock.now_ms()
        lease = now + int(connector.timeout_seconds * 1000) + _LEASE_MARGIN_MS
        claim = wanted._replace(status=Status.CLAIMED, lease_until_ms=lease, result=pack(identity()), at_ms=now)
        unsaved, self._unsaved = self._unsaved, []
        try:
            await self._kept(*unsaved, *passed_over, claim)
        except asyncio.CancelledError:
            self._keep(self._failed(claim, Unavailable("it was given up before it was begun")))
            raise
        return claim

    async def _do(self, connector: Connector, operation: Operation, claim: Entry) -> Entry:
        """The claim with its outcome."""
        if self._ledger.has_lapsed(claim):
            return self._failed(
                claim, Unavailable("the lease ran out before anything was done: this process stood still")
            )
        try:
            value = await called(connector, operation, claim.key, request_of(claim))
        except asyncio.CancelledError:
            self._keep(self._failed(claim, OutcomeUnknown("it was given up while under way")))
            raise
        except HanseError as error:
            return self._failed(claim, error)
        return self._ledger.closed(claim, Status.DONE, value)

    def _failed(self, claim: Entry, error: HanseError) -> Entry:
        status = (
            Status.UNKNOWN
            if isinstance(error, OutcomeUnknown)
            else Status.RELEASED
            if isinstance(error, Transient)
            else Status.FAILED
        )
        return self._ledger.closed(claim, status, error.about(effect=claim.key).to_data())

    def _keep(self, *entries: Entry) -> "asyncio.Future[None]":
        self.entries.update((entry.key, entry) for entry in entries)
        return self._ledger.write(*entries)

    async def _kept(self, *entries: Entry) -> None:
        await asyncio.shield(self._keep(*entries))


async def looked_up(connector: Connector, operation: Operation, request: dict[str, Any]) -> Any:
    """The result of an operation that only reads. Nothing is kept."""
    return operation.result.load(await _read(connector, operation, request))


async def _read(connector: Connector, operation: Operation, request: dict[str, Any]) -> Any:
    async with _passage(connector) as passage:
        try:
            value = await called(connector, operation, "", request)
        except HanseError as error:
            _tell(passage, well=not is_its_fault(error))
            raise
        _tell(passage, well=True)
        return value


def _passage(connector: Connector, *, anyway: bool = False) -> AbstractAsyncContextManager[Passage | None]:
    return connector.guard.passage(anyway=anyway) if connector.guard else nullcontext()


def _tell(passage: Passage | None, *, well: bool) -> None:
    if passage is not None and well:
        passage.succeeded()
    elif passage is not None:
        passage.failed()


async def called(connector: Connector, operation: Operation, key: str, request: dict[str, Any]) -> Any:
    """The operation's result as plain data. What nobody meant to happen leaves an effect unknown."""
    effect, what = operation.effect.writes, f"{connector.name}.{operation.name}"
    try:
        async with asyncio.timeout(connector.timeout_seconds):
            result = await operation.handler(connector, key, **request)
    except TimeoutError as error:
        text = f"{what} did not answer within {connector.timeout_seconds:g} s"
        raise (OutcomeUnknown(text) if effect else TimedOut(text)) from error
    except HanseError:
        raise
    except Exception as error:
        text = f"{what} raised {type(error).__name__}: {without(connector.secrets(), str(error))}"
        raise (OutcomeUnknown(text) if effect else Unavailable(text)) from error
    try:
        return operation.result.dump(result)
    except InvalidInput as error:
        text = f"{what} answered what it does not promise: {error.detail}"
        raise (OutcomeUnknown(text) if effect else ContractBreach(text)) from None


def _outcome(entry: Entry) -> Any:
    """The result as plain data. Raises what the connector raised."""
    if entry.status is Status.CLAIMED:
        raise OutcomeUnknown(f"{entry.what} was under way in a crash, and nobody could be asked", effect=entry.key)
    value = unpack(entry.result) if entry.result is not None else None
    if entry.status is Status.DONE:
        return value
    raise HanseError.from_data(value) if value else Unavailable(f"{entry.what} did not happen", effect=entry.key)
