"""A data folder as a place: stores are opened, read and listed by name, and only the place knows the files."""

from contextlib import closing
from pathlib import Path

import pytest

from hanse.contracts import Corrupt, Fenced, StorageError, Write
from hanse.runtime.store.place import Folder, in_memory_store, place_of

NAMES = ["agents/till", "coordinator-0", "models"]


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    """Three stores, made in another order than that of their names."""
    made = Folder(tmp_path / "var")
    for name in reversed(NAMES):
        await made.open(name, "agent" if "/" in name else "journal").close()
    return made


def test_a_data_folder_is_a_place_for_files(tmp_path: Path):
    place = place_of(tmp_path)
    assert isinstance(place, Folder)
    assert place.data == tmp_path


async def test_a_store_that_is_opened_is_made_with_its_folder_and_found_by_its_name(folder: Folder):
    assert folder.names() == NAMES
    assert folder.where("agents/till") == str(folder.data / "agents" / "till.sqlite")
    assert Path(folder.where("agents/till")).is_file()


async def test_what_one_writer_commits_the_next_one_and_a_reader_find(folder: Folder):
    store = folder.open("coordinator-0", "journal")
    await store.commit([Write("insert_task", ("t", "default", None, "b", "submitted", 1, 1))])
    with closing(folder.reader("coordinator-0", "journal")) as reader:
        assert reader.read("task", ("t",)) == store.read("task", ("t",))
        assert (reader.has("task"), reader.has("receipt"), reader.problems()) == (True, False, [])
    await store.close()
    again = folder.open("coordinator-0", "journal")
    assert (again.epoch, len(again.read("task", ("t",)))) == (store.epoch + 1, 1)
    await again.close()


async def test_who_opens_a_store_fences_off_its_writer_and_who_reads_it_does_not(folder: Folder):
    store = folder.open("models", "journal")
    folder.reader("models", "journal").close()
    await store.commit([Write("insert_task", ("t", "default", None, "b", "submitted", 1, 1))])
    await folder.open("models", "journal").close()
    with pytest.raises(Fenced):
        await store.commit([Write("update_task", ("completed", 2, "t"))])
    await store.close()


async def test_what_is_deleted_from_a_store_that_is_opened_for_it_is_in_no_file_any_more(folder: Folder):
    store = folder.open("memory", "journal", secure_delete=True)
    await store.commit([Write("insert_task", ("a secret", "default", None, "b", "submitted", 1, 1))])
    await store.commit([Write("forget_task", ("a secret",))])
    await store.scrub()
    held = [path.read_bytes() for path in folder.data.glob("memory*")]
    await store.close()
    assert held
    assert not any(b"a secret" in each for each in held)


def test_what_is_no_store_has_no_name(tmp_path: Path):
    (tmp_path / "agents.sqlite").mkdir()
    (tmp_path / "coordinator-0.sqlite-wal").touch()
    (tmp_path / "statistics.duckdb").touch()
    assert Folder(tmp_path).names() == []
    assert Folder(tmp_path / "nowhere").names() == []


def test_a_file_that_is_no_database_has_a_name_and_cannot_be_read(tmp_path: Path):
    (tmp_path / "models.sqlite").write_bytes(b"no database" * 1000)
    assert Folder(tmp_path).names() == ["models"]
    with pytest.raises(Corrupt):
        Folder(tmp_path).reader("models", "journal")


def test_a_store_that_is_missing_cannot_be_read_and_is_not_made(tmp_path: Path):
    with pytest.raises(StorageError, match="there is no such store") as raised:
        Folder(tmp_path).reader("agents/till", "agent")
    assert raised.value.ids["path"] == str(tmp_path / "agents" / "till.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_folder_may_not_be_looked_into_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        Folder(tmp_path).reader("agents/till", "agent")


async def test_a_store_in_memory_is_in_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    store = in_memory_store("journal")
    await store.commit([Write("insert_task", ("t", "default", None, "b", "submitted", 1, 1))])
    await store.close()
    assert list(tmp_path.iterdir()) == []
