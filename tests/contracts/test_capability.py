"""A contract is read from signature, docstring and decorator; what is no contract says what to write instead."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.contracts import (
    Contract,
    Domain,
    Effect,
    InvalidContract,
    Negotiation,
    RetryPolicy,
    Risk,
    capabilities_of,
    capability,
)


class Context:
    """Stands for the agents' context, which contracts know nothing of."""


class Deposit(BaseModel):
    account: str
    cents: int


class Balance(BaseModel):
    cents: int


class Opaque:
    """A class that pydantic knows nothing of."""


class Ledger:
    """Keeps accounts."""

    @capability(
        version="1.2",
        effect="reversible",
        compensation="withdraw",
        risk="high",
        price_cents=2,
        latency_ms=5,
        timeout_seconds=9,
        negotiation="proposals",
        labels=("money", "eu"),
        retry=RetryPolicy(max_attempts=2),
    )
    async def deposit(self, request: Deposit, context: Context) -> Balance:
        """Add money
        to an account."""
        raise NotImplementedError

    @capability(effect="irreversible")
    async def withdraw(self, request: Deposit) -> Balance:
        """Take money from an account."""
        raise NotImplementedError

    @capability()
    async def ping(self, request: int) -> None:
        """Answer."""

    async def not_offered(self, request: Deposit) -> Balance:
        raise NotImplementedError


def read(cls: type, domain: str = "ledger") -> dict[str, Contract]:
    return {name: each.contract for name, each in capabilities_of(cls, Domain(domain)).items()}


def test_only_what_is_marked_is_offered_under_its_full_name():
    assert list(read(Ledger)) == ["ledger.deposit", "ledger.ping", "ledger.withdraw"]


def test_a_contract_says_what_the_author_said():
    contract = read(Ledger)["ledger.deposit"]
    assert contract.name == "ledger.deposit"
    assert contract.full_name == "ledger.deposit@1.2"
    assert contract.description == "Add money\nto an account."
    assert contract.effect is Effect.REVERSIBLE
    assert contract.risk is Risk.HIGH
    assert contract.negotiation is Negotiation.PROPOSALS
    assert (contract.price_cents, contract.latency_ms, contract.timeout_seconds) == (2, 5, 9)
    assert contract.labels == ("money", "eu")
    assert contract.retry.max_attempts == 2
    assert contract.compensation is not None
    assert contract.compensation.capability == "ledger.withdraw"


def test_schemas_are_those_of_the_signature():
    contract = read(Ledger)["ledger.deposit"]
    assert contract.input_schema["required"] == ["account", "cents"]
    assert contract.output_schema["properties"].keys() == {"cents"}
    ping = read(Ledger)["ledger.ping"]
    assert ping.input_schema == {"type": "integer"}
    assert ping.output_schema == {"type": "null"}


def test_a_contract_is_modest_when_nothing_is_said():
    contract = read(Ledger)["ledger.ping"]
    assert (contract.version, contract.effect, contract.risk) == ("1.0", Effect.READ, Risk.LOW)
    assert contract.compensation is None
    assert contract.price_cents == 0


def test_the_process_of_the_agent_knows_the_handler_too():
    found = capabilities_of(Ledger, Domain("ledger"))
    assert [(each.method, each.takes_context) for each in found.values()] == [
        ("deposit", True),
        ("ping", False),
        ("withdraw", False),
    ]


def test_a_subclass_offers_what_its_parent_offers():
    class Branch(Ledger):
        """A branch."""

    assert read(Branch, "branch").keys() == {"branch.deposit", "branch.ping", "branch.withdraw"}


def test_writing_effects_are_told_from_reading_ones():
    assert [effect.value for effect in Effect if effect.writes] == ["reversible", "irreversible"]


def test_a_version_may_have_a_major_number_only():
    class Agent:
        @capability(version="3")
        async def get(self, request: int) -> int:
            """Get."""
            return request

    assert read(Agent)["ledger.get"].version == "3.0"


# What is no contract


