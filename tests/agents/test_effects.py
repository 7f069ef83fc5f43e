"""The effect ledger, through the engine, against real servers: an effect happens once, whatever happens here."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from hanse.agents import Agent, Connector, ConnectorOptions, Context, Status, operation
from hanse.agents.connectors import HttpConnector, HttpRefused
from hanse.contracts import (
    Conflict,
    ContractBreach,
    DeadlineExceeded,
    Failed,
    HanseError,
    InvalidConfiguration,
    InvalidInput,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    Refusal,
    TimedOut,
    Unavailable,
    Verdict,
    capability,
)
from hanse.contracts.messages import Call

from .conftest import Start
from .desk import TurnedClock, again, answer, call_of, error, output
from .outside import Service, http_service


class Order(BaseModel):
    card: str = "card"
    cents: int = 5
    fail: str = ""


class Shop(Agent):
    """Charges cards outside, and keeps what is on them inside."""

    domain = "shop"

    def __init__(self) -> None:
        self.fail, self.backwards = "", False
        self.between = asyncio.Event()
        self.between.set()
        self.charging = asyncio.Semaphore(0)
        self.charged = asyncio.Semaphore(0)
        self.moments: list[Any] = []

    async def on_start(self, context: Context) -> None:
        for card in ("card", "other"):
            if await context.state.get("cards", card) is None:
                await context.state.put("cards", card, 100)

    @capability(effect="irreversible")
    async def charge(self, request: Order, context: Context) -> int:
        """Charge what is on a card, at most so much."""
        there = await context.state.get("cards", request.card)
        cents = min(there, request.cents)
        self.charging.release()
        reply = await context.connectors.bank.post("/charges", body={"cents": cents})
        self.charged.release()
        await self.between.wait()
        if self.fail:
            raise Refusal(self.fail)
        await context.state.put("cards", request.card, there - cents)
        return reply.body["done"] * cents

    @capability(effect="irreversible")
    async def move(self, request: Order, context: Context) -> int:
        """Charge one card and then use the other."""
        there = await context.state.get("cards", request.card)
        await context.connectors.bank.post("/charges", body={"cents": request.cents})
        self.charging.release()
        await self.between.wait()
        other = "other" if request.card == "card" else "card"
        await context.connectors.bank.post("/credits", body={"on": await context.state.get("cards", other)})
        await context.state.put("cards", other, there)
        return there

    @capability(effect="irreversible")
    async def learn(self, request: Order, context: Context) -> Any:
        """Ask, charge what was asked, and remember when and with which luck."""
        rate = (await context.connectors.bank.get("/rate")).body["body"]
        self.moments.append((context.now, context.random.random(), rate))
        await context.connectors.bank.post("/charges", body={"rate": rate, "luck": self.moments[-1][1]})
        if self.fail:
            raise Refusal(self.fail)
        return self.moments[-1][1]

    @capability(effect="irreversible")
    async def both(self, request: Order, context: Context) -> list[str]:
        """Try one, go on if it fails, and do another."""
        said: list[str] = []
        for path in ("/first", "/second"):
            try:
                await context.connectors.bank.post(path)
                said.append("done")
            except Unavailable:
                said.append("not done")
        if self.fail:
            raise Refusal(self.fail)
        return said

    @capability(effect="irreversible")
    async def two(self, request: int, context: Context) -> list[int]:
        """Do two at once, and fail if one of them fails."""
        posts = (context.connectors.bank.post(f"/{n}") for n in range(2))
        replies = await asyncio.gather(*posts, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, HanseError):
                raise reply
        return [reply.body["done"] for reply in replies]  # pyright: ignore

    @capability(effect="irreversible")
    async def guess(self, request: int, context: Context) -> str:
        """Ask, guess if there is no answer, and charge what was asked or guessed."""
        try:
            rate = (await context.connectors.bank.get("/rate")).body["body"] or "asked"
        except Unavailable:
            rate = "guessed"
        await context.connectors.bank.post("/charges", body=rate)
        if self.fail:
            raise Refusal(self.fail)
        return rate

    @capability(effect="irreversible")
    async def named(self, request: list[str], context: Context) -> int:
        """Do effects under names, in any order."""
        for name in reversed(request) if self.backwards else request:
            await context.connectors.bank.named(name).post("/named", body=name)
        if self.fail:
            raise Refusal(self.fail)
        return len(request)

    @capability(effect="irreversible", timeout_seconds=0.5)
    async def wait(self, request: Order, context: Context) -> int:
        """Charge, but not for long."""
        await context.connectors.bank.post("/charges", body=1)
        return 1

    @capability(effect="irreversible")
    async def forget(self, request: Order, context: Context) -> int:
        """Begin a charge and return before it is done."""
        self.task = asyncio.create_task(context.connectors.bank.post("/charges", body=1))
        await asyncio.sleep(0)
        return 1

    @capability(effect="irreversible")
    async def together(self, request: int, context: Context) -> list[int]:
        """Do several at once."""
        there = await context.state.get("cards", "card")
        replies = await asyncio.gather(*(context.connectors.bank.post("/x", body=n) for n in range(request)))
        await context.state.put("cards", "card", there + 1)
        return [reply.body["done"] for reply in replies]

    @capability(effect="irreversible")
    async def use(self, request: str, context: Context) -> Any:
        """Use a connector in some wrong way."""
        connectors = context.connectors
        match request:
            case "unknown connector":
                await connectors.bnak.post("/")
            case "unknown operation":
                await connectors.bank.pots("/")
            case "wrong arguments":
                await connectors.bank.post("/", bdy=1)
            case "not plain":
                await connectors.bank.post("/", body=object())
            case "bad name":
                await connectors.bank.named("0").post("/")

    @capability(effect="read")
    async def only_look(self, request: str, context: Context) -> Any:
        """Look something up, or charge all the same."""
        if request == "look":
            return (await context.connectors.bank.get("/rate")).status
        await context.connectors.bank.post("/charges")

    @capability(effect="pure")
    async def reach(self, request: str, context: Context) -> Any:
        """Reach out though pure."""
        await context.connectors.bank.get("/rate")

    @capability(effect="irreversible")
    async def top_up(self, request: Order, context: Context) -> int:
        """Put more on a card. Changes nothing outside."""
        there = await context.state.get("cards", request.card)
        await context.state.put("cards", request.card, there + request.cents)
        return there

    @capability(effect="read")
    async def card(self, request: str, context: Context) -> int:
        """What is on a card."""
        return await context.state.get("cards", request)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with http_service() as service:
        yield service


ASKABLE: dict[str, Any] = {"status_path": "/by-key?key={key}", "settle_seconds": 0.05}
REPEATABLE: dict[str, Any] = {"idempotent_by_key": True}


class Desk:
    """A shop and its bank, and restarts of the shop."""

    def __init__(self, start: Start, service: Service) -> None:
        self.start, self.service = start, service
        self.clock = TurnedClock()
        self.connectors: list[Connector] = []

    async def open(self, agent: Agent | None = None, **options: Any) -> Any:
        bank = HttpConnector(**{"base_url": self.service.url} | options)
        self.connectors.append(bank)
        return await self.start(agent or Shop(), connectors={"bank": bank}, clock=self.clock)

    def total(self) -> int:
        return self.service.done.total()


@pytest.fixture
async def desk(start: Start, service: Service) -> AsyncIterator[Desk]:
    desk = Desk(start, service)
    yield desk
    for connector in desk.connectors:
        await connector.close()


# Once


async def test_an_effect_is_done_with_the_steps_key_and_its_place(desk: Desk):
    engine = await desk.open()
    call = call_of("shop.charge", {})
    assert output(await engine.execute(call)) == 5
    assert dict(desk.service.done) == {f"{call.key}!0": 1}


async def test_a_step_that_failed_after_its_effect_finds_it_done(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.charge", {})
    refused = error(await engine.execute(call))
    assert refused.ids["effects_done"] == [f"{call.key}!0"]
    assert refused.ids["stay_with"] == "shop"
    engine.agent.fail = ""
    assert output(await engine.execute(call)) == 5
    assert desk.total() == 1


async def test_an_effect_is_found_done_after_a_restart(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.charge", {})
    await engine.execute(call)
    await engine.stop()
    engine = await desk.open()
    assert output(await engine.execute(call)) == 5
    assert desk.total() == 1


async def test_several_effects_at_once_are_each_done_once(desk: Desk):
    engine = await desk.open()
    assert await answer(engine, "shop.together", 5) == [1] * 5
    assert desk.total() == 5


async def test_an_effect_the_handler_did_not_await_is_waited_for(desk: Desk):
    engine = await desk.open()
    call = call_of("shop.forget", {})
    assert output(await engine.execute(call)) == 1
    assert engine.agent.task.done()
    assert [entry.status for entry in engine.ledger.of(call.key).values() if entry.is_effect] == [Status.DONE]


async def test_named_effects_may_come_in_any_order(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.named", ["a", "b"])
    await engine.execute(call)
    engine.agent.fail, engine.agent.backwards = "", True
    assert output(await engine.execute(call)) == 2
    assert dict(desk.service.done) == {f"{call.key}!a": 1, f"{call.key}!b": 1}


async def test_a_key_under_which_effects_were_begun_is_not_used_for_another_step(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    await engine.execute(call_of("shop.charge", {}, task="t"))
    with pytest.raises(KeyReused, match="effects were begun under this key"):
        await answer(engine, "shop.charge", {"cents": 1}, task="t")
    assert desk.total() == 1


# In doubt


async def test_what_is_in_doubt_is_asked_about_and_found_done(desk: Desk):
    engine = await desk.open(timeout_seconds=0.5, **ASKABLE)
    for fault in ("reset after", "500 after", "half after", "hang after"):
        desk.service.faults.append(fault)
        call = call_of("shop.charge", {"cents": 1})
        assert output(await engine.execute(call)) == 1
        assert desk.service.done[f"{call.key}!0"] == 1, fault
        [entry] = [entry for entry in engine.ledger.of(call.key).values() if entry.is_effect]
        assert entry.status is Status.DONE


async def test_what_is_in_doubt_and_did_not_happen_is_done_once_more(desk: Desk):
    engine = await desk.open(**ASKABLE)
    desk.service.faults.append("reset before")
    assert await answer(engine, "shop.charge", {}) == 5
    assert desk.total() == 1


async def test_where_the_system_keeps_keys_the_same_is_simply_sent_again(desk: Desk):
    desk.service.keeps_keys = True
    engine = await desk.open(**REPEATABLE)
    desk.service.faults.extend(["500 after", "reset after"])
    call = call_of("shop.charge", {})
    assert output(await engine.execute(call)) == 5
    assert dict(desk.service.done) == {f"{call.key}!0": 1}
    assert [headers["idempotency-key"] for _, _, headers, _ in desk.service.requests] == [f"{call.key}!0"] * 3


async def test_a_system_that_stays_broken_leaves_the_outcome_unknown_and_a_later_try_settles_it(desk: Desk):
    desk.service.keeps_keys = True
    engine = await desk.open(**REPEATABLE)
    desk.service.faults.extend(["500 after"] * 5)
    call = call_of("shop.charge", {})
    unknown = error(await engine.execute(call))
    assert (type(unknown), unknown.verdict) == (OutcomeUnknown, Verdict.RECONCILE)
    assert unknown.ids["stay_with"] == "shop"
    assert output(await engine.execute(call)) == 5
    assert dict(desk.service.done) == {f"{call.key}!0": 1}


async def test_a_system_that_cannot_be_asked_now_is_asked_again_with_patience(desk: Desk):
    engine = await desk.open(**ASKABLE)
    desk.service.faults.append("reset after")
    desk.service.answers_questions = False
    call = call_of("shop.charge", {})
    task = asyncio.create_task(engine.execute(call))
    waited, _ = await asyncio.wait([task], timeout=0.3)
    assert not waited
    desk.service.answers_questions = True
    assert output(await task) == 5
    assert desk.total() == 1


async def test_where_nobody_can_be_asked_it_is_never_tried_again_and_a_person_decides(desk: Desk):
    engine = await desk.open()
    for happened in (True, False):
        desk.service.faults.append("reset after" if happened else "reset before")
        call = call_of("shop.charge", {})
        for _ in range(3):
            assert isinstance(error(await engine.execute(call)), OutcomeUnknown)
        key = f"{call.key}!0"
        assert desk.service.done[key] == int(happened)
        assert [entry.key for entry in engine.ledger.open_entries()] == [key]
        with pytest.raises(InvalidInput):
            await engine.ledger.decide(key, happened=True, result="it is no reply")
        await engine.ledger.decide(
            key, happened=happened, result={"status": 200, "body": {"done": 1}} if happened else None
        )
        with pytest.raises(NotFound):
            await engine.ledger.decide(key, happened=happened)
        assert output(await engine.execute(call)) == 5
        assert desk.service.done[key] == 1


async def test_open_effects_are_asked_about_when_the_agent_starts(desk: Desk, caplog: pytest.LogCaptureFixture):
    engine = await desk.open()
    desk.service.faults.extend(["reset after", "reset before"])
    one, two = call_of("shop.charge", {}), call_of("shop.charge", {})
    await engine.execute(one)
    await engine.execute(two)
    await engine.stop()
    with caplog.at_level(logging.INFO):
        engine = await desk.open(**ASKABLE)
        await engine._recovery  # pyright: ignore[reportGeneralTypeIssues]
    states = [entry.status for call in (one, two) for entry in engine.ledger.of(call.key).values() if entry.is_effect]
    assert states == [Status.DONE, Status.RELEASED]
    assert {record.action for record in caplog.records if hasattr(record, "action")} == {"effect.reconciled"}  # pyright: ignore
    await engine.stop()
    assert output(await (await desk.open(**ASKABLE)).execute(two)) == 5
    assert desk.total() == 2


async def test_a_claim_of_a_process_that_may_live_is_left_alone_until_its_lease_is_over(desk: Desk):
    engine = await desk.open(**ASKABLE)
    call = call_of("shop.charge", {})
    await answer(engine, "shop.charge", {}, task=call.task)
    [done] = [entry for entry in engine.ledger.of(call.key).values() if entry.is_effect]
    desk.service.done.clear()
    for wrong_ms in (0, 3_600_000, -3_600_000):
        now, desk.clock.ahead_ms = desk.clock.now_ms(), wrong_ms
        claim = done._replace(status=Status.CLAIMED, result=None, at_ms=now, lease_until_ms=now + 300)
        claimed_at = desk.clock.monotonic()
        await engine.ledger.write(claim)
        assert (await engine.ledger.settled(claim)).status is Status.RELEASED
        assert desk.clock.monotonic() - claimed_at >= 0.3, "until then it may be on its way, whatever the clock says"


async def test_what_may_be_on_its_way_is_given_its_time_by_a_clock_that_does_not_jump(desk: Desk):
    """Found by the simulator, seed 11044: the wall clock jumped by five seconds while a cry was on its way."""
    engine = await desk.open(None, **ASKABLE | {"settle_seconds": 60})
    call = call_of("shop.charge", {})
    await answer(engine, "shop.charge", {}, task=call.task)
    [done] = [entry for entry in engine.ledger.of(call.key).values() if entry.is_effect]
    desk.service.done.clear()
    doubt = done._replace(status=Status.UNKNOWN, at_ms=desk.clock.now_ms())
    await engine.ledger.write(doubt)
    desk.clock.ahead_ms = 3_600_000
    asking = asyncio.create_task(engine.ledger.settled(doubt))
    finished, _ = await asyncio.wait([asking], timeout=0.3)
    assert not finished
    await engine.ledger.stop()


async def test_what_becomes_known_while_somebody_asks_stays_known(desk: Desk):
    engine = await desk.open(**ASKABLE)
    call = call_of("shop.charge", {})
    await engine.execute(call)
    [done] = [entry for entry in engine.ledger.of(call.key).values() if entry.is_effect]
    desk.service.done.clear()  # so the answer will be: not known here
    for meanwhile in (done, done._replace(status=Status.CLAIMED)):
        doubt = done._replace(status=Status.UNKNOWN, at_ms=0)
        await engine.ledger.write(doubt)
        task = asyncio.create_task(engine.ledger.settled(doubt))
        await asyncio.sleep(0)
        await engine.ledger.write(meanwhile)
        [found] = await asyncio.gather(task, return_exceptions=True)
        assert found == done if meanwhile is done else isinstance(found, OutcomeUnknown)
        assert engine.ledger.find(done.key) == meanwhile


# Nothing happened


async def test_a_refused_connection_is_transient_and_leaves_nothing_open(desk: Desk, unused_tcp_port: int):
    engine = await desk.open(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    call = call_of("shop.charge", {})
    refused = error(await engine.execute(call))
    assert (type(refused), refused.verdict) == (Unavailable, Verdict.RETRY)
    assert "stay_with" not in refused.ids, "another agent may try as well"
    assert engine.ledger.open_entries() == []
    await engine.stop()
    assert output(await (await desk.open()).execute(call)) == 5


async def test_a_system_that_refuses_is_asked_again_only_when_the_step_is_run_again(desk: Desk):
    engine = await desk.open()
    desk.service.faults.append("refuse")
    call = call_of("shop.charge", {})
    assert isinstance(error(await engine.execute(call)), HttpRefused)
    assert len(desk.service.requests) == 1
    assert [entry.status for entry in engine.ledger.of(call.key).values() if entry.is_effect] == [Status.FAILED]
    assert output(await engine.execute(call)) == 5


async def test_a_handler_that_went_on_after_a_failure_finds_the_failure_again(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    desk.service.faults.append("408 not now")
    call = call_of("shop.both", {})
    await engine.execute(call)
    engine.agent.fail = ""
    assert output(await engine.execute(call)) == ["not done", "done"]
    assert [path for _, path, _, _ in desk.service.requests] == ["/api/first", "/api/second"]


async def test_an_effect_that_failed_beside_another_is_done_when_the_handler_runs_again(desk: Desk):
    engine = await desk.open()
    desk.service.faults.extend(["408 not now", ""])
    call = call_of("shop.two", 0)
    assert isinstance(error(await engine.execute(call)), Unavailable)
    assert desk.total() == 1
    assert output(await engine.execute(call)) == [1, 1]
    assert desk.total() == 2


async def test_a_named_effect_that_failed_is_done_when_the_handler_runs_again(desk: Desk):
    class Bulk(Shop):
        """Sends all it can and fails if some failed."""

        domain = "bulk"

        @capability(effect="irreversible")
        async def send(self, request: list[str], context: Context) -> int:
            """Send all."""
            failed: list[HanseError] = []
            for name in request:
                try:
                    await context.connectors.bank.named(name).post("/named")
                except Unavailable as error:
                    failed.append(error)
            if failed:
                raise failed[0]
            return len(request)

    engine = await desk.open(Bulk())
    desk.service.faults.append("408 not now")
    call = call_of("bulk.send", ["a", "b"])
    assert isinstance(error(await engine.execute(call)), Unavailable)
    assert output(await engine.execute(call)) == 2
    assert dict(desk.service.done) == {f"{call.key}!a": 1, f"{call.key}!b": 1}


async def test_a_question_that_failed_fails_again_when_the_handler_had_gone_on(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    desk.service.faults.append("408 not now")
    call = call_of("shop.guess", 0)
    await engine.execute(call)
    engine.agent.fail = ""
    assert output(await engine.execute(call)) == "guessed"
    assert desk.total() == 1


# The same again


async def test_a_handler_that_runs_again_learns_the_same_time_luck_and_answers(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.learn", {})
    await engine.execute(call)
    await engine.stop()
    first = engine.agent.moments
    desk.clock.ahead_ms = 10_000
    engine = await desk.open()
    output(await engine.execute(call))
    assert engine.agent.moments == first
    assert [path for _, path, _, _ in desk.service.requests] == ["/api/rate", "/api/charges"]
    assert desk.total() == 1


async def test_a_handler_that_wants_something_else_when_it_runs_again_is_stopped(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.charge", {"cents": 80})
    await engine.execute(call)
    engine.agent.fail = ""
    await answer(engine, "shop.charge", {"cents": 60})  # the balance is not what it was
    with pytest.raises(KeyReused, match=r"with another request\. A handler that runs again must want the same"):
        output(await engine.execute(call))
    assert desk.total() == 2


# Handlers beside one another


async def test_a_row_that_an_effect_was_decided_on_is_not_changed_while_it_is_under_way(desk: Desk):
    engine = await desk.open()
    engine.agent.between.clear()
    first = asyncio.create_task(answer(engine, "shop.charge", {"cents": 80}))
    second = asyncio.create_task(answer(engine, "shop.charge", {"cents": 80}))
    for _ in range(2):
        await engine.agent.charging.acquire()
    engine.agent.between.set()
    assert sorted(await asyncio.gather(first, second)) == [20, 80]
    assert sorted(int(body[9:-1]) for *_, body in desk.service.requests) == [20, 80], "100 cents, and not 160"
    assert await answer(engine, "shop.card", "card") == 0


async def test_who_writes_such_a_row_waits_until_the_effect_is_done(desk: Desk):
    engine = await desk.open()
    engine.agent.between.clear()
    charged = call_of("shop.charge", {"cents": 80})
    charge = asyncio.create_task(engine.execute(charged))
    await engine.agent.charging.acquire()
    await engine.agent.charged.acquire()
    top_up = asyncio.create_task(answer(engine, "shop.top_up", {"cents": 50}))
    waited, _ = await asyncio.wait([top_up], timeout=0.1)
    assert not waited
    assert await answer(engine, "shop.card", "card") == 100, "who only reads goes before"
    engine.agent.between.set()
    assert (output(await charge), await top_up) == (80, 20)
    assert await answer(engine, "shop.card", "card") == 70


async def test_handlers_that_want_each_others_rows_after_their_effects_conflict_and_then_go_on(desk: Desk):
    engine = await desk.open()
    engine.agent.between.clear()
    calls = [call_of("shop.move", {"card": card}) for card in ("card", "other")]
    tasks = [asyncio.create_task(engine.execute(call)) for call in calls]
    for _ in range(2):
        await engine.agent.charging.acquire()
    engine.agent.between.set()
    results = await asyncio.gather(*tasks)
    lost = [error(result) for result in results if result.error]
    assert [type(each) for each in lost] == [Conflict]
    assert lost[0].ids["stay_with"] == "shop"
    again_ = [await engine.execute(call) for call in calls]
    assert [result.error for result in again_] == [None, None]
    assert set(desk.service.done.values()) == {1}
    assert desk.total() == 4


# Time


async def test_a_handler_canceled_while_an_effect_is_under_way_leaves_it_unknown(desk: Desk):
    engine = await desk.open(timeout_seconds=5, **ASKABLE)
    desk.service.faults.append("hang after")
    call = call_of("shop.wait", {})
    late = error(await engine.execute(call))
    assert isinstance(late, OutcomeUnknown)
    assert late.ids["after"] == "timed_out"
    assert output(await engine.execute(call)) == 1, "asked, the bank knows it"
    assert desk.total() == 1


async def test_a_step_that_comes_too_late_says_if_an_earlier_attempt_has_done_something(desk: Desk):
    engine = await desk.open()
    engine.agent.fail = "not today"
    call = call_of("shop.charge", {})
    await engine.execute(call)
    desk.clock.ahead_ms = 3_600_000
    late = error(await engine.execute(call))
    assert isinstance(late, OutcomeUnknown)
    assert late.ids["effects"] == {f"{call.key}!0": "done"}
    with pytest.raises(DeadlineExceeded):
        await answer(engine, "shop.charge", {})


# What is not allowed


@pytest.mark.parametrize(
    ("use", "told", "words"),
    [
        ("unknown connector", InvalidConfiguration, "no connector is called 'bnak'. Configured: bank. Add it"),
        ("unknown operation", InvalidInput, "bank cannot 'pots'. It can: delete, get, patch, post, put"),
        ("wrong arguments", InvalidInput, "unexpected keyword argument 'bdy'"),
        ("not plain", InvalidInput, "bank.post"),
        ("bad name", InvalidInput, "named like a Python variable"),
    ],
)
async def test_a_connector_that_is_used_wrongly_says_how_to_use_it(
    desk: Desk, use: str, told: type[HanseError], words: str
):
    engine = await desk.open()
    with pytest.raises(told) as refused:
        await answer(engine, "shop.use", use)
    assert words in refused.value.detail
    assert desk.service.requests == []


async def test_only_a_capability_with_an_effect_has_effects(desk: Desk):
    engine = await desk.open()
    assert await answer(engine, "shop.only_look", "look") == 200
    with pytest.raises(ContractBreach, match="it only reads"):
        await answer(engine, "shop.only_look", "charge")
    with pytest.raises(ContractBreach, match="it is pure"):
        await answer(engine, "shop.reach", "")
    assert desk.total() == 0


async def test_on_start_may_look_things_up_but_changes_nothing_outside(desk: Desk):
    class Eager(Agent):
        """Charges at its start."""

        domain = "eager"

        async def on_start(self, context: Context) -> None:
            assert (await context.connectors.bank.get("/rate")).status == 200
            await context.connectors.bank.post("/charges")

    with pytest.raises(ContractBreach, match="needs a step's idempotency key"):
        await desk.open(Eager())
    assert desk.total() == 0


# Connectors of one's own


class FaxOptions(ConnectorOptions):
    pin: SecretStr


class Fax(Connector):
    """Has bugs."""

    Options = FaxOptions

    @operation()
    async def send(self, key: str, kind: str) -> int:
        """Send, or fail in some way."""
        match kind:
            case "bug":
                raise ZeroDivisionError(f"with pin {self.options.pin.get_secret_value()}")
            case "lie":
                return "it is no number"  # pyright: ignore[reportReturnType]
            case "refuse":
                raise Refusal("no paper")
        return 1

    @operation(effect="read")
    async def look(self, key: str, kind: str) -> int:
        """Look, or fail in some way."""
        if kind == "slow":
            await asyncio.sleep(60)
        return await self.send(key, kind)


class Office(Agent):
    """Sends faxes."""

    domain = "office"

    @capability(effect="irreversible")
    async def send(self, request: str, context: Context) -> int:
        """Send a fax."""
        return await context.connectors.fax.send(request)

    @capability(effect="read")
    async def look(self, request: str, context: Context) -> int:
        """Look at the fax."""
        return await context.connectors.fax.look(kind=request)


@pytest.mark.parametrize(
    ("kind", "sent", "looked"),
    [
        ("bug", OutcomeUnknown, Unavailable),
        ("lie", OutcomeUnknown, ContractBreach),
        ("refuse", Refusal, Refusal),
        ("slow", int, TimedOut),
    ],
)
async def test_a_connector_with_a_bug_leaves_an_effect_unknown_and_tells_no_secret(
    start: Start, kind: str, sent: type, looked: type[HanseError], caplog: pytest.LogCaptureFixture
):
    engine = await start(Office, connectors={"fax": Fax(pin="hunter2", timeout_seconds=0.05)})
    for name, told in (("office.send", sent), ("office.look", looked)):
        result = await engine.execute(call_of(name, kind))
        assert (type(error(result)) if result.error else type(result.output)) is told
        assert "hunter2" not in str(result) + caplog.text


def key_of(call: Call) -> str:
    return f"{again(call).key}!0"


async def test_a_step_that_fails_for_a_bug_says_what_it_has_done_outside(desk: Desk):
    class Clumsy(Shop):
        """Stumbles after its effect."""

        domain = "clumsy"

        @capability(effect="irreversible")
        async def stumble(self, request: int, context: Context) -> int:
            """Charge and stumble."""
            await context.connectors.bank.post("/charges", body=request)
            raise ZeroDivisionError("oh")

    engine = await desk.open(Clumsy())
    call = call_of("clumsy.stumble", 1)
    failed = error(await engine.execute(call))
    assert isinstance(failed, Failed)
    assert failed.ids["effects_done"] == [key_of(call)]
