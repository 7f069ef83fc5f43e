"""Questions to people: how many must say yes, who may, what an edit is, and that time grants nothing."""

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
    Conflict,
    DigestMismatch,
    InvalidInput,
    Kind,
    NotAllowed,
    Submission,
    TaskView,
    Tenant,
    digest,
)
from hanse.runtime import federation
from hanse.runtime.assembly import World, make_host
from hanse.runtime.client import LinkClient
from hanse.runtime.host import Host
from hanse.runtime.world import SystemClock, SystemEntropy

TENANT = Tenant("default")


class Money(BaseModel):
    to: str
    cents: int


class Till(Agent):
    """Pays."""

    domain = "till"

    @capability(effect="reversible", compensation="take_back", labels=("money",), price_cents=1.5)
    async def pay(self, request: Money, context: Context) -> Money:
        """Pay somebody. Nobody else does."""
        paid = await context.state.get("paid", request.to, default=0)
        await context.state.put("paid", request.to, paid + request.cents)
        return request

    @capability(effect="irreversible")
    async def take_back(self, request: Money, context: Context) -> Money:
        """Take money back."""
        return request

    @capability(effect="read")
    async def paid(self, request: Money, context: Context) -> Money:
        """What somebody was paid in all."""
        return Money(to=request.to, cents=await context.state.get("paid", request.to, default=0))


class Clock(SystemClock):
    """The wall clock can jump."""

    skew_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.skew_ms


@asynccontextmanager
async def town(*rules: dict[str, Any], clock: Clock | None = None, **sections: Any) -> AsyncIterator["Town"]:
    world = World(clock or Clock(), SystemEntropy())
    approvals = [{"capability": "till.pay", **rule} for rule in rules]
    async with Federation.in_process(agents=[Till], approvals=approvals, world=world, **sections) as federation:
        yield Town(federation)


class Town:
    """People with names of their own, at one federation."""

    def __init__(self, federation: Federation) -> None:
        assert isinstance(federation.client, LinkClient)
        self.federation, self._client = federation, federation.client

    def person(self, name: str) -> LinkClient:
        return self._client.acting(TENANT, name)

    async def asked(self, cents: int = 600, by: str = "sue", **more: Any) -> ApprovalView:
        """The question about a payment that somebody has asked for."""
        submission = Submission(call="till.pay", input={"to": "ann", "cents": cents}, **more)
        view = await self.person(by).submit(submission)
        await self._client.wait(view.id, 10)
        return next(each for each in await self._client.approvals() if each.task == view.id)

    async def says(self, name: str, question: ApprovalView, **more: Any) -> ApprovalView:
        return await self.person(name).decide(question.id, **{"approve": True, "digest": question.digest, **more})

    async def task(self, question: ApprovalView) -> TaskView:
        return await self._client.wait(question.task, 10)

    async def paid(self) -> int:
        return (await self.federation.call("till.paid", {"to": "ann", "cents": 0}))["cents"]

    async def kinds(self, question: ApprovalView) -> list[str]:
        events = await self._client.events(question.task)
        return [str(event.kind) for event in events if event.kind.startswith("approval.")]


# How many, and who


async def test_so_many_people_as_the_rule_says_must_say_yes():
    async with town({"quorum": 2}) as here:
        question = await here.asked()
        first = await here.says("ann", question)
        assert (first.decision, first.votes, first.quorum) == ("pending", ["ann"], 2)
        assert (await here.task(question)).status == "input_required"
        second = await here.says("bob", question)
        assert (second.decision, second.by) == ("approved", "bob")
        assert (await here.task(question)).status == "completed"


async def test_one_person_is_one_vote_however_often():
    async with town({"quorum": 2}) as here:
        question = await here.asked()
        for _ in range(3):
            assert (await here.says("ann", question)).votes == ["ann"]
        assert (await here.kinds(question)).count("approval.voted") == 1


async def test_one_no_is_enough():
    async with town({"quorum": 3}) as here:
        question = await here.asked()
        await here.says("ann", question)
        await here.says("bob", question, approve=False, note="no")
        task = await here.task(question)
        assert task.error
        assert task.error.code == "approval_denied"
        assert await here.paid() == 0


async def test_only_those_whom_the_rule_names_may_decide():
    async with town({"approvers": ["finance"]}, groups={"finance": ["ann", "bob"]}) as here:
        question = await here.asked()
        assert question.approvers == ["ann", "bob"]
        for approve in (True, False):
            with pytest.raises(NotAllowed, match="It is for ann, bob"):
                await here.says("eve", question, approve=approve)
        await here.says("bob", question)
        assert (await here.task(question)).status == "completed"


