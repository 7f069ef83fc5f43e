"""The directory: which agents are here, what they promise, and what they last said of themselves.

Hosts push standing offers on every change and at least once a second, so choosing an agent asks nobody. Hard
eligibility is decided here: offers the capability, in a version that fits, is healthy, was heard of lately.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..contracts import AgentId, Bid, CapabilityName, Contract, InvalidContract, NotFound, Offer
from ..contracts.capability import major_minor
from .validators import check_references

STALE_SECONDS = 5.0
"""An agent that was not heard of for so long is not given anything new."""
AHEAD_SECONDS = 5.0
"""Nor is one whose clock is so far ahead of the coordinator's: deadlines and tokens run out too early there."""

_KEPT_FITS = 10_000
"""A version may be asked for in many ways (`1`, `1.0`), and some who ask do not wish us well."""


@dataclass(slots=True)
class Member:
    """One agent as the coordinator knows it."""

    agent: AgentId
    domain: str
    description: str
    contracts: dict[CapabilityName, Contract]
    incarnation: str = ""
    host: str = ""
    node: str = ""
    pid: int = 0
    present: bool = True
    heard: float = 0
    """Monotonic seconds of its last offer."""
    ahead_seconds: float = 0
    """By which its wall clock was ahead then; less than 0 also when the offer was long on its way."""
    offer: Offer = field(default_factory=lambda: Offer(AgentId("")))
    in_flight: int = 0
    """Calls sent by this coordinator and not answered."""
    sent_since_offer: int = 0
    bounds: dict[CapabilityName, int] = field(default_factory=dict[CapabilityName, int])
    """Of those capabilities that it works on only so many times at once."""
    busy: dict[CapabilityName, int] = field(default_factory=dict[CapabilityName, int])
    """Calls of these that are in flight."""

    def has_room(self, name: CapabilityName, most: int) -> bool:
        """Whether it may be given one more. `most` may be in flight of all capabilities together."""
        return self.in_flight < most and (not self.bounds or self.busy.get(name, 0) < self.bounds.get(name, most))

    def given(self, name: CapabilityName, count: int = 1) -> None:
        """So many calls more of this are in flight, or fewer."""
        self.in_flight = max(0, self.in_flight + count)
        if name in self.bounds:
            self.busy[name] = max(0, self.busy.get(name, 0) + count)

    def bid_for(self, name: CapabilityName) -> Bid:
        """Its standing offer read as a bid, with what we sent since then counted in."""
        contract = self.contracts[name]
        return Bid(
            agent=self.agent,
            version=contract.version,
            price_cents=self.offer.price_cents.get(name, contract.price_cents),
            latency_ms=self.offer.latency_ms.get(name, contract.latency_ms),
            queue_depth=max(self.in_flight, self.offer.queue_depth),
        )


def _newest_major_lowest_minor(contract: Contract) -> tuple[int, int]:
    major, minor = major_minor(contract.version)
    return -major, minor


