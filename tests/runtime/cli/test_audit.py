"""`hanse audit verify` where no federation answers: the files are read, and what was kept elsewhere is compared."""

import json
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

from hanse.runtime.cli.app import app
from hanse.runtime.cli.reach import Options
from hanse.runtime.data_lock import DataLock

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


def run(*words: str, code: int = 0):
    ran = CliRunner().invoke(app, ["audit", *words])
    assert ran.exit_code == code, ran.output
    return ran


def test_the_heads_beside_the_data_folder_are_compared(data: str, tmp_path: Path):
    assert "anchored up to entry" in verify("--data", data).stdout
    change(data, "DELETE FROM journal WHERE sequence = (SELECT max(sequence) FROM journal)")
    assert "the journal ends at entry" in verify("--data", data, code=1).stderr
    heads = tmp_path / "elsewhere"
    (tmp_path / "var.heads").rename(heads)
    verify("--data", data)
    assert "the journal ends at entry" in verify("--data", data, "--anchors", str(heads), code=1).stderr
    assert "Leave one of them out" in verify("--anchors", str(heads), "--url", "http://127.0.0.1:1", code=2).stderr


def test_a_journal_whose_file_is_gone_is_missed(data: str, tmp_path: Path):
    (tmp_path / "var" / "coordinator-0.sqlite").rename(tmp_path / "var" / "coordinator-1.sqlite")
    assert "coordinator-0: it is missing" in verify("--data", data, code=1).stderr


def test_a_proof_is_made_and_checked_with_the_key_alone(data: str, tmp_path: Path):
    key = run("key", "--data", data).stdout.strip()
    proof, heads = tmp_path / "proof.json", str(tmp_path / "var.heads")
    run("prove", "2", "--data", data, "--since", "1", "--out", str(proof))
    assert "entry 2 of coordinator-0 is agent.joined" in run("check", str(proof), "--key", key).stdout
    assert json.loads(run("check", str(proof), "--key", key, "--anchors", heads, "--json").stdout)["ok"]
    assert "whose key it is was not checked" in run("check", str(proof)).stderr
    assert "is signed by" in run("check", str(proof), "--key", "00" * 32, code=1).stderr
    proof.write_text(proof.read_text().replace('"sequence":2', '"sequence":3'))
    assert "the path does not lead" in run("check", str(proof), "--key", key, code=1).stderr
    assert "has no entry 99" in run("prove", "99", "--data", data, code=1).stderr
    assert "no public key" in run("check", str(proof), "--key", "abc", code=2).stderr
    assert "cannot be read" in run("check", str(tmp_path / "away"), code=2).stderr


def test_compaction_says_what_it_would_do_and_does_it(data: str):
    assert "say what goes" in run("compact", "--data", data, code=2).stderr
    assert "is no date" in run("compact", "--before", "x", "--data", data, code=2).stderr
    assert "less than a day" in run("compact", "--before", "2099-01-01", "--data", data, code=2).stderr
    would = run("compact", "--keep-days", "1", "--dry-run", "--data", data).stdout
    assert would == "coordinator-0: 0 entries (0 bytes) of 0 tasks would go\n"
    change(data, "INSERT INTO task VALUES ('t', 'default', 'k', '', 'completed', 1, 1)")
    report = json.loads(run("compact", "--before", "2026-01-01", "--data", data, "--json").stdout)
    assert [each["task"] for each in report["journals"][0]["tasks"]] == ["t"]
    verify("--data", data)


def test_compaction_keeps_off_a_running_federation(data: str, tmp_path: Path):
    lock = DataLock(tmp_path / "var")
    assert "hanse down" in run("compact", "--keep-days", "1", "--data", data, code=1).stderr
    lock.release()


def test_without_a_key_in_the_folder_nothing_is_signed(data: str, tmp_path: Path):
    (tmp_path / "var" / "secret.key").unlink()
    assert "no secret.key" in run("key", "--data", data, code=1).stderr
    assert "no secret.key" in run("prove", "1", "--data", data, code=1).stderr
    assert "no secret.key" in run("bundle", "t", "--data", data, code=1).stderr
