"""The breaker: when a tier is left alone, and how it comes back."""

import pytest

from hanse.contracts import Kind, ModelUnavailable, TimedOut
from hanse.contracts.breaker import LONGEST_SECONDS, Breaker, BreakerState, Passage
from hanse.contracts.pool import TierState
from hanse.models.policy import Policy

from ..support.models import HandClock, ScriptedBackend, World, ask, caller, running, tier


def entered(breaker: Breaker) -> Passage:
    passage = breaker.enter()
    assert passage is not None
    return passage


def broken(clock: HandClock, seconds: float = 5) -> Breaker:
    breaker = Breaker(clock, 3, seconds)
    for _ in range(3):
        entered(breaker).failed()
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    breaker = Breaker(HandClock(), 3, 5)
    for _ in range(2):
        entered(breaker).failed()
    entered(breaker).succeeded()
    for _ in range(2):
        entered(breaker).failed()
    assert breaker.state is BreakerState.CLOSED
    entered(breaker).failed()
    assert breaker.state is BreakerState.OPEN
    assert breaker.enter() is None


def test_after_the_pause_one_call_probes():
    clock = HandClock()
    breaker = broken(clock)
    clock.pass_seconds(5)
    probe = entered(breaker)
    assert breaker.enter() is None
    assert breaker.pause_seconds == 5, "nobody knows yet what comes of the probe; 0 would mean: come again at once"
    probe.succeeded()
    assert breaker.state is BreakerState.CLOSED
    entered(breaker)


def test_a_probe_that_fails_doubles_the_pause_up_to_a_limit():
    clock = HandClock()
    breaker = broken(clock)
    for pause in (10, 20, 40, 80, LONGEST_SECONDS, LONGEST_SECONDS):
        clock.pass_seconds(LONGEST_SECONDS)
        entered(breaker).failed()
        assert breaker.seconds_left == pause


def test_a_probe_that_says_nothing_makes_room_for_another():
    clock = HandClock()
    breaker = broken(clock)
    clock.pass_seconds(5)
    entered(breaker).said_nothing()
    entered(breaker).succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_a_call_from_before_that_fails_late_does_not_make_the_pause_longer():
    clock = HandClock()
    breaker = Breaker(clock, 1, 5)
    late, first = entered(breaker), entered(breaker)
    first.failed()
    clock.pass_seconds(4)
    late.failed()
    assert breaker.seconds_left == 1
    clock.pass_seconds(1)
    probe = entered(breaker)
    late.failed()
    assert breaker.enter() is None
    probe.succeeded()


async def test_a_tier_that_fails_is_left_alone_and_the_next_one_takes_over(world: World):
    small = ScriptedBackend(*[ModelUnavailable("died")] * 3, "back")
    large = ScriptedBackend("from above")
    tiers = {tier("small"): small, tier("large", 1): large}
    async with running(world.pool(tiers, Policy(breaker_failures=3, breaker_seconds=5))) as pool:
        for _ in range(5):
            assert (await pool.ask(ask(tier="small"), caller())).tier == "large"
        assert len(small.asked) == 3
        (view, _) = await pool.tiers()
        assert view.state is TierState.DEGRADED
        assert "left alone" in view.detail
        world.clock.pass_seconds(5)
        assert (await pool.ask(ask(tier="small"), caller())).text == "back"
        (view, _) = await pool.tiers()
        assert view.state is TierState.READY


async def test_a_deadline_that_was_too_short_says_nothing_about_the_tier(world: World):
    small = ScriptedBackend(TimedOut("late"))
    async with running(world.pool({tier("small"): small}, Policy(breaker_failures=1))) as pool:
        for _ in range(3):
            with pytest.raises(TimedOut):
                await pool.ask(ask(), caller(deadline_ms=world.clock.at_ms + 100))
        with pytest.raises(TimedOut):
            await pool.ask(ask(), caller())
        with pytest.raises(ModelUnavailable, match="left alone"):
            await pool.ask(ask(), caller())
    assert [event.data["outcome"] for event in world.events(Kind.MODEL_CALLED)][-1] == "model_unavailable"
