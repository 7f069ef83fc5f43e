"""Brings a configured federation up and down again, in the order that gets to the first task soonest."""

import asyncio
from contextlib import AsyncExitStack

from ..contracts import TimedOut
from . import actors, cluster
from .assembly import agent_id
from .client import Client
from .config import Configuration

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
    url = await _gateway(configuration, stack) if http else None
    await running.ready()
    client = actors.connect(running.namespace, configuration.coordinator.shards, configuration.tenants[0].name, "local")
    stack.push_async_callback(client.close)
    await present(client, configuration)
    return client, url


async def _gateway(configuration: Configuration, stack: AsyncExitStack) -> str:
    raise NotImplementedError


async def present(client: Client, configuration: Configuration, seconds: float = READY_SECONDS) -> None:
    """Returns when every configured agent has joined. Raises TimedOut naming those who have not."""
    wanted = {agent_id(entry) for entry in configuration.agents}
    try:
        async with asyncio.timeout(seconds):
            after = 0
            while missing := wanted - {agent.id for agent in await client.agents() if agent.healthy}:
                seen = await client.events(after=after, wait_seconds=0.2)
                after = max([after, *(event.sequence for event in seen)])
    except TimeoutError:
        raise TimedOut(f"still not here after {seconds:g} s: {', '.join(sorted(missing))}") from None
