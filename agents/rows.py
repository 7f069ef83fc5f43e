"""An agent's rows, in three layers: what is on disk, what was read lately, and what was admitted and is not there yet.

Handlers of one agent run at the same time and must come out as if they had run one after another. The method is
optimistic concurrency control (Kung and Robinson, 1981): a handler reads versions, buffers its writes, and is
admitted only if every version it read is still the latest. Admission is a moment in memory, and the next handler sees
its writes at once; the disk follows, many admissions to one fsync. An answer waits for the disk, so nobody outside
ever sees what a crash could take back.

Optimism has two limits, and for both there are pins (`Pins`): a handler that lost once would like to lose no more,
and a handler that is about to change the outside world must not find afterwards that it had decided on old data.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from ..contracts import Store, Write

Key = tuple[str, str]
"""Collection and key."""
Row = tuple[bytes | None, int]
"""Packed value, None when deleted, and the version that wrote it."""

_ABSENT: Row = (None, 0)
_EPOCH_BITS = 40
LAST = "\U0010ffff"
"""Sorts after every key; no key holds it (it is a noncharacter)."""


class Span(NamedTuple):
    """A range of keys of one collection, `start` included and `end` not."""

    collection: str
    start: str
    end: str

    def holds(self, key: Key) -> bool:
        return key[0] == self.collection and self.start <= key[1] < self.end

    def meets(self, other: "Span") -> bool:
        return self.collection == other.collection and self.start < other.end and other.start < self.end


class Found(NamedTuple):
    """A row of a scan."""

    key: str
    value: bytes
    version: int


class Rows:
    """The rows as the latest admitted handler left them. No method awaits: between two awaits nothing moves."""

    def __init__(self, store: Store, *, cached_bytes: int = 32 * 1024 * 1024) -> None:
        self._store = store
        self.latest = self.durable = store.epoch << _EPOCH_BITS
        """Versions: of the last admission, and of the last one on disk. They grow over restarts, by the epoch."""
        self.pins = Pins()
        self._fresh: dict[Key, Row] = {}
        self._recent = _Recent(cached_bytes)
        self._touched: dict[str, int] = {}
        self._epoch_start = self.latest

    def row(self, key: Key) -> Row:
        """The latest row, with version 0 when there never was one. May read from disk; raises StorageError."""
        return self._fresh.get(key) or self._recent.get(key) or self._load(key)

    def scan(self, span: Span, after: str, limit: int) -> list[Found]:
        """At most `limit` rows of the span behind `after`, in the order of keys."""
        fresh = {key[1]: row for key, row in self._fresh.items() if key[1] > after and span.holds(key)}
        found = self._store.read("scan", (*span, after, limit + len(fresh)))
        return merged([Found(*row) for row in found], fresh, limit)

    def touched(self, collection: str) -> int:
        """Version of the last admission that wrote to the collection, as far as this process knows."""
        return self._touched.get(collection, self._epoch_start)

    def admit(self, writes: Mapping[Key, bytes | None], extra: Iterable[Write]) -> "asyncio.Future[None]":
        """Makes the writes the latest rows and sends them to disk together with `extra`, in one commit."""
        self.latest = version = self.latest + 1
        rows = [Write("write_state", (*key, value, version)) for key, value in writes.items()]
        rows.extend(extra)
        commit = self._store.commit(rows)
        for key, value in writes.items():
            self._fresh[key] = (value, version)
            self._touched[key[0]] = version
        commit.add_done_callback(partial(self._settled, version, writes))
        return commit

    def _settled(self, version: int, writes: Mapping[Key, bytes | None], commit: "asyncio.Future[None]") -> None:
        if commit.cancelled() or commit.exception():
            return  # nothing is dropped from `_fresh`: what the disk holds is not known any more
        self.durable = version
        for key in writes:
            row = self._fresh[key]
            if row[1] == version:
                del self._fresh[key]
                self._recent.put(key, row)

    def _load(self, key: Key) -> Row:
        found = self._store.read("state", key)
        row: Row = found[0] if found else _ABSENT  # pyright: ignore[reportAssignmentType]
        self._recent.put(key, row)
        return row


def merged(found: list[Found], over: Mapping[str, Row], limit: int) -> list[Found]:
    """Rows with newer rows laid over them, deleted ones left out, in order."""
    if over:
        rows = {row.key: row for row in found}
        rows.update({key: Found(key, value, version) for key, (value, version) in over.items()})  # pyright: ignore[reportArgumentType]
        found = sorted(row for row in rows.values() if row.value is not None)
    return found[:limit]


class _Recent:
    """The rows used last, up to so many bytes. A row counts as its value and a little."""

    _PER_ROW = 300

    def __init__(self, limit_bytes: int) -> None:
        self._rows: OrderedDict[Key, Row] = OrderedDict()
        self._limit, self._size = limit_bytes, 0

    def get(self, key: Key) -> Row | None:
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: Key, row: Row) -> None:
        if old := self._rows.pop(key, None):
            self._size -= self._weight(old)
        self._rows[key] = row
        self._size += self._weight(row)
        while self._size > self._limit:
            self._size -= self._weight(self._rows.popitem(last=False)[1])

    def _weight(self, row: Row) -> int:
        return self._PER_ROW + len(row[0] or b"")


class Deadlock(BaseException):
    """Two who hold pins want each other's."""


