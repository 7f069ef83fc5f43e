"""The journal: the append-only, hash-chained record of everything that happened; the truth.

An entry's hash is SHA-256 over the previous hash and the entry's bytes, so an edit, a deletion or a reordering breaks
the chain at that place. Appending is immediate and in memory; what was appended in one turn of the event loop becomes
one commit, and many commits share an fsync. Whatever the outside may only see once it is on disk is handed to `then`.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..contracts import AuditReport, Clock, Corrupt, Event, Kind, Sequence, StepId, Store, TaskId, Tenant, Write
from ..contracts.wire import decode_event, encode_event

GENESIS = bytes(32)
_PAGE = 5000
_log = logging.getLogger(__name__)


class Journal:
    """The journal of one shard. One writer; `on_failure` is called once when the disk refuses, and nothing after it."""

    def __init__(self, store: Store, clock: Clock, on_failure: Callable[[BaseException], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self.sequence, self.head = _head(store)
        self._writes: list[Write] = []
        self._actions: list[Callable[[], None]] = []
        self._scheduled = False
        self._committing = 0
        """Commits on their way to disk."""
        self._failed = self._closed = False

    def append(self, kind: Kind, task: TaskId | None, step: StepId | None, data: Mapping[str, Any]) -> Event:
        """The event in its place. On disk once what is given to `then` afterwards runs."""
        event = Event(Sequence(self.sequence + 1), self._store.epoch, self._clock.now_ms(), kind, task, step, data)
        entry = encode_event(event)  # may refuse the data; then no number is used up and no place stays empty
        self.sequence = event.sequence
        self.head = hashlib.sha256(self.head + entry).digest()
        self.write(Write("insert_entry", (self.sequence, task, entry, self.head)))
        return event

    def write(self, write: Write) -> None:
        """A row that belongs to the same commit as the events around it."""
        self._writes.append(write)
        self._schedule()

    def then(self, action: Callable[[], None]) -> None:
        """Runs `action` when everything appended so far is on disk; in the order of the calls."""
        if self._writes or self._committing or self._actions:
            self._actions.append(action)
            self._schedule()
        else:
            self._loop.call_soon(action)

    async def durable(self) -> None:
        """Returns when everything appended so far is on disk."""
        done = self._loop.create_future()
        self.then(lambda: None if done.done() else done.set_result(None))
        await done

    def close(self) -> None:
        """Commits what was appended. What is appended afterwards is lost, as in a crash: an orderly stop has stragglers
        too, such as links that close."""
        self._flush()
        self._closed = True

    def read(self, task: TaskId | None = None, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """Events on disk, oldest first, in pages, so a long journal needs little memory."""
        while rows := self._page(task, after, min(limit or _PAGE, _PAGE)):
            yield from (decode_event(entry) for _, entry, _ in rows)
            after = rows[-1][0]
            if limit is not None and (limit := limit - len(rows)) <= 0:
                return

    @property
    def on_disk(self) -> Sequence:
        """Sequence of the last event that a reader would find."""
        return _head(self._store)[0]

    def read_tenant(self, tenant: Tenant, after: int, limit: int) -> list[Event]:
        """Events on disk of a tenant's tasks and of the federation itself, oldest first.

        An empty list means that there is none behind `after`, however much of other tenants lies there.
        """
        return [decode_event(entry) for _, entry, _ in self._store.read("entries_of_tenant", (after, tenant, limit))]

    def _page(self, task: TaskId | None, after: int, limit: int) -> list[tuple[Any, ...]]:
        if task is None:
            return self._store.read("entries", (after, limit))
        return self._store.read("entries_of_task", (task, after, limit))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        writes, self._writes = self._writes, []
        actions, self._actions = self._actions, []
        if self._failed or self._closed:
            return
        self._committing += 1
        self._store.commit(writes).add_done_callback(lambda future: self._committed(future, actions))

    def _committed(self, future: "asyncio.Future[None]", actions: list[Callable[[], None]]) -> None:
        self._committing -= 1
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        for action in actions:
            action()

    def _fail(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            _log.critical("the journal cannot be written: %s", error, extra={"action": "journal.failed"})
            self._on_failure(error)


def verify(store: Store, *, progress: Callable[[int], None] | None = None) -> AuditReport:
    """Recomputes the chain from its genesis. Finds any edit, deletion, insertion and reordering of entries."""
    started = time.perf_counter()
    sequence, head, problems = 0, GENESIS, list[str]()
    while (rows := store.read("entries", (sequence, _PAGE))) and not problems:
        for number, entry, recorded in rows:
            head = hashlib.sha256(head + entry).digest()
            problems += _problems(sequence + 1, number, entry, head == recorded)
            sequence = number
            if problems:
                break
        if progress:
            progress(sequence)
    return AuditReport(
        ok=not problems,
        entries=sequence,
        head=head.hex(),
        problems=problems,
        seconds=round(time.perf_counter() - started, 3),
    )


def _problems(expected: int, number: int, entry: bytes, hash_fits: bool) -> list[str]:
    if number != expected:
        return [f"entry {expected} is missing: the next one is {number}"]
    if not hash_fits:
        return [f"entry {number} was changed: its bytes do not give its hash"]
    try:
        event = decode_event(entry)
    except Corrupt as error:
        return [f"entry {number} cannot be read: {error.detail}"]
    return [] if event.sequence == number else [f"entry {number} says it is {event.sequence}"]


def _head(store: Store) -> tuple[Sequence, bytes]:
    rows = store.read("head")
    return (Sequence(rows[0][0]), rows[0][1]) if rows else (Sequence(0), GENESIS)
