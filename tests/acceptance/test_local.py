"""`Federation.local` on real Ray: the example of the design page, and what becomes of a federation that is stopped,
started twice, mistaken, or loses a process.

Faults F1, F2, F6, F8, F9, F12, F29; invariants I1, I2, I3, I4, I7, I10, I13.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import ray

from hanse import Federation
from hanse.contracts import (
    Canceled,
    Conflict,
    Fenced,
    HanseError,
    Kind,
    NotFound,
    Refusal,
    TaskStatus,
)
from hanse.contracts.ids import TaskId, shard_of
from hanse.runtime.assembly import World, make_coordinator
from hanse.runtime.config import AgentEntry, Configuration
from hanse.runtime.federation import Task
from hanse.runtime.runfile import process_started
from hanse.runtime.secret_key import root_key

from . import outside
from .bank import Broken, Late, Ledger, Lender, Porter, Sick
from .gate import Gate
from .town import Square, heard_keys

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

TRANSFER: dict[str, Any] = {
    "steps": [
        {"id": "take", "call": "ledger.withdraw", "input": {"account": "a", "cents": 2}},
        {"id": "give", "call": "ledger.deposit", "input": {"account": "b", "cents": 2}, "after": ["take"]},
    ],
    "output": {"left": {"$from": "take.cents"}, "now": {"$from": "give.cents"}},
}


def bank(name: str, data: Path, agents: Any = (Ledger,), **sections: Any) -> Federation:
    return Federation.local(agents=agents, data=data, federation={"name": name}, **sections)


@asynccontextmanager
async def gated(name: str, data: Path, **sections: Any) -> AsyncIterator[tuple[Federation, Gate]]:
    """A bank whose porter waits at the gate."""
    async with Gate() as gate:
        porter = AgentEntry.model_validate({"class": Porter, "options": {"gate": gate.port}})
        async with bank(name, data, [Ledger, porter], **sections) as federation:
            yield federation, gate


async def balance(federation: Federation, account: str) -> int:
    return (await federation.call("ledger.balance", {"account": account}))["cents"]


async def happening(federation: Federation, kind: Kind, after: int = 0) -> int:
    """Returns when an event of this kind has happened, with its sequence."""
    while True:
        for event in await federation.client.events(after=after, wait_seconds=30):
            after = event.sequence
            if event.kind is kind:
                return after


async def test_the_example_of_the_design_page(name: str, tmp_path: Path) -> None:
    async with bank(name, tmp_path) as federation:
        assert await federation.call("ledger.deposit", {"account": "a", "cents": 5}) == {"cents": 5}
        order = {"plan": TRANSFER, "idempotency_key": "order-17", "budget": {"cents": 50}, "deadline_seconds": 60}
        task = await federation.submit(**order)
        told = [event.kind async for event in task.events()]
        assert (told[0], told[-1]) == (Kind.TASK_SUBMITTED, Kind.TASK_COMPLETED)
        assert told.count(Kind.STEP_COMPLETED) == 2
        assert await task.result() == {"left": 3, "now": 2}
        assert (await task.view()).cost_cents == 2
        assert (await federation.submit(**order)).id == task.id
        with pytest.raises(Refusal, match="has only 3 cents"):
            await federation.call("ledger.withdraw", {"account": "a", "cents": 4})
        assert await balance(federation, "a") == 3
    outside.check_journal(tmp_path, [task.id])


async def test_a_canceled_task_stops_what_runs_and_takes_back_what_ran(name: str, tmp_path: Path) -> None:
    plan = {
        "steps": [
            {"id": "give", "call": "ledger.deposit", "input": {"account": "a", "cents": 5}},
            {"id": "carry", "call": "porter.carry", "input": {"account": "a", "cents": 5}, "after": ["give"]},
        ]
    }
    async with gated(name, tmp_path) as (federation, gate):
        task = await federation.submit(plan=plan)
        visitor = await gate.visitor()
        await task.cancel("changed my mind")
        await visitor.left()
        with pytest.raises(Canceled):
            await task.result(30)
        assert (await task.view()).status is TaskStatus.CANCELED
        assert await balance(federation, "a") == 0
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, [task.id]))


async def test_a_federation_started_again_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    rules = [{"capability": "ledger.withdraw"}]
    async with bank(name, tmp_path, approvals=rules) as federation:
        await federation.call("ledger.deposit", {"account": "a", "cents": 5})
        task = await federation.submit(plan=TRANSFER, idempotency_key="transfer")
        await asked(federation, task)
    async with bank(name, tmp_path, approvals=rules) as federation:
        assert (await federation.task(task.id)).id == (
            await federation.submit(plan=TRANSFER, idempotency_key="transfer")
        ).id
        assert await balance(federation, "a") == 5
        task = await federation.task(task.id)
        question = await asked(federation, task)
        await federation.client.decide(question.id, approve=True, digest=question.digest)
        assert await task.result(30) == {"left": 3, "now": 2}
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, [task.id]))


async def asked(federation: Federation, task: Task) -> Any:
    assert (await federation.client.wait(task.id, 30)).status is TaskStatus.INPUT_REQUIRED
    (question,) = await federation.client.approvals()
    return question


async def test_a_second_federation_on_the_same_data_is_refused_and_the_first_goes_on(name: str, tmp_path: Path) -> None:
    async with bank(name, tmp_path) as federation:
        with pytest.raises(Conflict, match=rf"process {os.getpid()}\) works on this data"):
            async with bank(f"{name}-again", tmp_path):
                pytest.fail("it started")
        assert actors_of(f"{name}-again") == []
        assert await federation.call("ledger.deposit", {"account": "a", "cents": 5}) == {"cents": 5}
    async with bank(f"{name}-again", tmp_path) as federation:
        assert await balance(federation, "a") == 5


@pytest.mark.parametrize(
    ("agent", "words"),
    [(Sick, "the strongroom is locked"), (Broken, "cannot start: ValueError: no such strongroom")],
)
async def test_an_agent_that_cannot_start_says_why_and_nothing_is_left(
    agent: type, words: str, name: str, tmp_path: Path
) -> None:
    with pytest.raises(HanseError, match=words) as refused:
        async with bank(name, tmp_path, [Ledger, agent]):
            pytest.fail("it started")
    assert refused.value.ids["agent"] == agent.domain
    await nobody_left(name)
    async with bank(name, tmp_path) as federation:
        assert await federation.call("ledger.deposit", {"account": "a", "cents": 5}) == {"cents": 5}


async def nobody_left(name: str) -> None:
    """Ray forgets the name of an actor a moment after it has killed it."""
    async with asyncio.timeout(20):
        while actors_of(name):  # noqa: ASYNC110 - Ray tells nobody
            await asyncio.sleep(0.05)


async def test_an_agent_that_cannot_start_again_tries_until_it_can(name: str, tmp_path: Path) -> None:
    async with Gate() as gate:
        entry = AgentEntry.model_validate({"class": Late, "options": {"gate": gate.port}})
        starting = asyncio.create_task(bank(name, tmp_path, [entry]).__aenter__())
        first = await gate.visitor()
        first.let_in()
        federation = await starting
        try:
            os.kill(first.pid, signal.SIGKILL)
            second = await gate.visitor()
            second.send_away()
            third = await gate.visitor()
            third.let_in()
            assert await federation.call("late.carried", {"account": "a"}, timeout_seconds=60) == {"cents": 0}
            assert len({first.pid, second.pid, third.pid}) == 3
        finally:
            await federation.__aexit__(None, None, None)


def actors_of(name: str) -> list[str]:
    """The named actors that a federation has in the cluster."""
    named: Any = ray.util.list_named_actors(all_namespaces=True)
    return [each["name"] for each in named if each["namespace"] == f"hanse-{name}"]


async def test_agents_may_share_a_process(name: str, tmp_path: Path) -> None:
    entries = [
        AgentEntry.model_validate({"class": Ledger, "name": number, "host": host})
        for number, host in (("first", "shared"), ("second", "shared"), ("third", None))
    ]
    async with bank(name, tmp_path, entries) as federation:
        pids = {agent.id: agent.pid for agent in await federation.client.agents()}
        assert pids["first"] == pids["second"] != pids["third"]
        assert os.getpid() not in pids.values()
        assert await federation.call("ledger.deposit", {"account": "a", "cents": 5}) == {"cents": 5}


async def test_two_shards_share_the_tasks_and_one_may_die(name: str, tmp_path: Path) -> None:
    async with bank(name, tmp_path, coordinator={"shards": 2}) as federation:
        tasks = [await deposit(federation, number) for number in range(20)]
        await asyncio.gather(*(task.result(60) for task in tasks))
        assert {shard_of(TaskId(task.id)) for task in tasks} == {0, 1}
        first, second = (await federation.client.status()).coordinators
        assert first != second
        os.kill(second, signal.SIGKILL)
        more = await asyncio.gather(*(deposit(federation, number) for number in range(20, 40)))
        await asyncio.gather(*(task.result(60) for task in more))
        assert [(await deposit(federation, number)).id for number in range(40)] == [task.id for task in [*tasks, *more]]
        assert await balance(federation, "a") == 40
        assert len(await federation.client.tasks(limit=1000)) == 41
        assert (await federation.client.verify()).ok
        ids = [task.id for task in [*tasks, *more]]
        with pytest.raises(NotFound):
            await federation.task(ids[0].replace("-7000-", "-7002-").replace("-7001-", "-7002-"))
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, ids))
    epochs = [outside.epochs(outside.events(tmp_path, shard)) for shard in (0, 1)]
    assert epochs == [[1], [1, 2]], "one coordinator died, once"


async def deposit(federation: Federation, number: int) -> Task:
    return await federation.submit(
        call="ledger.deposit", input={"account": "a", "cents": 1}, idempotency_key=f"deposit {number}"
    )


async def test_an_agent_killed_while_its_call_runs_does_it_once(name: str, tmp_path: Path) -> None:
    async with gated(name, tmp_path) as (federation, gate):
        task = await federation.submit(call="porter.carry", input={"account": "a", "cents": 5})
        visitor = await gate.visitor()
        os.kill(visitor.pid, signal.SIGKILL)
        await visitor.left()
        again = await gate.visitor()
        assert again.pid != visitor.pid
        again.let_in()
        assert await task.result(60) == {"cents": 5}
        assert await federation.call("porter.carried", {"account": "a"}) == {"cents": 5}
        kinds = [event.kind async for event in task.events()]
    assert kinds.count(Kind.STEP_INTERRUPTED) == kinds.count(Kind.STEP_AWARDED) == 1
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, [task.id]))


async def test_an_agent_killed_while_it_undoes_a_step_undoes_it_once(name: str, tmp_path: Path) -> None:
    """F6, I4: the outside has heard of it, the agent's own state does not know yet, and there the process dies."""
    square = tmp_path / "square"
    options = {"file": str(square), "settle_seconds": 0}
    connectors = {"square": {"kind": "class", "class": f"{Square.__module__}:Square", "options": options}}
    plan = {
        "steps": [
            {"id": "one", "call": "lender.lend", "input": {"account": "a", "cents": 3}},
            {"id": "two", "call": "lender.lend", "input": {"account": "a", "cents": 5}, "after": ["one"]},
            {"id": "no", "call": "ledger.withdraw", "input": {"account": "a", "cents": 9}, "after": ["two"]},
        ]
    }
    async with Gate() as gate:
        lender = AgentEntry.model_validate({"class": Lender, "options": {"gate": gate.port}})
        async with bank(name, tmp_path, [Ledger, lender], connectors=connectors) as federation:
            task = await federation.submit(plan=plan)
            first = await gate.visitor()
            os.kill(first.pid, signal.SIGKILL)
            again = await gate.visitor()
            assert again.pid != first.pid
            again.let_in()
            (await gate.visitor()).let_in()
            with pytest.raises(Refusal, match="has only 0 cents"):
                await task.result(60)
            assert await federation.call("lender.lent", {"account": "a"}) == {"cents": 0}
            told = [(str(event.step), event.kind) async for event in task.events()]
            state = (await federation.client.replay(task.id)).state
    assert told.count(("two~", Kind.STEP_INTERRUPTED)) == 1, "it was not killed while it undid"
    assert [step for step, kind in told if kind is Kind.STEP_AWARDED][-2:] == ["two~", "one~"]
    assert heard_keys(square) == [f"{task.id}/two~!0", f"{task.id}/one~!0"], "each once, in reverse order"
    runs = outside.check_journal(tmp_path, [task.id])
    outside.check_receipts(tmp_path, runs)
    outside.check_states(tmp_path, {task.id: state})


