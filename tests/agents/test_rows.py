"""Rows and pins by themselves: layers, versions, the bounded cache, and who waits for whom."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hanse.agents.rows import Deadlock, Pins, Rows, Span, _Recent
from hanse.runtime.store import SqliteStore


async def test_versions_grow_over_restarts(tmp_path: Path):
    before = 0
    for value in (b"1", b"2", b"3"):
        store = SqliteStore.open(tmp_path / "agent.sqlite", "agent")
        rows = Rows(store)
        assert rows.row(("a", "k"))[1] == before
        await rows.admit({("a", "k"): value}, ())
        assert rows.row(("a", "k"))[1] > before
        before = rows.row(("a", "k"))[1]
        await store.close()


async def test_what_is_on_its_way_to_disk_is_seen_and_then_kept(store: SqliteStore):
    rows = Rows(store)
    commit = rows.admit({("a", "k"): b"1", ("a", "gone"): None}, ())
    assert rows.row(("a", "k"))[0] == b"1"
    assert rows.durable < rows.latest
    assert [found.key for found in rows.scan(Span("a", "", "z"), "", 10)] == ["k"]
    await commit
    await asyncio.sleep(0)
    assert rows.durable == rows.latest
    assert [found.key for found in rows.scan(Span("a", "", "z"), "", 10)] == ["k"]


def test_the_cache_keeps_the_rows_used_last_within_its_bytes():
    recent = _Recent(limit_bytes=3 * 400)
    for name in "abcd":
        recent.put(("c", name), (b"x" * 100, 1))
        recent.get(("c", "b"))
    assert recent.get(("c", "a")) is None
    assert recent.get(("c", "b")) is not None
    recent.put(("c", "b"), (b"x" * 5000, 2))
    assert recent.get(("c", "d")) is None
    assert recent._size <= recent._limit


async def test_pins_are_exclusive_and_waited_for():
    pins, order = Pins(), []

    async def hold(owner: str, *keys: str) -> None:
        await pins.take(owner, {("c", key) for key in keys}, [])
        order.append(owner)

    await hold("one", "a", "b")
    two = asyncio.create_task(hold("two", "b", "c"))
    three = asyncio.create_task(hold("three", "d"))
    await asyncio.sleep(0.01)
    assert order == ["one", "three"]
    pins.release("one")
    await asyncio.gather(two, three)
    assert order == ["one", "three", "two"]
    for owner in ("two", "three"):
        pins.release(owner)
    assert not pins


@pytest.mark.parametrize(
    ("one", "two", "meet"),
    [
        (({("c", "a")}, []), ({("c", "b")}, []), False),
        (({("c", "a")}, []), (set(), [Span("c", "", "z")]), True),
        ((set(), [Span("c", "a", "c")]), (set(), [Span("c", "b", "d")]), True),
        ((set(), [Span("c", "a", "b")]), (set(), [Span("c", "b", "d")]), False),
        ((set(), [Span("c", "a", "c")]), ({("d", "b")}, []), False),
    ],
)
async def test_a_span_is_pinned_with_every_key_in_it(one: Any, two: Any, meet: bool):
    pins = Pins()
    await pins.take("one", *one)
    task = asyncio.create_task(pins.take("two", *two))
    await asyncio.sleep(0.01)
    assert task.done() is not meet
    pins.release("one")
    await task


async def test_whoever_would_close_a_circle_is_told():
    pins = Pins()
    for owner in ("one", "two", "three"):
        await pins.take(owner, {("c", owner)}, [])
    tasks = [
        asyncio.create_task(pins.take("one", {("c", "two")}, [])),
        asyncio.create_task(pins.take("two", {("c", "three")}, [])),
    ]
    await asyncio.sleep(0)
    with pytest.raises(Deadlock):
        await pins.take("three", {("c", "one")}, [])
    pins.release("three")
    await tasks[1]
    pins.release("two")
    await tasks[0]


async def test_a_waiter_that_is_canceled_leaves_nothing_behind():
    pins = Pins()
    await pins.take("one", {("c", "a")}, [])
    task = asyncio.create_task(pins.take("two", {("c", "a")}, []))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert pins._waiting == []
    pins.release("one")
    await pins.take("three", {("c", "a")}, [])
