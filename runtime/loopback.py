"""What keeps a replica of Ray Serve on this machine."""

from collections.abc import Callable
from typing import Any


def stay_on_loopback() -> None:
    """Serve opens a port of each replica to every interface, for calls between deployments, in which it takes pickles.

    Ray's token guards it, and nobody calls our replicas from elsewhere where the gateway is for this machine only; so
    there that port is too. Ray has no setting for it. This runs in the replica's own process, before it opens the port.
    """
    from ray.serve._private import replica

    module: Any = replica
    opened: Callable[[Any, str], int] = module.add_port_to_grpc_server
    module.add_port_to_grpc_server = lambda server, at: opened(server, at.replace("[::]", "127.0.0.1"))
