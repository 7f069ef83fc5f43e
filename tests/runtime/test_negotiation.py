"""Who gets a step and why: the award as a pure function, and tenders that some answer, late, twice or not at all."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import AgentId, Bid
from hanse.contracts.messages import Proposed
from hanse.runtime import tenders
from hanse.runtime.negotiation import Decision, Weights, decide, score
from hanse.runtime.tenders import Tenders

NORTH, SOUTH, EAST = AgentId("north"), AgentId("south"), AgentId("east")
WEIGHTS = Weights(cents_per_waiting_second=10)


def bid(agent: AgentId, **more: Any) -> Bid:
    """One cent, a tenth of a second, nobody before us."""
    return replace(Bid(agent, "1.0", 1, 100, 0), **more)


def won(*bids: Bid, weights: Weights = WEIGHTS, avoid: Sequence[AgentId] = ()) -> str:
    winner = decide(bids, weights, avoid=avoid).winner
    return winner.agent if winner else ""


BIDS = st.lists(
    st.builds(
        Bid,
        agent=st.sampled_from([NORTH, SOUTH, EAST]),
        version=st.just("1.0"),
        price_cents=st.floats(0, 1000),
        latency_ms=st.floats(0, 10_000),
        queue_depth=st.integers(0, 100),
        confidence=st.floats(0, 1),
        refusal=st.sampled_from(["", "", "closed"]),
    ),
    unique_by=lambda each: each.agent,
    max_size=3,
)


def test_a_score_is_the_price_and_the_waiting_in_cents_by_confidence() -> None:
    waiting_for_two = bid(NORTH, price_cents=5, latency_ms=500, queue_depth=1)
    assert score(waiting_for_two, WEIGHTS) == 5 + 1.0 * 10
    assert score(replace(waiting_for_two, confidence=0.5), WEIGHTS) == 30
    assert score(replace(waiting_for_two, confidence=0), WEIGHTS) == 1500, "never infinite"


def test_the_cheapest_wins_whatever_came_first() -> None:
    assert won(bid(NORTH, price_cents=2), bid(SOUTH, price_cents=1)) == SOUTH
    assert won(bid(SOUTH, price_cents=1), bid(NORTH, price_cents=2)) == SOUTH


def test_ties_go_to_the_lower_id() -> None:
    assert won(bid(SOUTH), bid(NORTH), bid(EAST)) == EAST


def test_the_weight_of_waiting_decides_between_cheap_and_quick() -> None:
    cheap, quick = bid(NORTH, price_cents=1, latency_ms=2000), bid(SOUTH, price_cents=5, latency_ms=100)
    assert won(cheap, quick, weights=Weights(10)) == SOUTH
    assert won(cheap, quick, weights=Weights(0)) == NORTH


def test_a_queue_is_waiting_too() -> None:
    assert won(bid(NORTH, queue_depth=9), bid(SOUTH, queue_depth=0)) == SOUTH


def test_who_refuses_gets_nothing_however_cheap() -> None:
    assert won(bid(NORTH, price_cents=0, refusal="closed"), bid(SOUTH, price_cents=900)) == SOUTH
    assert won(bid(NORTH, refusal="closed")) == ""


def test_who_failed_before_gets_it_only_when_there_is_nobody_else() -> None:
    assert won(bid(NORTH, price_cents=0), bid(SOUTH, price_cents=900), avoid=[NORTH]) == SOUTH
    assert won(bid(NORTH), bid(SOUTH, refusal="closed"), avoid=[NORTH]) == NORTH
    assert won(bid(NORTH), bid(SOUTH, price_cents=2), avoid=[NORTH, SOUTH]) == NORTH


def test_the_reason_names_everybody_and_why_not() -> None:
    bids = [bid(NORTH, price_cents=2), bid(SOUTH, price_cents=0), bid(EAST, refusal="closed"), bid(AgentId("west"))]
    reason = decide(bids, WEIGHTS, avoid=[SOUTH]).reason
    assert reason == (
        "west scores 2.00 (1 cents, 100.0 ms, 0 before us) against "
        "north 3.00, east refuses: closed, south failed before"
    )


def test_the_reasons_of_all_when_nobody_wants_it() -> None:
    refused = decide([bid(NORTH, refusal="closed"), bid(SOUTH, refusal="too heavy")], WEIGHTS)
    assert refused == Decision(None, "north refuses: closed; south refuses: too heavy")
    assert decide([], WEIGHTS) == Decision(None, "nobody offers this")


@given(BIDS, st.sets(st.sampled_from([NORTH, SOUTH, EAST])), st.randoms())
def test_the_award_depends_on_the_bids_and_not_on_their_order(
    bids: list[Bid], avoid: set[AgentId], random: Any
) -> None:
    shuffled = random.sample(bids, len(bids))
    first, second = decide(bids, WEIGHTS, avoid=avoid), decide(shuffled, WEIGHTS, avoid=avoid)
    assert first.winner == second.winner
    willing = [each for each in bids if not each.refusal]
    assert (first.winner is None) == (not willing)
    if first.winner is not None:
        rivals = [each for each in willing if each.agent not in avoid] or willing
        assert first.winner in rivals
        assert score(first.winner, WEIGHTS) == min(score(each, WEIGHTS) for each in rivals)


# Tenders


@dataclass
class Agents:
    """In the roster's place: who was asked what, and who is here."""

    here: set[AgentId] = field(default_factory=lambda: {NORTH, SOUTH})
    asked: list[tuple[int, AgentId]] = field(default_factory=list[tuple[int, AgentId]])

    def ask(self, number: int, agent: AgentId, run: Any, step: Any) -> None:
        self.asked.append((number, agent))

    def is_here(self, agent: AgentId) -> bool:
        return agent in self.here


