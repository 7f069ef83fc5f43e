"""A contract is data that travels, has a digest, and says which versions it can stand in for."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import (
    CapabilityName,
    Compensation,
    Contract,
    Effect,
    InvalidContract,
    Negotiation,
    RetryPolicy,
    Risk,
)
from hanse.contracts.capability import major_minor
from hanse.contracts.plain import check, pack, unpack

from ..strategies import nested, plain


def contract(**fields: Any) -> Contract:
    given = {
        "name": CapabilityName("orders.refund"),
        "version": "1.2",
        "effect": Effect.REVERSIBLE,
        "description": "Refund.",
        "input_schema": {"type": "object"},
        "output_schema": {},
        "compensation": Compensation(CapabilityName("orders.charge"), {"cents": {"$from": "input.cents"}}),
    }
    return Contract(**{**given, **fields})


full = contract(
    risk=Risk.HIGH,
    price_cents=0.5,
    latency_ms=3,
    timeout_seconds=1,
    negotiation=Negotiation.PROPOSALS,
    labels=("a", "b"),
    retry=RetryPolicy(0.5, 3, 20, 7, 0.1),
)


@pytest.mark.parametrize("each", [contract(), contract(compensation=None), full], ids=["plain", "no undo", "full"])
def test_a_contract_comes_back_from_json_and_from_msgpack(each: Contract):
    check(each.to_data())
    assert Contract.from_data(json.loads(json.dumps(each.to_data()))) == each
    back = Contract.from_data(unpack(pack(each.to_data())))
    assert back == each
    assert back.digest == each.digest
    assert isinstance(back.effect, Effect)
    assert isinstance(back.labels, tuple)


def test_what_a_newer_version_says_is_ignored():
    data = full.to_data()
    data["retry"] = {**data["retry"], "patience": 5}
    data["compensation"] = {**data["compensation"], "quorum": 2}
    assert Contract.from_data({**data, "carbon": 0.1}) == full


def test_what_an_older_version_does_not_say_has_its_default():
    needed = ("name", "version", "effect", "description", "input_schema", "output_schema", "compensation")
    data = {name: value for name, value in contract().to_data().items() if name in needed}
    assert Contract.from_data(data) == contract()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"effect": "write"}, "/effect: "),
        ({"name": 5}, "/name: "),
        ({"name": "Refund"}, "'Refund' is no domain"),
        ({"version": "soon"}, "'soon' is not a version"),
        ({"retry": None}, "/retry: "),
        ({"retry": {"max_attempts": 0}}, "max_attempts=0 is not possible"),
        ({"labels": "money"}, "/labels: "),
        ({"input_schema": []}, "/input_schema: "),
        ({"compensation": {}}, "/compensation/capability: Field required"),
        ({"price_cents": float("nan")}, "price_cents=nan"),
        ({"compensation": {"capability": "a.b", "input": {"a": nested(200)}}}, "nested deeper"),
    ],
)
def test_data_that_is_no_contract_says_why(change: dict[str, Any], says: str):
    with pytest.raises(InvalidContract, match=says):
        Contract.from_data({**full.to_data(), **change})


@given(st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(Contract)]), plain))
def test_data_of_any_shape_is_a_contract_or_refused(change: dict[str, Any]):
    try:
        back = Contract.from_data({**full.to_data(), **change})
    except InvalidContract:
        return
    assert Contract.from_data(back.to_data()) == back


def test_one_promise_has_one_digest_however_its_figures_are_written():
    whole, real = (
        contract(price_cents=1, retry=RetryPolicy(1, 2)),
        contract(price_cents=1.0, retry=RetryPolicy(1.0, 2.0)),
    )
    assert whole == real
    assert whole.digest == real.digest


def test_a_digest_changes_with_every_promise():
    others: list[Contract] = [
        dataclasses.replace(full, **{name: value})
        for name, value in {
            "version": "1.3",
            "effect": Effect.IRREVERSIBLE,
            "description": "Refund all.",
            "input_schema": {},
            "output_schema": {"type": "null"},
            "compensation": None,
            "risk": Risk.LOW,
            "price_cents": 1,
            "latency_ms": 4,
            "timeout_seconds": 2,
            "negotiation": Negotiation.OFFERS,
            "labels": (),
            "retry": RetryPolicy(),
        }.items()
    ]
    assert len({each.digest for each in [full, *others]}) == len(others) + 1


# Versions


@pytest.mark.parametrize(
    ("offered", "wanted", "fits"),
    [
        ("1.2", None, True),
        ("1.2", "", True),
        ("1.2", "1", True),
        ("1.2", "1.0", True),
        ("1.2", "1.2", True),
        ("1.10", "1.9", True),
        ("1.9", "1.10", False),
        ("1.2", "1.3", False),
        ("2.0", "1.2", False),
        ("1.2", "2", False),
        ("0.1", "0", True),
    ],
)
def test_a_version_stands_in_for_lower_ones_of_its_major(offered: str, wanted: str | None, fits: bool):
    assert contract(version=offered).satisfies(wanted) is fits


versions = st.tuples(st.integers(0, 50), st.integers(0, 50))


@given(versions, versions)
def test_standing_in_is_same_major_and_at_least_that_minor(offered: tuple[int, int], wanted: tuple[int, int]):
    text = ".".join(map(str, offered))
    assert contract(version=text).satisfies(".".join(map(str, wanted))) == (
        offered[0] == wanted[0] and offered[1] >= wanted[1]
    )


def test_a_wish_that_is_no_version_is_refused():
    with pytest.raises(InvalidContract, match="is not a version"):
        contract().satisfies("latest")


def test_a_major_version_alone_is_its_first_minor():
    assert major_minor("3") == (3, 0)


# Retries


def test_waiting_grows_to_its_limit():
    policy = RetryPolicy(initial_interval=1, backoff_factor=2, max_interval=10, jitter=0)
    assert [policy.interval(attempt, 0) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 1_000_000), st.floats(0, 1, exclude_max=True))
def test_waiting_is_never_over_the_limit_nor_under_the_jitters_share(attempt: int, random: float):
    policy = RetryPolicy()
    full_interval = policy.interval(attempt, 0)
    assert 0 < full_interval <= policy.max_interval
    assert full_interval * (1 - policy.jitter) <= policy.interval(attempt, random) <= full_interval


def test_the_thousandth_attempt_does_not_overflow():
    assert RetryPolicy(backoff_factor=10).interval(5_000, 0) == RetryPolicy().max_interval
