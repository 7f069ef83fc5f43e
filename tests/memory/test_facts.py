"""Typed facts: sameness, contradiction, and what ends what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import State
from hanse.memory.facts import contradictions, ending, has_several, key, ruling, same_fact, same_value

from .making import NOW, draft, fact, record


@pytest.mark.parametrize(
    ("entity", "attribute"),
    [("ann lee", "deliveryAddress"), ("The Ann Lee", "Delivery Address"), ("ANN-LEE", "delivery-address")],
)
def test_a_key_has_one_spelling(entity, attribute):
    assert key(fact("Ann Lee", "delivery_address", "x")) == key(fact(entity, attribute, "y"))


@pytest.mark.parametrize(
    ("one", "other"), [("1,000", 1000), ("Yes", True), (" Oslo. ", "oslo"), (3, 3.0), ("2.50", 2.5)]
)
def test_values_are_the_same_in_any_spelling(one, other):
    assert same_value(one, other)


@pytest.mark.parametrize(("one", "other"), [("007", 7), (1, True), ("12.5", 125), (2**63, 2**63 + 1), ("no", "none")])
def test_values_that_only_look_alike_are_not_the_same(one, other):
    assert not same_value(one, other)


def test_a_newer_value_ends_the_older_one():
    old = record("r1", fact=fact("o", "status", "open"), valid_from_ms=NOW - 1000)
    new = draft("x", fact=fact("o", "status", "closed"), valid_from_ms=NOW)
    found = ruling(new, [old], NOW)
    assert (found.contradicts, found.supersedes) == (("r1",), ("r1",))
    assert ending(new, NOW + 5).valid_to_ms == NOW


def test_a_fact_that_has_ended_is_contradicted_by_nothing():
    past = record("r1", fact=fact("o", "status", "open"), valid_from_ms=0, valid_to_ms=NOW - 1)
    assert ruling(draft("x", fact=fact("o", "status", "closed")), [past], NOW).contradicts == ()


def test_a_value_of_another_time_contradicts_nothing():
    old = record("r1", fact=fact("o", "rate", 3), valid_from_ms=0, valid_to_ms=NOW - 1000)
    assert ruling(draft("x", fact=fact("o", "rate", 4), valid_from_ms=NOW), [old], NOW).contradicts == ()


def test_news_about_the_past_does_not_end_the_present():
    now = record("r1", fact=fact("o", "rate", 4), valid_from_ms=NOW)
    found = ruling(draft("x", fact=fact("o", "rate", 3), valid_from_ms=NOW - 1000), [now], NOW)
    assert (found.contradicts, found.supersedes) == (("r1",), ())


def test_a_guess_does_not_end_what_is_known():
    known = record("r1", fact=fact("o", "status", "open"), confidence=0.9)
    found = ruling(draft("x", fact=fact("o", "status", "closed"), confidence=0.2), [known], NOW)
    assert (found.contradicts, found.supersedes) == (("r1",), ())


def test_only_a_person_ends_what_a_person_pinned():
    pinned = record("r1", fact=fact("refund", "days", 14), pinned=True)
    assert ruling(draft("x", fact=fact("refund", "days", 30)), [pinned], NOW).against_pinned == ("r1",)
    assert ruling(draft("x", fact=fact("refund", "days", 30), pinned=True), [pinned], NOW).supersedes == ("r1",)


def test_an_attribute_of_several_values_only_adds():
    known = record("r1", fact=fact("ann", "allergies", "nuts"))
    assert ruling(draft("x", fact=fact("ann", "allergies", "milk")), [known], NOW).contradicts == ()
    marked = draft("x", fact=fact("ann", "courses", "go"), payload={"values": "multiple"})
    assert ruling(marked, [record("r2", fact=fact("ann", "courses", "law"))], NOW).contradicts == ()
    assert not has_several(fact("ann", "status", "x"))


def test_contradictions_are_found_among_records():
    one, other = record("r1", fact=fact("o", "status", "open")), record("r2", fact=fact("O", "Status", "closed"))
    past = record("r3", fact=fact("o", "status", "new"), state=State.SUPERSEDED)
    assert [(a.id, b.id) for a, b in contradictions([one, other, past])] == [("r1", "r2")]


@given(
    st.text(min_size=1, max_size=40),
    st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.floats(allow_nan=False)),
)
def test_a_fact_says_the_same_as_itself(entity, value):
    assert same_fact(
        fact(entity, "a", value), fact(f" {entity} ".upper().lower() if entity.isascii() else entity, "A", value)
    )
