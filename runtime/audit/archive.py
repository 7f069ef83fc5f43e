"""Archives of entries that a journal let go of: gzip files of JSON lines, one line an entry.

    {"sequence": 17, "task": "…", "entry": base64 of its bytes, "hash": hex of its hash in the chain}

An archive is as good as the journal says: an entry's leaf hash is still there, and the proof of it is as it was.
"""

import base64
import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...contracts import StorageError
from ..files import sync_folder

ARCHIVE = "archive"
"""The folder of archives in a data folder."""
_ENDING = ".jsonl.gz"


def write_archive(folder: Path, name: str, rows: Iterable[tuple[str, tuple[int, bytes, bytes]]]) -> str:
    """Writes tasks' entries (sequence, bytes, hash) to disk; the name of the file. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}{_ENDING}").open("wb") as file:
            with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
                packed.writelines(_line(task, *row) for task, row in rows)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", path=str(folder)) from error
    return f"{name}{_ENDING}"


def _line(task: str, sequence: int, entry: bytes, hash: bytes) -> bytes:
    packed = base64.b64encode(entry).decode()
    return json.dumps({"sequence": sequence, "task": task, "entry": packed, "hash": hash.hex()}).encode() + b"\n"


def archived(file: Path) -> Iterator[tuple[int, str, bytes, bytes]]:
    """Sequence, task, entry and hash of what an archive holds. Raises StorageError for what is none."""
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            for line in lines:
                held = json.loads(line)
                entry = base64.b64decode(held["entry"], validate=True)
                yield held["sequence"], held["task"], entry, bytes.fromhex(held["hash"])
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{file} is no archive: {type(error).__name__}: {error}", path=str(file)) from error


def find_archived(folder: Path, journal: str, sequence: int) -> bytes | None:
    """The bytes of an entry that was compacted, where an archive in the folder has them."""
    for file in sorted(folder.glob(f"{journal}-*{_ENDING}")):
        for number, _, entry, _ in archived(file):
            if number == sequence:
                return entry
    return None
