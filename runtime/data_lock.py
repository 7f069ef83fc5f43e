"""One federation at a time over a data folder."""

import fcntl
import os
from pathlib import Path

from ..contracts import Conflict


class DataLock:
    """Keeps a second federation off the same data folder of this machine. Freed by the end of the process, however."""

    def __init__(self, data: Path) -> None:
        """Raises Conflict when somebody has it."""
        path = data / "run" / "lock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip()
            self._file.close()
            raise Conflict(
                f"another federation (process {owner or 'unknown'}) works on this data. Stop it with: hanse down",
                data=data.name,
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def holder(data: Path) -> int | None:
    """The process that has it on this machine, or None. For when the run file does not say."""
    try:
        with (data / "run" / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except (FileNotFoundError, ValueError):
        pass
    return None
