"""Who hangs is found, what is lost on the way is sent again, and nothing is begun twice."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import Event, Fenced, Kind, RetryPolicy, StorageError, Submission, capability
from hanse.contracts.messages import Result
from hanse.runtime.client import LinkClient
from hanse.runtime.heartbeats import Heartbeats
from hanse.runtime.limits import Limits
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import COORDINATOR, Town
from hanse.runtime.store import SqliteStore

from ..agents.desk import again, call_of, engine_of
from ..support.models import HandClock

handled: Counter[str] = Counter()


class Night(BaseModel):
    seconds: float = 0.0
    tells: bool = False


class Watchman(Agent):
    """Watches."""

    domain = "watchman"

    @capability(effect="irreversible", timeout_seconds=1000)
    async def watch(self, request: Night, context: Context) -> Night:
        """Watch for some time, which is written down."""
        handled[context.idempotency_key] += 1
        await asyncio.sleep(request.seconds)
        await context.state.put("night", "last", request.seconds)
        return request

    @capability(timeout_seconds=1000, retry=RetryPolicy(initial_interval=0.1))
    async def look(self, request: Night, context: Context) -> Night:
        """Look for some time."""
        handled[context.idempotency_key] += 1
        await asyncio.sleep(request.seconds)
        return request


class Deputy(Watchman):
    """Watches when the other does not."""

    domain = "watchman"
    name = "deputy"

    def price_cents(self, capability: str) -> float:
        return 100


ALONE: dict[str, Any] = {"agents": [Watchman], "hosts": {"tower": ["watchman"]}, "limits": Limits(lease_seconds=10)}
BOTH: dict[str, Any] = {
    "agents": [Watchman, Deputy],
    "hosts": {"tower": ["watchman"], "gate": ["deputy"]},
    "limits": Limits(lease_seconds=10),
}


async def begun(town: Town, people: Process, call: str, **input: Any) -> tuple[LinkClient, str]:
    handled.clear()
    client = town.client(people)
    await client.gather(30)
    await asyncio.sleep(0.5)
    return client, (await client.submit(Submission(call=call, input=input))).id


async def events_of(client: LinkClient, task: str, kind: Kind) -> list[Event]:
    return [event for event in await client.events(task) if event.kind is kind]


@pytest.mark.parametrize("call", ["watchman.watch", "watchman.look"])
def test_a_long_step_keeps_its_lease_by_the_heartbeat_of_its_agent(call: str):
    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, call, seconds=120.0)
        assert (await client.wait(task, 200)).status == "completed"
        assert not await events_of(client, task, Kind.STEP_INTERRUPTED)
        assert handled.total() == 1

    play(scene, **ALONE)


def test_an_answer_that_is_lost_on_a_link_that_stands_is_asked_for_again():
    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, "watchman.watch", seconds=1.0)
        lose_results(town, 1)
        before = town.loop.time()
        assert (await client.wait(task, 200)).status == "completed"
        assert 10 <= town.loop.time() - before <= 15
        (interrupted,) = await events_of(client, task, Kind.STEP_INTERRUPTED)
        assert interrupted.data["reason"] == "not a word of it for 10 s"
        (completed,) = await events_of(client, task, Kind.STEP_COMPLETED)
        assert completed.data["replayed"], "the receipt answers, and nothing is done twice"
        assert handled.total() == 1

    play(scene, **ALONE)


def lose_results(town: Town, count: int) -> None:
    """The coordinator's next results are lost on their way."""
    coordinator, left = town.coordinator, [count]
    assert coordinator is not None
    land = coordinator._land

    def lossy(result: Result) -> None:
        if left[0]:
            left[0] -= 1
        else:
            land(result)

    coordinator._land = lossy  # type: ignore[method-assign]


def test_an_agent_that_died_is_asked_again_as_soon_as_it_is_back():
    """And not only when the lease is over."""

    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, "watchman.watch", seconds=1.0)
        await asyncio.sleep(0.5)
        town.processes["tower"].kill()
        before = town.loop.time()
        assert (await client.wait(task, 200)).status == "completed"
        assert town.loop.time() - before < 5
        assert handled.total() == 2

    play(scene, **ALONE)


