"""What happened, as the journal says it, and the words for where a task and a step are."""

import datetime
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hanse.contracts import Event, Kind, StepStatus, Submission, TaskStatus, TaskView
from hanse.contracts.events import milliseconds, timestamp
from hanse.contracts.views import Budget

from .examples import EVENTS

moments = st.integers(0, 253_402_300_799_999)
"""1970 to 9999, in unix milliseconds."""


@given(moments)
def test_a_moment_is_written_to_the_millisecond_and_read_back(unix_ms: int):
    text = timestamp(unix_ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert milliseconds(text) == unix_ms


@given(moments, moments)
def test_moments_sort_as_text(one: int, other: int):
    assert (timestamp(one) < timestamp(other)) == (one < other)


def test_a_moment_is_utc():
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_645_557_742_001) == "2022-02-22T19:22:22.001Z"
    assert milliseconds("2022-02-22T14:22:22.001-05:00") == 1_645_557_742_001
    now = datetime.datetime(2026, 11, 21, 9, 30, tzinfo=datetime.UTC)
    assert milliseconds(now.isoformat()) == round(now.timestamp() * 1000)


def test_what_is_no_moment_is_a_value_error():
    for text in ("soon", "2026-11-21T09:30:00", "2026-11-21"):
        with pytest.raises(ValueError, match=text):
            milliseconds(text)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_event_comes_back_from_json_less_its_epoch(name: str):
    event = EVENTS[name]
    back = Event.from_json(json.loads(json.dumps(event.to_json())))
    assert back.epoch == 0
    assert (back.sequence, back.at_ms, back.kind, back.task, back.step, back.data) == (
        event.sequence,
        event.at_ms,
        event.kind,
        event.task,
        event.step,
        event.data,
    )


def test_an_event_of_a_kind_that_is_not_known_here_is_a_value_error():
    with pytest.raises(ValueError, match=r"step\.dreamt"):
        Event.from_json({**EVENTS["step.skipped.1"].to_json(), "kind": "step.dreamt"})


def test_the_name_of_a_kind_says_what_it_is_about():
    for kind in Kind:
        subject, _, what = kind.value.partition(".")
        assert subject in ("coordinator", "agent", "task", "step", "approval", "memory", "model", "breaker", "journal")
        assert kind.name == f"{subject}_{what}".upper()


def test_three_kinds_end_a_task_and_the_statuses_know_them():
    assert {kind.value for kind in Kind if kind.ends_task} == {"task.completed", "task.failed", "task.canceled"}
    assert {f"task.{status}" for status in TaskStatus if status.terminal} == {
        "task.completed",
        "task.failed",
        "task.canceled",
        "task.rejected",
    }


def test_statuses_are_those_of_a2a_in_lower_case():
    """A2A 1.0, section 4.1.3, without the unspecified one."""
    assert [str(status) for status in TaskStatus] == [
        "submitted",
        "working",
        "input_required",
        "auth_required",
        "completed",
        "failed",
        "canceled",
        "rejected",
    ]


def test_a_step_is_in_one_of_eight_places():
    assert [str(status) for status in StepStatus] == [
        "waiting",
        "input_required",
        "retrying",
        "working",
        "completed",
        "skipped",
        "failed",
        "compensated",
    ]


# Submissions


@pytest.mark.parametrize(
    "body",
    [
        {"call": "x" * 201},
        {"goal": "x" * 20_001},
        {"call": "a.b", "deadline_seconds": 0},
        {"call": "a.b", "deadline_seconds": -1},
        {"call": "a.b", "deadline_seconds": float("nan")},
        {"call": "a.b", "deadline_seconds": float("inf")},
        {"call": "a.b", "deadline_seconds": 367 * 86_400},
        {"call": "a.b", "budget": {"cents": -1}},
        {"call": "a.b", "budget": {"cents": float("nan")}},
        {"call": "a.b", "budget": {"dollars": 1}},
        {"call": "a.b", "labels": {"a": 1}},
        {"call": "a.b", "labels": {str(i): "" for i in range(65)}},
        {"call": "a.b", "idempotency_key": ""},
        {"call": "a.b", "idempotency_key": "x" * 256},
        {"call": 5},
        {"cal": "a.b"},
    ],
    ids=str,
)
def test_an_impossible_submission_is_refused(body: dict[str, object]):
    with pytest.raises(ValidationError):
        Submission.model_validate(body)


def test_what_the_caller_wrote_stays_as_it_is_nulls_included():
    plan = {"steps": [{"id": "a", "call": "a.b", "when": None, "input": {"x": None}}]}
    given = Submission(plan=plan, input={"y": None}, budget=Budget(cents=5), labels={"a": "b"})
    assert given.to_data() == {"plan": plan, "input": {"y": None}, "budget": {"cents": 5}, "labels": {"a": "b"}}
    assert Submission.model_validate(given.to_data()) == given


def test_views_are_frozen_and_take_what_a_newer_server_says():
    view = TaskView.model_validate(
        {"id": "1", "tenant": "t", "status": "working", "created_at": "", "updated_at": "", "carbon": 5}
    )
    assert view.status is TaskStatus.WORKING
    with pytest.raises(ValidationError):
        view.id = "2"
