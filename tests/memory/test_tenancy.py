"""Nothing of one tenant reaches another, nor of one agent's private memory another agent: G18 in a reduced size.

The whole of it is `python -m hanse.benchmarks.tenancy --reads 1000000`.
"""

import asyncio
from pathlib import Path

from hanse.benchmarks import tenancy
from hanse.memory import service
from hanse.memory.access import View


def test_random_reads_between_kills_show_nobody_elses_bytes(tmp_path: Path):
    found = tenancy.measure(reads=600, tenants=12, records=9, kills=1, folder=tmp_path)
    assert (found["foreign"], found["broken"]) == ([], [])
    assert (found["row"]["kills"], found["row"]["reads"] >= 600, found["row"]["hits"] > 100) == (1, True, True)


def test_readers_show_nobody_elses_bytes_either(tmp_path: Path):
    """And when all is over, their indexes are what the log has."""
    found = tenancy.measure(reads=600, tenants=12, records=9, kills=1, folder=tmp_path, readers=2)
    assert (found["foreign"], found["broken"]) == ([], [])
    assert (found["row"]["kills"], found["row"]["reads"] >= 600, found["row"]["hits"] > 100) == (1, True, True)


def test_it_would_be_seen(tmp_path: Path, monkeypatch):
    """With the rule about private memory out of force, the search finds private words at once."""
    monkeypatch.setattr(service, "view_of", lambda caller, grants: View(everything=True))
    found = asyncio.run(tenancy.live(tmp_path, tenants=2, records=9, reads=150, seconds=60, seed=1))
    assert any("private" in each for each in found["foreign"])
