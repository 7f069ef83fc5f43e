"""A Ray node of one's own, with the processes that a federation uses and no others, that starts on a slow machine too.

Beside its directory (GCS), its raylet and the agent that prepares workers' environments, `ray.init` starts a dashboard
server even where there is to be no dashboard, and waits for it; a monitor that would ask a cloud for machines; one that
carries what workers print to whoever asked for it; and an agent through which the dashboard would look at the node. For
a federation on one machine they do nothing, and they make up a third of the time until its first task. Ray 2.60 has
settings for them inside and none outside, hence this.

That last agent is what a start on a busy machine fails for: it takes a second of processor time to say its ports, and a
raylet that has not heard of them in 15 seconds ends (ray-project/ray#65983). `no_dashboard_agent.py` stands for it.

A node that `ray start` makes is as Ray makes it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from ray._private import node, parameter, services
from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD_AGENT, PROCESS_TYPE_RAYLET

WITHOUT = {"no_monitor": True, "include_log_monitor": False}
AGENT = Path(__file__).parent / "no_dashboard_agent.py"
PYTHON_FOR = "_build_python_executable_command_memory_profileable"
"""The function of Ray that says with which Python one of its own programs is started."""
CHECK = "Check failed"
"""What a raylet that ends itself writes before its reason."""
START_SECONDS = 60.0
"""For a raylet to register with its directory."""
LOOK_SECONDS = 0.02
"""Between two looks whether it has."""


class NotStarted(Exception):
    """Ray's node did not start. Nothing of it is left, so that one can try again."""


@contextmanager
def lean_node() -> Iterator[None]:
    """A node that `ray.init` starts in this block is a lean one, or raises NotStarted."""
    parameters: Any = partial(parameter.RayParams, **WITHOUT)
    with (
        patch.object(parameter, "RayParams", parameters),
        patch.object(node, "Node", LeanNode),
        patch.object(services, PYTHON_FOR, partial(_python_for, getattr(services, PYTHON_FOR))),
    ):
        yield


class LeanNode(node.Node):
    """Raises NotStarted as soon as its raylet has ended, and leaves nothing running. Ray looks for the raylet once a
    second, goes on when it has ended, gives up after 30 seconds, and leaves what it started.
    """

    def __init__(self, *how: Any, **more: Any) -> None:
        try:
            with patch.object(services, "get_node", partial(self._registered, services.get_node)):
                super().__init__(*how, **more)
        except Exception as error:
            self.kill_all_processes(check_alive=False, wait=True)
            raise NotStarted(self._why() or str(error)) from error

    def start_api_server(self, **how: Any) -> None:
        """None, instead of a server that would show nothing."""

    def _registered(self, get_node: Callable[..., Any], *which: Any) -> Any:
        given_up, directory = time.monotonic() + START_SECONDS, cast("Any", self.get_gcs_client())
        while self.node_id not in (each.hex() for each in directory.get_all_node_info()):
            if time.monotonic() > given_up or self._ended():
                raise NotStarted("its raylet has ended, or takes too long")
            time.sleep(LOOK_SECONDS)
        return get_node(*which)

    def _ended(self) -> bool:
        return any(each.process.poll() is not None for each in self.all_processes[PROCESS_TYPE_RAYLET])

    def _why(self) -> str | None:
        with suppress(AttributeError, OSError):
            return last_words((Path(self.get_logs_dir_path()) / "raylet.err").read_text(errors="replace"))


def last_words(log: str) -> str | None:
    """Why a raylet ended itself, in one line, from what it wrote to its standard error."""
    return next((line[line.index(CHECK) :] for line in log.splitlines() if CHECK in line), None)


def _python_for(python_for: Callable[..., list[str]], component: str, *how: Any, **more: Any) -> list[str]:
    """The beginning of a command line, to which Ray adds the path of its own program and what that is told."""
    if component == PROCESS_TYPE_DASHBOARD_AGENT:
        return [sys.executable, "-I", "-S", str(AGENT)]
    return python_for(component, *how, **more)
