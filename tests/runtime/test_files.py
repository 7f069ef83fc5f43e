"""Files that are there whole or not at all, and the secret key, which is one."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hanse.contracts import Corrupt
from hanse.runtime import files
from hanse.runtime.placement import place
from hanse.runtime.secret_key import BYTES, FILE, root_key


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the disk, in order."""
    seen: list[str] = []

    def noted(name: str, call):
        def noting(*given):
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(given[0]).st_mode)
            seen.append("fsync of the folder" if folder else name)
            return call(*given)

        return noting

    for name in ("fsync", "replace", "link"):
        monkeypatch.setattr(files.os, name, noted(name, getattr(os, name)))
    return seen


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_it_returns(tmp_path: Path, steps: list[str]) -> None:
    files.write_whole(tmp_path / "a" / "b.json", b"{}", 0o600)
    assert steps == ["fsync", "replace", "fsync of the folder"]
    assert (tmp_path / "a" / "b.json").read_bytes() == b"{}"
    assert stat.S_IMODE((tmp_path / "a" / "b.json").stat().st_mode) == 0o600


def test_where_agents_live_is_on_disk_when_it_is_decided(tmp_path: Path, steps: list[str]) -> None:
    place(["a"], ["10.0.0.1"], "10.0.0.1", (), tmp_path / "placement.json")
    assert steps == ["fsync", "replace", "fsync of the folder"]


def test_a_disk_that_refuses_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path, monkeypatch) -> None:
    files.write_whole(tmp_path / "a.json", b"old", 0o644)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        files.write_whole(tmp_path / "a.json", b"new", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


def test_of_many_that_make_the_key_one_is_the_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: root_key(tmp_path / "data"), range(64)))
    assert len(keys) == 1
    assert len(keys.pop()) == BYTES
    assert stat.S_IMODE((tmp_path / "data" / FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FILE]


def test_a_crash_before_the_key_is_on_disk_leaves_none(tmp_path: Path, monkeypatch) -> None:
    """It used to leave an empty file, with which everything was signed from then on."""
    with monkeypatch.context() as broken:
        broken.setattr(files.os, "link", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            root_key(tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(root_key(tmp_path)) == BYTES


@pytest.mark.parametrize("left", [b"", b"short"])
def test_nothing_is_signed_with_a_key_that_is_too_short(tmp_path: Path, left: bytes) -> None:
    (tmp_path / FILE).write_bytes(left)
    with pytest.raises(Corrupt, match=f"secret.key has {len(left)} bytes, and a key has 32"):
        root_key(tmp_path)
    assert (tmp_path / FILE).read_bytes() == left