class _Held:
    __slots__ = ("keys", "released", "spans")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.spans: list[Span] = []
        self.released: asyncio.Future[None] | None = None

    def meets(self, keys: Iterable[Key], spans: Iterable[Span]) -> bool:
        return (
            not self.keys.isdisjoint(keys)
            or any(span.holds(key) for span in self.spans for key in keys)
            or any(span.holds(key) for span in spans for key in self.keys)
            or any(mine.meets(span) for span in spans for mine in self.spans)
        )


class Pins:
    """Who may count on which rows staying as they are. Pins are exclusive, and held until they are released.

    All that one call wants is taken at once or waited for, so whoever holds nothing yet cannot be part of a deadlock.
    Whoever holds some and wants more may be; then `Deadlock` is raised to the one that would close the circle.
    """

    def __init__(self) -> None:
        self._held: dict[object, _Held] = {}
        self._waiting: list[tuple[object, object]] = []
        """Who waits for whom."""

    def __bool__(self) -> bool:
        return bool(self._held)

    async def take(self, owner: object, keys: set[Key], spans: list[Span]) -> None:
        """Waits until nobody else holds any of these, then holds them all. Raises Deadlock."""
        await self.free(owner, keys, spans)
        held = self._held.setdefault(owner, _Held())
        held.keys |= keys
        held.spans += spans

    async def free(self, owner: object, keys: Iterable[Key], spans: Iterable[Span] = ()) -> None:
        """Waits until nobody else holds any of these. Raises Deadlock."""
        while (holder := self._holder(owner, keys, spans)) is not None:
            await self._wait(owner, holder)

    def release(self, owner: object) -> None:
        held = self._held.pop(owner, None)
        if held and held.released and not held.released.done():
            held.released.set_result(None)

    def _holder(self, owner: object, keys: Iterable[Key], spans: Iterable[Span]) -> object | None:
        others = (other for other, held in self._held.items() if other is not owner and held.meets(keys, spans))
        return next(others, None)

    async def _wait(self, owner: object, holder: object) -> None:
        if owner in self._held and self._waits(holder, owner):
            raise Deadlock
        held = self._held[holder]
        held.released = held.released or asyncio.get_running_loop().create_future()
        self._waiting.append((owner, holder))
        try:
            await asyncio.shield(held.released)
        finally:
            self._waiting.remove((owner, holder))

    def _waits(self, waiter: object, holder: object) -> bool:
        """Whether `waiter` waits for `holder`, or for somebody who does. There are no circles to be caught in."""
        return any(mine is waiter and (other is holder or self._waits(other, holder)) for mine, other in self._waiting)
