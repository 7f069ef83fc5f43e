"""What stands before a connector: nobody is sent away who has begun, and whoever is sent away has begun nothing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Connector, Context, effects, operation
from hanse.agents.connector import Absent, Answer, Done
from hanse.agents.engine import Engine
from hanse.contracts import (
    HanseError,
    JsonObject,
    OutcomeUnknown,
    Overloaded,
    Permanent,
    TimedOut,
    Unavailable,
    capability,
)
from hanse.runtime.store import SqliteStore

from .desk import TurnedClock, again, answer, call_of, engine_of, error


class Letter(BaseModel):
    number: int = 0


class Post(Connector):
    """An outside system in this process. What goes wrong is decided by the test."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"settle_seconds": 0} | options)
        self.troubles: Iterator[HanseError | None] = iter(())
        self.arrived: list[str] = []
        self.deaf = self.same_twice = False
        self.at_once = self.most = 0
        self.gate: asyncio.Event | None = None

    @property
    def askable(self) -> bool:
        return True

    @property
    def repeatable(self) -> bool:
        return self.same_twice

    @operation(effect="irreversible")
    async def send(self, key: str) -> str:
        """Send a letter."""
        return await self._handle(key)

    @operation(effect="read")
    async def ask(self, key: str) -> str:
        """Ask for letters."""
        return await self._handle(key)

    async def _handle(self, key: str) -> str:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.gate:
                await self.gate.wait()
            for trouble in self.troubles:
                if trouble is None:
                    break
                raise trouble
            self.arrived.append(key)
            return key
        finally:
            self.at_once -= 1

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        if self.deaf:
            raise OutcomeUnknown("nobody can be asked")
        return Done(key) if key in self.arrived else Absent()


class Clerk(Agent):
    """Writes letters."""

    domain = "clerk"

    @capability(effect="irreversible")
    async def write(self, request: Letter, context: Context) -> str:
        """Write a letter and send it."""
        return await context.connectors.post.send()

    @capability(effect="read")
    async def look(self, request: Letter, context: Context) -> str:
        """Look for letters."""
        return await context.connectors.post.ask()


