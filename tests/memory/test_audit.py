"""The audit finds what was put there, and nothing else."""

import pytest

from hanse.contracts.memory import Layer, Provenance, State
from hanse.memory.audit import WEIGHTS, audit
from hanse.memory.report import plot

from .making import DAY, NOW, fact, record

HEALTHY = [
    record("a", "The Bergen office opens at nine."),
    record("b", "The Bergen office opens at ten on Mondays."),
    record("c", "Ann Lee leads the Bergen office.", fact=fact("bergen", "head", "Ann Lee")),
]


def findings(*more, **options):
    return {each.name: each for each in audit([*HEALTHY, *more], NOW, **options).findings}


def test_a_healthy_memory_has_the_full_score():
    report = audit(HEALTHY, NOW)
    assert (report.score, report.records) == (100, 3)
    assert all(each.count == 0 for each in report.findings)
    assert sum(WEIGHTS.values()) == 100


@pytest.mark.parametrize("text", ["the bergen office opens at 9", "At nine the Bergen office opens."])
def test_duplicates_are_found(text):
    found = findings(record("z", text))["duplicates"]
    assert (found.count, found.of) == (1, 4)
    assert set(found.examples[0].ids) == {"a", "z"}


def test_the_same_words_of_another_subject_or_event_are_no_duplicates():
    same = HEALTHY[0].text
    assert findings(record("y", same, subject="ben"), record("z", same, payload={"n": 1}))["duplicates"].count == 0
    events = [record(n, same, layer=Layer.EPISODIC, episode=n) for n in "yz"]
    assert findings(*events)["duplicates"].count == 0


def test_stale_orphaned_unsourced_and_contradictory_records_are_found():
    found = findings(
        record("old", "The fax number is 12.", updated_ms=NOW - 200 * DAY),
        record("over", "The sale lasts a week.", valid_to_ms=NOW - 1),
        record("orphan", "So the fax is used.", derived_from=["a", "gone"]),
        record("nowhere", "Nobody knows why.", provenance=Provenance()),
        record("other", "Ben Fu leads the Bergen office.", fact=fact("Bergen", "head", "Ben Fu")),
    )
    assert {name: each.count for name, each in found.items()} == {
        "duplicates": 0, "stale": 2, "orphaned": 1, "unsourced": 1, "contradictory": 1,
    }  # fmt: skip
    assert found["orphaned"].examples[0].why == "1 of its 2 sources are gone"
    assert found["contradictory"].examples[0].ids == ["c", "other"]


def test_sources_that_exist_elsewhere_are_not_lost():
    assert findings(record("d", derived_from=["x"]), elsewhere={"x"})["orphaned"].count == 0


def test_only_live_records_are_judged():
    aside = [
        HEALTHY[0].model_copy(update={"id": "z", "state": state}) for state in (State.QUARANTINED, State.SUPERSEDED)
    ]
    report = audit([*HEALTHY, *aside], NOW)
    assert (report.records, report.quarantined, report.superseded, report.score) == (3, 1, 1, 100)


def test_trouble_lowers_the_score_by_its_weight():
    dark = [record(n, f"Rule {n} of the house.", provenance=Provenance()) for n in "xyz"]
    assert audit([*HEALTHY, *dark], NOW).score == 100 - WEIGHTS["unsourced"] / 2


def test_many_records_are_audited_in_a_moment():
    """The comparison must not grow with the square: four thousand would be eight million pairs."""
    many = [record(str(n), f"Parcel {n} left depot {n % 7} towards customer {n * 31 % 997}.") for n in range(4000)]
    assert audit(many, NOW).records == 4000


def test_a_plot_is_drawn_into_a_file(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "audit.png"
    plot(audit(HEALTHY, NOW), file)
    assert file.read_bytes().startswith(b"\x89PNG")
