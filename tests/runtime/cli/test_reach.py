"""How a command finds the federation that it is about."""

import subprocess
import sys

import pytest

from hanse.contracts import InvalidConfiguration, Unavailable
from hanse.runtime import runfile
from hanse.runtime.cli.reach import Address, Options, find, running

from ..test_runfile import made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_given_url_is_taken_as_it_is(folder):
    assert find(Options(url="http://x:1/", token="t")) == Address("http://x:1", "t")


def test_nothing_running_says_how_to_start(folder):
    with pytest.raises(Unavailable, match=r"no federation runs here. Start one with hanse up, or say where"):
        find(Options())


def test_the_configured_data_folder_has_the_run_file(folder):
    (folder / "hanse.yaml").write_text("version: 1\nfederation: {data: ./state}\n")
    runfile.write(folder / "state", made(url="http://127.0.0.1:8000", token_file=str(runfile.keep_token(folder, "t"))))
    (folder / "below").mkdir()
    assert find(Options()) == Address("http://127.0.0.1:8000", "t")
    assert find(Options(token="other")).token == "other"


@pytest.mark.parametrize("place", ["var", "var/retail"])
def test_without_a_configuration_it_is_looked_for_in_var(folder, place):
    runfile.write(folder / place, made(url="http://127.0.0.1:8000"))
    assert running(Options())[0] == folder / place


def test_the_data_option_says_which(folder):
    for place in ("var/a", "var/b"):
        runfile.write(folder / place, made(url=f"http://{place[-1]}"))
    with pytest.raises(Unavailable, match=r"several federations run here: .*Say which one with --data"):
        find(Options())
    assert find(Options(data=folder / "var" / "b")).url == "http://b"
    with pytest.raises(Unavailable, match=f"no federation runs over {folder / 'var' / 'c'}"):
        find(Options(data=folder / "var" / "c"))


def test_a_process_that_is_gone_is_told_from_none(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    runfile.write(folder / "var", made(pid=gone.pid, pid_started=0))
    with pytest.raises(Unavailable, match=rf"is gone: its process {gone.pid} ended. Start it again: hanse up"):
        find(Options())


def test_the_living_one_is_taken_where_others_are_gone(folder):
    runfile.write(folder / "var" / "a", made(pid_started=1))
    runfile.write(folder / "var" / "b", made(url="http://b"))
    assert find(Options()).url == "http://b"


def test_one_without_a_gateway_says_so(folder):
    runfile.write(folder / "var", made(url=None))
    with pytest.raises(Unavailable, match="has no gateway"):
        find(Options())


def test_a_broken_configuration_is_not_passed_over(folder):
    (folder / "hanse.yaml").write_text("version: 1\nagnets: []\n")
    with pytest.raises(InvalidConfiguration, match="Did you mean 'agents'"):
        find(Options())
