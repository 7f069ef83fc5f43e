"""SQL databases: named statements, each in one transaction with a receipt of its own.

Which statements there are is written in `hanse.yaml`, so an agent can run what an operator has read, and nothing else;
values are bound, never put into the text. A statement that changes something inserts the effect's key into a receipt
table in the same transaction. So the database itself says whether it happened: the key is there or it is not, and the
same key again finds its receipt and changes nothing (the idempotent receiver of Hohpe and Woolf, "Enterprise
Integration Patterns", 2003).

SQLAlchemy knows the dialects. SQLite comes with Python; for others install their driver, such as `psycopg`.
"""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sql
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from sqlalchemy import exc

from ...contracts import InvalidInput, JsonObject, OutcomeUnknown, Permanent, Unavailable
from ...contracts.plain import check
from ..connector import Absent, Answer, Connector, ConnectorOptions, Done, operation

RECEIPTS = sql.Table(
    "hanse_receipt",
    sql.MetaData(),
    sql.Column("key", sql.String(400), primary_key=True),
    sql.Column("statement", sql.String(200), nullable=False),
    sql.Column("result", sql.Text, nullable=False),
)
"""One row for each effect that happened. It stands in the database that it happened in."""

_MAX_ROWS = 10_000


class SqlRefused(Permanent):
    """The database refused the statement: a constraint, a type, a missing table."""

    code = "sql.refused"


class Rows(BaseModel):
    """What a statement gave."""

    model_config = ConfigDict(frozen=True)

    rows: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    changed: int = 0
    """Rows that were inserted, updated or deleted."""


class SqlOptions(ConnectorOptions):
    url: str
    """As SQLAlchemy has it, without a password. Example: `sqlite:////data/stock.db`"""
    password: SecretStr | None = None
    statements: Mapping[str, str]
    """By name. Values are bound by name, `:like_this`."""
    create_receipts: bool = True
    """Make the table `hanse_receipt` where it is missing. Otherwise somebody else has."""
    max_connections: int = Field(default=8, gt=0)

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        try:
            has_password = sql.make_url(value).password is not None
        except exc.ArgumentError:
            raise ValueError("write a database URL, such as sqlite:////data/stock.db") from None
        if has_password:
            raise ValueError("leave the password out of the URL, and write it as `password`")
        return value

    @property
    def full_url(self) -> sql.URL:
        url = sql.make_url(self.url)
        return url if self.password is None else url.set(password=self.password.get_secret_value())


class SqlConnector(Connector):
    """One database. Its operations raise SqlRefused for what the database will never do."""

    Options = SqlOptions
    options: SqlOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._statements = {name: sql.text(text) for name, text in self.options.statements.items()}
        self._made: sql.Engine | None = None
        self._prepared = False
        self._lock = threading.Lock()

    @property
    def repeatable(self) -> bool:
        return True

    @property
    def askable(self) -> bool:
        return True

    @operation()
    async def execute(self, key: str, statement: str, *, values: dict[str, Any] | None = None) -> Rows:
        """Runs a statement and writes its receipt, or neither. A key that was used gives what it gave then."""
        return await asyncio.to_thread(self._execute, key, statement, values or {})

    @operation(effect="read")
    async def query(self, key: str, statement: str, *, values: dict[str, Any] | None = None) -> Rows:
        """Runs a statement in a transaction that is rolled back."""
        return await asyncio.to_thread(self._query, statement, values or {})

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        result = await asyncio.to_thread(self._receipt, key)
        return Absent() if result is None else Done(result)

    async def close(self) -> None:
        made, self._made, self._prepared = self._made, None, False
        if made is not None:
            await asyncio.to_thread(made.dispose)

    # What runs in a thread

    def _execute(self, key: str, statement: str, values: Mapping[str, Any]) -> Rows:
        text = self._text(statement)
        with self._connection() as connection:
            if (stored := _stored(connection, key)) is not None:
                return Rows(**stored)
            try:
                with _judged(statement):
                    done = _done(connection.execute(text, values))
                    connection.execute(RECEIPTS.insert().values(key=key, statement=statement, result=_json(done)))
            except SqlRefused:
                connection.rollback()
                if (stored := _stored(connection, key)) is not None:
                    return Rows(**stored)  # somebody else was faster, under the same key
                raise
            _commit(connection, statement)
        return done

    def _query(self, statement: str, values: Mapping[str, Any]) -> Rows:
        text = self._text(statement)
        with self._connection() as connection, _judged(statement):
            found = _done(connection.execute(text, values))
            connection.rollback()
        return found.model_copy(update={"changed": 0})

    def _receipt(self, key: str) -> JsonObject | None:
        try:
            with self._connection() as connection:
                return _stored(connection, key)
        except Unavailable as error:
            raise OutcomeUnknown(f"{self.name} cannot be asked: {error.detail}", effect=key) from error

    def _text(self, statement: str) -> sql.TextClause:
        if statement not in self._statements:
            known = ", ".join(sorted(self._statements))
            raise InvalidInput(f"connector {self.name!r} has no statement {statement!r:.80}. Known: {known}")
        return self._statements[statement]

    @contextmanager
    def _connection(self) -> Iterator[sql.Connection]:
        """Nothing has happened when this fails."""
        try:
            connection = self._engine().connect()
        except exc.SQLAlchemyError as error:
            raise Unavailable(f"{self.name} cannot be reached: {_words(error)}") from error
        with connection:
            yield connection

    def _engine(self) -> sql.Engine:
        with self._lock:
            made = self._made = self._made or self._new_engine()
            if not self._prepared and self.options.create_receipts:
                RECEIPTS.create(made, checkfirst=True)
            self._prepared = True
        return made

    def _new_engine(self) -> sql.Engine:
        return sql.create_engine(self.options.full_url, pool_size=self.options.max_connections)


def _stored(connection: sql.Connection, key: str) -> JsonObject | None:
    try:
        row = connection.execute(sql.select(RECEIPTS.c.result).where(RECEIPTS.c.key == key)).first()
    except exc.SQLAlchemyError as error:
        raise Unavailable(f"its receipts cannot be read: {_words(error)}") from error
    return None if row is None else json.loads(row[0])


def _done(result: sql.CursorResult[Any]) -> Rows:
    if not result.returns_rows:
        return Rows(changed=max(result.rowcount, 0))
    rows = [dict(row) for row in result.mappings().fetchmany(_MAX_ROWS + 1)]
    if len(rows) > _MAX_ROWS:
        raise SqlRefused(f"it gives more than {_MAX_ROWS} rows. Write a LIMIT")
    return Rows(rows=rows, changed=len(rows))


def _json(done: Rows) -> str:
    data = done.model_dump(mode="json")
    check(data)
    return json.dumps(data)


@contextmanager
def _judged(statement: str) -> Iterator[None]:
    """Before the commit nothing has happened, whatever goes wrong: the transaction is rolled back."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise Unavailable(f"{statement}: {_words(error)}") from error
    except exc.SQLAlchemyError as error:
        raise SqlRefused(f"{statement}: {_words(error)}") from error


def _commit(connection: sql.Connection, statement: str) -> None:
    """Whose answer may be lost: then the receipt says what came of it."""
    try:
        connection.commit()
    except exc.SQLAlchemyError as error:
        raise OutcomeUnknown(f"{statement}: no answer to its commit: {_words(error)}") from error


def _words(error: exc.SQLAlchemyError) -> str:
    """Without the values, which may be anybody's."""
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    return str(cause).splitlines()[0][:300]
