"""Child tasks on simulated time: a handler's own time stands still meanwhile, and no death makes two of one."""

import asyncio
from random import Random
from typing import Any

import pytest

from hanse.agents import Agent, Context
from hanse.contracts import RetryPolicy, Submission, TaskStatus, TaskView, capability
from hanse.runtime.client import all_events
from hanse.runtime.simulation.bursar import Bursar
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.referee import referee
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import COORDINATOR, Town
from hanse.runtime.simulation.village import Crier, Cry
from hanse.runtime.task import Task

MANY = RetryPolicy(initial_interval=0.1, max_interval=0.5, max_attempts=1000)


class Slow(Agent):
    """Takes its time."""

    domain = "slow"
    name = "slow"

    @capability(effect="irreversible", timeout_seconds=100)
    async def dream(self, request: Cry, context: Context) -> Cry:
        """Takes a minute."""
        await asyncio.sleep(60)
        return request


class Mayor(Agent):
    """Lets others speak."""

    domain = "mayor"
    name = "mayor"

    @capability(effect="irreversible", timeout_seconds=1, retry=RetryPolicy(max_attempts=1))
    async def rest(self, request: Cry, context: Context) -> Cry:
        """Lets somebody dream, then works for half of its second, and then for too long."""
        await asyncio.sleep(0.4)
        await context.tasks.call("slow.dream", request)
        await asyncio.sleep(0.4)
        if request.words == "too long":
            await asyncio.sleep(0.4)
        return request

    @capability(effect="irreversible", price_cents=9, timeout_seconds=60, retry=MANY)
    async def announce(self, request: Cry, context: Context) -> Cry:
        """Lets the crier say it twice, one after the other."""
        for name in ("first", "second"):
            await context.tasks.call("crier.cry", Cry(words=f"{request.words} {name}"), budget_cents=2)
        said = await context.state.get("said", request.words, default=0)
        await context.state.put("said", request.words, said + 1)
        return request


class Patient(Mayor):
    """Tries again."""

    domain = "mayor"
    name = "mayor"

    @capability(effect="irreversible", timeout_seconds=60, retry=MANY)
    async def rest(self, request: Cry, context: Context) -> Cry:
        """Lets somebody dream."""
        await context.tasks.call("slow.dream", request)
        return request


HALL: dict[str, Any] = {"agents": [Mayor, Slow, Crier], "hosts": {"hall": ["mayor"], "street": ["slow", "crier"]}}


@pytest.mark.parametrize(("words", "status"), [("short", "completed"), ("too long", "failed")])
def test_a_handlers_own_time_stands_still_while_it_waits_for_a_child(words: str, status: str):
    async def scene(town: Town, people: Process) -> TaskView:
        client = town.client(people)
        view = await client.submit(Submission(call="mayor.rest", input={"words": words}))
        return await client.wait(view.id, 300)

    assert str(play(scene, rules=(), **HALL).status) == ("completed" if words == "short" else "input_required")


def test_an_agent_that_died_does_not_say_that_it_has_begun_nothing():
    """Found by seed 1638: after its deadline the step was given up at once, and nobody waited for the child."""

    async def scene(town: Town, people: Process) -> int:
        client = town.client(people)
        view = await client.submit(Submission(call="mayor.rest", input={"words": "x"}, deadline_seconds=2))
        await asyncio.sleep(1)
        town.processes["hall"].kill()
        ended = await Task(client, view).wait(600)
        assert ended.status is TaskStatus.FAILED
        (step,) = await client.steps(view.id)
        assert [child.status for child in step.children] == ["canceled"]
        return step.attempts

    assert play(scene, rules=(), restart_seconds=(3, 3), **{**HALL, "agents": [Patient, Slow, Crier]}) == 2


@pytest.mark.parametrize("seed", range(25))
def test_no_death_makes_two_children_of_one_or_none(seed: int):
    random = Random(seed)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        asked = [Submission(call="mayor.announce", input={"words": f"w{n}"}, idempotency_key=f"k{n}") for n in range(4)]
        views = [await client.submit(each) for each in asked]
        for _ in range(12):
            await asyncio.sleep(random.uniform(0.005, 0.15))
            town.processes[random.choice([COORDINATOR, "hall", "street"])].kill()
        ended = [await Task(client, view).wait(600) for view in views]
        assert [view.status for view in ended] == [TaskStatus.COMPLETED] * 4, [view.error for view in ended]
        tasks = await client.tasks(limit=100)
        assert len([view for view in tasks if view.part_of]) == 8
        assert sorted(town.outside.heard.values()) == [1] * 8
        for view in tasks:
            assert (await client.replay(view.id)).divergence is None
            referee(await all_events(client, view.id))
        assert not list(Bursar({}).read(town.events()))
        for view in ended:
            (step,) = await client.steps(view.id)
            assert [child.status for child in step.children] == ["completed"] * 2

    play(scene, seed=seed, rules=(), **HALL)


@pytest.mark.parametrize("seed", range(25))
def test_who_cancels_under_fire_leaves_no_child_behind(seed: int):
    """All ends; a child is never open when its parent has ended; and what was said outside, its journal knows of."""
    random = Random(1000 + seed)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        asked = [Submission(call="mayor.announce", input={"words": f"w{n}"}, idempotency_key=f"k{n}") for n in range(4)]
        views = [await client.submit(each) for each in asked]
        for view in views:
            await asyncio.sleep(random.uniform(0.005, 0.1))
            await client.cancel(view.id, "changed my mind")
            town.processes[random.choice([COORDINATOR, "hall", "street"])].kill()
        await asyncio.sleep(200)
        tasks = await client.tasks(limit=100)
        for view in tasks:
            assert view.status.terminal or view.held, view
            assert (await client.replay(view.id)).divergence is None
            referee(await all_events(client, view.id))
        assert not list(Bursar({}).read(town.events()))
        parents = {view.id: view for view in tasks if not view.part_of}
        for child in [view for view in tasks if view.part_of]:
            assert child.status.terminal or parents[child.part_of[-1].task].held
        assert set(town.outside.heard.values()) <= {1}
        said = [view for view in tasks if view.part_of and view.status is TaskStatus.COMPLETED]
        assert len(said) <= len(town.outside.heard)

    play(scene, seed=seed, rules=(), **HALL)
