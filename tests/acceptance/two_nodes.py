"""Tests on two Ray nodes, each with an address and a home folder of its own. Run by `test_two_nodes.py` in a process of
their own, because a process talks to one cluster at a time.

The coordinator lives on the near node. Homes differ as disks do: what an agent on the far node keeps, it keeps there.
Faults F1, F2, F10; invariants I1, I2, I3, I7, I10, I11, I13.
"""

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from hanse import Federation
from hanse.contracts import Conflict, Kind, Submission, TaskStatus, TimedOut
from hanse.runtime import actors, cluster
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Task
from hanse.runtime.gateway import proxy
from hanse.runtime.lean_ray import lean_node
from hanse.runtime.store.place import ADDRESS

from ..support.postgres import Server
from . import outside
from .bank import Ledger, Porter
from .gate import Gate

NEAR, FAR = "127.0.1.1", "127.0.1.2"
CARRY_AND_DEPOSIT: dict[str, Any] = {
    "steps": [
        {"id": "carry", "call": "porter.carry", "input": {"account": "a", "cents": 5}},
        {"id": "deposit", "call": "ledger.deposit", "input": {"account": "a", "cents": {"$from": "carry.cents"}}},
    ],
    "output": [{"$from": "carry.cents"}, {"$from": "deposit.cents"}],
}
_SIZE = {"num_cpus": 8, "include_dashboard": False}
_numbers = count(1)


class Nodes:
    """The two nodes."""

    def __init__(self, folder: Path) -> None:
        self.homes = {NEAR: Path.home(), FAR: folder}
        self._sessions = tempfile.mkdtemp(prefix="ray-")  # not below pytest's: sockets have short paths
        told = {"env_vars": proxy.environment(folder)}  # the near one alone
        head = {"node_ip_address": NEAR, "resources": {"near": 1, "any": 1}, "temp_dir": self._sessions, **told}
        with lean_node():
            self.cluster = Cluster(initialize_head=True, head_node_args={**head, **_SIZE})
        self.add_far()

    def add_far(self) -> None:
        home = {"HOME": str(self.homes[FAR])}
        room: dict[str, float] = {"far": 1, "any": 1}
        with lean_node():
            self._far = self.cluster.add_node(node_ip_address=FAR, resources=room, env_vars=home, **_SIZE)

    def remove_far(self) -> None:
        """As a power cut would."""
        self.cluster.remove_node(self._far, allow_graceful=False)

    def end(self) -> None:
        self.cluster.shutdown()
        shutil.rmtree(self._sessions, ignore_errors=True)
        proxy.discard(self.homes[FAR])


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("far"))
    ray.init(address=nodes.cluster.address, logging_level=logging.ERROR, log_to_driver=False, _node_ip_address=NEAR)
    yield nodes
    ray.shutdown()
    nodes.end()


@pytest.fixture
def name(nodes: Nodes) -> str:
    return f"bank{next(_numbers)}"


@asynccontextmanager
async def bank(
    name: str, *, ledger: Any = "far", porter: Any = "near", **sections: Any
) -> AsyncIterator[tuple[Federation, Gate]]:
    """A bank with each agent where there is the resource of that name, or where it is put."""
    async with Gate() as gate:
        entries = [entry(Ledger, ledger), entry(Porter, porter, gate=gate.port)]
        async with Federation.local(entries, data=f"~/{name}", federation={"name": name}, **sections) as federation:
            yield federation, gate


def entry(agent: type, resource: str | None, **options: Any) -> AgentEntry:
    resources = {resource: 0.01} if resource else {}
    return AgentEntry.model_validate({"class": agent, "resources": resources, "options": options})


async def nodes_of(federation: Federation) -> dict[str, str]:
    """By agent, the address of its node."""
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return {agent.id: addresses[agent.node] for agent in await federation.client.agents()}


def check(name: str, nodes: Nodes, tasks: Iterable[Task]) -> None:
    """From outside, with what lies on both disks."""
    near, far = (home / name for home in nodes.homes.values())
    elsewhere = () if (near / ADDRESS).exists() else (far,)  # a database is the same one from everywhere
    outside.check_receipts(near, outside.check_journal(near, [task.id for task in tasks]), *elsewhere)


