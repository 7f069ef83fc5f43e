"""The process behind `hanse up`: runs one federation until it is told to stop.

It is a program of its own, `python -m hanse.runtime.serving ORDER`, so that commands which only talk to a federation
never load Ray, and so that the federation outlives the terminal. It says in one line of JSON on standard output how
starting went, `{"ready": RUN FILE}` or `{"error": …}`; everything else goes to standard error. SIGTERM and SIGINT stop
it in order; its exit code is then 0.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict

from ..contracts import HanseError
from ..contracts.events import timestamp
from . import config, runfile
from .cluster import namespace_of
from .config import Configuration
from .federation import Federation
from .mailbox import Mailbox
from .runfile import RunFile
from .world import SystemClock

Say = Callable[[dict[str, Any]], None]


class Order(BaseModel):
    """What `hanse up` hands over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path
    folder: Path | None = None
    """Where relative paths start, instead of the configuration's folder."""
    data: Path | None = None
    """Instead of the configured data folder."""
    address: str | None = None
    """A Ray cluster to join, instead of starting one."""
    mailbox: Path | None = None
    """Take mail on the port of the mail connector and keep it in this folder, instead of sending it."""

    draining: bool = False
    """Take no new tasks, whatever the configuration says."""

    def configuration(self) -> Configuration:
        """Raises InvalidConfiguration."""
        found = config.load(self.config, folder=self.folder)
        found = found.drained() if self.draining else found
        return found.over(self.data) if self.data else found


async def serve(order: Order, say: Say) -> None:
    """Runs the federation until a signal. Raises what keeps it from starting, with nothing left behind."""
    configuration = _reachable(order.configuration())
    config.importable(configuration.folder)
    async with AsyncExitStack() as stack:
        if order.mailbox:
            mailbox = await stack.enter_async_context(Mailbox.of(configuration, order.mailbox))
            configuration = mailbox.asked_by(configuration)
        federation = await stack.enter_async_context(Federation.start(configuration, address=order.address))
        run = _run_file(configuration, federation, order)
        stop = _on_signals()
        runfile.write(configuration.data, run)
        stack.callback(runfile.remove, configuration.data)
        say({"ready": run.model_dump()})
        await stop.wait()


def main(text: str) -> int:
    """The program. Returns its exit code."""
    say = _speaker()
    try:
        asyncio.run(serve(Order.model_validate_json(text), say))
    except HanseError as error:
        say({"error": error.to_data()})
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _speaker() -> Say:
    """Keeps standard output for what is said to whoever started us; what libraries print goes to standard error."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever started us has gone; the federation has not
            print(json.dumps(message, default=str), file=answer, flush=True)

    return say


def _reachable(configuration: Configuration) -> Configuration:
    """With a token of its own making where nobody could come in otherwise, so that its owner always can."""
    first = configuration.tenants[0]
    if configuration.gateway.open_on_loopback:
        return configuration
    given = first.token.get_secret_value() if first.token else None
    path = runfile.keep_token(configuration.data, given)
    return configuration if given else configuration.with_token(path.read_text().strip())


def _run_file(configuration: Configuration, federation: Federation, order: Order) -> RunFile:
    token = configuration.data / "run" / "token"
    return RunFile(
        name=configuration.federation.name,
        url=federation.url,
        ray_address=ray.get_runtime_context().gcs_address,
        namespace=namespace_of(configuration),
        token_file=None if configuration.gateway.open_on_loopback else str(token),
        started_at=timestamp(SystemClock().now_ms()),
        started_cluster=order.address is None,
        **runfile.this_process(),
    )


def _on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT. Registered after Ray, which takes SIGTERM for itself when it starts."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
