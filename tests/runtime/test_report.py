"""The figures of a run, counted from its events alone."""

import pytest

from hanse.contracts import CapabilityName, Kind
from hanse.runtime.report import RECENT, Report, Tally, percentile

from ..support.journal import History

EFFECTS = {CapabilityName("shop.pay"): True, CapabilityName("shop.look"): False}


@pytest.fixture
def history() -> History:
    return History()


def test_of_nothing_comes_nothing():
    assert Report.of([]) == Report()
    assert Report().to_data()["step_p50_ms"] is None


def test_tasks_are_counted_by_how_they_ended(history):
    for task, end in (("a", Kind.TASK_COMPLETED), ("b", Kind.TASK_FAILED), ("c", Kind.TASK_CANCELED)):
        history.submitted("s=shop.look", of=task)
        history.add(end, of=task, cost_cents=2)
    history.submitted("s=shop.look", of="d")
    report = Report.of(history.events)
    assert report.tasks == {"completed": 1, "failed": 1, "canceled": 1, "open": 1}
    assert report.cost_cents == 6
    assert (report.task_p50_ms, report.seconds, report.events) == (100, 0.6, 7)


def test_bids_awards_and_competition(history):
    one = {"agent": "north", "price_cents": 1, "refusal": ""}
    history.submitted("a=shop.look", "b=shop.look", "c=shop.look")
    history.awarded("a", bids=[one])
    history.awarded("b", bids=[one, {**one, "agent": "south"}])
    history.awarded("c", bids=[one, {**one, "agent": "south", "refusal": "closed"}])
    report = Report.of(history.events)
    assert (report.awards, report.bids, report.bids_declined, report.contested) == (3, 5, 1, 1)


def test_a_refusal_by_policy_is_counted_by_its_code_and_a_mistake_is_not(history):
    history.failed("a", code="orders.not_pending", branch="policy")
    history.failed("b", code="orders.not_pending", branch="policy")
    history.failed("c", code="invalid_input")
    report = Report.of(history.events)
    assert report.refusals == {"orders.not_pending": 2}
    assert report.steps == {"failed": 3}


def test_a_failure_that_is_tried_again_is_a_retry_and_no_failure(history):
    history.awarded("a")
    history.failed("a", code="unavailable", branch="transient", again_ms=5)
    history.awarded("a", attempt=2)
    history.completed("a")
    report = Report.of(history.events)
    assert (report.retries, report.steps) == (1, {"completed": 1})


def test_an_effect_counts_once_and_a_read_not_at_all(history):
    history.submitted("pay=shop.pay@1.0", "look=shop.look")
    history.completed("pay")
    history.completed("look")
    assert Report.of(history.events, EFFECTS).effects == 1
    assert Report.of(history.events).effects == 0


def test_members_and_compensations_are_effects_of_their_own(history):
    history.submitted("pay=shop.pay")
    history.add(Kind.STEP_EXPANDED, "pay", count=2)
    for step in ("pay[0]", "pay[1]", "pay[1]~"):
        history.completed(step)
    report = Report.of(history.events, EFFECTS)
    assert report.effects == 3
    assert report.steps == {"completed": 2, "compensated": 1}


def test_an_effect_that_ran_twice_does_not_hide(history):
    history.submitted("pay=shop.pay")
    history.completed("pay")
    history.completed("pay")
    assert Report.of(history.events, EFFECTS).effects_doubled == 1


def test_a_call_answered_from_its_receipt_is_counted_as_such(history):
    history.awarded("pay")
    history.add(Kind.STEP_INTERRUPTED, "pay", agent="north", attempt=1, reason="the process ended")
    history.completed("pay", replayed=True)
    report = Report.of(history.events, EFFECTS)
    assert (report.interruptions, report.receipts) == (1, 1)


def test_an_agent_that_comes_back_as_another_process_is_a_recovery(history):
    history.add(Kind.AGENT_JOINED, of=None, agent="north", incarnation="1")
    history.add(Kind.AGENT_LEFT, of=None, agent="north", reason="the process ended")
    history.add(Kind.AGENT_JOINED, of=None, agent="north", incarnation="2")
    assert Report.of(history.events).recoveries == 1


def test_an_agent_that_dials_again_has_not_recovered(history):
    for _ in range(2):
        history.add(Kind.AGENT_JOINED, of=None, agent="north", incarnation="1")
    assert Report.of(history.events).recoveries == 0


def test_a_coordinator_that_takes_up_open_tasks_is_a_recovery(history):
    history.add(Kind.COORDINATOR_STARTED, of=None, epoch=1, shard=0, tasks=0)
    history.add(Kind.COORDINATOR_STARTED, of=None, epoch=2, shard=0, tasks=3)
    assert Report.of(history.events).recoveries == 1


def test_approvals_are_counted_by_what_became_of_them(history):
    for approval, decision in (("t1:a", "approved"), ("t1:b", "denied"), ("t1:c", None)):
        history.add(Kind.APPROVAL_REQUESTED, "a", approval=approval, rule="above 500")
        if decision:
            history.add(Kind.APPROVAL_DECIDED, "a", approval=approval, decision=decision, by="ann")
    assert Report.of(history.events).approvals == {"asked": 3, "approved": 1, "denied": 1, "waiting": 1}


def test_a_tally_knows_who_is_busy_and_remembers_the_last_awards_only(history):
    tally = Tally()
    for number in range(RECENT + 3):
        tally.add(history.awarded(f"s{number}"))
    tally.add(history.completed("s0"))
    assert len(tally.awards) == RECENT
    assert tally.awards[-1].step == f"s{RECENT + 2}"
    assert list(tally.in_flight.values()) == ["north"] * (RECENT + 2)


def test_a_tally_and_a_report_of_the_whole_are_the_same(history):
    tally = Tally(EFFECTS)
    history.submitted("pay=shop.pay")
    history.awarded("pay")
    history.completed("pay")
    history.add(Kind.TASK_COMPLETED, cost_cents=1, output=None)
    for event in history.events:
        tally.add(event)
    assert tally.report() == Report.of(history.events, EFFECTS)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 50, None),
        ([7], 50, 7),
        ([7], 95, 7),
        ([1, 2, 3, 4], 50, 2),
        (list(range(1, 101)), 95, 95),
        ([2, 1], 100, 2),
    ],
)
def test_percentiles_are_values_that_occurred(values, share, expected):
    assert percentile(values, share) == expected
