"""`hanse doctor`: measures, judges and advises, and leaves nothing behind."""

import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from hanse.runtime.address import Address
from hanse.runtime.cli import doctor
from hanse.runtime.cli.app import app
from hanse.runtime.cli.doctor import FAIL, OK, WARN

CHECKS = {
    *("python", "ray", "sqlite (apsw)", "configuration", "disk", "free space", "clock", "open files"),
    *("haproxy", "RAY_AUTH_MODE", "federation", "port of the gateway"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examined(*arguments: str):
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    return result, {check["name"]: check for check in json.loads(result.stdout)}


def test_everything_is_looked_at_and_nothing_is_left_behind(folder):
    result, checks = examined()
    assert set(checks) == CHECKS
    assert result.stderr == ""
    assert list(folder.iterdir()) == []


def test_the_table_says_what_to_do(folder, monkeypatch):
    monkeypatch.setattr(doctor, "FSYNCS", 1)
    monkeypatch.setattr(doctor, "SLOW_FSYNC_MS", -1.0)
    shown = CliRunner().invoke(app, ["doctor"]).stdout
    assert "Every step waits for the disk" in shown


def test_a_broken_configuration_fails_and_the_rest_is_still_looked_at(folder):
    (folder / "hanse.yaml").write_text("version: 1\nagnets: []\n")
    result, checks = examined()
    assert result.exit_code == 1
    assert checks["configuration"]["verdict"] == FAIL
    assert "hanse.yaml:2: unknown key 'agnets'. Did you mean 'agents'?" in checks["configuration"]["found"]
    assert set(checks) == CHECKS


def test_no_configuration_is_no_failure(folder):
    assert examined()[1]["configuration"]["verdict"] == OK


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("3.6.9", OK), ("3.7.0", FAIL), ("3.40.1", FAIL), ("3.51.2", FAIL), ("3.51.3", OK), ("3.54.1", OK)],
)
def test_sqlite_versions_that_can_corrupt_a_wal_fail(version, verdict):
    assert doctor.sqlite(version).verdict == verdict


def test_a_taken_port_is_a_warning_unless_the_federation_took_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        here, ours = (next(doctor.ports({"gateway": port}, "127.0.0.1", ours=ours)) for ours in (False, True))
    assert (here.verdict, ours.verdict) == (WARN, OK)
    assert next(doctor.ports({"gateway": port}, "127.0.0.1", ours=False)).found == f"{port}: free"
    assert next(doctor.ports({"gateway": 0}, "127.0.0.1", ours=False)).verdict == OK


def test_a_clock_behind_the_data_is_a_warning(tmp_path):
    (tmp_path / "journal").touch()
    assert doctor.clock(tmp_path).verdict == OK
    os.utime(tmp_path / "journal", (time.time() + 3600, time.time() + 3600))
    assert doctor.clock(tmp_path).verdict == WARN


def test_a_disk_that_cannot_be_written_fails(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert doctor.disk(tmp_path / "not" / "yet").verdict == FAIL


def test_an_open_cluster_is_a_warning(monkeypatch):
    for mode, verdict in ((None, OK), ("token", OK), ("disabled", WARN)):
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        if mode:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        assert doctor.ray_authentication().verdict == verdict


def test_the_proxy_that_is_used_is_the_one_that_is_judged(monkeypatch, tmp_path):
    """It comes with Ray. Without any, Serve is its own proxy: slow, and no failure."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", "/nowhere/haproxy")  # what Hanse sets for itself
    assert doctor.haproxy().verdict == OK
    monkeypatch.setenv("PATH", str(tmp_path))
    (broken := tmp_path / "bundled").touch(mode=0o600)
    monkeypatch.setattr(doctor, "_bundled_haproxy", lambda: str(broken))
    assert (doctor.haproxy().verdict, doctor.haproxy().found) == (WARN, f"{broken} cannot be run")
    monkeypatch.setattr(doctor, "_bundled_haproxy", lambda: None)
    assert (doctor.haproxy().verdict, doctor.haproxy().found) == (WARN, "not found")


@pytest.mark.parametrize(("free", "verdict"), [(2 << 30, OK), (100 << 20, WARN), (1 << 20, FAIL)])
def test_a_full_disk_fails(tmp_path, monkeypatch, free, verdict):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor.space(tmp_path).verdict == verdict


def test_a_run_file_that_is_none_is_found(folder):
    (folder / "var" / "run").mkdir(parents=True)
    (folder / "var" / "run" / "federation.json").write_text("{")
    check = examined()[1]["federation"]
    assert (check["verdict"], check["advice"]) == (WARN, "hanse down removes it")


def test_the_database_of_the_stores_is_looked_at(folder, server):
    (folder / "hanse.yaml").write_text(f'version: 1\nstore: {{url: "{server.url}"}}\n')
    _, checks = examined()
    assert checks["database"]["verdict"] == OK
    assert checks["database"]["found"].startswith("PostgreSQL 1")


def test_more_stores_than_a_server_has_connections_for_fail(server):
    assert doctor.database(Address(server.url, "shop"), 50).verdict == OK
    check = doctor.database(Address(server.url, "shop"), 51)
    assert (check.verdict, check.advice) == (FAIL, "51 stores take 102 connections: raise max_connections")


def test_readers_of_the_memory_take_connections_too(server):
    assert doctor.database(Address(server.url, "shop"), 48, 4).verdict == OK
    check = doctor.database(Address(server.url, "shop"), 48, 5)
    assert (check.verdict, check.advice) == (
        FAIL,
        "48 stores and 5 readers take 101 connections: raise max_connections",
    )


def test_more_readers_of_the_memory_than_cores_are_a_warning(folder):
    (folder / "hanse.yaml").write_text("version: 1\nmemory: {shards: 2, readers: 32}\n")
    _, checks = examined()
    assert (checks["memory readers"]["verdict"], "memory.readers" in checks["memory readers"]["advice"]) == (WARN, True)
    assert doctor.memory_readers(1, 2).verdict == OK


def test_a_database_that_nobody_serves_fails_and_its_password_stays_secret(folder):
    (folder / "hanse.yaml").write_text('version: 1\nstore: {url: "postgresql://hanse:secret@127.0.0.1:1/hanse"}\n')
    result, checks = examined()
    assert (checks["database"]["verdict"], result.exit_code) == (FAIL, 1)
    assert "secret" not in result.output
