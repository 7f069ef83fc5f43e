"""The model pool as a process of a real federation: reached from hosts and the gateway, killed, and back again.

The embedder alone is in it, so this needs no vLLM; what has engines is tested in `tests/models/vllm`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hanse import Federation
from hanse.contracts.pool import TierState
from hanse.runtime.actors import MODELS
from hanse.runtime.config import AgentEntry
from hanse.runtime.ray_link import answer

from .reader import Reader

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

READ = ("reader.read", {"text": "where is my order?"})
SHAPE = {"rows": 1, "columns": 384}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    pytest.importorskip("onnxruntime")
    async with Federation.local(
        agents=[AgentEntry(class_=Reader)],
        data=tmp_path_factory.mktemp("reader"),
        federation={"name": "reader"},
        models={},
    ) as running:
        yield running


async def _part() -> tuple[object, int]:
    """The actor and its process."""
    import ray

    actor = ray.get_actor(MODELS, "hanse-reader")
    _, _, pid = await answer(actor.where)
    return actor, pid


async def test_an_agent_in_another_process_asks_it(federation: Federation) -> None:
    assert await federation.call(*READ, timeout_seconds=60) == SHAPE
    (tier,) = await federation.models.tiers()
    assert (tier.name, tier.state) == ("embedder", TierState.READY)
    assert (await federation.client.status()).models == "embedder ready"


async def test_killed_it_comes_back_and_a_step_that_asked_does_not_fail(federation: Federation) -> None:
    _, pid = await _part()
    os.kill(pid, signal.SIGKILL)
    assert await federation.call(*READ, timeout_seconds=60) == SHAPE
    _, risen = await _part()
    assert risen != pid


async def test_a_client_of_it_outlives_it(federation: Federation) -> None:
    before = await federation.models.embed(["a", "b"])
    _, pid = await _part()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        after = await federation.models.embed(["a", "b"])
    assert before.tobytes() == after.tobytes()