@dataclass
class Tendering:
    """A tender of one step to north and south."""

    agents: Agents
    tenders: Tenders
    closed: "asyncio.Future[list[AgentId]]"
    step: Any

    def answer(self, each: Bid, number: int = 1) -> None:
        self.tenders.proposed(Proposed(number, each.to_data()))


@pytest.fixture
def tendering() -> Callable[[], Tendering]:
    def begin() -> Tendering:
        agents, closed = Agents(), asyncio.get_running_loop().create_future()
        step: Any = SimpleNamespace(parked=False)
        settled = lambda run, step, bids: closed.set_result([each.agent for each in bids])  # noqa: E731
        opened = Tenders(cast("Any", agents), settled)
        opened.call(cast("Any", None), step, [cast("Any", SimpleNamespace(agent=each)) for each in (NORTH, SOUTH)])
        return Tendering(agents, opened, closed, step)

    return begin


async def test_a_tender_closes_when_all_have_answered(tendering: Callable[[], Tendering]) -> None:
    tender = tendering()
    assert tender.agents.asked == [(1, NORTH), (1, SOUTH)]
    assert tender.step.parked
    tender.answer(bid(SOUTH))
    assert not tender.closed.done()
    tender.answer(bid(NORTH))
    assert await tender.closed == [NORTH, SOUTH], "by agent id, whoever answered first"
    assert not tender.step.parked


async def test_who_has_not_answered_in_time_has_not_bid(
    tendering: Callable[[], Tendering], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenders, "SECONDS", 0.01)
    tender = tendering()
    tender.answer(bid(SOUTH))
    assert await tender.closed == [SOUTH]
    tender.answer(bid(NORTH))  # too late: it would settle the future a second time and raise


async def test_nobody_answers(tendering: Callable[[], Tendering], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenders, "SECONDS", 0.01)
    assert await tendering().closed == []


async def test_a_bid_that_nobody_asked_for_is_ignored(tendering: Callable[[], Tendering]) -> None:
    tender = tendering()
    tender.answer(bid(EAST))
    tender.answer(bid(NORTH), number=7)
    tender.answer(bid(NORTH))
    tender.answer(bid(NORTH, price_cents=3))  # thinks again
    assert not tender.closed.done()
    tender.answer(bid(SOUTH))
    assert await tender.closed == [NORTH, SOUTH]


async def test_who_left_after_bidding_gets_nothing(tendering: Callable[[], Tendering]) -> None:
    tender = tendering()
    tender.answer(bid(NORTH))
    tender.agents.here.discard(NORTH)
    tender.answer(bid(SOUTH))
    assert await tender.closed == [SOUTH]
