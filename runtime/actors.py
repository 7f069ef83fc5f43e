"""The edge where plain classes become Ray actors: one for a coordinator shard, one for a host of agents, one for each
other part of the federation that answers questions.

An actor here is a process with a loop of its own in a thread, and crash-only: whatever breaks its promise ends the
process, Ray starts it again (`max_restarts=-1`), and it restores itself from its store. Ray never repeats a call for us
(`max_task_retries=0`), because it cannot know what a call did.

Processes on one node talk over Unix-domain sockets; between nodes the same frames travel as actor calls.

What the methods below wait for is waited for on Ray's own event loop, so a question that takes a minute holds up no
thread; everything else happens on the loop of the process.
"""

import asyncio
import gc
import logging
import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import ray
import uvloop
from ray.actor import ActorHandle
from ray.exceptions import RayError

from ..contracts import AgentId, HanseError, Tenant, Unavailable
from ..contracts.ids import coordinator_name
from ..contracts.token import Key
from .assembly import World, make_coordinator, make_host
from .client import LinkClient, Shard
from .config import Configuration, importable
from .delegating import LinkDelegates
from .link import Link, Receiver, dial, listen, socket_path
from .log_file import keep_log
from .memory_client import MemoryClient, memory_name, reader_name
from .memory_readers import Readers
from .models_client import ModelsClient
from .ray_link import AskLink, Switchboard, answer, answered
from .secret_key import root_key
from .world import crash_points, faults_from_environment

_log = logging.getLogger(__name__)

EXIT_FENCED = 70
EXIT_NOT_STARTED = 71
START_AGAIN_SECONDS = 1.0
"""After a start that failed. Until then whoever asks is told why."""
PENDING_CALLS = 10_000
PATIENCE_SECONDS = 20.0
"""For a part that is coming back."""
MEMORY_SECONDS = 10.0
"""For the memory that is coming back."""
STATISTICS_SECONDS = 5.0
"""For the statistics that are coming back: whoever looks at figures would rather look again."""
QUESTIONS = 10_000
"""That clients on other nodes may have open at one coordinator."""
STATISTICS = "statistics"
"""The part that counts outcomes."""
MODELS = "models"
"""The part that holds the model pool: its actor, its socket, its store."""
_GROUPS = {"mail": 1, "control": QUESTIONS}
"""Control waits; mail never has to wait behind it."""


def options(name: str, namespace: str, *, detached: bool, resources: dict[str, float] | None = None) -> dict[str, Any]:
    """How every actor of a federation is made."""
    wanted = dict(resources or {})
    return {
        "name": name,
        "namespace": namespace,
        "lifetime": "detached" if detached else None,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_pending_calls": PENDING_CALLS,
        "num_cpus": wanted.pop("CPU", 0),
        "resources": wanted or None,
        "scheduling_strategy": "SPREAD",
        "runtime_env": {"env_vars": asked} if (asked := crash_points()) else None,
    }


def host_name(host: str) -> str:
    return f"host-{host}"


