"""The SQL connector against a real database: a statement and its receipt happen together, or neither does."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, capability
from hanse.agents.connector import Absent, Done
from hanse.agents.connectors.sql import Rows, SqlConnector, SqlRefused
from hanse.contracts import InvalidConfiguration, InvalidInput, OutcomeUnknown, Unavailable

STATEMENTS = {
    "take": "UPDATE stock SET number = number - :number WHERE item = :item",
    "add": "INSERT INTO stock (item, number) VALUES (:item, :number) RETURNING item, number",
    "all": "SELECT item, number FROM stock ORDER BY item",
    "wipe": "DELETE FROM stock",
    "wrong": "SELECT * FROM nowhere",
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "stock.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE stock (item TEXT PRIMARY KEY, number INTEGER NOT NULL CHECK (number >= 0))")
        made.execute("INSERT INTO stock VALUES ('nail', 10)")
    return path


@pytest.fixture
async def stock(database: Path) -> AsyncIterator[SqlConnector]:
    connector = SqlConnector(**_options(database))
    yield connector
    await connector.close()


def _options(database: Path) -> dict[str, Any]:
    return {"url": f"sqlite:///{database}", "statements": STATEMENTS}


def _numbers(database: Path) -> dict[str, int]:
    with sqlite3.connect(database) as found:
        return dict(found.execute("SELECT item, number FROM stock"))


async def test_a_key_is_used_once(stock: SqlConnector, database: Path):
    first = await stock.execute("k", "take", values={"item": "nail", "number": 3})
    again = await stock.execute("k", "take", values={"item": "nail", "number": 3})
    assert (first, first.changed) == (again, 1)
    assert _numbers(database) == {"nail": 7}


async def test_many_at_once_under_one_key_happen_once(stock: SqlConnector, database: Path):
    taken = (stock.execute("k", "take", values={"item": "nail", "number": 1}) for _ in range(16))
    found = await asyncio.gather(*taken, return_exceptions=True)
    assert _numbers(database) == {"nail": 9}
    assert {type(each) for each in found} <= {Rows, Unavailable}


async def test_what_is_refused_leaves_no_receipt(stock: SqlConnector, database: Path):
    with pytest.raises(SqlRefused, match="CHECK"):
        await stock.execute("k", "take", values={"item": "nail", "number": 99})
    assert await stock.reconcile("execute", "k", {}) == Absent()
    assert _numbers(database) == {"nail": 10}


async def test_the_receipt_tells_what_came_of_a_key(stock: SqlConnector):
    rows = await stock.execute("k", "add", values={"item": "screw", "number": 4})
    assert rows.rows == [{"item": "screw", "number": 4}]
    assert await stock.reconcile("execute", "k", {}) == Done(rows.model_dump(mode="json"))


async def test_a_question_changes_nothing(stock: SqlConnector, database: Path):
    assert (await stock.query("", "all")).rows == [{"item": "nail", "number": 10}]
    await stock.query("", "wipe")
    assert _numbers(database) == {"nail": 10}


async def test_only_what_is_configured_is_run(stock: SqlConnector):
    with pytest.raises(InvalidInput, match=r"no statement 'DROP.*Known: add, all, take"):
        await stock.execute("k", "DROP TABLE stock")


async def test_values_are_never_part_of_the_text(stock: SqlConnector, database: Path):
    await stock.execute("k", "add", values={"item": "x'); DROP TABLE stock; --", "number": 1})
    assert _numbers(database) == {"nail": 10, "x'); DROP TABLE stock; --": 1}


async def test_a_database_that_is_not_there_has_done_nothing(tmp_path: Path):
    connector = SqlConnector(url=f"sqlite:///{tmp_path / 'no' / 'such.db'}", statements=STATEMENTS)
    with pytest.raises(Unavailable):
        await connector.execute("k", "take", values={"item": "nail", "number": 1})
    with pytest.raises(OutcomeUnknown):
        await connector.reconcile("execute", "k", {})


async def test_a_statement_that_cannot_run_is_refused_or_tried_again(stock: SqlConnector):
    with pytest.raises((SqlRefused, Unavailable), match="nowhere"):
        await stock.query("", "wrong")


def test_the_url_is_checked_and_holds_no_secret(database: Path):
    connector = SqlConnector(url="postgresql+psycopg://stock@db/stock", password="hunter2", statements=STATEMENTS)
    assert "hunter2" not in repr(connector.options)
    assert connector.options.full_url.password == "hunter2"
    with pytest.raises(InvalidConfiguration, match="leave the password out"):
        SqlConnector(url="postgresql+psycopg://stock:hunter2@db/stock", statements=STATEMENTS)
    assert any("hunter2" in secret for secret in connector.secrets())
    with pytest.raises(InvalidConfiguration, match="database URL"):
        SqlConnector(url="nonsense", statements=STATEMENTS)


class Item(BaseModel):
    item: str
    number: int


class Stock(Agent):
    """Keeps the stock, in somebody else's database."""

    domain = "stock"

    @capability(effect="irreversible")
    async def take(self, request: Item, context: Context) -> Item:
        """Take something out of stock."""
        await context.connectors.stock.execute("take", values={"item": request.item, "number": request.number})
        return request


async def test_an_agent_reaches_a_database_through_the_ledger(database: Path):
    connectors = {"stock": {"kind": "sql", **_options(database)}}
    async with Federation.in_process([Stock], connectors=connectors) as federation:
        for _ in range(2):
            four = {"item": "nail", "number": 4}
            task = await federation.submit(call="stock.take", input=four, idempotency_key="order-1")
            await task.result(20)
    assert _numbers(database) == {"nail": 6}
