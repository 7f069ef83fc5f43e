"""The base class of agents: a domain, its capabilities, and the hooks of a lifecycle.

    class Ledger(Agent):
        \"\"\"Keeps accounts.\"\"\"

        domain = "ledger"

        @capability(version="1.0", effect="reversible", compensation="withdraw")
        async def deposit(self, request: Deposit, context: Context) -> Balance:
            \"\"\"Add money to an account.\"\"\"

An agent is a plain class: it can be made, driven and tested with no engine, no Ray and no network. What it must
remember is in `context.state`, because whatever is in `self` is gone after a crash. Handlers of one agent run at the
same time, on one event loop; a handler that never awaits anything outside runs undisturbed.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ValidationError

from ..contracts import (
    AgentId,
    Bid,
    Capability,
    CapabilityName,
    Domain,
    InvalidConfiguration,
    InvalidContract,
    Offer,
    capabilities_of,
)
from ..contracts.messages import Proposal
from ..contracts.schema import invalid
from .context import Context

_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


class Agent:
    """Owns one domain's local state and offers capabilities.

    A class without a `domain` is a base for other agents and cannot be run itself.
    """

    domain: ClassVar[str] = ""
    """The first half of its capabilities' names. Several agents may provide one domain, under different names."""
    name: str = ""
    """Who it is in the federation, the domain by default. Its store is found by this name."""
    Options: ClassVar[type[BaseModel] | None] = None
    """A pydantic model for `options:` in `hanse.yaml`. Without one, options are a plain mapping."""
    options: Any = MappingProxyType[str, Any]({})
    """What the configuration says, as `Options` where the class has that."""
    capabilities: ClassVar[Mapping[CapabilityName, Capability]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Reads and checks the contracts. Raises InvalidContract, saying what to write."""
        super().__init_subclass__(**kwargs)
        _check_names(cls)
        if cls.domain:
            cls.name = cls.__dict__.get("name") or cls.domain
            cls.capabilities = capabilities_of(cls, Domain(cls.domain))

    @classmethod
    def configured(cls, *, name: str | None = None, options: Mapping[str, Any] | None = None) -> Self:
        """The agent as `hanse.yaml` has it. `options` are there already in `__init__`.

        Raises InvalidContract when the class has no domain, InvalidConfiguration when name or options do not fit.
        """
        if not cls.domain:
            raise InvalidContract(
                f"{cls.__name__} has no domain, so it is only a base for agents. "
                f'Write in the class: domain = "{_suggested(cls)}"'
            )
        agent = cls.__new__(cls)
        agent.name = _checked_name(name or cls.name)
        agent.options = agent._checked_options(options or {})
        agent.__init__()
        return agent

    async def on_start(self, context: Context) -> None:
        """Prepares the agent, such as by putting initial data into `context.state`.

        Runs on the agent's event loop at every start, after a crash too, before the first call is taken. What it puts
        is on disk before that first call, or, when it raises, not at all; then the agent does not start and its host
        says why. It may look things up through connectors, and change nothing with them. Never skipped.
        """

    async def on_stop(self) -> None:
        """Gives back what the agent has opened itself.

        Runs on the event loop after the last handler has ended and its commit is on disk; no call is taken any more.
        Skipped when the process is killed or its store is broken, so nothing may depend on it. If it raises, that is
        logged, and the stop goes on.
        """

    async def on_failure(self, error: BaseException) -> None:
        """Hears of a bug, or of the end: a handler raised something that is no `HanseError`, or the store broke.

        Runs on the event loop. In the first case the call has left no trace in the state and is about to be answered
        with `Failed`; other handlers go on. In the second nothing is committed any more and the process is about to
        stop. Skipped for refusals and other errors that were meant. If it raises, that is logged and changes nothing.
        """

    async def propose(self, proposal: Proposal, context: Context) -> Bid:
        """Bids for one step, knowing its very input. Asked where a contract says `negotiation="proposals"`.

        Runs on the event loop beside the handlers, with a context that reads and cannot write; nothing is durable by
        it and nothing is promised. Raise a `Refusal` to say why not; any other error is a refusal with its text. The
        default bids what the agent's standing offer says. Override it, and change what `super().propose` gives with
        `dataclasses.replace`.
        """
        return bid_of(self, context.offer, proposal.capability)

    def price_cents(self, capability: CapabilityName) -> float:
        """What one call costs now, for offers and bids. By default what the contract says."""
        return self.capabilities[capability].contract.price_cents

    def ailment(self) -> str:
        """Why the agent cannot work well now, in words; empty when it can. Goes into every offer."""
        return ""

    def _checked_options(self, options: Mapping[str, Any]) -> Any:
        if self.Options is None:
            return dict(options)
        try:
            return self.Options.model_validate(options)
        except ValidationError as error:
            problem = invalid(error)
            raise InvalidConfiguration(f"options of agent {self.name!r}: {problem.detail}", **problem.ids) from None


def _check_names(cls: type[Agent]) -> None:
    if not isinstance(cls.domain, str) or (cls.domain and not _DOMAIN.match(cls.domain)):
        raise InvalidContract(
            f"{cls.__name__}: {cls.domain!r} is not a domain. Write lower case letters, digits and _, "
            f'such as: domain = "{_suggested(cls)}"'
        )
    if name := cls.__dict__.get("name"):
        _checked_name(name)
    for name, value in vars(cls).items():
        _check_member(cls, name, value)


def _check_member(cls: type[Agent], name: str, value: Any) -> None:
    if name in vars(Agent) and hasattr(value, "__hanse_capability__"):
        raise InvalidContract(f"{cls.__name__}.{name} cannot be a capability: every agent has a {name!r}. Rename it.")


def _checked_name(name: Any) -> AgentId:
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidConfiguration(
            f"{name!r} is not a name for an agent. Write letters, digits, _ and -, such as: carrier-a"
        )
    return AgentId(name)


def _suggested(cls: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def bid_of(agent: Agent, offer: Offer, capability: CapabilityName) -> Bid:
    """The standing offer, read as a bid for one capability."""
    contract = agent.capabilities[capability].contract
    return Bid(
        agent=AgentId(agent.name),
        version=contract.version,
        price_cents=agent.price_cents(capability),
        latency_ms=offer.latency_ms.get(capability, contract.latency_ms),
        queue_depth=offer.queue_depth,
        refusal=offer.reason,
    )
