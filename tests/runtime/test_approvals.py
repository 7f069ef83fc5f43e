"""Approval rules: the first that fits decides, and what cannot be judged goes to a person."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import CapabilityName, Compensation, Contract, Effect, Risk
from hanse.runtime.approvals import AUTOMATIC, Rulebook, Ruling, Situation, rule_for, seat_of
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


# Labels and lots


def test_a_rule_chooses_by_labels_of_the_data_and_of_the_task():
    labelled = rules({"labels": ["pii", "channel=mail", "urgent"]})
    private = Contract(CapabilityName("a.b"), "1.0", Effect.READ, "Test.", {}, {}, labels=("pii",))
    assert rule_for(labelled, private, {}).review
    for labels, asked in (
        ({"channel": "mail"}, True),
        ({"channel": "desk"}, False),
        ({"urgent": "no"}, True),
        ({}, False),
    ):
        assert rule_for(labelled, contract(), {}, Situation(labels)).review is asked


def known(*labels: str, outward: bool = False) -> Situation:
    return Situation(marks=dict.fromkeys(labels, ("record r1, step read",)), outward=outward)


MAIL = Contract(CapabilityName("a.mail"), "1.0", Effect.IRREVERSIBLE, "Test.", {}, {})
SEARCH = Contract(CapabilityName("a.search"), "1.0", Effect.READ, "Test.", {}, {}, labels=("outward",))
LOOK = Contract(CapabilityName("a.look"), "1.0", Effect.READ, "Test.", {}, {})


def test_what_is_untrusted_asks_before_it_goes_outward_though_no_rule_says_so():
    for asked in (MAIL, SEARCH):
        assert rule_for((), asked, {}, known("untrusted")).words == f"{asked.name} takes outward what is untrusted"
        assert rule_for((), asked, {}, known("private", "pii")) == AUTOMATIC
        assert rule_for((), asked, {}) == AUTOMATIC
    both = rule_for((), MAIL, {}, known("private", "untrusted", "pii"))
    assert (both.review, both.words) == (True, "a.mail takes outward what is private and untrusted")
    assert rule_for((), LOOK, {}, known("untrusted")) == AUTOMATIC
    staged = {name: Compensation(CapabilityName(f"a.{name}")) for name in ("compensation", "confirmation")}
    held = Contract(CapabilityName("a.hold"), "1.0", Effect.REVERSIBLE, "Test.", {}, {}, **staged)  # pyright: ignore[reportArgumentType]
    assert rule_for((), held, {}, known("untrusted")).review, "what is staged is made final by itself"
    assert rule_for((), LOOK, {}, known("untrusted", outward=True)).review, "it turned out to go outward"


@pytest.mark.parametrize(
    ("rule", "lets_run"),
    [
        ({"mode": "automatic"}, False),
        ({"mode": "automatic", "labels": "pii"}, False),
        ({"mode": "automatic", "labels": "untrusted"}, False),
        ({"mode": "automatic", "labels": ["untrusted", "private"]}, True),
        ({"mode": "automatic", "all_labels": ["untrusted", "private"]}, True),
        ({"mode": "automatic", "labels": "untrusted", "all_labels": "private"}, True),
    ],
)
def test_only_a_rule_that_names_the_very_labels_lets_them_out(rule: dict[str, Any], lets_run: bool):
    assert rule_for(rules(rule), MAIL, {}, known("untrusted", "private", "pii")).lets_run is lets_run


def test_a_rule_that_refuses_asks_nobody():
    refusing = rules({"mode": "refuse", "all_labels": ["private", "untrusted"]})
    ruling = rule_for(refusing, MAIL, {}, known("untrusted", "private"))
    assert (ruling.refused, ruling.review, ruling.lets_run) == (True, False, False)
    assert ruling.words == "a.mail [labels private and untrusted]: refused"
    assert rule_for(refusing, MAIL, {}, known("private")) == AUTOMATIC


SAMPLED = {"capability": "payments.refund", "sample": 10}


def drawn(key: str, input: Any, secret: bytes = b"secret", **rule: Any) -> bool:
    asked = contract(risk=Risk.HIGH if rule else Risk.LOW)
    return rule_for(rules(SAMPLED | rule), asked, input, Situation(key=key), secret).review


def test_one_in_so_many_is_asked_about():
    asked = sum(drawn(f"task-{number}/s", {"amount": number % 7}) for number in range(5000))
    assert 400 < asked < 600


def test_the_same_step_draws_the_same_lot_and_another_secret_another():
    keys = [f"task-{number}/s" for number in range(300)]
    first, again, other = ([drawn(key, {}, secret) for key in keys] for secret in (b"one", b"one", b"two"))
    assert first == again
    assert first != other


def test_a_submitter_cannot_find_an_input_that_is_never_asked_about():
    """The lot depends on the task's id, which nobody chooses."""
    assert len({drawn(f"task-{number}/s", {"amount": 1}) for number in range(200)}) == 2


