"""The edge where plain classes become Ray actors: one for a coordinator shard, one for a host of agents.

An actor here is a process with a loop of its own in a thread, and crash-only: whatever breaks its promise ends the
process, Ray starts it again (`max_restarts=-1`), and it restores itself from its store. Ray never repeats a call for us
(`max_task_retries=0`), because it cannot know what a call did.

Processes on one node talk over Unix-domain sockets; between nodes the same frames travel as actor calls.
"""

import asyncio
import gc
import logging
import os
import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
import uvloop
from ray.actor import ActorHandle
from ray.exceptions import RayError

from ..contracts import AgentId, HanseError, Tenant, Unavailable
from ..contracts.messages import Request
from ..contracts.token import Key
from ..contracts.wire import decode, encode
from .assembly import World, make_coordinator, make_host, root_key
from .client import LinkClient, Shard
from .config import Configuration, importable
from .link import Link, Receiver, dial, listen, socket_path
from .world import CRASH_VARIABLE, MARK_VARIABLE, faults_from_environment

_log = logging.getLogger(__name__)

EXIT_FENCED = 70
EXIT_NOT_STARTED = 71
KEEPALIVE_SECONDS = 1.0
READY_SECONDS = 60.0
START_AGAIN_SECONDS = 1.0
"""After a start that failed. Until then whoever asks is told why."""
PENDING_CALLS = 10_000
_GROUPS = {"mail": 1, "control": 4}
"""Mail keeps its order because one thread takes it; control answers even while mail is waiting."""


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
        "runtime_env": _crash_points(),
    }


def _crash_points() -> dict[str, Any] | None:
    """A test that asks for a crash point here asks for it in the actors it starts."""
    asked = {name: os.environ[name] for name in (CRASH_VARIABLE, MARK_VARIABLE) if name in os.environ}
    return {"env_vars": asked} if asked else None


def coordinator_name(shard: int) -> str:
    return f"coordinator-{shard}"


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

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

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


class RayLink:
    """One end of a link over actor calls. Finds out by a call each second whether the other end is still there."""

    def __init__(self, name: str, peer: ActorHandle, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self._peer = peer
        self._receiver = receiver
        self._loop = loop
        self._frames: list[bytes] = []
        self._open = True
        self._beat()

    def send(self, message: Any) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(encode(message))

    def close(self, reason: str = "closed") -> None:
        if self._open:
            self._open = False
            self._receiver.closed(self, reason)

    def deliver(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            if self._open:
                self._receiver.received(self, decode(frame))

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if self._open:
            self._post(frames)

    def _beat(self) -> None:
        if self._open:
            self._post([])
            self._loop.call_later(KEEPALIVE_SECONDS, self._beat)

    def _post(self, frames: list[bytes]) -> None:
        try:
            future = self._peer.receive.remote(self.name, frames).future()
        except RayError as error:
            self.close(str(error))
            return
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._posted, done))

    def _posted(self, done: "Future[Any]") -> None:
        if error := done.exception():
            self.close(str(error).splitlines()[0])
        elif not done.result():
            self.close("the other end does not know this link")


class _Mailbox:
    """The part of an actor that takes frames for its `RayLink`s."""

    process: _Process
    links: dict[str, RayLink]

    def deliver(self, name: str, frames: list[bytes]) -> bool:
        link = self.links.get(name)
        if link is not None:
            self.process.loop.call_soon_threadsafe(link.deliver, frames)
        return link is not None


class _CoordinatorProcess(_Mailbox):
    """One shard's coordinator."""

    def __init__(self, configuration: Configuration, shard: int) -> None:
        self._configuration = configuration
        self._shard = shard
        self._path = socket_path(configuration.data, shard)
        self.links = {}
        self.process = _Process(self._main)
        self.process.start()

    async def _main(self) -> None:
        importable(self._configuration.folder)
        world = World.real(faults_from_environment())
        key = root_key(self._configuration.data)
        self._coordinator = make_coordinator(self._configuration, self._shard, key, world, self.process.fail)
        await self._coordinator.start()
        self._server = await listen(self._path, lambda link: self._coordinator)

    @ray.method(concurrency_group="control")
    def where(self) -> tuple[str, str, int]:
        """Node, socket and process id, once it has recovered. Raises what kept it from that."""
        self.process.ready.result(READY_SECONDS)
        return ray.get_runtime_context().get_node_id(), str(self._path), os.getpid()

    @ray.method(concurrency_group="control")
    def open(self, name: str, peer: ActorHandle) -> None:
        """Takes a link of a host on another node."""
        self.process.ready.result(READY_SECONDS)
        self.process.submit(self._open(name, peer)).result()

    async def _open(self, name: str, peer: ActorHandle) -> None:
        self.links[name] = RayLink(name, peer, _Forgetting(self._coordinator, self.links), self.process.loop)

    @ray.method(concurrency_group="mail")
    def receive(self, name: str, frames: list[bytes]) -> bool:
        return self.deliver(name, frames)

    @ray.method(concurrency_group="control")
    def ask(self, frame: bytes) -> bytes:
        """One question of a client on another node."""
        self.process.ready.result(READY_SECONDS)
        return self.process.submit(self._ask(frame)).result()

    async def _ask(self, frame: bytes) -> bytes:
        asked = _Asked(self.process.loop)
        self._coordinator.received(asked, decode(frame))
        return await asked.answer

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        self.process.submit(self._coordinator.stop()).result(READY_SECONDS)


