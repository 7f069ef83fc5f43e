"""The class of an agent: what is checked when it is written, and what it is made with."""

from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import InvalidConfiguration, InvalidContract, capability


def test_an_agent_is_called_like_its_domain_unless_it_says_otherwise():
    class Carrier(Agent):
        """Brings things."""

        domain = "carrier"

    class Fast(Carrier):
        """Brings things fast."""

        name = "fast"

    class Faster(Fast):
        """Brings things faster."""

    assert (Carrier.name, Fast.name, Faster.name) == ("carrier", "fast", "carrier")
    assert Fast.configured(name="fast-2").name == "fast-2"


def test_an_agents_capabilities_are_read_when_its_class_is_made():
    class Counter(Agent):
        """Counts."""

        domain = "counter"

        @capability(effect="pure")
        async def double(self, request: int) -> int:
            """Twice the number."""
            return request * 2

    assert list(Counter.capabilities) == ["counter.double"]
    assert Counter.capabilities["counter.double"].contract.description == "Twice the number."  # pyright: ignore


def test_a_broken_contract_is_refused_when_its_class_is_made():
    with pytest.raises(InvalidContract, match="annotate what it returns"):

        class Broken(Agent):
            """Promises nothing."""

            domain = "broken"

            @capability()
            async def do(self, request: int, context: Context):
                """Do."""


def test_a_class_without_a_domain_is_a_base_and_cannot_be_run():
    class Base(Agent):
        """What several agents share."""

        @capability()
        async def hello(self, request: int, context: Context) -> int:
            """Say hello."""
            return request

    class Real(Base):
        """An agent."""

        domain = "real"

    assert list(Real.capabilities) == ["real.hello"]
    with pytest.raises(InvalidContract, match=r'Base has no domain.*Write in the class: domain = "base"'):
        Base.configured()


@pytest.mark.parametrize("domain", ["Orders", "a.b", "a-b", "1a", "a b", "\u00e4", 5, "a" * 65])
def test_a_bad_domain_is_refused_with_what_to_write(domain: Any):
    with pytest.raises(InvalidContract, match=r'is not a domain.*such as: domain = "gift_cards"'):
        type("GiftCards", (Agent,), {"domain": domain})


@pytest.mark.parametrize("name", ["../up", "a/b", "", " ", "a" * 65, "-a"])
def test_a_bad_name_is_refused(name: str):
    class Plain(Agent):
        """Nothing special."""

        domain = "plain"

    if name:
        with pytest.raises(InvalidConfiguration, match="is not a name for an agent"):
            Plain.configured(name=name)
    else:
        assert Plain.configured(name=name).name == "plain"


def test_a_capability_cannot_have_the_name_of_what_every_agent_has():
    with pytest.raises(InvalidContract, match="propose cannot be a capability: every agent has a 'propose'"):

        class Confused(Agent):
            """Offers what it is."""

            domain = "confused"

            @capability()
            async def propose(self, request: int, context: Context) -> int:  # pyright: ignore
                """Propose."""
                return request


def test_options_are_there_when_the_agent_is_made_and_checked_if_it_says_how():
    class Limits(BaseModel):
        most: int = 3

    class Limited(Agent):
        """Has limits."""

        domain = "limited"
        Options = Limits

        def __init__(self) -> None:
            self.twice = self.options.most * 2

    assert Limited.configured(options={"most": 5}).twice == 10
    assert Limited.configured().options == Limits()
    with pytest.raises(InvalidConfiguration, match="options of agent 'limited': /most") as refused:
        Limited.configured(options={"most": "many"})
    assert refused.value.ids["pointer"] == "/most"


def test_options_without_a_model_are_a_mapping():
    class Loose(Agent):
        """Takes anything."""

        domain = "loose"

    assert Loose.configured(options={"a": 1}).options == {"a": 1}
    assert dict(Loose().options) == {}


def test_every_hook_says_where_it_runs_and_what_happens_when_it_raises():
    for name in ("on_start", "on_stop", "on_failure"):
        text = " ".join((getattr(Agent, name).__doc__ or "").split()).lower()
        for word in ("event loop", "skipped", "raises", "on disk" if name != "on_failure" else "committed"):
            assert word in text, f"{name} does not say: {word}"
