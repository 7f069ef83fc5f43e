"""`hanse up` and `hanse down`: the federation of this folder, started and stopped."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from ...contracts import Conflict, Corrupt, Failed, HanseError, InvalidConfiguration, TimedOut, Unavailable
from ...contracts.ids import COORDINATORS
from .. import config, runfile
from ..config import Configuration
from ..data_lock import holder
from ..runfile import RunFile
from ..upgrades import Choice
from .command import Session, command
from .reach import folders, running
from .text import plain

app = typer.Typer()

SERVING = "hanse.runtime.serving"
START_SECONDS = 240.0
STOP_SECONDS = 30.0


@command(app)
def up(
    session: Session,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, host:port, instead of starting one.")
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, log here, stop with Ctrl-C.")] = False,
    mailbox: Annotated[Path | None, typer.Option(help="Keep mail in this folder instead of sending it.")] = None,
    stranded: Annotated[
        Choice | None, typer.Option(help="What becomes of open tasks that need contracts which no agent offers now.")
    ] = None,
) -> None:
    """Start the federation that hanse.yaml describes and return when it answers. It runs until hanse down.

    Open tasks that its agents would leave waiting, because their contracts have changed, are shown before anything
    starts; --stranded says what becomes of them.
    """
    file = (session.options.config or config.find()).absolute()
    configuration = config.load(file)
    data = session.options.data or configuration.data
    _weigh(session, configuration, data, stranded)
    order = {"config": file, "data": session.options.data, "address": address, "mailbox": mailbox}
    order |= {"draining": True} if stranded == Choice.DRAIN else {}
    if foreground:
        return stay(session, order, data)
    run = start(order, data)
    logs = log_of(data).parent
    session.out.show(run, lambda: f"{run.name} runs: {run.url or 'no gateway'}, process {run.pid}, logs in {logs}")


@command(app)
def down(
    session: Session,
    timeout_seconds: Annotated[
        float, typer.Option(help="How long it may take to finish in order.", min=0)
    ] = STOP_SECONDS,
    force: Annotated[bool, typer.Option("--force", help="End it hard when the time is over. Nothing is lost.")] = False,
) -> None:
    """Stop the federation. Open tasks wait on disk and go on with the next hanse up."""
    try:
        data, run = running(session.options)
    except Unavailable as error:
        removed = _clean(session)
        words = "what was left of one is tidied up" if removed else plain(error.detail)
        return session.out.show({"stopped": None}, lambda: f"nothing to stop: {words}")
    except Corrupt as error:
        return _stop_unnamed(session, error, timeout_seconds, force=force)
    stop(data, run, timeout_seconds, force=force)
    session.out.show({"stopped": run.name, "pid": run.pid}, lambda: f"{run.name} is down; its data stays in {data}")


def _weigh(session: Session, configuration: Configuration, data: Path, choice: Choice | None) -> None:
    """Raises Ended when open tasks would be left waiting and nobody has said what becomes of them."""
    from ..store.place import place_of

    run = runfile.read(data)
    there = any(name.startswith(COORDINATORS) for name in place_of(data).names())
    if there and not (run is not None and run.alive):
        from .stranded import weigh

        weigh(session, configuration, data, choice)


def start(order: dict[str, Any], data: Path) -> RunFile:
    """Starts a federation in a process of its own, and returns when it answers. Raises what kept it from starting."""
    run = runfile.read(data)
    if run is not None and run.alive:
        raise Conflict(f"{run.name} runs already, process {run.pid}: {run.url}. Stop it with hanse down", pid=run.pid)
    log = log_of(data)
    with _opened(log) as errors:
        process = _spawn(order, errors, apart=True)
    try:
        run = _ready(process, log)
    except BaseException:
        process.terminate()
        process.wait(STOP_SECONDS)
        raise
    finally:
        assert process.stdout
        process.stdout.close()
    _started.append(process)
    return run


_started: list["subprocess.Popen[bytes]"] = []
"""Kept, because Python complains when it forgets a process that still runs."""


def stay(session: Session, order: dict[str, Any], data: Path) -> None:
    """Runs a federation in front of the terminal, or of whoever else waits for this process, such as a container.

    Whatever signal asks us to stop is passed on, and we end when the federation has.
    """
    process = _spawn(order, None, apart=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.terminate())
    run = _ready(process, None)
    session.out.show(run, lambda: f"{run.name} runs: {run.url or 'no gateway'}; Ctrl-C stops it")
    if process.wait():
        raise Failed(f"the federation ended with {process.returncode}")


def stop(data: Path, run: RunFile, seconds: float, *, force: bool = False) -> None:
    """Returns when the process has ended. Raises TimedOut, unless it may be ended hard."""
    _end(run.pid, run.name, seconds, force=force)
    runfile.remove(data)


def _stop_unnamed(session: Session, error: Corrupt, seconds: float, *, force: bool) -> None:
    """Stops what works on the data, as its lock knows it, where the run file says nothing; then that is gone too."""
    data = next(folder for folder in folders(session.options) if str(runfile.path_in(folder)) == error.ids["path"])
    if pid := holder(data):
        _end(pid, f"the federation over {data}", seconds, force=force)
    runfile.remove(data)
    words = f"process {pid} is down" if pid else "nothing ran"
    session.out.show({"stopped": None, "pid": pid}, lambda: f"{words}; the broken run file in {data} is tidied up")


def _end(pid: int, name: str, seconds: float, *, force: bool) -> None:
    os.kill(pid, signal.SIGTERM)
    if not ended(pid, seconds):
        if not force:
            raise TimedOut(f"{name} still runs after {seconds:g} s. End it hard: hanse down --force", pid=pid)
        os.kill(pid, signal.SIGKILL)
        ended(pid, STOP_SECONDS)


def ended(pid: int, seconds: float) -> bool:
    """Waits for the end of a process that need not be our child. False when the time is over."""
    try:
        number = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        return _ended_by_looking(pid, seconds)
    try:
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(number)


def _opened(log: Path) -> IO[bytes]:
    """Raises InvalidConfiguration where nothing can be written."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError as error:
        raise InvalidConfiguration(
            f"{log} cannot be written: {error.strerror}. Give the data another folder: federation.data, or --data"
        ) from error


