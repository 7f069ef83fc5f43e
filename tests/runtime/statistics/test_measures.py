"""Every figure once by hand: the journals are small enough to count on fingers, and the sums stand beside them."""

from collections.abc import Iterator
from typing import Any

import pytest

from hanse.contracts import InvalidInput, Tenant
from hanse.contracts.outcomes import Outcome, OutcomesView, Spread
from hanse.runtime.statistics import Batch, Projection, outcomes, totals

from ...support.outcomes import SECOND, Book

ACME = Tenant("acme")
DAY = 86_400 * SECOND


@pytest.fixture
def projection() -> Iterator[Projection]:
    made = Projection(None)
    yield made
    made.close()


def absorbed(projection: Projection, book: Book, *, size: int | None = None) -> Projection:
    """The book read in batches of `size`, all at once when left out."""
    events = book.events
    for start in range(0, len(events), size or len(events)):
        batch = Batch()
        page = events[start : start + (size or len(events))]
        for event in page:
            batch.take(event)
        projection.absorb("coordinator-0", batch, page[-1].sequence, b"hash")
    return projection


def looked_at(projection: Projection, by: str = "capability", since: int = 0, until: int = DAY) -> OutcomesView:
    return outcomes(projection, ACME, since, until, by)


def total(projection: Projection, book: Book, **how: Any) -> Outcome:
    return looked_at(absorbed(projection, book), **how).total


def named(view: OutcomesView) -> dict[str, Outcome]:
    return {row.name: row for row in view.rows}


def simple(book: Book, at: int, task: str, call: str = "orders.get", price: float = 0, **done: Any) -> None:
    """A task of one call that goes well: submitted, awarded 1 ms later, done 10 ms later, over at once."""
    book.submitted(at, task, s=call)
    book.awarded(at + 1, task, "s", price=price)
    book.completed(at + 11, task, "s", **done)
    book.ended(at + 11, task, cost=price)


def test_success_is_completed_of_all_that_ended_and_an_open_task_is_not_counted(projection: Projection):
    book = Book()
    for i in range(3):
        simple(book, 1000 * i, f"t{i}")
    for task, end in (("t3", "failed"), ("t4", "canceled")):
        book.submitted(5000, task, s="orders.get")
        book.ended(5001, task, end)
    book.submitted(6000, "t5", s="orders.get")
    found = total(projection, book)
    assert (found.tasks, found.completed, found.failed, found.canceled) == (5, 3, 1, 1)
    assert found.success_rate == 3 / 5


def test_what_fails_is_paid_for_by_what_succeeds(projection: Projection):
    book = Book()
    simple(book, 0, "t0", price=3)
    simple(book, 100, "t1", price=5)
    book.submitted(200, "t2", a="orders.get", b="orders.put")
    book.awarded(201, "t2", "a", price=4)
    book.completed(202, "t2", "a")
    book.awarded(203, "t2", "b", price=100)
    book.failed(204, "t2", "b")
    book.ended(205, "t2", "failed", cost=4)
    found = total(projection, book)
    assert found.cost_cents == 3 + 5 + 4  # what failed costs nothing, what it came after does
    assert found.cents_per_success == 12 / 2


def test_a_person_was_needed_where_one_was_asked_or_a_step_was_held(projection: Projection):
    book = Book()
    simple(book, 0, "t0")
    book.submitted(100, "t1", s="orders.put")
    book.asked(101, "t1", "s")
    book.ended(102, "t1", "canceled")
    book.submitted(200, "t2", s="orders.put")
    book.add(201, "step.held", "t2", "s", why="poisoned")
    book.awarded(202, "t2", "s")
    book.completed(203, "t2", "s")
    book.ended(204, "t2")
    book.submitted(300, "t3", s="orders.put")
    book.ended(301, "t3", "failed")
    found = total(projection, book)
    assert (found.asked, found.intervention_rate) == (2, 2 / 4)


