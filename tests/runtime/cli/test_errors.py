"""What happens when things go wrong: one line, the right code, no traceback unless asked for."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from hanse.contracts import AuditReport, Overloaded, Unavailable
from hanse.runtime.cli.app import app


class Broken:
    """A client whose every verb raises, or answers, the same."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    def __getattr__(self, name: str):
        async def verb(*_: Any, **__: Any) -> Any:
            if isinstance(self._outcome, BaseException):
                raise self._outcome
            return self._outcome

        return verb


def run(outcome: Any, *words: str):
    @asynccontextmanager
    async def reach(_: Any) -> AsyncIterator[Any]:
        yield Broken(outcome)

    return CliRunner().invoke(app, list(words), obj=reach)


def test_a_federation_that_does_not_answer_ends_with_3():
    result = run(Unavailable("nobody answers", url="http://x"), "status")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "hanse: nobody answers [unavailable; url=http://x]\n"


def test_one_with_too_much_to_do_says_when_to_come_again():
    result = run(Overloaded("full", retry_after_seconds=2), "tasks", "list")
    assert (result.exit_code, result.stderr) == (3, "hanse: full [overloaded]. Try again in 2 s\n")


def test_a_fault_of_hanse_itself_is_one_line_too():
    result = run(ZeroDivisionError("oh"), "status")
    assert result.exit_code == 1
    assert result.stderr == (
        "hanse: Hanse did not expect this: ZeroDivisionError: oh. Run it again with --debug and report it [failed]\n"
    )


@pytest.mark.parametrize("outcome", [ZeroDivisionError("oh"), Unavailable("away")])
def test_debug_shows_where_it_comes_from(outcome):
    assert "Traceback" not in run(outcome, "status").stderr
    assert "Traceback" in run(outcome, "status", "--debug").stderr


def test_ctrl_c_ends_with_130_and_no_words():
    result = run(KeyboardInterrupt(), "status")
    assert (result.exit_code, result.output) == (130, "")


def test_a_broken_journal_ends_with_1_and_names_the_place():
    report = AuditReport(ok=False, entries=7, head="00", problems=["entry 7 was changed"])
    result = run(report, "audit", "verify")
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    assert "hanse: entry 7 was changed" in result.stderr
    assert json.loads(run(report, "audit", "verify", "--json").stdout)["ok"] is False


def test_a_wrong_option_ends_with_2():
    assert run(None, "tasks", "list", "--limit", "0").exit_code == 2
    assert run(None, "taks").exit_code == 2


def test_without_anything_it_shows_help():
    assert "Usage: hanse" in run(None).output


def test_version_names_what_a_bug_report_needs():
    found = json.loads(run(None, "version", "--json").stdout)
    assert set(found) >= {"hanse", "python", "ray", "apsw"}
    assert "python " in run(None, "version").stdout