def log_of(data: Path) -> Path:
    return data / "log" / "federation.log"


def _spawn(order: dict[str, Any], errors: IO[bytes] | None, *, apart: bool) -> "subprocess.Popen[bytes]":
    text = json.dumps({name: value for name, value in order.items() if value is not None}, default=str)
    return subprocess.Popen(
        [sys.executable, "-m", SERVING, text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=apart,
    )


def _ready(process: "subprocess.Popen[bytes]", log: Path | None) -> RunFile:
    """What the new process says of its start. Raises what it says, or that it said nothing."""
    assert process.stdout
    if not select.select([process.stdout], [], [], START_SECONDS)[0]:
        raise TimedOut(f"the federation does not answer after {START_SECONDS:g} s{_see(log)}")
    line = process.stdout.readline()
    if not line:
        raise Failed(f"the federation ended with {process.wait()} before it answered{_see(log)}")
    said = json.loads(line)
    if "error" in said:
        raise HanseError.from_data(said["error"])
    return RunFile.model_validate(said["ready"])


def _see(log: Path | None) -> str:
    """The last line of the log, and where the rest is."""
    if log is None:
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f": {plain(lines[-1], 200)}. See {log}" if lines else f". See {log}"


def _clean(session: Session) -> bool:
    """Removes the run file of a federation whose process is gone."""
    left = [folder for folder in folders(session.options) if (run := runfile.read(folder)) and not run.alive]
    for folder in left:
        runfile.remove(folder)
    return bool(left)


def _ended_by_looking(pid: int, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while runfile.process_started(pid) is not None:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True
