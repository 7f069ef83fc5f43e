"""What goes wrong in a process, kept where its operator looks: `log/NAME.log` in the data folder.

Ray keeps what its workers print in a folder of its own, by numbers, and forgets it with the machine's temporary files.
"""

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 4 << 20
"""Of a file; the one before it is kept too."""
_LINES = "%(asctime)s %(levelname)s %(message)s"


class _Quiet(RotatingFileHandler):
    """A disk that cannot be written is a matter of the stores, which say so; a log must not add to it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def keep_log(data: Path, name: str) -> None:
    """Warnings and errors of Hanse and its agents, with tracebacks. There is no file before the first one."""
    folder = data / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    handler = _Quiet(folder / f"{name}.log", maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(_LINES))
    logging.getLogger("hanse").addHandler(handler)