def test_a_held_step_is_settled_when_a_person_has_done_it_or_gives_it_up(projection: Projection):
    book = Book()
    book.submitted(0, "t", undo="orders.undo", a="orders.put", b="orders.put", c="orders.pay")
    for step in "ab":
        book.awarded(10, "t", step, price=3)
        book.add(1000, "step.held", "t", step, why="half_done")
    book.add(61_000, "step.resumed", "t", "a", choice="by_hand", by="ada", output={})
    book.add(62_000, "step.resumed", "t", "b", choice="give_up", by="ada")
    book.awarded(63_000, "t", "a~")
    book.add(64_000, "step.held", "t", "a~", why="compensation_failed")
    book.add(65_000, "step.resumed", "t", "a~", choice="by_hand", by="ada")
    book.ended(66_000, "t", "failed", cost=3)
    view = looked_at(absorbed(projection, book))
    assert (view.total.asked, view.total.compensated, view.total.cost_cents, view.total.steps) == (1, 1, 3, 3)
    assert view.total.recovering == Spread(count=2, p50=1, p95=60, p99=60)
    assert view.total.calling.count == 0  # nobody measured what a person did
    rows = named(view)
    assert (rows["orders.undo"].steps, rows["orders.put"].steps) == (1, 2)


def test_a_confirmation_is_a_step_of_its_own_capability_and_free(projection: Projection):
    book = Book()
    book.submitted(0, "t", confirm="orders.take", a="orders.hold")
    book.awarded(1, "t", "a", price=2)
    book.completed(2, "t", "a")
    book.awarded(3, "t", "a+", price=5)
    book.add(4, "step.held", "t", "a+", why="confirmation_failed")
    book.add(5, "step.resumed", "t", "a+", choice="again", by="ada")
    book.awarded(6, "t", "a+", price=5, attempt=2)
    book.completed(7, "t", "a+", latency_ms=4)
    book.ended(8, "t", cost=2)
    rows = named(looked_at(absorbed(projection, book)))
    assert (rows["orders.hold"].tasks, rows["orders.hold"].asked, rows["orders.hold"].cost_cents) == (1, 1, 2)
    assert (rows["orders.take"].tasks, rows["orders.take"].steps, rows["orders.take"].cost_cents) == (0, 1, 0)
    assert rows["orders.take"].recovering.p50 == 0.003
    assert rows["orders.hold"].compensated == 0


def test_decisions_are_those_of_people(projection: Projection):
    book = Book()
    said = [("approved", 1, {}), ("denied", 2, {}), ("approved", 3, {"edited": True}), ("approved", 4, {})]
    for i, (decision, seconds, more) in enumerate([*said, ("expired", 3600, {})]):
        book.submitted(0, f"t{i}", s="orders.put")
        book.asked(10, f"t{i}", "s")
        book.decided(10 + seconds * SECOND, f"t{i}", "s", decision, **more)
    found = total(projection, book)
    assert (found.decided, found.overridden, found.override_rate) == (4, 2, 2 / 4)
    assert found.deciding == Spread(count=4, p50=2, p95=4, p99=4)


def test_a_question_asked_twice_is_measured_from_the_last_time(projection: Projection):
    book = Book()
    book.submitted(0, "t", s="orders.put")
    for at in (0, 10 * SECOND):
        book.asked(at, "t", "s")
        book.decided(at + 3 * SECOND, "t", "s")
    found = total(projection, book)
    assert found.deciding == Spread(count=2, p50=3, p95=3, p99=3)


