"""Handlers of one agent run at the same time and come out as if they had run one after another, in some order.

The judge is independent of the engine: it knows the handlers as plain functions over a dict, and looks for an order of
the calls in which these give the very same answers and the very same state.
"""

import asyncio
import itertools
from typing import Any, NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hanse.agents import Agent, Context, Engine
from hanse.contracts import Refusal, capability
from hanse.contracts.messages import Result
from hanse.runtime.store import SqliteStore

from .desk import call_of, engine_of

ACCOUNTS = ("a", "b", "c")
FIRST = {"a": 10, "b": 10}


class Work(BaseModel):
    op: str
    source: str = "a"
    target: str = "b"
    cents: int = 0
    pauses: list[int] = []


class Bank(Agent):
    """Handlers that look, wait, look again and write."""

    domain = "bank"

    async def on_start(self, context: Context) -> None:
        for account, cents in FIRST.items():
            await context.state.put("accounts", account, cents)

    @capability(effect="irreversible")
    async def work(self, request: Work, context: Context) -> Any:
        """Do one thing, with pauses between the reads and writes of it."""
        pauses = iter(request.pauses)

        async def pause() -> None:
            for _ in range(next(pauses, 0)):
                await asyncio.sleep(0)

        state = context.state
        await pause()
        match request.op:
            case "transfer":
                source = await state.get("accounts", request.source, default=0)
                await pause()
                if source < request.cents:
                    raise Refusal("not that much")
                await state.put("accounts", request.source, source - request.cents)
                await pause()
                target = await state.get("accounts", request.target, default=0)
                await pause()
                await state.put("accounts", request.target, target + request.cents)
                await pause()
                return [source, target]
            case "close":
                cents = await state.get("accounts", request.source, default=0)
                await pause()
                if cents:
                    raise Refusal("it is not empty")
                await state.delete("accounts", request.source)
                return None
            case "open":
                known = dict(await state.scan("accounts"))
                await pause()
                if request.target not in known:
                    await state.put("accounts", request.target, len(known))
                return known
            case "sum":
                total = sum([cents for _, cents in await state.scan("accounts")])
                await pause()
                return [total, len(await state.scan("accounts"))]


def serially(work: Work, accounts: dict[str, int]) -> Any:
    """What one call does when it is alone. Changes `accounts`; gives the answer, or "refused"."""
    match work.op:
        case "transfer":
            source = accounts.get(work.source, 0)
            if source < work.cents:
                return "refused"
            accounts[work.source] = source - work.cents
            target = accounts.get(work.target, 0)
            accounts[work.target] = target + work.cents
            return [source, target]
        case "close":
            if accounts.get(work.source, 0):
                return "refused"
            accounts.pop(work.source, None)
        case "open":
            known = dict(accounts)
            accounts.setdefault(work.target, len(known))
            return known
        case "sum":
            return [sum(accounts.values()), len(accounts)]


class Outcome(NamedTuple):
    answers: list[Any]
    accounts: dict[str, int]


def explained(works: list[Work], outcome: Outcome) -> bool:
    """Whether some order of the calls explains the answers and the state."""
    return any(_explains(order, works, outcome) for order in itertools.permutations(range(len(works))))


def _explains(order: tuple[int, ...], works: list[Work], outcome: Outcome) -> bool:
    accounts = dict(FIRST)
    return (
        all(serially(works[each], accounts) == outcome.answers[each] for each in order) and accounts == outcome.accounts
    )


async def run(works: list[Work]) -> Outcome:
    store = SqliteStore.open(":memory:", "agent")
    engine = engine_of(Bank(), store)
    await engine.start()
    results = await asyncio.gather(*(engine.execute(call_of("bank.work", each.model_dump())) for each in works))
    accounts = await final(engine)
    await engine.stop()
    await store.close()
    return Outcome([_answer(result) for result in results], accounts)


async def final(engine: Engine) -> dict[str, int]:
    return (await engine.execute(call_of("bank.work", {"op": "open"}))).output


def _answer(result: Result) -> Any:
    if result.error:
        assert result.error["code"] == "refused", result.error
        return "refused"
    return result.output


accounts = st.sampled_from(ACCOUNTS)
works = st.builds(
    Work,
    op=st.sampled_from(["transfer", "transfer", "transfer", "close", "open", "sum"]),
    source=accounts,
    target=accounts,
    cents=st.integers(0, 12),
    pauses=st.lists(st.integers(0, 3), max_size=5),
)


@settings(max_examples=150)
@given(st.lists(works, min_size=2, max_size=5))
def test_handlers_at_the_same_time_come_out_as_if_one_after_another(calls: list[Work]):
    outcome = asyncio.run(run(calls))
    assert explained(calls, outcome), outcome
    event(f"{outcome.answers.count('refused')} refused")


def test_the_judge_finds_a_lost_update():
    transfer = Work(op="transfer", source="a", target="b", cents=5)
    lost = Outcome([[10, 10], [10, 10]], {"a": 5, "b": 15})
    assert not explained([transfer, transfer], lost)
    assert explained([transfer, transfer], Outcome([[10, 10], [5, 15]], {"a": 0, "b": 20}))


async def test_many_transfers_at_once_lose_no_money(tmp_path: Any):
    store = SqliteStore.open(tmp_path / "bank.sqlite", "agent")
    engine = engine_of(Bank(), store)
    await engine.start()
    calls = [
        call_of(
            "bank.work", {"op": "transfer", "source": source, "target": target, "cents": 1, "pauses": [n % 4, 1, n % 3]}
        )
        for n in range(100)
        for source, target in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    results = await asyncio.gather(*(engine.execute(call) for call in calls))
    assert {result.error["code"] for result in results if result.error} <= {"refused"}
    assert sum((await final(engine)).values()) == 20
    await engine.stop()
    await store.close()


async def test_a_row_everybody_wants_is_changed_by_each_exactly_once(tmp_path: Any):
    store = SqliteStore.open(tmp_path / "bank.sqlite", "agent")
    engine = engine_of(Bank(), store)
    await engine.start()
    same = {"op": "transfer", "source": "a", "target": "b", "cents": 0, "pauses": [1, 2, 1, 1]}
    results = await asyncio.gather(*(engine.execute(call_of("bank.work", same)) for _ in range(200)))
    assert all(result.error is None for result in results), "nobody starves, nobody gives up"
    await engine.stop()
    await store.close()
