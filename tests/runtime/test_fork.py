"""Fork: a new task from a prefix, which never repeats an effect of that prefix."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import (
    Conflict,
    Epoch,
    Event,
    Fork,
    InvalidInput,
    InvalidPlan,
    KeyReused,
    Kind,
    NotFound,
    Plan,
    Refusal,
    Submission,
    TaskView,
    capability,
)
from hanse.contracts import Sequence as Sequence_
from hanse.contracts.events import FORMAT
from hanse.runtime.execution import Run, Start, fold
from hanse.runtime.federation import Federation, Task
from hanse.runtime.fork import Forked, fork
from hanse.runtime.simulation.referee import referee

from ..support.histories import replayed, simulated
from ..support.pool import ScriptedModels


class Amount(BaseModel):
    account: str
    cents: int


class Balance(BaseModel):
    account: str
    cents: int
    moved: int


class Closed(Refusal):
    """The bank does not do this today."""

    code = "fork_test.closed"


class Bank(Agent):
    """Keeps accounts, and counts what was done to them."""

    domain = "bank"
    done: ClassVar[Counter[str]] = Counter()
    closed: ClassVar[bool] = False
    opened: ClassVar[asyncio.Event]

    @capability(effect="reversible", compensation="withdraw", price_cents=2)
    async def deposit(self, request: Amount, context: Context) -> Balance:
        """Add money."""
        return await self._add("deposit", request.account, request.cents, context)

    @capability(effect="irreversible")
    async def withdraw(self, request: Amount, context: Context) -> Balance:
        """Take money."""
        return await self._add("withdraw", request.account, -request.cents, context)

    @capability(effect="read", price_cents=1)
    async def balance(self, request: Amount, context: Context) -> Balance:
        """Say what is there."""
        return await self._add("balance", request.account, 0, context)

    @capability(effect="irreversible")
    async def tell(self, request: Amount, context: Context) -> Balance:
        """Tell the owner; closed now and then."""
        if self.closed:
            raise Closed
        return await self._add("tell", request.account, 0, context)

    @capability(effect="irreversible")
    async def wait(self, request: Amount, context: Context) -> Balance:
        """Take a while."""
        await self.opened.wait()
        return await self._add("wait", request.account, 0, context)

    async def _add(self, verb: str, account: str, cents: int, context: Context) -> Balance:
        self.done[f"{verb} {account}"] += 1
        total = cents + await context.state.get("total", account, default=0)
        if cents:
            await context.state.put("total", account, total)
        return Balance(account=account, cents=total, moved=cents)


@pytest.fixture
async def bank() -> AsyncIterator[Federation]:
    Bank.done.clear()
    Bank.closed, Bank.opened = False, asyncio.Event()
    async with Federation.in_process([Bank]) as federation:
        yield federation


def step(id: str, call: str, account: Any, cents: Any = 0, **parts: Any) -> dict[str, Any]:
    return {"id": id, "call": f"bank.{call}", "input": {"account": account, "cents": cents}, **parts}


FROM_INPUT = {"$from": "input.name"}
CHAIN = {
    "steps": [
        step("look", "balance", FROM_INPUT),
        step("pay", "deposit", "a", 5, after=["look"]),
        step("each", "deposit", {"$from": "item"}, 1, for_each=["b", "c"], after=["pay"]),
        step("tell", "tell", {"$from": "pay.account"}, after=["each"]),
        step("aside", "deposit", "aside", 7),
    ],
    "output": {"$from": "tell"},
}


async def ended(federation: Federation, plan: Any = CHAIN, input: Any = None, **more: Any) -> TaskView:
    task = await federation.submit(plan=plan, input=input or {"name": "a"}, **more)
    return await task.wait(10)


async def forked(federation: Federation, task: str, step: str, **asked: Any) -> TaskView:
    view = await federation.client.fork(task, Fork(step=step, **asked))
    while not view.status.terminal:
        view = await federation.client.wait(view.id, 10)
    history = await federation.client.events(view.id)
    referee(history)
    assert replayed(history).divergence is None
    return view


async def under_way(task: Task, step: str) -> None:
    async for event in task.events():
        if (event.kind, event.step) == (Kind.STEP_AWARDED, step):
            return


async def inherited(federation: Federation, task: str) -> dict[Any, Event]:
    events = await federation.client.events(task)
    return {event.step: event for event in events if event.kind is Kind.STEP_INHERITED}


async def test_what_was_done_before_the_step_and_beside_it_is_not_done_again(bank: Federation):
    first = await ended(bank)
    done = dict(Bank.done)
    fork = await forked(bank, first.id, "tell")
    assert fork.status == "completed"
    assert dict(Bank.done) == done | {"tell a": 2}
    assert fork.forked_from is not None
    assert (fork.forked_from.task, fork.forked_from.step) == (first.id, "tell")
    assert set(fork.forked_from.inherited) == {"look", "pay", "each[0]", "each[1]", "aside"}
    assert fork.output == {"account": "a", "cents": 5, "moved": 0}


async def test_an_inherited_step_says_where_it_was_done_and_costs_nothing(bank: Federation):
    first = await ended(bank)
    fork = await forked(bank, first.id, "tell", budget={"cents": 0})
    assert (first.cost_cents, fork.cost_cents) == (9, 0)
    original = {event.step: event for event in await bank.client.events(first.id) if event.kind is Kind.STEP_COMPLETED}
    for name, event in (await inherited(bank, fork.id)).items():
        assert event.data["task"] == first.id
        assert event.data["sequence"] == original[name].sequence
        assert event.data["output"] == original[name].data["output"]
    steps = {view.id: view for view in await bank.client.steps(fork.id)}
    assert (steps["pay"].agent, steps["pay"].price_cents) == ("bank", 0)
    assert steps["pay"].reason == f"inherited from {first.id}"


async def test_a_fork_of_a_fork_names_the_task_that_did_it(bank: Federation):
    first = await ended(bank)
    second = await forked(bank, first.id, "each")
    third = await forked(bank, second.id, "tell")
    by = {name: event.data["task"] for name, event in (await inherited(bank, third.id)).items()}
    assert by["pay"] == first.id
    assert by["each[0]"] == second.id
    assert Bank.done["deposit a"] == 1


async def test_a_fork_that_fails_undoes_what_it_did_and_nothing_that_it_inherited(bank: Federation):
    """Inherited steps belong to the first task."""
    first = await ended(bank)
    Bank.closed = True
    fork = await forked(bank, first.id, "each")
    assert fork.status == "failed"
    assert Bank.done["withdraw a"] == Bank.done["withdraw aside"] == 0
    assert Bank.done["withdraw b"] == Bank.done["withdraw c"] == 1


async def test_what_was_undone_counts_as_not_done(bank: Federation):
    Bank.closed = True
    first = await ended(bank)
    assert first.status == "failed"
    Bank.closed = False
    fork = await forked(bank, first.id, "tell")
    assert fork.status == "completed"
    assert fork.forked_from is not None
    assert fork.forked_from.inherited == ["look"]
    assert Bank.done["deposit a"] == 2


async def test_of_a_running_task_only_what_is_done_is_carried_over(bank: Federation):
    slow, end = step("slow", "wait", "a", after=["pay"]), step("end", "tell", "a", after=["slow"])
    plan = {"steps": [step("pay", "deposit", "a", 5), slow, end]}
    task = await bank.submit(plan=plan)
    await under_way(task, "slow")
    fork = await bank.client.fork(task.id, Fork(step="end"))
    assert fork.forked_from is not None
    assert fork.forked_from.inherited == ["pay"]
    Bank.opened.set()
    assert (await task.wait(10)).status == "completed"
    assert (await forked(bank, task.id, "end")).status == "completed"
    assert Bank.done["deposit a"] == 1
    assert Bank.done["wait a"] == 2


async def test_a_task_that_is_being_rolled_back_cannot_be_forked(bank: Federation):
    plan = {"steps": [step("pay", "deposit", "a", 5), step("slow", "wait", "a", after=["pay"])]}
    task = await bank.submit(plan=plan)
    await under_way(task, "slow")
    _, refused = await asyncio.gather(
        task.cancel(), bank.client.fork(task.id, Fork(step="slow")), return_exceptions=True
    )
    assert isinstance(refused, Conflict)
    assert "rolled back" in refused.detail
    assert (await task.wait(10)).status == "canceled"


async def test_another_input_is_taken_where_it_changes_nothing_that_was_done(bank: Federation):
    """A step that has changed nothing is done again with it."""
    tell = step("tell", "tell", FROM_INPUT, after=["pay", "read"])
    plan = {**CHAIN, "steps": [step("read", "balance", FROM_INPUT), step("pay", "deposit", "a", 5), tell]}
    first = await ended(bank, plan)
    fork = await forked(bank, first.id, "tell", input={"name": "other"})
    assert fork.status == "completed"
    assert fork.output == {"account": "other", "cents": 0, "moved": 0}
    assert Bank.done["deposit a"] == 1
    assert Bank.done["balance other"] == 1


async def test_another_input_of_a_step_that_had_an_effect_is_refused_by_name(bank: Federation):
    plan = {"steps": [step("pay", "deposit", FROM_INPUT, 5), step("tell", "tell", "a", after=["pay"])]}
    first = await ended(bank, plan)
    with pytest.raises(
        InvalidInput, match=r"pay has changed something in task .* its input would be another"
    ) as caught:
        await bank.client.fork(first.id, Fork(step="tell", input={"name": "other"}))
    assert caught.value.ids["step"] == "pay"
    assert Bank.done["deposit other"] == 0


async def test_an_effect_that_would_come_after_something_done_anew_is_refused(bank: Federation):
    """The read is done again, so what was paid on the strength of it may be another amount."""
    pay, tell = step("pay", "deposit", "a", {"$from": "look.cents"}), step("tell", "tell", "a", after=["pay"])
    plan = {"steps": [step("look", "balance", FROM_INPUT), pay, tell]}
    first = await ended(bank, plan)
    with pytest.raises(InvalidInput, match=r"pay has changed something .* after a step that is done anew"):
        await bank.client.fork(first.id, Fork(step="tell", input={"name": "other"}))


async def test_another_plan_goes_on_from_the_step_where_it_differs(bank: Federation):
    first = await ended(bank)
    plan = {
        "steps": [each for each in CHAIN["steps"] if each["id"] != "tell"]
        + [step("tell", "tell", "elsewhere", after=["each"])],
        "output": {"$from": "tell"},
    }
    fork = await forked(bank, first.id, "tell", plan=plan)
    assert fork.output["account"] == "elsewhere"
    assert Bank.done["deposit a"] == 1


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([step("tell", "tell", "a")], "does not have it"),
        ([step("pay", "withdraw", "a", 5), step("tell", "tell", "a", after=["pay"])], "calls bank.withdraw there"),
        ([step("pay", "deposit", "a", 6), step("tell", "tell", "a", after=["pay"])], "another one now"),
        ([step("tell", "tell", "a"), step("pay", "deposit", "a", 5, after=["tell"])], "after a step that is done anew"),
        ([step("pay", "deposit", "a", 5, when=False), step("tell", "tell", "a", after=["pay"])], "or not at all"),
    ],
)
async def test_another_plan_that_would_repeat_or_orphan_an_effect_is_refused(bank: Federation, steps: Any, why: str):
    first = await ended(bank, {"steps": [step("pay", "deposit", "a", 5), step("tell", "tell", "a", after=["pay"])]})
    with pytest.raises(InvalidInput, match=why):
        await bank.client.fork(first.id, Fork(step="tell", plan={"steps": steps}))
    assert Bank.done["deposit a"] == 1


async def test_what_cannot_be_forked_is_refused_and_says_why(bank: Federation):
    first = await ended(bank)
    client = bank.client
    with pytest.raises(NotFound, match="no step 'nowhere'"):
        await client.fork(first.id, Fork(step="nowhere"))
    with pytest.raises(InvalidInput, match="where it goes its own way"):
        await client.fork(first.id, Fork(step="tell", plan={"steps": [step("a", "balance", "a")]}))
    with pytest.raises(InvalidInput, match=r"no step calls bank\.nothing"):
        await client.fork(first.id, Fork(step="tell", versions={"bank.nothing": "1"}))
    with pytest.raises(NotFound, match=r"version 1\.0, not 9"):
        await client.fork(first.id, Fork(step="tell", versions={"bank.tell": "9"}))
    with pytest.raises(InvalidPlan):
        await client.fork(first.id, Fork(step="tell", versions={"bank.tell": "soon"}))
    with pytest.raises(NotFound):
        await client.fork("01932f3a-0000-7000-8000-000000000000", Fork(step="tell"))
    assert len(await client.tasks()) == 1


async def test_a_version_is_wanted_of_what_is_done_anew_alone(bank: Federation):
    first = await ended(bank)
    fork = await forked(bank, first.id, "tell", versions={"bank.tell": "1.0", "bank.deposit": "1"})
    submitted = (await bank.client.events(fork.id))[0].data
    calls = {each["id"]: each["call"] for each in submitted["plan"]["steps"]}
    assert (calls["tell"], calls["pay"]) == ("bank.tell@1.0", "bank.deposit")


async def test_the_same_key_is_the_same_fork(bank: Federation):
    first = await ended(bank)
    views = [await bank.client.fork(first.id, Fork(step="tell", idempotency_key="k")) for _ in range(2)]
    assert views[0].id == views[1].id
    with pytest.raises(KeyReused):
        await bank.client.fork(first.id, Fork(step="each", idempotency_key="k"))
    with pytest.raises(KeyReused):
        await bank.client.submit(Submission(plan=CHAIN, input={"name": "a"}, idempotency_key="k"))


async def test_an_optional_step_that_was_refused_stays_refused(bank: Federation):
    Bank.closed = True
    plan = {
        "steps": [
            step("maybe", "tell", "a", optional=True),
            step("pay", "deposit", "a", 5, after=["maybe"]),
            step("end", "balance", "a", after=["pay"]),
        ],
        "output": {"$from": "end"},
    }
    first = await ended(bank, plan)
    Bank.closed = False
    fork = await forked(bank, first.id, "end")
    assert fork.status == "completed"
    assert set(fork.forked_from.inherited) == {"maybe", "pay"}  # type: ignore[union-attr]
    assert Bank.done["tell a"] == 0


async def test_what_waited_behind_a_barrier_has_its_turn_in_its_place(bank: Federation):
    """`late` and `told` cannot be undone. `told` is carried over, so the barrier that `early` lifts is none to it."""
    Bank.opened.set()
    never = {"$eq": [FROM_INPUT, "nobody"]}
    plan = {
        "steps": [
            step("early", "deposit", "a", 5, when=never),
            step("late", "withdraw", "a", 1, when=never),
            step("told", "wait", "b"),
            step("end", "balance", "a", after=["told"]),
        ],
        "output": {"$from": "end"},
    }
    first = await ended(bank, plan)
    fork = await forked(bank, first.id, "end")  # which is replayed
    assert fork.status == "completed"
    events = await bank.client.events(fork.id)
    by_itself = [event.step for event in events if event.kind in (Kind.STEP_SKIPPED, Kind.STEP_INHERITED)]
    assert by_itself == ["early", "late", "told"]


async def test_a_fork_goes_on_after_a_restart(tmp_path: Any):
    Bank.done.clear()
    Bank.closed, Bank.opened = False, asyncio.Event()
    plan = {
        "steps": [step("pay", "deposit", "a", 5), step("slow", "wait", "a", after=["pay"])],
        "output": {"$from": "pay"},
    }
    async with Federation.in_process([Bank], data=tmp_path) as federation:
        Bank.opened.set()
        first = await ended(federation, plan)
        Bank.opened.clear()
        fork = await federation.client.fork(first.id, Fork(step="slow"))
    async with Federation.in_process([Bank], data=tmp_path) as federation:
        Bank.opened.set()
        while not (view := await federation.client.wait(fork.id, 10)).status.terminal:
            pass
        assert (view.status, view.output["cents"]) == ("completed", 5)
        assert replayed(await federation.client.events(fork.id)).divergence is None
    assert Bank.done["deposit a"] == 1


def test_any_task_forked_at_any_step_keeps_every_effect_before_it_and_starts_none_of_them():
    """Of tasks that went every way there is, finished and cut off: or the fork is refused, with a reason."""
    forks: Counter[str] = Counter()
    for seed in range(8):
        for history in simulated(seed):
            for events in (history, history[: len(history) // 2 or 1]):
                forks.update(_forked_everywhere(events))
    assert forks["forked"] > 400
    assert forks["kept"] > 100
    assert forks["refused"] > 0


def _forked_everywhere(events: Sequence[Event]) -> Iterator[str]:
    source = fold(iter(events))
    assert source is not None
    for step in source.plan.steps:
        try:
            made = fork(source, events, Fork(step=step.id))
        except (Conflict, InvalidInput):
            yield "refused"
            continue
        yield "forked"
        yield from _check_fork(source, step.id, made)


def _check_fork(source: Run, step: str, made: Forked) -> Iterator[str]:
    kept = made.origin["steps"]
    after = _and_after(source.plan, step)
    for each in source.steps.values():
        stands = each.status == "completed" and each.members is None and not each.settles
        before = (each.parent or each).id not in after
        if stands and before and source.pin(each).effect.writes:
            assert each.id in kept, "an effect before the step would be had twice"
    assert not any(name.partition("[")[0] in after for name in kept)
    data = {"tenant": "t", "plan": source.plan.data, "input": made.submission.input, "forked_from": made.origin}
    data |= {"pins": {name: pin.to_data() for name, pin in source.pins.items()}, "format": FORMAT}
    started = Run(Event(Sequence_(1), Epoch(1), 0, Kind.TASK_SUBMITTED, source.task, None, data))
    wanted = list(started.next())
    assert not any(isinstance(command, Start) and command.step.id in kept for command in wanted)
    yield from ("kept" for _ in kept)


def _and_after(plan: Plan, step: str) -> set[str]:
    found, waiting = set[str](), [step]
    while waiting:
        found.add(name := waiting.pop())
        waiting += [each.id for each in plan.steps if name in plan.dependencies[each.id] and each.id not in found]
    return found


async def test_a_step_whose_input_a_person_has_changed_is_carried_over_as_it_was_done():
    Bank.done.clear()
    Bank.closed, Bank.opened = False, asyncio.Event()
    rules = [{"capability": "bank.deposit", "expires_seconds": 60}]
    async with Federation.in_process([Bank], approvals=rules) as federation:
        plan = {"steps": [step("pay", "deposit", "a", 5), step("tell", "tell", "a", after=["pay"])]}
        task = await federation.submit(plan=plan)
        await federation.client.wait(task.id, 10)
        (question,) = await federation.client.approvals()
        changed = {"account": "a", "cents": 4}
        await federation.client.decide(question.id, approve=True, digest=question.digest, input=changed)
        assert (await task.wait(10)).status == "completed"
        assert (await federation.client.replay(task.id)).ok
        fork = await forked(federation, task.id, "tell")
        assert fork.forked_from is not None
        assert (fork.status, fork.forked_from.inherited) == ("completed", ["pay"])
    assert Bank.done["deposit a"] == 1


class Letter(BaseModel):
    text: str


class Desk(Agent):
    """Answers letters, and lets itself be asked."""

    domain = "desk"

    @capability(effect="read")
    async def answer(self, request: Letter, context: Context) -> Letter:
        """Let a model answer."""
        return Letter(text=await context.models.complete(request.text))

    @capability(effect="read")
    async def pass_on(self, request: Letter, context: Context) -> Letter:
        """Let somebody answer."""
        return Letter(**await context.tasks.call("desk.answer", request))


TIERS = [{"name": "small", "source": "tiny"}, {"name": "large", "source": "tiny"}]


async def test_a_fork_may_ask_another_model_and_so_do_its_children():
    pool = ScriptedModels(lambda ask, _: f"{ask.tier} {ask.only}")
    hello = {"text": "Hello?"}
    steps = [
        {"id": "answer", "call": "desk.answer", "input": hello},
        {"id": "pass_on", "call": "desk.pass_on", "input": hello, "after": ["answer"]},
    ]
    plan = {"steps": steps, "output": [{"$from": "answer.text"}, {"$from": "pass_on.text"}]}
    async with Federation.in_process(agents=[Desk], pool=pool, models={"tiers": TIERS}) as federation:
        first = await (await federation.submit(plan=plan)).wait(10)
        assert (first.model, first.output) == (None, ["None False", "None False"])
        second = await forked(federation, first.id, "pass_on", model="large")
        assert (second.model, second.output) == ("large", ["None False", "large True"])
        third = await forked(federation, second.id, "answer")
        assert (third.model, third.output) == ("large", ["large True", "large True"])
        with pytest.raises(InvalidInput, match="there is no tier 'huge'"):
            await federation.client.fork(first.id, Fork(step="answer", model="huge"))
