"""Rates, bulkheads, fair turns, priorities and loops, in a town where time can be measured to the millisecond."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import JsonObject, Kind, Overloaded, Submission, TaskView, capability
from hanse.runtime.client import LinkClient
from hanse.runtime.limits import Limits, Rate
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import Town

began: list[tuple[float, str]] = []
"""When handlers began, and of whose."""
busy: Counter[str] = Counter()
busiest: Counter[str] = Counter()


class Piece(BaseModel):
    name: str = ""
    seconds: float = 0.0


class Loom(Agent):
    """Weaves."""

    domain = "loom"

    @capability(effect="irreversible")
    async def weave(self, request: Piece, context: Context) -> Piece:
        """Weave a piece."""
        return await self._work("weave", request)

    @capability(effect="irreversible", max_concurrent=2)
    async def dye(self, request: Piece, context: Context) -> Piece:
        """Dye a piece; there are two vats."""
        return await self._work("dye", request)

    @capability()
    async def look(self, request: Piece, context: Context) -> Piece:
        """Look at a piece."""
        return await self._work("look", request)

    async def _work(self, what: str, request: Piece) -> Piece:
        began.append((asyncio.get_running_loop().time(), request.name))
        busy[what] += 1
        busiest[what] = max(busiest[what], busy[what])
        await asyncio.sleep(request.seconds)
        busy[what] -= 1
        return request


def scene_in(limits: Limits, scene: Any, **options: Any) -> None:
    began.clear()
    busy.clear()
    busiest.clear()

    async def ready(town: Town, people: Process) -> None:
        await town.client(people).gather(30)
        await scene(town, people)

    play(ready, agents=[Loom], hosts={"mill": ["loom"]}, limits=limits, **options)


async def submitted(client: LinkClient, count: int, call: str = "loom.weave", **more: Any) -> list[TaskView]:
    """So many tasks of one step, each with an input of its own."""
    input, rest = more.pop("input", {}), more
    asked = [Submission(call=call, input={"name": f"p{i}", **input}, **rest) for i in range(count)]
    return [await client.submit(each) for each in asked]


async def done(client: LinkClient, tasks: list[TaskView]) -> list[str]:
    return [str((await client.wait(task.id, 250)).status) for task in tasks]


# Rates


def test_steps_over_a_rate_wait_their_turn_and_none_fails():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        tasks = await submitted(client, 40)
        (step,) = await client.steps(tasks[-1].id)
        assert step.reason == "its turn; who is before it: default has used up its rate of loom.weave"
        assert set(await done(client, tasks)) == {"completed"}
        times = [at for at, _ in began]
        for i, start in enumerate(times):
            assert sum(start <= at <= start + 1 for at in times[i:]) <= 5 + 10 + 1
        assert times[-1] - times[0] == pytest.approx(35 / 10, rel=0.1)
        assert await done(client, await submitted(client, 1, "loom.look")) == ["completed"]

    scene_in(Limits(rates=(Rate(per_second=10, burst=5, capability="loom.w*"),)), scene)


def test_a_tenant_over_its_rate_holds_up_no_other_tenant():
    async def scene(town: Town, people: Process) -> None:
        slow, free = town.client(people, tenant="slow"), town.client(people, tenant="free")
        waiting = await submitted(slow, 10)
        before = town.loop.time()
        assert set(await done(free, await submitted(free, 10))) == {"completed"}
        assert town.loop.time() - before < 0.5
        assert set(await done(slow, waiting)) == {"completed"}
        assert town.loop.time() - before == pytest.approx(9, rel=0.1)

    scene_in(Limits(rates=(Rate(per_second=1, burst=1, capability="*", tenant="slow"),)), scene)


def test_submissions_over_a_rate_are_told_when_to_come_again():
    async def scene(town: Town, people: Process) -> None:
        one, other = town.client(people, tenant="one"), town.client(people, tenant="other")
        await submitted(one, 3)
        with pytest.raises(Overloaded) as caught:
            await submitted(one, 1)
        assert caught.value.status == 429
        assert 0 < caught.value.retry_after_seconds <= 0.5
        await submitted(other, 3)
        await asyncio.sleep(caught.value.retry_after_seconds)
        await submitted(one, 1)

    scene_in(Limits(rates=(Rate(per_second=2, burst=3, tenant="*"),)), scene)


def test_the_same_key_again_is_no_new_submission():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        asked = Submission(call="loom.weave", input={}, idempotency_key="once")
        first, second = await client.submit(asked), await client.submit(asked)
        assert first.id == second.id

    scene_in(Limits(rates=(Rate(per_second=0.001, burst=1, tenant="*"),)), scene)


# Bulkheads


@pytest.mark.parametrize("bulkheads", [{}, {"loom.d*": 3}])
def test_no_more_of_a_capability_at_once_than_its_contract_or_its_configuration_says(bulkheads: dict[str, int]):
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        dyeing = await submitted(client, 12, "loom.dye", input={"seconds": 1.0})
        before = town.loop.time()
        assert set(await done(client, await submitted(client, 5))) == {"completed"}
        assert town.loop.time() - before < 0.5, "what is over its bulkhead is not in the way of others"
        (step,) = await client.steps(dyeing[-1].id)
        assert step.reason in ("loom: has its hands full", "its turn; who is before it: loom: has its hands full")
        assert set(await done(client, dyeing)) == {"completed"}
        assert busiest["dye"] == bulkheads.get("loom.d*", 2)

    scene_in(Limits(), scene, options={"bulkheads": bulkheads})


def test_an_agent_keeps_its_bulkheads_whatever_several_shards_send_it():
    """A coordinator that does not know of the limit, as one of several would not know of the others' calls."""

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        assert town.coordinator is not None
        for member in town.coordinator.members():
            member.bounds.clear()
        assert set(await done(client, await submitted(client, 9, "loom.dye", input={"seconds": 1.0}))) == {"completed"}
        assert busiest["dye"] == 2

    scene_in(Limits(), scene)


