"""Replay: what a coordinator wrote comes out the same; what was changed in any decision does not."""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.benchmarks.replay import run
from hanse.contracts import Event, Kind, NotFound, Refusal, capability
from hanse.contracts.wire import encode_event
from hanse.runtime.cli.text import json_text
from hanse.runtime.client import LinkClient
from hanse.runtime.execution import Run
from hanse.runtime.federation import Federation
from hanse.runtime.negotiation import Weights
from hanse.runtime.replay import Replay
from hanse.runtime.simulation.tampering import CHANGES, planted

from ..strategies import plain
from ..support.histories import by_task, replayed, simulated

SEEDS = range(20)
SILENT = (0, 4, 7)
"""Seeds in which steps are held."""
NEW = {"weights", "max_attempts", "forked_from", "format"}
"""What journals did not say before they could be read again."""


class Cents(BaseModel):
    cents: int


class TooMuch(Refusal):
    """Nobody pays so much."""

    code = "replay_test.too_much"


class Till(Agent):
    """Takes money."""

    domain = "till"
    calls: int = 0

    @capability(effect="reversible", compensation="give_back")
    async def pay(self, request: Cents, context: Context) -> Cents:
        """Pay."""
        type(self).calls += 1
        if request.cents > 900:
            raise TooMuch
        return request

    @capability(effect="irreversible")
    async def give_back(self, request: Cents, context: Context) -> Cents:
        """Give back."""
        return request


def histories() -> Iterator[tuple[int, tuple[Event, ...]]]:
    for seed in SEEDS:
        yield from ((seed, history) for history in simulated(seed))
    for seed in SILENT:
        yield from ((seed, history) for history in simulated(seed, silent=True))


def test_what_simulated_coordinators_wrote_comes_out_the_same():
    """Under kills, cuts, full disks and jumping clocks too: a replay knows nothing of them."""
    kinds: Counter[str] = Counter()
    for seed, history in histories():
        replay = replayed(history)
        assert replay.divergence is None, (seed, history[0].task, replay.divergence)
        assert replay.events == len(history)
        kinds.update(str(event.kind) for event in history)
    assert kinds.keys() >= {
        *("task.submitted", "task.aborting", "task.canceling", "task.completed", "task.failed", "task.canceled"),
        *("step.expanded", "step.skipped", "step.awarded", "step.interrupted", "step.completed", "step.failed"),
        *("step.held", "step.resumed", "step.inherited", "approval.requested", "approval.decided"),
    }


def test_a_change_in_any_decision_is_found():
    """F40: and every kind of change was really planted."""
    tried: Counter[str] = Counter()
    for seed, history in histories():
        for name, changed in planted(list(history), Random(seed)):
            tried[name] += 1
            assert replayed(changed).divergence is not None, (name, seed, history[0].task)
    assert tried.keys() == CHANGES.keys()


def test_the_first_event_that_differs_is_named_with_what_had_to_be():
    history = next(each for each in simulated(1) if each[-1].kind is Kind.TASK_COMPLETED)
    place = next(i for i, event in enumerate(history) if event.kind is Kind.STEP_AWARDED)
    award = history[place]
    changed = [*history[:place], _with(award, reason="because"), *history[place + 1 :]]
    found = replayed(changed).divergence
    assert found is not None
    assert (found.sequence, found.kind, found.step, found.what) == (
        award.sequence,
        "step.awarded",
        award.step,
        "reason",
    )
    assert (found.expected, found.found) == (award.data["reason"], "because")


def test_nothing_is_read_behind_a_divergence():
    first, *rest = next(each for each in simulated(1) if len(each) > 3)
    replay = Replay()
    assert replay.take(first)
    assert not replay.take(rest[-1])
    assert not replay.take(rest[0])
    assert replay.events == 1


def test_bytes_that_say_the_same_in_another_way_are_another_entry():
    event = simulated(1)[0][0]
    entry = encode_event(event)
    assert Replay().take(event, entry)
    assert not Replay().take(event, entry + b"\xc0")


def test_journals_of_before_there_was_a_replay_come_out_the_same():
    histories = [history for history in simulated(2) if history[0].data["forked_from"] is None]
    assert len(histories) > 10
    for history in histories:  # nor were there forks
        old = [_without(event, NEW) for event in history]
        assert replayed(old).divergence is None


