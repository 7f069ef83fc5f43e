"""What is answered: order, budget, diversity, and the reasons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import Hit, Query
from hanse.memory.index import IndexSettings, TenantIndex
from hanse.memory.ports import Scored
from hanse.memory.recall import diverse, pack, recollect, tokens, why

from .test_index import DIMENSIONS, NOW, inline, record, unit


def hit(id: str, size: int) -> Hit:
    return Hit(record=record(id, "x"), score=1, why="", tokens=size)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 20), st.one_of(st.none(), st.integers(1, 200)))
def test_hits_fit_the_budget_and_none_that_would_fit_is_left_out(sizes, limit, budget):
    hits = [hit(str(i), size) for i, size in enumerate(sizes)]
    packed = pack(hits, limit, budget)
    assert len(packed) <= limit
    assert packed == [each for each in hits if each in packed]
    if budget is not None:
        left = budget - sum(each.tokens for each in packed)
        assert left >= 0
        if len(packed) < limit:
            assert all(each.tokens > left for each in hits if each not in packed)


@given(st.text())
def test_tokens_are_never_fewer_than_the_words(text):
    assert tokens(text) >= len(text.replace("_", " ").split()) - sum(not word.strip() for word in text.split())
    assert tokens(text) <= len(text)


def test_tokens_of_plain_english_are_not_far_off():
    assert 9 <= tokens("The ship left the harbour at dawn.") <= 14


def test_diversity_prefers_what_was_not_said_yet():
    scored = [Scored("a", 1.0, {}), Scored("b", 0.9, {}), Scored("c", 0.5, {})]
    similar = np.array([[1, 0.95, 0.1], [0.95, 1, 0.1], [0.1, 0.1, 1]], np.float32)
    assert [each.id for each in diverse(scored, 0.0, 3, similar)] == ["a", "b", "c"]
    assert [each.id for each in diverse(scored, 0.6, 3, similar)] == ["a", "c", "b"]


def answered(query: Query, records, *, vector=None):
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    for number, (each, its) in enumerate(records):
        index.put(each, its, number)
    scored = index.search(query, vector, None, NOW)
    return recollect(query, scored, {each.id: each for each, _ in records}, index, now_ms=NOW)


def test_echoes_of_one_text_make_room_for_another():
    records = [(record(str(i), "salt is dear in Lübeck"), unit(1)) for i in range(3)]
    records.append((record("other", "salt comes from Lüneburg"), unit(4)))
    plain = answered(Query(text="salt in Lübeck", limit=2), records, vector=unit(1))
    mixed = answered(Query(text="salt in Lübeck", limit=2, diversity=0.7), records, vector=unit(1))
    assert [each.record.id for each in plain.hits] == ["0", "1"]
    assert [each.record.id for each in mixed.hits] == ["0", "other"]


def test_diversity_works_without_vectors():
    records = [(record(str(i), "salt is dear in Lübeck"), None) for i in range(3)]
    records.append((record("other", "salt comes from Lüneburg"), None))
    mixed = answered(Query(text="salt in Lübeck", limit=2, diversity=0.7), records)
    assert [each.record.id for each in mixed.hits] == ["0", "other"]


def test_labels_of_all_hits_travel():
    private = record("a", "salt").model_copy(update={"labels": ("private", "b")})
    found = answered(Query(text="salt"), [(private, None), (record("b", "salt"), None)])
    assert found.labels == ["b", "private"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"text": 1.0, "vector": 0.61}, "says “ships”; close in meaning (0.61)"),
        ({"text": 1.0, "vector": 0.35, "recency": 0.9}, "says “ships”; related in meaning (0.35); recent"),
        ({"text": 0.1, "neighbours": 0.8}, "says “ships”; what was said around it fits"),
    ],
)
def test_a_hit_says_why(parts, said):
    assert why(Query(text="Which ships?"), Scored("a", 1, parts), record("a", "a ship", "talk", 0)) == said


def test_a_hit_with_nothing_to_say_for_it_says_so():
    assert why(Query(text="ships"), Scored("a", 0, {}), record("a", "salt")) == "it fits the filters"
    assert why(Query(), Scored("a", 1, {"recency": 1.0}), record("a", "salt")) == "among the newest"


def test_scores_stay_in_their_range():
    found = answered(
        Query(text="salt"), [(record(str(i), "salt " * i + "x"), unit(i)) for i in range(9)], vector=unit(2)
    )
    assert all(0 <= each.score <= 1 for each in found.hits)
    assert [each.score for each in found.hits] == sorted((each.score for each in found.hits), reverse=True)
