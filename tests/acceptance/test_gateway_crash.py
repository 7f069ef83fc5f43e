"""Fault F4: the gateway dies between the disk and the answer. The caller, who was told nothing, asks again.

Invariants I1, I2, I3, I7, I10, I13.
"""

from pathlib import Path

import httpx
import pytest

from hanse import Federation
from hanse.runtime import faults
from hanse.runtime.http_client import HttpClient
from hanse.runtime.world import CRASH_VARIABLE, MARK_VARIABLE

from . import outside
from .town import Crier, Square, Vault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

TASK = {
    "plan": {
        "steps": [
            {"id": "put", "call": "vault.put", "input": {"name": "twice", "number": 7}},
            {"id": "cry", "call": "crier.cry", "input": {"words": "hear ye"}, "after": ["put"]},
        ],
        "output": {"$from": "put.total"},
    }
}


async def test_a_task_whose_answer_was_lost_is_found_again_by_its_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, square = tmp_path / "crashed", tmp_path / "square"
    options = {"file": str(square), "settle_seconds": 0}
    monkeypatch.setenv(CRASH_VARIABLE, faults.BEFORE_ANSWER)
    monkeypatch.setenv(MARK_VARIABLE, str(mark))
    async with Federation.local(
        agents=[Vault, Crier],
        data=tmp_path,
        connectors={"square": {"kind": "class", "class": f"{Square.__module__}:Square", "options": options}},
        http=True,
        federation={"name": name},
        gateway={"port": 0, "open_on_loopback": True},
    ) as federation:
        assert federation.url is not None
        lost = await answer_to(federation.url)
        assert lost is None or lost.status_code >= 500
        assert mark.exists(), "the gateway did not crash"
        client = HttpClient(federation.url, None, patience_seconds=60)
        kept = await client.tasks()
        assert len(kept) == 1, "the task was on disk before the gateway died"
        again = await answered(federation.url)
        assert again.json()["id"] == kept[0].id
        view = await client.wait(kept[0].id, 30)
        assert view.output == 7
        state = (await client.replay(view.id)).state
        await client.close()
    told = outside.check_journal(tmp_path, [view.id])
    assert told.keys() == {view.id}, "it was done as two tasks"
    outside.check_effects(square, told, "crier.cry")
    outside.check_receipts(tmp_path, told)
    outside.check_replay(told, {view.id: view})
    outside.check_states(tmp_path, {view.id: state})


async def answer_to(url: str) -> httpx.Response | None:
    """What one try is answered; None when the connection broke."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        try:
            return await http.post("/v1/tasks", json=TASK, headers={"Idempotency-Key": "same"})
        except httpx.TransportError:
            return None


async def answered(url: str) -> httpx.Response:
    """Asks until a gateway that is up again answers."""
    while (answer := await answer_to(url)) is None or answer.status_code >= 500:
        pass
    return answer
