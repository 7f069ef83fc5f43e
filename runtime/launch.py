"""Brings a configured federation up and down again, in the order that gets to the first task soonest."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from ..contracts import TimedOut
from . import actors, cluster
from .client import Client, LinkClient
from .config import Configuration
from .data_lock import DataLock
from .gateway import Settings

READY_SECONDS = 60.0


async def launch(
    configuration: Configuration, stack: AsyncExitStack, *, address: str | None, http: bool
) -> tuple[Client, str | None]:
    """A client of the running federation and the gateway's URL. What was started is stopped by `stack`.

    Raises InvalidConfiguration before anything is started, Conflict when the data is in use or a gateway is wanted on
    nodes that cannot serve it, Unavailable when the cluster does not answer, TimedOut when an agent does not come up.
    """
    configuration = configuration.counting(http)
    for entry in configuration.agents:
        entry.load()
    stack.callback(DataLock(configuration.data).release)
    owned = await asyncio.to_thread(cluster.join_ray, configuration, address)
    running = cluster.Cluster(configuration, owned)
    _end_serve_after(running, stack)
    stack.push_async_callback(running.stop)
    begun = asyncio.Event()
    gateway = _gateway(running, stack, begun) if http else _none(running, stack, begun)
    url = await _beside(_actors(running, begun), gateway)
    client = _connect(configuration, "local")()
    stack.push_async_callback(client.close)
    await present(client)
    return client, url


async def _beside(actors: Coroutine[Any, Any, None], gateway: Coroutine[Any, Any, str | None]) -> str | None:
    """Both at once; when one fails the other is ended before anything is taken down. A gateway that went on asking a
    Ray that is gone would end this process, and what went wrong would never be said.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(actors)
            serving = group.create_task(gateway)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return serving.result()


async def _actors(running: cluster.Cluster, begun: asyncio.Event) -> None:
    """Behind the gateway, whose processes start one after the other, where these start side by side."""
    await begun.wait()
    running.start()
    await running.ready()


async def _gateway(running: cluster.Cluster, stack: AsyncExitStack, begun: asyncio.Event) -> str:
    """The gateway's URL. `begun` is set when its start is under way, or has failed."""
    from .gateway.deployment import serve_gateway, stop_gateway

    configuration = running.configuration
    everywhere = configuration.gateway.nodes == "every"
    if everywhere:
        await cluster.check_prepared()
    else:
        cluster.check_at_head()
    stack.push_async_callback(stop_gateway, name=running.namespace, end_serve=not running.owned)
    try:
        return await serve_gateway(
            Settings.of(configuration),
            _connect(configuration, "gateway"),
            port=configuration.gateway.port,
            replicas=configuration.gateway.replicas,
            everywhere=everywhere,
            name=running.namespace,
            begun=begun.set,
        )
    finally:
        begun.set()


def _connect(configuration: Configuration, by: str) -> Callable[[], LinkClient]:
    """Makes a client in whatever process it is called. Of plain values, and no secret: Ray writes them down."""
    shards, tenant = configuration.coordinator.shards, configuration.tenants[0].name
    namespace = cluster.namespace_of(configuration)
    models, memory_shards = configuration.models is not None, configuration.memory_shards
    statistics, readers = bool(configuration.federation.statistics), configuration.memory_readers
    return partial(actors.connect, namespace, shards, tenant, by, models, memory_shards, statistics, readers)


async def _none(running: cluster.Cluster, stack: AsyncExitStack, begun: asyncio.Event) -> None:
    """No gateway. Tiers need Ray Serve all the same, and nobody waits for it."""
    begun.set()
    if _has_tiers(running.configuration):
        from .gateway.deployment import start_serve

        starting = asyncio.create_task(start_serve())
        stack.push_async_callback(asyncio.gather, starting, return_exceptions=True)


def _end_serve_after(running: cluster.Cluster, stack: AsyncExitStack) -> None:
    """In somebody else's cluster, Serve outlives the tiers that were on it."""
    if _has_tiers(running.configuration) and not running.owned:
        from .gateway.deployment import end_serve

        stack.push_async_callback(end_serve, name=running.namespace)


def _has_tiers(configuration: Configuration) -> bool:
    return configuration.models is not None and bool(configuration.models.tiers)


async def present(client: LinkClient, seconds: float = READY_SECONDS) -> None:
    """Returns when every configured agent has joined. Raises TimedOut naming those who have not."""
    if missing := await client.gather(seconds):
        raise TimedOut(f"still not here after {seconds:g} s: {', '.join(missing)}")
