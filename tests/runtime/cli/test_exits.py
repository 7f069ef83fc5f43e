"""How commands end: the code that an error means, and its one line."""

from pathlib import Path

import pytest

from hanse.contracts import (
    ApprovalDenied,
    BudgetExhausted,
    Corrupt,
    DigestMismatch,
    Failed,
    HanseError,
    InvalidConfiguration,
    InvalidInput,
    InvalidPlan,
    KeyReused,
    NotAuthenticated,
    NotFound,
    Overloaded,
    Problem,
    Refusal,
    TaskStatus,
    TimedOut,
    Unavailable,
)
from hanse.contracts.memory import OF_SNAPSHOT
from hanse.runtime.cli import exits
from hanse.runtime.cli.exits import Exit
from hanse.runtime.views import problem

from .test_view import task

MEANT = {
    Exit.FAILED: [Failed(), NotFound(), HanseError()],
    Exit.USAGE: [InvalidConfiguration(), InvalidInput(), InvalidPlan(), KeyReused()],
    Exit.UNREACHABLE: [Unavailable(), Overloaded(), Corrupt()],
    Exit.REFUSED: [Refusal(), ApprovalDenied(), NotAuthenticated(), BudgetExhausted(), DigestMismatch()],
    Exit.UNFINISHED: [TimedOut()],
}


@pytest.mark.parametrize(("exit", "error"), [(exit, error) for exit, errors in MEANT.items() for error in errors])
def test_an_error_means_an_exit_code(exit, error):
    assert exits.exit_of(error) is exit


@pytest.mark.parametrize(
    ("changes", "exit"),
    [
        ({"status": TaskStatus.COMPLETED}, Exit.DONE),
        ({"status": TaskStatus.WORKING}, Exit.UNFINISHED),
        ({"status": TaskStatus.INPUT_REQUIRED}, Exit.WAITING),
        ({"status": TaskStatus.CANCELED}, Exit.FAILED),
        ({"status": TaskStatus.FAILED, "error": problem(Failed("it broke"))}, Exit.FAILED),
        ({"status": TaskStatus.FAILED, "error": problem(ApprovalDenied())}, Exit.REFUSED),
        ({"status": TaskStatus.FAILED, "error": problem(InvalidInput())}, Exit.FAILED),
        ({"status": TaskStatus.FAILED, "error": problem(Refusal())}, Exit.REFUSED),
    ],
)
def test_the_end_of_a_task_means_an_exit_code(changes, exit):
    assert exits.exit_of_task(task(**changes)) is exit


def test_a_leaf_that_this_process_does_not_know_is_judged_by_its_status():
    unknown = Problem(type="x", title="x", status=403, detail="x", code="shop.closed")
    assert exits.exit_of_problem(unknown) is Exit.REFUSED


def test_a_line_has_the_detail_the_code_the_ids_and_what_to_do():
    error = Overloaded("the queue is full", retry_after_seconds=3, shard=1)
    assert exits.line(error) == "the queue is full [overloaded; shard=1]. Try again in 3 s"


def test_a_torn_copy_is_no_matter_of_the_disk():
    torn = exits.line(Corrupt("a manifest was torn", of=OF_SNAPSHOT))
    assert torn.startswith("a manifest was torn [corrupt]. Nothing was changed. If there is another copy: hanse memory")
    assert "hanse doctor" in exits.line(Corrupt("a journal was torn"))


def test_a_line_is_one_line_and_harmless():
    assert exits.line(Failed("a\nb\x1b[2J", task="t\n1")) == "a b\ufffd[2J [failed; task=t 1]"


def test_further_problems_follow():
    error = InvalidInput(
        "first (and 1 more)", problems=[{"pointer": "/a", "detail": "x"}, {"pointer": "/b", "detail": "y"}]
    )
    assert exits.more(error) == ["/b: y"]
    assert "problems" not in exits.line(error)


def test_the_exit_codes_are_written_down():
    readme = (Path(exits.__file__).parent / "README.md").read_text()
    for exit in Exit:
        assert f"| {exit.value} | `{exit.name.lower()}` |" in readme