# Fair turns


def shares_of(count: int) -> Counter[str]:
    return Counter(name for _, name in began[:count])


def test_a_tenant_that_floods_leaves_the_others_their_turns():
    async def scene(town: Town, people: Process) -> None:
        flood, a, b = (town.client(people, tenant=name) for name in ("flood", "a", "b"))
        many = await submitted(flood, 300, input={"name": "flood", "seconds": 0.1})
        few = await submitted(a, 50, input={"name": "a", "seconds": 0.1})
        some = await submitted(b, 100, input={"name": "b", "seconds": 0.1})
        for client, tasks in ((a, few), (b, some), (flood, many)):
            assert set(await done(client, tasks)) == {"completed"}
        first = began.index(next(each for each in began if each[1] == "b"))
        turns = Counter(name for _, name in began[first : first + 160])
        assert turns["a"] >= 0.8 * 40
        assert turns["b"] >= 0.8 * 80
        assert turns["flood"] >= 0.8 * 40

    weights = {"flood": 1.0, "a": 1.0, "b": 2.0}
    scene_in(Limits(in_flight_per_agent=4, weights=weights), scene)


def test_a_higher_priority_goes_first_within_its_tenant():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        tasks: list[TaskView] = []
        for priority in (0, None, 9):
            more: JsonObject = {} if priority is None else {"priority": priority}
            tasks += await submitted(client, 5, input={"name": str(priority), "seconds": 0.1}, **more)
        assert set(await done(client, tasks)) == {"completed"}
        order = [name for _, name in began[1:]]
        assert order == ["9"] * 5 + ["None"] * 5 + ["0"] * 4

    scene_in(Limits(in_flight_per_agent=1), scene)


