"""Leases on reservations: what a dead agent holds comes back, where it is known that nothing was done for it.

A step that changes nothing can be taken from an agent that is gone: whatever it still says comes too late. After a
lease it is, and its reservation is free again until somebody else is awarded it. What an agent may have done outside
stays reserved, because it may have to be paid; it is settled when the agent is back and its receipt tells.
"""

from collections.abc import Callable

from ..contracts import AgentId, AwardId, Clock, Unavailable
from .budgets import LEASE_SECONDS
from .driver import Driver
from .execution import Run, StepRun
from .roster import Roster


class Leases:
    """The leases of one shard."""

    def __init__(self, driver: Driver, roster: Roster, clock: Clock, may_retry: Callable[[StepRun], bool]) -> None:
        self._driver, self._roster, self._clock, self._may_retry = driver, roster, clock, may_retry
        self._gone: dict[AgentId, float] = {}
        """Since when, by the monotonic clock."""

    def look(self) -> None:
        """Called once a second."""
        now = self._clock.monotonic()
        self._gone = {agent: self._gone.get(agent, now) for agent in self._roster.absent()}
        for agent, since in list(self._gone.items()):
            if now - since >= LEASE_SECONDS:
                self._lapse(agent)

    def _lapse(self, agent: AgentId) -> None:
        for award, run, step in list(self._roster.in_hand(agent)):
            if not run.pin(step).effect.writes and self._may_retry(step):
                self._take_back(agent, award, run, step)

    def _take_back(self, agent: AgentId, award: AwardId, run: Run, step: StepRun) -> None:
        self._roster.take(award)
        self._driver.fail(run, step, Unavailable(f"{agent} is gone", agent=agent), agent)
        self._driver.advance(run)
