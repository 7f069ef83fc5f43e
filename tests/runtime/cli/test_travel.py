"""`hanse tasks replay`, `fork` and `diff`, over a federation and over its files."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner

from hanse.contracts.wire import decode_event, encode_event
from hanse.runtime.cli.app import app

from .shop import Shop
from .test_commands import Shell

PLAN = {
    "steps": [
        {"id": "pay", "call": "ledger.deposit", "input": {"account": "ann", "cents": {"$from": "input.cents"}}},
        {"id": "ship", "call": "carriers.ship", "input": {"to": {"$from": "input.to"}}, "after": ["pay"]},
    ],
    "output": {"paid": {"$from": "pay.cents"}, "by": {"$from": "ship.carrier"}},
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(Shop(tmp_path / "var"))


@pytest.fixture
def task(shell: Shell, tmp_path: Path) -> str:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"plan": PLAN, "input": {"cents": 5, "to": "home"}}))
    shell("run", str(file))
    return shell.data("tasks", "list")[0]["id"]


def offline(tmp_path: Path, *words: str, code: int = 0) -> Any:
    """With no federation running: the files alone."""
    words = ("tasks", "replay", *words, "--data", str(tmp_path / "var"), "--json")
    result = CliRunner(env={"HANSE_URL": "", "HANSE_TOKEN": ""}).invoke(app, list(words))
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


def test_replay_says_how_much_was_decided_again(shell: Shell, task: str):
    report = shell.data("tasks", "replay", task)
    assert (report["ok"], report["status"], report["divergence"]) == (True, "completed", None)
    assert report["events"] == 6
    assert "all the same" in shell("tasks", "replay", task).stdout


def test_replay_of_everything(shell: Shell, task: str):
    report = shell.data("tasks", "replay")
    assert (report["ok"], report["tasks"], report["diverging"]) == (True, 1, [])
    assert "1 tasks, 6 events" in shell("tasks", "replay").stdout


def test_replay_reads_the_files_where_no_federation_runs(shell: Shell, task: str, tmp_path: Path):
    assert offline(tmp_path, task) == shell.data("tasks", "replay", task)
    assert offline(tmp_path)["tasks"] == 1
    assert "there is no task" in offline(tmp_path, "01932f3a-0000-7000-8000-000000000000", code=1)["error"]["detail"]
    assert "there is no task" in offline(tmp_path, "nonsense", code=1)["error"]["detail"]


def test_a_journal_that_was_changed_diverges_and_ends_with_1(shell: Shell, task: str, tmp_path: Path):
    _award_to(tmp_path / "var" / "coordinator-0.sqlite", task, "ship", "nobody")
    found = offline(tmp_path, task, code=1)["divergence"]
    assert (found["kind"], found["step"], found["what"], found["found"]) == ("step.awarded", "ship", "agent", "nobody")
    assert offline(tmp_path, code=1)["diverging"][0]["task"] == task
    said = shell("tasks", "replay", task, code=1).stdout
    assert "diverges in agent: expected" in said


def _award_to(path: Path, task: str, step: str, agent: str) -> None:
    """Writes the journal anew at one place."""
    with closing(apsw.Connection(str(path))) as connection:
        for sequence, entry in list(connection.execute("SELECT sequence, entry FROM journal WHERE task = ?", (task,))):
            event = decode_event(entry)
            if (event.kind, event.step) == ("step.awarded", step):
                event.data["agent"] = agent  # type: ignore[index]
                connection.execute("UPDATE journal SET entry = ? WHERE sequence = ?", (encode_event(event), sequence))


def test_fork_carries_over_and_says_so(shell: Shell, task: str):
    said = shell("tasks", "fork", task, "--from", "ship", "--key", "k").stdout
    assert said.strip().endswith("; carried over: pay")
    view = shell.data("tasks", "fork", task, "--from", "ship", "--key", "k")
    assert view["forked_from"] == {"task": task, "step": "ship", "inherited": ["pay"]}
    assert f"forked from {task} at ship" in shell("tasks", "get", view["id"]).stdout
    assert shell.data("call", "ledger.deposit", "account=ann", "cents=0")["output"] == {"cents": 5}


def test_fork_takes_another_input_and_another_plan(shell: Shell, task: str, tmp_path: Path):
    other = shell.data("tasks", "fork", task, "--from", "ship", "--input", '{"cents": 5, "to": "work"}')
    assert other["forked_from"]["inherited"] == ["pay"]
    error = shell("tasks", "fork", task, "--from", "ship", "--input", '{"cents": 6, "to": "work"}', code=2).stderr
    assert "pay has changed something" in error
    file = tmp_path / "other.json"
    file.write_text(json.dumps({**PLAN, "output": {"$from": "ship"}}))
    other = shell.data("tasks", "fork", task, "--from", "ship", "--plan", str(file), "--version", "carriers.ship=1.0")
    assert other["forked_from"]["inherited"] == ["pay"]
    assert "Write it as in" in shell("tasks", "fork", task, "--from", "ship", "--version", "ship", code=2).stderr


def test_diff_shows_what_differs_and_nothing_else(shell: Shell, task: str):
    other = shell.data("tasks", "fork", task, "--from", "ship", "--input", '{"cents": 5, "to": "work"}')["id"]
    shell("tasks", "watch", other)
    found = shell.data("tasks", "diff", task, other)
    assert found["same"] is False
    assert found["plan"] == []
    assert found["input"] == [{"at": "/to", "first": "home", "second": "work"}]
    steps = {each["step"]: each for each in found["steps"]}
    assert "price_cents" in steps["ship"]["differs"] or steps["ship"]["differs"] == []
    assert "award" in steps["pay"]["differs"]
    drawn = shell("tasks", "diff", task, other).stdout
    assert "they differ" in drawn
    assert "/to" in drawn
    assert shell.data("tasks", "diff", task, task)["same"] is True
