"""Quarantine: finding the step that kills its agent, without holding up those that were beside it when it did.

When the process of an agent dies, what it had in hand is sent again to the next one, all at once: most deaths are no
step's fault. A step that has seen two deaths is a *suspect*. Suspects are sent one at a time, those with fewer deaths
first, so whoever is innocent gets done, and the next death tells of one step only. A step with five deaths is held for
a person (`poisoned`), and its agent is there for all others.

What is known of a step stands in the journal (`step.suspected`), so a coordinator that recovers goes on in the middle.
A link that breaks is no death: that is a process which has another incarnation when it comes back.
"""

from collections.abc import Callable, Iterable, Sequence

from ..contracts import AgentId, AwardId, HanseError, Kind, Unavailable
from .driver import Driver
from .execution import SUSPICIOUS, Run, StepRun
from .roster import Roster


def is_suspect(step: StepRun) -> bool:
    """Whether it goes only to an agent that has no other suspect in hand. When a step is given to another agent, how
    the one before ended is not known yet: so here an interruption counts as much as a death.
    """
    return step.interruptions >= SUSPICIOUS or step.deaths >= SUSPICIOUS


Hold = Callable[[Run, StepRun, HanseError, AgentId], None]


class Quarantine:
    """The suspects of one shard."""

    def __init__(self, driver: Driver, roster: Roster, deaths: int, hold: Hold) -> None:
        """`deaths` of its agent are the most that a step may see. `hold` keeps it for a person."""
        self._driver = driver
        self._roster = roster
        self._deaths = deaths
        self._hold = hold
        self.kept: dict[AgentId, list[AwardId]] = {}
        """Suspects that wait for their turn."""
        self._gone: dict[AgentId, list[tuple[Run, StepRun]]] = {}
        """What an agent that left had in hand and others were given."""

    def keeps(self, award: AwardId) -> bool:
        """Whether its agent has not been sent it yet, although it has it in hand."""
        return any(award in kept for kept in self.kept.values())

    def has_suspect(self, agent: AgentId) -> bool:
        return any(is_suspect(step) for _, _, step in self._roster.in_hand(agent))

    def passed_on(self, agent: AgentId, run: Run, step: StepRun) -> None:
        """The agent is gone, and somebody else gets the step."""
        self._gone.setdefault(agent, []).append((run, step))

    def is_poison(self, step: StepRun) -> bool:
        """Whether it has gone from agent to agent, and all went. Of the last ones nobody knows yet how they ended."""
        return step.deaths > 0 and max(step.deaths, step.interruptions) >= self._deaths

    def seize(self, run: Run, step: StepRun, agent: AgentId) -> None:
        """Holds a step that is in nobody's hands any more."""
        times = max(step.deaths, step.interruptions)
        error = Unavailable(f"{times} times an agent died with it in hand, the last time {agent}", agent=agent)
        self._hold(run, step, error, agent)
        self._driver.advance(run)

    def returned(self, agent: AgentId, died: bool) -> list[AwardId]:
        """The agent is back. Gives what to send to it now of what it has in hand."""
        kept = self.kept.pop(agent, [])
        gone = self._gone.pop(agent, [])
        in_hand = list(self._roster.in_hand(agent))
        if died:
            self._suspect(agent, [(run, step) for award, run, step in in_hand if award not in kept])
            self._suspect(agent, [(run, step) for run, step in gone if not (step.done or run.status.terminal)])
        poison = [each for each in in_hand if each[2].deaths >= self._deaths]
        for award, run, step in poison:
            self._roster.take(award)
            self.seize(run, step, agent)
        return self._to_send(agent, [(award, step) for award, _, step in in_hand if step.deaths < self._deaths])

    def landed(self, agent: AgentId, award: AwardId) -> AwardId | None:
        """An award is settled. Gives the suspect to be sent next, if there is one and its time has come."""
        kept = [each for each in self.kept.pop(agent, []) if each != award]
        if kept and not self._is_probing(agent, kept):
            self._keep(agent, kept[1:])
            return kept[0]
        self._keep(agent, kept)
        return None

    def _is_probing(self, agent: AgentId, kept: Sequence[AwardId]) -> bool:
        """Whether the agent works on a suspect."""
        return any(step.deaths >= SUSPICIOUS for award, _, step in self._roster.in_hand(agent) if award not in kept)

    def _keep(self, agent: AgentId, kept: Sequence[AwardId]) -> None:
        if kept:
            self.kept[agent] = list(kept)

    def _suspect(self, agent: AgentId, steps: Iterable[tuple[Run, StepRun]]) -> None:
        for run, step in steps:
            data = {"agent": agent, "attempt": step.attempt, "deaths": step.deaths + 1}
            self._driver.record(run, Kind.STEP_SUSPECTED, step, data)

    def _to_send(self, agent: AgentId, in_hand: list[tuple[AwardId, StepRun]]) -> list[AwardId]:
        suspects = sorted((step.deaths, award) for award, step in in_hand if step.deaths >= SUSPICIOUS)
        kept = [award for _, award in suspects[1:]]
        self._keep(agent, kept)
        return [award for award, _ in in_hand if award not in kept]
