"""The journal: the append-only, hash-chained record of everything that happened; the truth.

An entry's hash is SHA-256 over the previous hash and the entry's bytes, so an edit, a deletion or a reordering breaks
the chain at that place. Appending is immediate and in memory; what was appended in one turn of the event loop becomes
one commit, and many commits share an fsync. Whatever the outside may only see once it is on disk is handed to `then`.
"""

import asyncio
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ..contracts import (
    Clock,
    Event,
    Kind,
    Sequence,
    StepId,
    StorageError,
    Store,
    TaskId,
    Tenant,
    Write,
)
from ..contracts.wire import decode_event, encode_event

GENESIS = bytes(32)
_PAGE = 5000
_log = logging.getLogger(__name__)
_Action = tuple[Callable[[], None], Callable[[BaseException], None] | None]


class Journal:
    """The journal of one shard. One writer; `on_failure` is called once when the disk refuses, and nothing after it."""

    def __init__(self, store: Store, clock: Clock, on_failure: Callable[[BaseException], None]) -> None:
        self.store = store
        self._clock = clock
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self.sequence, self.head = _head(store)
        self._writes: list[Write] = []
        self._actions: list[_Action] = []
        self._scheduled = False
        self.turn = 0
        """Counts the commits. What is appended in one turn comes on disk together."""
        self.on_commit: Callable[[int, bytes, list[bytes]], None] | None = None
        """Is told the sequence and the hash of the last entry on disk, and the entries that came there just now."""
        self._under_way = 0
        self._broken: BaseException | None = None

    def append(
        self,
        kind: Kind,
        task: TaskId | None,
        step: StepId | None,
        data: Mapping[str, Any],
        fold: Callable[[Event], None] | None = None,
    ) -> Event:
        """The event in its place. On disk once what is given to `then` afterwards runs.

        `fold` takes the event in before it is journaled: one that cannot be folded would trip up every recovery. What
        it raises, or the encoding of what is no plain data, leaves the journal as it was.
        """
        event = Event(Sequence(self.sequence + 1), self.store.epoch, self._clock.now_ms(), kind, task, step, data)
        entry = encode_event(event)  # may refuse the data; then no number is used up and no place stays empty
        if fold is not None:
            fold(event)
        self.sequence = event.sequence
        self.head = hashlib.sha256(self.head + entry).digest()
        self.write(Write("insert_entry", (self.sequence, task, entry, self.head)))
        return event

    def write(self, write: Write) -> None:
        """A row that belongs to the same commit as the events around it."""
        self._writes.append(write)
        self._schedule()

    def then(self, action: Callable[[], None], otherwise: Callable[[BaseException], None] | None = None) -> None:
        """Runs `action` when everything appended so far is on disk; in the order of the calls.

        When it will never be, because the disk refuses, `otherwise` is told why.
        """
        self._actions.append((action, otherwise))
        self._schedule()

    def durable(self) -> "asyncio.Future[None]":
        """Done when everything appended so far is on disk. Raises StorageError when it will never be."""
        done: asyncio.Future[None] = self._loop.create_future()
        self.then(
            lambda: None if done.done() else done.set_result(None),
            lambda error: None if done.done() else done.set_exception(error),
        )
        return done

    async def stop(self) -> None:
        """Writes what was appended so far, and nothing after it: an orderly stop has stragglers too, such as links that
        close. Does not raise: `on_failure` was told.
        """
        done = self.durable()
        self._flush()
        self._broken = self._broken or StorageError("the journal is closed")
        with suppress(StorageError):
            await done

    def read(self, task: TaskId | None = None, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """Events on disk, oldest first, in pages, so a long journal needs little memory."""
        left = sys.maxsize if limit is None else limit
        while left > 0 and (rows := self._page(task, after, min(left, _PAGE))):
            yield from (decode_event(entry) for _, entry, _ in rows)
            after, left = rows[-1][0], left - len(rows)

    @property
    def on_disk(self) -> Sequence:
        """Sequence of the last event that a reader would find."""
        return _head(self.store)[0]

    def read_tenant(self, tenant: Tenant, after: int, limit: int) -> list[Event]:
        """Events on disk of a tenant's tasks and of the federation itself, oldest first.

        An empty list means that there is none behind `after`, however much of other tenants lies there.
        """
        return [decode_event(entry) for _, entry, _ in self.store.read("entries_of_tenant", (after, tenant, limit))]

    def _page(self, task: TaskId | None, after: int, limit: int) -> list[tuple[Any, ...]]:
        if task is None:
            return self.store.read("entries", (after, limit))
        return self.store.read("entries_of_task", (task, after, limit))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self.turn += 1
        writes, self._writes = self._writes, []
        actions, self._actions = self._actions, []
        if self._broken is not None:
            self._refuse(actions, self._broken)
        elif writes or self._under_way:
            self._under_way += 1
            news = self._news(writes)
            self.store.commit(writes).add_done_callback(lambda future: self._committed(future, actions, news))
        else:
            self._run(actions)

    def _news(self, writes: list[Write]) -> "list[_Action]":
        """What `on_commit` is told when these are on disk."""
        if (tell := self.on_commit) is None:
            return []
        entries = [row[2] for name, row in writes if name == "insert_entry"]
        sequence, head = self.sequence, self.head
        return [(lambda: tell(sequence, head, entries), None)] if entries else []

    def _committed(self, future: "asyncio.Future[None]", actions: "list[_Action]", news: "list[_Action]") -> None:
        self._under_way -= 1
        if (error := future.exception()) is not None:
            self._fail(error)
            self._refuse(actions, error)
        else:
            self._run(actions)
            self._run(news)

    def _run(self, actions: "list[_Action]") -> None:
        for action, _ in actions:
            try:
                action()
            except Exception:  # the actions behind it wait for the same commit, and not for this one
                _log.exception("an action failed after its commit", extra={"action": "journal.action_failed"})

    def _refuse(self, actions: "list[_Action]", error: BaseException) -> None:
        for _, otherwise in actions:
            if otherwise is not None:
                otherwise(error)

    def _fail(self, error: BaseException) -> None:
        if self._broken is None:
            self._broken = error
            _log.critical("the journal cannot be written: %s", error, extra={"action": "journal.failed"})
            self._on_failure(error)


def _head(store: Store) -> tuple[Sequence, bytes]:
    rows = store.read("head")
    return (Sequence(rows[0][0]), rows[0][1]) if rows else (Sequence(0), GENESIS)
