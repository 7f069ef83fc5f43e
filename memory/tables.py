"""Tables: what a query's filters leave over, answered by DuckDB. A projection of the log, in memory only.

Each tenant has tables of its own: temporary ones of its own connection, which no other connection has a name for.
Whatever a query says goes in as a parameter; the text of the SQL is made of constants alone, so that nothing hostile
can be said in it. Payloads lie in a table of paths and values beside the records, because a filter knows which path it
means and not what else a payload holds.

Rows are taken in bunches: one row costs DuckDB as much as thirty, and a question costs it milliseconds. So an answer is
kept, and what came since it was made is asked of one by one, as long as that is little (`Clause` says the same thing to
DuckDB and of a row). Times are columns of their own, because an answer that depends on the moment could not be kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy

from ..contracts import InvalidInput, StorageError
from ..contracts.memory import Layer, Query, Record, Scope, State
from ..contracts.schema import JsonObject, canonical
from .access import View
from .column import Column

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

MAX_FILTERS = 100
"""Values in all filters of one query together."""
_REMEMBERED_ANSWERS = 32
_REMEMBERED_STATEMENTS = 1024
WAITING_ROWS = 128
"""Rows that wait for DuckDB before an answer that is kept makes it take them in: each is asked of once for each answer,
which costs a few microseconds, and taking them in costs milliseconds whether they are few or many."""
WAITING_REMOVALS = 4096
"""Numbers that went and that answers may still hold."""
_MAX_DEPTH = 16
_FOR_EVER = 1 << 62
"""Objects within one another of which each value has a path of its own, and a moment above all that there are."""

_SCHEMA = (
    """CREATE TEMP TABLE records (
    number BIGINT, id VARCHAR, layer VARCHAR, scope VARCHAR, owner VARCHAR, subject VARCHAR, episode VARCHAR,
    labels VARCHAR[], quarantined BOOLEAN, pinned BOOLEAN, confidence DOUBLE, importance DOUBLE, created_ms BIGINT,
    known_ms BIGINT, ended_ms BIGINT, valid_from_ms BIGINT, valid_to_ms BIGINT, expires_ms BIGINT)""",
    "CREATE TEMP TABLE payload (number BIGINT, path VARCHAR, kind VARCHAR, text VARCHAR, amount DOUBLE)",
)
_RANGES: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": (">", gt),
    "gte": (">=", ge),
    "lt": ("<", lt),
    "lte": ("<=", le),
}


class Leaf(NamedTuple):
    """One value of a payload, as DuckDB has it."""

    number: int
    path: str
    kind: str
    text: str
    amount: float | None


class Row(NamedTuple):
    """One record, in the order of the schema; last the rows of its payload."""

    number: int
    id: str
    layer: str
    scope: str
    owner: str | None
    subject: str | None
    episode: str | None
    labels: list[str]
    quarantined: bool
    pinned: bool
    confidence: float
    importance: float
    created_ms: int
    known_ms: int
    ended_ms: int
    valid_from_ms: int
    valid_to_ms: int
    expires_ms: int
    payload: list[Leaf]


class Clause(NamedTuple):
    """One condition: to DuckDB, and of a row that it does not have yet."""

    sql: str
    values: list[Any]
    fits: Callable[[Row], bool]


class _Answer(NamedTuple):
    """Numbers, sorted, of what fits whenever it is so; of the rows below `until`, less `removed` of all removals."""

    numbers: "NDArray[int64]"
    until: int
    removed: int


class Database:
    """DuckDB, once per process. It reads no files, loads no extensions and spills nothing to the disk.

    One thread: DuckDB shares out nothing smaller than a row group (122,880 rows), and a second thread only makes small
    work wait for it. Several tenants are answered side by side, each on the thread that asks.
    """

    def __init__(self) -> None:
        import duckdb

        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "temp_directory": "",
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
            },
        )
        self._connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        self._lock = threading.Lock()
        self._parsed: OrderedDict[str, Any] = OrderedDict()

    def connect(self) -> Any:
        """A connection with empty tables of its own, which go with it."""
        with self._lock:
            connection = self._connection.cursor()
        for sql in _SCHEMA:
            connection.execute(self.parsed(sql))
        return connection

    def parsed(self, sql: str) -> Any:
        """The statement, which every connection may run. A third of a small question is parsing its text."""
        with self._lock:
            if (found := self._parsed.pop(sql, None)) is None:
                (found,) = self._connection.extract_statements(sql)
            self._parsed[sql] = found
            if len(self._parsed) > _REMEMBERED_STATEMENTS:
                self._parsed.popitem(last=False)
        return found

    def close(self) -> None:
        self._parsed.clear()
        self._connection.close()


class Tables:
    """The rows of one tenant. One thread at a time calls it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._rows: dict[int, Row] = {}
        """Not in DuckDB yet, in the order of their numbers."""
        self._gone: list[int] = []
        self._plain = 0
        self._next = 0
        """Above every number."""
        self._special: set[int] = set()
        """Those that not every query of the present may find, even without filters."""
        self._timed: set[int] = set()
        """Of those: for which it depends on the time."""
        self._times = _Times()
        self._answers: OrderedDict[Any, _Answer] = OrderedDict()
        self._removed: list[int] = []
        """What went since the oldest answer was made, and perhaps before."""

    def __len__(self) -> int:
        return self._plain

    def put(self, number: int, record: Record, known_ms: int | None = None, ended_ms: int | None = None) -> None:
        """A row of a number that was never used, and is above all others."""
        row = _row(number, record, record.updated_ms if known_ms is None else known_ms, ended_ms)
        self._rows[number] = row
        self._next = number + 1
        self._times.put(row)
        self._plain += 1
        if _is_timed(record):
            self._timed.add(number)
        if number in self._timed or record.scope in (Scope.AGENT, Scope.TASK) or record.state is not State.LIVE:
            self._special.add(number)

    def remove(self, number: int) -> None:
        self._plain -= 1
        self._special.discard(number)
        self._timed.discard(number)
        self._removed.append(number)
        if len(self._removed) > WAITING_REMOVALS:
            self._removed.clear()
            self._answers.clear()
        if self._rows.pop(number, None) is None:
            self._gone.append(number)

    def allowed(self, query: Query, view: View, now_ms: int) -> "NDArray[int64] | None":
        """Sorted numbers of the records that the query may find. None when it may find all.

        Raises InvalidInput for a filter that means nothing.
        """
        if not (self._special or query.as_of_ms is not None or _filters(query)):
            return None
        numbers = self._answered([*_lasting(query, view)])
        return self._times.fitting(numbers, query.as_of_ms, now_ms) if self._depends_on_time(query) else numbers

    def newest(self, query: Query, view: View, now_ms: int, limit: int) -> list[int]:
        """Numbers of the latest that fit, latest first."""
        where, parameters = self._where(query, view, now_ms)
        self.flush()
        sql = f"SELECT number FROM records r WHERE {where} ORDER BY created_ms DESC, id DESC LIMIT ?"
        return [number for (number,) in self._run(sql, [*parameters, limit]).fetchall()]

    def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of an analytical question over `records` and `payload`. For constants of this package alone."""
        self.flush()
        return self._run(sql, list(parameters)).fetchall()

    def ids(self) -> set[str]:
        """Of all rows. For checks."""
        return {id for (id,) in self.select("SELECT id FROM records")}

    def flush(self) -> None:
        """Takes in what came and went. A question does when it is much; whoever puts many does it before."""
        if self._gone:
            gone, self._gone = self._gone, []
            for table in ("records", "payload"):
                self._run(f"DELETE FROM {table} WHERE number IN (SELECT unnest(?))", [gone])
        if self._rows:
            rows, self._rows = list(self._rows.values()), {}
            self._insert("records", (row[:-1] for row in rows))
            self._insert("payload", (each for row in rows for each in row.payload))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _where(self, query: Query, view: View, now_ms: int) -> tuple[str, list[Any]]:
        clauses = [(each.sql, each.values) for each in _lasting(query, view)]
        if self._depends_on_time(query):
            clauses += _of_time(query.as_of_ms, now_ms)
        return _joined(clauses)

    def _depends_on_time(self, query: Query) -> bool:
        return query.as_of_ms is not None or bool(self._timed)

    def _answered(self, clauses: Sequence[Clause]) -> "NDArray[int64]":
        """The answer as it was made, less what went since, with what came since."""
        key = tuple((each.sql, *map(str, each.values)) for each in clauses)
        found = self._answers.pop(key, None)
        if found is None or len(self._rows) > WAITING_ROWS:
            self.flush()
        if found is None:
            found = _Answer(self._numbers(clauses, 0), self._next, len(self._removed))
        self._answers[key] = found = self._continued(found, clauses)
        if len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return found.numbers

    def _continued(self, found: _Answer, clauses: Sequence[Clause]) -> _Answer:
        numbers = found.numbers
        if found.until < self._next:
            waiting = takewhile(lambda row: row.number >= found.until, reversed(self._rows.values()))
            new = sorted(row.number for row in waiting if all(each.fits(row) for each in clauses))
            taken_in = self._numbers(clauses, found.until) if self._taken_in_since(found.until) else ()
            numbers = numpy.concatenate([numbers, numpy.array([*taken_in, *new], numpy.int64)])
        numbers = _without(numbers, self._removed[found.removed :])
        return _Answer(numbers, self._next, len(self._removed))

    def _taken_in_since(self, until: int) -> bool:
        """Whether DuckDB has rows from this number on."""
        return until < next(iter(self._rows), self._next)

    def _numbers(self, clauses: Sequence[Clause], since: int) -> "NDArray[int64]":
        """Of rows that DuckDB has, from `since` on."""
        where, values = _joined([(each.sql, each.values) for each in clauses])
        sql = f"SELECT number FROM records r WHERE r.number >= ? AND {where}"
        return numpy.sort(cast("NDArray[int64]", self._run(sql, [since, *values]).fetchnumpy()["number"]))

    def _run(self, sql: str, parameters: list[Any]) -> Any:
        with _safe_errors():
            return self._connected().execute(self._database.parsed(sql), parameters)

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._database.connect()
        return self._connection

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """By an appender that goes at once: one that stays would keep 100 KB for its next rows."""
        with _safe_errors(), self._connected().appender(table) as appender:
            appender.append_rows(rows)


@contextmanager
def _safe_errors() -> Iterator[None]:
    """The words of DuckDB's error may quote what lies in the tables."""
    import duckdb

    try:
        yield
    except (duckdb.Error, TypeError, OverflowError, UnicodeError) as error:
        raise StorageError(f"the tables cannot answer: {type(error).__name__}") from None


