"""The effect ledger: an outside effect happens once, whatever happens here.

Nobody can change two systems in one transaction, so an effect goes in four steps, each of which can be the last one
before a crash:

    claim    the intent is on disk, with a lease
    do       the outside system is called, with the effect's key
    commit   the result is on disk
    go on    the handler gets the result; its state and its receipt are committed when it has returned

Whoever comes after a crash runs the handler again, and each effect finds its row. *Done* gives the stored result and
does nothing. *Claimed* or *unknown* means that nobody here knows: the outside system is asked (`reconcile`), or called
again with the same key where it promises to do nothing twice; where it can neither be asked nor called again, a person
decides. Nothing is ever tried again blindly.

That a key is not known there is an answer only when nothing can be on its way any more: after the death of the process
that held the lease, or the end of the lease, and after the time the outside system may take to show what it accepted.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from math import inf
from typing import Any, NamedTuple

from ..contracts import Clock, HanseError, IdempotencyKey, InvalidInput, NotFound, OutcomeUnknown, Store, Write
from ..contracts.plain import pack, unpack
from ..contracts.ports import Faults
from . import faults as points
from .connector import Answer, Connector, Done
from .process import is_dead

log = logging.getLogger("hanse.agents")


class Status(StrEnum):
    CLAIMED = "claimed"
    """Somebody is doing it, or died while doing it."""
    DONE = "done"
    FAILED = "failed"
    """The outside system said no, and will again."""
    RELEASED = "released"
    """Nothing happened this time."""
    PASSED_OVER = "passed_over"
    """Nothing happened, and the handler went on to another effect without it: now it must not happen any more."""
    UNKNOWN = "unknown"
    """The outside system was called, and what came of it is not known."""

    @property
    def is_open(self) -> bool:
        return self in (Status.CLAIMED, Status.UNKNOWN)

    @property
    def is_due(self) -> bool:
        """Whether nothing happened, and the next run of the handler does it."""
        return self in (Status.RELEASED, Status.FAILED)

    @property
    def is_nothing(self) -> bool:
        return self.is_due or self is Status.PASSED_OVER


class Entry(NamedTuple):
    """A row of the ledger."""

    key: str
    connector: str
    operation: str
    request: bytes
    """Canonical JSON."""
    status: Status
    lease_until_ms: int
    """Unix milliseconds; 0 for what was only looked up."""
    result: bytes | None
    """msgpack of, by status: who claimed it, the result, the error."""
    at_ms: int

    @property
    def what(self) -> str:
        return f"{self.connector}.{self.operation}"

    @property
    def is_effect(self) -> bool:
        return self.lease_until_ms > 0

    @property
    def lease_seconds(self) -> float:
        """How long its claim was good for."""
        return (self.lease_until_ms - self.at_ms) / 1000

    def same(self, other: "Entry") -> bool:
        return self[:4] == other[:4]


class Ledger:
    """All effects of one agent."""

    def __init__(self, store: Store, clock: Clock, connectors: Mapping[str, Connector], faults: Faults) -> None:
        self.connectors = connectors
        self.clock = clock
        self.faults = faults
        self._store = store
        self._writing: dict[str, Entry] = {}
        self._asking: dict[str, asyncio.Task[Entry]] = {}
        self._started = clock.monotonic()
        self._opened: dict[str, float] = {}
        """When this process claimed what is open, or gave it up. A wall clock may jump over any time that is waited."""

    def of(self, step: IdempotencyKey) -> dict[str, Entry]:
        """What the ledger has for a step, by key."""
        stored = [_entry(row) for row in self._store.read("step_effects", (f"{step}!", f'{step}"'))]  # " follows !
        entries = {entry.key: entry for entry in stored}
        if self._writing:
            entries |= {key: entry for key, entry in self._writing.items() if key.startswith(f"{step}!")}
        return entries

    def find(self, key: str) -> Entry | None:
        stored = [_entry(row) for row in self._store.read("effect", (key,))]
        return self._writing.get(key) or (stored[0] if stored else None)

    def open_entries(self) -> list[Entry]:
        """Effects whose outcome is not known, or not yet."""
        return [_entry(row) for row in self._store.read("open_effects")]

    def write(self, *entries: Entry) -> "asyncio.Future[None]":
        """On disk when the future resolves; found at once."""
        commit = self._store.commit([Write("write_effect", tuple(entry)) for entry in entries])
        self._writing.update((entry.key, entry) for entry in entries)
        self._note_opened(entries)
        commit.add_done_callback(partial(self._written, entries))
        return commit

    def closed(self, entry: Entry, status: Status, value: Any = None) -> Entry:
        """The entry with its outcome."""
        return entry._replace(status=status, result=pack(value), at_ms=self.clock.now_ms())

    async def settled(self, entry: Entry) -> Entry:
        """The open entry as done or released, after asking outside. Raises OutcomeUnknown when that does not help."""
        task = self._asking.get(entry.key)
        if task is None:
            task = self._asking[entry.key] = asyncio.create_task(self._settle(entry))
            task.add_done_callback(partial(self._forget, entry.key))
        return await asyncio.shield(task)

    async def reconcile(self) -> None:
        """Asks about every open effect. What stays open is logged, and waits for its step or for a person."""
        await asyncio.gather(*(self._reconcile(entry) for entry in self.open_entries()))

    async def rule(self, step: IdempotencyKey, *, happened: bool, result: Any = None) -> None:
        """A person has found out about a step's effects in doubt; the same answer again changes nothing.

        Raises OutcomeUnknown with `answer_refused` when nothing can be made of the answer.
        """
        entries = [entry for entry in self.of(step).values() if entry.is_effect]
        if happened and not entries:
            raise _refused("its agent keeps no record of an effect of this step. Say `by_hand`, with its output")
        for entry in entries:
            if entry.status.is_open and self.find(entry.key) == entry:
                await self._rule(entry, happened, result)

    async def _rule(self, entry: Entry, happened: bool, result: Any) -> None:
        try:
            await self.decide(entry.key, happened=happened, result=result)
        except NotFound:
            pass  # its outcome became known meanwhile
        except InvalidInput as error:
            wanted = self._connector(entry).operations[entry.operation].result.schema
            raise _refused(f"{entry.what} gives {json.dumps(wanted)}; {error.detail}. Say its result") from None

    async def decide(self, key: str, *, happened: bool, result: Any = None) -> None:
        """A person has found out. Raises NotFound for no such open effect, InvalidInput for a result that does not fit.

        `happened=False` lets the effect be done once more when its step is sent again.
        """
        entry = self.find(key)
        if entry is None or not entry.status.is_open:
            raise NotFound(f"there is no open effect {key!r}")
        if happened:
            self._connector(entry).operations[entry.operation].result.load(result)
        await self.write(self.closed(entry, Status.DONE if happened else Status.RELEASED, result))

    async def stop(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _reconcile(self, entry: Entry) -> None:
        try:
            await self.settled(entry)
        except OutcomeUnknown as error:
            text = "effect %s (%s) may or may not have happened: %s"
            about = {"action": "effect.unknown", "effect": entry.key}
            log.warning(text, entry.key, entry.what, error.detail, extra=about)

    async def _settle(self, entry: Entry) -> Entry:
        connector = self._connector(entry)
        while True:
            # The time is taken before asking: only what is asked after the quiet moment can be answered with no.
            wait = self._quiet_from(entry) + connector.settle_seconds - self.clock.monotonic()
            answer = await _asked(connector, entry)
            if isinstance(answer, Done):
                return await self._close(entry, Status.DONE, answer.result)
            if wait <= 0 or connector.repeatable:
                return await self._close(entry, Status.RELEASED)
            await asyncio.sleep(wait)

    async def _close(self, entry: Entry, status: Status, value: Any = None) -> Entry:
        current = self.find(entry.key)
        if current != entry:
            return _only_closed(current, entry)  # its outcome became known while we asked
        closed = self.closed(entry, status, value)
        self.faults.reach(points.RECONCILING)
        await asyncio.shield(self.write(closed))
        self.faults.reach(points.RECONCILED)
        text = "effect %s (%s) was in doubt and is %s"
        log.info(text, entry.key, entry.what, status, extra={"action": "effect.reconciled", "effect": entry.key})
        return closed

    def _quiet_from(self, entry: Entry) -> float:
        """From when on nothing of it can leave this side any more, in monotonic seconds.

        What another process did is judged from the moment this one saw it, and a lease counts in full from there.
        """
        if entry.status is Status.UNKNOWN or is_dead(entry.result and unpack(entry.result)):
            return self._opened.get(entry.key, self._started)
        return self._opened.setdefault(entry.key, self.clock.monotonic()) + entry.lease_seconds

    def has_lapsed(self, claim: Entry) -> bool:
        """Whether the lease of a claim that this process wrote is over."""
        return self.clock.monotonic() >= self._opened.get(claim.key, inf) + claim.lease_seconds

    def _note_opened(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.status.is_open:
                self._opened[entry.key] = self.clock.monotonic()
            else:
                self._opened.pop(entry.key, None)

    def _connector(self, entry: Entry) -> Connector:
        connector = self.connectors.get(entry.connector)
        if connector is None or entry.operation not in connector.operations:
            raise OutcomeUnknown(f"{entry.what} is not configured any more, so nobody can be asked", effect=entry.key)
        return connector

    def _written(self, entries: tuple[Entry, ...], commit: "asyncio.Future[None]") -> None:
        if not commit.cancelled() and not commit.exception():
            for entry in entries:
                if self._writing.get(entry.key) is entry:
                    del self._writing[entry.key]

    def _forget(self, key: str, task: "asyncio.Task[Entry]") -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody has to


async def _asked(connector: Connector, entry: Entry) -> Answer:
    """The outside system's answer. Anything but an answer is OutcomeUnknown."""
    try:
        async with asyncio.timeout(connector.timeout_seconds):
            return await connector.reconcile(entry.operation, entry.key, request_of(entry))
    except OutcomeUnknown as error:
        raise error.about(effect=entry.key) from None
    except (HanseError, TimeoutError) as error:
        raise OutcomeUnknown(f"{entry.what} could not be asked: {error}", effect=entry.key) from error


def _only_closed(current: Entry | None, asked: Entry) -> Entry:
    if current is None or current.status.is_open:
        raise OutcomeUnknown(f"{asked.what} is being done by somebody else", effect=asked.key)
    return current


def _refused(why: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"that it happened is not enough: {why}", answer_refused=True)


def request_of(entry: Entry) -> dict[str, Any]:
    return json.loads(entry.request)


def _entry(row: tuple[Any, ...]) -> Entry:
    key, connector, operation, request, status, *rest = row
    return Entry(key, connector, operation, request, Status(status), *rest)
