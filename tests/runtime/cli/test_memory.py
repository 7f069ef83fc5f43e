"""`hanse memory` over the real service on disk, opened anew for each command as a command line would find it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hanse.contracts.memory import Certificate
from hanse.memory.certificates import problems_of
from hanse.runtime.cli.app import app
from hanse.runtime.world import SystemClock

from ...support.memory import MemoryClient, clean_memory

TEA = "Ann Lee prefers green tea in the office."


class Shell:
    """Runs `hanse memory …` as a person of one tenant."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def reach(self, options: Any) -> AsyncIterator[MemoryClient]:
        async with clean_memory(self._path, SystemClock()) as service:
            yield MemoryClient(service, "shop", "ann")

    def __call__(self, *words: str, code: int = 0, stdin: str | None = None):
        environment = {"HANSE_URL": "", "HANSE_TOKEN": ""}
        result = CliRunner(env=environment).invoke(app, ["memory", *words], input=stdin, obj=self.reach)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return result

    def data(self, *words: str, code: int = 0) -> Any:
        """What a command says with --json: one document, and nothing beside it."""
        return json.loads(self(*words, "--json", code=code).stdout)


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path / "memory.db")


@pytest.fixture
def id(shell) -> str:
    return shell.data("remember", TEA, "--subject", "ann lee")["record"]["id"]


def test_what_is_remembered_is_found(shell, id):
    assert TEA in shell("search", "green", "tea").stdout
    found = shell.data("search", "green", "tea", "--subject", "ann lee")
    assert [hit["record"]["id"] for hit in found["hits"]] == [id]
    assert shell("search", "tea", "--subject", "nobody").stdout == "Nothing is remembered of that.\n"


def test_remembering_says_what_became_of_it(shell, id):
    assert shell("remember", TEA.upper(), "--subject", "ann lee").stdout.startswith(f"merged {id}: ")
    assert shell("remember", "Thanks a lot!").stdout.startswith("quarantined ")
    assert shell("remember", "-", stdin="Depot nine closes in March.").stdout.startswith("stored ")


def test_a_fact_is_written_as_one(shell):
    first = shell.data("remember", "Order 17 costs 5 euros.", "--fact", "order 17.cents=500")
    assert first["record"]["fact"] == {"entity": "order 17", "attribute": "cents", "value": 500}
    second = shell("remember", "Order 17 costs 6 euros.", "--fact", "order 17.cents=600")
    assert f"contradicts {first['record']['id']}" in second.stdout
    assert "no fact" in shell("remember", "x y z", "--fact", "order 17", code=2).stderr


def test_a_record_is_shown_revised_and_has_a_history(shell, id):
    assert "ann lee" in shell("show", id).stdout
    assert shell("revise", id, "--text", "Ann Lee prefers coffee.").stdout == f"{id} is at version 2\n"
    assert "prefers green tea" in shell("history", id).stdout
    assert [each["version"] for each in shell.data("history", id)] == [1, 2]
    assert shell.data("revise", id, "--text", "x", "--version", "1", code=1)["error"]["code"] == "conflict"
    shell("revise", id, code=2)


def test_what_does_not_exist_ends_with_1(shell):
    assert "there is no such record [not_found" in shell("show", "nothing", code=1).stderr


def test_pins_go_in_and_out(shell, id):
    assert shell("pin", id).stdout == f"{id} is pinned\n"
    assert shell.data("show", id)["pinned"] is True
    assert shell("pin", id, "--off").stdout == f"{id} is not pinned\n"


def test_forgetting_asks_first_and_then_leaves_nothing(shell, id):
    assert "nobody is here to confirm" in shell("forget", id, code=2).stderr
    assert shell.data("show", id)["id"] == id
    certificate = Certificate.model_validate(shell.data("forget", id, "--yes"))
    assert certificate.records == [id]
    shell("show", id, code=1)


def test_a_subject_is_told_and_erased_with_a_certificate(shell, id, tmp_path):
    assert json.loads(shell("access", "ann lee").stdout)["records"][0]["id"] == id
    assert "1 records about ann lee" in shell("erase", "ann lee", code=2).stderr
    file = tmp_path / "certificate.json"
    assert (
        "1 records about ann lee and 0 derived ones"
        in shell("erase", "ann lee", "--yes", "--certificate", str(file)).stdout
    )
    assert problems_of(Certificate.model_validate_json(file.read_bytes()), None) == []
    assert shell.data("access", "ann lee")["records"] == []


def test_a_pattern_is_masked(shell):
    id = shell.data("remember", "Locker W1234567 is in the hall.")["record"]["id"]
    shell("redact", r"W\d{7}", "--yes")
    assert shell.data("show", id)["text"] == "Locker [pattern] is in the hall."
    assert "RE2" in shell("redact", "(", "--yes", code=2).stderr
    shell("redact", "--yes", code=2)


def test_the_audit_scores_and_draws(shell, id, tmp_path):
    pytest.importorskip("matplotlib")
    shown = shell("audit", "--plot", str(tmp_path / "audit.svg")).stdout
    assert shown.startswith("score 100 of 100\n")
    assert "duplicates" in shown
    assert b"<svg" in (tmp_path / "audit.svg").read_bytes()
    assert shell.data("audit")["score"] == 100


def test_an_export_is_json_lines(shell, id, tmp_path):
    shell("remember", "Depot nine closes in March.")
    lines = shell("export").stdout.splitlines()
    assert {json.loads(line)["text"] for line in lines} == {TEA, "Depot nine closes in March."}
    assert shell("export", str(tmp_path / "all.jsonl")).stderr == f"2 records in {tmp_path / 'all.jsonl'}\n"
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2


def test_text_from_others_cannot_play_with_the_terminal(shell):
    id = shell.data("remember", "Depot \x1b[31mnine\x07 closes in March.")["record"]["id"]
    for command in (["show", id], ["search", "depot"], ["history", id]):
        shown = shell(*command).stdout
        assert "\x1b" not in shown
        assert "\x07" not in shown