class _Times:
    """When each row is so, by its number."""

    def __init__(self) -> None:
        self._columns = tuple(Column(numpy.int64) for _ in range(5))

    def put(self, row: Row) -> None:
        for column, value in zip(self._columns, _times(row), strict=True):
            column.reach(row.number + 1)
            column.rows[row.number] = value

    def fitting(self, numbers: "NDArray[int64]", as_of_ms: int | None, now_ms: int) -> "NDArray[int64]":
        """Those of the numbers that are known and valid then."""
        moment = now_ms if as_of_ms is None else as_of_ms
        known, ended, begins, ends, expires = (column.rows[numbers] for column in self._columns)
        fits = (begins <= moment) & (ends > moment) & (expires > now_ms)
        if as_of_ms is not None:
            fits &= (known <= moment) & (ended > moment)
        return numbers[fits]


def _times(row: Row) -> tuple[int, ...]:
    return row.known_ms, row.ended_ms, row.valid_from_ms, row.valid_to_ms, row.expires_ms


def _of_time(as_of_ms: int | None, now_ms: int) -> Iterator[tuple[str, list[Any]]]:
    """As `_Times` says it, to DuckDB."""
    if as_of_ms is not None:
        yield "r.known_ms <= ? AND r.ended_ms > ?", [as_of_ms, as_of_ms]
    valid = now_ms if as_of_ms is None else as_of_ms
    yield "r.valid_from_ms <= ? AND r.valid_to_ms > ? AND r.expires_ms > ?", [valid, valid, now_ms]