def declared(**options: Any) -> Callable[[], object]:
    """Declares an otherwise good capability with these options."""

    def declare() -> object:
        class Agent:
            @capability(**options)
            async def pay(self, request: Deposit) -> Balance:
                """Pay."""
                raise NotImplementedError

            @capability(effect="irreversible")
            async def take_back(self, request: Deposit) -> Balance:
                """Take back."""
                raise NotImplementedError

            @capability()
            async def look(self, request: Deposit) -> Balance:
                """Look."""
                raise NotImplementedError

        return capabilities_of(Agent, Domain("ledger"))

    return declare


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"effect": "reversible"}, r'is reversible but names no compensation\. Write: compensation="method"'),
        (
            {"effect": "irreversible", "compensation": "take_back"},
            r'names a compensation but is irreversible\. Write: effect="reversible"',
        ),
        ({"compensation": "take_back"}, r'names a compensation but is read\. Write: effect="reversible"'),
        ({"effect": "write"}, "effect='write' is not one of pure, read, reversible, irreversible"),
        ({"effect": None}, "effect=None is not one of pure"),
        ({"risk": "huge"}, "risk='huge' is not one of low, medium, high"),
        ({"negotiation": "auction"}, "negotiation='auction' is not one of offers, proposals"),
        ({"version": 1.0}, r'1\.0 is not a version\. Write "major\.minor" as text, such as "1\.0"'),
        ({"version": ""}, "is not a version"),
        ({"version": "1."}, "is not a version"),
        ({"version": "v1"}, "is not a version"),
        ({"version": "1.2.3"}, "is not a version"),
        ({"version": "-1.0"}, "is not a version"),
        ({"version": "١.٠"}, "is not a version"),
        ({"version": "9" * 5000}, "is not a version"),
        ({"effect": "reversible", "compensation": "take_bak"}, "no capability 'take_bak' .*Did you mean 'take_back'"),
        ({"effect": "reversible", "compensation": "ledger.take_bak"}, "Did you mean 'take_back'"),
        ({"effect": "reversible", "compensation": "take back"}, r"'take back' is no name .*Write \"method\""),
        ({"effect": "reversible", "compensation": "a.b.c"}, r"'b\.c' is no name"),
        ({"effect": "reversible", "compensation": "Ledger.take_back"}, "'Ledger' is no domain"),
        ({"effect": "reversible", "compensation": "look"}, r"compensation ledger\.look is read and changes nothing"),
        ({"price_cents": -1}, r"ledger\.pay: price_cents=-1 is not possible\. Write a number from 0 to"),
        ({"price_cents": float("nan")}, "price_cents=nan is not possible"),
        ({"price_cents": "5"}, "price_cents='5' is not possible"),
        ({"price_cents": 10**400}, "price_cents=1000.* is not possible"),
        ({"latency_ms": float("inf")}, "latency_ms=inf is not possible"),
        ({"timeout_seconds": 0}, "timeout_seconds=0 is not possible"),
        ({"retry": RetryPolicy(jitter=2)}, r"retry\.jitter=2 is not possible\. Write a number from 0 to 1"),
        ({"retry": RetryPolicy(max_attempts=2.5)}, r"retry\.max_attempts=2\.5"),  # pyright: ignore[reportArgumentType]
        ({"retry": RetryPolicy(max_attempts=0)}, r"retry\.max_attempts=0 .*from 1 to"),
        ({"retry": RetryPolicy(backoff_factor=0.5)}, r"retry\.backoff_factor=0\.5"),
        ({"labels": "money"}, r'labels are several texts\. Write: labels=\("money",\)'),
    ],
)
def test_an_impossible_promise_says_what_to_write(options: dict[str, Any], says: str):
    with pytest.raises(InvalidContract, match=says) as caught:
        declared(**options)()
    assert len(str(caught.value)) < 400


def test_a_compensation_of_another_domain_is_not_looked_for_here():
    """It may be called as a method of one's own, or nearly so."""
    named = {
        name: declared(effect="reversible", compensation=name)()["ledger.pay"].contract  # pyright: ignore[reportIndexIssue]
        for name in ("bank.take_back", "bank.take_bak", "bank.zzz")
    }
    assert {name: each.compensation.capability for name, each in named.items()} == {name: name for name in named}


@pytest.mark.parametrize("name", ["something", "ledger.something"])
def test_another_agent_of_the_domain_may_have_the_compensation(name: str):
    contract = declared(effect="reversible", compensation=name)()["ledger.pay"].contract  # pyright: ignore[reportIndexIssue]
    assert contract.compensation.capability == "ledger.something"


def no_async() -> type:
    class Agent:
        @capability()
        def get(self, request: int) -> int:
            """Get."""
            return request

    return Agent


def yields() -> type:
    class Agent:
        @capability()
        async def get(self, request: int) -> Any:
            """Get."""
            yield request

    return Agent


def static() -> type:
    class Agent:
        @staticmethod
        @capability()
        async def get(request: int) -> int:
            """Get."""
            return request

    return Agent


def class_method() -> type:
    class Agent:
        @classmethod
        @capability()
        async def get(cls, request: int) -> int:
            """Get."""
            return request

    return Agent


def no_docstring() -> type:
    class Agent:
        @capability()
        async def get(self, request: int) -> int:
            return request

    return Agent


def empty_docstring() -> type:
    class Agent:
        @capability()
        async def get(self, request: int) -> int:
            """ """
            return request

    return Agent


def no_input_annotation() -> type:
    class Agent:
        @capability()
        async def get(self, request) -> int:
            """Get."""
            return request

    return Agent


def no_output_annotation() -> type:
    class Agent:
        @capability()
        async def get(self, request: int):
            """Get."""
            return request

    return Agent


def no_arguments() -> type:
    class Agent:
        @capability()
        async def get(self) -> int:
            """Get."""
            return 1

    return Agent