async def test_a_delegate_and_whom_they_stand_for_are_one_vote():
    async with town({"approvers": ["ann", "bob"], "quorum": 2, "delegates": {"ann": "dee"}}) as here:
        question = await here.asked()
        await here.says("dee", question)
        with pytest.raises(Conflict, match="ann has said yes before"):
            await here.says("ann", question)
        await here.says("bob", question)
        assert (await here.task(question)).status == "completed"


async def test_whoever_submitted_may_not_approve_where_four_eyes_are_wanted():
    async with town({"four_eyes": True}) as here:
        question = await here.asked(by="sue")
        with pytest.raises(NotAllowed, match="submitted"):
            await here.says("sue", question)
        with pytest.raises(NotAllowed, match="submitted"):
            await here.says("sue", question, input={"to": "sue", "cents": 1})
        await here.says("ann", question)
        assert (await here.task(question)).status == "completed"


async def test_nor_may_their_delegate():
    async with town({"four_eyes": True, "approvers": ["sue", "ann"], "delegates": {"sue": "dee"}}) as here:
        question = await here.asked(by="sue")
        with pytest.raises(NotAllowed, match="submitted"):
            await here.says("dee", question)


# What it is bound to


async def test_a_decision_about_another_plan_or_input_is_none():
    async with town({}) as here:
        question = await here.asked()
        with pytest.raises(DigestMismatch):
            await here.says("ann", question, plan=digest("another"))
        with pytest.raises(DigestMismatch):
            await here.says("ann", question, digest=digest("another"))
        await here.says("ann", question, plan=question.plan)
        assert (await here.task(question)).status == "completed"
        with pytest.raises(DigestMismatch):
            await here.says("ann", question, plan=digest("another"))


async def test_an_approval_is_for_one_task():
    """The same input in another task is another question."""
    async with town({}) as here:
        first = await here.asked()
        await here.says("ann", first)
        await here.task(first)
        second = await here.asked()
        assert (second.digest, second.decision) == (first.digest, "pending")
        assert second.id != first.id


# Editing


async def test_an_edited_input_runs_and_the_override_shows():
    async with town({}) as here:
        question = await here.asked(600)
        decided = await here.says("ann", question, input={"to": "ann", "cents": 60}, note="less")
        assert (decided.decision, decided.input["cents"]) == ("approved", 60)
        assert decided.edited
        assert (decided.edited.by, decided.edited.was) == ("ann", question.digest)
        task = await here.task(question)
        assert (task.output["cents"], await here.paid()) == (60, 60)
        (step,) = await here.federation.client.steps(question.task)
        assert step.edited
        assert (step.edited.by, step.edited.note) == ("ann", "less")
        assert await here.kinds(question) == ["approval.requested", "approval.edited", "approval.decided"]


async def test_an_edit_said_twice_is_one():
    async with town({}) as here:
        question = await here.asked()
        for _ in range(2):
            await here.says("ann", question, input={"to": "ann", "cents": 60})
        assert (await here.kinds(question)).count("approval.edited") == 1


@pytest.mark.parametrize("input", [{}, {"to": "ann", "cents": "many"}, [], "all of it"])
async def test_an_edit_that_breaks_the_contract_changes_nothing(input: Any):
    async with town({}) as here:
        question = await here.asked()
        with pytest.raises(InvalidInput):
            await here.says("ann", question, input=input)
        (same,) = await here.federation.client.approvals()
        assert same == question


async def test_an_edit_voids_who_has_said_yes_before_and_counts_for_its_editor():
    async with town({"quorum": 2}) as here:
        question = await here.asked()
        await here.says("ann", question)
        changed = await here.says("bob", question, input={"to": "ann", "cents": 1})
        assert (changed.decision, changed.votes) == ("pending", ["bob"])
        with pytest.raises(DigestMismatch):
            await here.says("cy", question)
        await here.says("ann", changed)
        assert (await here.task(question)).output["cents"] == 1


async def test_an_edit_upwards_meets_the_rule_for_so_much():
    """The editor may say yes to small amounts only: their edit stands, and others have to say yes to it."""
    boss = {"above": {"field": "cents", "limit": 1000}, "approvers": ["boss"]}
    async with town(boss, {"approvers": ["ann"]}) as here:
        question = await here.asked(600)
        changed = await here.says("ann", question, input={"to": "ann", "cents": 5000})
        assert (changed.decision, changed.votes, changed.approvers) == ("pending", [], ["boss"])
        with pytest.raises(NotAllowed):
            await here.says("ann", changed)
        await here.says("boss", changed)
        assert (await here.task(question)).output["cents"] == 5000


async def test_an_edit_below_every_limit_still_needs_the_second_pair_of_eyes():
    async with town({"above": {"field": "cents", "limit": 100}, "quorum": 2}) as here:
        question = await here.asked()
        changed = await here.says("ann", question, input={"to": "ann", "cents": 5})
        assert (changed.decision, changed.quorum, changed.votes) == ("pending", 2, ["ann"])


