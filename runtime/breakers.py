"""Breakers of the coordinator: a capability that fails again and again is not given to that agent for a while.

There is one for each agent and capability, from the first failure to the next success; what never fails costs nothing.
Only what is the agent's fault counts: no answer in time, an answer that breaks the contract, a bug, nobody reachable.
That a rule says no, that the input is wrong, that somebody's queue is full or the model pool is down, says nothing
about the agent. Nothing of this is kept over a restart of the coordinator: every breaker starts closed again, and five
more failures open it.
"""

from collections.abc import Iterable
from dataclasses import replace

from ..contracts import (
    AgentId,
    AwardId,
    Bid,
    CapabilityName,
    Clock,
    Conflict,
    ContractBreach,
    Failed,
    HanseError,
    Kind,
    Overloaded,
    Transient,
)
from ..contracts.breaker import Breaker, BreakerState, Passage
from ..contracts.events import timestamp
from .directory import Member
from .execution import StepRun
from .journal import Journal
from .limits import Limits
from .watchers import Watchers

Circuit = tuple[AgentId, CapabilityName]


class Breakers:
    """The breakers of one shard."""

    def __init__(self, limits: Limits, journal: Journal, watchers: Watchers, clock: Clock) -> None:
        self._limits = limits
        self._journal = journal
        self._watchers = watchers
        self._clock = clock
        self.circuits: dict[Circuit, Breaker] = {}
        """Empty while nobody has failed: whoever is in a hurry looks here first."""
        self._opened: dict[Circuit, tuple[int, str]] = {}
        """When (unix milliseconds) and why (code of the error) those that are not closed were opened."""
        self._probes: dict[AwardId, Passage] = {}

    # Before a step is given

    def admits(self, member: Member, step: StepRun) -> bool:
        """Whether an agent may be given the step. It always may what it has begun outside, undoes or confirms."""
        breaker = self.circuits.get((member.agent, step.call))
        return breaker is None or breaker.admits or step.settles or step.begun

    def objection(self, agent: AgentId, call: CapabilityName) -> str:
        """Since when and why the agent is not given the capability; empty when it is."""
        opened = self._opened.get((agent, call))
        if opened is None:
            return ""
        left = self.circuits[agent, call].seconds_left
        probe = f"next probe in {left:.0f} s" if left else "being probed"
        return f"breaker open since {timestamp(opened[0])} ({opened[1]}), {probe}"

    def refusals(self, members: Iterable[Member], step: StepRun) -> list[Bid]:
        """For each of these, a bid that says why the step is not given to it."""
        return [_refusal(member, step, self.objection(member.agent, step.call)) for member in members]

    def troubles(self, member: Member) -> list[str]:
        """What the agent is not given, and why."""
        return [f"{call}: {self.objection(agent, call)}" for agent, call in self._opened if agent == member.agent]

    # What comes of it

    def given(self, step: StepRun, award: AwardId, agent: AgentId) -> None:
        """The step goes to the agent; when its breaker is open, as the probe."""
        circuit = (agent, step.call)
        if circuit in self._opened and (passage := self.circuits[circuit].enter()) is not None:
            self._probes[award] = passage
            self._say(Kind.BREAKER_HALF_OPEN, circuit)

    def succeeded(self, step: StepRun, award: AwardId) -> None:
        circuit = (AgentId(step.award["agent"]), step.call)
        breaker, _ = self.circuits.pop(circuit, None), self._probes.pop(award, None)
        if breaker is not None and self._opened.pop(circuit, None):
            self._say(Kind.BREAKER_CLOSED, circuit, reason="it works again")

    def failed(self, step: StepRun, award: AwardId, error: HanseError) -> None:
        circuit = (AgentId(step.award["agent"]), step.call)
        probe = self._probes.pop(award, None)
        if not is_its_fault(error):
            if probe is not None:
                probe.said_nothing()
            return
        breaker = self.circuits.get(circuit) or self._new(circuit)
        (probe or Passage(breaker)).failed()
        if probe is not None or (circuit not in self._opened and breaker.state is not BreakerState.CLOSED):
            self._open(circuit, breaker, error)

    def left(self, awards: Iterable[AwardId]) -> None:
        """An agent is gone with these in hand. That says nothing of its capabilities; another call may probe."""
        for award in awards:
            if probe := self._probes.pop(award, None):
                probe.said_nothing()

    def anew(self, agent: AgentId) -> None:
        """The agent's process has started anew: what was wrong with the one before is no longer known to be."""
        for circuit in [circuit for circuit in self.circuits if circuit[0] == agent]:
            del self.circuits[circuit]
            if self._opened.pop(circuit, None):
                self._say(Kind.BREAKER_CLOSED, circuit, reason="its process has started anew")

    def _new(self, circuit: Circuit) -> Breaker:
        limits = self._limits
        made = Breaker(self._clock, limits.breaker_failures, limits.breaker_seconds, limits.breaker_longest_seconds)
        self.circuits[circuit] = made
        return made

    def _open(self, circuit: Circuit, breaker: Breaker, error: HanseError) -> None:
        since = self._opened.get(circuit, (self._clock.now_ms(), ""))[0]
        self._opened[circuit] = (since, error.code)
        seconds = round(breaker.seconds_left, 3)
        self._say(Kind.BREAKER_OPENED, circuit, failures=breaker.failures, code=error.code, seconds=seconds)

    def _say(self, kind: Kind, circuit: Circuit, **data: object) -> None:
        self._journal.append(kind, None, None, {"agent": circuit[0], "capability": circuit[1], **data})
        self._watchers.touch(None)


def is_its_fault(error: HanseError) -> bool:
    """Whether an error speaks against the agent that answered with it, or did not answer."""
    if isinstance(error, Transient):
        return not isinstance(error, Conflict | Overloaded)
    return isinstance(error, ContractBreach) or (isinstance(error, Failed) and error.code == Failed.code)


def _refusal(member: Member, step: StepRun, why: str) -> Bid:
    return replace(member.bid_for(step.call), refusal=why)