def test_repair_takes_from_the_first_trouble_to_the_completion(projection: Projection):
    book = Book()
    book.submitted(0, "t", a="orders.get", b="orders.get", c="orders.get", d="orders.get")
    for step in "abcd":
        book.awarded(10, "t", step)
    book.add(1000, "step.interrupted", "t", "a", agent="a", attempt=1, reason="gone")
    book.failed(2000, "t", "a", branch="transient", again=True)
    book.completed(5000, "t", "a")  # 4 s after the interruption
    book.failed(2000, "t", "b", branch="transient", again=True)
    book.completed(3000, "t", "b")  # 1 s
    book.completed(3000, "t", "c")  # never in trouble
    book.failed(3000, "t", "d", branch="transient", again=True)
    book.failed(4000, "t", "d")  # never repaired
    found = total(projection, book)
    assert found.recovering == Spread(count=2, p50=1, p95=4, p99=4)
    assert (found.steps, found.retries, found.retries_per_step) == (4, 3, 3 / 4)


def test_what_was_never_tried_has_no_attempts_to_count(projection: Projection):
    book = Book()
    book.submitted(0, "t", a="orders.get", b="orders.get", c="orders.get")
    book.failed(1, "t", "a", "budget_exhausted", "budget_exhausted")
    book.add(2, "step.skipped", "t", "b", reason="its condition is false")
    book.awarded(3, "t", "c")
    book.completed(4, "t", "c")
    found = total(projection, book)
    assert (found.steps, found.retries_per_step) == (1, 0)


def test_compensation_counts_tasks_in_which_something_was_undone(projection: Projection):
    book = Book()
    simple(book, 0, "t0")
    book.submitted(100, "t1", undo="orders.undo", a="orders.put", b="orders.pay")
    book.awarded(101, "t1", "a", price=2)
    book.completed(102, "t1", "a")
    book.failed(103, "t1", "b")
    book.add(104, "task.aborting", "t1", error={}, step="b")
    book.awarded(105, "t1", "a~", agent="undoer", price=7)
    book.completed(106, "t1", "a~", latency_ms=30)
    book.ended(107, "t1", "failed", cost=2)
    view = looked_at(absorbed(projection, book))
    assert (view.total.compensated, view.total.compensation_rate) == (1, 1 / 2)
    assert view.total.cost_cents == 2  # undoing is free
    rows = named(view)
    assert {name: row.compensated for name, row in rows.items() if row.tasks} == {
        "orders.get": 0,
        "orders.put": 1,
        "orders.pay": 0,
    }
    assert (rows["orders.undo"].tasks, rows["orders.undo"].steps) == (0, 1)
    assert rows["orders.undo"].calling.p50 == 0.03


def test_refusals_by_policy_are_counted_by_code(projection: Projection):
    book = Book()
    for i, (code, branch) in enumerate([("refused", "policy"), ("refused", "policy"), ("approval_denied", "policy")]):
        book.submitted(0, f"t{i}", s="orders.put")
        book.failed(1, f"t{i}", "s", code, branch)
    book.submitted(0, "t9", s="orders.put")
    book.failed(1, "t9", "s", "invalid_input", "permanent")
    found = total(projection, book)
    assert found.refusals == {"approval_denied": 1, "refused": 2}


def test_nothing_of_an_ended_task_is_kept_as_open(projection: Projection):
    book = Book()
    book.submitted(0, "t", undo="orders.undo", a="orders.put", b="orders.pay")
    book.awarded(1, "t", "a")
    book.asked(2, "t", "b")
    absorbed(projection, book)
    tables = ("open_task", "open_step", "open_question", "planned")
    assert [count(projection, table) for table in tables] == [1, 2, 1, 2]
    book.ended(3, "t", "canceled")
    batch = Batch()
    batch.take(book.events[-1])
    projection.absorb("coordinator-0", batch, 4, b"hash")
    assert [count(projection, table) for table in tables] == [0, 0, 0, 0]


def count(projection: Projection, table: str) -> int:
    return projection._run("count", f"SELECT count(*) FROM {table}").fetchall()[0][0]


