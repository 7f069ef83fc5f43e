"""An engine that is killed: who waits for it is told, who comes is refused at once, and it comes back by itself.

What becomes of a replica that is killed with its engine, test_federation tells.
"""

import asyncio
import os
import signal

import pytest

from hanse.contracts import ModelUnavailable
from hanse.contracts.pool import TierState

from .conftest import Serving, ask
from .test_engines import LONG


async def test_killed_in_the_middle_of_a_stream_and_back_again(serving: Serving) -> None:
    engine, replica = await serving.engine("planner"), await serving.pid("planner")
    waiting = asyncio.create_task(serving.planner.complete(ask("Count too", **LONG), 60))
    stream = serving.planner.stream(ask("Count", **LONG), 60)
    assert (await anext(stream)).text

    os.kill(engine, signal.SIGKILL)

    with pytest.raises(ModelUnavailable, match="planner"):
        async for _ in stream:
            pass
    with pytest.raises(ModelUnavailable, match="planner"):
        await waiting
    assert serving.keeper.condition("planner").state is TierState.WARMING
    with pytest.raises(ModelUnavailable, match="being started again"):
        await asyncio.wait_for(serving.planner.complete(ask("Anybody there?"), 60), 1)
    assert await serving.planner.count_tokens(ask("Anybody there?")) > 4, "also while it is away"
    assert (await serving.vectors.embed(["the other tier goes on"], 60)).shape == (1, 384)

    await serving.revived("planner")
    assert (await serving.planner.complete(ask("Are you back?"), 60)).text
    assert await serving.pid("planner") != replica
