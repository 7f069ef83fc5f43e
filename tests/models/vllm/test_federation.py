"""A whole federation with a generative tier, as `hanse up` starts it: an agent, the gateway, a client, a killed engine.

It runs in a process of its own with a cluster of its own, because one process has one Ray cluster.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from hanse import Federation
from hanse.contracts.pool import TierState, TierView
from hanse.runtime.runfile import RunFile

from .conftest import START_SECONDS, children, command

AGENTS = '''
from typing import Literal

from pydantic import BaseModel

from hanse import Agent, Context, capability


class Letter(BaseModel):
    text: str


class Wish(BaseModel):
    kind: Literal["refund", "exchange", "nothing"]
    urgent: bool


class Count(BaseModel):
    letters: int


class Clerk(Agent):
    """Reads letters."""

    domain = "clerk"

    @capability(effect="read")
    async def read(self, request: Letter, context: Context) -> Wish:
        """Say what a letter asks for."""
        return await context.models.extract(Wish, request.text, max_tokens=60)

    @capability(effect="reversible", compensation="count")
    async def count(self, request: Letter, context: Context) -> Count:
        """Count letters. Needs no model."""
        letters = 1 + await context.state.get("letters", "all", default=0)
        await context.state.put("letters", "all", letters)
        return Count(letters=letters)
'''
CONFIGURATION = """
version: 1
federation: {name: clerks, data: ./var}
agents: [{class: "clerks:Clerk"}]
gateway: {port: 0}
models:
  tiers: [{name: planner, source: tiny, context_window: 1024, rank: 1}]
"""
ASKED: list[Any] = [{"role": "user", "content": "Where is my order?"}]
UNJUDGED = {"hanse": {"validators": []}}
"""The tier's weights are random, and so is what it writes: nothing that is judged would pass."""


class Wish(BaseModel):
    kind: Literal["refund", "exchange", "nothing"]
    urgent: bool


@dataclass(frozen=True)
class Running:
    """The federation from outside."""

    pid: int
    url: str
    token: str
    far: Federation

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.token, max_retries=0, timeout=60)

    async def tier(self) -> TierView:
        return next(view for view in await self.far.models.tiers() if view.name == "planner")

    async def ready(self) -> TierView:
        """The tier as soon as it answers."""
        async with asyncio.timeout(START_SECONDS):
            while (view := await self.tier()).state is not TierState.READY:
                assert view.state in (TierState.WAITING, TierState.WARMING, TierState.DEGRADED), view
                await asyncio.sleep(0.2)
        return view

    def replica(self) -> int:
        """Process id of the tier's replica, in which its engine is a child."""
        above = (pid for pid in _descendants(self.pid) if "ServeReplica" in command(pid))
        return next(pid for pid in above if any("EngineCore" in command(child) for child in children(pid)))


def _descendants(pid: int) -> Iterator[int]:
    try:
        below = children(pid)
    except OSError:
        return
    for child in below:
        yield child
        yield from _descendants(child)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Up, with its tier still on the way."""
    pytest.importorskip("vllm")
    folder: Path = tmp_path_factory.mktemp("clerks")
    (folder / "clerks.py").write_text(AGENTS)
    (folder / "hanse.yaml").write_text(CONFIGURATION)
    order = json.dumps({"config": str(folder / "hanse.yaml")})
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanse.runtime.serving", order), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        said = json.loads(await asyncio.wait_for(process.stdout.readline(), START_SECONDS))
        assert "ready" in said, said
        run = RunFile.model_validate(said["ready"])
        assert run.url
        assert run.token
        async with Federation.connect(run.url, run.token) as far:
            yield Running(process.pid, run.url, run.token, far)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_work_that_needs_no_model_does_not_wait_for_one(running: Running) -> None:
    view = await running.tier()
    assert view.state in (TierState.WAITING, TierState.WARMING), "the tier was quicker than the federation"
    assert (await running.far.call("clerk.count", {"text": "x"}))["letters"] >= 1
    assert f"planner {view.state}" in (await running.far.client.status()).models
    async with running.openai() as client:
        assert {model.id async for model in client.models.list()} == {"hanse", "planner", "embedder"}
        with pytest.raises(openai.InternalServerError, match="planner") as caught:
            await client.chat.completions.create(model="planner", messages=ASKED)
        assert (caught.value.status_code, caught.value.code) == (503, "model_unavailable")
        assert len((await client.embeddings.create(model="hanse", input="a letter")).data[0].embedding) == 384


async def test_an_agent_gets_an_instance_of_its_type(running: Running) -> None:
    assert (await running.ready()).digest.startswith("sha256:")
    wish = await running.far.call("clerk.read", {"text": "I want my money back"}, timeout_seconds=60)
    assert Wish.model_validate(wish)
    assert await running.far.models.choose("Is it late?", ["yes", "no"], validators=[]) in ("yes", "no")
    call = next(call for call in await running.far.client.models.calls() if call.capability)
    assert (call.capability, call.agent, call.outcome, call.tier) == ("clerk.read", "clerk", "accepted", "planner")
    assert call.usage.completion_tokens > 0


async def test_a_client_of_openai_streams_through_the_gateway(running: Running) -> None:
    await running.ready()
    async with running.openai() as client:
        stream = await client.chat.completions.create(
            model="planner",
            messages=ASKED,
            stream=True,
            max_completion_tokens=40,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 5, "it came in one piece"
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 40


async def test_a_client_of_openai_gets_data_in_the_shape_of_a_model(running: Running) -> None:
    await running.ready()
    async with running.openai() as client:
        given = await client.chat.completions.parse(
            model="hanse", messages=ASKED, response_format=Wish, max_completion_tokens=60, extra_body=UNJUDGED
        )
        assert isinstance(given.choices[0].message.parsed, Wish)
        assert given.model == "planner"


async def test_a_killed_replica_is_a_typed_error_and_comes_back_while_other_work_goes_on(running: Running) -> None:
    await running.ready()
    async with running.openai() as client:
        stream = await client.chat.completions.create(
            model="planner", messages=ASKED, stream=True, max_completion_tokens=900
        )
        while not (await anext(stream)).choices[0].delta.content:
            pass
        os.kill(running.replica(), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="planner") as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "model_unavailable"
        with pytest.raises(openai.InternalServerError, match="planner"):
            await client.chat.completions.create(model="planner", messages=ASKED, extra_body=UNJUDGED)
        before = (await running.far.call("clerk.count", {"text": "x"}))["letters"]
        assert (await running.far.call("clerk.count", {"text": "x"}))["letters"] == before + 1
        assert (await running.tier()).state is TierState.WARMING
        await running.ready()
        again = await client.chat.completions.create(
            model="planner", messages=ASKED, max_completion_tokens=20, extra_body=UNJUDGED
        )
        assert again.usage is not None
        assert again.usage.completion_tokens > 0
