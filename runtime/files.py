"""Files that are there whole or not at all, also after a power cut."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Puts `content` in the file's place when it is on disk. Whoever reads meanwhile sees what was there before. Safe
    with other writers beside it: the last one stays. Raises OSError, and then nothing of it is left.
    """
    _place(path, content, mode, os.replace)


def write_first(path: Path, content: bytes, mode: int) -> bool:
    """As `write_whole`, but what is there already stays, and then it is False: of many writers one is the first."""
    try:
        _place(path, content, mode, os.link)
    except FileExistsError:
        return False
    return True


def _place(path: Path, content: bytes, mode: int, name: Callable[[str, Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, mode)
            file.write(content)
            file.flush()
            os.fsync(number)
        name(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)  # it is there still, unless it was moved
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where a file's own fsync makes only its bytes."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
