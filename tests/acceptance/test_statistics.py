"""The statistics as an actor on real Ray: killed, work goes on as if nothing were, and they count on."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import ray

from hanse import Federation
from hanse.runtime.actors import STATISTICS

from .bank import Ledger

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


async def test_killed_statistics_come_back_with_every_task_once(name: str, tmp_path: Path):
    sections = {"federation": {"name": name, "statistics": True}, "coordinator": {"shards": 2}}
    async with Federation.local(agents=[Ledger], data=tmp_path, **sections) as federation:

        async def deposit() -> None:
            await federation.call("ledger.deposit", {"account": "ann", "cents": 5}, timeout_seconds=60)

        for _ in range(5):
            await deposit()
        assert (await federation.client.stats()).total.completed == 5
        actor = ray.get_actor(STATISTICS, f"hanse-{name}")
        _, _, pid = await asyncio.wrap_future(actor.where.remote().future())
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*(deposit() for _ in range(5)))
        async with asyncio.timeout(60):
            found = await federation.client.stats()
        assert found.total.completed == 10
        steps = [each.value for each in await federation.client.totals() if each.metric == "steps"]
        assert steps == [10]
