"""Brings a configured federation up and down again, in the order that gets to the first task soonest."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from ..contracts import TimedOut
from . import actors, cluster
from .client import Client, LinkClient
from .config import Configuration
from .gateway import Settings

READY_SECONDS = 60.0


async def launch(
    configuration: Configuration, stack: AsyncExitStack, *, address: str | None, http: bool
) -> tuple[Client, str | None]:
    """A client of the running federation and the gateway's URL. What was started is stopped by `stack`.

    Raises InvalidConfiguration before anything is started, Conflict when the data is in use, Unavailable when the
    cluster does not answer, TimedOut when an agent does not come up.
    """
    for entry in configuration.agents:
        entry.load()
    stack.callback(cluster.DataLock(configuration.data).release)
    owned = await asyncio.to_thread(cluster.join_ray, configuration, address)
    running = cluster.start(configuration, owned=owned)
    stack.push_async_callback(running.stop)
    url, _ = await asyncio.gather(_gateway(running, stack) if http else _none(), running.ready())
    client = actors.connect(*_whom(configuration), "local", _memory_shards(configuration))
    stack.push_async_callback(client.close)
    await present(client)
    return client, url


async def _gateway(running: cluster.Cluster, stack: AsyncExitStack) -> str:
    """The gateway's URL. Serve comes up while the actors restore themselves."""
    from .gateway.deployment import serve_gateway, stop_gateway

    configuration = running.configuration
    stack.push_async_callback(stop_gateway, name=running.namespace, end_serve=not running.owned)
    return await serve_gateway(
        Settings.of(configuration),
        partial(actors.connect, *_whom(configuration), "gateway", _memory_shards(configuration)),
        port=configuration.gateway.port,
        replicas=configuration.gateway.replicas,
        name=running.namespace,
    )


def _whom(configuration: Configuration) -> tuple[str, int, str]:
    return cluster.namespace_of(configuration), configuration.coordinator.shards, configuration.tenants[0].name


def _memory_shards(configuration: Configuration) -> int:
    return configuration.memory.shards if configuration.memory else 0


async def _none() -> None:
    """No gateway."""


async def present(client: LinkClient, seconds: float = READY_SECONDS) -> None:
    """Returns when every configured agent has joined. Raises TimedOut naming those who have not."""
    if missing := await client.gather(seconds):
        raise TimedOut(f"still not here after {seconds:g} s: {', '.join(missing)}")
