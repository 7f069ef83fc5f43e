"""Which rows may say all that a text says."""

import numpy
from hypothesis import given
from hypothesis import strategies as st

from hanse.memory.sayings import Sayings
from hanse.memory.wording import keys_of, wording

from .test_lately import WORDS

KEYS = st.frozensets(st.sampled_from([f"key{n}" for n in range(12)]), max_size=6)


@given(st.lists(KEYS, max_size=40), st.sets(st.integers(0, 39)), KEYS)
def test_what_has_all_keys_is_never_missed_and_what_was_removed_is_never_found(rows, removed, asked):
    sayings = Sayings()
    for row, keys in enumerate(rows):
        sayings.put(row, keys)
    for row in removed:
        sayings.remove(row)
    kept = [row for row in range(len(rows)) if row not in removed]
    assert sayings.may_say(asked) or not any(asked <= rows[row] for row in kept)
    assert not (asked and not kept and sayings.may_say(asked))
    before = sayings.may_say(asked) if asked else None
    sayings.renumber(numpy.array(kept, numpy.int32))
    sayings.put(len(kept), ["another"])
    assert sayings.may_say(["another"])
    assert before is None or sayings.may_say(asked) == before


def test_of_many_rows_those_that_only_share_some_keys_are_told_apart():
    sayings = Sayings()
    for row in range(20_000):
        sayings.put(row, [f"{place}-{row // 5**place % 5}" for place in range(6)])
    mistaken = sum(sayings.may_say([*(f"{place}-0" for place in range(3)), f"gone {n}"]) for n in range(100))
    assert mistaken <= 5  # half a one is to be expected, by hashes that are others in each process
    assert sayings.may_say([f"{place}-3" for place in range(6)])


@given(st.lists(st.sampled_from(WORDS)), st.lists(st.sampled_from(WORDS)))
def test_who_adds_nothing_to_a_text_has_no_key_that_it_lacks(one, other):
    said, known = " ".join(one), " ".join(other)
    new, turned = wording(said).new_beside(wording(known)), wording(said).turns(wording(known))
    assert wording(said).keys == keys_of(said)
    assert new or turned or wording(said).keys <= wording(known).keys
    assert wording(said).adds_nothing_to(wording(known)) == (not new and not turned)
