"""What follows from what happened: every move of the cascade, as a function of the tries before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import (
    BudgetExhausted,
    HanseError,
    InvalidInput,
    ModelUnavailable,
    Overloaded,
    PersonNeeded,
    TimedOut,
)
from hanse.models.backend import Raw
from hanse.models.cascade import Accept, Ladder, Opinion, Outcome, Propose, Refuse, Rules, Try, Work, decide
from hanse.models.proposal import Finding, Proposal

from ..support.models import ask

RULES = Rules(repairs=1, attempts=6)
LADDER = Ladder(("mid", "large"), ("small",))
AWAY = ModelUnavailable("away")


def accepted(tier: str) -> Try:
    return Try(Work(tier, "m", Proposal(ask(), Raw("fine"))))


def rejected(tier: str, text: str = "no") -> Try:
    return Try(Work(tier, "m", Proposal(ask(), Raw(text))), Opinion((Finding("is wrong", "/a"),)))


def failed(tier: str, error: HanseError = AWAY) -> Try:
    return Try(Work(tier, "m", error=error))


@pytest.mark.parametrize(
    ("tries", "move"),
    [
        ([], Propose("mid")),
        ([failed("mid")], Propose("large")),
        ([failed("mid"), failed("large")], Propose("small")),
        ([failed("mid", TimedOut("late"))], Propose("large")),
        ([failed("mid", InvalidInput("too long"))], Propose("large")),
        ([rejected("mid", "1"), rejected("mid", "2")], Propose("large")),
        ([rejected("mid", "1"), rejected("mid", "1")], Propose("large")),
        ([rejected("mid", "1"), failed("mid")], Propose("large")),
    ],
)
def test_the_next_tier(tries: list[Try], move: Propose):
    assert decide(LADDER, tries, RULES) == move


def test_the_first_refusal_is_repaired_by_the_tier_that_wrote_it():
    first = rejected("mid")
    assert decide(LADDER, [first], RULES) == Propose("mid", repairs=first)
    assert decide(LADDER, [first], Rules(repairs=0, attempts=6)) == Propose("large")


def test_an_accepted_answer_ends_it():
    last = accepted("large")
    assert decide(LADDER, [rejected("mid"), last], RULES) == Accept(last)


def end(tries: list[Try], rules: Rules = RULES) -> HanseError:
    move = decide(LADDER, tries, rules)
    assert isinstance(move, Refuse)
    return move.error


def test_what_a_higher_tier_wrote_wrong_is_not_asked_of_a_lower_one():
    error = end([failed("mid"), rejected("large", "1"), rejected("large", "2")])
    assert isinstance(error, PersonNeeded)
    assert len(error.ids["reasons"]) == 3


def test_when_nobody_can_be_reached_it_says_why_of_each():
    error = end([failed("mid"), failed("large", TimedOut("slow")), failed("small")])
    assert isinstance(error, ModelUnavailable)
    assert "mid: away" in error.detail
    assert "large: slow" in error.detail


def test_the_only_tiers_own_error_stays_what_it_is():
    move = decide(Ladder(("mid",)), [failed("mid", InvalidInput("too long"))], RULES)
    assert isinstance(move, Refuse)
    assert isinstance(move.error, InvalidInput)


@pytest.mark.parametrize("error", [BudgetExhausted("no money"), Overloaded("full")])
def test_what_no_tier_can_change_ends_it_at_once(error: HanseError):
    assert end([failed("mid", error)]) is error
    assert end([rejected("mid", "1"), rejected("mid", "2"), failed("large", error)]) is error


def test_attempts_are_bounded():
    tries = [rejected("mid", str(number)) for number in range(3)]
    assert isinstance(end(tries, Rules(repairs=9, attempts=3)), PersonNeeded)


@given(st.data())
def test_whatever_happens_it_ends_and_keeps_to_the_rules(data: st.DataObject):
    ladder = Ladder(
        tuple(f"up{n}" for n in range(data.draw(st.integers(1, 3)))),
        tuple(f"down{n}" for n in range(data.draw(st.integers(0, 2)))),
    )
    rules = Rules(data.draw(st.integers(0, 3)), data.draw(st.integers(1, 8)))
    tries: list[Try] = []
    while isinstance(move := decide(ladder, tries, rules), Propose):
        assert len(tries) < rules.attempts
        if move.repairs:
            assert move.repairs is tries[-1]
        else:
            assert move.tier not in {each.tier for each in tries}
        tries.append(data.draw(st.sampled_from([accepted, rejected, failed]))(move.tier))
    by_tier = [sum(each.tier == tier for each in tries) for tier in (*ladder.up, *ladder.down)]
    assert max(by_tier) <= rules.repairs + 1
    ends_well = tries[-1].outcome is Outcome.ACCEPTED
    assert isinstance(move, Accept) is ends_well
    if isinstance(move, Refuse):
        some_refused = any(each.outcome is Outcome.REJECTED for each in tries)
        assert isinstance(move.error, PersonNeeded) is some_refused