def test_a_process_that_hangs_is_found_and_what_only_reads_goes_to_another():
    """G7: found within 15 s, whatever its timeout."""

    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, "watchman.look", seconds=30.0)
        await asyncio.sleep(1)
        town.processes["tower"].stop()
        await asyncio.sleep(15)
        found = await events_of(client, task, Kind.STEP_INTERRUPTED)
        assert found[0].data["reason"] == "nothing was heard of it for 10 s"
        assert (await client.wait(task, 200)).status == "completed"
        (completed,) = await events_of(client, task, Kind.STEP_COMPLETED)
        assert completed.data["agent"] == "deputy"

    play(scene, **BOTH)


def test_what_writes_waits_for_its_own_agent_and_is_done_once():
    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, "watchman.watch", seconds=5.0)
        await asyncio.sleep(1)
        town.processes["tower"].stop()
        await asyncio.sleep(20)
        assert len(await events_of(client, task, Kind.STEP_INTERRUPTED)) == 1
        town.processes["tower"].go_on()
        assert (await client.wait(task, 200)).status == "completed"
        assert handled.total() == 1

    play(scene, **BOTH)


def test_a_coordinator_that_stood_still_itself_accuses_nobody():
    async def scene(town: Town, people: Process) -> None:
        client, task = await begun(town, people, "watchman.watch", seconds=60.0)
        await asyncio.sleep(1)
        town.processes[COORDINATOR].stop()
        await asyncio.sleep(25)
        town.processes[COORDINATOR].go_on()
        assert (await client.wait(task, 200)).status == "completed"
        assert not await events_of(client, task, Kind.STEP_INTERRUPTED)

    play(scene, **ALONE)


def test_a_lease_lasts_from_the_last_word_and_not_from_the_first():
    clock = HandClock(0)
    leases = Heartbeats(clock, 10, 1)
    spoken, silent = "task/spoken#1", "task/silent#1"
    lapsed: dict[str, float] = {}
    for second in range(30):
        leases.tick()
        if second <= 12:
            leases.heard([spoken])  # type: ignore[list-item]
        for award in leases.lapsed([spoken, silent]):  # type: ignore[list-item]
            lapsed.setdefault(award, second)
        clock.pass_seconds(1)
    assert lapsed == {silent: 11, spoken: 23}


# Who has begun a step, and another process of the same agent


async def test_the_same_step_sent_again_while_it_runs_joins_it():
    handled.clear()
    engine = engine_of(Watchman(), SqliteStore.open(":memory:", "agent"))
    await engine.start()
    call = call_of("watchman.watch", {"seconds": 0.2})
    first = asyncio.create_task(engine.execute(call))
    second = asyncio.create_task(engine.execute(again(call, award=f"{call.key}#2", attempt=2)))
    results = await asyncio.gather(first, second)
    assert [result.replayed for result in results] == [False, True]
    assert handled.total() == 1
    await engine.stop()


async def test_a_second_process_takes_the_store_and_the_first_can_commit_nothing(tmp_path: Any):
    """What a second start of the same step meets across processes: not a lease, but the epoch of the store."""
    handled.clear()
    path = tmp_path / "agent.sqlite"
    first = engine_of(Watchman(), SqliteStore.open(path, "agent"))
    await first.start()
    call = call_of("watchman.watch", {"seconds": 0.2})
    running = asyncio.create_task(first.execute(call))
    await asyncio.sleep(0)
    second_store = SqliteStore.open(path, "agent")
    second = engine_of(Watchman(), second_store)
    await second.start()
    result = await second.execute(again(call, award=f"{call.key}#2", attempt=2))
    assert result.error is None
    with pytest.raises(StorageError) as caught:
        await running
    assert isinstance(caught.value, Fenced)
    assert (await second.execute(again(call, award=f"{call.key}#3", attempt=3))).replayed
    assert len(second_store.read("receipt", (call.key,))) == 1
    await second.stop()
