"""Eligibility: who may be given a step now, and why nobody may.

Hard conditions only: the right version, here and well, room for one more, a breaker that lets it through. A step that
two deaths have made suspicious goes to nobody who has another such step in hand (`quarantine`).
"""

from ..contracts import AgentId, Clock
from .breakers import Breakers
from .directory import Directory, Member
from .execution import Run, StepRun
from .limits import Limits
from .quarantine import Quarantine, is_suspect


def _is_special(step: StepRun) -> bool:
    """Whether not everybody may do it who offers it. Next to no step is."""
    return step.settles or step.stay_with is not None or step.interruptions > 0 or step.deaths > 0


class Eligibility:
    """Of the agents of one shard."""

    def __init__(
        self, directory: Directory, breakers: Breakers, quarantine: Quarantine, limits: Limits, clock: Clock
    ) -> None:
        self._directory = directory
        self._breakers = breakers
        self._quarantine = quarantine
        self._in_flight = limits.in_flight_per_agent
        self._clock = clock

    def of(self, run: Run, step: StepRun) -> list[Member]:
        """Who may be given the step now."""
        if self._breakers.circuits or _is_special(step):
            return [member for member in self._willing(run, step) if self._breakers.admits(member, step)]
        most, now = self._in_flight, self._clock.monotonic()
        found = self._directory.eligible(step.call, run.version(step), now)
        return [each for each in found if each.in_flight < most and (not each.bounds or each.has_room(step.call, most))]

    def barred(self, run: Run, step: StepRun) -> list[Member]:
        """Who would be given the step if it were not for a breaker."""
        return [member for member in self._willing(run, step) if not self._breakers.admits(member, step)]

    def only_doer(self, step: StepRun) -> AgentId | None:
        """What an agent began outside only it can finish, and what it did only it can undo or confirm, where it
        offers to."""
        if step.stay_with is not None:
            return step.stay_with
        settled = step.undoes or step.confirms
        doer = self._directory.members.get(AgentId(settled.agent or "")) if settled else None
        return doer.agent if doer is not None and step.call in doer.contracts else None

    def obstacles(self, run: Run, step: StepRun) -> str:
        """Why nobody may be given the step, in words."""
        providers = self._directory.providers(step.call)
        return "; ".join(self._obstacle(member, run, step) for member in providers) or f"nobody offers {step.call}"

    def _willing(self, run: Run, step: StepRun) -> list[Member]:
        found = self._directory.eligible(step.call, run.version(step), self._clock.monotonic())
        only, alone = self.only_doer(step), is_suspect(step)
        return [
            member
            for member in found
            if member.has_room(step.call, self._in_flight)
            and (only is None or member.agent == only)
            and not (alone and self._quarantine.has_suspect(member.agent))
        ]

    def _obstacle(self, member: Member, run: Run, step: StepRun) -> str:
        objection = self._directory.objection(member, step.call, run.version(step), self._clock.monotonic())
        if not objection and not member.has_room(step.call, self._in_flight):
            objection = "has its hands full"
        return f"{member.agent}: {objection or self._other_obstacle(member, step)}"

    def _other_obstacle(self, member: Member, step: StepRun) -> str:
        if self.only_doer(step) not in (None, member.agent):
            return f"only {self.only_doer(step)} can do this"
        return self._breakers.objection(member.agent, step.call) or "has another suspicious step in hand"
