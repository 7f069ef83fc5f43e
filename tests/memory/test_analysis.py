"""Words of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.memory.analysis import LONGEST_WORD, STOP_WORDS, terms, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Running ships", "the ship runs"),
        ("Lübeck's harbours", "LÜBECK harbour"),
        ("ﬁne", "fine"),  # a ligature
        ("①②", "12"),
        ("re-opened", "re opened"),
    ],
)
def test_spellings_of_the_same_words_have_the_same_terms(one, other):
    assert sorted(terms(one)) == sorted(terms(other)) != []


def test_stop_words_are_no_terms():
    assert terms(" ".join(sorted(STOP_WORDS))) == terms("I don't, we're") == []


def test_scripts_without_spaces_are_cut_into_pairs():
    assert list(words("東京タワーへ2回")) == ["東京", "京タ", "タワ", "ワー", "ーへ", "2", "回"]
    assert set(terms("東京")) < set(terms("昨日東京へ"))


def test_words_of_other_scripts_stay_whole():
    assert list(words("Привет, мир! καλημέρα שלום")) == ["привет", "мир", "καλημέρα", "שלום"]


@given(st.text(max_size=200))
def test_any_text_has_terms_or_none_and_always_the_same(text):
    assert terms(text) == terms(text)
    assert len(terms(text)) <= len(text) * 18  # NFKC writes one character as up to eighteen


def test_a_word_without_end_is_cut():
    assert terms("x" * 10_000) == terms("x" * LONGEST_WORD)