def _joined(clauses: Sequence[tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
    return " AND ".join(sql for sql, _ in clauses) or "true", [each for _, values in clauses for each in values]


def _without(numbers: "NDArray[int64]", gone: Sequence[int]) -> "NDArray[int64]":
    if not gone or not len(numbers):
        return numbers
    places = numpy.searchsorted(numbers, gone)
    there = places[numpy.take(numbers, places, mode="clip") == gone]
    return numpy.delete(numbers, there)


def _row(number: int, record: Record, known_ms: int, ended_ms: int | None) -> Row:
    whose = (str(record.layer), str(record.scope), record.owner, record.subject, record.episode, list(record.labels))
    flags = (record.state is State.QUARANTINED, record.pinned, record.confidence, record.importance)
    times = (record.created_ms, known_ms, _FOR_EVER if ended_ms is None else ended_ms)
    begins = _bounded(record.valid_from_ms, record.created_ms)
    ends, expires = _bounded(record.valid_to_ms, _FOR_EVER), _bounded(record.expires_ms, _FOR_EVER)
    payload = [*_properties(number, record.payload)]
    return Row(number, record.id, *whose, *flags, *times, begins, ends, expires, payload)


def _bounded(value: int | None, default: int) -> int:
    return default if value is None else max(-_FOR_EVER, min(_FOR_EVER, value))


def _properties(number: int, payload: JsonObject) -> Iterator[Leaf]:
    for path, value in _leaves(payload, "", 0):
        yield Leaf(number, path, *_value(value))


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """JSON pointers and what is there. A list is a leaf; so is what lies deep."""
    if isinstance(value, dict) and value and depth < _MAX_DEPTH:
        for key, inner in cast("JsonObject", value).items():
            yield from _leaves(inner, f"{path}/{key.replace('~', '~0').replace('/', '~1')}", depth + 1)
    else:
        yield path, value


def _value(value: Any) -> tuple[str, str, float | None]:
    """Kind, text and amount of a leaf: 5 and 5.0 are the same, 5 and "5" or true and 1 are not."""
    if isinstance(value, bool) or value is None:
        return "constant", str(value), None
    if isinstance(value, str):
        return "text", value, None
    if isinstance(value, int | float):
        return "number", str(int(value)) if value == int(value) else repr(float(value)), float(value)
    return "other", canonical(value).decode(), None


def _is_timed(record: Record) -> bool:
    later = record.valid_from_ms is not None and record.valid_from_ms > record.created_ms
    return later or record.valid_to_ms is not None or record.expires_ms is not None


def _filters(query: Query) -> bool:
    lists = (query.layers, query.scopes, query.owners, query.subjects, query.episodes, query.labels)
    return any(lists) or bool(query.without_labels or query.payload or query.min_confidence > 0)


def check_filters(query: Query) -> None:
    """Raises InvalidInput for more filters than anybody means, and for those that mean nothing."""
    lists: Sequence[Sequence[Any]] = (query.layers, query.scopes, query.owners, query.subjects, query.episodes)
    count = sum(map(len, lists)) + len(query.labels) + len(query.without_labels)
    count += sum(1 for _ in _of_payload(query.payload))
    if count > MAX_FILTERS:
        raise InvalidInput(f"{count} values in the filters, and {MAX_FILTERS} are taken at most")


def _lasting(query: Query, view: View) -> Iterator[Clause]:
    """What the query asks for, but for the time."""
    yield from (*_columns(query), *_of_labels(query), *_of_payload(query.payload), *_of_view(view))
    if not query.include_quarantined:
        yield Clause("NOT r.quarantined", [], lambda row: not row.quarantined)


def _columns(query: Query) -> Iterator[Clause]:
    wanted: Iterable[tuple[str, Sequence[Any]]] = (
        ("layer", [str(Layer(each)) for each in query.layers]),
        ("scope", [str(Scope(each)) for each in query.scopes]),
        ("owner", query.owners),
        ("subject", query.subjects),
        ("episode", query.episodes),
    )
    for column, values in wanted:
        if values:
            yield _one_of(column, list(values))
    if (least := query.min_confidence) > 0:
        yield Clause("r.confidence >= ?", [least], lambda row: row.confidence >= least)


def _one_of(column: str, values: list[Any]) -> Clause:
    sql = f"r.{column} IN ({', '.join('?' * len(values))})"
    return Clause(sql, values, lambda row: getattr(row, column) in values)


def _of_labels(query: Query) -> Iterator[Clause]:
    for label in query.labels:
        yield Clause("list_contains(r.labels, ?)", [label], lambda row, label=label: label in row.labels)
    for label in query.without_labels:
        yield Clause("NOT list_contains(r.labels, ?)", [label], lambda row, label=label: label not in row.labels)


def _of_view(view: View) -> Iterator[Clause]:
    if view.everything:
        return
    owners, task = sorted(view.owners), view.task or ""
    own = f"r.owner IN ({', '.join('?' * len(owners))})" if owners else "false"
    sql = f"(r.scope <> 'agent' OR {own}) AND (r.scope <> 'task' OR r.owner = ?)"

    def fits(row: Row) -> bool:
        return (row.scope != "agent" or row.owner in owners) and (row.scope != "task" or row.owner == task)

    yield Clause(sql, [*owners, task], fits)


def _of_payload(payload: Mapping[str, Any]) -> Iterator[Clause]:
    for path, wanted in _wanted(payload, ""):
        sql, values, holds = _condition(path, wanted)
        yield Clause(
            f"r.number IN (SELECT p.number FROM payload p WHERE p.path = ? AND {sql})",
            [path, *values],
            lambda row, path=path, holds=holds: any(each.path == path and holds(each) for each in row.payload),
        )


def _wanted(payload: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Paths and what is asked of each: a value or a range."""
    for key, value in payload.items():
        at = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping) and value and not value.keys() & _RANGES.keys():
            yield from _wanted(cast("Mapping[str, Any]", value), at)
        else:
            yield at, value


def _condition(path: str, wanted: Any) -> tuple[str, list[Any], Callable[[Leaf], bool]]:
    """What a leaf of the path has to hold."""
    if not (isinstance(wanted, Mapping) and wanted):
        kind, text, _ = _value(wanted)
        return "p.kind = ? AND p.text = ?", [kind, text], lambda leaf: leaf.kind == kind and leaf.text == text
    if unknown := wanted.keys() - _RANGES.keys():
        raise InvalidInput(f"{sorted(unknown)[0]!r} is no bound. Write one of {', '.join(_RANGES)}", pointer=path)
    bounds = [_bound(path, name, bound) for name, bound in wanted.items()]
    sql, values = _joined([(sql, values) for sql, values, _ in bounds])
    return sql, values, lambda leaf: all(holds(leaf) for _, _, holds in bounds)


def _bound(path: str, name: str, bound: Any) -> tuple[str, list[Any], Callable[[Leaf], bool]]:
    if isinstance(bound, bool) or not isinstance(bound, int | float | str):
        raise InvalidInput("a bound is a number or a text", pointer=f"{path}/{name}")
    sign, holds = _RANGES[name]
    if isinstance(bound, str):
        return (
            f"p.kind = ? AND p.text {sign} ?",
            ["text", bound],
            lambda leaf: leaf.kind == "text" and holds(leaf.text, bound),
        )
    amount = float(bound)
    return (
        f"p.kind = ? AND p.amount {sign} ?",
        ["number", amount],
        lambda leaf: leaf.kind == "number" and holds(leaf.amount, amount),
    )
