"""The index against a list of records that is searched one by one."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hanse.contracts import InvalidInput
from hanse.contracts.ids import Tenant
from hanse.contracts.memory import Query, Record
from hanse.memory.analysis import terms
from hanse.memory.index import IndexSettings, TenantIndex, _best
from hanse.memory.ports import Allowed
from hanse.memory.text import K1, B
from hanse.memory.vectors import VectorSettings

DIMENSIONS = 8
NOW = 1_700_000_000_000
SMALL = IndexSettings(
    candidates=4,
    dead_least=3,
    vectors=VectorSettings(graph_from=12, exact_up_to=2, dead_least=3, search_width=64),
)
"""Everything that happens when there is much happens here when there are a few."""
WORDS = ["harbour", "ships", "grain", "salt", "Lübeck", "東京タワー", "the", "42", "ship's"]


def record(id: str, text: str, episode: str | None = None, position: int | None = None, at: int = NOW) -> Record:
    return Record(
        id=id, tenant=Tenant("t"), text=text, episode=episode, position=position, created_ms=at, updated_ms=at
    )


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def inline(job) -> None:
    job()


def ids(found) -> list[str]:
    return [each.id for each in found]


class Machine(RuleBasedStateMachine):
    """Puts, replacements, removals and searches in any order, beside a dictionary."""

    @initialize()
    def start(self) -> None:
        self.index = TenantIndex(DIMENSIONS, SMALL, inline)
        self.kept: dict[str, tuple[Record, np.ndarray | None, int]] = {}
        self.number = 0
        self.clock = 0

    @rule(
        id=st.integers(0, 30),
        text=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6),
        episode=st.sampled_from([None, "e", "f"]),
        position=st.one_of(st.none(), st.integers(0, 5)),
        with_vector=st.booleans(),
    )
    def put(self, id, text, episode, position, with_vector) -> None:
        self.number, self.clock = self.number + 1, self.clock + 1
        each = record(f"r{id}", " ".join(text), episode, position, NOW + self.clock)
        vector = unit(self.number) if with_vector else None
        self.index.put(each, vector, self.number)
        self.kept[each.id] = each, vector, self.number

    @rule(gone=st.sets(st.integers(0, 32), max_size=12))
    def remove(self, gone) -> None:
        self.index.remove([f"r{id}" for id in sorted(gone)])
        for id in gone:
            self.kept.pop(f"r{id}", None)

    @rule(
        share=st.integers(1, 3), text=st.sampled_from([*WORDS, "", "who is it", "salt ships"]), seed=st.integers(0, 9)
    )
    def search_some(self, share, text, seed) -> None:
        """A filter is never overstepped, and as many are found as may be."""
        chosen = {id for id, (_, _, number) in self.kept.items() if number % share == 0}
        numbers = np.array(sorted(self.kept[id][2] for id in chosen), np.int64)
        found = self.index.search(Query(text=text, limit=3), unit(seed), Allowed(numbers, lambda: chosen), NOW)
        assert set(ids(found)) <= chosen
        assert len(found) == min(3, len(chosen))

    @rule(seed=st.integers(0, 99))
    def near_finds_the_nearest(self, seed) -> None:
        cosines = [float(vector @ unit(seed)) for _, vector, _ in self.kept.values() if vector is not None]
        found = self.index.near("", unit(seed), 1)
        assert len(found) == min(1, len(cosines))
        if cosines:
            assert found[0].parts["vector"] == pytest.approx(max(cosines), abs=1e-5)

    @rule(text=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
    def words_are_scored_as_by_definition(self, text) -> None:
        """BM25 as it is written in the book, over what is kept."""
        if not self.kept:
            return
        documents = {id: terms(each.text) for id, (each, _, _) in self.kept.items()}
        wanted = bm25(documents, terms(" ".join(text)))
        found = self.index.near(" ".join(text), None, len(self.kept))
        highest = max(wanted.values())
        for each in found:
            assert each.score == pytest.approx(wanted[each.id] / max(highest, 1e-9), abs=2e-6)
        assert {id for id, score in wanted.items() if score > 0} <= set(ids(found))

    @rule(text=st.sampled_from(["salt ships", "grain", "harbour 42", ""]), seed=st.integers(0, 5))
    def the_same_as_made_anew(self, text, seed) -> None:
        """What was there once leaves nothing behind."""
        fresh = TenantIndex(DIMENSIONS, SMALL, inline)
        for each, vector, number in sorted(self.kept.values(), key=lambda kept: kept[2]):
            fresh.put(each, vector, number)
        everything = replace(SMALL, candidates=100)
        query = Query(text=text, limit=40)
        for index in (self.index, fresh):
            index._settings = everything
        before, after = (index.search(query, unit(seed), None, NOW) for index in (self.index, fresh))
        self.index._settings = SMALL
        assert {each.id: pytest.approx(each.score, abs=3e-6) for each in before} == {e.id: e.score for e in after}

    @invariant()
    def knows_what_is_kept(self) -> None:
        assert self.index.ids() == set(self.kept)
        assert len(self.index) == len(self.kept)


def bm25(documents: dict[str, list[int]], question: list[int]) -> dict[str, float]:
    mean = sum(map(len, documents.values())) / len(documents) or 1e-6
    scores = dict.fromkeys(documents, 0.0)
    for term, times in Counter(question).items():
        holding = [id for id, document in documents.items() if term in document]
        worth = times * math.log(1 + (len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for id in holding:
            count = documents[id].count(term)
            scores[id] += worth * count * (K1 + 1) / (count + K1 * (1 - B + B * len(documents[id]) / mean))
    return scores


Machine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestIndex = Machine.TestCase


def filled(count: int, settings: IndexSettings | None = None) -> TenantIndex:
    index = TenantIndex(DIMENSIONS, settings or IndexSettings(), inline)
    for i in range(count):
        index.put(record(f"{i:04d}", f"crate {i} of salt"), unit(i), i)
    return index


def test_what_was_removed_is_not_found_by_its_words_nor_by_its_vector():
    index = filled(20)
    index.remove(["0007", "unknown"])
    assert "0007" not in ids(index.search(Query(text="crate 7", limit=20), unit(7), None, NOW))
    assert len(index) == 19


def test_what_was_replaced_is_found_as_it_is_now():
    index = filled(20)
    index.put(record("0007", "a barrel of herring"), unit(700), 20)
    found = index.search(Query(text="herring", limit=1), unit(700), None, NOW)
    assert ids(found) == ["0007"]
    assert found[0].parts["vector"] == pytest.approx(1, abs=1e-5)
    assert index.near("crate 7", unit(7), 1)[0].parts["vector"] < 0.99


def test_the_number_that_a_record_had_before_allows_nothing():
    index = filled(3)
    index.put(record("0001", "crate 1 of salt"), unit(1), 3)
    old, new = (Allowed(np.array([number], np.int64), lambda: ["0001"]) for number in (1, 3))
    assert index.search(Query(text="crate"), None, old, NOW) == []
    assert ids(index.search(Query(text="crate"), None, new, NOW)) == ["0001"]


def test_equal_scores_are_in_the_order_of_their_ids():
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    for number, id in enumerate(["d", "b", "a", "c"]):
        index.put(record(id, "salt"), unit(1), number)
    assert ids(index.search(Query(text="salt"), unit(2), None, NOW)) == ["a", "b", "c", "d"]


def test_a_turn_is_found_by_what_was_asked_before_it():
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    turns = [
        "Where did the cog from Visby land?",
        "In Riga, on Monday.",
        "Good. And now to the herring.",
        "It is cheap.",
    ]
    for i, turn in enumerate(turns):
        index.put(record(f"{i}", turn, "talk", i), None, i)
    index.put(record("9", "A cog is a ship."), None, 9)
    assert ids(index.search(Query(text="cog from Visby", limit=2), None, None, NOW)) == ["0", "1"]


def test_neighbours_that_may_not_be_read_are_not_felt():
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    index.put(record("0", "the password is herring", "talk", 0), unit(0), 0)
    index.put(record("1", "thanks", "talk", 1), unit(1), 1)
    found = index.search(Query(text="herring"), unit(0), Allowed(np.array([1], np.int64), lambda: ["1"]), NOW)
    assert ids(found) == ["1"]
    assert "neighbours" not in found[0].parts or found[0].parts["neighbours"] == 0
    assert found[0].parts["context"] == found[0].parts["vector"]


def test_a_removed_turn_closes_the_gap():
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    for i, turn in enumerate(["herring", "one", "two", "three"]):
        index.put(record(f"{i}", turn, "talk", i), None, i)
    far = {each.id: each.parts["neighbours"] for each in index.search(Query(text="herring"), None, None, NOW)}
    index.remove(["1"])
    near = {each.id: each.parts["neighbours"] for each in index.search(Query(text="herring"), None, None, NOW)}
    assert far["3"] == 0 < near["3"]


@pytest.mark.parametrize("text", ["", "  ", "the of and", "?!…", "\u200b", "🙂", "ﬁﬀ\u0301", "x" * 10_000, "\ud800"])
def test_any_text_can_be_asked(text):
    index = filled(30)
    assert len(index.search(Query.model_construct(**{**Query().model_dump(), "text": text}), None, None, NOW)) == 10
    index.put(record("new", "before").model_copy(update={"text": text}), None, 99)
    assert "new" in index.ids()


def test_words_without_spaces_are_found_by_a_part_of_them():
    index = filled(30)
    index.put(record("tower", "昨日東京タワーへ行きました"), None, 99)
    assert ids(index.search(Query(text="東京", limit=1), None, None, NOW)) == ["tower"]


def test_without_a_question_the_newest_are_found():
    index = TenantIndex(DIMENSIONS, SMALL, inline)
    for i in range(50):
        index.put(record(f"{i:02d}", "salt", at=NOW - i * 86_400_000), None, i)
    assert ids(index.search(Query(limit=3), None, None, NOW)) == ["00", "01", "02"]


def test_a_vector_of_another_model_is_refused_and_nothing_is_lost():
    index = filled(3)
    with pytest.raises(InvalidInput, match="8 numbers"):
        index.put(record("0001", "new"), np.zeros(4, np.float32), 9)
    with pytest.raises(InvalidInput, match="finite"):
        index.put(record("0001", "new"), np.full(8, np.nan, np.float32), 9)
    assert ids(index.search(Query(text="crate 1", limit=1), None, None, NOW)) == ["0001"]


def test_importance_and_recency_decide_between_equals():
    index = TenantIndex(DIMENSIONS, IndexSettings(), inline)
    old, new = record("a", "salt", at=NOW - 90 * 86_400_000), record("b", "salt")
    vital = record("c", "salt", at=NOW - 90 * 86_400_000).model_copy(update={"importance": 1.0})
    for number, each in enumerate((old, new, vital)):
        index.put(each, None, number)
    found = ids(index.search(Query(text="salt"), None, None, NOW))
    assert found.index("a") == 2


def test_an_index_of_a_thousand_says_about_what_it_takes():
    few, many = filled(100).nbytes, filled(1000).nbytes
    assert few < 200_000
    assert 5 * few < many < 20 * few


@given(st.lists(st.integers(0, 5), max_size=400), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_best_are_those_of_a_sorted_list_and_of_equals_the_last(counts: list[int], count: int):
    """Whatever a sample of the scores says: there are more of them here than are looked at."""
    scores = np.repeat(np.array(counts, np.float32), 9)
    found = _best(scores, count).tolist()
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], -place))[:count]
    assert found == sorted(place for place in order if scores[place] > 0 or len(scores) <= count)
