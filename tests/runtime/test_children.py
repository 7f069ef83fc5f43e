"""Child tasks: what a step asks of the federation, with no more authority than it has, once, and through people."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, capability
from hanse.contracts import (
    ApprovalView,
    Canceled,
    HanseError,
    InvalidConfiguration,
    NotAllowed,
    Submission,
    TaskStatus,
    TaskView,
    Tenant,
)
from hanse.contracts.delegation import MAX_DEPTH, Delegation
from hanse.runtime.client import LinkClient
from hanse.runtime.config import AgentEntry, Configuration

TENANT = Tenant("default")


class Sale(BaseModel):
    item: str
    cents: int = 0


class Count(BaseModel):
    left: int


class Till(Agent):
    """Takes money."""

    domain = "till"

    @capability(effect="reversible", compensation="give_back", price_cents=1.5)
    async def take(self, request: Sale, context: Context) -> Sale:
        """Take money for something."""
        taken = await context.state.get("taken", request.item, default=0)
        await context.state.put("taken", request.item, taken + request.cents)
        return request

    @capability(effect="reversible", compensation="take")
    async def give_back(self, request: Sale, context: Context) -> Sale:
        """Give money back."""
        taken = await context.state.get("taken", request.item, default=0)
        await context.state.put("taken", request.item, taken - request.cents)
        return request

    @capability(effect="irreversible")
    async def burn(self, request: Sale, context: Context) -> Sale:
        """Burn money, but not much."""
        if request.cents > 500:
            raise NotAllowed("that is too much to burn")
        return request

    @capability(effect="read")
    async def taken(self, request: Sale, context: Context) -> Sale:
        """What was taken for something in all."""
        return Sale(item=request.item, cents=await context.state.get("taken", request.item, default=0))


class Shop(Agent):
    """Sells, and lets the till take the money."""

    domain = "shop"

    @capability(effect="irreversible", price_cents=5)
    async def sell(self, request: Sale, context: Context) -> Sale:
        """Sell something."""
        paid = await context.tasks.call("till.take", request)
        await context.state.put("sold", request.item, True)
        return Sale(**paid)

    @capability(effect="irreversible", price_cents=5)
    async def sell_or_not(self, request: Sale, context: Context) -> Sale:
        """Sell something, if the till will have it."""
        try:
            await context.tasks.call("till.take", request)
        except HanseError as error:
            return Sale(item=error.code)
        return request

    @capability(effect="irreversible", price_cents=3)
    async def sell_three(self, request: Sale, context: Context) -> Sale:
        """Sell three at once, each paid for by itself."""
        asked = [
            context.tasks.call("till.take", request, name=name, budget_cents=1.5) for name in ("one", "two", "three")
        ]
        paid = await asyncio.gather(*asked, return_exceptions=True)
        return Sale(item=", ".join(each.code if isinstance(each, HanseError) else "paid" for each in paid))

    @capability(effect="irreversible", price_cents=5)
    async def sell_by_plan(self, request: Sale, context: Context) -> Sale:
        """Take money and burn it, or neither."""
        steps = [
            {"id": "take", "call": "till.take", "input": {"$from": "input"}},
            {"id": "burn", "call": "till.burn", "input": {"$from": "input"}, "after": ["take"]},
        ]
        try:
            await context.tasks.run({"steps": steps}, request)
        except HanseError as error:
            return Sale(item=error.code)
        return request

    @capability(effect="read")
    async def look(self, request: Sale, context: Context) -> Sale:
        """What was paid for something, as the till says."""
        return Sale(**await context.tasks.call("till.taken", request))

    @capability(effect="read")
    async def peek(self, request: Sale, context: Context) -> Sale:
        """Says that it only reads, and does not."""
        await context.tasks.call("till.take", request)
        return request

    @capability(effect="reversible", compensation="unsell")
    async def promise(self, request: Sale, context: Context) -> Sale:
        """Says that it can be undone, and asks for what cannot."""
        await context.tasks.call("till.burn", request)
        return request

    @capability(effect="reversible", compensation="promise")
    async def unsell(self, request: Sale, context: Context) -> Sale:
        """Nothing."""
        return request


class Mirror(Agent):
    """Asks itself."""

    domain = "mirror"

    @capability(effect="read")
    async def stare(self, request: Count, context: Context) -> Count:
        """Asks for the very same."""
        return Count(**await context.tasks.call("mirror.stare", request))

    @capability(effect="read")
    async def sink(self, request: Count, context: Context) -> Count:
        """Asks for one less until nothing is left."""
        if not request.left:
            return request
        return Count(**await context.tasks.call("mirror.sink", Count(left=request.left - 1)))


class Locksmith(Agent):
    """Locks, and has the lock oiled before it unlocks."""

    domain = "locksmith"
    rusty = 0
    """How often oil will not help yet."""

    @capability(effect="reversible", compensation="unlock")
    async def lock(self, request: Sale, context: Context) -> Sale:
        """Lock something."""
        return request

    @capability(effect="reversible", compensation="lock")
    async def unlock(self, request: Sale, context: Context) -> Sale:
        """Unlock it."""
        return Sale(**await context.tasks.call("locksmith.oil", request))

    @capability(effect="reversible", compensation="dry")
    async def oil(self, request: Sale, context: Context) -> Sale:
        """Put oil into the lock."""
        if Locksmith.rusty:
            Locksmith.rusty -= 1
            raise NotAllowed("it is too rusty")
        return request

    @capability(effect="reversible", compensation="oil")
    async def dry(self, request: Sale, context: Context) -> Sale:
        """Take it out again."""
        return request


class Town:
    """People with names of their own, at one federation."""

    def __init__(self, federation: Federation) -> None:
        assert isinstance(federation.client, LinkClient)
        self.federation, self.client = federation, federation.client

    def person(self, name: str) -> LinkClient:
        return self.client.acting(TENANT, name)

    async def ask(self, call: str, input: Any, by: str = "sue", **more: Any) -> TaskView:
        """The task, ended or waiting for a person."""
        view = await self.person(by).submit(Submission(call=call, input=input, **more))
        return await self.client.wait(view.id, 10)

    async def question(self) -> ApprovalView:
        (asked,) = await self.client.approvals()
        return asked

    async def ended(self, task: str) -> TaskView:
        return await (await self.federation.task(task)).wait(10)

    async def child(self, task: str) -> TaskView:
        (step,) = await self.client.steps(task)
        (child,) = step.children
        return await self.ended(child.task)

    async def kinds(self, task: str) -> list[str]:
        return [str(event.kind) for event in await self.client.events(task)]

    async def taken(self, item: str = "hat") -> int:
        return (await self.federation.call("till.taken", {"item": item}))["cents"]


@asynccontextmanager
async def town(*rules: dict[str, Any], **sections: Any) -> AsyncIterator[Town]:
    agents = sections.pop("agents", [Till, Shop, Mirror])
    approvals = [{"capability": "till.take", **rule} for rule in rules]
    async with Federation.in_process(agents=agents, approvals=approvals, **sections) as federation:
        yield Town(federation)


HAT = {"item": "hat", "cents": 700}


async def test_a_child_is_a_task_of_its_own_that_both_journals_tell_of():
    async with town() as here:
        task = await here.ask("shop.sell", HAT, labels={"desk": "7"})
        assert (task.status, task.output, task.cost_cents) == (TaskStatus.COMPLETED, HAT, 5)
        child = await here.child(task.id)
        assert (child.output, child.cost_cents, child.labels) == (HAT, 1.5, {"desk": "7"})
        (place,) = child.part_of
        assert (place.task, place.step, place.call, place.agent) == (task.id, "call", "shop.sell", "shop")
        kinds = await here.kinds(task.id)
        assert kinds[2:4] == ["step.delegated", "step.returned"]
        assert [(await here.client.replay(each)).ok for each in (task.id, child.id)] == [True, True]
        assert await here.taken() == 700


async def test_what_reads_may_ask_for_what_reads():
    async with town() as here:
        await here.ask("shop.sell", HAT)
        assert (await here.ask("shop.look", {"item": "hat"})).output == HAT


@pytest.mark.parametrize("call", ["shop.peek", "shop.promise"])
async def test_a_child_may_change_no_more_than_its_step(call: str):
    async with town() as here:
        task = await here.ask(call, HAT)
        assert task.error
        assert (task.error.code, await here.taken()) == ("not_allowed", 0)
        assert [view.labels for view in await here.client.tasks()] == [{}, {}], "nothing was begun"


async def test_a_child_that_fails_has_undone_itself_and_its_step_may_go_on():
    async with town() as here:
        task = await here.ask("shop.sell_by_plan", HAT)
        assert (task.output["item"], await here.taken()) == ("not_allowed", 0)
        child = await here.child(task.id)
        steps = {step.id: step.status for step in await here.client.steps(child.id)}
        assert (child.status, steps["take"]) == (TaskStatus.FAILED, "compensated")


async def test_who_has_a_step_tried_again_gets_another_child_than_the_one_that_failed(monkeypatch: pytest.MonkeyPatch):
    """Found by the simulator, seed 13792: what failed once under a step's key had failed for ever."""
    monkeypatch.setattr(Locksmith, "rusty", 2)
    steps = [
        {"id": "lock", "call": "locksmith.lock", "input": HAT},
        {"id": "burn", "call": "till.burn", "input": HAT, "after": ["lock"]},
    ]
    async with town(agents=[Till, Locksmith]) as here:
        task = await here.client.submit(Submission(plan={"steps": steps}))
        for rusty in (1, 0):
            (held,) = (await here.client.wait(task.id, 10)).held
            assert (held.step, Locksmith.rusty) == ("lock~", rusty)
            await here.client.resume(task.id, "again", step=held.step)
        assert (await here.ended(task.id)).status is TaskStatus.FAILED
        (undone,) = [step for step in await here.client.steps(task.id) if step.id == "lock~"]
        assert [child.status for child in undone.children] == ["failed", "failed", "completed"]
        assert (await here.client.replay(task.id)).ok


