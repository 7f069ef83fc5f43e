"""Finds the federation that a command is about: the given URL, or the one whose run file lies in the data folder."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ...contracts import InvalidConfiguration, Unavailable
from .. import runfile
from ..client import Client
from ..config import Configuration, load
from ..config import find as find_file
from ..runfile import RunFile

PATIENCE_SECONDS = 3.0
"""How long a gateway that does not answer is asked again: at a terminal somebody waits."""


@dataclass(frozen=True)
class Options:
    """What every command takes."""

    json: bool = False
    debug: bool = False
    url: str | None = None
    token: str | None = None
    config: Path | None = None
    data: Path | None = None

    def configuration(self) -> Configuration:
        """The configuration of this folder. Raises InvalidConfiguration."""
        return load(self.config)


@dataclass(frozen=True)
class Address:
    """Where a federation answers."""

    url: str
    token: str | None


@asynccontextmanager
async def reach(options: Options) -> AsyncIterator[Client]:
    """A client for the federation that the options mean. Raises Unavailable, saying how to start one."""
    from ..http_client import HttpClient

    address = find(options)
    client = HttpClient(address.url, address.token, patience_seconds=PATIENCE_SECONDS)
    try:
        yield client
    finally:
        await client.close()


def find(options: Options) -> Address:
    """The address that the options mean. Raises Unavailable where nothing runs."""
    if options.url:
        return Address(options.url.rstrip("/"), options.token)
    data, run = running(options)
    if run.url is None:
        raise Unavailable(f"the federation over {data} has no gateway. Start it with one: hanse up", data=str(data))
    return Address(run.url, options.token or run.token)


def running(options: Options) -> tuple[Path, RunFile]:
    """Data folder and run file of the federation that runs here. Raises Unavailable, also when there are several."""
    known = {folder: run for folder in folders(options) if (run := runfile.read(folder))}
    alive = {folder: run for folder, run in known.items() if run.alive}
    if len(alive) > 1:
        raise Unavailable(f"several federations run here: {', '.join(map(str, alive))}. Say which one with --data")
    if alive:
        return next(iter(alive.items()))
    if known:
        folder, run = next(iter(known.items()))
        raise Unavailable(
            f"the federation over {folder} is gone: its process {run.pid} ended. Start it again: hanse up"
        )
    where = f"over {options.data.absolute()}" if options.data else "here"
    raise Unavailable(f"no federation runs {where}. Start one with hanse up, or say where one is: --url or HANSE_URL")


def folders(options: Options) -> Iterator[Path]:
    """Where a run file may lie: the given data folder, the configured one, else `var` and the folders in it."""
    if options.data:
        yield options.data.absolute()
        return
    try:
        yield options.configuration().data
    except InvalidConfiguration:
        if options.config or _has_file():
            raise
        var = Path.cwd() / "var"
        yield var
        yield from sorted(path.parent.parent for path in var.glob("*/run/federation.json") if path.is_file())


def _has_file() -> bool:
    try:
        find_file()
    except InvalidConfiguration:
        return False
    return True
