"""Decisions of people while processes die: none is lost, none counts twice, none is about something else or too late.

The whole of it is `python -m hanse.benchmarks.approvals`. Bugs are planted too, and have to be found.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hanse.benchmarks.approvals import Council, flood, under_fire
from hanse.runtime import questions
from hanse.runtime.questions import Questions
from hanse.runtime.simulation.fate import Fault, Planned
from hanse.runtime.simulation.story import tell


def test_no_decision_is_lost_doubled_misapplied_or_late():
    found = under_fire(runs=15)
    assert found["problems"] == []
    assert found["approval.voted"] > 5
    assert found["approval.edited"] > 0


async def test_a_flood_becomes_few_prompts(tmp_path: Path):
    found = await flood(60, tmp_path)
    assert (found["requests"], found["decided"], found["refused"], found["left"]) == (60, 60, 0, 0)
    assert found["prompts"] <= 3


def problems(seeds: int = 40, planned: list[Planned] | None = None) -> Iterator[str]:
    """What is found, seed by seed: as many as are told are looked at."""
    for seed in range(seeds):
        faults = planned and [Planned(p.fault, p.at, p.seconds, p.target, p.number) for p in planned]
        try:
            yield from tell(seed, faults, Council).problems
        except AssertionError as error:
            yield str(error)


def is_found(what: str, **options: Any) -> bool:
    return any(what in problem for problem in problems(**options))


def test_votes_of_one_person_that_count_twice_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(questions, "_was_said", lambda step, said: False)
    real = Questions._seat

    def anew(self: Any, run: Any, step: Any, said: Any, *, edits: bool) -> str:
        votes, step.votes = step.votes, ()
        try:
            return real(self, run, step, said, edits=edits)
        finally:
            step.votes = votes

    monkeypatch.setattr(Questions, "_seat", anew)
    assert is_found("I")


def test_decisions_about_something_else_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(questions, "_check_seen", lambda step, said: None)
    assert is_found("about something else")


def test_a_yes_after_its_time_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Questions, "_is_late", lambda self, step: False)
    jump = [Planned(Fault.CLOCK, 2.0 + n / 4, 0, "coordinator", 0) for n in range(12)]
    assert is_found("after it had expired", planned=jump)


def test_a_decision_that_is_said_before_it_is_on_disk_is_found(monkeypatch: pytest.MonkeyPatch):
    """The coordinator forgets the last decision of each task, as if it had not been written."""
    real = Questions._take

    def forgets(self: Any, run: Any, step: Any, said: Any, seat: str) -> None:
        if not said.note.startswith("x") and self._clock.now_ms() % 3:
            real(self, run, step, said, seat)

    monkeypatch.setattr(Questions, "_take", forgets)
    assert is_found("lost", seeds=5)