@settings(max_examples=40)
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_every_prefix_that_a_crash_could_leave_is_a_task_that_goes_on(seed: int, random: Random):
    """Commits are whole turns of the loop, so no prefix ends before something that nobody has to be waited for. One cut
    elsewhere is found out, or is such a prefix too: it never trips the replay up.
    """
    history = random.choice(simulated(seed))
    cut = random.randrange(1, len(history) + 1)
    replay = replayed(history[:cut])
    assert replay.events == cut
    assert replay.divergence is None or replay.divergence.found == "the end of the journal"


@settings(max_examples=60)
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
def test_events_in_any_order_are_judged_and_never_trip_it_up(seed: int, random: Random):
    history = list(random.choice(simulated(seed)))
    random.shuffle(history)
    replay = replayed(history)
    in_order = [event.sequence for event in history] == sorted(event.sequence for event in history)
    assert (replay.divergence is None) == in_order


@settings(max_examples=300)
@given(st.sampled_from(SILENT), st.data())
def test_data_of_any_shape_is_judged_and_never_trips_it_up(seed: int, data: st.DataObject):
    history = list(data.draw(st.sampled_from(simulated(seed, silent=True))))
    place = data.draw(st.integers(0, len(history) - 1))
    names = sorted(history[place].data)
    changed = {data.draw(st.sampled_from(names)): data.draw(plain) for _ in range(2)}
    history[place] = _with(history[place], **changed)
    replay = replayed(history)
    assert replay.report().events == replay.events
    assert json_text(replay.report())


def test_the_state_depends_on_everything_that_happened():
    states = {replayed(history).state for history in simulated(3)}
    assert len(states) == len(simulated(3))
    history = simulated(3)[0]
    assert replayed(history).state == replayed(history).state
    assert replayed(history[:-1]).state != replayed(history).state


def step(id: str, cents: int, **parts: Any) -> dict[str, Any]:
    return {"id": id, "call": "till.pay", "input": {"cents": cents}, **parts}


async def test_a_federation_replays_a_task_and_calls_nobody():
    async with Federation.in_process([Till]) as federation:
        plan = {"steps": [step("a", 1), step("b", 901, after=["a"])]}
        task = await federation.submit(plan=plan)
        view = await task.wait(10)
        called = Till.calls
        report = await federation.client.replay(task.id)
        assert (report.ok, report.task, report.status) == (True, view.id, "failed")
        assert report.events == len(await federation.client.events(task.id))
        assert Till.calls == called
        other = federation.client
        assert isinstance(other, LinkClient)
        with pytest.raises(NotFound):
            await other.acting("somebody", "else").replay(task.id)  # type: ignore[arg-type]


def test_weights_of_its_own_are_written_down_and_weighed_again():
    assert Weights().to_data() is None
    assert Weights(3.0).to_data() == {"cents_per_waiting_second": 3.0}
    history = list(simulated(1)[0])
    i = next(i for i, event in enumerate(history) if event.kind is Kind.STEP_AWARDED)
    history[i] = _with(history[i], weights={"cents_per_waiting_second": 10.0})
    assert replayed(history).divergence is None


async def test_an_abort_by_a_fault_of_our_own_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch):
    """What tripped the coordinator up may be mended since, so nobody can derive it."""

    def trips(self: Run) -> Any:
        raise RuntimeError("a fault of our own")

    async with Federation.in_process([Till]) as federation:
        with monkeypatch.context() as patched:
            patched.setattr(Run, "_answer", trips)
            task = await federation.submit(plan={"steps": [step("a", 1)]})
            assert (await task.wait(10)).status == "failed"
        (history,) = by_task(await federation.client.events(task.id))
        assert (await federation.client.replay(task.id)).ok
    assert [event.data["step"] for event in history if event.kind is Kind.TASK_ABORTING] == [None]


def _with(event: Event, **data: Any) -> Event:
    return event._replace(data={**event.data, **data})


def _without(event: Event, names: set[str]) -> Event:
    return event._replace(data={name: value for name, value in event.data.items() if name not in names})


def test_the_benchmark_finds_no_divergence_and_every_planted_change():
    (row,) = run(Namespace(journals=2, first=10))
    assert (row["journals"], row["divergences"]) == (2, 0)
    assert 0 < row["changes_planted"] == row["changes_refused"]
    assert row["decided_again"] > row["events"] / 2
