"""The entrance of a tier: a breaker, and a look at how the engine is, so that nobody is sent where no answer can come
from.
"""

from collections.abc import Callable
from dataclasses import replace

from ..contracts import Clock, ModelUnavailable
from ..contracts.breaker import Breaker, BreakerState, Passage
from ..contracts.pool import TierState
from .backend import Condition
from .policy import Policy


class Entrance:
    """Of one tier. `enter` for each call; what it gives is told how the call ended."""

    def __init__(self, name: str, condition: Callable[[], Condition], clock: Clock, policy: Policy) -> None:
        self._name, self._condition = name, condition
        self._breaker = Breaker(clock, policy.breaker_failures, policy.breaker_seconds)

    def condition(self) -> Condition:
        """That of the engine, or degraded while it is left alone."""
        found = self._condition()
        if self._breaker.state is BreakerState.CLOSED or found.state is not TierState.READY:
            return found
        pause = f"left alone after failures, next try in {self._breaker.seconds_left:.0f} s"
        return replace(found, state=TierState.DEGRADED, detail=pause)

    def open(self) -> bool:
        """Whether there is any use in asking now."""
        return self._breaker.admits and _answers(self._condition().state)

    def check(self) -> None:
        """Raises ModelUnavailable, with what to do, when there is no use in asking."""
        condition = self._condition()
        if not _answers(condition.state):
            what = f"tier {self._name!r} is {condition.state}: {condition.detail or 'it takes no calls'}"
            raise ModelUnavailable(". ".join(filter(None, [what, condition.remedy])), tier=self._name)
        if not self._breaker.admits:
            raise self._left_alone()

    def enter(self) -> Passage:
        """Raises ModelUnavailable."""
        passage = self._breaker.enter()
        if passage is None:
            raise self._left_alone()
        return passage

    def _left_alone(self) -> ModelUnavailable:
        seconds = self._breaker.pause_seconds
        detail = f"tier {self._name!r} failed too often, and is left alone for {seconds:.1f} seconds"
        return ModelUnavailable(detail, tier=self._name, retry_after_seconds=seconds)


def _answers(state: TierState) -> bool:
    return state in (TierState.READY, TierState.DEGRADED)