def no_self() -> type:
    class Agent:
        @capability()
        async def get() -> int:  # pyright: ignore[reportSelfClsParameterName]
            """Get."""
            return 1

    return Agent


def three_arguments() -> type:
    class Agent:
        @capability()
        async def get(self, request: int, context: Context, more: int) -> int:
            """Get."""
            return request

    return Agent


def keyword_only() -> type:
    class Agent:
        @capability()
        async def get(self, request: int, *, context: Context) -> int:
            """Get."""
            return request

    return Agent


def starred() -> type:
    class Agent:
        @capability()
        async def get(self, *requests: int) -> int:
            """Get."""
            return 1

    return Agent


def unknown_annotation() -> type:
    class Agent:
        @capability()
        async def get(self, request: "Nowhere") -> int:  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
            """Get."""
            return 1

    return Agent


def broken_annotation() -> type:
    class Agent:
        @capability()
        async def get(self, request: "int.nothing") -> int:  # pyright: ignore[reportAttributeAccessIssue]
            """Get."""
            return 1

    return Agent


def garbled_annotation() -> type:
    class Agent:
        @capability()
        async def get(self, request: "1 +") -> int:  # noqa: F722  # pyright: ignore
            """Get."""
            return 1

    return Agent


def opaque_input() -> type:
    class Agent:
        @capability()
        async def get(self, request: Opaque) -> int:
            """Get."""
            return 1

    return Agent


def opaque_output() -> type:
    class Agent:
        @capability()
        async def get(self, request: int) -> Opaque:
            """Get."""
            return Opaque()

    return Agent


def swapped() -> type:
    class Agent:
        @capability()
        async def get(self, context: Context, request: int) -> int:
            """Get."""
            return 1

    return Agent


def silent_override() -> type:
    class Agent(Ledger):
        async def ping(self, request: int) -> None:
            """Answer faster."""

    return Agent


def foreign_letters() -> type:
    class Agent:
        @capability()
        async def größe(self, request: int) -> int:
            """Get."""
            return 1

    return Agent


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_async, r"Agent\.get must be async\. Write: async def get\(self, request, context\)"),
        (yields, r"Agent\.get yields\. A capability returns once"),
        (static, r"Agent\.get is a staticmethod\. Write a plain async method"),
        (class_method, r"Agent\.get is a classmethod\. Write a plain async method"),
        (no_docstring, r"Agent\.get has no docstring\. Write one sentence"),
        (empty_docstring, r"Agent\.get has no docstring"),
        (no_input_annotation, r"Agent\.get: annotate 'request' with the type of its input, a pydantic model"),
        (no_output_annotation, r"Agent\.get: annotate what it returns\. Write: -> Model"),
        (no_arguments, r"Agent\.get takes 0 arguments\. Write: \(self, request: Model, context: Context\)"),
        (no_self, r"Agent\.get takes 0 arguments\. Write: \(self"),
        (three_arguments, r"Agent\.get takes 3 arguments\. Write: \(self, request: Model, context: Context\)"),
        (keyword_only, r"Agent\.get is called by position\. Write: \(self, request: Model"),
        (starred, r"Agent\.get is called by position"),
        (unknown_annotation, r"Agent\.get: the annotation 'Nowhere' cannot be found\. Define or import it"),
        (broken_annotation, r"Agent\.get: an annotation cannot be read: .*nothing"),
        (garbled_annotation, r"Agent\.get: an annotation cannot be read"),
        (opaque_input, r"Agent\.get, input: .*Opaque.* cannot be sent between agents\. Write a pydantic model"),
        (opaque_output, r"Agent\.get, output: .*Opaque.* cannot be sent between agents"),
        (swapped, r"Agent\.get, input: .*Context.* cannot be sent"),
        (silent_override, r"Agent\.ping overrides a capability and is none\. Write @capability\(\.\.\.\) above it"),
        (foreign_letters, r"'größe' is no name for a capability\. Write letters, digits and _"),
    ],
)
def test_what_is_no_capability_says_what_to_write(make: Callable[[], type], says: str):
    with pytest.raises(InvalidContract, match=says):
        capabilities_of(make(), Domain("ledger"))


@pytest.mark.parametrize("domain", ["", "My Orders", "Orders", "orders.eu", "1st", "x" * 65, "ordres\n"])
def test_a_domain_that_no_plan_could_name_is_refused(domain: str):
    with pytest.raises(InvalidContract, match=r"is no (domain|name)"):
        capabilities_of(Ledger, Domain(domain))


def test_a_subclass_may_take_a_capability_away():
    class Small(Ledger):
        """Offers less."""

        ping = None  # pyright: ignore[reportAssignmentType]

    assert "ledger.ping" not in read(Small)


def test_an_attribute_that_answers_to_everything_is_no_capability():
    class Obliging:
        def __getattr__(self, name: str) -> str:
            return name

    class Agent(Ledger):
        """Has odd attributes."""

        models = Obliging()

    assert read(Agent).keys() == read(Ledger).keys()
