"""G2, G3 and G4 in small: what `benchmarks.disk_faults` does at full size."""

import asyncio
import gc
from pathlib import Path

import pytest

from hanse.benchmarks.disk_faults import bad_disk, power_cuts, torn_bytes

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""What a dead process held is collected here, and its connections say that the power is off."""


@pytest.fixture(autouse=True)
def _buried():
    """The dead are collected before the next test."""
    yield
    gc.collect()


def test_power_cuts_lose_nothing_and_the_mutant_is_found(tmp_path: Path):
    journal, mutant = asyncio.run(power_cuts(tmp_path, 60))
    assert (journal["losses"], journal["ok"], mutant["ok"]) == (0, True, True)
    assert journal["cuts"] >= 60
    assert 0 < mutant["cuts"] < 100


def test_torn_and_flipped_bytes_are_found_or_change_nothing(tmp_path: Path):
    rows = {row["what"]: row for row in torn_bytes(tmp_path, flips=60, stride=499)}
    assert [what for what, row in rows.items() if not row["ok"]] == []
    assert rows["bit flipped in an entry"]["detected"] == 60
    assert rows["log cut off"]["n"] > 50


def test_a_bad_disk_is_never_believed(tmp_path: Path):
    rows = asyncio.run(bad_disk(tmp_path, 5))
    assert len(rows) == 8
    assert [row["what"] for row in rows if not row["ok"]] == []
    assert all(row["fired"] == 5 for row in rows)
