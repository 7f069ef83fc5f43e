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
