"""Any journal, any window, read in any portions: the SQL says what plain Python says.

The journals are games of the execution (`tests/support/driver.py`), so they are legal histories with everything in
them: retries, interruptions, questions, members, compensations, cancellation. Several tasks of two tenants run side by
side.
"""

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import Event, Sequence, TaskId, Tenant
from hanse.contracts.outcomes import Outcome, Total
from hanse.runtime.statistics import BY, Batch, Projection, outcomes, totals

from ...support.driver import Driver
from ...support.outcomes_by_hand import expected
from ...support.plans import Choose, plan, submitted, task_input

TENANTS = ("acme", "other")
MOVES = 60
"""Of one game at most: some tasks stay open."""


@pytest.fixture(scope="module")
def projection() -> Iterator[Projection]:
    made = Projection(None)
    yield made
    made.close()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), tasks=st.integers(1, 6), portion=st.sampled_from([7, 31, 1000]))
def test_the_sql_agrees_with_plain_python(projection: Projection, seed: int, tasks: int, portion: int):
    compare(projection, Random(seed), tasks, portion)


def test_many_tasks(projection: Projection):
    for seed in range(3):
        compare(projection, Random(seed), 150, 400)


def compare(projection: Projection, random: Random, tasks: int, portion: int) -> None:
    events = journal(random, tasks)
    projection.clear()
    absorb(projection, events, portion)
    last = events[-1].at_ms
    since = random.choice([-1, random.randrange(-1, last)])
    until = random.choice([last, random.randrange(since, last) + 1])
    for by in BY:
        view = outcomes(projection, Tenant("acme"), since, until, by)
        assert_same({row.name: row for row in view.rows}, expected(events, "acme", since, until, by))
        assert_same({"": view.total}, {"": Outcome()} | dict(expected(events, "acme", since, until, "")))
        assert sum(part.tasks for part in view.trend) == view.total.tasks
        assert sum(part.completed for part in view.trend) == view.total.completed

    whole = outcomes(projection, Tenant("acme"), -1, last, "capability").total
    assert_grown(totals(projection, Tenant("acme")), whole)


def assert_grown(series: list[Total], whole: Outcome) -> None:
    """What grew batch by batch is what the tables say at the end."""
    sums = Counter[tuple[str, str]]()
    for each in series:
        sums[each.metric, each.label] += each.value  # type: ignore[assignment]
    ended = [sums["tasks", status] for status in ("completed", "failed", "canceled")]
    assert ended == [whole.completed, whole.failed, whole.canceled]
    assert sums["task_cents", ""] == pytest.approx(whole.cost_cents, abs=1e-6)
    assert sums["step_recovery_seconds", "+Inf"] == whole.recovering.count
    assert sums["step_seconds", "+Inf"] == whole.calling.count
    assert sums["task_seconds", "+Inf"] == whole.lasting.count
    assert sums["approval_seconds", "+Inf"] == whole.deciding.count == whole.decided
    assert {label: n for (metric, label), n in sums.items() if metric == "step_refusals"} == whole.refusals


def assert_same(found: dict[str, Outcome], wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for name, row in found.items():
        mine, theirs = row.model_dump(), wanted[name].model_dump()
        for figure, value in theirs.items():
            assert mine[figure] == (pytest.approx(value) if isinstance(value, float) else value), (name, figure)


def absorb(projection: Projection, events: list[Event], portion: int) -> None:
    for start in range(0, len(events), portion):
        page = events[start : start + portion]
        batch = Batch()
        for event in page:
            batch.take(event)
        projection.absorb("coordinator-0", batch, page[-1].sequence, bytes(32))


def journal(random: Random, tasks: int) -> list[Event]:
    """Games side by side, numbered and timed anew."""
    games = [[*retold(random, game(random), f"task-{number}")] for number in range(tasks)]
    at, events = 0, list[Event]()
    while games:
        own = random.choice(games)
        at += random.choice([0, 1, 7, 300])
        events.append(own.pop(0)._replace(sequence=Sequence(len(events) + 1), at_ms=at))
        games = [each for each in games if each]
    return events


def game(random: Random) -> list[Event]:
    choose: Choose = random.choice
    driver = Driver(submitted(plan(choose, 5), task_input(choose), choose([None, None, 1])), choose)
    for _ in range(MOVES):
        driver.advance()
        if driver.run.status.terminal:
            break
        driver.play(choose([*driver.moves(), *driver.interrupts(choose)]))
    return driver.events


def retold(random: Random, events: list[Event], task: str) -> Iterator[Event]:
    """As a task of its own, with a tenant, latencies and costs of models by chance."""
    chance = {"tenant": random.choice(TENANTS)}
    for event in events:
        changed: dict[str, Any] = {name: value for name, value in chance.items() if name in event.data}
        if event.kind == "step.completed":
            changed = {"latency_ms": random.choice([0.5, 3.0, 40.0, 1200.0]), "model_cents": random.choice([0, 0.1])}
        if "approval" in event.data:
            changed["approval"] = f"{task}:{event.step}"
        yield event._replace(task=TaskId(task), data={**event.data, **changed})
