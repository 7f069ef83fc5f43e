"""Labels with where they come from: joined, carried further, read from anybody."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.labels import (
    MAX_SOURCES,
    NO_MARKS,
    Marks,
    concerning,
    joined,
    marks_of,
    of_task,
    placed,
    to_data,
)

from ..strategies import plain

names = st.sampled_from(["private", "untrusted", "pii", "mail"])
marks = st.dictionaries(names, st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=12).map(tuple))


def labels(*given: Marks) -> set[str]:
    return set[str]().union(*given)


@given(st.lists(marks, max_size=4))
def test_no_label_is_lost_and_none_is_made_up(given: list[Mapping[str, tuple[str, ...]]]):
    found = joined(*given)
    assert found.keys() == labels(*given)
    for label, sources in found.items():
        assert set(sources) <= {source for each in given for source in each.get(label, ())}


def test_a_label_keeps_the_first_places_that_it_was_met_at():
    many = {"pii": tuple(f"record r{n}" for n in range(30))}
    assert joined(many, {"mail": ("contract a.b",)})["pii"] == many["pii"][:MAX_SOURCES]
    assert joined({"pii": ("b", "a")}, {"pii": ("a", "c")}) == {"pii": ("b", "a", "c")}
    assert joined() == joined(NO_MARKS, {}) == {}


def test_further_away_the_place_stands_behind():
    assert placed({"pii": ("record r1",)}, "step s1") == {"pii": ("record r1, step s1",)}


@given(plain)
def test_whatever_somebody_says_becomes_labels_or_nothing(data: Any):
    read = marks_of({"pii": data})
    assert set(read) <= {"pii"}
    assert all(isinstance(source, str) for sources in read.values() for source in sources)
    assert marks_of(to_data(read)) == read
    assert not marks_of(data) or isinstance(data, dict)


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        ((), ()),
        (("private", "pii"), ()),
        (("untrusted", "pii"), ("untrusted",)),
        (("untrusted", "private"), ("untrusted", "private")),
    ],
)
def test_what_is_untrusted_asks_and_what_is_private_with_it(given: Any, asks: Any):
    assert concerning(given) == set(asks)


def test_of_a_task_s_own_labels_those_with_a_meaning_count():
    assert of_task({"untrusted": "mail", "channel": "mail"}) == {"untrusted": ("label of the task",)}
