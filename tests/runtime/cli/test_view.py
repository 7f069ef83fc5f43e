"""One task drawn from views and events: what a reader must find in the picture."""

import io

import pytest
from rich.console import Console, RenderableType

from hanse.contracts import ApprovalView, BidView, Kind, Problem, StepStatus, StepView, TaskStatus, TaskView
from hanse.runtime.cli.view import MARKS, MAX_SHOWN, layers, plain_line, question, task_view

from ...support.journal import History


def drawn(what: RenderableType, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(what)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def task(**changes) -> TaskView:
    return TaskView(
        **{
            "id": "t1",
            "tenant": "default",
            "status": TaskStatus.WORKING,
            "created_at": "2026-11-21T09:00:00.000Z",
            "updated_at": "2026-11-21T09:00:01.500Z",
            "steps_total": 3,
            "steps_done": 1,
            **changes,
        }
    )


def step(id: str, *needs: str, **changes) -> StepView:
    return StepView(
        **{"id": id, "call": f"shop.{id}", "status": StepStatus.WAITING, "depends_on": list(needs), **changes}
    )


def test_the_head_says_what_it_is_and_how_far():
    first = drawn(task_view(task(cost_cents=12), [])).splitlines()[0]
    assert first.split() == ["task", "t1", "working", "1/3", "steps", "12¢", "1.5", "s"]


def test_a_step_stands_below_the_deepest_step_it_waits_for_and_names_the_others():
    picture = drawn(task_view(task(), [step("a"), step("b", "a"), step("c", "b", "a"), step("d")]))
    lines = {line.strip("│├└─ ").split()[1]: line for line in picture.splitlines() if "shop." in line}
    indents = {name: line.index("·") for name, line in lines.items()}
    assert indents["a"] == indents["d"] < indents["b"] < indents["c"]
    assert "also after a" in lines["c"]


def test_layers_are_the_longest_ways():
    steps = [step("c", "b", "a"), step("b", "a"), step("a"), step("d")]
    assert [[each.id for each in layer] for layer in layers(steps)] == [["a", "d"], ["b"], ["c"]]


def test_members_and_compensations_stand_below_their_step():
    steps = [step("pay"), step("pay[0]"), step("pay[1]"), step("pay[1]~")]
    assert [[each.id for each in layer] for layer in layers(steps)] == [["pay"], ["pay[0]", "pay[1]"], ["pay[1]~"]]


def test_a_dependency_that_is_not_shown_does_not_hide_a_step():
    assert "shop.a" in drawn(task_view(task(), [step("a", "elsewhere")]))


def test_a_circle_ends():
    assert len(layers([step("a", "b"), step("b", "a")])) == 1


@pytest.mark.parametrize("status", list(StepStatus))
def test_every_status_has_a_mark_of_its_own(status):
    assert MARKS[status][0] in drawn(task_view(task(), [step("a", status=status)]))
    assert len({mark for mark, _ in MARKS.values()}) == len(StepStatus)


def test_bids_show_price_time_and_queue_the_winner_first_and_who_declined():
    bids = [
        BidView(agent="south", price_cents=2, latency_ms=5, queue_depth=1),
        BidView(agent="west", refusal="closed on Sundays"),
        BidView(agent="north", price_cents=1, latency_ms=900),
    ]
    working = step("ship", status=StepStatus.WORKING, agent="north", bids=bids, reason="north is cheapest", attempts=1)
    picture = drawn(task_view(task(), [working]))
    assert "shop.ship → north" in picture
    assert "north is cheapest" in picture
    rows = [line.split() for line in picture.splitlines() if "queue" in line or "declines" in line]
    assert rows == [
        ["»", "north", "1¢,", "900", "ms,", "queue", "0"],
        ["south", "2¢,", "5.0", "ms,", "queue", "1"],
        ["x", "west", "declines:", "closed", "on", "Sundays"],
    ]


def test_troubles_on_the_way_are_counted():
    history = History()
    for _ in range(2):
        history.failed("a", again_ms=9)
    history.add(Kind.STEP_INTERRUPTED, "a", agent="north", reason="gone")
    picture = drawn(task_view(task(), [step("a", attempts=3)], history.events))
    assert "attempt 3  2 × retry, interrupted" in picture


def test_progress_is_shown_while_it_works():
    busy = step("a", status=StepStatus.WORKING, progress=0.25, note="page 2 of 8")
    assert "25%  page 2 of 8" in drawn(task_view(task(), [busy]))


def test_a_question_shows_the_rule_the_input_and_what_to_type():
    asked = ApprovalView(
        id="t1:pay",
        task="t1",
        step="pay",
        capability="payments.refund",
        input={"amount": 612.5},
        digest="sha256:00",
        rule="payments.refund above 500 (amount = 612.50)",
        requested_at="2026-11-21T09:00:00.000Z",
    )
    waiting = task(status=TaskStatus.INPUT_REQUIRED, approvals=["t1:pay"])
    picture = drawn(task_view(waiting, [step("pay", status=StepStatus.INPUT_REQUIRED)], approvals=[asked]))
    for part in (
        "? payments.refund above 500",
        '{"amount":612.5}',
        "hanse approvals approve t1:pay",
        "approvals deny t1:pay",
    ):
        assert part in picture
    assert "approve" not in drawn(task_view(waiting, [], approvals=[asked.model_copy(update={"decision": "denied"})]))
    assert "612" in drawn(question(asked))


def test_the_end_shows_the_output_or_the_error():
    assert 'Output: {"cents":5}' in drawn(task_view(task(status=TaskStatus.COMPLETED, output={"cents": 5}), []))
    problem = Problem(type="x", title="x", status=422, detail="ann has only 5 cents", code="refused")
    assert "Error: ann has only 5 cents [refused]" in drawn(
        task_view(task(status=TaskStatus.FAILED, error=problem), [])
    )


def test_a_long_plan_is_cut_and_says_so():
    picture = drawn(task_view(task(), [step(f"s{number}") for number in range(MAX_SHOWN + 7)]))
    assert picture.count("shop.") == MAX_SHOWN
    assert "… and 7 more steps" in picture


def test_what_agents_say_cannot_touch_the_terminal():
    evil = step("a", reason="\x1b]0;owned\x07 [red]x[/red]", note="\r", call="shop.a\x1b[2J")
    picture = drawn(task_view(task(), [evil]))
    assert "\x1b" not in picture
    assert "[red]x[/red]" in picture


def lines_of(history: History) -> list[str | None]:
    return [plain_line(event) for event in history.events]


def test_each_event_is_a_line_that_says_who_and_why():
    history = History()
    history.submitted("ship=shop.ship")
    history.awarded(
        "ship", bids=[{"agent": "north", "price_cents": 1, "latency_ms": 5}, {"agent": "west", "refusal": "closed"}]
    )
    history.add(Kind.STEP_INTERRUPTED, "ship", agent="north", reason="the process ended")
    history.completed("ship", replayed=True)
    history.failed("pay", code="unavailable", again_ms=3)
    history.add(Kind.APPROVAL_REQUESTED, "pay", rule="pay above 5", approval="t1:pay")
    history.add(Kind.APPROVAL_DECIDED, "pay", decision="denied", by="ann")
    history.add(Kind.TASK_COMPLETED, output={"ok": True})
    said = [str(line).partition(" ")[2] for line in lines_of(history)]
    assert said == [
        "task.submitted: 1 steps",
        "step.awarded ship: to north (the cheapest); bids: north 1¢ 5.0 ms, west declines: closed",
        "step.interrupted ship: north: the process ended",
        "step.completed ship: by north in 5.0 ms, from its receipt",
        "step.failed pay: it is unavailable [unavailable], will be tried again",
        "approval.requested pay: pay above 5; decide: hanse approvals approve t1:pay",
        "approval.decided pay: denied by ann",
        'task.completed: {"ok":true}',
    ]


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_event_has_a_line_even_with_no_data(kind):
    history = History()
    history.add(kind)
    assert str(kind) in str(lines_of(history)[0])


def test_labels_stand_below_their_step_with_where_they_come_from():
    labels = {"untrusted": ["record r1, step read", "record r2, step read"], "private": ["contract crm.get, step a"]}
    done = task(status=TaskStatus.COMPLETED, output=1, output_labels={"untrusted": ["record r1\x1b, step read"]})
    picture = drawn(task_view(done, [step("a", labels=labels), step("b")]))
    line = "private (contract crm.get, step a), untrusted (record r1, step read; and 1 more)"
    assert picture.count(line) == 1
    assert "What is known of it: untrusted (record r1" in picture
    assert "\x1b" not in picture


def test_lines_say_what_was_taken_up_and_what_is_asked_about():
    history = History()
    history.submitted("ship=shop.ship")
    history.add(Kind.STEP_COMPLETED, "ship", agent="north", latency_ms=5, labels={"untrusted": ["record r1"]})
    history.add(Kind.APPROVAL_REQUESTED, "pay", rule="pay above 5", approval="t1:pay", labels={"b": [], "a": []})
    taken, asked = lines_of(history)[-2:]
    assert taken is not None
    assert asked is not None
    assert taken.endswith(", took up what is untrusted")
    assert "pay above 5 (with what is a, b); decide" in asked
