"""The roster: which agent sits behind which link, what it was given and has not answered, and how it is sent its work.

The directory knows what agents promise; the roster knows where they are. What an agent was given stays on its list when
its link is lost, so that it can be sent again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..contracts import AgentId, AwardId, CapabilityName, Clock, JsonObject, Tenant
from ..contracts.holding import Choice
from ..contracts.ids import step_key
from ..contracts.messages import Call, Hello, Proposal
from ..contracts.token import Key, agent_key, mint
from .directory import Directory, Member
from .execution import Run, StepRun
from .link import Link
from .outbox import Outbox

CALL_GRACE_SECONDS = 5.0
"""Beyond a contract's timeout, for the way there and back, before a call counts as expired."""


class Claim(NamedTuple):
    """A process says that an agent lives in it."""

    link: Link
    hello: Hello
    described: Mapping[str, Any]

    @property
    def epoch(self) -> int:
        """Of the agent's store as this process opened it. A higher one fences the lower ones off."""
        return self.described.get("epoch", 0)


@dataclass(slots=True)
class _Seat:
    """A link over which agents live."""

    outbox: Outbox
    agents: list[AgentId] = field(default_factory=list[AgentId])


class Roster:
    """Agents at their links, with their work in hand."""

    def __init__(self, directory: Directory, root_key: bytes, clock: Clock) -> None:
        self._directory = directory
        self._root_key = root_key
        self._clock = clock
        self._keys: dict[AgentId, Key] = {}
        self._seats: dict[Link, _Seat] = {}
        self._home: dict[AgentId, Link] = {}
        self._claims: dict[AgentId, dict[Link, Claim]] = {}
        self._given: dict[AwardId, tuple[Run, StepRun]] = {}
        self._hands: dict[AgentId, set[AwardId]] = {}

    # Coming and going

    def take_in(self, link: Link) -> None:
        self._seats[link] = _Seat(Outbox(link))

    def claim(self, agent: AgentId, claim: Claim) -> Claim | None:
        """Keeps a claim for as long as its link stands. Returns that of the agent's present seat, if it is another."""
        self._claims.setdefault(agent, {})[claim.link] = claim
        home = self._home.get(agent, claim.link)
        return None if home is claim.link else self._claims[agent][home]

    def seat(self, link: Link, agent: AgentId) -> None:
        self._home[agent] = link
        self._seats[link].agents.append(agent)

    def heir(self, agent: AgentId) -> Claim | None:
        """Who else claims the agent: the one with the highest epoch, and of those the last to come."""
        claims = list(self._claims.get(agent, {}).values())
        return max(reversed(claims), key=lambda claim: claim.epoch, default=None)

    def rise(self, agent: AgentId) -> None:
        """The agent is gone from its link. What it has in hand stays in hand."""
        self._home.pop(agent, None)
        self._directory.leave(agent)

    def empty(self, link: Link) -> list[AgentId]:
        """The link is gone; those who sat there and nowhere else."""
        for claims in self._claims.values():
            claims.pop(link, None)
        seat = self._seats.pop(link, None)
        return [agent for agent in seat.agents if self._home.get(agent) is link] if seat else []

    def close(self, reason: str) -> None:
        for link in list(self._seats):
            link.close(reason)

    def is_here(self, agent: AgentId) -> bool:
        return agent in self._home

    # Work in hand

    def give(self, run: Run, step: StepRun) -> AwardId:
        """Puts an award into its agent's hands; `send` sends it."""
        award, agent = AwardId(step.award["award"]), AgentId(step.award["agent"])
        self._given[award] = (run, step)
        self._hands.setdefault(agent, set()).add(award)
        if member := self._directory.members.get(agent):
            member.given(step.call)
        return award

    def take(self, award: AwardId) -> tuple[Run, StepRun] | None:
        """Takes an award out of its agent's hands; None when it was settled otherwise before."""
        entry = self._given.pop(award, None)
        if entry is not None:
            agent = AgentId(entry[1].award["agent"])
            self._hands[agent].discard(award)
            if member := self._directory.members.get(agent):
                member.given(entry[1].call, -1)
        return entry

    def in_hand(self, agent: AgentId) -> Iterator[tuple[AwardId, Run, StepRun]]:
        """What an agent was given and has not answered, in a fixed order."""
        for award in sorted(self._hands.get(agent, ())):
            yield award, *self._given[award]

    def sent(self) -> Iterator[AwardId]:
        """What agents that are here have in hand."""
        for agent in self._home:
            yield from self._hands.get(agent, ())

    def look(self, award: AwardId) -> tuple[Run, StepRun] | None:
        """Whose award it is; None when it was settled."""
        return self._given.get(award)

    def hang_up(self, agent: AgentId, reason: str) -> None:
        """Closes the agent's link."""
        if (link := self._home.get(agent)) is not None:
            link.close(reason)

    def absent(self) -> Iterator[AgentId]:
        """Agents that hold work and are not here, in a fixed order."""
        for agent in sorted(self._hands):
            if self._hands[agent] and agent not in self._home:
                yield agent

    def count(self, member: Member) -> None:
        """Tells the directory how much an agent that is back has in hand."""
        for award in self._hands.get(member.agent, ()):
            member.given(self._given[award][1].call)

    # Sending

    def send(self, award: AwardId) -> None:
        """Sends an award to its agent, if it is still wanted and the agent is here."""
        if (entry := self._given.get(award)) is None:
            return
        run, step = entry
        agent = AgentId(step.award["agent"])
        if (link := self._home.get(agent)) is not None:
            self._seats[link].outbox.call(self._call(run, step, agent))

    def stop(self, step: StepRun) -> None:
        """Tells the agent of a step in flight that nobody waits for it."""
        if (link := self._home.get(AgentId(step.award["agent"]))) is not None:
            self._seats[link].outbox.stop(AwardId(step.award["award"]))

    def ask(self, number: int, agent: AgentId, run: Run, step: StepRun) -> None:
        """Sends a call for proposals."""
        self._home[agent].send(Proposal(number, agent, run.task, step.id, run.tenant, step.call, step.input))

    def _call(self, run: Run, step: StepRun, agent: AgentId) -> Call:
        deadline = step.award.get("before") or self.expiry(run, step, agent)
        caveats = {
            "task": run.task,
            "step": step.id,
            "capability": step.call,
            "tenant": run.tenant,
            "input": step.award["input"],
            "before": deadline,
            "cents": step.award["price_cents"],
        }
        if "labels" in step.award:
            caveats |= {"labels": step.award["labels"], "cleared": step.award["cleared"]}
        return Call(
            award=AwardId(step.award["award"]),
            key=step_key(run.task, step.id),
            agent=agent,
            task=run.task,
            step=step.id,
            tenant=Tenant(run.tenant),
            capability=CapabilityName(step.call),
            input=step.input,
            token=mint(self._key_of(agent), caveats).to_data(),
            attempt=step.attempt,
            deadline_ms=deadline,
            budget_cents=step.award["price_cents"],
            ruling=_told(step),
            budget_tokens=(step.award.get("reserved") or {}).get("tokens"),
            model=run.model,
        )

    def expiry(self, run: Run, step: StepRun, agent: AgentId) -> int:
        """When a token that is minted now expires, in unix milliseconds. Together with what else the award says, these
        are all its caveats: what an agent is allowed stands in the journal before it is allowed.

        After the task's deadline what was begun is still finished, undone or confirmed.
        """
        timeout = self._directory.members[agent].contracts[step.call].timeout_seconds + CALL_GRACE_SECONDS
        now = self._clock.now_ms()
        latest = now + round(timeout * 1000)
        if step.settles or step.begun:
            return latest
        ends, own = run.ends_ms, step.ends_if_begun(now)
        return min(latest, latest if ends is None else ends, latest if own is None else own)

    def _key_of(self, agent: AgentId) -> Key:
        if agent not in self._keys:
            self._keys[agent] = agent_key(self._root_key, agent)
        return self._keys[agent]


def _told(step: StepRun) -> JsonObject | None:
    """What a person found out about the step's effects in doubt, for its agent."""
    if step.ruling is None:
        return None
    return {"happened": step.ruling["choice"] == Choice.HAPPENED, "result": step.ruling["result"]}