@pytest.mark.parametrize("call", ["mirror.stare", "mirror.sink"])
async def test_a_task_within_itself_ends(call: str):
    async with town(agents=[AgentEntry.model_validate({"class": Mirror, "concurrency": 1})]) as here:
        task = await here.ask(call, {"left": MAX_DEPTH + 1})
        assert task.error
        assert task.error.code == "loop_detected"
        within = [view for view in await here.client.tasks() if view.part_of]
        assert len(within) == (0 if call == "mirror.stare" else MAX_DEPTH)


async def test_an_agent_of_one_slot_may_ask_itself():
    """Else it would wait for itself: a handler that waits for a child leaves its slot to others."""
    async with town(agents=[AgentEntry.model_validate({"class": Mirror, "concurrency": 1})]) as here:
        assert (await here.ask("mirror.sink", {"left": 4})).output == {"left": 0}


@pytest.mark.parametrize(
    "more",
    [
        {"name": "a" * 300},
        {"deadline_seconds": -1},
        {"budget_cents": float("nan")},
        {"budget_cents": 99},
        {"input": 10**30},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_cannot_be_asked_for_is_refused_and_begins_nothing(more: dict[str, Any]):
    class Clumsy(Shop):
        """Asks for what cannot be."""

        domain = "shop"
        name = "shop"

        @capability(effect="irreversible", price_cents=5)
        async def sell(self, request: Sale, context: Context) -> Sale:
            """Ask."""
            return Sale(**await context.tasks.call("till.take", **{"input": request, **more}))

    async with town(agents=[Till, Clumsy]) as here:
        task = await here.ask("shop.sell", HAT)
        assert task.error
        assert task.error.code == ("budget_exhausted" if more.get("budget_cents") == 99 else "invalid_input")
        assert (len(await here.client.tasks()), await here.taken()) == (1, 0)


# Money


async def test_a_childs_cents_are_part_of_its_steps_price():
    caps = {"tenants": [{"name": "default", "budget": {"cents_per_day": 9}}]}
    async with town(gateway={"open_on_loopback": True}, **caps) as here:
        assert (await here.ask("shop.sell", HAT)).status is TaskStatus.COMPLETED
        (day,) = (await here.client.status()).budgets
        assert (day.spent.cents, day.reserved.cents) == (5, 0)


async def test_each_cent_is_counted_once_where_it_was_spent():
    async with town() as here:
        await here.ask("shop.sell", HAT)
        by = {each.name: each.cost_cents for each in (await here.client.stats(by="capability")).rows}
        assert by == {"shop.sell": 3.5, "till.take": 1.5}
        (tenant,) = (await here.client.stats(by="tenant")).rows
        assert (tenant.cost_cents, tenant.tasks) == (5, 2)
        totals = {each.metric: each.value for each in await here.client.totals() if each.metric.endswith("cents")}
        assert totals["task_cents"] == 5


async def test_children_beside_each_other_spend_at_most_what_the_step_has():
    async with town() as here:
        task = await here.ask("shop.sell_three", HAT)
        assert sorted(task.output["item"].split(", ")) == ["budget_exhausted", "paid", "paid"]
        assert await here.taken() == 1400


async def test_a_step_cannot_lend_what_it_does_not_have():
    class Corner(Shop):
        """Sells for less than the till takes."""

        domain = "shop"
        name = "shop"

        @capability(effect="irreversible", price_cents=1)
        async def sell_or_not(self, request: Sale, context: Context) -> Sale:
            """Sell something, if the till will have it."""
            return await Shop.sell_or_not(self, request, context)

    async with town(agents=[Till, Corner]) as here:
        assert (await here.ask("shop.sell_or_not", HAT)).output["item"] == "budget_exhausted"


async def test_what_a_child_spent_is_spent_when_its_step_fails():
    class Forgetful(Shop):
        """Takes the money and fails."""

        domain = "shop"
        name = "shop"

        @capability(effect="read", price_cents=5)
        async def look(self, request: Sale, context: Context) -> Sale:
            """Asks for something that costs, and fails."""
            await context.tasks.call("dear.look", request)
            raise NotAllowed("not today")

    class Dear(Agent):
        """Is paid for looking."""

        domain = "dear"

        @capability(effect="read", price_cents=2)
        async def look(self, request: Sale, context: Context) -> Sale:
            """Look."""
            return request

    async with town(agents=[Forgetful, Dear]) as here:
        task = await here.ask("shop.look", HAT)
        assert (task.status, task.cost_cents) == (TaskStatus.FAILED, 2)


# People


async def test_a_childs_question_is_its_parents_too():
    async with town({"expires_seconds": 60}) as here:
        task = await here.ask("shop.sell", HAT)
        asked = await here.question()
        assert (task.status, task.approvals) == (TaskStatus.INPUT_REQUIRED, [asked.id])
        assert (asked.requested_by, [place.task for place in asked.part_of]) == ("sue", [task.id])
        assert [row.value for row in asked.material if row.label == "part of"] == [
            f"shop.sell, step call of task {task.id}"
        ]
        await here.person("ann").decide(asked.id, approve=True, digest=asked.digest)
        assert (await here.ended(task.id)).output == HAT


async def test_whoever_submitted_the_parent_may_not_approve_the_child():
    async with town({"four_eyes": True}) as here:
        await here.ask("shop.sell", HAT, by="sue")
        asked = await here.question()
        with pytest.raises(NotAllowed):
            await here.person("sue").decide(asked.id, approve=True, digest=asked.digest)


async def test_a_no_to_the_child_is_its_steps_error():
    async with town({}) as here:
        task = await here.ask("shop.sell", HAT)
        asked = await here.question()
        await here.person("ann").decide(asked.id, approve=False, digest=asked.digest, note="too much")
        task = await here.ended(task.id)
        assert task.error
        assert (task.error.code, await here.taken()) == ("approval_denied", 0)


async def test_who_stops_the_parent_stops_the_child():
    async with town({}) as here:
        task = await here.ask("shop.sell", HAT)
        await here.client.cancel(task.id, "changed my mind")
        ended, child = await here.ended(task.id), await here.child(task.id)
        assert (ended.status, child.status) == (TaskStatus.CANCELED, TaskStatus.CANCELED)
        assert (await here.client.approvals(), await here.taken()) == ([], 0)


async def test_a_deadline_is_the_childs_too():
    async with town({}) as here:
        view = await here.person("sue").submit(Submission(call="shop.sell", input=HAT, deadline_seconds=0.3))
        ended = await here.ended(view.id)
        child = await here.child(view.id)
        assert (ended.status, child.status.terminal, await here.taken()) == (TaskStatus.FAILED, True, 0)
        assert child.deadline_at
        assert ended.deadline_at
        assert child.deadline_at <= ended.deadline_at


async def test_people_s_time_is_counted_once_and_limits_the_child():
    async with town({"minutes": 3}) as here:
        short = await here.ask("shop.sell_or_not", HAT, budget={"human_minutes": 2})
        assert short.output["item"] == "budget_exhausted"
        long = await here.ask("shop.sell", HAT, budget={"human_minutes": 3})
        asked = await here.question()
        await here.person("ann").decide(asked.id, approve=True, digest=asked.digest)
        ended = await here.ended(long.id)
        assert ended.budget
        assert ended.budget.spent.human_minutes == 3


# Crashes, and who may not


async def test_a_child_is_one_across_a_restart(tmp_path: Path):
    async with town({"expires_seconds": 60}, data=tmp_path) as here:
        task = await here.ask("shop.sell", HAT)
    async with town({"expires_seconds": 60}, data=tmp_path) as here:
        asked = await here.question()
        await here.person("ann").decide(asked.id, approve=True, digest=asked.digest)
        assert (await here.ended(task.id)).output == HAT
        child = await here.child(task.id)
        assert {view.id for view in await here.client.tasks() if view.part_of} == {child.id}
        assert await here.taken() == 700


async def test_a_child_whose_parent_ended_while_nobody_ran_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The process dies between the parent's end and the child's."""
    async with town({"expires_seconds": 60}, data=tmp_path) as here:
        task = await here.ask("shop.sell", HAT)
        with monkeypatch.context() as patched:
            patched.setattr("hanse.runtime.children.Children.stop", lambda self, parent: None)
            await here.client.cancel(task.id)
    async with town({"expires_seconds": 60}, data=tmp_path) as here:
        assert (await here.ended(task.id)).status is TaskStatus.CANCELED
        assert (await here.child(task.id)).status is TaskStatus.CANCELED


@pytest.mark.parametrize(("step", "agent"), [("call", "till"), ("other", "shop")])
async def test_only_who_has_a_step_in_hand_may_ask_for_its_children(step: str, agent: str):
    async with town({}) as here:
        task = await here.ask("shop.sell", HAT)
        asked = Delegation(key="mine", call="till.burn", input=HAT)
        with pytest.raises(Canceled):
            await here.person(agent).delegate(task.id, step, asked)


async def test_no_connector_takes_the_name_of_child_tasks():
    with pytest.raises(InvalidConfiguration, match="choose another name"):
        Configuration.for_agents([Till], connectors={"tasks": {"kind": "http", "base_url": "http://127.0.0.1:1"}})
