"""Called by Ray Serve in the process of its controller, at its start: see `gateway.proxy`, which asks for it.

Behind HAProxy Serve keeps a second proxy, for requests that come while no replica is up. It takes a process of 130 MB,
makes every start two seconds of work longer, and listens at one and the same port in every cluster of a machine, so
that a request could land in another federation. A gateway without a replica says so, with `Retry-After`, instead.
"""

from typing import Any

from ray.serve._private.proxy_state import ProxyStateManager


def no_second_proxy() -> None:
    """There is HAProxy alone. Raises AttributeError where Ray Serve starts its second proxy otherwise."""
    manager: Any = ProxyStateManager
    assert manager._start_fallback_proxy_if_needed
    manager._start_fallback_proxy_if_needed = lambda self, *node: None
