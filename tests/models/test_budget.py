"""Money: what is held and what was spent never exceed a limit, wherever the process dies and whatever is lost (I6)."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import (
    BudgetExhausted,
    Event,
    HanseError,
    Kind,
    ModelUnavailable,
    Overloaded,
    StepId,
    TaskId,
    TimedOut,
)
from hanse.contracts.caller import Caller
from hanse.contracts.pool import Ask
from hanse.models.backend import Raw
from hanse.models.budget import Budget, Used, day_of
from hanse.models.policy import Policy
from hanse.models.price import price, to_cents, to_microcents

from ..support.models import SHOP, Gate, ScriptedBackend, World, ask, caller, running, tier

DEAR = tier("dear", cents=10.0, timeout_seconds=5)
"""A hundredth of a cent a token."""


class Till:
    """What engines were really paid, whatever the pool knows of it."""

    def __init__(self) -> None:
        self.cents = 0.0
        self.by_task: dict[str, float] = defaultdict(float)


def test_prices_are_rounded_up_and_limits_down():
    assert price(tier("a", cents=0.0001), 1, 0) == 1
    assert price(tier("a", cents=0.5), 1000, 1000) == 1_000_000
    assert to_microcents(0.1 + 0.2) == 300_000
    assert to_cents(300_000) == 0.3


def budget_of(world: World, **limits: Any) -> Budget:
    return Budget(world.store, world.journal, world.clock, Policy(**limits))


async def test_what_is_held_cannot_be_held_again(world: World):
    call = budget_of(world, tenant_day_cents=1.0).open_call("c", caller())
    held = call.reserve("t", 700_000, 60)
    with pytest.raises(BudgetExhausted, match=r"0\.3 cents left"):
        call.reserve("t", 400_000, 60)
    assert call.settle(held, Used(1, 1, 100_000)) == 100_000
    call.reserve("t", 900_000, 60)


async def test_a_settlement_is_never_more_than_was_held(world: World):
    call = budget_of(world, tenant_day_cents=1.0).open_call("c", caller())
    assert call.settle(call.reserve("t", 500_000, 60), Used(1, 1, 10**12)) == 500_000
    assert call.settle(call.reserve("t", 500_000, 60), Used(1, 1, -5)) == 0


@pytest.mark.parametrize(
    ("limits", "who", "account"),
    [
        ({"call_cents": 0.5}, Caller(tenant=SHOP), "call"),
        ({"task_cents": 0.5}, Caller(tenant=SHOP, task=TaskId("t")), "task"),
        ({"tenant_day_cents": 0.5}, Caller(tenant=SHOP), "day"),
        ({}, Caller(tenant=SHOP, budget_cents=0.5), "call"),
        ({}, Caller(tenant=SHOP, task=TaskId("t"), budget_cents=0.5), "task"),
        ({}, Caller(tenant=SHOP, task=TaskId("t"), step=StepId("s"), budget_cents=0.5), "step"),
    ],
    ids=["per call", "per task", "per day", "caller's own", "of its task", "of its step"],
)
async def test_every_limit_holds_and_the_error_names_it(world: World, limits, who: Caller, account: str):
    call = budget_of(world, **limits).open_call("c", who)
    call.reserve("t", 500_000, 60)
    with pytest.raises(BudgetExhausted) as raised:
        call.reserve("t", 1, 60)
    assert raised.value.ids["account"].startswith(account)


async def test_steps_and_tasks_and_tenants_have_accounts_of_their_own(world: World):
    budget = budget_of(world, task_cents=0.5)
    budget.open_call("a", caller(task=TaskId("t"))).reserve("t", 500_000, 60)
    budget.open_call("b", caller(task=TaskId("u"))).reserve("t", 500_000, 60)
    budget.open_call("c", caller("rival", task=TaskId("t"))).reserve("t", 500_000, 60)
    with pytest.raises(BudgetExhausted):
        budget.open_call("d", caller(task=TaskId("t"), step=StepId("s"))).reserve("t", 1, 60)


async def test_a_new_day_is_a_new_account(world: World):
    budget = budget_of(world, tenant_day_cents=0.5)
    budget.open_call("a", caller()).reserve("t", 500_000, 60)
    world.clock.pass_seconds(86_400)
    budget.open_call("b", caller()).reserve("t", 500_000, 60)
    assert day_of(0) == "1970-01-01"


async def test_what_was_spent_is_known_after_a_restart(world: World):
    budget = budget_of(world)
    who = caller(task=TaskId("t"), step=StepId("s"))
    call = budget.open_call("c", who)
    call.settle(call.reserve("t", 500_000, 60), Used(1, 1, 400_000))
    await world.journal.durable()
    again = budget_of(world, task_cents=0.5).open_call("d", who)
    with pytest.raises(BudgetExhausted):
        again.reserve("t", 100_001, 60)
    again.reserve("t", 100_000, 60)


async def test_a_dead_reservation_is_held_until_its_lease_ends_and_then_counts_as_spent(world: World):
    budget_of(world).open_call("dead", caller()).reserve("t", 400_000, 60)
    await world.journal.durable()
    budget = budget_of(world, tenant_day_cents=0.5)
    assert budget.held(SHOP) == 400_000
    with pytest.raises(BudgetExhausted):
        budget.open_call("c", caller()).reserve("t", 100_001, 60)
    world.clock.pass_seconds(61)
    assert budget.lapse() == 1
    assert budget.held(SHOP) == 0
    with pytest.raises(BudgetExhausted):
        budget.open_call("d", caller()).reserve("t", 100_001, 60)
    await world.journal.durable()
    (event,) = world.events(Kind.MODEL_LAPSED)
    assert (event.data["call"], event.data["microcents"]) == ("dead", 400_000)
    assert budget_of(world).lapse() == 0


async def test_a_settlement_after_its_lease_changes_nothing(world: World):
    budget = budget_of(world)
    call = budget.open_call("c", caller())
    held = call.reserve("t", 400_000, 60)
    world.clock.pass_seconds(61)
    budget.lapse()
    assert call.settle(held, Used(1, 1, 5)) == 400_000


async def test_accounts_that_are_idle_are_forgotten_and_read_again(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hanse.models.budget.ACCOUNTS", 8)
    budget = budget_of(world, task_cents=0.5)
    for number in range(50):
        call = budget.open_call("c", caller(task=TaskId(f"{number}")))
        call.settle(call.reserve("t", 400_000, 60), Used(1, 1, 400_000))
        await world.journal.durable()
    assert len(budget._accounts) < 20
    for number in range(50):
        with pytest.raises(BudgetExhausted):
            budget.open_call("d", caller(task=TaskId(f"{number}"))).reserve("t", 100_001, 60)


async def test_an_account_is_not_forgotten_before_what_it_knows_is_on_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hanse.models.budget.ACCOUNTS", 1)
    budget = budget_of(world, task_cents=0.5)
    for number in range(9):
        call = budget.open_call("c", caller(task=TaskId(f"{number}")))
        call.settle(call.reserve("t", 500_000, 60), Used(1, 1, 500_000))
    for number in range(9):
        with pytest.raises(BudgetExhausted):
            budget.open_call("d", caller(task=TaskId(f"{number}"))).reserve("t", 1, 60)


# What a call is charged for


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (Overloaded("full"), False),
        (ModelUnavailable("died in the middle"), True),
        (TimedOut("no answer"), True),
        (RuntimeError("nobody knows"), True),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_who_may_have_worked_is_paid_and_who_refused_is_not(world: World, error: Exception, charged: bool):
    async with running(world.pool({DEAR: ScriptedBackend(error)})) as pool:
        with pytest.raises(HanseError):
            await pool.ask(ask("hello", max_tokens=100), caller())
        (row,) = await pool.usage(SHOP)
    assert row.cents == (pytest.approx(102 * 0.01) if charged else 0)


async def test_a_caller_who_goes_away_pays_for_what_may_have_been_done(world: World):
    gate = Gate()
    async with running(world.pool({DEAR: ScriptedBackend(gate)})) as pool:
        task = asyncio.create_task(pool.ask(ask("hello", max_tokens=100), caller()))
        await gate.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.journal.durable()
        (row,) = await pool.usage(SHOP)
        (view,) = await pool.calls(SHOP)
    assert row.cents == pytest.approx(102 * 0.01)
    assert view.outcome == "canceled"
    assert world.store.read("reservations") == []


async def test_money_is_on_disk_before_the_engine_is_asked(world: World):
    seen: list[list[tuple[object, ...]]] = []

    async def look(asked: Ask) -> Raw:
        seen.append(world.store.read("reservations"))
        return Raw("fine", (), "stop", 1, 1)

    async with running(world.pool({DEAR: ScriptedBackend(look)})) as pool:
        await pool.ask(ask(max_tokens=100), caller())
    assert [row[6] for row in seen[0]] == [1_020_000]


def check_prefixes(events: Sequence[Event], limit: int) -> None:
    """Folds the journal as an auditor would, who knows nothing but its entries."""
    held: dict[str, list[int]] = defaultdict(list)
    spent = 0
    for event in events:
        call, amount = event.data.get("call", ""), event.data.get("microcents", 0)
        if event.kind is Kind.MODEL_RESERVED:
            held[call].append(amount)
        elif event.kind in (Kind.MODEL_SETTLED, Kind.MODEL_LAPSED):
            assert held[call], "settled what was not held"
            held[call].pop()
            spent += amount
        assert spent + sum(map(sum, held.values())) <= limit


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), kills=st.integers(1, 4), limit=st.integers(2, 30))
def test_nothing_is_overspent_whenever_the_process_dies_and_whatever_is_lost(seed: int, kills: int, limit: int):
    asyncio.run(fire(seed, kills, limit / 10))


@pytest.mark.parametrize("seed", range(3))
async def test_nor_when_its_disk_is_a_real_one(seed: int, tmp_path: Path):
    await fire(seed, 4, 1.5, tmp_path / "models.sqlite")


async def fire(seed: int, kills: int, limit: float, path: Path | str = ":memory:") -> None:
    """Lives of a pool, each with calls at once and an end at some step; engines count what they really did."""
    chance, till = Random(seed), Till()
    world = World(path, seed)
    policy = Policy(tenant_day_cents=limit, task_cents=limit / 2, repairs=1)

    async def work(asked: Ask) -> Raw:
        tokens = chance.randint(1, asked.max_tokens)
        till.cents += (2 + tokens) * 0.01
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            raise chance.choice([ModelUnavailable("the reply is lost"), TimedOut("late"), RuntimeError("odd")])
        return Raw(chance.choice(["fine", "", "\u202e"]), (), "stop", 2, tokens)

    for _ in range(kills):
        pool = world.pool({DEAR: ScriptedBackend(work)}, policy)
        await pool.start()
        asks = [
            asyncio.ensure_future(
                pool.ask(ask("hello", max_tokens=chance.randint(1, 60)), caller(task=TaskId(f"{number % 2}")))
            )
            for number in range(6)
        ]
        for _ in range(chance.randint(0, 40)):
            await asyncio.sleep(0)
        world.die()
        for each in asks:
            each.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
        await world.rise()
        if chance.random() < 0.5:
            world.clock.pass_seconds(chance.choice([1, 100]))
    assert till.cents <= limit + 1e-9, "engines did more than there was money for"
    check_prefixes(world.events(), to_microcents(limit))
    ((spent,),) = world.store.read("spent_on_day", (SHOP, day_of(world.clock.now_ms())))
    assert spent <= to_microcents(limit)
    await world.store.close()
