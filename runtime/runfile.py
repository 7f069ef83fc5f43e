"""The run file: how a command finds the federation that runs over a data folder.

`hanse up` writes `var/run/federation.json` when everything answers, `hanse down` removes it, every other command
reads it. It is written whole or not at all: a reader sees the old one or the new one. It holds no secret; the token
lies in a file of its own that only the owner can read.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..contracts import Corrupt
from .files import write_whole

FORMAT = 1


class RunFile(BaseModel):
    """A running federation, as the machine it was started on knows it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = FORMAT
    name: str
    url: str | None = None
    """Of the gateway; None for a federation without one."""
    pid: int
    """Of the process whose end is the federation's end."""
    pid_started: int = 0
    """Clock ticks after boot at which that process began, so that another process of its number is not taken for it."""
    ray_address: str
    """`host:port` of the cluster's head."""
    namespace: str
    """Ray namespace of its actors."""
    token_file: str | None = None
    """File with the bearer token of the first tenant, for commands on this machine."""
    started_at: str
    """RFC 3339 in UTC."""
    started_cluster: bool = True
    """Whether `up` began the Ray cluster, so that `down` ends it; False for one that was joined."""

    @property
    def alive(self) -> bool:
        """Whether its process still runs. Means something only on the machine where it was started."""
        return process_started(self.pid) is not None and self.pid_started in (0, process_started(self.pid))

    @property
    def token(self) -> str | None:
        """What the token file holds; None when there is none or it cannot be read."""
        try:
            return Path(self.token_file).read_text().strip() if self.token_file else None
        except OSError:
            return None


def path_in(data: Path) -> Path:
    return data / "run" / "federation.json"


def write(data: Path, run: RunFile) -> None:
    """Makes `run` the run file, on disk when this returns."""
    write_whole(path_in(data), (json.dumps(run.model_dump(), indent=2) + "\n").encode(), 0o644)


def read(data: Path) -> RunFile | None:
    """The run file, or None where there is none. Raises Corrupt for something else in its place."""
    path = path_in(data)
    try:
        return RunFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValidationError, OSError) as error:
        text = f"{path} is not a run file. hanse down stops what runs and removes it; then start again: hanse up"
        raise Corrupt(text, path=str(path)) from error


def remove(data: Path) -> None:
    """Does nothing when it is gone already."""
    path_in(data).unlink(missing_ok=True)


def keep_token(data: Path, token: str | None = None) -> Path:
    """The file with the operator's token, which only the owner can read. Made with a new token where there is none."""
    path = data / "run" / "token"
    if token is None and path.is_file():
        return path
    write_whole(path, f"{token or secrets.token_urlsafe(32)}\n".encode(), 0o600)
    return path


def process_started(pid: int) -> int | None:
    """Clock ticks after boot at which a process began; 0 where the system does not say; None when it ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _without_proc(pid)
    return None if state in "ZX" else int(fields[18])


def _without_proc(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def this_process() -> dict[str, Any]:
    """`pid` and `pid_started` of the caller."""
    return {"pid": os.getpid(), "pid_started": process_started(os.getpid()) or 0}