class SlowClock(TurnedClock):
    """Monotonic time that stands still until it is turned."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


async def office(post: Post, clock: TurnedClock | None = None) -> Engine:
    store = SqliteStore.open(":memory:", "agent")
    engine = engine_of(Clerk(), store, connectors={"post": post}, clock=clock or TurnedClock())
    await engine.start()
    return engine


async def refusal(engine: Engine, capability: str, input: JsonObject) -> HanseError:
    return error(await engine.execute(call_of(capability, input)))


def letters(count: int, capability: str = "clerk.write") -> list[Any]:
    return [call_of(capability, {"number": number}) for number in range(count)]


@pytest.mark.parametrize("capability", ["clerk.write", "clerk.look"])
async def test_after_failures_in_a_row_operations_fail_at_once_and_nothing_is_begun(capability: str):
    post, clock = Post(), SlowClock()
    engine = await office(post, clock)
    post.troubles = iter([Unavailable("away")] * 5)
    for _ in range(5):
        assert (await refusal(engine, capability, {})).detail == "away"
    refused = await refusal(engine, capability, {})
    assert isinstance(refused, Unavailable)
    assert "has failed 5 times in a row and is left alone" in refused.detail
    assert not post.arrived
    assert not refused.ids.get("stay_with"), "any agent may try"
    clock.at += 1
    await answer(engine, capability, {})
    assert len(post.arrived) == 1
    await engine.stop()


async def test_a_probe_goes_alone():
    post, clock = Post(), SlowClock()
    engine = await office(post, clock)
    post.troubles = iter([TimedOut("slow")] * 5)
    for _ in range(5):
        await refusal(engine, "clerk.look", {})
    clock.at += 1
    post.gate = asyncio.Event()
    probe = asyncio.create_task(engine.execute(call_of("clerk.look", {"number": 1})))
    for _ in range(20):
        await asyncio.sleep(0)
    refused = await refusal(engine, "clerk.look", {})
    assert isinstance(refused, Unavailable)
    assert "is being tried just now" in refused.detail
    assert refused.pause_seconds == 1, "or a step would use up its attempts while nobody knows yet how the probe ends"
    post.gate.set()
    assert (await probe).error is None
    post.gate = None
    assert await answer(engine, "clerk.look", {}) == ""
    await engine.stop()


async def test_a_no_is_an_answer():
    post = Post()
    engine = await office(post)
    post.troubles = iter([Permanent("no such street")] * 20)
    for _ in range(20):
        assert (await refusal(engine, "clerk.write", {})).detail == "no such street"
    await engine.stop()


async def test_what_is_in_doubt_may_always_be_cleared_up(monkeypatch: pytest.MonkeyPatch):
    """Whether the letter arrived is asked in spite of an open breaker, and the answer ends the step."""
    monkeypatch.setattr(effects, "_PAUSES_SECONDS", (0.0,))
    post = Post()
    engine = await office(post, SlowClock())
    doubtful = call_of("clerk.write", {"number": 7})
    post.troubles, post.deaf = iter([OutcomeUnknown("no answer"), *[Unavailable("away")] * 4]), True
    assert isinstance(error(await engine.execute(doubtful)), OutcomeUnknown)
    for _ in range(4):
        await refusal(engine, "clerk.write", {})
    assert "left alone" in (await refusal(engine, "clerk.write", {})).detail
    post.arrived.append(f"{doubtful.key}!0")
    post.deaf = False
    assert (await engine.execute(again(doubtful))).output == f"{doubtful.key}!0"
    assert "left alone" in (await refusal(engine, "clerk.write", {})).detail
    await engine.stop()


async def test_what_is_in_doubt_may_be_done_again_where_that_does_nothing_twice(monkeypatch: pytest.MonkeyPatch):
    """Doing it again is the way to ask, so an open breaker does not stand in its way."""
    monkeypatch.setattr(effects, "_PAUSES_SECONDS", (0.0,))
    post = Post()
    engine = await office(post, SlowClock())
    doubtful = call_of("clerk.write", {"number": 7})
    post.troubles = iter([OutcomeUnknown("no answer"), *[Unavailable("away")] * 4])
    post.deaf = post.same_twice = True
    assert isinstance(error(await engine.execute(doubtful)), OutcomeUnknown)
    for _ in range(4):
        await refusal(engine, "clerk.write", {})
    assert "left alone" in (await refusal(engine, "clerk.write", {})).detail
    assert (await engine.execute(again(doubtful))).output == f"{doubtful.key}!0"
    await engine.stop()


async def test_no_more_operations_at_once_than_the_bulkhead_holds_and_no_more_wait_than_may():
    post = Post(max_concurrent=3, max_waiting=5)
    engine = await office(post)
    post.gate = asyncio.Event()
    running = [asyncio.create_task(engine.execute(call)) for call in letters(12)]
    while sum(task.done() for task in running) < 4 or post.at_once < 3:  # noqa: ASYNC110 - commits are on a thread of their own
        await asyncio.sleep(0.001)
    post.gate.set()
    results = await asyncio.gather(*running)
    refused = [HanseError.from_data(result.error) for result in results if result.error]
    assert len(refused) == 4
    assert {type(each) for each in refused} == {Overloaded}
    assert post.most == 3
    assert len(post.arrived) == 8
    await engine.stop()


async def test_operations_over_the_rate_wait_and_none_fails():
    post = Post(per_second=50, burst=5)
    engine = await office(post)
    loop = asyncio.get_running_loop()
    began = loop.time()
    results = await asyncio.gather(*(engine.execute(call) for call in letters(15)))
    assert not [result.error for result in results if result.error]
    assert loop.time() - began >= 10 / 50 - 0.01
    await engine.stop()


async def test_what_is_refused_by_the_guard_can_be_sent_again_and_is_done_once():
    post, clock = Post(breaker_failures=1), SlowClock()
    engine = await office(post, clock)
    post.troubles = iter([Unavailable("away")])
    await refusal(engine, "clerk.write", {})
    call = call_of("clerk.write", {"number": 9})
    assert (await engine.execute(call)).error is not None
    clock.at += 1
    assert (await engine.execute(call)).error is None
    assert post.arrived == [f"{call.key}!0"]
    await engine.stop()
