"""`hanse audit verify` where no federation answers: the files are read, and what was kept elsewhere is compared."""

import json
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

from hanse.runtime.cli.app import app
from hanse.runtime.cli.reach import Options

from .shop import Shop


def verify(*words: str, code: int = 0):
    ran = CliRunner().invoke(app, ["audit", "verify", *words])
    assert ran.exit_code == code, ran.output
    return ran


@pytest.fixture
async def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a federation left behind."""
    monkeypatch.chdir(tmp_path)
    async with Shop(tmp_path / "var")(Options()) as client:
        await client.status()
    return str(tmp_path / "var")


def test_it_reads_the_folder_that_it_is_told(data: str):
    shown = verify("--data", data).stdout
    assert shown.startswith("coordinator-0: ")
    assert "unbroken, head coordinator-0:" in shown
    report = json.loads(verify("--data", data, "--json").stdout)
    assert report["ok"]
    assert report["entries"] == report["journals"][0]["entries"] > 0


def test_it_finds_the_folder_by_itself(data: str):
    assert json.loads(verify("--json").stdout)["data"] == data


def test_a_broken_one_ends_with_1_and_names_the_place(data: str):
    change(data, "UPDATE journal SET entry = x'00' WHERE sequence = 2")
    ran = verify("--data", data, code=1)
    assert "BROKEN" in ran.stdout
    assert "coordinator-0: entry 2 was changed" in ran.stderr


def test_a_head_that_was_kept_is_compared(data: str):
    head = json.loads(verify("--json").stdout)["head"]
    verify("--expect-head", head)
    verify("--expect-head", head.removeprefix("coordinator-0:"))
    change(data, "DELETE FROM journal WHERE sequence = (SELECT max(sequence) FROM journal)")
    assert "the journal ends at entry" in verify("--expect-head", head, code=1).stderr


def test_what_cannot_be_meant_ends_with_2(data: str):
    assert "SEQUENCE:HASH" in verify("--expect-head", "7", code=2).stderr
    assert "Leave one of them out" in verify("--expect-head", "7", "--url", "http://127.0.0.1:1", code=2).stderr


def test_without_a_journal_anywhere_it_says_that_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "no federation runs here" in verify(code=3).stderr
    assert "there is no journal" in verify("--data", str(tmp_path), code=1).stderr


def change(data: str, sql: str) -> None:
    connection = apsw.Connection(f"{data}/coordinator-0.sqlite")
    connection.execute(sql)
    connection.close()
