"""Kills a real process at the points that only those come by who die, step in or ask for more: a step whose agent died,
one that waits for a person, or cannot be undone; child tasks, forks, votes and changed inputs; an agent that comes
back, and an effect in doubt that is being cleared up. All in one town, one death after the other; at the end it is
looked at from outside.

Faults F1, F2, F6; invariants I1, I2, I3, I5, I7, I10, I13. Each case proves that its crash really happened.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hanse import Federation
from hanse.agents import faults as agent_faults
from hanse.contracts import ApprovalStatus, ApprovalView, Fork, Kind, StepStatus, TaskStatus, TaskView
from hanse.runtime import actors, faults
from hanse.runtime.client import LinkClient
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Task
from hanse.runtime.runfile import process_started
from hanse.runtime.world import ORDERS_VARIABLE

from . import outside
from .bank import Porter
from .gate import Gate
from .town import Crier, Messenger, Notary, Square, Vault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

NAME = "rare"
RULES: list[dict[str, Any]] = [
    {"capability": "vault.put", "above": {"field": "number", "limit": 100}, "quorum": 2, "approvers": ["ann", "bob"]},
    {"capability": "vault.take_back", "approvers": ["ann"], "escalate_after_seconds": 0.2, "escalate_to": ["boss"]},
]
CHAIN: dict[str, Any] = {
    "steps": [
        {"id": "first", "call": "vault.put", "input": {"name": "chain", "number": 1}},
        {"id": "last", "call": "vault.put", "input": {"name": "chain", "number": 10}, "after": ["first"]},
    ]
}
STUCK: dict[str, Any] = {
    "steps": [
        {"id": "draft", "call": "notary.draft", "input": {"name": "will", "number": 1}},
        {"id": "no", "call": "vault.refuse", "input": {"name": "will", "number": 1}, "after": ["draft"]},
    ]
}


@dataclass
class Town:
    """A federation that lives on while its processes die by order, and what a client was told of it."""

    federation: Federation
    gate: Gate
    data: Path
    orders: Path
    people: dict[str, LinkClient]
    stack: AsyncExitStack
    told: dict[str, TaskView] = field(default_factory=dict[str, TaskView])
    states: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def square(self) -> Path:
        return self.data / "square"

    @property
    def seal(self) -> Path:
        return self.data / "seal"

    def order(self, point: str) -> None:
        """Whoever comes by this point next dies there."""
        (self.orders / point).touch()

    async def died(self, point: str) -> int:
        """The process that carried out the order."""
        async with asyncio.timeout(60):
            while not (found := list(self.orders.glob(f"{point}.[0-9]*"))):  # noqa: ASYNC110 - the dead tell nobody
                await asyncio.sleep(0.01)
        return int(found[0].name.rpartition(".")[2])

    async def pids(self) -> set[int]:
        """Every process of the town, when all are here."""
        assert await self.people["ann"].gather(60) == []
        agents = {agent.pid for agent in await self.people["ann"].agents()}
        return agents | {*(await self.people["ann"].status()).coordinators}

    async def submit(self, call: str, **input: Any) -> Task:
        return await self.federation.submit(call=call, input=input)

    async def asked(self, task: Task) -> ApprovalView:
        assert (await self.people["ann"].wait(task.id, 60)).status is TaskStatus.INPUT_REQUIRED
        return next(each for each in await self.people["ann"].approvals() if each.task == task.id)

    async def ended(self, task: Task, status: TaskStatus = TaskStatus.COMPLETED) -> Any:
        """The task's output, once it has ended so. What was said of it is compared with its journal in the end."""
        view = await task.wait(60)
        assert view.status is status, view
        await self.keep(task.id)
        return view.output

    async def keep(self, task: str) -> None:
        self.told[task] = await self.federation.client.task(task)
        self.states[task] = (await self.federation.client.replay(task)).state


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("rare")
    (orders := data / "orders").mkdir()
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(ORDERS_VARIABLE, str(orders))
        gate = await stack.enter_async_context(Gate())
        inner = await stack.enter_async_context(AsyncExitStack())
        federation = await inner.enter_async_context(_federation(data, gate))
        people = {who: actors.connect(f"hanse-{NAME}", 1, "default", who) for who in ("ann", "bob", "boss")}
        for each in people.values():
            inner.push_async_callback(each.close)
        yield Town(federation, gate, data, orders, people, inner)


def _federation(data: Path, gate: Gate) -> Federation:
    options = {Porter: {"gate": gate.port}, Notary: {"seal": str(data / "seal")}}
    hosts = {Vault: "hall", Notary: "hall", Messenger: "hall", Crier: "square", Porter: "gate"}
    square = {"file": str(data / "square"), "settle_seconds": 0}
    return Federation.local(
        agents=[
            AgentEntry(**{"class": agent, "host": host, "options": options.get(agent, {})})
            for agent, host in hosts.items()
        ],
        data=data,
        federation={"name": NAME},
        connectors={"square": {"kind": "class", "class": f"{Square.__module__}:Square", "options": square}},
        approvals=RULES,
    )


@asynccontextmanager
async def open_gate(gate: Gate) -> AsyncIterator[None]:
    """Whoever comes is let in."""

    async def let_in() -> None:
        with suppress(TimeoutError):
            while True:
                (await gate.visitor()).let_in()

    opening = asyncio.create_task(let_in())
    yield
    opening.cancel()


async def a_carrier_dies(town: Town) -> None:
    """Its step is interrupted, it leaves, comes back, and the step it died of is suspect."""
    task = await town.submit("porter.carry", account="a", cents=5)
    before = (await town.federation.call("porter.carried", {"account": "a"}))["cents"]
    os.kill((await town.gate.visitor()).pid, signal.SIGKILL)
    async with open_gate(town.gate):
        assert await town.ended(task) == {"cents": before + 5}


