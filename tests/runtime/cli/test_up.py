"""`hanse up` and `hanse down`: a process of its own that says how its start went, and its end."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hanse.contracts import Conflict, TimedOut
from hanse.runtime import runfile
from hanse.runtime.cli import up
from hanse.runtime.cli.app import app

from ..test_runfile import made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hanse.yaml").write_text("version: 1\nagents: [{class: 'nowhere:Nobody'}]\n")
    return tmp_path


@pytest.fixture
def process():
    """Some process that is not a federation, to be looked at and stopped."""
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield started
    started.kill()
    started.communicate()


def run(*words: str):
    return CliRunner(env={"HANSE_URL": "", "HANSE_TOKEN": ""}).invoke(app, list(words))


def test_what_keeps_it_from_starting_is_said_and_nothing_is_left(folder):
    result = run("up")
    assert result.exit_code == 2
    assert "nowhere:Nobody" in result.stderr or "there is no module 'nowhere'" in result.stderr
    assert runfile.read(folder / "var") is None


def test_a_broken_configuration_is_said_at_once(folder):
    (folder / "hanse.yaml").write_text("version: 1\nagnets: []\n")
    result = run("up")
    assert result.exit_code == 2
    assert "hanse.yaml:2: unknown key 'agnets'. Did you mean 'agents'?" in result.stderr


def test_without_a_configuration_it_says_how_to_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Start a project with: hanse new NAME" in run("up").stderr


def test_one_that_runs_is_not_started_again(folder, process):
    runfile.write(folder / "var", made(pid=process.pid, pid_started=runfile.process_started(process.pid)))
    with pytest.raises(Conflict, match=f"runs already, process {process.pid}"):
        up.start({"config": folder / "hanse.yaml"}, folder / "var")


def test_nothing_to_stop_is_no_failure(folder):
    result = run("down")
    assert result.exit_code == 0
    assert result.stdout.startswith("nothing to stop: no federation runs here")
    assert json.loads(run("down", "--json").stdout) == {"stopped": None}


def test_what_is_left_of_one_that_died_is_tidied_up(folder):
    runfile.write(folder / "var", made(pid_started=1))
    assert "tidied up" in run("down").stdout
    assert runfile.read(folder / "var") is None


def test_down_ends_the_process_and_removes_its_run_file(folder, process):
    runfile.write(folder / "var", made(pid=process.pid, pid_started=runfile.process_started(process.pid)))
    result = run("down")
    assert (result.exit_code, process.wait()) == (0, -15)
    assert "shop is down; its data stays in" in result.stdout
    assert runfile.read(folder / "var") is None


HOLDS_THE_DATA = """
import sys
from pathlib import Path
from hanse.runtime.data_lock import DataLock
lock = DataLock(Path(sys.argv[1]))
print(flush=True)
input()
"""


def test_down_ends_what_holds_the_data_also_where_the_run_file_is_broken(folder):
    words = [sys.executable, "-c", HOLDS_THE_DATA, str(folder / "var")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    runfile.path_in(folder / "var").write_text("garbage")
    assert f"process {process.pid} is down" in run("down").stdout
    assert (process.wait(), runfile.read(folder / "var")) == (-15, None)
    process.communicate()
    runfile.path_in(folder / "var").write_text("garbage")
    assert "nothing ran" in run("down").stdout
    assert runfile.read(folder / "var") is None


def test_data_that_cannot_be_written_says_what_to_do(folder):
    (folder / "var").write_text("a file")
    result = run("up")
    assert result.exit_code == 2
    assert "cannot be written: Not a directory. Give the data another folder" in result.stderr


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"


def test_one_that_does_not_end_is_ended_only_when_asked(folder):
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    run_file = made(pid=process.pid, pid_started=runfile.process_started(process.pid))
    with pytest.raises(TimedOut, match=r"still runs after 0.05 s. End it hard: hanse down --force"):
        up.stop(folder / "var", run_file, 0.05)
    up.stop(folder / "var", run_file, 0.05, force=True)
    process.communicate()
    assert process.returncode == -9


def test_the_end_of_a_process_is_waited_for_without_being_its_parent(process):
    assert not up.ended(process.pid, 0.01)
    process.communicate(b"\n")
    assert up.ended(process.pid, 1)