class Directory:
    """All agents of the federation, as seen by one coordinator."""

    def __init__(self) -> None:
        self.members: dict[AgentId, Member] = {}
        self._providers: dict[CapabilityName, list[Member]] = {}
        self._fit: dict[tuple[CapabilityName, str | None], list[Member]] = {}
        self.generation = 0
        """Changes whenever contracts may have."""

    def join(self, described: Mapping[str, Any], *, host: str, incarnation: str, now: float) -> Member:
        """Takes in an agent from a host's `Hello`.

        Raises InvalidContract when it contradicts another provider, or a schema refers to what would be fetched.
        """
        contracts = [Contract.from_data(each) for each in described["contracts"]]
        for contract in contracts:
            check_references(contract)
            self._check_agreement(described["agent"], contract)
        member = Member(
            agent=AgentId(described["agent"]),
            domain=described["domain"],
            description=described.get("description", ""),
            contracts={contract.name: contract for contract in contracts},
            incarnation=incarnation,
            host=host,
            node=described.get("node", ""),
            pid=described.get("pid", 0),
            heard=now,
            offer=Offer(AgentId(described["agent"])),
            bounds={each.name: each.max_concurrent for each in contracts if each.max_concurrent is not None},
        )
        self.members[member.agent] = member
        self._index()
        return member

    def leave(self, agent: AgentId) -> None:
        """It stays known, so its capabilities are still planned for; it gets nothing until it is back."""
        member = self.members[agent]
        member.present, member.in_flight = False, 0
        member.busy.clear()

    def heard(self, offer: Mapping[str, Any], now: float, ahead_seconds: float) -> None:
        if member := self.members.get(offer["agent"]):
            member.offer, member.heard, member.ahead_seconds = Offer.from_data(offer), now, ahead_seconds

    def providers(self, name: CapabilityName) -> list[Member]:
        """Everybody who offers it, present or not."""
        return self._providers.get(name, [])

    def eligible(self, name: CapabilityName, version: str | None, now: float) -> list[Member]:
        """Those who may be given it now."""
        return [member for member in self._fitting(name, version) if not self.absence(member, now)]

    def _fitting(self, name: CapabilityName, version: str | None) -> list[Member]:
        """Everybody who offers it in a version that fits: looked up for each step, and new only when somebody joins."""
        found = self._fit.get((name, version))
        if found is None:
            offered = self.providers(name)
            found = [member for member in offered if member.contracts[name].satisfies(version)]
            if found and len(self._fit) < _KEPT_FITS:
                self._fit[name, version] = found
        return found

    def objection(self, member: Member, name: CapabilityName, version: str | None, now: float) -> str:
        """Why this provider may not be given it now; empty when it may."""
        if version and not member.contracts[name].satisfies(version):
            return f"offers version {member.contracts[name].version}, not {version}"
        return self.absence(member, now)

    def absence(self, member: Member, now: float) -> str:
        """Why nothing may be given to this agent now; empty when it is here and well."""
        if not member.present:
            return "is not here"
        if not member.offer.healthy:
            return member.offer.reason or "is not healthy"
        if now - member.heard > STALE_SECONDS:
            return f"was not heard of for {now - member.heard:.0f} s"
        if member.ahead_seconds > AHEAD_SECONDS:
            ahead = f"{member.ahead_seconds:.0f} s"
            return f"has a clock that is {ahead} ahead of the coordinator's, by which it would be late: set the clocks"
        return ""

    def contract(self, name: CapabilityName, version: str | None = None) -> Contract:
        """The contract of a capability: of several the newest major version, and of that what all providers promise.
        Raises NotFound, naming near ones.
        """
        if fitting := [member.contracts[name] for member in self._fitting(name, version)]:
            return fitting[0] if len(fitting) == 1 else min(fitting, key=_newest_major_lowest_minor)
        if found := self.providers(name):
            offered = found[0].contracts[name].version
            raise NotFound(f"{name} is offered in version {offered}, not {version}", capability=name)
        raise NotFound(f"no agent offers {name!r}{self._near(name)}", capability=name)

    def contracts(self) -> Iterator[Contract]:
        for name in sorted(self._providers):
            yield self._providers[name][0].contracts[name]

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._providers, n=3)
        return f". Did you mean {' or '.join(near)}?" if near else ""

    def _check_agreement(self, agent: AgentId, contract: Contract) -> None:
        """Interchangeable providers promise the same; what may differ is the price and the time."""
        for other in self.providers(contract.name):
            theirs = other.contracts[contract.name]
            same_major = theirs.version.partition(".")[0] == contract.version.partition(".")[0]
            if other.agent != agent and same_major and theirs.effect != contract.effect:
                raise InvalidContract(
                    f"{agent} says {contract.name} is {contract.effect}, {other.agent} says {theirs.effect}. "
                    "Providers of one capability must agree, or take another major version.",
                    agent=agent,
                )

    def _index(self) -> None:
        self.generation += 1
        self._providers = {}
        self._fit.clear()
        for member in sorted(self.members.values(), key=lambda member: member.agent):
            for name in member.contracts:
                self._providers.setdefault(name, []).append(member)