async def test_an_edit_survives_a_restart(tmp_path: Path):
    async with town({"quorum": 2}, data=tmp_path) as here:
        changed = await here.says("ann", await here.asked(), input={"to": "ann", "cents": 7})
    async with town({"quorum": 2}, data=tmp_path) as here:
        await here.says("bob", changed)
        assert (await here.task(changed)).output["cents"] == 7


async def test_an_edit_right_after_a_start_waits_for_the_agent_whose_contract_it_must_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with town({}, data=tmp_path) as here:
        question = await here.asked()
    door = asyncio.Event()
    monkeypatch.setattr(federation, "make_host", lambda *given, **more: Late(make_host(*given, **more), door))
    monkeypatch.setattr(federation, "present", lambda client: asyncio.sleep(0))
    async with town({}, data=tmp_path) as here:
        said = asyncio.create_task(here.says("ann", question, input={"to": "ann", "cents": 7}))
        assert [each.id for each in await here.person("ann").approvals()] == [question.id]
        assert not said.done()
        door.set()
        assert (await said).decision == "approved"
        assert (await here.task(question)).output["cents"] == 7


class Late:
    """A host that dials in when its door is open."""

    def __init__(self, host: Host, door: asyncio.Event) -> None:
        self._host, self._door = host, door

    async def start(self, dialers: Any) -> None:
        async def come() -> None:
            await self._door.wait()
            await self._host.start(dialers)

        self._coming = asyncio.create_task(come())

    async def stop(self) -> None:
        await self._coming
        await self._host.stop()


# Time


async def test_a_yes_after_a_clock_jumped_past_the_end_grants_nothing():
    clock = Clock()
    async with town({"expires_seconds": 3600}, clock=clock) as here:
        question = await here.asked()
        clock.skew_ms = 3_600_001
        with pytest.raises(Conflict, match="too late"):
            await here.says("ann", question)
        task = await here.task(question)
        assert task.error
        assert task.error.code == "approval_expired"
        assert await here.paid() == 0


async def test_a_clock_that_was_set_back_while_nobody_ran_gives_no_more_time(tmp_path: Path):
    clock = Clock()
    rule = {"expires_seconds": 0.3}
    async with town(rule, clock=clock, data=tmp_path) as here:
        question = await here.asked()
    clock.skew_ms = -3_600_000
    async with town(rule, clock=clock, data=tmp_path) as here:
        task = await here.task(question)
        task = await here.federation.client.wait(question.task, 10) if task.status != "failed" else task
        while not task.status.terminal:
            task = await here.federation.client.task(question.task)
        assert task.error
        assert task.error.code == "approval_expired"


async def test_what_nobody_decides_goes_higher_up():
    rule = {"approvers": ["ann"], "escalate_after_seconds": 0.05, "escalate_to": ["managers"]}
    async with town(rule, groups={"managers": ["boss"]}) as here:
        question = await here.asked()
        seen = await here.federation.client.events(question.task, wait_seconds=0)
        while not any(event.kind is Kind.APPROVAL_ESCALATED for event in seen):
            seen = await here.federation.client.events(question.task, after=seen[-1].sequence, wait_seconds=10)
        (now,) = await here.federation.client.approvals()
        assert now.approvers == ["ann", "boss"]
        await here.says("boss", question)
        assert (await here.task(question)).status == "completed"


# What a person is shown


async def test_the_material_says_what_is_needed_to_judge():
    above = {"above": {"field": "cents", "limit": 500}}
    async with town(above) as here:
        question = await here.asked(612, by="sue", labels={"channel": "mail"})
        rows = {row.label: row.value for row in question.material}
        assert rows == {
            "does": "till.pay@1.0: Pay somebody. Nobody else does.",
            "changes": "something that till.take_back can undo; risk low",
            "amount": "612",
            "rule": "till.pay above 500 (cents = 612)",
            "label money": "contract till.pay, step call",
            "input to": "ann",
            "input cents": "612",
            "asked by": "sue",
            "task labels": "channel=mail",
            "done before": "nothing",
            "price": "1.5 cents",
            "if denied": "the task ends; nothing has to be undone",
        }


async def test_the_material_tells_what_was_done_before_and_would_be_undone():
    async with town({"above": {"field": "cents", "limit": 500}}) as here:
        first = {"id": "small", "call": "till.pay", "input": {"to": "bob", "cents": 5}}
        second = {"id": "large", "call": "till.pay", "input": {"to": "bob", "cents": 501}, "after": ["small"]}
        task = await here.federation.submit(plan={"steps": [first, second]})
        await here.federation.client.wait(task.id, 10)
        (question,) = await here.federation.client.approvals()
        rows = {row.label: row.value for row in question.material}
        assert rows["done before"] == "small (till.pay)"
        assert rows["if denied"] == "the task ends, and 1 done before are undone"
