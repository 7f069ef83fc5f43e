"""Kills a real process at every named point, lets it come back, and looks from outside whether every promise held.

Faults F1, F2, F6; invariants I1, I2, I3, I4, I7, I10, I13. Each case proves that its crash really happened.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hanse import Federation
from hanse.agents import faults as agent_faults
from hanse.contracts import ApprovalView, HanseError, TaskStatus
from hanse.runtime import faults
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Task
from hanse.runtime.world import CRASH_VARIABLE, MARK_VARIABLE

from . import outside
from .town import Crier, Square, Vault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

GOOD: dict[str, Any] = {
    "steps": [
        {"id": "first", "call": "vault.put", "input": {"name": "good", "number": 1}},
        {"id": "cry", "call": "crier.cry", "input": {"words": "hear ye"}, "after": ["first"]},
        {"id": "last", "call": "vault.put", "input": {"name": "good", "number": 10}, "after": ["cry"]},
    ],
    "output": {"$from": "last.total"},
}
BAD: dict[str, Any] = {
    "steps": [
        {"id": "first", "call": "vault.put", "input": {"name": "bad", "number": 1}},
        {"id": "second", "call": "vault.put", "input": {"name": "bad", "number": 2}, "after": ["first"]},
        {"id": "third", "call": "vault.refuse", "input": {"name": "bad", "number": 4}, "after": ["second"]},
    ]
}
FAN: dict[str, Any] = {
    "steps": [
        {
            "id": "each",
            "call": "vault.put",
            "for_each": [1, 2, 3],
            "input": {"name": "fan", "number": {"$from": "item"}},
        },
        {"id": "never", "call": "vault.put", "when": False, "input": {"name": "fan", "number": 100}},
    ]
}
DROPPED: dict[str, Any] = {
    "steps": [
        {"id": "first", "call": "vault.put", "input": {"name": "dropped", "number": 7}},
        {"id": "cry", "call": "crier.cry", "input": {"words": "never mind"}, "after": ["first"]},
    ]
}
PLANS = {"good": GOOD, "bad": BAD, "fan": FAN, "dropped": DROPPED}
POINTS = [
    pytest.param(point, marks=pytest.mark.xdist_group(f"crash points {i % 4}"))  # two workers can share them
    for i, point in enumerate([*agent_faults.POINTS, *faults.POINTS])
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_loses_nothing_and_doubles_nothing(
    point: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, square = tmp_path / "crashed", tmp_path / "square"
    monkeypatch.setenv(CRASH_VARIABLE, point)
    monkeypatch.setenv(MARK_VARIABLE, str(mark))
    async with town(name, tmp_path, square) as federation:
        tasks = {key: await federation.submit(plan=plan, idempotency_key=key) for key, plan in PLANS.items()}
        good, bad, fan, dropped = tasks.values()
        question = await asked(federation, good)
        await asked(federation, dropped)
        if point == faults.RECOVERING:
            os.kill((await federation.client.status()).coordinators[0], signal.SIGKILL)
        await dropped.cancel("thought better of it")
        await federation.client.decide(question.id, approve=True, digest=question.digest)
        assert await good.result(60) == 11
        with pytest.raises(HanseError) as refused:
            await bad.result(60)
        assert refused.value.code == "vault.full"
        assert (await fan.wait(60)).status is TaskStatus.COMPLETED
        assert (await dropped.wait(60)).status is TaskStatus.CANCELED
        again = await federation.submit(plan=GOOD, idempotency_key="good")
        assert again.id == good.id
        views = {task.id: await task.view() for task in tasks.values()}
        states = {task.id: (await federation.client.replay(task.id)).state for task in tasks.values()}
        kept = [await federation.call("vault.total", {"name": each, "number": 0}) for each in PLANS]
    assert mark.exists(), f"nothing crashed at {point}"
    assert [each["total"] for each in kept] == [11, 0, 6, 0]
    told = outside.check_journal(tmp_path, states)
    outside.check_effects(square, told, "crier.cry")
    outside.check_receipts(tmp_path, told)
    outside.check_replay(told, views)
    outside.check_states(tmp_path, states)


@asynccontextmanager
async def town(name: str, data: Path, square: Path) -> AsyncIterator[Federation]:
    async with Federation.local(
        agents=[AgentEntry(**{"class": each, "host": "town"}) for each in (Vault, Crier)],
        data=data,
        federation={"name": name},
        connectors={
            "square": {
                "kind": "class",
                "class": f"{Square.__module__}:Square",
                "options": {"file": str(square), "settle_seconds": 0},
            }
        },
        approvals=[{"capability": "crier.cry"}],
    ) as federation:
        yield federation


async def asked(federation: Federation, task: Task) -> ApprovalView:
    """The question the task waits for."""
    while not (mine := [each for each in await federation.client.approvals() if each.task == task.id]):
        await federation.client.wait(task.id, 10)
    return mine[0]
