"""G17 in small: whatever somebody does to a journal, the audit against its heads finds it (I7, F23, F24, F51)."""

from pathlib import Path

import pytest

from hanse.benchmarks.tampering import WAYS, Scene, detect, speed

CASES = 140


def test_every_tampering_is_found_and_no_untouched_journal_is_blamed(tmp_path: Path):
    rows = {row["kind"]: row for row in detect(tmp_path, CASES, entries=220)}
    assert {kind: row["missed"] for kind, row in rows.items()} == dict.fromkeys(rows, 0)
    assert sum(rows[kind]["n"] for kind in WAYS) == CASES
    untouched = rows["untouched"]
    assert (untouched["n"], untouched["found"]) == (3, 0)


@pytest.mark.parametrize("kind", WAYS)
def test_the_clever_way_is_not_found_without_heads(tmp_path: Path, kind: str):
    """Or the heads would prove nothing here."""
    scene = Scene(tmp_path, 120, seed=1)
    _, clever = WAYS[kind]
    assert scene.tampered(clever)
    scene._heads = []
    assert not scene.tampered(clever)


def test_an_audit_and_a_proof_are_measured(tmp_path: Path):
    figures = speed(tmp_path, 600, proofs=3)
    assert figures["entries"] == 600
    assert figures["entries_per_second"] > 0
    assert figures["heads"] >= 1
