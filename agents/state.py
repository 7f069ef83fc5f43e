"""An agent's own state, as one handler sees it: `get`, `put`, `delete`, `scan` over named collections.

Everything a handler does to the state happens at one moment, after it has returned, together with its receipt; or not
at all. Until then its writes are its own. What it read is held against what is there at that moment: when somebody
else changed it meanwhile, the handler is run again from the start, and nobody notices but the clock.

What is put has the labels of what its step works on, and whoever gets it, in whichever task, takes them up.
"""

from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable
from typing import Any, NamedTuple, TypeVar, overload

from ..contracts import ContractBreach, InvalidInput, Write
from ..contracts.labels import Marks, placed
from .marking import Marking
from .rows import LAST, Found, Key, Row, Rows, Span, merged
from .values import labelled, opened, packed, typed, unpacked

Value = TypeVar("Value")

_PAGE = 256
_READS_ONLY = 'this capability says it only reads. Write: @capability(effect="reversible", …) or effect="irreversible"'


class Rerun(BaseException):
    """What the handler read is no longer so: it must run again. No `except Exception` of a handler stops it."""


class _Scanned(NamedTuple):
    """A page that was read, and enough to tell whether it would read the same now."""

    span: Span
    after: str
    limit: int
    at: int
    rows: list[Found]


class Transaction:
    """What one run of a handler has read and wants to write. The engine's half of `State`."""

    __slots__ = ("_began", "_scans", "_vouched", "breach", "ended", "reads", "rows", "saw", "writes")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.reads: dict[Key, int] = {}
        self.writes: dict[Key, bytes | None] = {}
        self.saw = 0
        """The newest version it has seen: an answer must not leave before that is on disk."""
        self.breach: ContractBreach | None = None
        """What the handler tried against its contract; it counts even if the handler caught it."""
        self.ended = False
        """The handler has returned: what it left running can do nothing more."""
        self._began = rows.latest
        self._scans: list[_Scanned] = []
        self._vouched: dict[Key, frozenset[str]] = {}
        """Labels of what was put with words of its handler about them."""

    def write(self, key: Key, data: bytes | None, labels: Iterable[str] | None = None) -> None:
        """`labels` are those of the data, where it has not all of its step's."""
        self.writes[key] = data
        self._vouched.pop(key, None)
        if labels is not None:
            self._vouched[key] = frozenset(labels)

    def read(self, key: Key) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        value, version = self.rows.row(key)
        if self.reads.setdefault(key, version) != version:
            raise Rerun
        if version > self.saw:
            self.saw = version
        return value

    def page(self, span: Span, after: str, limit: int) -> list[Found]:
        mine: dict[str, Row] = {key[1]: (value, 0) for key, value in self.writes.items() if span.holds(key)}
        mine = {key: row for key, row in mine.items() if key > after}
        scanned = _Scanned(span, after, limit + len(mine), self.rows.latest, [])
        scanned.rows.extend(self.rows.scan(span, after, scanned.limit))
        self._scans.append(scanned)
        self.saw = max(self.saw, self.rows.touched(span.collection))
        return merged(scanned.rows, mine, limit)

    def is_current(self) -> bool:
        """Whether everything it read is still the latest."""
        if self.rows.latest == self._began:
            return True
        row = self.rows.row
        return all(row(key)[1] == version for key, version in self.reads.items()) and all(
            map(self._reads_same, self._scans)
        )

    async def pin(self, owner: object) -> None:
        """Sees to it that what was read and written so far stays as it is until `owner` releases it.

        Raises Rerun when it is too late for that, Deadlock when it can never be.
        """
        if self.reads or self.writes or self._scans:
            self._check()
            await self.rows.pins.take(owner, *self.footprint())
            self._check()

    def footprint(self) -> tuple[set[Key], list[Span]]:
        return {*self.reads, *self.writes}, [scan.span for scan in self._scans]

    async def allowed(self, owner: object) -> None:
        """Waits until no pin is in the way of the writes; then they are admissible. Raises Rerun, Deadlock."""
        if self.rows.pins and self.writes:
            await self.rows.pins.free(owner, self.writes)
        self._check()

    def label(self, marks: Marks) -> None:
        """What was put is of data with these labels, unless its handler has said otherwise."""
        if marks or self._vouched:
            for key, data in self.writes.items():
                if data is not None and (own := _own(marks, self._vouched.get(key))):
                    self.writes[key] = labelled(data, own)

    def admit(self, extra: Iterable[Write]) -> Any:
        return self.rows.admit(self.writes, extra)

    def _check(self) -> None:
        if not self.is_current():
            raise Rerun

    def _reads_same(self, scan: _Scanned) -> bool:
        if self.rows.touched(scan.span.collection) <= scan.at:
            return True
        return self.rows.scan(scan.span, scan.after, scan.limit) == scan.rows


