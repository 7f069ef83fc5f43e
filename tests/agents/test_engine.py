"""The way of a call through the engine: token, receipt, deadline, slot, handler, admission, commit."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from hanse.agents import Agent, Context
from hanse.agents.engine import Engine
from hanse.contracts import (
    Bid,
    Canceled,
    ContractBreach,
    DeadlineExceeded,
    Failed,
    HanseError,
    InvalidInput,
    KeyReused,
    NotFound,
    Overloaded,
    Refusal,
    StorageError,
    TimedOut,
    TokenInvalid,
    Unavailable,
    Verdict,
    capability,
)
from hanse.contracts.messages import Call, Progress, Proposal
from hanse.runtime.store import SqliteStore

from .conftest import Start
from .desk import TurnedClock, again, answer, call_of, engine_of, error, output


class Deposit(BaseModel):
    account: str
    cents: int


class Balance(BaseModel):
    cents: int


class Overdrawn(Refusal):
    """There is not that much."""

    code = "bank.overdrawn"


class Bank(Agent):
    """Keeps accounts."""

    domain = "bank"
    runs = 0

    @capability(effect="reversible", compensation="withdraw")
    async def deposit(self, request: Deposit, context: Context) -> Balance:
        """Add money to an account."""
        self.runs += 1
        balance = await context.state.get("balance", request.account, default=0) + request.cents
        await context.state.put("balance", request.account, balance)
        return Balance(cents=balance)

    @capability(effect="irreversible")
    async def withdraw(self, request: Deposit, context: Context) -> Balance:
        """Take money from an account."""
        balance = await context.state.get("balance", request.account, default=0) - request.cents
        await context.state.put("balance", request.account, balance)
        if balance < 0:
            raise Overdrawn(f"{request.account} has not that much", missing=-balance)
        return Balance(cents=balance)

    @capability(effect="read")
    async def balance(self, request: str, context: Context) -> Balance:
        """What is on an account."""
        self.runs += 1
        return Balance(cents=await context.state.get("balance", request, default=0))


class Gate(Agent):
    """Handlers that wait until they are let through."""

    domain = "gate"

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = asyncio.Semaphore(0)
        self.at_once = self.most_at_once = self.runs = 0

    @capability(effect="irreversible")
    async def pass_through(self, request: int, context: Context) -> int:
        """Wait at the gate."""
        return await self._wait(request, context)

    @capability(effect="irreversible", timeout_seconds=0.05)
    async def hurry(self, request: int, context: Context) -> int:
        """Wait at the gate, but not for long."""
        return await self._wait(request, context)

    @capability(effect="irreversible", timeout_seconds=0.05)
    async def insist(self, request: int, context: Context) -> int:
        """Wait at the gate and ignore that nobody waits any more."""
        await context.state.put("passed", str(request), True)
        try:
            return await self._wait(request, context)
        except asyncio.CancelledError:
            return request

    @capability(effect="read")
    async def passed(self, request: int, context: Context) -> bool:
        """Whether it has passed."""
        return await context.state.get("passed", str(request), default=False)

    async def _wait(self, request: int, context: Context) -> int:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.inside.release()
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        await context.state.put("passed", str(request), True)
        return request


DEPOSIT = {"account": "a", "cents": 5}


# The receipt


async def test_the_same_step_again_gives_the_stored_output_and_runs_nothing(start: Start):
    engine = await start(Bank)
    call = call_of("bank.deposit", DEPOSIT)
    first = await engine.execute(call)
    await answer(engine, "bank.deposit", DEPOSIT)
    second = await engine.execute(again(call, award="another award", attempt=2))
    assert (output(first), first.replayed) == ({"cents": 5}, False)
    assert (output(second), second.replayed, second.award) == ({"cents": 5}, True, "another award")
    assert engine.agent.runs == 2


async def test_the_receipt_outlives_the_process(tmp_path: Path):
    call = call_of("bank.deposit", DEPOSIT)
    for replayed in (False, True):
        store = SqliteStore.open(tmp_path / "bank.sqlite", "agent")
        engine = engine_of(Bank(), store)
        await engine.start()
        result = await engine.execute(call)
        assert (output(result), result.replayed) == ({"cents": 5}, replayed)
        assert await answer(engine, "bank.balance", "a") == {"cents": 5}
        await engine.stop()
        await store.close()


async def test_the_same_key_with_another_input_or_capability_is_refused(start: Start):
    engine = await start(Bank)
    await answer(engine, "bank.deposit", DEPOSIT, task="t")
    for capability_, input in (("bank.deposit", {"account": "a", "cents": 6}), ("bank.withdraw", DEPOSIT)):
        with pytest.raises(KeyReused):
            await answer(engine, capability_, input, task="t")
    assert await answer(engine, "bank.balance", "a") == {"cents": 5}


async def test_a_step_that_is_under_way_is_joined_and_not_run_twice(start: Start):
    engine = await start(Gate)
    call = call_of("gate.pass_through", 7)
    calls = [asyncio.create_task(engine.execute(again(call, award=f"award {n}"))) for n in range(5)]
    await engine.agent.inside.acquire()
    with pytest.raises(KeyReused):
        await answer(engine, "gate.pass_through", 8, task=call.task)
    engine.agent.open.set()
    results = await asyncio.gather(*calls)
    assert [output(result) for result in results] == [7] * 5
    assert [result.replayed for result in results] == [False, True, True, True, True]
    assert engine.agent.runs == 1


async def test_who_joins_a_step_gets_its_error(start: Start):
    engine = await start(Gate)
    call = call_of("gate.hurry", 7)
    results = await asyncio.gather(*(engine.execute(again(call, award=f"award {n}")) for n in range(3)))
    assert [type(error(result)) for result in results] == [TimedOut] * 3
    assert engine.agent.runs == 1


async def test_who_joined_runs_the_step_when_the_first_caller_goes_away(start: Start):
    engine = await start(Gate)
    call = call_of("gate.pass_through", 7)
    first = asyncio.create_task(engine.execute(call))
    await engine.agent.inside.acquire()
    second = asyncio.create_task(engine.execute(call))
    await asyncio.sleep(0)
    first.cancel()
    engine.agent.open.set()
    assert output(await second) == 7
    assert engine.agent.runs == 2
    assert first.cancelled()


async def test_a_caller_that_goes_away_before_the_disk_has_answered_does_not_make_it_run_twice(start: Start):
    engine = await start(Bank)
    call = call_of("bank.deposit", DEPOSIT)
    first = asyncio.create_task(engine.execute(call))
    await asyncio.sleep(0)  # it is admitted, and its commit is under way
    first.cancel()
    result = await engine.execute(call)
    assert (output(result), result.replayed, engine.agent.runs) == ({"cents": 5}, True, 1)
    assert await answer(engine, "bank.balance", "a") == {"cents": 5}


async def test_a_capability_that_only_reads_keeps_no_receipt_and_runs_again(start: Start, store: Any):
    engine = await start(Bank)
    call = call_of("bank.balance", "a")
    assert output(await engine.execute(call)) == {"cents": 0}
    await answer(engine, "bank.deposit", DEPOSIT)
    assert output(await engine.execute(call)) == {"cents": 5}
    assert store.read("receipt_count") == [(1,)]


# Token, input, output


@pytest.mark.parametrize(
    "forge",
    [
        lambda call: again(call, input={"account": "b", "cents": 5}),
        lambda call: again(call, tenant="other"),
        lambda call: again(call, step="s2", key=f"{call.task}/s2"),
        lambda call: again(call, key="any key"),
        lambda call: again(call, capability="bank.withdraw"),
        lambda call: again(call, token=None),
        lambda call: again(call, token=[[], b""]),
        lambda call: again(call, token=[[b"\xc1"], b"x" * 32]),
        lambda call: again(
            call, budget_cents=1.0, token=call_of("bank.deposit", DEPOSIT, task=call.task, caveats={"cents": 0}).token
        ),
        lambda call: call_of("bank.deposit", DEPOSIT, agent="other"),
        lambda call: call_of("bank.deposit", DEPOSIT, caveats={"before": 1}),
        lambda call: call_of("bank.deposit", DEPOSIT, caveats={"unheard_of": 1}),
    ],
)
async def test_a_token_that_does_not_cover_the_call_stops_it(start: Start, store: Any, forge: Callable[[Call], Call]):
    engine = await start(Bank)
    result = await engine.execute(forge(call_of("bank.deposit", DEPOSIT)))
    assert isinstance(error(result), TokenInvalid)
    assert store.read("receipt_count") == [(0,)]
    assert engine.agent.runs == 0


async def test_a_capability_it_does_not_have_is_not_found(start: Start):
    with pytest.raises(NotFound, match=r"bank does not offer bank\.rob"):
        await answer(await start(Bank), "bank.rob")


async def test_input_that_does_not_fit_is_refused_with_its_place(start: Start):
    engine = await start(Bank)
    with pytest.raises(InvalidInput) as refused:
        await answer(engine, "bank.deposit", {"account": "a", "cents": "many"})
    assert refused.value.ids["pointer"] == "/cents"
    assert engine.agent.runs == 0


async def test_output_that_the_contract_does_not_promise_is_a_breach_and_leaves_nothing(start: Start, store: Any):
    class Liar(Agent):
        """Promises a balance."""

        domain = "liar"

        @capability(effect="irreversible")
        async def lie(self, request: int, context: Context) -> Balance:
            """Answer something else."""
            await context.state.put("lies", "a", 1)
            return [Balance.model_construct(cents="many"), {"cents": 1}, None][request]  # pyright: ignore

    engine = await start(Liar)
    for each in range(3):
        with pytest.raises(ContractBreach, match=r"liar\.lie answers what it does not promise") as breach:
            await answer(engine, "liar.lie", each)
        assert breach.value.verdict is Verdict.REAUCTION
    assert store.read("receipt_count") == [(0,)]
    assert store.read("state", ("lies", "a")) == []


# Errors


async def test_a_refusal_of_the_domain_arrives_as_it_is(start: Start):
    engine = await start(Bank)
    with pytest.raises(Overdrawn, match="a has not that much") as refused:
        await answer(engine, "bank.withdraw", DEPOSIT)
    assert refused.value.ids | {"task": ""} == {
        "missing": 5,
        "agent": "bank",
        "capability": "bank.withdraw",
        "step": "s1",
        "task": "",
    }
    assert await answer(engine, "bank.balance", "a") == {"cents": 0}


async def test_any_other_error_is_failed_with_type_and_message_and_its_traceback_is_only_in_the_log(
    start: Start, store: Any, caplog: pytest.LogCaptureFixture
):
    class Vault(BaseModel):
        password: SecretStr

    class Buggy(Agent):
        """Has a bug."""

        domain = "buggy"
        Options = Vault
        heard: BaseException | None = None

        @capability(effect="irreversible")
        async def crash(self, request: int, context: Context) -> int:
            """Write something and crash."""
            await context.state.put("box", "a", request)
            raise KeyError(f"no entry\nfor {self.options.password.get_secret_value()}")

        @capability(effect="irreversible")
        async def cancel_itself(self, request: int, context: Context) -> int:
            """Await something that was canceled."""
            await context.state.put("box", "a", request)
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            return await future

        @capability(effect="irreversible")
        async def refuse_in_a_group(self, request: int, context: Context) -> int:
            """Refuse from inside a task group."""
            async with asyncio.TaskGroup() as group:
                group.create_task(self._refuse())
            return 1

        async def _refuse(self) -> None:
            raise Overdrawn("in a task group")

        async def on_failure(self, error: BaseException) -> None:
            self.heard = error
            raise RuntimeError("and the hook has a bug too")

    engine = await start(Buggy.configured(options={"password": "hunter2"}))
    with caplog.at_level(logging.ERROR), pytest.raises(Failed) as failed:
        await answer(engine, "buggy.crash", 1)
    assert failed.value.detail == "KeyError: 'no entry\\nfor •••'"
    assert isinstance(engine.agent.heard, KeyError)
    assert "Traceback" in caplog.text
    assert "the hook has a bug too" in caplog.text
    assert "hunter2" not in caplog.text
    with pytest.raises(Failed, match="CancelledError"):
        await answer(engine, "buggy.cancel_itself", 1)
    with pytest.raises(Overdrawn, match="in a task group"):
        await answer(engine, "buggy.refuse_in_a_group", 1)
    assert store.read("state", ("box", "a")) == []
    assert store.read("receipt_count") == [(0,)]


async def test_an_error_with_foreign_things_in_it_still_travels(start: Start):
    class Odd(Agent):
        """Raises odd errors."""

        domain = "odd"

        @capability(effect="irreversible")
        async def refuse(self, request: int, context: Context) -> int:
            """Refuse with an object."""
            raise Refusal("odd", thing=object(), number=2**80)

    result = await (await start(Odd)).execute(call_of("odd.refuse", 1))
    assert isinstance(error(result).ids["thing"], str)


# Time


async def test_a_call_that_comes_after_its_deadline_is_dropped_unexecuted(start: Start):
    engine = await start(Bank)
    with pytest.raises(DeadlineExceeded, match="was not begun"):
        await answer(engine, "bank.deposit", DEPOSIT, deadline_seconds=-1)
    assert engine.agent.runs == 0


async def test_an_executed_step_is_answered_from_its_receipt_even_after_its_deadline(start: Start):
    clock = TurnedClock()
    engine = await start(Bank, clock=clock)
    call = call_of("bank.deposit", DEPOSIT)
    await engine.execute(call)
    clock.ahead_ms = 3_600_000
    result = await engine.execute(call)
    assert (output(result), result.replayed) == ({"cents": 5}, True)
    with pytest.raises(DeadlineExceeded):
        await answer(engine, "bank.deposit", DEPOSIT)


async def test_a_handler_is_canceled_when_its_time_is_over_and_leaves_nothing(start: Start):
    engine = await start(Gate)
    with pytest.raises(TimedOut, match=r"did not end within 0\.05 s"):
        await answer(engine, "gate.hurry", 1)
    with pytest.raises(DeadlineExceeded, match="did not end"):
        await answer(engine, "gate.pass_through", 2, deadline_seconds=0.05)
    assert await answer(engine, "gate.passed", 1) is False
    assert engine.agent.at_once == 0


async def test_a_handler_that_swallows_its_cancellation_is_not_admitted(start: Start):
    engine = await start(Gate)
    with pytest.raises(TimedOut):
        await answer(engine, "gate.insist", 1)
    assert await answer(engine, "gate.passed", 1) is False


async def test_a_step_nobody_waits_for_any_more_is_canceled(start: Start):
    engine = await start(Gate)
    call = call_of("gate.pass_through", 1)
    first = asyncio.create_task(engine.execute(again(call, award="first")))
    second = asyncio.create_task(engine.execute(again(call, award="second")))
    await engine.agent.inside.acquire()
    engine.stop_award("first")
    engine.stop_award("an award it never had")
    assert engine.agent.at_once == 1, "somebody still waits"
    engine.stop_award("second")
    assert [type(error(result)) for result in await asyncio.gather(first, second)] == [Canceled] * 2
    assert await answer(engine, "gate.passed", 1) is False


async def test_a_step_that_is_admitted_can_no_longer_be_stopped(start: Start):
    engine = await start(Bank)
    call = call_of("bank.deposit", DEPOSIT)
    task = asyncio.create_task(engine.execute(call))
    await asyncio.sleep(0)
    engine.stop_award(call.award)
    assert output(await task) == {"cents": 5}


async def test_a_step_that_waits_for_its_turn_can_be_stopped(start: Start):
    engine = await start(Gate, max_concurrency=1)
    first = asyncio.create_task(engine.execute(call_of("gate.pass_through", 1)))
    await engine.agent.inside.acquire()
    waiting = call_of("gate.pass_through", 2)
    second = asyncio.create_task(engine.execute(waiting))
    await asyncio.sleep(0)
    engine.stop_award(waiting.award)
    assert isinstance(error(await second), Canceled)
    engine.agent.open.set()
    assert output(await first) == 1
    assert await answer(engine, "gate.pass_through", 3) == 3, "the slot is free again"


# Bounds


async def test_at_most_so_many_handlers_run_at_once_and_the_rest_come_in_turn(start: Start):
    engine = await start(Gate, max_concurrency=3)
    tasks = [asyncio.create_task(answer(engine, "gate.pass_through", n)) for n in range(10)]
    for _ in range(3):
        await engine.agent.inside.acquire()
    assert engine.offer().queue_depth == 10
    engine.agent.open.set()
    assert await asyncio.gather(*tasks) == list(range(10))
    assert engine.agent.most_at_once == 3
    assert engine.offer().queue_depth == 0


async def test_a_full_queue_refuses_and_says_when_to_come_again(start: Start):
    engine = await start(Gate, max_concurrency=1, max_queue=2)
    tasks = [asyncio.create_task(answer(engine, "gate.pass_through", n)) for n in range(3)]
    await engine.agent.inside.acquire()
    with pytest.raises(Overloaded) as overloaded:
        await answer(engine, "gate.pass_through", 3)
    assert overloaded.value.retry_after_seconds > 0
    assert overloaded.value.verdict is Verdict.RETRY
    engine.agent.open.set()
    await asyncio.gather(*tasks)
    assert await answer(engine, "gate.pass_through", 3) == 3


async def test_a_call_whose_deadline_passes_in_the_queue_is_dropped(start: Start):
    clock = TurnedClock()
    engine = await start(Gate, max_concurrency=1, clock=clock)
    first = asyncio.create_task(answer(engine, "gate.pass_through", 1))
    await engine.agent.inside.acquire()
    second = asyncio.create_task(answer(engine, "gate.pass_through", 2))
    await asyncio.sleep(0)
    clock.ahead_ms = 3_600_000
    engine.agent.open.set()
    assert await first == 1
    with pytest.raises(DeadlineExceeded, match="was not begun"):
        await second
    clock.ahead_ms = 0
    assert await answer(engine, "gate.pass_through", 3) == 3


# What it says of itself


async def test_an_offer_tells_queue_latency_price_and_health(start: Start):
    class Dear(Bank):
        """A bank that costs more when it likes."""

        name = "dear"
        mood = ""

        def price_cents(self, capability: str) -> float:
            return 7.0

        def ailment(self) -> str:
            return self.mood

    engine = await start(Dear)
    assert engine.offer().latency_ms == {}
    await answer(engine, "bank.deposit", DEPOSIT)
    offer = engine.offer()
    assert (offer.agent, offer.queue_depth, offer.healthy) == ("dear", 0, True)
    assert offer.latency_ms["bank.deposit"] > 0
    assert set(offer.price_cents.values()) == {7.0}
    engine.agent.mood = "the vault is closed"
    assert (engine.offer().healthy, engine.offer().reason) == (False, "the vault is closed")


async def test_a_bid_is_the_standing_offer_unless_the_agent_says_otherwise(start: Start):
    class Picky(Bank):
        """A bank that looks at its customers."""

        name = "picky"

        async def propose(self, proposal: Proposal, context: Context) -> Bid:
            if proposal.input["account"] == "crash":
                raise ValueError("a bug")
            if await context.state.get("balance", proposal.input["account"], default=0) < 0:
                raise Refusal("no more")
            if proposal.input["account"] == "write":
                await context.state.put("balance", "a", 1)
            return await super().propose(proposal, context)

    def proposal(account: str, capability_: str = "bank.deposit") -> Proposal:
        about: Any = {"agent": "picky", "task": "t", "step": "s", "tenant": "default", "capability": capability_}
        return Proposal(number=1, input={"account": account, "cents": 1}, **about)

    engine = await start(Picky)
    bid = await engine.propose(proposal("a"))
    assert (bid.agent, bid.version, bid.refusal, bid.latency_ms) == ("picky", "1.0", "", 10)
    assert "a bug" in (await engine.propose(proposal("crash"))).refusal
    assert "only reads" in (await engine.propose(proposal("write"))).refusal
    assert "does not offer" in (await engine.propose(proposal("a", "bank.rob"))).refusal


async def test_it_describes_itself_with_its_contracts(start: Start):
    described = (await start(Bank)).describe()
    assert (described["agent"], described["domain"], described["description"]) == ("bank", "bank", "Keeps accounts.")
    assert [contract["name"] for contract in described["contracts"]] == [
        "bank.balance",
        "bank.deposit",
        "bank.withdraw",
    ]


async def test_progress_is_passed_on(start: Start):
    class Slow(Agent):
        """Says how far it is."""

        domain = "slow"

        @capability(effect="irreversible")
        async def go(self, request: int, context: Context) -> int:
            """Go."""
            context.progress(0.5, "half way")
            context.progress(7)
            return request

    told: list[Progress] = []
    engine = await start(Slow, on_progress=told.append)
    await answer(engine, "slow.go", 1)
    assert [(each.step, each.fraction, each.note) for each in told] == [("s1", 0.5, "half way"), ("s1", 1.0, "")]


# Its life


async def test_on_start_puts_initial_data_before_the_first_call_and_on_stop_comes_last(start: Start, store: Any):
    class Shop(Agent):
        """Has goods from the start."""

        domain = "shop"
        stopped = False

        async def on_start(self, context: Context) -> None:
            if not await context.state.get("shop", "opened", default=False):
                await context.state.put("shop", "opened", True)
                await context.state.put("goods", "pen", 3)

        async def on_stop(self) -> None:
            self.stopped = True

        @capability(effect="read")
        async def count(self, request: str, context: Context) -> int:
            """How many there are."""
            return await context.state.get("goods", request, default=0)

    engine = await start(Shop)
    assert store.read("state", ("goods", "pen"))
    assert await answer(engine, "shop.count", "pen") == 3
    await engine.stop()
    assert engine.agent.stopped
    with pytest.raises(Unavailable, match="shop is stopping"):
        await answer(engine, "shop.count", "pen")
    assert not engine.offer().healthy


async def test_an_on_start_that_raises_leaves_nothing_and_is_raised(store: Any):
    class Broken(Agent):
        """Cannot start."""

        domain = "broken"

        async def on_start(self, context: Context) -> None:
            await context.state.put("a", "b", 1)
            raise ValueError("no way")

    with pytest.raises(Failed, match=r"it cannot start: ValueError: no way \(agent=broken\)"):
        await engine_of(Broken(), store).start()
    assert store.read("state", ("a", "b")) == []


async def test_stopping_lets_handlers_end_and_cancels_those_that_do_not(start: Start):
    engine = await start(Gate)
    one = asyncio.create_task(engine.execute(call_of("gate.pass_through", 1)))
    await engine.agent.inside.acquire()
    stopping = asyncio.create_task(engine.stop(grace_seconds=5))
    await asyncio.sleep(0)
    engine.agent.open.set()
    assert output(await one) == 1
    await stopping

    engine = await start(Gate)
    one = asyncio.create_task(engine.execute(call_of("gate.pass_through", 1)))
    await engine.agent.inside.acquire()
    await engine.stop(grace_seconds=0.01)
    assert isinstance(error(await one), Unavailable)


# A store that breaks


async def test_a_commit_that_fails_fences_the_engine(tmp_path: Path):
    heard: list[BaseException] = []

    class Listening(Bank):
        """A bank that listens."""

        async def on_failure(self, error: BaseException) -> None:
            heard.append(error)

    store = SqliteStore.open(tmp_path / "bank.sqlite", "agent")
    engine = engine_of(Listening(), store)
    await engine.start()
    await answer(engine, "bank.deposit", DEPOSIT)
    other = SqliteStore.open(tmp_path / "bank.sqlite", "agent")  # raises the epoch: another process has taken over
    results = await asyncio.gather(
        *(engine.execute(call_of("bank.deposit", DEPOSIT)) for _ in range(3)), return_exceptions=True
    )
    assert [isinstance(result, StorageError) for result in results] == [True] * 3
    assert all(result.code == "fenced" for result in results if isinstance(result, HanseError))
    assert len(heard) == 1
    with pytest.raises(StorageError):
        await engine.execute(call_of("bank.balance", "a"))
    assert not engine.offer().healthy
    fresh = engine_of(Bank(), other)
    await fresh.start()
    assert await answer(fresh, "bank.balance", "a") == {"cents": 5}
    await store.close()
    await other.close()


def test_engine_is_what_the_host_expects():
    wanted = {"start", "stop", "execute", "propose", "offer", "describe", "stop_award"}
    assert wanted <= set(dir(Engine))
