"""What goes first, and what never goes."""

from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import Layer, State
from hanse.memory.budgets import Budget, overflow, size_of

from .making import DAY, NOW, record

ORDER = [
    record("expired", expires_ms=NOW),
    record("quarantined", state=State.QUARANTINED, importance=1),
    record("working", layer=Layer.WORKING, importance=1, expires_ms=NOW + DAY),
    record("earlier", state=State.SUPERSEDED, importance=1),
    record("told", layer=Layer.EPISODIC, importance=1),
    record("unimportant", importance=0.1),
    record("old", importance=0.9, updated_ms=NOW - 365 * DAY, created_ms=NOW - 365 * DAY),
    record("important", importance=0.9),
]


def evicted(budget: Budget, records=ORDER):
    return [each.id for each in overflow(records, budget, NOW, summarised={"told"}).evictions]


def test_the_order_is_the_documented_one():
    assert evicted(Budget(records=1)) == [
        "expired", "quarantined", "working", "earlier", "told", "old", "unimportant",
    ]  # fmt: skip


def test_nothing_goes_while_there_is_room_but_what_has_expired():
    assert evicted(Budget()) == ["expired"]
    assert evicted(Budget(records=6)) == ["expired", "quarantined"]


def test_pinned_records_stay_and_the_overflow_says_that_it_is_not_enough():
    pinned = [record(str(n), pinned=True, importance=0, expires_ms=NOW - 1) for n in range(3)]
    found = overflow(pinned, Budget(records=2), NOW)
    assert (found.evictions, found.records, found.fits) == ([], 3, False)


def test_every_eviction_has_its_reason():
    reasons = {each.id: each.reason for each in overflow(ORDER, Budget(records=0), NOW, summarised={"told"}).evictions}
    assert reasons["told"] == "is told by a summary"
    assert reasons["important"] == "is worth least"


def test_bytes_count_texts_and_payloads():
    assert size_of(record("r", "äö", payload={"a": 1})) == 4 + len('{"a":1}')


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1), st.booleans()), max_size=30),
    st.integers(0, 30),
    st.integers(0, 20_000),
)
def test_what_stays_fits_or_is_pinned(made, count, size):
    records = [
        record(str(n), "x" * (length + 1), importance=importance, pinned=pinned)
        for n, (length, importance, pinned) in enumerate(made)
    ]
    found = overflow(records, Budget(records=count, bytes=size), NOW)
    gone = {each.id for each in found.evictions}
    left = [each for each in records if each.id not in gone]
    assert (len(left), sum(map(size_of, left))) == (found.records, found.bytes)
    assert not any(each.pinned for each in records if each.id in gone)
    assert found.fits or all(each.pinned for each in left)
