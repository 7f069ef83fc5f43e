"""A stream that a required validator has to judge, seen by OpenAI's own client over a socket: nothing of it leaves
before it was judged. The pool is the real one, over an engine that a script speaks for.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import openai
import pytest

from hanse.contracts.pool import Judgement, Purpose
from hanse.models.policy import Policy
from hanse.models.validator import LooksAt
from hanse.runtime.federation import Federation

from ...support.models import ScriptedBackend, World, running, tier
from .conftest import TOKEN, Server, app_over

SAID = "The code of the vault is 4711 and nobody else may know it."
ASKED: list[Any] = [{"role": "user", "content": "What is the code?"}]


class Censor:
    """Takes its time, and then says what the test says."""

    name, looks_at = "censor", LooksAt.ANSWER

    def __init__(self) -> None:
        self.score = 0.0
        self.asked, self.may_speak = asyncio.Event(), asyncio.Event()

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        assert text == SAID
        self.asked.set()
        await self.may_speak.wait()
        return Judgement(validator=self.name, score=self.score, reason="it names a secret")


@pytest.fixture
def censor() -> Censor:
    return Censor()


@asynccontextmanager
async def client_of(policy: Policy, censor: Censor, says: str = SAID) -> AsyncIterator[openai.AsyncOpenAI]:
    async with AsyncExitStack() as stack:
        world = World()
        stack.push_async_callback(world.store.close)
        pool = world.pool({tier("planner"): ScriptedBackend(says)}, policy, [censor])
        await stack.enter_async_context(running(pool))
        federation = await stack.enter_async_context(Federation.in_process(pool=pool))
        server = Server(app_over(federation))
        await server.start()
        stack.push_async_callback(server.stop)
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0, timeout=20)
        yield await stack.enter_async_context(client)


async def said(client: openai.AsyncOpenAI, heard: list[str], **more: Any) -> str | None:
    """Why it ended. What came is put down as it comes."""
    stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True, **more)
    reason = None
    async for chunk in stream:
        heard += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        reason = next((choice.finish_reason for choice in chunk.choices), reason) or reason
    return reason


REQUIRED = Policy(required=frozenset({"censor"}), thresholds={"censor": 0.5}, repairs=0, judge_seconds=15)
ADVISING = Policy(validators={Purpose.CHAT: ("censor",)}, thresholds={"censor": 0.5}, judge_seconds=15)


async def test_it_leaves_when_it_was_judged_and_in_one_piece(censor: Censor) -> None:
    heard: list[str] = []
    async with client_of(REQUIRED, censor) as client:
        call = asyncio.create_task(said(client, heard))
        await asyncio.wait_for(censor.asked.wait(), 10)
        assert heard == []
        censor.may_speak.set()
        assert await call == "stop"
    assert heard == [SAID]


async def test_of_one_that_is_refused_no_word_leaves(censor: Censor) -> None:
    heard: list[str] = []
    censor.score = 0.9
    censor.may_speak.set()
    async with client_of(REQUIRED, censor) as client:
        with pytest.raises(openai.APIError) as caught:
            await said(client, heard)
    assert heard == []
    assert "4711" not in str(caught.value)


async def test_one_whose_validator_only_advises_leaves_as_it_is_written(censor: Censor) -> None:
    """The difference that the policy makes: what was said stands, and its end says that it was refused."""
    heard: list[str] = []
    censor.score = 0.9
    async with client_of(ADVISING, censor) as client:
        call = asyncio.create_task(said(client, heard))
        await asyncio.wait_for(censor.asked.wait(), 10)
        censor.may_speak.set()
        assert await call == "content_filter"
    assert "".join(heard) == SAID
    assert len(heard) > 1


async def test_data_under_a_schema_comes_once(censor: Censor) -> None:
    """What has a schema is judged before it leaves, too."""
    heard: list[str] = []
    form: Any = {"type": "json_schema", "json_schema": {"name": "code", "schema": {"type": "integer"}}}
    async with client_of(Policy(validators={Purpose.CHAT: ()}), censor, says="4711") as client:
        assert await said(client, heard, response_format=form) == "stop"
    assert heard == ["4711"]