def test_latency_is_of_calls_and_duration_of_completed_tasks(projection: Projection):
    book = Book()
    for i in range(1, 101):
        simple(book, 0, f"t{i}", latency_ms=i * 10)
    book.submitted(0, "slow", s="orders.get")
    book.ended(DAY, "slow", "failed")
    found = total(projection, book)
    assert found.calling == Spread(count=100, p50=0.5, p95=0.95, p99=0.99)
    assert found.lasting == Spread(count=100, p50=0.011, p95=0.011, p99=0.011)


def test_the_share_of_models_is_of_what_was_paid(projection: Projection):
    book = Book()
    simple(book, 0, "t0", price=8, model_cents=3)
    simple(book, 100, "t1", price=4, model_cents=0)
    found = total(projection, book)
    assert (found.model_cents, found.model_cost_share) == (3, 3 / 12)


def test_calls_of_the_model_pool(projection: Projection):
    book = Book()
    for at, tokens in ((10, 5), (20, 7), (DAY + 1, 100)):
        said: dict[str, Any] = {"capability": "mail.draft", "agent": "mail", "tier": "planner", "outcome": "accepted"}
        said |= {"microcents": 500_000, "prompt_tokens": tokens, "completion_tokens": 1}
        book.add(at, "model.called", None, call="c", tenant="acme", **said)
    book.add(30, "model.called", None, call="c", tenant="other", microcents=10**9)
    view = looked_at(absorbed(projection, book))
    assert (view.total.model_calls, view.total.model_tokens, view.total.pool_cents) == (2, 14, 1)
    assert named(view)["mail.draft"].model_calls == 2


def test_a_task_counts_at_each_capability_that_it_called_with_its_own_costs(projection: Projection):
    book = Book()
    simple(book, 0, "t0", "orders.get@1.2", price=1)
    book.submitted(100, "t1", a="orders.get", b="mail.send", c="mail.draft")
    for step, price, agent in (("a", 2, "north"), ("b", 5, "post")):
        book.awarded(101, "t1", step, agent=agent, price=price)
        book.completed(102, "t1", step)
    book.add(103, "step.skipped", "t1", "c", reason="")
    book.ended(104, "t1", cost=7)
    view = looked_at(absorbed(projection, book))
    assert {name: (row.tasks, row.cost_cents) for name, row in named(view).items()} == {
        "orders.get": (2, 3),
        "mail.send": (1, 5),
    }
    assert [row.name for row in view.rows] == ["orders.get", "mail.send"]
    assert (view.total.tasks, view.total.cost_cents) == (2, 8)
    agents = looked_at(projection, by="agent")
    assert {name: (row.tasks, row.cost_cents) for name, row in named(agents).items()} == {
        "a": (1, 1),
        "north": (1, 2),
        "post": (1, 5),
    }
    assert {name: row.tasks for name, row in named(looked_at(projection, by="tenant")).items()} == {"acme": 2}


def test_members_of_a_for_each_are_steps_of_their_capability(projection: Projection):
    book = Book()
    book.submitted(0, "t", s="orders.put", undo="orders.undo")
    book.add(1, "step.expanded", "t", "s", count=2)
    for member in ("s[0]", "s[1]"):
        book.awarded(2, "t", member, price=1)
        book.completed(3, "t", member)
    book.awarded(4, "t", "s[1]~")
    book.completed(5, "t", "s[1]~")
    book.ended(6, "t", "canceled", cost=2)
    rows = named(looked_at(absorbed(projection, book)))
    assert (rows["orders.put"].steps, rows["orders.put"].cost_cents, rows["orders.put"].compensated) == (2, 2, 1)
    assert rows["orders.undo"].steps == 1


def test_a_window_takes_in_its_end_and_not_its_beginning(projection: Projection):
    book = Book()
    for i, at in enumerate((1000, 2000, 3000)):
        simple(book, at - 11, f"t{i}")
    absorbed(projection, book)
    assert looked_at(projection, since=1000, until=3000).total.tasks == 2
    assert looked_at(projection, since=999, until=2999).total.tasks == 2
    assert looked_at(projection, since=3000, until=4000).total == Outcome()


