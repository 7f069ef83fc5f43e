"""`Federation`: the Python surface. One object whether the agents live in this process, on this machine, in a cluster,
or behind a gateway.

    async with Federation.local(agents=[Ledger], data="./var") as federation:
        balance = await federation.call("ledger.deposit", {"account": "a", "cents": 5})
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any, Self

from ..agents.memory import Memories
from ..agents.models import Questions
from ..contracts import Tenant
from ..contracts.ids import coordinator_name
from ..contracts.pool import Administration, Embedder, Models
from .assembly import Failure, World, agent_keys, in_memory, make_coordinator, make_host
from .client import Client, LinkClient, Shard
from .config import Configuration
from .delegating import LinkDelegates
from .http_client import HttpClient
from .launch import launch, present
from .link import Link, Receiver, pipe
from .memory_client import MemoryClient
from .memory_readers import Readers
from .models_client import ModelsClient
from .models_part import counter_of
from .parts import memory_reader, memory_shard
from .secret_key import root_key
from .service import read_submission
from .statistics import Keeper, Sources
from .statistics_part import FILE as STATISTICS_FILE
from .statistics_part import StatisticsPart
from .task import Task


class Federation:
    """A running federation. Made by `local`, `in_process`, `connect` or `start`; used as an async context manager."""

    def __init__(self, begin: Callable[["Federation", AsyncExitStack], Any]) -> None:
        self._begin = begin
        self._stack = AsyncExitStack()
        self.client: Client
        """Every verb of the HTTP surface, as methods."""
        self.url: str | None = None
        """Of the gateway, where there is one."""

    @classmethod
    def local(
        cls, agents: Iterable[Any] = (), *, data: str | Path = "var", http: bool = False, **sections: Any
    ) -> Self:
        """Real Ray, real stores, on this machine; the gateway only when `http` asks for it.

        `agents` are classes, `module:Class` or configuration entries; `sections` are those of `hanse.yaml`. Raises
        InvalidConfiguration, and Conflict when another federation works on `data`.
        """
        return cls.start(Configuration.for_agents(agents, data=data, **sections), http=http)

    @classmethod
    def start(cls, configuration: Configuration, *, address: str | None = None, http: bool = True) -> Self:
        """What `hanse up` does: everything that the configuration says, in a new cluster or in the one at `address`."""

        async def begin(self: Federation, stack: AsyncExitStack) -> None:
            self.client, self.url = await launch(configuration, stack, address=address, http=http)

        return cls(begin)

    @classmethod
    def in_process(
        cls,
        agents: Iterable[Any] = (),
        *,
        data: str | Path = ":memory:",
        world: World | None = None,
        pool: Administration | None = None,
        embedder: Embedder | None = None,
        **sections: Any,
    ) -> Self:
        """The same engine, coordinator, store and wire in this process alone, without Ray: for tests.

        `pool` stands in for the model pool; it is not started and not stopped. `embedder` is the memory's; one in this
        process when left out.
        """
        configuration = Configuration.for_agents(agents, data=data, **sections)

        async def begin(self: Federation, stack: AsyncExitStack) -> None:
            self.client = await _in_process(configuration, stack, world or World.real(), pool, embedder)

        return cls(begin)

    @classmethod
    def connect(cls, url: str, token: str | None = None) -> Self:
        """A federation behind a gateway."""

        async def begin(self: Federation, stack: AsyncExitStack) -> None:
            self.client, self.url = HttpClient(url, token), url
            stack.push_async_callback(self.client.close)

        return cls(begin)

    async def __aenter__(self) -> Self:
        try:
            await self._begin(self, self._stack)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.aclose()

    @property
    def memory(self) -> Memories:
        """The shared memory, as in a handler, on behalf of whoever this client is. Raises Unavailable when there is
        none.
        """
        return Memories(self.client.memory)

    @property
    def models(self) -> Questions:
        """What can be asked of the model pool, as in a handler. Raises Unavailable when none is configured."""
        return Questions(self.client.models)

    async def call(
        self,
        capability: str,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        **options: Any,
    ) -> Any:
        """Calls one capability as a task of its own and returns its output. Raises what ended it."""
        task = await self.submit(call=capability, input=dict(input or {}), **options)
        return await task.result(timeout_seconds)

    async def submit(
        self,
        *,
        plan: Any = None,
        call: str | None = None,
        goal: str | None = None,
        input: Any = None,
        idempotency_key: str | None = None,
        budget: Mapping[str, Any] | None = None,
        deadline_seconds: float | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
    ) -> Task:
        """Hands a task over; it is on disk when this returns. Raises what `Client.submit` raises."""
        body = {
            "plan": plan,
            "call": call,
            "goal": goal,
            "input": input,
            "idempotency_key": idempotency_key or uuid.uuid4().hex,
            "budget": budget,
            "deadline_seconds": deadline_seconds,
            "labels": dict(labels or {}),
            "priority": priority,
        }
        submission = read_submission({name: value for name, value in body.items() if value is not None})
        return Task(self.client, await self.client.submit(submission))

    async def task(self, id: str) -> Task:
        """A task by its id. Raises NotFound."""
        return Task(self.client, await self.client.task(id))


async def _in_process(
    configuration: Configuration,
    stack: AsyncExitStack,
    world: World,
    pool: Administration | None,
    embedder: Embedder | None,
) -> LinkClient:
    key = world.entropy.bytes(32) if in_memory(configuration) else root_key(configuration.data)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(error: BaseException) -> None:
        if not failed.done():
            failed.set_exception(error)

    models = ModelsClient(_way_to(pool)) if pool else None
    memory = await _memory(configuration, stack, world, fail, embedder, models) if configuration.memory else None
    dialers, stores = [], {}
    for shard in range(configuration.coordinator.shards):
        coordinator = make_coordinator(configuration, shard, key, world, fail)
        stack.push_async_callback(coordinator.stop)
        await coordinator.start()
        dialers.append(_piped(coordinator))
        stores[coordinator_name(shard)] = coordinator.store
    delegates = LinkDelegates(LinkClient([Shard(dial, 5.0) for dial in dialers], Tenant("default"), "host"))
    stack.push_async_callback(delegates.close)
    for name in configuration.hosts:
        keys = agent_keys(configuration, name, key)
        host = make_host(configuration, name, keys, world, fail, models=models, memory=memory, delegates=delegates)
        stack.push_async_callback(host.stop)
        await host.start(dialers)
    statistics = _statistics(configuration, stack, world, stores)
    client = LinkClient([Shard(dial, 5.0) for dial in dialers], Tenant("default"), "local", models, memory, statistics)
    stack.push_async_callback(client.close)
    await present(client)
    return client


async def _memory(
    configuration: Configuration,
    stack: AsyncExitStack,
    world: World,
    fail: Failure,
    embedder: Embedder | None,
    models: Models | None,
) -> MemoryClient:
    """The shards of the memory, over the wire, as in processes of their own."""
    ways: list[Shard] = []
    beside: list[Readers] = []
    for shard in range(configuration.memory_shards):
        part = memory_shard(configuration, world, fail, shard, embedder, models)
        counter = await part.start()
        stack.push_async_callback(part.stop)
        ways.append(_way_to_memory(counter))
        readers = [
            memory_reader(configuration, world, fail, shard, _way_to_memory(counter), embedder)
            for _ in range(configuration.memory_readers)
        ]
        counters = [await reader.start() for reader in readers]
        for reader in readers:
            stack.push_async_callback(reader.stop)
        beside.append(Readers([Shard(_piped(each), 0, whom="a reader of the memory") for each in counters]))
    return MemoryClient(ways, beside if configuration.memory_readers else ())


def _way_to_memory(counter: Receiver) -> Shard:
    return Shard(_piped(counter), 5.0, whom="the memory")


def _statistics(configuration: Configuration, stack: AsyncExitStack, world: World, stores: Sources) -> Shard:
    """Read from the coordinators' own stores, and between other work, because all this is one thread."""
    path = None if in_memory(configuration) else configuration.data / STATISTICS_FILE
    part = StatisticsPart(Keeper(path, lambda: nullcontext(stores), world.clock), _at_once)
    stack.push_async_callback(part.stop)
    return Shard(_piped(part.counter), 5.0, whom="the statistics")


async def _at_once(work: Callable[[], Any]) -> Any:
    return work()


def _way_to(pool: Administration) -> Shard:
    """Over the wire, as a part in a process of its own would be reached."""
    return Shard(_piped(counter_of(pool)), 5.0, whom="the model pool")


def _piped(coordinator: Receiver) -> Callable[[Receiver], Any]:
    async def to_coordinator(receiver: Receiver) -> Link:
        near, _ = pipe(receiver, coordinator)
        return near

    return to_coordinator
