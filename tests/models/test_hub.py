"""Models of the hub stay at one commit, over the hub's own client and a local cache as it lays one out."""

import json
import os
import stat
from pathlib import Path

import pytest

from hanse.contracts import Digest, ModelUnavailable
from hanse.models.hub import LOCK
from hanse.models.source import Sources

from .test_source import model, remedy

FIRST, SECOND = "1" * 40, "2" * 40
ID = "somebody/some-model"


class Cache:
    """The hub's local cache with one model in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "models--somebody--some-model"

    def commit(self, commit: str, *, main: bool = True, **config: object) -> Path:
        """Puts a snapshot there, and the branch on it."""
        (self.folder / "refs").mkdir(parents=True, exist_ok=True)
        if main:
            (self.folder / "refs" / "main").write_text(commit)
        return model(self.folder / "snapshots" / commit, **config)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Cache(tmp_path / "hub")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path, tmp_path / "models")


def locked(tmp_path: Path) -> dict[str, dict[str, str]]:
    return json.loads((tmp_path / "models" / LOCK).read_text())


def test_what_was_found_first_is_what_it_is_from_then_on(cache: Cache, sources: Sources, tmp_path: Path) -> None:
    cache.commit(FIRST)
    found = sources.locate(ID)
    assert found.folder.name == FIRST
    assert locked(tmp_path) == {ID: {"commit": FIRST, "digest": found.digest}}
    cache.commit(SECOND, vocab_size=8)
    assert sources.locate(ID) == found, "the branch has moved, and this has not"
    assert locked(tmp_path)[ID]["commit"] == FIRST


def test_a_commit_can_be_named(cache: Cache, sources: Sources, tmp_path: Path) -> None:
    cache.commit(FIRST)
    cache.commit(SECOND, vocab_size=8)
    first, second = sources.locate(f"{ID}@{FIRST}"), sources.locate(f"{ID}@{SECOND}")
    assert (first.folder.name, second.folder.name) == (FIRST, SECOND)
    assert first.digest != second.digest
    assert locked(tmp_path).keys() == {f"{ID}@{FIRST}", f"{ID}@{SECOND}"}


@pytest.mark.parametrize("revision", ["main", "v1.0", FIRST[:12], ""])
def test_what_can_change_is_no_commit(cache: Cache, sources: Sources, revision: str) -> None:
    cache.commit(FIRST)
    with pytest.raises(ModelUnavailable, match=f"{revision!r} is no commit") as error:
        sources.locate(f"{ID}@{revision}")
    assert "40 hex digits" in remedy(error)


def test_content_that_changed_at_the_same_commit_is_refused(cache: Cache, sources: Sources, tmp_path: Path) -> None:
    folder = cache.commit(FIRST)
    before = sources.locate(ID).digest
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 9}))
    with pytest.raises(ModelUnavailable, match=f"is not what it was.*had {before}") as error:
        sources.locate(ID)
    assert f"hf download {ID} --revision {FIRST} --force-download" in remedy(error)
    assert str(tmp_path / "models" / LOCK) in remedy(error)


def test_a_locked_commit_that_is_gone_is_asked_for_and_no_other_taken(cache: Cache, sources: Sources) -> None:
    cache.commit(FIRST)
    sources.locate(ID)
    (cache.folder / "snapshots" / FIRST).rename(cache.folder / "snapshots" / SECOND)
    (cache.folder / "refs" / "main").write_text(SECOND)
    with pytest.raises(ModelUnavailable, match=f"not in the local cache of the hub at commit {FIRST}") as error:
        sources.locate(ID)
    assert f"hf download {ID} --revision {FIRST}" in remedy(error)


def test_what_is_refused_for_its_pinned_digest_is_not_written_down(
    cache: Cache, sources: Sources, tmp_path: Path
) -> None:
    cache.commit(FIRST)
    with pytest.raises(ModelUnavailable, match="pinned"):
        sources.locate(ID, Digest("sha256:" + "0" * 64))
    assert not (tmp_path / "models" / LOCK).exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a/b": "x"}', '{"a/b": {"commit": "1"}}'])
def test_a_damaged_lock_is_not_taken_for_an_empty_one(
    cache: Cache, sources: Sources, tmp_path: Path, content: str
) -> None:
    cache.commit(FIRST)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / LOCK).write_text(content)
    with pytest.raises(ModelUnavailable, match="is damaged") as error:
        sources.locate(ID)
    assert remedy(error) == "Restore it, or remove it"


def test_a_folder_of_that_name_goes_before_the_hub_and_is_not_locked(
    cache: Cache, sources: Sources, tmp_path: Path
) -> None:
    cache.commit(FIRST)
    folder = model(tmp_path / ID)
    assert sources.locate(ID).folder == folder
    assert not (tmp_path / "models" / LOCK).exists()


def test_nothing_half_written_is_left(cache: Cache, sources: Sources, tmp_path: Path) -> None:
    cache.commit(FIRST)
    sources.locate(ID)
    assert not [each for each in os.listdir(tmp_path / "models") if each.startswith(".")]
    assert stat.S_ISREG((tmp_path / "models" / LOCK).stat().st_mode)
