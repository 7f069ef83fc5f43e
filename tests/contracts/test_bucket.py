"""The token bucket: no stretch of time lets more through than its formula says, and none of it is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.bucket import Bucket

from ..support.models import HandClock


class Watch(HandClock):
    """Of finer hands."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def bucket(per_second: float = 5, burst: float = 3) -> tuple[HandClock, Bucket]:
    clock = HandClock(0)
    return clock, Bucket(clock, per_second, burst)


def test_a_burst_goes_at_once_and_then_so_many_a_second():
    clock, tokens = bucket()
    assert [tokens.take() for _ in range(4)] == [True, True, True, False]
    assert tokens.seconds_left == pytest.approx(0.2)
    clock.pass_seconds(0.2)
    assert [tokens.take() for _ in range(2)] == [True, False]


def test_a_pause_saves_up_one_burst_and_no_more():
    clock, tokens = bucket()
    clock.pass_seconds(3600)
    assert sum(tokens.take() for _ in range(10)) == 3


@given(st.lists(st.integers(0, 700), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 5))
def test_in_any_stretch_no_more_goes_through_than_burst_and_rate_allow(pauses: list[int], rate: int, burst: int):
    clock, tokens = bucket(rate, burst)
    went: list[float] = []
    for pause in pauses:
        clock.pass_seconds(pause / 1000)
        went += [clock.monotonic()] * sum(tokens.take() for _ in range(3))
    for i, start in enumerate(went):
        for j in range(i, len(went)):
            assert j - i + 1 <= burst + rate * (went[j] - start) + 1e-6


@given(st.integers(1, 50), st.integers(1, 4))
def test_who_comes_exactly_when_told_goes_through(rate: int, burst: int):
    clock = Watch()
    tokens = Bucket(clock, rate, burst)
    for _ in range(40):
        clock.now += tokens.seconds_left
        assert tokens.take()


def test_on_credit_everybody_waits_for_his_own_token():
    clock, tokens = bucket(per_second=10, burst=1)
    assert [tokens.take_on_credit() for _ in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    tokens.give_back()
    assert tokens.take_on_credit() == pytest.approx(0.3)
    clock.pass_seconds(0.4)
    assert tokens.take()