class _Process:
    """A loop in a thread. Fails the process when what runs on it fails, and when it cannot start: Ray tries again."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.ready: Future[None] = Future()
        self._main = main

    def start(self) -> None:
        threading.Thread(target=self._run, name="hanse", daemon=True).start()

    async def started(self) -> None:
        """Returns when `main` has. Raises what it raised. To be awaited on another loop."""
        await asyncio.shield(asyncio.wrap_future(self.ready))

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of work on the loop. To be awaited on another one."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def fail(self, error: BaseException) -> None:
        """Ends the process at once: what it holds in memory can no longer be trusted."""
        _log.critical("this process stops: %s", error, extra={"action": "process.failed"})
        os._exit(EXIT_FENCED)

    def _run(self) -> None:
        calm_collector()
        asyncio.set_event_loop(self.loop)
        self.loop.create_task(self._start())
        self.loop.run_forever()

    async def _start(self) -> None:
        try:
            await self._main()
        except BaseException as error:
            _log.critical("this process cannot start: %s", error, extra={"action": "process.not_started"})
            self.ready.set_exception(error)
            self.loop.call_later(START_AGAIN_SECONDS, os._exit, EXIT_NOT_STARTED)
        else:
            self.ready.set_result(None)


def calm_collector() -> None:
    """Looks for garbage in circles less often. Nearly all of ours is freed by counting, and a process that keeps
    thousands of tasks spends a fifth of its time on looking through them again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _CoordinatorProcess:
    """One shard's coordinator."""

    def __init__(self, configuration: Configuration, shard: int) -> None:
        self._configuration = configuration
        self._shard = shard
        self._path = socket_path(configuration.data, coordinator_name(shard))
        keep_log(configuration.data, coordinator_name(shard))
        self.process = _Process(self._main)
        self.links = Switchboard(self.process.loop)
        self.process.start()

    async def _main(self) -> None:
        importable(self._configuration.folder)
        world = World.real(faults_from_environment())
        key = root_key(self._configuration.data)
        self._coordinator = make_coordinator(self._configuration, self._shard, key, world, self.process.fail)
        await self._coordinator.start()
        self._server = await listen(self._path, lambda link: self._coordinator)

    @ray.method(concurrency_group="control")
    async def where(self) -> tuple[str, str, int]:
        """Node, socket and process id, once it has recovered. Raises what kept it from that."""
        await self.process.started()
        return ray.get_runtime_context().get_node_id(), str(self._path), os.getpid()

    @ray.method(concurrency_group="control")
    async def open(self, name: str, peer: ActorHandle) -> None:
        """Takes a link of a host on another node."""
        await self.process.started()
        await self.process.do(self._open(name, peer))

    async def _open(self, name: str, peer: ActorHandle) -> None:
        self.links.link(name, peer, self._coordinator).begin()

    @ray.method(concurrency_group="mail")
    async def receive(self, name: str, number: int, frames: list[bytes]) -> bool:
        return self.links.deliver(name, number, frames)

    @ray.method(concurrency_group="control")
    async def ask(self, frame: bytes) -> bytes:
        """One question of a client on another node."""
        await self.process.started()
        return await self.process.do(answered(self._coordinator, frame))

    @ray.method(concurrency_group="control")
    async def stop(self) -> None:
        await self.process.do(self._coordinator.stop())


class _HostProcess:
    """One process with its agents."""

    def __init__(self, configuration: Configuration, host: str, namespace: str, keys: Mapping[AgentId, Key]) -> None:
        self._configuration = configuration
        self._keys = keys
        self._host = host
        self._namespace = namespace
        keep_log(configuration.data, host)
        self.process = _Process(self._main)
        self.links = Switchboard(self.process.loop)
        self.process.start()

    async def _main(self) -> None:
        importable(self._configuration.folder)
        world = World.real(faults_from_environment())
        node, shards = ray.get_runtime_context().get_node_id(), self._configuration.coordinator.shards
        models = models_client(self._namespace) if self._configuration.models is not None else None
        memory = memory_client(self._namespace, self._configuration.memory_shards, self._configuration.memory_readers)
        self._running = make_host(
            self._configuration,
            self._host,
            self._keys,
            world,
            self.process.fail,
            node,
            models=models,
            memory=memory,
            delegates=LinkDelegates(connect(self._namespace, shards, "default", "host")),
        )
        await self._running.start([self._dialer(shard) for shard in range(shards)])

    def _dialer(self, shard: int) -> Callable[[Receiver], Coroutine[Any, Any, Link]]:
        async def to_coordinator(receiver: Receiver) -> Link:
            coordinator, node, path = await _find(self._namespace, coordinator_name(shard))
            if node == ray.get_runtime_context().get_node_id():
                return await dial(Path(path), receiver)
            return await self._open(coordinator, receiver)

        return to_coordinator

    async def _open(self, coordinator: ActorHandle, receiver: Receiver) -> Link:
        link = self.links.link(uuid.uuid4().hex, coordinator, receiver)
        try:
            await answer(coordinator.open, link.name, ray.get_runtime_context().current_actor)
        except HanseError:
            self.links.forget(link)
            raise
        link.begin()
        return link

    @ray.method(concurrency_group="control")
    async def where(self) -> tuple[str, int]:
        """Node and process id, once its agents are restored. Raises what kept them from that."""
        await self.process.started()
        return ray.get_runtime_context().get_node_id(), os.getpid()

    @ray.method(concurrency_group="mail")
    async def receive(self, name: str, number: int, frames: list[bytes]) -> bool:
        return self.links.deliver(name, number, frames)

    @ray.method(concurrency_group="control")
    async def stop(self) -> None:
        await self.process.do(self._running.stop())


class Part(Protocol):
    """What answers in a process of its own, beside coordinators and hosts: the model pool, the memory."""

    async def start(self) -> Receiver:
        """Restores itself. What comes over links goes to the receiver."""
        ...

    async def stop(self) -> None: ...


MakePart = Callable[[Configuration, World, Callable[[BaseException], None]], Part]
"""A function of a module: it travels to the part's process by its name. The last argument ends that process."""


