"""The log of a process: what went wrong, where an operator looks, in bounded room."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse.agents.reporter import Reporter
from hanse.contracts import AgentId
from hanse.runtime import log_file

LOGGER = logging.getLogger("hanse")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = [*LOGGER.handlers]
    yield
    for handler in [each for each in LOGGER.handlers if each not in before]:
        LOGGER.removeHandler(handler)
        handler.close()


def _fails() -> None:
    raise ValueError("no such printer")


def test_what_an_agent_did_not_mean_is_there_with_its_place(tmp_path: Path) -> None:
    log_file.keep_log(tmp_path, "front")
    assert not list((tmp_path / "log").iterdir()), "nothing has gone wrong yet"
    try:
        _fails()
    except ValueError as error:
        Reporter(AgentId("printer"), ["hush"]).bug(error, "a handler")
    said = (tmp_path / "log" / "front.log").read_text()
    assert "ERROR printer: a handler failed" in said
    assert "in _fails" in said
    assert "ValueError: no such printer" in said


def test_it_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 2000)
    log_file.keep_log(tmp_path, "front")
    for number in range(200):
        LOGGER.error("number %d", number)
    files = sorted((tmp_path / "log").iterdir())
    assert [each.name for each in files] == ["front.log", "front.log.1"]
    assert sum(each.stat().st_size for each in files) <= 4000
    assert "number 199" in files[0].read_text()


def test_a_folder_that_cannot_be_written_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    log_file.keep_log(tmp_path, "front")
    LOGGER.error("nobody hears this")
    log_file.keep_log(tmp_path / "data", "front")
    (tmp_path / "data" / "log").rmdir()
    LOGGER.error("nor this")