class _HostProcess(_Mailbox):
    """One process with its agents."""

    def __init__(self, configuration: Configuration, host: str, namespace: str, keys: Mapping[AgentId, Key]) -> None:
        self._configuration = configuration
        self._keys = keys
        self._host = host
        self._namespace = namespace
        self.links = {}
        self.process = _Process(self._main)
        self.process.start()

    async def _main(self) -> None:
        importable(self._configuration.folder)
        world = World.real(faults_from_environment())
        node = ray.get_runtime_context().get_node_id()
        self._running = make_host(self._configuration, self._host, self._keys, world, self.process.fail, node)
        await self._running.start([self._dialer(shard) for shard in range(self._configuration.coordinator.shards)])

    def _dialer(self, shard: int) -> Callable[[Receiver], Coroutine[Any, Any, Link]]:
        async def to_coordinator(receiver: Receiver) -> Link:
            coordinator, node, path = await _find_coordinator(self._namespace, shard)
            if node == ray.get_runtime_context().get_node_id():
                return await dial(Path(path), receiver)
            return await self._open(coordinator, receiver)

        return to_coordinator

    async def _open(self, coordinator: ActorHandle, receiver: Receiver) -> Link:
        name = uuid.uuid4().hex
        link = RayLink(name, coordinator, _Forgetting(receiver, self.links), self.process.loop)
        self.links[name] = link
        await answer(coordinator.open.remote(name, ray.get_runtime_context().current_actor))
        return link

    @ray.method(concurrency_group="control")
    def where(self) -> tuple[str, int]:
        """Node and process id, once its agents are restored. Raises what kept them from that."""
        self.process.ready.result(READY_SECONDS)
        return ray.get_runtime_context().get_node_id(), os.getpid()

    @ray.method(concurrency_group="mail")
    def receive(self, name: str, frames: list[bytes]) -> bool:
        return self.deliver(name, frames)

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        self.process.submit(self._running.stop()).result(READY_SECONDS)


_untyped: Any = ray
_remote: Any = _untyped.remote(concurrency_groups=_GROUPS)
CoordinatorActor: Any = _remote(_CoordinatorProcess)
HostActor: Any = _remote(_HostProcess)


class _Forgetting:
    """Passes on what a link brings, and forgets the link when it closes."""

    def __init__(self, receiver: Receiver, links: dict[str, RayLink]) -> None:
        self._receiver = receiver
        self._links = links

    def received(self, link: Link, message: Any) -> None:
        self._receiver.received(link, message)

    def closed(self, link: Link, reason: str) -> None:
        self._links.pop(link.name, None)
        self._receiver.closed(link, reason)


class _Asked:
    """The coordinator's end of one question that came as an actor call."""

    name = "ask"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[bytes] = loop.create_future()

    def send(self, message: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(encode(message))

    def close(self, reason: str = "closed") -> None:
        if not self.answer.done():
            self.answer.set_exception(Unavailable(reason))


class _AskLink:
    """A client's end where there is no socket: each question is one actor call."""

    name = "ask"

    def __init__(self, coordinator: ActorHandle, receiver: Receiver) -> None:
        self._coordinator = coordinator
        self._receiver = receiver
        self._asking: set[asyncio.Task[None]] = set()

    def send(self, message: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(message))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, message: Request) -> None:
        try:
            frame = await answer(self._coordinator.ask.remote(encode(message)))
        except HanseError as error:
            self._receiver.closed(self, str(error))
        else:
            self._receiver.received(self, decode(frame))

    def close(self, reason: str = "closed") -> None:
        for task in list(self._asking):
            task.cancel()


def connect(namespace: str, shards: int, tenant: str, by: str) -> LinkClient:
    """A client of the federation in `namespace`, from any process that is connected to its Ray cluster."""
    return LinkClient([Shard(_client_dialer(namespace, i), 20.0) for i in range(shards)], Tenant(tenant), by)


def _client_dialer(namespace: str, shard: int) -> Callable[[Receiver], Coroutine[Any, Any, Link]]:
    async def to_coordinator(receiver: Receiver) -> Link:
        coordinator, node, path = await _find_coordinator(namespace, shard)
        if node == ray.get_runtime_context().get_node_id() and os.path.exists(path):
            return await dial(Path(path), receiver)
        return _AskLink(coordinator, receiver)

    return to_coordinator


async def _find_coordinator(namespace: str, shard: int) -> tuple[ActorHandle, str, str]:
    try:
        coordinator = ray.get_actor(coordinator_name(shard), namespace=namespace)
    except ValueError as error:
        raise Unavailable(f"there is no {coordinator_name(shard)} in {namespace}") from error
    node, path, _ = await answer(coordinator.where.remote())
    return coordinator, node, path


async def answer(reference: Any) -> Any:
    """The one border where Ray's errors become ours: whether the call ran is not known."""
    try:
        return await asyncio.wrap_future(reference.future())
    except RayError as error:
        raise _ours(error) from error


def _ours(error: RayError) -> HanseError:
    """What a handler of an actor raised, when it is ours; else that the actor could not answer, and why."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HanseError):
        return cause
    return Unavailable(f"{type(cause).__name__}: {cause}" if cause else str(error).splitlines()[0])
