"""A federation on real Ray whose stores are in PostgreSQL, and a server that stops, dies and comes back under it.

Fault F30, with F1 and F2; invariants I1, I2, I3, I6, I7, I10, I13.
"""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from hanse import Federation
from hanse.contracts import Kind, StorageError, Unavailable
from hanse.runtime.audit.folder import audit
from hanse.runtime.federation import Task

from ..support.postgres import Server
from . import budgets, outside
from .bank import Ledger

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TRANSFER: dict[str, Any] = {
    "steps": [
        {"id": "give", "call": "ledger.deposit", "input": {"account": "a", "cents": 5}},
        {"id": "take", "call": "ledger.withdraw", "input": {"account": "a", "cents": 2}, "after": ["give"]},
    ],
    "output": {"$from": "take"},
}
TASKS = 60


def bank(name: str, data: Path, server: Server) -> Any:
    return Federation.local([Ledger], data=data, federation={"name": name}, store={"url": server.url})


async def transfer(federation: Federation, number: int) -> Task:
    return await federation.submit(plan=TRANSFER, idempotency_key=f"transfer-{number}")


async def test_work_survives_a_server_that_is_stopped_and_killed(name: str, tmp_path: Path, server: Server) -> None:
    """Clients who hear that nobody answers ask again with the same key."""
    async with bank(name, tmp_path, server) as federation:
        first = await transfer(federation, 0)
        await first.result(60)
        trouble = asyncio.create_task(_trouble(federation, server))
        tasks = [first, *await asyncio.gather(*(_insisted(federation, number) for number in range(1, TASKS)))]
        await trouble
        views = [await task.wait(120) for task in tasks]
        assert {view.status for view in views} == {"completed"}
        assert await federation.call("ledger.balance", {"account": "a"}) == {"cents": 3 * TASKS}
    told = outside.check_journal(tmp_path, [task.id for task in tasks])
    outside.check_receipts(tmp_path, told)
    outside.check_replay(told, {view.id: view for view in views})
    assert max(outside.epochs(outside.events(tmp_path))) >= 3, "the coordinator was never hurt"
    assert all(each.report.ok for each in audit(tmp_path))
    assert not list(tmp_path.rglob("*.sqlite"))


async def _insisted(federation: Federation, number: int) -> Task:
    await asyncio.sleep(random.Random(number).uniform(0, 8))  # so that they come all through the trouble
    while True:
        try:
            return await transfer(federation, number)
        except (Unavailable, StorageError):
            await asyncio.sleep(0.2)


async def _trouble(federation: Federation, server: Server) -> None:
    for way in (server.kill, lambda: server.stop("immediate"), lambda: server.stop("fast")):
        await asyncio.to_thread(way)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        await federation.client.status()


async def test_the_dead_come_back_to_their_stores(name: str, tmp_path: Path, server: Server) -> None:
    async with bank(name, tmp_path, server) as federation:
        tasks = [await transfer(federation, 0)]
        await tasks[0].result(60)
        (coordinator,) = (await federation.client.status()).coordinators
        (ledger,) = await federation.client.agents()
        for pid in (coordinator, ledger.pid):
            os.kill(pid, signal.SIGKILL)
        tasks += [await transfer(federation, number) for number in (1, 2)]
        assert [(await task.wait(60)).status for task in tasks] == ["completed"] * 3
        assert await federation.call("ledger.balance", {"account": "a"}) == {"cents": 9}
    outside.check_receipts(tmp_path, outside.check_journal(tmp_path, [task.id for task in tasks]))
    kinds = [event.kind for event in outside.events(tmp_path)]
    assert kinds.count(Kind.COORDINATOR_STARTED) == 2


async def test_four_coordinators_share_a_budget_and_spend_no_cent_too_much(
    name: str, tmp_path: Path, server: Server
) -> None:
    """G14, in a small size: `python -m tests.acceptance.budgets` is the whole of it."""
    found = await budgets.measure(24, 5, 1, tmp_path / "data", server, name)
    assert found["problems"] == []
    assert found["overspent_cents"] == 0
    assert 0 < found["spent_cents"] <= found["cap_cents"]
    assert set(found["ends"]) == {"completed", "budget_exhausted"}
    assert found["longest_seconds"] <= budgets.LEASE_SECONDS
    assert found["deaths"].keys() >= {"server", "coordinator"}
