"""Compaction: what a long journal lets go of, so that it can still be verified.

Of tasks that ended before a horizon, the journal keeps no entry, only hashes: of each its leaf hash in the place of its
bytes (`stones`), and its hash in the chain. So the chain still verifies from the first entry to the last, every head
that was ever handed out is still in it, and the proof of every kept entry still holds. The entries themselves go into
an archive, a gzip file of JSON lines, on disk before the journal lets go of them; any of them can still be proved.

That nothing else was let go of is shown by the journal itself. In the same transaction an entry `journal.compacted` is
appended, with the number of all stones and a digest over them; it stands in the chain, is never compacted, and an audit
computes both again. A payload that somebody took away without such an entry is a broken journal.

With its entries the task itself is forgotten: its row, its questions, its idempotency key, and in the agents' stores
its receipts and the effects whose outcome is known. Nothing runs twice by that: the federation is down meanwhile, so no
call of the task is on its way, and a task that ended sends none. Only the caller's own key, used again after the
horizon, makes a new task, so the horizon lies at least a day back. Entries of the federation itself stay.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...contracts import Clock, Corrupt, InvalidInput, JsonObject, Kind, TaskId, Write
from ...contracts.events import timestamp
from ...contracts.wire import decode_event
from ..journal import Journal
from ..store.place import OpenStore, Place
from .archive import write_archive
from .chain import PAGE
from .readable import Readable
from .stones import Stones, is_stone, stone_of

SHORTEST_MS = 86_400_000
"""A day: so far back the horizon lies at least."""
_AT_ONCE = 200_000
"""Entries that go in one transaction."""
_TASKS = 1000
_LAST = "\x7f"


@dataclass(frozen=True, slots=True)
class Doomed:
    """A task whose entries go."""

    task: TaskId
    tenant: str
    key: str | None
    status: str
    ended_ms: int
    entries: int
    bytes: int

    def to_data(self) -> JsonObject:
        return {
            "task": self.task,
            "tenant": self.tenant,
            "key": self.key,
            "status": self.status,
            "ended": timestamp(self.ended_ms),
            "entries": self.entries,
            "bytes": self.bytes,
        }


@dataclass(slots=True)
class Compacted:
    """What went, or would go."""

    journal: str
    tasks: list[Doomed] = field(default_factory=list[Doomed])
    archives: list[str] = field(default_factory=list[str])

    @property
    def entries(self) -> int:
        return sum(each.entries for each in self.tasks)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.tasks)

    def to_data(self) -> JsonObject:
        return {
            "journal": self.journal,
            "tasks": [each.to_data() for each in self.tasks],
            "entries": self.entries,
            "bytes": self.bytes,
            "archives": self.archives,
        }


def check_horizon(before_ms: int, now_ms: int) -> None:
    """Raises InvalidInput for one that lies less than a day back."""
    if before_ms > now_ms - SHORTEST_MS:
        raise InvalidInput(
            "the horizon lies less than a day back, and with a task its idempotency key is forgotten. Take an earlier "
            "one: --before, --keep-days"
        )


def plan(place: Place, journal: str, before_ms: int) -> Compacted:
    """What would go. Reads the store, and writes nothing."""
    store = place.reader(journal, "journal")
    try:
        return Compacted(journal, list(_doomed(store, before_ms)))
    finally:
        store.close()


async def compact(
    place: Place, journal: str, before_ms: int, clock: Clock, *, archive: Path | None, by: str
) -> Compacted:
    """Lets go of what ended before the moment. `archive` is the folder for entries; without one they are gone.

    The caller holds the data folder: no coordinator runs over it. What a crash interrupts is whole up to its last
    transaction, and goes on when called again. Raises StorageError, Fenced.
    """
    store = place.open(journal, "journal", secure_delete=True)
    try:
        done = Compacted(journal)
        while portion := _portion(_doomed(store, before_ms)):
            held = _kept(store, portion, archive, journal) if archive else None
            await _let_go(store, portion, before_ms, clock, held, by)
            done.tasks += portion
            done.archives += [held] if held else []
        if done.tasks:
            await store.compact()
        return done
    finally:
        await store.close()


async def forget_receipts(place: Place, stores: Iterable[str], tasks: Iterable[TaskId]) -> None:
    """Takes what agents keep of these tasks out of their stores, but for effects whose outcome nobody knows.

    To be done before the tasks are forgotten, so that what a crash interrupts is done again.
    """
    ranges = [(f"{task}/", f"{task}0") for task in tasks]
    for name in stores:
        store = place.open(name, "agent")
        try:
            for statement in ("forget_receipts", "forget_receipt_labels", "forget_effects"):
                await store.commit([Write(statement, each) for each in ranges])
        finally:
            await store.close()


def _doomed(store: Readable, before_ms: int) -> Iterator[Doomed]:
    after = ""
    while rows := store.read("ended_before", (after, before_ms, _TASKS)):
        for task, tenant, key, status, ended_ms in rows:
            entries = [entry for _, entry, _ in store.read("entries_of_task", (task, 0, 1 << 40))]
            _check_end(task, ended_ms, entries)
            yield Doomed(task, tenant, key, status, ended_ms, len(entries), sum(map(len, entries)))
        after = rows[-1][0]


def _check_end(task: TaskId, ended_ms: int, entries: list[bytes]) -> None:
    """Nothing goes because a row of a table says so. Raises Corrupt when the journal says otherwise."""
    last = decode_event(entries[-1]) if entries else None
    if last is not None and not (last.kind.ends_task and last.at_ms == ended_ms):
        raise Corrupt(f"the table of tasks says that {task} has ended, and the journal does not: hanse audit verify")


def _portion(doomed: Iterator[Doomed]) -> list[Doomed]:
    """As many tasks as go in one transaction."""
    found, entries = list[Doomed](), 0
    for each in doomed:
        found.append(each)
        entries += each.entries
        if entries >= _AT_ONCE:
            break
    return found


def _kept(store: Readable, portion: list[Doomed], folder: Path, journal: str) -> str:
    """The name of the archive that holds their entries, on disk. One of a compaction that broke off is written anew."""
    rows = ((each.task, row) for each in portion for row in store.read("entries_of_task", (each.task, 0, 1 << 40)))
    return write_archive(folder, f"{journal}-{portion[0].task}", rows)


async def _let_go(
    store: OpenStore, portion: list[Doomed], before_ms: int, clock: Clock, archive: str | None, by: str
) -> None:
    """One transaction: the record, the stones, and what is forgotten."""
    failed: list[BaseException] = []
    journal = Journal(store, clock, failed.append)
    stones, writes = _stones(store, {each.task for each in portion})
    journal.append(Kind.JOURNAL_COMPACTED, None, None, _record(stones, portion, before_ms, archive, by))
    for write in (*writes, *_forgotten(portion)):
        journal.write(write)
    await journal.durable()


def _stones(store: Readable, doomed: set[TaskId]) -> tuple[Stones, list[Write]]:
    """All stones that the journal will have, and the new ones."""
    stones, writes, after = Stones(), list[Write](), 0
    while rows := store.read("chain", (after, PAGE)):
        for sequence, task, entry, hash in rows:
            if task in doomed:
                writes.append(Write("make_stone", (entry := stone_of(entry), sequence)))
            if is_stone(entry):
                stones.add(sequence, entry, hash)
        after = rows[-1][0]
    return stones, writes


def _record(stones: Stones, portion: list[Doomed], before_ms: int, archive: str | None, by: str) -> Mapping[str, Any]:
    return {
        "entries": stones.count,
        "digest": stones.digest,
        "removed": sum(each.entries for each in portion),
        "tasks": len(portion),
        "before_ms": before_ms,
        "archive": archive,
        "by": by,
    }


def _forgotten(portion: list[Doomed]) -> Iterator[Write]:
    for each in portion:
        yield Write("forget_approvals", (each.task, each.task))
        yield Write("forget_task", (each.task,))