def test_the_trend_deals_out_the_window_in_equal_parts(projection: Projection):
    book = Book()
    for i, at in enumerate((1, 100, 101, 2400)):
        simple(book, at - 11, f"t{i}")
    book.submitted(0, "t9", s="orders.get")
    book.ended(2400, "t9", "failed")
    trend = looked_at(absorbed(projection, book), since=0, until=2400).trend
    assert len(trend) == 24
    assert [(i, part.tasks, part.completed) for i, part in enumerate(trend) if part.tasks] == [
        (0, 2, 2),
        (1, 1, 1),
        (23, 2, 1),
    ]


def test_nothing_of_another_tenant_is_counted(projection: Projection):
    book = Book()
    simple(book, 0, "t0", price=1)
    book.submitted(100, "t1", tenant="other", s="orders.secret")
    book.asked(100, "t1", "s")
    book.decided(101, "t1", "s", "denied")
    book.failed(102, "t1", "s", "approval_denied", "policy")
    book.ended(103, "t1", "failed")
    absorbed(projection, book)
    for by in ("capability", "agent", "tenant"):
        view = looked_at(projection, by=by)
        assert "secret" not in view.model_dump_json()
        assert "other" not in view.model_dump_json()
        assert (view.total.tasks, view.total.decided, view.total.refusals) == (1, 0, {})
    assert not any("secret" in each.capability for each in totals(projection, ACME))
    assert totals(projection, Tenant("nobody")) == []


def test_what_makes_no_sense_is_refused(projection: Projection):
    with pytest.raises(InvalidInput, match="one of capability, agent, tenant"):
        looked_at(projection, by="task; DROP TABLE total")
    with pytest.raises(InvalidInput, match="no length"):
        looked_at(projection, since=5, until=5)


def test_totals_grow_with_each_batch_and_are_what_prometheus_expects(projection: Projection):
    book = Book()
    simple(book, 0, "t0", price=2, latency_ms=30)
    simple(book, 100, "t1", price=3, latency_ms=700)
    book.submitted(200, "t2", s="orders.get")
    book.awarded(201, "t2", "s")
    book.failed(202, "t2", "s", branch="transient", again=True)
    book.failed(210, "t2", "s", "refused", "policy")
    book.ended(211, "t2", "failed")
    one, three = Projection(None), absorbed(projection, book, size=3)
    try:
        found = {(each.metric, each.capability, each.label): each.value for each in totals(three, ACME)}
        assert found == {
            (each.metric, each.capability, each.label): each.value for each in totals(absorbed(one, book), ACME)
        }
    finally:
        one.close()
    assert found["tasks", "", "completed"] == 2
    assert found["tasks", "", "failed"] == 1
    assert found["steps", "orders.get", "completed"] == 2
    assert found["step_cents", "orders.get", ""] == 5
    assert found["step_retries", "orders.get", ""] == 1
    assert found["step_refusals", "orders.get", "refused"] == 1
    bounds = {label: value for (metric, _, label), value in found.items() if metric == "step_seconds"}
    assert bounds["sum"] == pytest.approx(0.73)
    assert [bounds[bound] for bound in ("0.025", "0.1", "0.5", "2.5", "+Inf")] == [0, 1, 1, 2, 2]
    assert list(bounds)[:4] == ["0.005", "0.025", "0.1", "0.5"]  # in the order of the bounds, as they are read
    assert list(bounds)[-2:] == ["+Inf", "sum"]


def test_the_hundred_and_first_capability_shares_a_series_with_those_after_it(projection: Projection):
    book = Book()
    for i in range(103):
        simple(book, 20 * i, f"t{i}", f"orders.c{i}")
    absorbed(projection, book, size=90)
    steps = {each.capability: each.value for each in totals(projection, ACME) if each.metric == "steps"}
    assert len(steps) == 101
    assert steps["other"] == 3
    assert steps["orders.c99"] == 1
