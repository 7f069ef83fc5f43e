"""Agents come and go: who takes the seat, and what becomes of the work in the hands of one that left, died or hangs."""

import logging
from collections.abc import Mapping
from typing import Any

from ..contracts import AgentId, AwardId, Clock, InvalidContract, JsonObject, Kind, Unavailable, Write, digest
from ..contracts.messages import Hello
from ..contracts.ports import Faults
from ..contracts.wire import pack
from .breakers import Breakers
from .directory import Directory, Member
from .driver import Driver
from .execution import Run, StepRun
from .faults import pass_by
from .heartbeats import Heartbeats
from .journal import Journal
from .link import Link
from .quarantine import Quarantine
from .roster import Claim, Roster
from .watchers import Watchers

_log = logging.getLogger(__name__)


class Seating:
    """The seats of one shard's agents."""

    def __init__(
        self,
        driver: Driver,
        directory: Directory,
        roster: Roster,
        journal: Journal,
        watchers: Watchers,
        clock: Clock,
        *,
        breakers: Breakers,
        quarantine: Quarantine,
        heartbeats: Heartbeats,
        faults_port: Faults,
    ) -> None:
        self._driver = driver
        self._directory = directory
        self._roster = roster
        self._journal = journal
        self._watchers = watchers
        self._clock = clock
        self._breakers = breakers
        self._quarantine = quarantine
        self._heartbeats = heartbeats
        self._faults = faults_port

    def joined(self, link: Link, hello: Hello) -> None:
        self._roster.take_in(link)
        for described in hello.agents:
            self._join(link, hello, described)

    def closed(self, link: Link, reason: str) -> None:
        for agent in self._roster.empty(link):
            self._left(agent, reason)
            if (heir := self._roster.heir(agent)) is not None:
                self._sit(agent, heir)

    def settled(self, agent: AgentId, award: AwardId) -> None:
        """An award is out of its agent's hands. If it was a suspect, the next one has its turn."""
        if (following := self._quarantine.landed(agent, award)) is not None:
            self._roster.send(following)

    def look_after(self) -> None:
        """Once a tick: agents that hang, and steps that nobody speaks of."""
        self._heartbeats.tick()
        for member in list(self._directory.members.values()):
            if self._heartbeats.is_silent(member):
                self._roster.hang_up(member.agent, f"nothing was heard of it for {self._heartbeats.seconds:g} s")
        sent = (award for award in self._roster.sent() if not self._quarantine.keeps(award))
        for award in self._heartbeats.lapsed(sent):
            self._forgotten(award)

    def _forgotten(self, award: AwardId) -> None:
        """Its agent is here and does not speak of it: it is asked again, or another one is."""
        if (entry := self._roster.look(award)) is None:
            return
        run, step = entry
        agent = AgentId(step.award["agent"])
        self._breakers.left([award])
        self._interrupted(run, step, agent, award, f"not a word of it for {self._heartbeats.seconds:g} s")
        self._roster.send(award)

    def _join(self, link: Link, hello: Hello, described: Mapping[str, Any]) -> None:
        """Seats the agent, unless a process with a later hold on its store sits there already: what an earlier one did
        would be refused by that store. It has the seat when the other one goes.
        """
        agent, claim = AgentId(described["agent"]), Claim(link, hello, described)
        seated = self._roster.claim(agent, claim)
        if seated is not None and seated.epoch > claim.epoch:
            _log.warning("%s is fenced off where it dials from", agent, extra={"action": "agent.fenced"})
            return
        if seated is not None:
            self._left(agent, "another process took its place")
        self._sit(agent, claim)

    def _sit(self, agent: AgentId, claim: Claim) -> None:
        try:
            self._take_seat(agent, claim)
        except InvalidContract as error:
            _log.error("%s may not join: %s", agent, error, extra={"action": "agent.refused"})

    def _take_seat(self, agent: AgentId, claim: Claim) -> None:
        hello, now = claim.hello, self._clock.monotonic()
        before = self._directory.members.get(agent)
        member = self._directory.join(claim.described, host=hello.host, incarnation=hello.incarnation, now=now)
        self._roster.seat(claim.link, agent)
        self._roster.count(member)
        self._tell(Kind.AGENT_JOINED, _joining(member))
        for contract in member.contracts.values():
            self._journal.write(Write("keep_contract", (contract.digest, pack(contract.to_data()))))
        self._watchers.touch(None)
        died = before is not None and before.incarnation != hello.incarnation
        if died:
            self._breakers.anew(agent)
        to_send = set(self._quarantine.returned(agent, died))
        for award, run, step in self._roster.in_hand(agent):
            if award in to_send and self._keeps_to_its_contract(member, run, step):
                self._journal.then(lambda award=award: self._roster.send(award))

    def _keeps_to_its_contract(self, member: Member, run: Run, step: StepRun) -> bool:
        """What was given under one contract is not done under another one: it waits, in its agent's hands, for an
        agent of its version.
        """
        contract, wanted = member.contracts.get(step.call), run.version(step)
        if contract is not None and contract.satisfies(wanted):
            return True
        now = f"version {contract.version}" if contract else "nothing of that name"
        step.waits = f"was begun under {step.call} {wanted}, and {member.agent} offers {now}"
        return False

    def _left(self, agent: AgentId, reason: str) -> None:
        """Whether the calls in flight were done is unknown, and the receipts will tell."""
        self._roster.rise(agent)
        in_hand = list(self._roster.in_hand(agent))
        self._tell(Kind.AGENT_LEFT, {"agent": agent, "reason": reason, "in_flight": len(in_hand)})
        self._watchers.touch(None)
        self._breakers.left([award for award, _, _ in in_hand])
        for award, run, step in in_hand:
            if not self._quarantine.keeps(award):
                self._interrupted(run, step, agent, award, reason)

    def _tell(self, kind: Kind, data: JsonObject) -> None:
        self._journal.append(kind, None, None, data)
        pass_by(self._faults, self._journal, kind)

    def _interrupted(self, run: Run, step: StepRun, agent: AgentId, award: AwardId, reason: str) -> None:
        data = {"agent": agent, "attempt": step.attempt, "reason": reason}
        self._driver.record(run, Kind.STEP_INTERRUPTED, step, data)
        if not run.pin(step).effect.writes and any(other.agent != agent for other in self._driver.eligible(run, step)):
            self._give_to_another(run, step, agent, award)

    def _give_to_another(self, run: Run, step: StepRun, agent: AgentId, award: AwardId) -> None:
        """A step that changes nothing need not wait for its agent, if there is another one."""
        self._roster.take(award)
        self._quarantine.passed_on(agent, run, step)
        if self._quarantine.is_poison(step):
            self._quarantine.seize(run, step, agent)
        else:
            self._driver.fail(run, step, Unavailable(f"{agent} is gone", agent=agent), agent)
            self._driver.advance(run)


def _joining(member: Member) -> JsonObject:
    contracts = list(member.contracts.values())
    return {
        "agent": member.agent,
        "domain": member.domain,
        "incarnation": member.incarnation,
        "capabilities": [contract.full_name for contract in contracts],
        "contract": digest([contract.digest for contract in contracts]),
    }
