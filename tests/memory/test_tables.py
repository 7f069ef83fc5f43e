"""Rows are taken into the tables when a question comes, one or many at a time. Either way the same questions find the
same.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hanse.contracts.memory import Layer, Query, State
from hanse.memory.access import EVERYTHING
from hanse.memory.tables import Database, Tables

from .making import NOW, record

HOSTILE = ("it's", "'; DROP TABLE records; --", "$1", "?", "\x00 and on", "\u202e", "NULL", "", "naïve", "𝄞")
PAYLOAD: dict[str, Any] = {"cents": 5, "none": None, "deep": {"a/b": [1, {"c": 2}]}, "yes": True, "share": 0.5}
RECORDS = [
    *(record(f"h{i}", subject=each, labels=(each,), payload={"word": each}) for i, each in enumerate(HOSTILE)),
    record("bare"),
    record("full", payload=PAYLOAD, labels=("a", "b"), valid_to_ms=NOW + 9, confidence=0.2),
    record("aside", state=State.QUARANTINED),
]
QUESTIONS = [
    *(Query(subjects=(each,)) for each in HOSTILE),
    *(Query(labels=(each,)) for each in HOSTILE),
    *(Query(payload={"word": each}) for each in HOSTILE),
    Query(payload={"cents": {"gte": 5}}),
    Query(payload={"none": None}),
    Query(payload={"deep": {"a/b": [1, {"c": 2}]}}),
    Query(payload={"yes": True, "share": 0.5}),
    Query(min_confidence=0.5),
    Query(without_labels=("a",)),
    Query(include_quarantined=True, layers=(Layer.SEMANTIC,)),
]


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.close()


def filled(database: Database, at_once: int) -> Tables:
    """With questions between every so many rows, so that no more than those are taken in together."""
    tables = Tables(database)
    for number, each in enumerate(RECORDS):
        tables.put(number, each)
        if number % at_once == 0:
            assert each.id in tables.ids()
    return tables


def found(tables: Tables, query: Query) -> set[str]:
    numbers = tables.allowed(query, EVERYTHING, NOW)
    assert numbers is not None
    return {RECORDS[int(number)].id for number in numbers}


@pytest.mark.parametrize("at_once", [1, 3, len(RECORDS)])
def test_rows_are_found_however_they_came(database: Database, at_once: int):
    tables = filled(database, at_once)
    for i, each in enumerate(HOSTILE):
        assert found(tables, Query(subjects=(each,))) == {f"h{i}"}
        assert found(tables, Query(labels=(each,))) == {f"h{i}"}
        assert found(tables, Query(payload={"word": each})) == {f"h{i}"}


def test_a_few_rows_and_many_are_the_same_rows(database: Database):
    few, many = filled(database, 1), filled(database, len(RECORDS))
    assert [found(few, query) for query in QUESTIONS] == [found(many, query) for query in QUESTIONS]
    for rows in ("SELECT * FROM records ORDER BY number", "SELECT * FROM payload ORDER BY number, path"):
        assert few.select(rows) == many.select(rows)


@pytest.mark.parametrize("count", [1, 5, 100])
def test_rows_go_in_few_or_in_many(database: Database, count: int):
    tables = Tables(database)
    for number in range(101):
        tables.put(number, record(f"r{number}", payload={"n": number}))
    assert len(tables.ids()) == 101
    for number in range(count):
        tables.remove(number)
    assert tables.ids() == {f"r{number}" for number in range(count, 101)}
    assert len(tables.select("SELECT * FROM payload")) == 101 - count


def test_no_tenant_has_a_name_for_the_tables_of_another(database: Database):
    filled(database, len(RECORDS))
    other = Tables(database)
    assert other.ids() == set()
    assert other.select("SELECT table_name FROM duckdb_tables() ORDER BY 1") == [("payload",), ("records",)]


def test_the_same_question_of_many_tenants_at_once(database: Database):
    """Each on a thread of its own, all with one parsed statement."""

    def ask(tenant: int) -> list[set[str]]:
        tables = Tables(database)
        tables.put(0, record(f"of-{tenant}", labels=("a",)))
        questions = (Query(labels=("a",), min_confidence=share / 100) for share in range(9))
        found = [tables.ids() for each in questions if tables.allowed(each, EVERYTHING, NOW) == [0]]
        tables.close()
        return found

    with ThreadPoolExecutor(8) as threads:
        for tenant, found in enumerate(threads.map(ask, range(80))):
            assert found == [{f"of-{tenant}"}] * 9
