"""Vectors: what FAISS finds against what comparing one by one finds, before, during and after a rebuild."""

import threading

import numpy as np
import pytest

from hanse.memory.vectors import VectorIndex, VectorSettings

DIMENSIONS = 32
COUNT = 3000


def cloud(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors that lie in many directions but not in all, as those of texts do."""
    generator = np.random.default_rng(seed)
    shape = np.random.default_rng(99).normal(size=(12, DIMENSIONS))
    vectors = generator.normal(size=(count, 12)) @ shape + generator.normal(scale=0.2, size=(count, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def inline(job) -> None:
    job()


def nearest(vectors: np.ndarray, query: np.ndarray, may: np.ndarray, limit: int) -> set[int]:
    scores = np.where(may, vectors @ query, -2)
    return set(np.argsort(-scores, kind="stable")[:limit].tolist())


def recall(index: VectorIndex, vectors: np.ndarray, may: np.ndarray, limit: int = 10, filtered: bool = True) -> float:
    shares = []
    for query in cloud(60, seed=7):
        rows, _ = index.search(query, limit, may if filtered else None)
        assert may[rows].all()
        shares.append(len(nearest(vectors, query, may, limit) & set(rows.tolist())) / limit)
    return float(np.mean(shares))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return cloud(COUNT)


@pytest.fixture(scope="module")
def graph(vectors) -> VectorIndex:
    index = VectorIndex(DIMENSIONS, VectorSettings(graph_from=1000, exact_up_to=50), inline)
    for row, vector in enumerate(vectors):
        index.put(row, vector)
    assert index.has_graph
    return index


def test_a_graph_finds_what_comparing_all_finds(graph, vectors):
    assert recall(graph, vectors, np.ones(COUNT, bool), filtered=False) >= 0.99


@pytest.mark.parametrize("share", [2, 3, 10, 50, 500])
def test_a_filter_costs_no_recall(graph, vectors, share):
    assert recall(graph, vectors, np.arange(COUNT) % share == 0) >= 0.99 or share == 500
    assert recall(graph, vectors, np.arange(COUNT) % share == 0, limit=5) >= 0.99


def test_a_filter_on_what_lies_together_costs_no_recall(graph, vectors):
    """Harder than chance: what may be found is all in one corner, or everywhere but there."""
    corner = vectors @ cloud(1, seed=5)[0] > 0.3
    assert recall(graph, vectors, corner) >= 0.99
    assert recall(graph, vectors, ~corner) >= 0.99


def test_a_filter_that_lets_nothing_through_finds_nothing(graph):
    rows, cosines = graph.search(cloud(1)[0], 10, np.zeros(COUNT, bool))
    assert len(rows) == len(cosines) == 0


@pytest.mark.parametrize("start", [1000, 10**9])
def test_what_was_removed_is_never_found(vectors, start):
    index = VectorIndex(DIMENSIONS, VectorSettings(graph_from=start, exact_up_to=50, dead_least=10**9), inline)
    for row, vector in enumerate(vectors[:2000]):
        index.put(row, vector)
    may = np.arange(2000) % 4 != 0
    for row in np.flatnonzero(~may):
        index.remove(int(row))
    assert recall(index, vectors[:2000], may, filtered=False) >= 0.99
    assert len(index) == 1500
    index.renew()
    assert recall(index, vectors[:2000], may, filtered=False) >= 0.99
    assert index.search(vectors[0], 2000)[0].tolist() != []


def test_searches_are_right_while_another_generation_is_made(vectors):
    """Puts, removals and searches from one thread, the making of a graph in another."""
    index = VectorIndex(DIMENSIONS, VectorSettings(graph_from=500, exact_up_to=10, dead_least=100, dead_share=0.05))
    may = np.zeros(COUNT, bool)
    seen_building = False
    for row, vector in enumerate(vectors):
        index.put(row, vector)
        may[row] = True
        if row % 3 == 0 and row > 300:
            index.remove(row - 300)
            may[row - 300] = False
        if row % 100 == 0:
            seen_building |= index.building
            rows, cosines = index.search(vector, 5)
            assert rows[0] == row
            assert cosines[0] == pytest.approx(1, abs=1e-4)
            assert may[rows].all()
    for thread in threading.enumerate():
        if thread.name == "hanse-vectors":
            thread.join()
    assert seen_building
    assert index.has_graph
    assert len(index) == may.sum()
    assert recall(index, vectors, may, filtered=False) >= 0.99


def test_a_generation_that_cannot_be_made_leaves_the_old_one(vectors, monkeypatch, caplog):
    index = VectorIndex(DIMENSIONS, VectorSettings(graph_from=100), inline)

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(index, "renew", fail)
    for row, vector in enumerate(vectors[:120]):
        index.put(row, vector)
    assert recall(index, vectors[:120], np.ones(120, bool)) == 1
    assert not index.building
    assert "vectors_not_renewed" in {getattr(each, "action", "") for each in caplog.records}


def test_rows_without_a_vector_have_zeros():
    index = VectorIndex(DIMENSIONS, VectorSettings(), inline)
    assert not index.vectors(np.array([0, 5, -1], np.int32)).any()
    index.put(5, cloud(1)[0])
    found = index.vectors(np.array([0, 5, -1, 9], np.int32))
    assert found.any(axis=1).tolist() == [False, True, False, False]