async def test_a_coordinator_that_stood_still_is_fenced_when_it_wakes(name: str, tmp_path: Path) -> None:
    """F8 and F9: a second coordinator takes over the store of one that is frozen. What the first one then wants to
    write, the store refuses; it ends, Ray starts it anew, and now it is the second one that is too old."""
    async with gated(name, tmp_path) as (federation, gate):
        task = await federation.submit(call="porter.carry", input={"account": "a", "cents": 5})
        visitor = await gate.visitor()
        (frozen,) = (await federation.client.status()).coordinators
        os.kill(frozen, signal.SIGSTOP)
        second, fenced = await take_over(name, tmp_path)
        assert second.runs.keys() == {task.id}
        visitor.let_in()
        late = asyncio.create_task(deposit(federation, 1))
        os.kill(frozen, signal.SIGCONT)
        assert await task.result(60) == {"cents": 5}
        assert await (await late).result(60) == {"cents": 1}
        assert process_started(frozen) is None
        second.journal.append(Kind.AGENT_LEFT, None, None, {"agent": "nobody", "reason": "", "in_flight": 0})
        with pytest.raises(Fenced):
            await fenced
        await second.stop()
    journal = outside.events(tmp_path)
    assert outside.epochs(journal) == [1, 2, 3]
    assert [event.kind for event in journal if event.epoch == 2] == [Kind.COORDINATOR_STARTED]
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, [task.id]))


async def take_over(name: str, data: Path) -> Any:
    """A second coordinator over the same store, in this process, and the future of its failure."""
    configuration = Configuration.for_agents([Ledger, Porter], data=data, federation={"name": name})
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    second = make_coordinator(configuration, 0, root_key(data), World.real(), failure.set_exception)
    await second.start()
    return second, failure
