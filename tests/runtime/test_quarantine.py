"""A step that kills its agent is found, alone, and held; those that were beside it are done."""

from asyncio import sleep
from collections import Counter
from typing import Any

from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import Event, Kind, RetryPolicy, Submission, TaskView, capability
from hanse.runtime.client import LinkClient
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.stage import die, play
from hanse.runtime.simulation.town import COORDINATOR, Town

QUICK = RetryPolicy(initial_interval=0.05, max_interval=0.2)


class Dish(BaseModel):
    name: str
    poisoned: bool = False


class _Taster(Agent):
    """Tastes, and dies of what is poisoned."""

    tasted: Counter[str]

    @capability(effect="irreversible", retry=QUICK, timeout_seconds=600)
    async def taste(self, request: Dish, context: Context) -> Dish:
        """Taste it, slowly."""
        return await self._taste(request)

    @capability(retry=QUICK, timeout_seconds=600)
    async def smell(self, request: Dish, context: Context) -> Dish:
        """Smell it, slowly, which changes nothing."""
        return await self._taste(request)

    async def _taste(self, request: Dish) -> Dish:

        tries[request.name] += 1
        await sleep(0.2)
        if request.poisoned:
            die()
        return request


tries: Counter[str] = Counter()


class Hinz(_Taster):
    """A taster."""

    domain = "taster"
    name = "hinz"


class Kunz(_Taster):
    """Another taster."""

    domain = "taster"
    name = "kunz"


ALONE: dict[str, Any] = {"agents": [Hinz], "hosts": {"kitchen": ["hinz"]}, "restart_seconds": (0.3, 0.6)}
BOTH: dict[str, Any] = {
    "agents": [Hinz, Kunz],
    "hosts": {"kitchen": ["hinz"], "cellar": ["kunz"]},
    "restart_seconds": (0.3, 0.6),
}


async def served(client: LinkClient, call: str, neighbours: int = 20) -> tuple[TaskView, list[TaskView]]:
    """The poisoned dish and its neighbours, all on the table at once, each a task of its own."""
    tries.clear()
    dishes = [Dish(name=f"dish-{i}", poisoned=i == neighbours // 2) for i in range(neighbours + 1)]
    asked = [await client.submit(Submission(call=call, input=dish.model_dump())) for dish in dishes]
    poisoned = asked.pop(neighbours // 2)
    return poisoned, asked


async def done(client: LinkClient, tasks: list[TaskView]) -> Counter[str]:
    return Counter([str((await client.wait(task.id, 200)).status) for task in tasks])


def of(events: list[Event], kind: Kind, task: TaskView) -> list[Event]:
    return [event for event in events if event.kind is kind and event.task == task.id]


def test_the_poisoned_one_is_found_and_its_neighbours_are_done():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        poisoned, neighbours = await served(client, "taster.taste")
        assert await done(client, neighbours) == {"completed": 20}
        await held(client, poisoned)
        events = await client.events()
        deaths = [event.data["deaths"] for event in of(events, Kind.STEP_SUSPECTED, poisoned)]
        assert deaths == [1, 2, 3, 4, 5]
        assert tries[f"dish-{10}"] == 5
        assert max(len(of(events, Kind.STEP_SUSPECTED, each)) for each in neighbours) == 2
        assert town.deaths == 5
        assert await done(client, (await served(client, "taster.taste", neighbours=3))[1][:1]) == {"completed": 1}

    play(scene, **ALONE)


async def held(client: LinkClient, task: TaskView) -> None:
    view = await client.wait(task.id, 200)
    assert view.status == "input_required"
    (held,) = view.held
    assert held.why == "poisoned"
    assert held.choices.keys() == {"again", "give_up"}
    assert "5 times" in held.question


def test_a_coordinator_that_recovers_goes_on_in_the_middle():
    """What is known of suspects is in the journal."""

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        poisoned, neighbours = await served(client, "taster.taste")
        while town.deaths < 3:
            await pause()
        town.processes[COORDINATOR].kill()
        assert await done(client, neighbours) == {"completed": 20}
        await held(client, poisoned)
        events = await client.events()
        assert len(of(events, Kind.STEP_SUSPECTED, poisoned)) == 5
        assert max(len(of(events, Kind.STEP_SUSPECTED, each)) for each in neighbours) == 2
        assert tries[f"dish-{10}"] <= 7

    play(scene, **ALONE)


async def pause() -> None:

    await sleep(0.05)


def test_what_goes_from_agent_to_agent_is_found_too():
    """A read is given to another agent when its own is gone; that must not take all agents down for good."""

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        poisoned, neighbours = await served(client, "taster.smell")
        assert await done(client, neighbours) == {"completed": 20}
        await held(client, poisoned)
        assert tries[f"dish-{10}"] <= 5

    play(scene, **BOTH)


def test_whoever_resumes_it_gives_it_a_few_more_lives_or_none():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        poisoned, neighbours = await served(client, "taster.taste", neighbours=2)
        await done(client, neighbours)
        await held(client, poisoned)
        await client.resume(poisoned.id, "again")
        await held(client, poisoned)
        assert tries["dish-1"] == 8, "it is a suspect still, and goes alone"
        await client.resume(poisoned.id, "give_up")
        assert (await client.wait(poisoned.id, 200)).status == "failed"

    play(scene, **ALONE)


def test_a_link_that_breaks_is_no_death():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        tries.clear()
        tasks = [await client.submit(Submission(call="taster.taste", input={"name": f"d{i}"})) for i in range(10)]
        for _ in range(8):
            await pause()
            town.network.cut("kitchen", COORDINATOR)
        assert await done(client, tasks) == {"completed": 10}
        events = await client.events()
        assert any(event.kind is Kind.STEP_INTERRUPTED for event in events)
        assert not any(event.kind is Kind.STEP_SUSPECTED for event in events)

    play(scene, **ALONE)


def test_what_is_canceled_while_it_waits_for_its_turn_ends():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await client.gather(30)
        poisoned, neighbours = await served(client, "taster.taste")
        while town.deaths < 2:
            await pause()
        for task in (poisoned, *neighbours):
            await client.cancel(task.id, "enough")
        assert set(await done(client, neighbours)) <= {"canceled", "completed"}
        await held(client, poisoned)
        await client.resume(poisoned.id, "give_up")
        assert await done(client, [poisoned]) == {"canceled": 1}

    play(scene, **ALONE)
