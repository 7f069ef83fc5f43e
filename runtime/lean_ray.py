"""A Ray node of one's own, with the processes that a federation uses and no others.

Beside its directory (GCS), its raylet and their two agents, `ray.init` starts a dashboard server even where there is to
be no dashboard, and waits for it; a monitor that would ask a cloud for machines; and one that carries what workers
print to whoever asked for it. For a federation on one machine they do nothing, and they make up a third of the time
until its first task. Ray 2.60 has settings for them inside and none outside, hence this.

A node that `ray start` makes is as Ray makes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from ray._private import parameter
from ray._private.node import Node

WITHOUT = {"no_monitor": True, "include_log_monitor": False}


@contextmanager
def lean_node() -> Iterator[None]:
    """A node that `ray.init` starts in this block is a lean one."""
    parameters: Any = partial(parameter.RayParams, **WITHOUT)
    with patch.object(parameter, "RayParams", parameters), patch.object(Node, "start_api_server", _no_dashboard):
        yield


def _no_dashboard(node: Node, **how: Any) -> None:
    """Instead of starting a server that would show nothing."""
