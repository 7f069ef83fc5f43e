"""Which rows may say all that a text says."""

from pathlib import Path

import numpy
from hypothesis import given
from hypothesis import strategies as st

from hanse.memory.index import IndexSettings, TenantIndex
from hanse.memory.progress import Progress
from hanse.memory.sayings import Sayings
from hanse.memory.wording import keys_of, wording

from ..support.memory import clean_memory
from .making import record
from .plain import ann
from .test_hygiene import remember
from .test_index import inline
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


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)


@given(
    st.lists(TEXTS, min_size=1, max_size=30), st.lists(st.tuples(st.integers(0, 40), TEXTS | st.none()), max_size=30)
)
def test_an_index_that_begins_to_listen_late_misses_nothing(there, changes):
    index = TenantIndex(4, IndexSettings(), inline)
    now = {str(number): text for number, text in enumerate(there)}
    for number, text in enumerate(there):
        index.put(record(str(number), text), None, number)
    index.listen()
    told = [record(id, text) for id, text in now.items()]
    index.hear(told[: len(told) // 2])
    for number, (id, text) in enumerate(changes, len(there)):
        if text is None:
            index.remove([str(id)])
            now.pop(str(id), None)
        else:
            index.put(record(str(id), text), None, number)
            now[str(id)] = text
    assert index.may_say(["what nobody says"]), "it has not heard of all yet"
    index.hear(told[len(told) // 2 :])
    index.heard_all()
    assert all(index.may_say(keys_of(text)) for text in now.values())


async def test_a_memory_that_is_opened_again_hears_of_what_is_there_while_drafts_are_judged(tmp_path: Path):
    async with clean_memory(tmp_path / "m.sqlite", make_index=TenantIndex) as service:
        first = [await remember(service, f"Parcel {number} went to depot {number * 7}.") for number in range(100)]
        assert service.shelves.open[0]._present.index.may_say(["what nobody says"]) is False
    async with clean_memory(tmp_path / "m.sqlite", make_index=TenantIndex) as service:
        again = await remember(service, "Parcel 99 went to depot 693.")
        assert (again.outcome, again.record.id) == ("merged", first[99].record.id), "before it has heard of that"
        shelf = service.shelves.open[0]
        index = shelf._present.index
        assert index.may_say(["what nobody says"])
        await remember(service, "Ann Lee drinks green tea.", ann())
        assert shelf._listening is not None
        await shelf._listening
        assert not index.may_say(["what nobody says"])
        assert (await remember(service, "Ann Lee drinks green tea.", ann())).outcome == "merged"
        assert (await remember(service, "Parcel 3 went to depot 21.")).record.id == first[3].record.id
        assert (await remember(service, "Parcel 3 came back from depot 21.")).outcome == "stored"
        await shelf.rebuild(Progress())
        assert not shelf._present.index.may_say(["what nobody says"])
        assert (await remember(service, "Parcel 4 went to depot 28.")).record.id == first[4].record.id