async def a_person_brings_the_seal(town: Town) -> None:
    """A step is held until somebody says: again."""
    town.seal.unlink(missing_ok=True)
    task = await town.submit("notary.sign", name="paper", number=1)
    assert [held.why for held in (await town.people["ann"].wait(task.id, 60)).held] == ["person_needed"]
    town.seal.touch()
    await town.people["ann"].resume(task.id, "again")
    assert await town.ended(task) == {"name": "paper", "number": 1}


async def nobody_can_undo_a_draft(town: Town) -> None:
    """The task is held with what still stands, until somebody has brought the seal."""
    town.seal.unlink(missing_ok=True)
    task = await town.federation.submit(plan=STUCK)
    assert [held.why for held in (await town.people["ann"].wait(task.id, 60)).held] == ["compensation_failed"]
    town.seal.touch()
    await town.people["ann"].resume(task.id, "again")
    await town.ended(task, TaskStatus.FAILED)
    draft = (await task.steps())[0]
    assert draft.status is StepStatus.COMPENSATED


async def a_messenger_asks_the_vault(town: Town) -> None:
    task = await town.submit("messenger.bring", name="child", number=1)
    await town.ended(task)
    events = await town.federation.client.events(task.id)
    children = [event.data["child"] for event in events if event.kind is Kind.STEP_DELEGATED]
    assert len(children) == 1, "a second child for the same question"
    await town.keep(children[0])


async def a_task_is_forked(town: Town) -> None:
    first = await town.federation.submit(plan=CHAIN)
    await town.ended(first)
    view = await town.federation.client.fork(first.id, Fork(step="last", idempotency_key=first.id))
    forked = await town.federation.task(view.id)
    await town.ended(forked)
    assert [step.status for step in await forked.steps()] == [StepStatus.COMPLETED] * 2


async def two_say_yes(town: Town) -> None:
    task = await town.submit("vault.put", name="votes", number=101)
    question = await town.asked(task)
    for who in ("ann", "bob"):
        await town.people[who].decide(question.id, approve=True, digest=question.digest)
    assert (await town.ended(task))["number"] == 101


async def the_first_of_two_says_another_number(town: Town) -> None:
    task = await town.submit("vault.put", name="edits", number=1000)
    question = await town.asked(task)
    changed = {"name": "edits", "number": 102}
    edited = await town.people["ann"].decide(question.id, approve=True, digest=question.digest, input=changed)
    await town.people["bob"].decide(question.id, approve=True, digest=edited.digest)
    assert (await town.ended(task))["number"] == 102


async def nobody_answers_but_the_boss(town: Town) -> None:
    task = await town.submit("vault.take_back", name="boss", number=1)
    question = await town.asked(task)
    async for event in task.events():
        if event.kind is Kind.APPROVAL_ESCALATED:
            break
    decided = await town.people["boss"].decide(question.id, approve=True, digest=question.digest)
    assert decided.decision is ApprovalStatus.APPROVED
    assert (await town.ended(task))["number"] == 1


async def a_crier_dies_after_his_cry(town: Town) -> None:
    """What became of it is asked of the outside when he comes back."""
    town.order(agent_faults.AFTER_DO)
    task = await town.submit("crier.cry", words="hear ye")
    assert await town.ended(task) == {"words": "hear ye"}
    for each in town.orders.glob(f"{agent_faults.AFTER_DO}.*"):
        each.unlink()


STORIES: dict[Kind | str, Callable[[Town], Awaitable[None]]] = {
    **dict.fromkeys((Kind.AGENT_LEFT, Kind.AGENT_JOINED), a_carrier_dies),
    **dict.fromkeys((Kind.STEP_INTERRUPTED, Kind.STEP_SUSPECTED), a_carrier_dies),
    **dict.fromkeys((Kind.STEP_HELD, Kind.STEP_RESUMED), a_person_brings_the_seal),
    **dict.fromkeys((f"undo.{Kind.STEP_HELD}", f"undo.{Kind.STEP_RESUMED}"), nobody_can_undo_a_draft),
    **dict.fromkeys((Kind.STEP_DELEGATED, Kind.STEP_RETURNED), a_messenger_asks_the_vault),
    Kind.STEP_INHERITED: a_task_is_forked,
    Kind.APPROVAL_VOTED: two_say_yes,
    Kind.APPROVAL_EDITED: the_first_of_two_says_another_number,
    Kind.APPROVAL_ESCALATED: nobody_answers_but_the_boss,
    agent_faults.STARTING: a_carrier_dies,
    **dict.fromkeys((agent_faults.RECONCILING, agent_faults.RECONCILED), a_crier_dies_after_his_cry),
}
"""Who comes by a point, by the event or the agent's point."""


@pytest.mark.parametrize("point", [*faults.RARE_POINTS, *agent_faults.RECOVERY_POINTS])
async def test_a_crash_at_a_rare_point_loses_nothing(point: str, town: Town) -> None:
    there = await town.pids()
    town.order(point)
    await STORIES[point.removeprefix("coordinator.before.").removeprefix("coordinator.after.")](town)
    victim = await town.died(point)
    assert process_started(victim) is None
    assert (victim in there) == point.startswith("coordinator."), "an agent dies again while it comes back"


async def test_and_nothing_was_lost_or_doubled(town: Town) -> None:
    """From outside, when all is over."""
    await town.stack.aclose()
    told = outside.check_journal(town.data, town.told)
    outside.check_effects(town.square, told, "crier.cry")
    outside.check_receipts(town.data, told)
    outside.check_replay(told, town.told)
    outside.check_states(town.data, town.states)
