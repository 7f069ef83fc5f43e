"""Whatever is submitted: it is refused with a typed error and leaves no trace, or it reaches exactly one end."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import (
    CapabilityName,
    HanseError,
    InvalidInput,
    InvalidPlan,
    NotFound,
    Refusal,
    TaskStatus,
    TaskView,
    Verdict,
    capability,
)
from hanse.runtime.federation import Federation

from ..strategies import malformed_plans, nested, not_plain, plain, plans, texts, with_one

T = TypeVar("T")


class Amount(BaseModel):
    account: str
    cents: int = Field(ge=0)


class Account(BaseModel):
    account: str


class Balance(BaseModel):
    account: str
    cents: int


class TooMuch(Refusal):
    """Nobody may pay in so much at once."""

    code = "submission_test.too_much"


class Ledger(Agent):
    """Keeps accounts."""

    domain = "ledger"
    ran: ClassVar[Counter[str]] = Counter()

    @capability(effect="reversible", compensation="withdraw")
    async def deposit(self, request: Amount, context: Context) -> Balance:
        """Add money to an account."""
        if request.cents > 900:
            raise TooMuch(cents=request.cents)
        return await self._add(request.account, request.cents, context)

    @capability(effect="irreversible")
    async def withdraw(self, request: Amount, context: Context) -> Balance:
        """Take money from an account."""
        return await self._add(request.account, -request.cents, context)

    @capability(effect="read")
    async def balance(self, request: Account, context: Context) -> Balance:
        """Say what is in an account."""
        return await self._add(request.account, 0, context)

    @capability(effect="pure")
    async def echo(self, request: dict[str, Any], context: Context) -> dict[str, Any]:
        """Answer with the input."""
        self.ran["echo"] += 1
        return request

    async def _add(self, account: str, cents: int, context: Context) -> Balance:
        self.ran[account] += 1
        balance = cents + await context.state.get("balance", account, default=0)
        if cents:
            await context.state.put("balance", account, balance)
        return Balance(account=account, cents=balance)


CALLS = {
    "ledger.deposit": st.fixed_dictionaries({"account": st.sampled_from("abc"), "cents": st.integers(0, 1_000)}),
    "ledger.balance@1": st.fixed_dictionaries({"account": st.sampled_from("abc")}),
    "ledger.echo": st.dictionaries(texts.filter(lambda key: not key.startswith("$")), plain, max_size=3),
}


@dataclass
class Running:
    """A federation in this process, and the loop it lives on, which only turns while a test waits for it."""

    runner: asyncio.Runner
    federation: Federation

    def __call__(self, wanted: Coroutine[Any, Any, T]) -> T:
        async def within() -> T:
            async with asyncio.timeout(20):
                return await wanted

        return self.runner.run(within())

    def events(self) -> int:
        return self(self.federation.client.status()).events

    def submitted(self, **body: Any) -> TaskView:
        async def submit() -> TaskView:
            return await (await self.federation.submit(**body)).wait()

        return self(submit())

    def still_works(self) -> None:
        assert self(self.federation.call("ledger.echo", {"are you": "there"})) == {"are you": "there"}
        report = self(self.federation.client.verify())
        assert report.ok, report.problems


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with asyncio.Runner() as runner:
        federation = Federation.in_process([Ledger])
        runner.run(federation.__aenter__())
        yield Running(runner, federation)
        runner.run(federation.__aexit__())


def refused(running: Running, **body: Any) -> HanseError:
    """The typed error of a submission that leaves no trace: no event, no task, nothing run."""
    events, ran = running.events(), dict(Ledger.ran)
    with pytest.raises(HanseError) as caught:
        running.submitted(**body)
    assert caught.value.verdict is Verdict.ABORT
    assert 400 <= caught.value.status < 500
    assert running.events() == events
    assert Ledger.ran == ran
    return caught.value


relaxed = settings(max_examples=100)


@relaxed
@given(plan=malformed_plans(CALLS))
def test_a_malformed_plan_is_refused_and_nothing_starts(running: Running, plan: Any):
    error = refused(running, plan=plan) if plan is not None else refused(running)
    assert isinstance(error, (InvalidPlan, InvalidInput, NotFound))


def test_after_all_that_it_still_works(running: Running):
    running.still_works()


def step(id: str, call: str, **parts: Any) -> dict[str, Any]:
    return {"id": id, "call": call, **parts}


DEPOSIT = {"account": "a", "cents": 1}


@pytest.mark.parametrize(
    ("steps", "where", "kind"),
    [
        ([step("a", "ledger.nothing")], "/steps/0/call", NotFound),
        ([step("a", "nobody.deposit", input=DEPOSIT)], "/steps/0/call", NotFound),
        ([step("a", "ledger.deposit@2", input=DEPOSIT)], "/steps/0/call", NotFound),
        ([step("a", "ledger.deposit")], "/steps/0/input", InvalidPlan),
        ([step("a", "ledger.deposit", input=None)], "/steps/0/input", InvalidPlan),
        ([step("a", "ledger.deposit", input={"account": "a"})], "/steps/0/input", InvalidPlan),
        ([step("a", "ledger.deposit", input={**DEPOSIT, "cents": "many"})], "/steps/0/input/cents", InvalidPlan),
        ([step("a", "ledger.deposit", input={**DEPOSIT, "cents": -1})], "/steps/0/input/cents", InvalidPlan),
        ([step("a", "ledger.deposit", input={**DEPOSIT, "cents": {"$from": "b.cent"}}),
          step("b", "ledger.balance", input={"account": "a"})], "/steps/0/input/cents", InvalidPlan),
        ([step("a", "ledger.deposit", input={**DEPOSIT, "cents": {"$from": "b.account"}}),
          step("b", "ledger.balance", input={"account": "a"})], "/steps/0/input/cents", InvalidPlan),
        ([step("a", "ledger.echo", input=[])], "/steps/0/input", InvalidPlan),
        ([step("a", "ledger.echo", input={"$literal": 5})], "/steps/0/input", InvalidPlan),
    ],
)  # fmt: skip
def test_what_contracts_can_disprove_is_refused_with_a_pointer(running: Running, steps: Any, where: str, kind: type):
    error = refused(running, plan={"steps": steps})
    assert type(error) is kind
    assert error.ids["pointer"] == where


@relaxed
@given(value=with_one(not_plain))
def test_input_that_is_not_plain_data_is_refused(running: Running, value: Any):
    assert isinstance(refused(running, call="ledger.echo", input={"a": value}), InvalidInput)
    good = {"steps": [step("a", "ledger.echo")]}
    assert isinstance(refused(running, plan=good, input=value), InvalidInput)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"call": "ledger.echo", "plan": {"steps": [step("a", "ledger.echo")]}},
        {"call": "ledger.echo", "goal": "make peace"},
        {"goal": "make peace"},
        {"call": "ledger.echo", "deadline_seconds": -1},
        {"call": "ledger.echo", "budget": {"cents": float("nan")}},
        {"call": "ledger.echo", "budget": {"euros": 1}},
        {"call": "ledger.echo", "input": nested(3_000)},
        {"call": "ledger.echo", "input": {"a": nested(3_000)}},
        {"call": "ledger.echo", "input": 5},
        {"call": "echo"},
        {"call": "ledger.echo@9"},
        {"call": "x" * 1_000},
        {"plan": nested(100_000)},
        {"call": "ledger.echo", "idempotency_key": "k" * 256},
        {"call": "ledger.echo", "labels": {"a": "\ud800"}},
    ],
    ids=lambda body: ",".join(body),
)
def test_an_odd_submission_is_refused(running: Running, body: dict[str, Any]):
    assert len(refused(running, **body).detail) < 1_000


@relaxed
@given(value=st.dictionaries(texts, plain | st.just({"$from": "call"}), max_size=4))
def test_a_call_gives_the_input_as_it_is_whatever_it_looks_like(running: Running, value: dict[str, Any]):
    assert running.submitted(call="ledger.echo", input=value).output == value


@relaxed
@given(plan=plans(CALLS), value=plain)
def test_a_plan_that_is_taken_reaches_one_end(running: Running, plan: dict[str, Any], value: Any):
    """And one that failed has changed nothing that is left standing."""
    before = balances(running)
    try:
        view = running.submitted(plan=plan, input=value)
    except (InvalidPlan, InvalidInput):
        return  # well formed, and disproved by the contracts
    assert view.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)
    ends = [event.kind for event in running(_events(running, view.id)) if event.kind.ends_task]
    assert ends == [f"task.{view.status}"]
    if view.error is not None:
        assert view.error.code in ("submission_test.too_much", "invalid_input", "invalid_plan")
        assert balances(running) == before


def balances(running: Running) -> list[int]:
    calls = [running.federation.call("ledger.balance", {"account": account}) for account in "abc"]
    return [answer["cents"] for answer in running(_all(calls))]


async def _all(wanted: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*wanted)


async def _events(running: Running, task: str) -> list[Any]:
    return await running.federation.client.events(task)


def wrapping(count: int, depth: int) -> list[dict[str, Any]]:
    """Steps of which each wraps the answer of the one before, deeper and deeper."""
    return [
        step(f"s{i}", "ledger.echo", input={"a": nested(depth, {"$from": f"s{i - 1}"} if i else 1)})
        for i in range(count)
    ]


def test_answers_that_grow_too_deep_fail_the_step_and_what_was_done_is_undone(running: Running):
    """Every template is within the limit; what they make of one another is not, which nobody knows beforehand."""
    deposit = step("pay", "ledger.deposit", input={"account": "deep", "cents": 5})
    first, *rest = wrapping(12, 50)
    view = running.submitted(plan={"steps": [deposit, {**first, "after": ["pay"]}, *rest]})
    assert view.status is TaskStatus.FAILED
    assert view.error is not None
    assert view.error.code == "invalid_input"
    assert "nested deeper" in view.error.detail
    assert running(running.federation.call("ledger.balance", {"account": "deep"}))["cents"] == 0
    running.still_works()


def test_an_output_that_grows_too_deep_ends_the_task_and_no_more(running: Running):
    plan = {"steps": [step("a", "ledger.echo", input={"a": nested(60)})], "output": nested(60, {"$from": "a"})}
    view = running.submitted(plan=plan)
    assert view.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)
    running.still_works()


def test_a_refusal_keeps_its_code_and_the_rest_is_undone(running: Running):
    plan = {
        "steps": [
            step("first", "ledger.deposit", input={"account": "undo", "cents": 5}),
            step("second", "ledger.deposit", input={"account": "undo", "cents": 901}, after=["first"]),
        ]
    }
    view = running.submitted(plan=plan)
    assert view.error is not None
    assert (view.status, view.error.code) == (TaskStatus.FAILED, TooMuch.code)
    assert running(running.federation.call("ledger.balance", {"account": "undo"}))["cents"] == 0


def test_a_condition_that_is_false_and_a_list_that_is_empty_do_not_run(running: Running):
    plan = {
        "steps": [
            step("never", "ledger.deposit", input={"account": "none", "cents": 5}, when=False),
            step("nobody", "ledger.deposit", input={"account": "none", "cents": 5}, for_each=[]),
        ],
        "output": [{"$from": "never"}, {"$from": "nobody"}],
    }
    view = running.submitted(plan=plan)
    assert (view.status, view.output) == (TaskStatus.COMPLETED, [None, []])
    assert Ledger.ran["none"] == 0


def test_a_capability_is_called_by_its_name(running: Running):
    assert running(running.federation.client.capability(CapabilityName("ledger.echo"))).name == "ledger.echo"
