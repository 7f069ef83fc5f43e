"""The write gate, one rule after the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import Tenant
from hanse.contracts.caller import Caller
from hanse.contracts.memory import Layer, Scope, State
from hanse.memory.gate import Gate

from .making import CALLER, NOW, Now, draft, fact, hits, record

TEA = "Ann Lee prefers green tea in the office and never drinks coffee after 4 pm."
gate = Gate(Now())


def outcome(text: str, near=(), lately=(), vector: float = 0.0, caller: Caller = CALLER, **given):
    return gate.judge(draft(text, **given), caller, hits(*near, vector=vector), lately)


def test_what_nobody_said_before_is_stored():
    found = outcome("The lease of the Bergen office ends in March.", [record("r1", TEA)])
    assert (found.outcome, found.target, found.reason) == ("stored", None, "")


@pytest.mark.parametrize(
    "text",
    [
        TEA,
        TEA.upper(),
        "  Ann Lee prefers green tea,  in the office - and never drinks coffee after 4 pm ",
        "Ann Lee prefers green tea in the office.",
        "As noted earlier, Ann Lee preferred green tea in the office and never drinks coffee after 4 pm.",
        "It’s said that Ann Lee prefers green tea in the office, and that’s why Ann Lee never drinks coffee.",
        "Ann Lee never drinks coffee after four pm and prefers green tea in the office",
    ],
)
def test_what_a_record_says_already_is_merged_into_it(text):
    found = outcome(text, [record("r1", TEA)])
    assert (found.outcome, found.target) == ("merged", "r1"), found


@pytest.mark.parametrize(
    "text",
    [
        TEA.replace("4 pm", "5 pm"),
        TEA.replace("never drinks", "drinks"),
        TEA.replace("prefers", "does not prefer"),
        TEA.replace("Ann Lee", "Ben Lee"),
        TEA.replace("green tea", "black tea"),
        TEA + " She has moved to Oslo.",
    ],
)
@pytest.mark.parametrize("vector", [0.0, 0.99])
def test_one_word_that_matters_makes_a_text_new_however_alike_the_vectors_are(text, vector):
    assert outcome(text, [record("r1", TEA)], [record("r1", TEA)], vector).outcome == "stored"


def test_recalled_text_that_comes_back_is_an_echo():
    known = record("r1", TEA)
    found = outcome("I remember that Ann Lee prefers green tea in the office.", [known], [known])
    assert (found.outcome, found.target) == ("echo", "r1")


def test_recalled_texts_put_together_are_an_echo():
    one, other = record("r1", TEA), record("r2", "Ann Lee works in the Bergen branch since 2019.")
    found = outcome(f"Relevant context: Ann Lee works in the Bergen branch since 2019. {TEA}", (), [one, other])
    assert found.outcome == "echo"
    assert {"r1", "r2"} <= set(found.reason.replace(",", "").split())


def test_words_of_several_records_that_say_something_new_together_are_new():
    """Order 17 is known, and so is that something is on hold; that order 17 is on hold is news."""
    known = [record("r1", "Order 17 of Emma Kim is pending."), record("r2", "Order 18 of Emma Kim is on hold now.")]
    assert outcome("Order 17 of Emma Kim is on hold now.", known, known).outcome == "stored"


def test_a_conclusion_from_recalled_texts_is_new():
    one, other = record("r1", TEA), record("r2", "Ann Lee works in the Bergen branch since 2019.")
    assert outcome("Order green tea for the Bergen branch.", (), [one, other]).outcome == "stored"


def test_a_typed_fact_is_more_than_the_text_it_was_read_from():
    known = record("r1", TEA, layer=Layer.EPISODIC)
    typed = fact("Ann Lee", "drink", "green tea")
    assert outcome("Ann Lee prefers green tea.", [known], [known], fact=typed).outcome == "stored"


def test_other_data_makes_the_same_words_new():
    known = record("r1", TEA, payload={"status": "open"})
    assert outcome(TEA, [known], payload={"status": "closed"}).outcome == "stored"
    assert outcome(TEA, [known], payload={"status": "open"}).outcome == "merged"


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ({"scope": Scope.AGENT, "owner": "ben"}, {}),
        ({"scope": Scope.AGENT, "owner": "ben"}, {"scope": Scope.AGENT, "owner": "ann"}),
        ({"subject": "ben"}, {"subject": "ann"}),
        ({"expires_ms": NOW + 1000}, {}),
        ({"valid_to_ms": NOW}, {}),
        ({"state": State.QUARANTINED}, {}),
        ({"layer": Layer.WORKING, "expires_ms": NOW + 1000}, {}),
        ({"layer": Layer.EPISODIC, "episode": "may"}, {"layer": Layer.EPISODIC, "episode": "june"}),
        ({"tenant": Tenant("other")}, {}),
    ],
)
def test_nothing_is_merged_where_something_would_be_missing(held, asked):
    """Readers, subjects, time, events and tenants: a record must be to all what the draft would have been."""
    known = record("r1", TEA, **held)
    assert outcome(TEA, [known], [known], 1.0, **asked).outcome == "stored"


def test_a_private_note_may_be_merged_into_what_everybody_knows():
    assert outcome(TEA, [record("r1", TEA)], scope=Scope.AGENT, owner="ann").outcome == "merged"


def test_untrusted_writes_are_quarantined_whoever_brings_them():
    assert outcome(TEA, labels=("untrusted",)).outcome == "quarantined"
    found = outcome(TEA, caller=CALLER.model_copy(update={"labels": ("private", "untrusted")}))
    assert (found.outcome, found.labels) == ("quarantined", ("private", "untrusted"))


def test_an_untrusted_copy_does_not_count_as_said():
    aside = record("r1", TEA, state=State.QUARANTINED)
    assert outcome(TEA, [aside]).outcome == "stored"
    assert outcome(TEA, [aside], labels=("untrusted",)).outcome == "merged"


def test_what_says_nothing_is_quarantined_with_a_reason():
    assert outcome("Thanks a lot, talk to you soon!").reason == "is courtesy"


def test_what_is_like_small_talk_is_set_aside_too_but_not_what_is_like_that():
    aside = record("r1", "Thank you so much!", state=State.QUARANTINED)
    found = outcome("Ta ever so, neighbours!", [aside], vector=0.7)
    assert (found.outcome, found.reason) == ("quarantined", "is like r1, which is courtesy")
    assert outcome("Ta ever so, neighbours!", [aside], vector=0.4).outcome == "stored"
    assert outcome("Ta ever so, Ann Lee!", [aside], vector=0.7).outcome == "stored"
    chained = record("r2", "Ta ever so, neighbours!", state=State.QUARANTINED)
    assert outcome("Obliged indeed, neighbours!", [chained], vector=0.9).outcome == "stored"


def test_what_a_person_pins_is_kept_as_it_is():
    assert outcome("Thanks!", [record("r1", "Thanks!")], pinned=True).outcome == "stored"


def test_a_fact_that_says_otherwise_is_stored_and_names_the_other():
    known = record("r1", "Order 17 is open.", fact=fact("order 17", "status", "open"))
    new = draft("Order 17 is shipped.", fact=fact("Order 17", "status", "shipped"))
    found = gate.judge(new, CALLER, hits(known), (), [known])
    assert (found.outcome, found.contradicts) == ("stored", ("r1",))
    assert found.ends["r1"].valid_to_ms == NOW


def test_a_fact_that_says_otherwise_than_a_pinned_one_is_quarantined():
    known = record("r1", "Refunds take 14 days.", fact=fact("refund", "days", 14), pinned=True)
    new = draft("Refunds take 30 days.", fact=fact("refund", "days", 30))
    found = gate.judge(new, CALLER, hits(known), (), [known])
    assert (found.outcome, found.contradicts) == ("quarantined", ("r1",))


def test_the_same_fact_in_other_words_is_merged():
    known = record("r1", "Refunds take 14 days.", fact=fact("refund", "days", 14))
    new = draft("It takes fourteen days until a refund.", fact=fact("Refund", "Days", "14"))
    assert gate.judge(new, CALLER, (), (), [known]).target == "r1"


@given(st.text(min_size=1, max_size=300).filter(str.strip), st.text(min_size=1, max_size=300).filter(str.strip))
def test_any_text_gets_a_decision_and_the_same_again(text, other):
    known = record("r1", other)
    found = gate.judge(draft(text), CALLER, hits(known, vector=0.5), [known])
    assert found == gate.judge(draft(text), CALLER, hits(known, vector=0.5), [known])
    assert (found.target is None) == (found.outcome in ("stored", "quarantined"))


@given(st.text(min_size=1, max_size=300).filter(str.strip))
def test_what_is_stored_is_never_stored_a_second_time(text):
    known = record("r1", text)
    assert gate.judge(draft(text), CALLER, hits(known)).outcome in ("merged", "quarantined")