def test_a_rate_may_depend_on_the_risk():
    always = {"high": 1, "low": 1000000}
    assert all(drawn(f"{number}", {}, sample=always) for number in range(50))


def test_what_is_not_drawn_says_so_in_words():
    words = {rule_for(rules(SAMPLED), contract(), {}, Situation(key=str(number)), b"s").words for number in range(50)}
    assert words == {
        "payments.refund, drawn as one of 10",
        "payments.refund, one in 10 is asked about and this one is not",
    }


@given(
    st.text(max_size=3),
    st.lists(st.sampled_from("abcd"), max_size=3),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("bcde"), max_size=3),
)
def test_a_seat_is_ones_own_or_that_of_somebody_who_delegated(by: str, approvers: list[str], delegates: dict[str, str]):
    seat = seat_of({"approvers": approvers, "delegates": delegates}, by)
    if not approvers or by in approvers:
        assert seat == by
    else:
        assert seat is None or (seat in approvers and delegates[seat] == by)


def test_a_delegate_of_two_has_two_seats():
    terms = {"approvers": ["ann", "bob"], "delegates": {"ann": "dee", "bob": "dee"}}
    assert seat_of(terms, "dee") == "ann"
    assert seat_of(terms, "dee", ["ann"]) == "bob"


NAMES = st.lists(st.sampled_from(["private", "untrusted", "pii", "mail", "kind", "kind=vip"]), max_size=3)
WRITTEN = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "capability": st.sampled_from(["*", "payments.*", "orders.*"]),
            "labels": NAMES,
            "all_labels": NAMES,
            "mode": st.sampled_from(["review", "automatic", "refuse"]),
            "effect": st.just("irreversible"),
        },
    ),
    max_size=4,
)


@given(WRITTEN, NAMES, NAMES)
def test_what_no_rule_has_a_word_about_changes_nothing(
    written: list[dict[str, Any]], of_task: list[str], came: list[str]
):
    """What an agent is told beforehand, against what policy would have said when asked."""
    book, labels = Rulebook(tuple(rules(*written))), dict.fromkeys(of_task, "vip")
    bare, full = Situation(labels), Situation(labels, marks=known(*came).marks, outward=True)
    unminded = book.minds(contract(), labels).isdisjoint(came)
    if unminded and book(contract(), {}, bare).lets_run:
        assert book(contract(), {}, full).lets_run


@pytest.mark.parametrize(
    ("rule", "minded"),
    [
        ({}, []),
        ({"labels": ["pii", "mail"]}, ["mail", "pii"]),
        ({"labels": "pii", "mode": "automatic"}, []),
        ({"labels": "pii", "capability": "orders.*"}, []),
        ({"all_labels": ["private", "untrusted"], "mode": "refuse"}, []),
        ({"all_labels": ["private", "pii"]}, ["pii"]),
        ({"all_labels": ["kind", "private"]}, ["private"]),
    ],
)
def test_policy_minds_what_is_untrusted_and_what_a_rule_would_ask_about(rule: dict[str, Any], minded: list[str]):
    book = Rulebook(tuple(rules(rule)))
    assert book.minds(contract(), {"kind": "vip"}) == {"untrusted", *minded}