class State:
    """The agent's own transactional store, inside one handler.

    Values are what JSON can carry; pydantic models and dataclasses are kept as such and come back as such with
    `type=`. Collections and keys are text. All methods raise ContractBreach where the contract allows no writes.
    """

    __slots__ = ("_marking", "_transaction", "_writable")

    def __init__(self, transaction: Transaction, marking: Callable[[], Marking], *, writable: bool) -> None:
        """`marking` takes the labels of what is read."""
        self._transaction, self._marking, self._writable = transaction, marking, writable

    @overload
    async def get(self, collection: str, key: str, *, default: Any = None) -> Any: ...
    @overload
    async def get(self, collection: str, key: str, *, type: type[Value], default: Value) -> Value: ...
    @overload
    async def get(self, collection: str, key: str, *, type: type[Value], default: None = None) -> Value | None: ...
    async def get(self, collection: str, key: str, *, type: Any = None, default: Any = None) -> Any:
        """A fresh copy of the value, or `default` when there is none. Raises Failed when it is of another type."""
        data = self._open.read(_key(collection, key))
        return default if data is None else self._value(collection, key, data, type)

    async def put(self, collection: str, key: str, value: Any, *, labels: Collection[str] | None = None) -> None:
        """Sets the value. Raises InvalidInput when JSON cannot carry it, and for labels that are one text.

        It has the labels of all that its step works on; or these `labels`, when the handler can vouch for it.
        `labels=()` is right for a count, which says nothing of what was counted, and wrong for a text that came from
        somewhere.
        """
        if isinstance(labels, str):
            raise InvalidInput(f'labels are several texts. Write: labels=("{labels}",)')
        self._writing.write(_key(collection, key), packed(value), labels)

    async def delete(self, collection: str, key: str) -> None:
        """Removes the value, if there is one."""
        self._writing.write(_key(collection, key), None)

    def scan(
        self, collection: str, *, prefix: str = "", after: str = "", limit: int | None = None, type: Any = None
    ) -> "Scan":
        """The pairs of key and value whose key begins with `prefix` and comes after `after`, in the order of keys.

        `await` it for a list, or go through it with `async for`, which reads a page at a time. Order is by code point.
        """
        return Scan(self._open, Span(collection, prefix, prefix + LAST), after, limit, type, self._value)

    def _value(self, collection: str, key: str, data: bytes, type_: Any) -> Any:
        data, marks = opened(data)
        if marks:
            self._marking().take(placed(marks, f"state {collection}/{key}"))
        return unpacked(data) if type_ is None else typed(data, type_, f"{collection}/{key}")

    @property
    def _open(self) -> Transaction:
        if self._transaction.ended:
            raise ended()
        return self._transaction

    @property
    def _writing(self) -> Transaction:
        transaction = self._open
        if not self._writable:
            transaction.breach = ContractBreach(_READS_ONLY)
            raise transaction.breach
        return transaction


class Scan:
    """Rows still to be read."""

    __slots__ = ("_after", "_limit", "_span", "_transaction", "_type", "_value")

    def __init__(
        self,
        transaction: Transaction,
        span: Span,
        after: str,
        limit: int | None,
        type_: Any,
        value: Callable[[str, str, bytes, Any], Any],
    ) -> None:
        """`value` is that of a collection, a key, its bytes and a type."""
        self._transaction, self._span, self._after, self._limit, self._type = transaction, span, after, limit, type_
        self._value = value

    def __await__(self) -> Generator[Any, Any, list[tuple[str, Any]]]:
        return self._all().__await__()

    async def __aiter__(self) -> AsyncIterator[tuple[str, Any]]:
        after, left = self._after, self._limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._transaction.page(self._span, after, size)
            for row in page:
                yield row.key, self._value(self._span.collection, row.key, row.value, self._type)
            if len(page) < size:
                return
            after, left = page[-1].key, left and left - size

    async def _all(self) -> list[tuple[str, Any]]:
        return [pair async for pair in self]


def _own(marks: Marks, vouched: Collection[str] | None) -> Marks:
    return marks if vouched is None else {label: marks.get(label, ("what its handler said",)) for label in vouched}


def ended() -> ContractBreach:
    return ContractBreach("the handler has ended, and its context with it. Await in a handler what you start there.")


def _key(collection: str, key: str) -> Key:
    if not (type(collection) is type(key) is str):
        collection, key = _text(collection), _text(key)
    if not (key and collection):
        raise InvalidInput("a collection and a key are texts that are not empty")
    if not (key.isascii() and collection.isascii()):
        _check_unicode(collection, key)
    return collection, key


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"a collection and a key are texts, and {value!r} is none. Write: str(…)")
    return str.__str__(value)


def _check_unicode(collection: str, key: str) -> None:
    try:
        (collection + key).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{key!r} is not Unicode text: it holds half of a surrogate pair") from None
    if LAST in key:
        raise InvalidInput(f"a key cannot hold the noncharacter U+10FFFF: {key!r}")
