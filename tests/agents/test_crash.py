"""An agent's process is killed at every point of its work and started again; what counts is what the outside sees.

I2 (an effect at most once per key, exactly once for a completed step), I3 and I15 of the invariants, for F1: each kill
is a real SIGKILL, and each test proves that its fault fired.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from hanse.agents import POINTS
from hanse.runtime.world import CRASH_VARIABLE

from .outside import http_service, mail_server

ROOT = Path(__file__).resolve().parents[2]
CHILD = "import runpy; runpy.run_module('tests.agents.crash_child', run_name='__main__')"
KEY = "00000000-0000-7000-8000-000000000001/s1"


async def process(folder: Path, capability: str, connectors: dict[str, Any], crash_at: str = "") -> tuple[int, Any]:
    """Return code and printed result of one life of the agent."""
    environment = os.environ | {CRASH_VARIABLE: crash_at}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(folder / "shop.sqlite"), capability, json.dumps(connectors)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    printed, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, json.loads(printed) if printed else None


async def crash_and_go_on(folder: Path, capability: str, connectors: dict[str, Any], *points: str) -> Any:
    """Kills one life of the agent after the other at these points, proves it, and gives the result of the last."""
    for point in points:
        code, printed = await process(folder, capability, connectors, point)
        assert code == -signal.SIGKILL, f"it did not die at {point}"
        assert printed is None
    code, result = await process(folder, capability, connectors)
    assert (code, result["error"]) == (0, None)
    return result


def rows(folder: Path, table: str) -> list[Any]:
    connection = apsw.Connection(str(folder / "shop.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(f"SELECT * FROM {table}"))
    finally:
        connection.close()


def check_store(folder: Path) -> None:
    """One step, one receipt, one change of the state."""
    [receipt] = rows(folder, "receipt")
    assert receipt[:2] == (KEY, receipt[1])
    [state] = rows(folder, "state")
    assert state[:3] == ("orders", "count", b"\x01")


AGENT_POINTS = [point for point in POINTS if point.startswith("agent.")]


@pytest.mark.parametrize("point", AGENT_POINTS)
async def test_a_step_killed_anywhere_is_executed_once(tmp_path: Path, point: str):
    result = await crash_and_go_on(tmp_path, "shop.count", {}, point)
    assert result["output"] == 1
    assert result["replayed"] is (point == "agent.after_commit")
    check_store(tmp_path)


BANKS = {
    "that can be asked": ({}, {"status_path": "/by-key?key={key}", "settle_seconds": 0.2}),
    "that keeps keys": ({"keeps_keys": True}, {"idempotent_by_key": True}),
}


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("point", POINTS)
async def test_a_charge_killed_anywhere_is_made_once(tmp_path: Path, point: str, bank: str):
    service_options, options = BANKS[bank]
    async with http_service(**service_options) as service:
        connectors = {"bank": {"base_url": service.url, **options}}
        result = await crash_and_go_on(tmp_path, "shop.charge", connectors, point)
        assert result["output"] == 1
        assert dict(service.done) == {f"{KEY}!0": 1}
    check_store(tmp_path)


@pytest.mark.parametrize("point", POINTS)
async def test_a_letter_killed_anywhere_arrives_once(tmp_path: Path, point: str):
    async with mail_server(tmp_path / "mail") as post:
        connectors = {
            "mail": {
                "host": "127.0.0.1",
                "port": post.port,
                "sender": "store@example.com",
                "lookup_maildir": str(post.folder),
                "settle_seconds": 0.2,
            }
        }
        result = await crash_and_go_on(tmp_path, "shop.write", connectors, point)
        assert result["output"] == 1
        [message] = post.messages()
        assert message["Subject"] == "Order 1"
    check_store(tmp_path)


async def test_killed_at_one_point_after_the_other_it_still_happens_once(tmp_path: Path):
    """F6: the recovery is killed as well."""
    options = BANKS["that can be asked"][1]
    async with http_service() as service:
        connectors = {"bank": {"base_url": service.url, **options}}
        points = (
            "effect.after_claim",
            "effect.before_claim",
            "effect.after_do",
            "agent.before_commit",
            "agent.call_received",
        )
        result = await crash_and_go_on(tmp_path, "shop.charge", connectors, *points)
        assert result["output"] == 1
        assert dict(service.done) == {f"{KEY}!0": 1}
    check_store(tmp_path)


async def test_where_nobody_can_be_asked_a_crash_leaves_the_outcome_to_a_person(tmp_path: Path):
    async with http_service() as service:
        connectors = {"bank": {"base_url": service.url}}
        code, _ = await process(tmp_path, "shop.charge", connectors, "effect.after_do")
        assert code == -signal.SIGKILL
        for _ in range(2):
            code, result = await process(tmp_path, "shop.charge", connectors)
            assert (code, result["error"]["code"]) == (0, "outcome_unknown")
        assert service.done.total() == 1
    assert rows(tmp_path, "receipt") == []
    assert rows(tmp_path, "state") == []
