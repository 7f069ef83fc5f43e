"""Many patterns asked at once: never no where one is found."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanse.memory import redaction, worth
from hanse.memory.ahead import Ahead

PATTERNS = [
    *redaction._secret_patterns(),
    *(redaction._PRIVATE_KEY, redaction._ASSIGNED, redaction._BEARER, worth._GREETING, worth._BOILERPLATE),
    *map(re.compile, (r"(?<!\w)end$", r"\Aone\Z", r"(?i)[^\s,]{2,2000}x", r"a.c", r"’s\b", r"(\w)\1", r"^\s+from")),
]
ALL = [(pattern, Ahead([pattern])) for pattern in PATTERNS]
AROUND = st.text(st.sampled_from("ab1 .,-_=\n\t\x0b\x1c\xa0’“–éß日İſK\u200b"), max_size=5)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.sampled_from(ALL).flatmap(lambda each: st.tuples(st.just(each), st.from_regex(each[0]))), AROUND, AROUND)
def test_it_never_says_no_where_a_pattern_is_found(drawn, before, behind):
    (pattern, ahead), found = drawn
    for text in (found, f"{before}{found}{behind}"):
        assert ahead.may_find(text) or not pattern.search(text)


def test_nearly_every_text_is_passed_over():
    ahead = Ahead(PATTERNS[:-7])
    assert not ahead._slow, "none of the patterns that are shipped has to be asked one by one"
    texts = ("Ann Lee prefers green tea.", "It’s 4 pm – Parcel 17 went to Bergen…", "Order #W871 is shipped.\nYes!")
    assert not any(map(ahead.may_find, texts))


@pytest.mark.parametrize("pattern", [r"(\w)\1", r"’s\b"])
def test_what_cannot_be_asked_ahead_is_looked_for_itself(pattern):
    ahead = Ahead([re.compile(pattern)])
    assert ahead._slow
    assert [ahead.may_find(text) for text in ("Ann’s", "one")] == [bool(re.search(pattern, "Ann’s")), False]
