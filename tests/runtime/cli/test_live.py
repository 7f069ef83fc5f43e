"""At a terminal: pictures drawn over themselves, and a person who is asked."""

import json

import pytest
from typer.testing import CliRunner

from hanse.runtime.cli.app import app

from .shop import Shop
from .test_commands import PLAN

TERMINAL = {"TTY_COMPATIBLE": "1", "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "HANSE_URL": ""}
HIDE_CURSOR = "\x1b[?25l"


@pytest.fixture
def terminal(tmp_path):
    shop = Shop(tmp_path / "var")

    def run(*words: str, stdin: str = ""):
        return CliRunner(env=TERMINAL).invoke(app, list(words), input=stdin, obj=shop, color=True)

    return run


def test_a_plan_is_drawn_while_it_runs_and_stays_at_its_end(terminal, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    result = terminal("run", str(tmp_path / "plan.json"), "--input", '{"cents": 5}')
    assert result.exit_code == 0
    assert HIDE_CURSOR in result.stdout
    last = result.stdout[result.stdout.rindex("task ") :]
    assert "2/2 steps" in last
    assert "carriers.ship" in last


def test_json_is_never_drawn(terminal):
    shown = terminal("call", "ledger.deposit", "account=ann", "cents=5", "--json").stdout
    assert "\x1b" not in shown
    assert json.loads(shown)["output"] == {"cents": 5}


@pytest.mark.parametrize(("answer", "code", "decision"), [("y\n", 0, "approved"), ("n\n", 4, "pending")])
def test_a_person_is_shown_the_input_and_asked(terminal, answer, code, decision):
    terminal("call", "ledger.deposit", "account=ann", "cents=500")
    terminal("call", "ledger.withdraw", "account=ann", "cents=200")
    asked = json.loads(terminal("approvals", "list", "--json").stdout)[0]["id"]
    result = terminal("approvals", "approve", asked, stdin=answer)
    assert result.exit_code == code
    assert '{"account":"ann","cents":200}' in result.output
    assert json.loads(terminal("approvals", "list", "--all", "--json").stdout)[0]["decision"] == decision
