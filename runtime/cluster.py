"""The Ray cluster under a federation: starts one on this machine or joins one, and puts the actors into it."""

import asyncio
import os
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private import ray_constants
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..contracts import Conflict, TimedOut, Unavailable
from ..contracts.ids import coordinator_name
from . import actors
from .assembly import agent_id, agent_keys, namespace_of
from .config import AgentEntry, Configuration
from .gateway import proxy
from .lean_ray import NotStarted, lean_node
from .parts import parts_of
from .placement import place
from .ray_link import answer
from .secret_key import root_key
from .store.place import place_of

STARTS = 3
"""So many attempts has a Ray cluster of one's own to start."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0
PLACEMENT = "placement.json"
HEAD = "node:__internal_head__"
"""What Ray calls a resource that only the head of a cluster has."""
PINCH = 0.0001
"""So much of a node's own resource is enough to be on that node."""
LOCAL_CPUS = 8
"""Logical CPUs of a local cluster. They only count reservations, and a small machine hosts many small actors."""


@dataclass(slots=True)
class Cluster:
    """A federation's actors in a Ray cluster."""

    configuration: Configuration
    owned: bool
    """Whether the Ray cluster was started for this federation, so that it ends with it."""
    coordinators: list[Any] = field(default_factory=list[Any])
    hosts: dict[str, Any] = field(default_factory=dict[str, Any])
    parts: dict[str, Any] = field(default_factory=dict[str, Any])
    """What nothing waits for: the model pool, the memory. They restore themselves while the federation works."""
    _absent: list[Any] = field(default_factory=list[Any])
    """Actors that never answered. They would not answer to a stop either."""

    @property
    def namespace(self) -> str:
        return namespace_of(self.configuration)

    def start(self, *, detached: bool = False) -> None:
        """Makes the actors, which then restore themselves side by side. The coordinators run on this node."""
        key = root_key(self.configuration.data)
        self.coordinators = _coordinators(self.configuration, detached)
        self.hosts = _hosts(self.configuration, key, detached)
        self.parts = _parts(self.configuration, detached)

    async def ready(self) -> None:
        """Returns when every actor has restored itself. Raises what keeps one from it; TimedOut when nobody says."""
        await asyncio.gather(*(self._ready(name, each) for name, each in self._named()))

    async def stop(self) -> None:
        """Hosts first, so that what they finish is still taken down; then the parts that they ask; then the
        coordinators; then Ray, if it is ours.
        """
        await _quietly(*(answer(each.stop) for each in self.hosts.values() if each not in self._absent))
        await _quietly(*(answer(each.stop) for each in self.parts.values()))
        await _quietly(*(answer(each.stop) for each in self.coordinators if each not in self._absent))
        for each in (*self.parts.values(), *(actor for _, actor in self._named())):
            ray.kill(each, no_restart=True)
        if self.owned:
            await asyncio.to_thread(ray.shutdown)
            proxy.discard(self.configuration.data)

    async def _ready(self, name: str, actor: Any) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await answer(actor.where)
        except TimeoutError:
            self._absent.append(actor)
            offered = resources_in_words(await asyncio.to_thread(ray.nodes))
            raise TimedOut(
                f"{name} has not started within {START_SECONDS:g} s. Either it takes so long to restore itself, or no "
                f"node has the resources that its agents ask for. {offered}"
            ) from None

    def _named(self) -> Iterator[tuple[str, Any]]:
        for shard, coordinator in enumerate(self.coordinators):
            yield f"coordinator {shard}", coordinator
        for host, actor in self.hosts.items():
            yield f"host {host}", actor


def join_ray(configuration: Configuration, address: str | None = None) -> bool:
    """Connects this process to the cluster at `address`, or starts one here. Blocks for seconds. True when started.
    Raises Unavailable when none answers there, or none starts here.

    A cluster started here answers on loopback only. Ray turns its token authentication on for it, with the token in
    `~/.ray/auth_token` that only this user can read, unless `RAY_AUTH_MODE` says otherwise; nothing is reported home.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # these workers are the service, not a batch job behind one
    arguments: dict[str, Any] = {"namespace": namespace_of(configuration), "logging_level": "ERROR"}
    if address is None:
        _stay_on_loopback()
        os.environ.update(proxy.environment(configuration.data))
        # "local", because without an address Ray would join whatever cluster somebody started on this machine.
        arguments |= {"address": "local", "num_cpus": LOCAL_CPUS, "include_dashboard": False, "log_to_driver": False}
        _start_ray(arguments)
    else:
        _connect_ray(arguments | {"address": address})
    return address is None


def _start_ray(arguments: dict[str, Any]) -> None:
    """Again when it did not start: what was too busy then, or still had Ray to read from its disk, is ready now."""
    for left in reversed(range(STARTS)):
        try:
            with lean_node():
                ray.init(**arguments)
            return
        except NotStarted as error:
            if not left:
                raise Unavailable(f"Ray did not start on this machine in {STARTS} attempts: {error}") from error


def _connect_ray(arguments: dict[str, Any]) -> None:
    try:
        ray.init(**arguments)
    except ConnectionError as error:
        raise Unavailable(f"no Ray cluster answers at {arguments['address']}: {error}") from error


def check_at_head() -> None:
    """The gateway's proxy and replicas live on the head, so from elsewhere it would be waited for in vain. Raises
    Conflict with the head's address on any other node.
    """
    here = ray.get_runtime_context().get_node_id()
    head = next((node for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    if head is not None and head["NodeID"] != here:
        address = head["NodeManagerAddress"]
        raise Conflict(f"the gateway is served at the cluster's head, {address}, and this is {_here()}: start it there")


async def check_prepared() -> None:
    """The proxy of each node is what that node's Ray was told at its start. Raises Conflict with the nodes that were
    told nothing while others were: Ray's own proxy there would open more than the gateway's port.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    told = dict(zip(nodes, await asyncio.gather(*(_told_of_proxy(node) for node in nodes)), strict=True))
    if any(told.values()) and (missing := sorted(nodes[node] for node, was in told.items() if not was)):
        raise Conflict(
            f"the gateway cannot be served on {', '.join(missing)}: start Ray there with what "
            "`python -m hanse.runtime.gateway.proxy DATA` prints in its environment"
        )


