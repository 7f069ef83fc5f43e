"""Rows are taken into the tables when a question comes, one or many at a time. Either way the same questions find the
same.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import Layer, Query, Scope, State
from hanse.memory import tables as module
from hanse.memory.access import EVERYTHING, View
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


VIEWS = [EVERYTHING, View(owners=frozenset({"desk"}), task=None), View(owners=frozenset(), task="t1")]
OTHERS = [
    record("private", scope=Scope.AGENT, owner="desk", layer=Layer.EPISODIC, episode="e"),
    record("of a task", scope=Scope.TASK, owner="t1", expires_ms=NOW + 5),
    record("later", valid_from_ms=NOW + 5, payload={"cents": 7, "word": "b"}),
    record("over", valid_to_ms=NOW - 5, payload={"cents": 3.5, "word": "B"}),
]
ALL = [*RECORDS, *OTHERS]
ASKED = [
    *QUESTIONS,
    Query(),
    Query(payload={"cents": {"gt": 4, "lte": 7}}),
    Query(payload={"word": {"gte": "B", "lt": "c"}}),
    Query(payload={"cents": 5, "yes": True}),
    Query(owners=("desk", "t1"), scopes=(Scope.AGENT, Scope.TASK), episodes=("e",)),
    Query(as_of_ms=NOW - 7),
    Query(as_of_ms=NOW + 7, payload={"word": "b"}),
    Query(include_quarantined=True),
]


@given(data=st.data())
def test_an_answer_that_was_kept_is_the_answer_made_anew(data: st.DataObject):
    """Whatever came and went since, whether DuckDB has it or not, and whenever it is asked again."""
    steps = data.draw(st.lists(st.sampled_from(["put", "put", "put", "remove", "ask", "flush"]), max_size=40))
    database, there, number = Database(), dict[int, Any](), 0
    kept, waiting = Tables(database), module.WAITING_ROWS
    module.WAITING_ROWS = data.draw(st.integers(0, 5))
    try:
        for step in [*steps, "ask"]:
            if step == "put":
                there[number] = data.draw(st.sampled_from(ALL)), NOW - data.draw(st.integers(0, 9))
                kept.put(number, *there[number])
                number += 1
            elif step == "remove" and there:
                gone = data.draw(st.sampled_from(sorted(there)))
                del there[gone]
                kept.remove(gone)
            elif step == "flush":
                kept.flush()
            elif step == "ask":
                _check(database, kept, there, data)
    finally:
        module.WAITING_ROWS = waiting
        database.close()


def _check(database: Database, kept: Tables, there: dict[int, Any], data: st.DataObject) -> None:
    query, view = data.draw(st.sampled_from(ASKED)), data.draw(st.sampled_from(VIEWS))
    now_ms = NOW + data.draw(st.integers(-9, 9))
    anew = Tables(database)
    for number, (each, known_ms) in there.items():
        anew.put(number, each, known_ms)
    answer, expected = kept.allowed(query, view, now_ms), anew.allowed(query, view, now_ms)
    assert (answer is None) == (expected is None)
    if answer is not None and expected is not None:
        assert answer.tolist() == expected.tolist()
        assert sorted(answer) == sorted(anew.newest(query, view, now_ms, 1000)), "DuckDB alone says the same"
    anew.close()


def test_a_write_makes_nobody_ask_duckdb_again(database: Database, monkeypatch: pytest.MonkeyPatch):
    """A question of DuckDB costs milliseconds in a large tenant, and in a lively one there is a write before each."""
    tables = filled(database, 1)
    tables.put(len(RECORDS), record("soon over", expires_ms=NOW + 5))
    query = Query(payload={"cents": {"gte": 5}})
    assert tables.allowed(query, EVERYTHING, NOW) is not None
    monkeypatch.setattr(tables, "_run", lambda *_: pytest.fail("DuckDB was asked again"))
    number = len(RECORDS) + 1
    for moment in range(module.WAITING_ROWS - 2):
        tables.put(number + moment, record(f"n{moment}", payload={"cents": moment}))
        answer = tables.allowed(query, EVERYTHING, NOW + moment % 5)
        assert answer is not None
        assert len(answer) == 1 + max(0, moment - 4)