async def test_agents_on_two_nodes_do_one_plan(name: str, nodes: Nodes) -> None:
    async with bank(name) as (federation, gate):
        assert await nodes_of(federation) == {"ledger": FAR, "porter": NEAR}
        task = await federation.submit(plan=CARRY_AND_DEPOSIT)
        (await gate.visitor()).let_in()
        assert await task.result(60) == [5, 5]
        many = [await deposit(federation) for _ in range(200)]
        assert sorted([(await each.result(60))["cents"] for each in many]) == list(range(6, 206))
    check(name, nodes, [task, *many])
    assert (nodes.homes[FAR] / name / "agents" / "ledger.sqlite").exists()
    assert not (nodes.homes[NEAR] / name / "agents" / "ledger.sqlite").exists()


async def deposit(federation: Federation) -> Task:
    return await federation.submit(call="ledger.deposit", input={"account": "a", "cents": 1})


async def test_a_client_on_the_other_node_sees_the_same_federation(name: str, nodes: Nodes) -> None:
    async with bank(name) as (federation, _):
        node, output, kinds, refused = await seen_from_far.remote(f"hanse-{name}")
        assert (node, output, refused) == (FAR, {"cents": 5}, "refused")
        assert (kinds[0], kinds[-1]) == (Kind.TASK_SUBMITTED, Kind.TASK_COMPLETED)
        assert await federation.call("ledger.balance", {"account": "a"}) == {"cents": 5}


@ray.remote(num_cpus=0, resources={"far": 0.01})
def seen_from_far(namespace: str) -> tuple[str, Any, list[str], str]:
    return asyncio.run(_used_from_far(namespace))


async def _used_from_far(namespace: str) -> tuple[str, Any, list[str], str]:
    """Every way to ask, with more questions waiting than there are threads."""
    client = actors.connect(namespace, 1, "default", "somebody on the far node")
    deposit = await client.submit(Submission(call="ledger.deposit", input={"account": "a", "cents": 5}))
    views = await asyncio.gather(*(client.wait(deposit.id, 60) for _ in range(50)))
    listening = [asyncio.create_task(client.events(after=10_000, wait_seconds=30)) for _ in range(50)]
    events = await client.events(deposit.id)
    withdrawal = await client.submit(Submission(call="ledger.withdraw", input={"account": "a", "cents": 6}))
    refused = (await client.wait(withdrawal.id, 60)).error
    for each in listening:
        each.cancel()
    await client.close()
    assert refused
    return ray.util.get_node_ip_address(), views[0].output, [str(event.kind) for event in events], refused.code


async def test_an_agent_on_the_far_node_that_is_killed_comes_back(name: str, nodes: Nodes) -> None:
    async with bank(name, ledger="near", porter="far") as (federation, gate):
        task = await federation.submit(plan=CARRY_AND_DEPOSIT)
        visitor = await gate.visitor()
        os.kill(visitor.pid, signal.SIGKILL)
        (await gate.visitor()).let_in()
        assert await task.result(60) == [5, 5]
        kinds = [event.kind async for event in task.events()]
    assert kinds.count(Kind.STEP_INTERRUPTED) == 1
    check(name, nodes, [task])


async def test_agents_on_both_nodes_find_a_coordinator_that_was_killed(name: str, nodes: Nodes) -> None:
    async with bank(name, ledger="near", porter="far") as (federation, gate):
        task = await federation.submit(plan=CARRY_AND_DEPOSIT)
        visitor = await gate.visitor()
        os.kill((await federation.client.status()).coordinators[0], signal.SIGKILL)
        visitor.let_in()
        assert await task.result(60) == [5, 5]
    check(name, nodes, [task])
    assert outside.epochs(outside.events(nodes.homes[NEAR] / name)) == [1, 2]