async def _told_of_proxy(node: str) -> bool:
    there: Any = ray.remote(num_cpus=0)(proxy.is_prepared)  # Ray's own types do not agree with one another
    return await there.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()


def _stay_on_loopback() -> None:
    """Ray's servers listen on loopback alone when that is the node's address, and it takes any hint of loopback for a
    mistake but this one, which it has for systems with a firewall that asks. It was read when Ray was imported.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def _coordinators(configuration: Configuration, detached: bool) -> list[Any]:
    namespace, here = namespace_of(configuration), {f"node:{_here()}": PINCH}
    return [
        actors.CoordinatorActor.options(
            **actors.options(coordinator_name(shard), namespace, detached=detached, resources=here)
        ).remote(configuration, shard)
        for shard in range(configuration.coordinator.shards)
    ]


def _hosts(configuration: Configuration, key: bytes, detached: bool) -> dict[str, Any]:
    namespace = namespace_of(configuration)
    return {
        host: actors.HostActor.options(
            **actors.options(actors.host_name(host), namespace, detached=detached, resources=resources)
        ).remote(configuration, host, namespace, agent_keys(configuration, host, key))
        for host, resources in _resources(configuration).items()
    }


def _parts(configuration: Configuration, detached: bool) -> dict[str, Any]:
    """On this node, where their stores lie; what keeps nothing is spread over the nodes when the stores are in a
    database."""
    namespace, here = namespace_of(configuration), {f"node:{_here()}": PINCH}
    anywhere = configuration.address is not None
    return {
        each.name: actors.PartActor.options(
            **actors.options(
                each.name, namespace, detached=detached, resources=None if each.roams and anywhere else here
            )
        ).remote(configuration, each.name, each.make)
        for each in parts_of(configuration)
    }


def resources_in_words(nodes: Iterable[Mapping[str, Any]]) -> str:
    """What each living node has to give, said here because a node of our own has no server that `ray status` asks.

    `nodes` as `ray.nodes()` describes them.
    """
    each = [f"{node['NodeManagerAddress']} has {_amounts(node['Resources'])}" for node in nodes if node["Alive"]]
    return f"Of the nodes, {'; '.join(sorted(each))}" if each else "No node is alive"


def _amounts(resources: Mapping[str, float]) -> str:
    """Without what stands for the node itself, and what Ray keeps for its own."""
    plain = {name: amount for name, amount in resources.items() if not name.startswith(("node:", "object_store"))}
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(plain.items())) or "nothing"


def find(configuration: Configuration) -> Cluster:
    """The running actors of a federation. Raises Unavailable when they are not there."""
    namespace = namespace_of(configuration)
    try:
        return Cluster(
            configuration,
            False,
            [ray.get_actor(coordinator_name(shard), namespace) for shard in range(configuration.coordinator.shards)],
            {host: ray.get_actor(actors.host_name(host), namespace) for host in configuration.hosts},
            {each.name: ray.get_actor(each.name, namespace) for each in parts_of(configuration)},
        )
    except ValueError as error:
        raise Unavailable(f"{configuration.federation.name} does not run in this cluster") from error


def _resources(configuration: Configuration) -> dict[str, dict[str, float]]:
    """What each host asks of its node: what its agents say, else to be the node that it was given. With stores in a
    database it may be any node, and another one when that is lost.
    """
    asked = {host: _added_up(entries) for host, entries in configuration.hosts.items()}
    if configuration.address is not None:
        return asked
    free = [host for host, resources in asked.items() if not resources]
    nodes = sorted({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]})
    if len(nodes) > 1 or (configuration.data / PLACEMENT).exists():
        placed = place(free, nodes, _here(), _at_home(configuration), configuration.data / PLACEMENT)
    else:
        placed = dict.fromkeys(free, _here())
    return asked | {host: {f"node:{placed[host]}": PINCH} for host in free}


def _at_home(configuration: Configuration) -> set[str]:
    """Hosts with an agent whose store lies on this node already."""
    there = set(place_of(configuration.data).names())
    return {
        host
        for host, entries in configuration.hosts.items()
        if any(f"agents/{agent_id(entry)}" in there for entry in entries)
    }


def _added_up(entries: tuple[AgentEntry, ...]) -> dict[str, float]:
    total: dict[str, float] = {}
    for entry in entries:
        for name, amount in entry.resources.items():
            total[name] = total.get(name, 0) + amount
    return total


def _here() -> str:
    return ray.util.get_node_ip_address()


async def _quietly(*work: Awaitable[Any]) -> None:
    """What does not end in time is not waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*work, return_exceptions=True)
