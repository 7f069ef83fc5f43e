"""Tables: what a query's filters leave over, answered by DuckDB. A projection of the log, in memory only.

Each tenant has tables of its own: temporary ones of its own connection, which no other connection has a name for.
Whatever a query says goes in as a parameter; the text of the SQL is made of constants alone, so that nothing hostile
can be said in it. Payloads lie in a table of paths and values beside the records, because a filter knows which path it
means and not what else a payload holds.

Rows are taken in bunches, when the next question comes: one row costs DuckDB as much as thirty.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy

from ..contracts import InvalidInput, StorageError
from ..contracts.memory import Layer, Query, Record, Scope, State
from ..contracts.schema import JsonObject, canonical
from .access import View

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

MAX_FILTERS = 100
"""Values in all filters of one query together."""
_REMEMBERED_ANSWERS = 32
_REMEMBERED_STATEMENTS = 1024
_MAX_DEPTH = 16
_FOR_EVER = 1 << 62

_SCHEMA = (
    """CREATE TEMP TABLE records (
    number BIGINT, id VARCHAR, layer VARCHAR, scope VARCHAR, owner VARCHAR, subject VARCHAR, episode VARCHAR,
    labels VARCHAR[], quarantined BOOLEAN, pinned BOOLEAN, confidence DOUBLE, importance DOUBLE, created_ms BIGINT,
    known_ms BIGINT, ended_ms BIGINT, valid_from_ms BIGINT, valid_to_ms BIGINT, expires_ms BIGINT)""",
    "CREATE TEMP TABLE payload (number BIGINT, path VARCHAR, kind VARCHAR, text VARCHAR, amount DOUBLE)",
)
_RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


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
        self._rows: dict[int, tuple[Any, ...]] = {}
        """Not in DuckDB yet."""
        self._gone: list[int] = []
        self._plain = 0
        self._special: set[int] = set()
        """Those that not every query of the present may find, even without filters."""
        self._timed: set[int] = set()
        """Of those: for which it depends on the time."""
        self._answers: OrderedDict[Any, NDArray[int64]] = OrderedDict()

    def __len__(self) -> int:
        return self._plain

    def put(self, number: int, record: Record, known_ms: int | None = None, ended_ms: int | None = None) -> None:
        """A row of a number that was never used."""
        row = _row(number, record, record.updated_ms if known_ms is None else known_ms, ended_ms)
        self._rows[number] = row
        self._plain += 1
        self._answers.clear()
        if _is_timed(record):
            self._timed.add(number)
        if number in self._timed or record.scope in (Scope.AGENT, Scope.TASK) or record.state is not State.LIVE:
            self._special.add(number)

    def remove(self, number: int) -> None:
        self._plain -= 1
        self._answers.clear()
        self._special.discard(number)
        self._timed.discard(number)
        if self._rows.pop(number, None) is None:
            self._gone.append(number)

    def allowed(self, query: Query, view: View, now_ms: int) -> "NDArray[int64] | None":
        """Sorted numbers of the records that the query may find. None when it may find all.

        Raises InvalidInput for a filter that means nothing.
        """
        if not (self._special or query.as_of_ms is not None or _filters(query)):
            return None
        where, parameters = self._where(query, view, now_ms)
        key = (where, tuple(map(str, parameters)))
        if (found := self._answers.get(key)) is None:
            found = self._answers[key] = self._numbers(where, parameters)
            if len(self._answers) > _REMEMBERED_ANSWERS:
                self._answers.popitem(last=False)
        return found

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
        """Takes in what came and went since the last question. Each question does; whoever puts many does it before."""
        if self._gone:
            gone, self._gone = self._gone, []
            for table in ("records", "payload"):
                self._run(f"DELETE FROM {table} WHERE number IN (SELECT unnest(?))", [gone])
        if self._rows:
            rows, self._rows = list(self._rows.values()), {}
            self._insert("records", (row[:-1] for row in rows))
            self._insert("payload", (each for row in rows for each in row[-1]))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _where(self, query: Query, view: View, now_ms: int) -> tuple[str, list[Any]]:
        clauses = [*_columns(query), *_of_labels(query), *_of_payload(query.payload)]
        clauses += [*_of_view(view), *self._of_time(query, now_ms)]
        if not query.include_quarantined:
            clauses.append(("NOT r.quarantined", []))
        return " AND ".join(sql for sql, _ in clauses) or "true", [each for _, values in clauses for each in values]

    def _of_time(self, query: Query, now_ms: int) -> Iterator[tuple[str, list[Any]]]:
        if (moment := query.as_of_ms) is not None:
            yield "r.known_ms <= ? AND r.ended_ms > ?", [moment, moment]
        elif not self._timed:
            return
        valid = now_ms if moment is None else moment
        yield "r.valid_from_ms <= ? AND r.valid_to_ms > ? AND r.expires_ms > ?", [valid, valid, now_ms]

    def _numbers(self, where: str, parameters: list[Any]) -> "NDArray[int64]":
        self.flush()
        sql = f"SELECT number FROM records r WHERE {where}"
        return numpy.sort(cast("NDArray[int64]", self._run(sql, parameters).fetchnumpy()["number"]))

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


def _row(number: int, record: Record, known_ms: int, ended_ms: int | None) -> tuple[Any, ...]:
    """In the order of the schema; last the rows of its payload."""
    whose = (str(record.layer), str(record.scope), record.owner, record.subject, record.episode, list(record.labels))
    flags = (record.state is State.QUARANTINED, record.pinned, record.confidence, record.importance)
    times = (record.created_ms, known_ms, _FOR_EVER if ended_ms is None else ended_ms)
    valid = tuple(
        default if value is None else max(-_FOR_EVER, min(_FOR_EVER, value))
        for value, default in (
            (record.valid_from_ms, record.created_ms),
            (record.valid_to_ms, _FOR_EVER),
            (record.expires_ms, _FOR_EVER),
        )
    )
    return (number, record.id, *whose, *flags, *times, *valid, list(_properties(number, record.payload)))


def _properties(number: int, payload: JsonObject) -> Iterator[tuple[Any, ...]]:
    for path, value in _leaves(payload, "", 0):
        yield number, path, *_value(value)


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


def _columns(query: Query) -> Iterator[tuple[str, list[Any]]]:
    wanted: Iterable[tuple[str, Sequence[Any]]] = (
        ("layer", [str(Layer(each)) for each in query.layers]),
        ("scope", [str(Scope(each)) for each in query.scopes]),
        ("owner", query.owners),
        ("subject", query.subjects),
        ("episode", query.episodes),
    )
    for column, values in wanted:
        if values:
            yield f"r.{column} IN ({', '.join('?' * len(values))})", list(values)
    if query.min_confidence > 0:
        yield "r.confidence >= ?", [query.min_confidence]


def _of_labels(query: Query) -> Iterator[tuple[str, list[Any]]]:
    for label in query.labels:
        yield "list_contains(r.labels, ?)", [label]
    for label in query.without_labels:
        yield "NOT list_contains(r.labels, ?)", [label]


def _of_view(view: View) -> Iterator[tuple[str, list[Any]]]:
    if view.everything:
        return
    owners = sorted(view.owners)
    own = f"r.owner IN ({', '.join('?' * len(owners))})" if owners else "false"
    yield f"(r.scope <> 'agent' OR {own}) AND (r.scope <> 'task' OR r.owner = ?)", [*owners, view.task or ""]


def _of_payload(payload: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for path, wanted in _wanted(payload, ""):
        for sql, values in _conditions(path, wanted):
            yield f"r.number IN (SELECT p.number FROM payload p WHERE p.path = ? AND {sql})", [path, *values]


def _wanted(payload: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Paths and what is asked of each: a value or a range."""
    for key, value in payload.items():
        at = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping) and value and not value.keys() & _RANGES.keys():
            yield from _wanted(cast("Mapping[str, Any]", value), at)
        else:
            yield at, value


def _conditions(path: str, wanted: Any) -> Iterator[tuple[str, list[Any]]]:
    if not (isinstance(wanted, Mapping) and wanted):
        kind, text, _ = _value(wanted)
        yield "p.kind = ? AND p.text = ?", [kind, text]
        return
    if unknown := wanted.keys() - _RANGES.keys():
        raise InvalidInput(f"{sorted(unknown)[0]!r} is no bound. Write one of {', '.join(_RANGES)}", pointer=path)
    sql, values = zip(*(_bound(path, name, bound) for name, bound in wanted.items()), strict=True)
    yield " AND ".join(sql), [each for pair in values for each in pair]


def _bound(path: str, name: str, bound: Any) -> tuple[str, list[Any]]:
    if isinstance(bound, bool) or not isinstance(bound, int | float | str):
        raise InvalidInput("a bound is a number or a text", pointer=f"{path}/{name}")
    if isinstance(bound, str):
        return f"p.kind = ? AND p.text {_RANGES[name]} ?", ["text", bound]
    return f"p.kind = ? AND p.amount {_RANGES[name]} ?", ["number", float(bound)]
