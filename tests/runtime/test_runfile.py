"""The run file: whole or not at all, and not fooled by a process number used again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hanse.contracts import Corrupt
from hanse.runtime import runfile
from hanse.runtime.runfile import RunFile


def made(**changes) -> RunFile:
    return RunFile(
        **{
            "name": "shop",
            "ray_address": "127.0.0.1:6379",
            "namespace": "shop",
            "started_at": "2026-11-21T09:00:00.000Z",
            **runfile.this_process(),
            **changes,
        }
    )


def test_what_was_written_is_read(tmp_path):
    runfile.write(tmp_path, made(url="http://127.0.0.1:8000"))
    assert runfile.read(tmp_path) == made(url="http://127.0.0.1:8000")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["federation.json"]


def test_none_where_there_is_none(tmp_path):
    assert runfile.read(tmp_path) is None
    runfile.remove(tmp_path)


def test_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    runfile.write(tmp_path, made(name="old"))

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no space left"):
        runfile.write(tmp_path, made(name="new"))
    assert runfile.read(tmp_path) == made(name="old")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["federation.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}', b"\xff"])
def test_something_else_in_its_place_says_what_to_do(tmp_path, content):
    runfile.write(tmp_path, made())
    runfile.path_in(tmp_path).write_bytes(content)
    with pytest.raises(Corrupt, match=r"is not a run file. hanse down stops"):
        runfile.read(tmp_path)


def test_a_newer_writer_may_say_more(tmp_path):
    runfile.write(tmp_path, made())
    path = runfile.path_in(tmp_path)
    path.write_text(path.read_text().replace("{", '{"colour": "blue",', 1))
    assert runfile.read(tmp_path) == made()


def test_a_process_that_ended_is_not_alive():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = runfile.process_started(ended.pid)
    ended.wait()
    assert made().alive
    assert not made(pid=ended.pid, pid_started=started).alive


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say when a process began")
def test_another_process_of_the_same_number_is_not_taken_for_it():
    assert not made(pid_started=1).alive


def test_the_token_is_kept_apart_and_for_the_owner_only(tmp_path):
    path = runfile.keep_token(tmp_path)
    first = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert runfile.keep_token(tmp_path).read_text() == first
    assert runfile.keep_token(tmp_path, "given").read_text() == "given\n"
    assert made(token_file=str(path)).token == "given"
    assert "given" not in repr(made(token_file=str(path)))


def test_a_token_file_that_is_gone_gives_no_token(tmp_path):
    assert made().token is None
    assert made(token_file=str(tmp_path / "gone")).token is None
