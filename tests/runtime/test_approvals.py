"""Approval rules: the first that fits decides, and what cannot be judged goes to a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import CapabilityName, Contract, Effect, Risk
from hanse.runtime.approvals import AUTOMATIC, Ruling, rule_for
from hanse.runtime.config import ApprovalRule


def contract(name: str = "payments.refund", risk: Risk = Risk.LOW, effect: Effect = Effect.IRREVERSIBLE) -> Contract:
    return Contract(CapabilityName(name), "1.0", effect, "Test.", {}, {}, risk=risk)


def rules(*written: dict) -> list[ApprovalRule]:
    return [ApprovalRule.model_validate(each) for each in written]


ABOVE = {"capability": "payments.refund", "above": {"field": "amount", "limit": 500}, "expires_seconds": 60}


def test_without_a_rule_nobody_is_asked():
    assert rule_for([], contract(), {}) is AUTOMATIC
    assert rule_for(rules({"capability": "orders.*"}), contract(), {}) is AUTOMATIC


def test_above_the_limit_a_person_is_asked_and_told_why():
    assert rule_for(rules(ABOVE), contract(), {"amount": 612.5}) == Ruling(
        review=True, words="payments.refund above 500 (amount = 612.50)", expires_seconds=60
    )


@pytest.mark.parametrize("amount", [500, 500.0, 0, -1, 499.999])
def test_up_to_the_limit_nobody_is_asked(amount):
    assert not rule_for(rules(ABOVE), contract(), {"amount": amount}).review


@pytest.mark.parametrize(
    ("input", "why"),
    [
        ({}, "amount is not given"),
        (None, "amount is not given"),
        ([], "amount is not given"),
        ({"amount": None}, "amount is not a number"),
        ({"amount": "12"}, "amount is not a number"),
        ({"amount": True}, "amount is not a number"),
        ({"amount": float("nan")}, "amount is not a number"),
        ({"amount": float("-inf")}, "amount is not a number"),
        ({"amount": {"value": 1}}, "amount is not a number"),
    ],
)
def test_an_amount_that_cannot_be_judged_goes_to_a_person(input, why):
    ruling = rule_for(rules(ABOVE), contract(), input)
    assert ruling.review
    assert ruling.words == f"payments.refund above 500 ({why})"


def test_an_amount_may_lie_deeper():
    deep = rules({"above": {"field": "payments.0.amount", "limit": 10}})
    assert rule_for(deep, contract(), {"payments": [{"amount": 11}]}).words == (
        "payments.refund above 10 (payments.0.amount = 11)"
    )


def test_the_first_rule_that_fits_decides():
    ordered = rules(ABOVE, {"capability": "payments.*", "mode": "automatic"}, {"risk": "high"})
    assert rule_for(ordered, contract(risk=Risk.HIGH), {"amount": 501}).review
    assert not rule_for(ordered, contract(risk=Risk.HIGH), {"amount": 5}).review
    assert rule_for(ordered, contract("orders.cancel", risk=Risk.HIGH), {}).review


def test_an_automatic_rule_says_so_in_words():
    ruling = rule_for(rules({"capability": "payments.*", "mode": "automatic"}), contract(), {})
    assert ruling == Ruling(review=False, words="payments.refund [pattern payments.*]: automatic")


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ({"risk": "high"}, {"high"}),
        ({"risk": ["medium", "high"]}, {"medium", "high"}),
        ({}, {"low", "medium", "high"}),
    ],
)
def test_a_rule_chooses_by_risk(rule, asked):
    assert {risk for risk in Risk if rule_for(rules(rule), contract(risk=risk), {}).review} == asked


def test_a_rule_chooses_by_effect():
    asks = [
        effect for effect in Effect if rule_for(rules({"effect": "irreversible"}), contract(effect=effect), {}).review
    ]
    assert asks == [Effect.IRREVERSIBLE]
    assert (
        rule_for(rules({"effect": "read"}), contract(effect=Effect.READ), {}).words == "payments.refund [effect read]"
    )


def test_a_pattern_is_case_sensitive_and_covers_the_whole_name():
    assert not rule_for(rules({"capability": "payments.ref"}), contract(), {}).review
    assert not rule_for(rules({"capability": "Payments.*"}), contract(), {}).review
    assert rule_for(rules({"capability": "payments.ref*"}), contract(), {}).review


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(VALUES)
def test_never_silently_automatic(amount):
    """Only a finite number within the limit goes unasked, whatever comes."""
    within = isinstance(amount, int | float) and not isinstance(amount, bool) and float("-inf") < amount <= 500
    first, second = (rule_for(rules(ABOVE), contract(), {"amount": amount}) for _ in range(2))
    assert first == second
    assert first.review is not within
