"""Wall clocks that are wrong: an agent that is ahead would find every call late, so it is given none, and says why."""

import asyncio

import pytest

from hanse.contracts import AgentView, Submission, TaskStatus
from hanse.runtime.client import LinkClient
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import COORDINATOR, Town

HOUR_MS = 3_600_000


async def agent(client: LinkClient, name: str) -> AgentView:
    return next(each for each in await client.agents() if each.id == name)


@pytest.mark.parametrize(("who", "by_ms"), [("vault", HOUR_MS), (COORDINATOR, -HOUR_MS)])
def test_who_is_ahead_of_the_coordinator_waits_until_the_clocks_are_set(who: str, by_ms: int) -> None:
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await asyncio.sleep(2)
        home = next((host for host, agents in town._hosts.items() if who in agents), who)
        town.clocks[home].skew_ms = by_ms
        await asyncio.sleep(2)
        vault = await agent(client, "vault")
        assert (vault.healthy, "3600 s ahead" in vault.reason) == (False, True)

        task = await client.submit(Submission(call="vault.put", input={"name": "a", "number": 1}))
        assert (await client.wait(task.id, 5)).status is TaskStatus.SUBMITTED
        (step,) = await client.steps(task.id)
        assert (step.attempts, "set the clocks" in step.reason) == (0, True), "nothing was tried in vain"

        town.clocks[home].skew_ms = 0
        assert (await client.wait(task.id, 5)).status is TaskStatus.COMPLETED
        assert (await agent(client, "vault")).healthy

    play(scene, rules=())


@pytest.mark.parametrize("by_ms", [-HOUR_MS, 1_000])
def test_who_is_behind_or_about_right_is_given_work(by_ms: int) -> None:
    async def scene(town: Town, people: Process) -> None:
        for host in town._hosts:
            town.clocks[host].skew_ms = by_ms
        await asyncio.sleep(2)
        client = town.client(people)
        task = await client.submit(Submission(call="vault.put", input={"name": "a", "number": 1}))
        assert (await client.wait(task.id, 5)).status is TaskStatus.COMPLETED

    play(scene, rules=())
