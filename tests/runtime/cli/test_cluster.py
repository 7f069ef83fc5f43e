"""The command line against the real thing: Ray, processes, the gateway, a mail server, and a kill."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanse.runtime import runfile

from ...support.ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

DOWN = ("down", "--timeout-seconds", "120")
"""With more patience than anybody at a keyboard has: how long it takes is not what is asked here."""


class Shell:
    """Runs `hanse` as a user would, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "PORT": "0",
            "HANSE_PORT": str(free_port()),
            "HANSE_MAIL_PORT": str(free_port()),
        }
        for name in ("HANSE_URL", "HANSE_TOKEN", "RAY_ADDRESS"):
            self._environment.pop(name, None)

    def __call__(self, *words: str, code: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "hanse.runtime.cli", *words],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert ended.returncode == code, f"{ended.stdout}\n{ended.stderr}\n{self._log()}"
        return ended.stdout

    def data(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))

    def _log(self) -> str:
        return "\n".join(path.read_text()[-4000:] for path in self.folder.glob("var/**/log/federation.log"))


@pytest.fixture
def shell(tmp_path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made(*DOWN, "--force")


def test_a_new_project_runs_keeps_its_state_and_goes_down(shell, tmp_path):
    shell("new", "corner-shop")
    shell.folder = tmp_path / "corner-shop"
    run = shell.data("up")
    assert runfile.read(shell.folder / "var") == runfile.RunFile.model_validate(run)
    assert shell("call", "ledger.deposit", "account=ann", "cents=500") == '{"cents":500}\n'
    assert "task.completed" in shell("run", "transfer.json", "--input", '{"cents": 200}')
    assert "has only 300 cents" in shell("tasks", "list", "--json") + shell(
        "call", "ledger.withdraw", "account=ann", "cents=2000", "--json", code=4
    )
    task = shell.data("call", "ledger.withdraw", "account=ann", "cents=20000", code=5)
    assert "runs already" in json.dumps(shell.data("up", code=1))

    shell(*DOWN)
    shell("status", code=3)
    shell("up")

    assert shell("call", "ledger.balance", "account=ann") == '{"cents":300}\n'
    asked = shell.data("approvals", "list")
    assert [each["task"] for each in asked] == [task["id"]]
    shell("approvals", "deny", asked[0]["id"])
    assert "approval_denied" in shell("tasks", "watch", task["id"], code=4)
    assert shell.data("audit", "verify")["ok"]


def test_the_store_serves_its_74_customers_with_an_agent_killed_on_the_way(shell):
    ran = shell.data("run", "retail")
    report = ran["report"]
    assert report["tasks"] == {"completed": 74}
    assert report["recoveries"] >= 1
    assert report["effects"] > 100
    assert (report["effects_doubled"], ran["letters_twice"]) == (0, 0)
    assert report["contested"] > 0
    assert report["approvals"]["asked"] == report["approvals"]["approved"] + report["approvals"]["denied"]
    assert report["refusals"]["orders.not_pending"] > 0
    assert ran["audit"]["ok"]

    assert shell.data("status")["tasks"] == {"completed": 74}
    shell(*DOWN)
    shell("status", code=3)
