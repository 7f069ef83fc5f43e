"""G16: every journal that any release has written is replayed to the same state hash."""

from pathlib import Path

import pytest

from hanse.contracts.events import FORMAT
from hanse.contracts.wire import decode_event, encode_event

from ..support.recording import FOLDER, Recorded, read, recorded, replays, write

FILES = sorted(FOLDER.glob("*.xz"))
MOST_BYTES = 2_000_000


def test_there_are_journals_of_each_format_and_not_too_many_bytes_of_them():
    journals = [journal for file in FILES for journal in read(file)]
    assert len(journals) >= 200
    formats = {
        decode_event(entry).data.get("format", 1)
        for journal in journals
        for entry in journal.entries
        if decode_event(entry).kind == "task.submitted"
    }
    assert formats == set(range(1, FORMAT + 1))
    assert sum(file.stat().st_size for file in FILES) < MOST_BYTES
    listed = (FOLDER / "README.md").read_text()
    assert all(f"`{file.name}`" in listed for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_task_is_replayed_to_the_same_state(file: Path):
    for journal in read(file):
        found = replays(journal.entries)
        for task, replay in found.items():
            assert replay.divergence is None, (journal.name, task, replay.divergence)
        assert {task: replay.state for task, replay in found.items()} == journal.states, journal.name


def test_what_is_written_is_read_again_and_a_journal_that_diverges_is_not_recorded(tmp_path: Path):
    journal = read(FILES[0])[0]
    write(tmp_path / "again.xz", [journal])
    assert read(tmp_path / "again.xz") == [journal]
    events = [decode_event(entry) for entry in journal.entries]
    award = next(event for event in events if event.kind == "step.awarded")
    award.data["agent"] = "nobody"  # type: ignore[index]
    with pytest.raises(AssertionError, match="nobody"):
        recorded(journal.name, [encode_event(event) for event in events])
    assert isinstance(journal, Recorded)
