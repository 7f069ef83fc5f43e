"""The benchmark of peers, without the peers: it counts what it says, and nothing that was not written counts."""

import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hanse.benchmarks import peer_chain, peers

SIZES: dict[str, Any] = {"tasks": 5, "steps": 10, "concurrency": 3}


@asynccontextmanager
async def diarist(place: peer_chain.Place, steps: int, payload: str, at_once: int) -> AsyncIterator[peer_chain.Chain]:
    """A peer that writes a row for each step."""
    with sqlite3.connect(place.sqlite) as database:
        database.execute("CREATE TABLE step (payload TEXT)")

        async def run(task: int) -> int:
            database.executemany("INSERT INTO step VALUES (?)", [(payload,)] * steps)
            database.commit()
            return steps

        yield run


def _rows(place: peer_chain.Place) -> int:
    return place.count("SELECT count(*) FROM step")


async def test_the_steps_on_disk_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peer_chain.PEERS, "diarist", peer_chain.Peer(diarist, _rows))
    told = await peer_chain.measured({"peer": "diarist", "folder": tmp_path, "server": "", "payload": "x", **SIZES})
    assert told["durable_steps"] == (5 + peer_chain.WARM_UP) * 10
    assert len(told["times"]) == 5
    assert 0 < max(told["times"]) <= told["seconds"]


async def test_a_chain_that_stops_early_is_no_result(tmp_path: Path) -> None:
    async def lazy(task: int) -> int:
        return 9

    with pytest.raises(AssertionError, match="did not do all its steps"):
        await peer_chain.work(lazy, 0, 1, 10, 1)


def test_a_peer_that_keeps_less_than_it_did_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful = tmp_path / "forgetful.py"
    told = {"seconds": 1.0, "times": [0.1], "durable_steps": 249}
    forgetful.write_text(f"print({json.dumps(told)!r})")
    monkeypatch.setattr(peer_chain, "__file__", str(forgetful))
    with pytest.raises(SystemExit, match="has 249 steps on disk, and did 250"):
        peers.measure(Path(sys.executable), "dbos", tmp_path, **SIZES)


def test_every_peer_is_pinned_and_has_a_program() -> None:
    assert peers.PINNED.keys() == peer_chain.PEERS.keys()
    assert all("==" in each for pinned in peers.PINNED.values() for each in pinned)
