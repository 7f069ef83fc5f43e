"""A command that README.md does not list is a mistake, and so is a line about a command that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hanse.runtime import cli
from hanse.runtime.cli.app import app

README = (Path(cli.__file__).parent / "README.md").read_text()


def commands(group: typer.Typer = app, before: str = "hanse") -> Iterator[str]:
    for command in group.registered_commands:
        yield f"{before} {command.name}"
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from commands(inner.typer_instance, f"{before} {inner.name}" if inner.name else before)


def documented() -> set[str]:
    rows = re.findall(r"^\| `(hanse [^`]+)` \|", README, re.MULTILINE)
    return {" ".join(word for word in row.split() if not word.startswith("[") and not word.isupper()) for row in rows}


def test_the_readme_lists_every_command_and_no_other():
    assert documented() - {"hanse run retail"} == set(commands())


def test_the_commands_of_the_issue_are_there():
    asked = ["new", "up", "down", "status", "call", "run", "doctor"]
    asked += ["tasks list", "tasks get", "tasks steps", "tasks watch", "tasks cancel"]
    asked += ["approvals list", "approvals approve", "approvals deny", "contracts check", "audit verify"]
    assert {f"hanse {each}" for each in asked} <= set(commands())


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_explains_itself_and_takes_json(command):
    shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [*command.split()[1:], "--help"])
    assert shown.exit_code == 0
    for option in ("--json", "--url", "--token", "--config", "--data", "--debug"):
        assert option in shown.output


def test_help_names_the_exit_codes():
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"])
    assert "3 unreachable" in shown.output