class _PartProcess:
    """One part."""

    def __init__(self, configuration: Configuration, name: str, make: MakePart) -> None:
        self._configuration = configuration
        self._make = make
        self._path = socket_path(configuration.data, name)
        keep_log(configuration.data, name)
        self.process = _Process(self._main)
        self.process.start()

    async def _main(self) -> None:
        importable(self._configuration.folder)
        world = World.real(faults_from_environment())
        self._part = self._make(self._configuration, world, self.process.fail)
        self._receiver = await self._part.start()
        self._server = await listen(self._path, lambda link: self._receiver)

    @ray.method(concurrency_group="control")
    async def where(self) -> tuple[str, str, int]:
        """Node, socket and process id, once it has restored itself. Raises what kept it from that."""
        await self.process.started()
        return ray.get_runtime_context().get_node_id(), str(self._path), os.getpid()

    @ray.method(concurrency_group="control")
    async def ask(self, frame: bytes) -> bytes:
        """One question of somebody on another node."""
        await self.process.started()
        return await self.process.do(answered(self._receiver, frame))

    @ray.method(concurrency_group="control")
    async def stop(self) -> None:
        await self.process.do(self._part.stop())


_untyped: Any = ray
_remote: Any = _untyped.remote(concurrency_groups=_GROUPS)
CoordinatorActor: Any = _remote(_CoordinatorProcess)
HostActor: Any = _remote(_HostProcess)
PartActor: Any = _remote(_PartProcess)


def connect(
    namespace: str,
    shards: int,
    tenant: str,
    by: str,
    models: bool = False,
    memory_shards: int = 0,
    statistics: bool = False,
    memory_readers: int = 0,
) -> LinkClient:
    """A client of the federation in `namespace`, from any process that is connected to its Ray cluster.

    `models` says whether it has a model pool, `memory_shards` how many the memory has and `memory_readers` how many
    each of them has, `statistics` whether it counts.
    """
    ways = [Shard(_client_dialer(namespace, coordinator_name(i)), PATIENCE_SECONDS) for i in range(shards)]
    pool = models_client(namespace) if models else None
    memory = memory_client(namespace, memory_shards, memory_readers)
    counted = connect_part(namespace, STATISTICS, STATISTICS_SECONDS) if statistics else None
    return LinkClient(ways, Tenant(tenant), by, pool, memory, counted)


def models_client(namespace: str) -> ModelsClient:
    """The model pool of the federation in `namespace`, from any process that is connected to its Ray cluster."""
    return ModelsClient(connect_part(namespace, MODELS))


def memory_client(namespace: str, shards: int, readers: int = 0) -> MemoryClient | None:
    """The shared memory of the federation in `namespace`, from any process that is connected to its Ray cluster.

    Whoever asks is told sooner than by a coordinator that it is away, because work goes on without it.
    """
    ways = [memory_way(namespace, shard) for shard in range(shards)]
    beside = [
        Readers([connect_part(namespace, reader_name(shard, number), 0) for number in range(readers)])
        for shard in range(shards)
    ]
    return MemoryClient(ways, beside if readers else ()) if ways else None


def memory_way(namespace: str, shard: int) -> Shard:
    """The way to a shard of the memory."""
    return connect_part(namespace, memory_name(shard), MEMORY_SECONDS)


def connect_part(namespace: str, name: str, patience_seconds: float = PATIENCE_SECONDS) -> Shard:
    """The way to a part, from any process that is connected to its Ray cluster.

    On the part's own node it is a socket. From another node each question is one actor call, so that the pieces of a
    stream arrive there all at once, with its end.
    """
    return Shard(_client_dialer(namespace, name), patience_seconds, whom=f"the {name} part")


def _client_dialer(namespace: str, name: str) -> Callable[[Receiver], Coroutine[Any, Any, Link]]:
    async def to_part(receiver: Receiver) -> Link:
        actor, node, path = await _find(namespace, name)
        if node == ray.get_runtime_context().get_node_id() and os.path.exists(path):
            return await dial(Path(path), receiver)
        return AskLink(actor, receiver)

    return to_part


async def _find(namespace: str, name: str) -> tuple[ActorHandle, str, str]:
    try:
        actor = await asyncio.to_thread(ray.get_actor, name, namespace)
    except ValueError as error:
        raise Unavailable(f"there is no {name} in {namespace}") from error
    except RayError as error:
        raise Unavailable(f"Ray cannot be asked for {name}: {error}") from error
    node, path, _ = await answer(actor.where)
    return actor, node, path