def test_a_newcomer_does_not_jump_the_queue():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        tasks = [(await submitted(client, 1, input={"name": str(number), "seconds": 0.05}))[0] for number in range(20)]
        await done(client, tasks)
        assert [name for _, name in began] == [str(number) for number in range(20)]

    scene_in(Limits(in_flight_per_agent=1), scene)


def test_what_is_too_late_is_dropped_undone_and_leaves_no_trace():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        long = await submitted(client, 1, input={"name": "long", "seconds": 20.0})
        late = await submitted(client, 30, deadline_seconds=5)
        assert set(await done(client, late)) == {"failed"}
        assert [name for _, name in began] == ["long"]
        await asyncio.sleep(2)
        assert town.coordinator is not None
        assert not town.coordinator.parked, "the queue forgets them before the place is free"
        assert await done(client, long) == ["completed"]

    scene_in(Limits(in_flight_per_agent=1), scene)


def test_a_full_coordinator_lets_in_who_has_less_than_his_share():
    async def scene(town: Town, people: Process) -> None:
        flood, other = town.client(people, tenant="flood"), town.client(people, tenant="other")
        await submitted(flood, 20, input={"seconds": 5.0})
        with pytest.raises(Overloaded) as caught:
            await submitted(flood, 1)
        assert caught.value.status == 429
        assert caught.value.retry_after_seconds == 1
        kept = await submitted(other, 10, input={"seconds": 5.0})
        with pytest.raises(Overloaded):
            await submitted(other, 1)
        assert set(await done(other, kept)) == {"completed"}

    scene_in(Limits(open_tasks=20, weights={"flood": 1.0, "other": 1.0}), scene)


# Loops


def same_calls(count: int, **more: Any) -> JsonObject:
    steps = [{"id": f"s{i}", "call": "loom.look", "input": {"name": "same"}, **more} for i in range(count)]
    for before, after in pairwise(steps):
        after["after"] = [before["id"]]
    return {"steps": steps}


async def ended(client: LinkClient, plan: JsonObject) -> TaskView:
    view = await client.submit(Submission(plan=plan))
    return await client.wait(view.id, 60)


def test_the_same_call_again_and_again_is_a_loop():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        assert (await ended(client, same_calls(5))).status == "completed"
        began.clear()
        view = await ended(client, same_calls(9))
        assert view.status == "failed"
        assert view.error is not None
        assert (view.error.code, view.error.ids["step"]) == ("loop_detected", "s5")
        assert len(began) == 5

    scene_in(Limits(), scene)


def test_a_loop_is_found_after_a_restart_too():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        plan = same_calls(9)
        for step in plan["steps"]:
            step["input"]["seconds"] = 1.0
        view = await client.submit(Submission(plan=plan))
        await asyncio.sleep(3.5)
        town.processes["coordinator"].kill()
        view = await client.wait(view.id, 60)
        assert view.error is not None
        assert (view.error.code, view.error.ids["step"]) == ("loop_detected", "s5")

    scene_in(Limits(), scene)


def test_equal_items_of_a_list_are_no_loop_and_neither_are_other_inputs():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        fan = {"id": "f", "call": "loom.look", "for_each": [1] * 20, "input": {"name": "same"}}
        assert (await ended(client, {"steps": [fan, *same_calls(5)["steps"]]})).status == "completed"
        others = [{"id": f"s{i}", "call": "loom.look", "input": {"name": str(i)}} for i in range(20)]
        assert (await ended(client, {"steps": others})).status == "completed"

    scene_in(Limits(), scene)


def test_the_limit_can_be_lifted():
    async def scene(town: Town, people: Process) -> None:
        assert (await ended(town.client(people), same_calls(30))).status == "completed"

    scene_in(Limits(repeated_calls=None), scene)


def test_a_priority_is_kept_with_the_task():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        for priority in (None, 8):
            await client.submit(Submission(call="loom.look", input={}, priority=priority))
        kept = [event.data["priority"] for event in await client.events() if event.kind is Kind.TASK_SUBMITTED]
        assert kept == [5, 8]

    scene_in(Limits(), scene)