async def test_a_task_waits_for_a_node_that_was_lost(name: str, nodes: Nodes) -> None:
    async with bank(name, ledger="near", porter="far") as (federation, gate):
        task = await federation.submit(plan=CARRY_AND_DEPOSIT)
        visitor = await gate.visitor()
        nodes.remove_far()
        await visitor.left()
        await happened(task, Kind.STEP_INTERRUPTED)
        assert (await federation.call("ledger.deposit", {"account": "b", "cents": 5})) == {"cents": 5}
        assert (await task.view()).status is TaskStatus.WORKING
        nodes.add_far()
        (await gate.visitor()).let_in()
        assert await task.result(60) == [5, 5]
        assert await nodes_of(federation) == {"ledger": NEAR, "porter": FAR}
    check(name, nodes, [task])


async def happened(task: Task, kind: Kind) -> None:
    async for event in task.events():
        if event.kind is kind:
            return


async def have_left(federation: Federation, agents: set[str]) -> None:
    """Processes outlive their node for a moment, and work on."""
    seen = 0
    while agents:
        for event in await federation.client.events(after=seen, wait_seconds=30):
            seen = event.sequence
            if event.kind is Kind.AGENT_LEFT:
                agents.discard(event.data["agent"])


async def test_agents_that_ask_for_nothing_are_spread_and_stay_where_their_state_is(name: str, nodes: Nodes) -> None:
    async with bank(name, ledger=None, porter=None) as (federation, _):
        places = await nodes_of(federation)
        assert set(places.values()) == {NEAR, FAR}
        await (await deposit(federation)).result(60)
    async with bank(name, ledger=None, porter=None) as (federation, _):
        assert await nodes_of(federation) == places
        assert await federation.call("ledger.balance", {"account": "a"}) == {"cents": 1}


@ray.remote(num_cpus=0, resources={"near": 0.01, "any": 1})
class Furniture:
    """Fills the near node, so that agents that could be anywhere begin on the far one."""

    def stands(self) -> bool:
        return True


async def test_with_stores_in_a_database_agents_of_a_lost_node_go_on_elsewhere(
    name: str, nodes: Nodes, server: Server
) -> None:
    furniture: Any = Furniture.remote()  # Ray's own types do not agree with one another
    await furniture.stands.remote()
    async with bank(name, ledger="any", porter="any", store={"url": server.url}) as (federation, gate):
        ray.kill(furniture)
        assert await nodes_of(federation) == {"ledger": FAR, "porter": FAR}
        first = await deposit(federation)
        await first.result(60)
        task = await federation.submit(plan=CARRY_AND_DEPOSIT)
        await gate.visitor()
        nodes.remove_far()
        try:
            await have_left(federation, {"ledger", "porter"})
            (await gate.visitor()).let_in()
            assert await task.result(60) == [5, 6]
            assert await nodes_of(federation) == {"ledger": NEAR, "porter": NEAR}
        finally:
            nodes.add_far()
    check(name, nodes, [first, task])


async def test_a_gateway_is_refused_on_a_node_that_is_not_the_head(name: str, nodes: Nodes) -> None:
    refused = await started_from_far.remote(name, "head")
    assert refused == f"the gateway is served at the cluster's head, {NEAR}, and this is {FAR}: start it there"


async def test_a_gateway_on_every_node_is_refused_where_the_proxy_of_one_would_be_rays_own(
    name: str, nodes: Nodes
) -> None:
    refused = await started_from_far.remote(name, "every")
    assert refused.startswith(f"the gateway cannot be served on {FAR}: start Ray there with")


@ray.remote(num_cpus=0, resources={"far": 0.01})
def started_from_far(name: str, nodes: str) -> str:
    return asyncio.run(_started_from_far(name, nodes))


async def _started_from_far(name: str, nodes: str) -> str:
    sections: dict[str, Any] = {
        "federation": {"name": name},
        "gateway": {"port": 0, "open_on_loopback": True, "nodes": nodes},
    }
    with pytest.raises(Conflict) as refused:
        async with Federation.local([Ledger], data=f"~/{name}", http=True, **sections):
            pytest.fail("it started")
    return refused.value.detail


async def test_an_agent_that_no_node_can_take_is_named(
    name: str, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "START_SECONDS", 5)
    with pytest.raises(TimedOut, match=r"host Ledger-0 has not started within 5 s.*no node"):
        async with bank(name, ledger="moon"):
            pytest.fail("it started")
