"""One tenant's index, in memory: what fits a question best, by its words, its meaning and what stands around it.

    the question ──> words (BM25) ───────┐
                 ──> vector (FAISS) ─────┴─> candidates ──> weighed exactly ──> fused ──> the best

The candidates come from the whole tenant by scores that are cheap; what is exact is computed of them alone. A
projection of the log: nothing here is the truth, and everything can be made anew.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..contracts.memory import Query, Record
from .column import Column
from .episodes import REACH, Episodes
from .ports import Allowed, Scored
from .recent import Recent
from .sayings import Sayings
from .text import Neighbours, TextIndex, Word
from .vectors import VectorIndex, VectorSettings, in_background
from .wording import keys_of

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

DAY_MS = 86_400_000
"""Milliseconds of a day."""
_NONE = np.empty(0, np.int32)
LIKELY = 64
"""Candidates that are weighed with the vectors of their neighbours, at least; or twice as many as are asked for."""
NEAR_WORDS = 8
"""Words by which the gate finds what is like a draft, the rarest: what says the same says these too, and the others
stand in too many rows to be looked through at every write."""
NEAR_WIDTH = 32
"""Candidates of the graph for the gate, which takes the best few and looks at their words."""
SAMPLE = 2048
"""Scores that are looked at to know where the best begin."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What each ingredient is worth. Each lies in [0, 1] before it is weighed: a text score is divided by the best
    one's, a cosine too (Fox and Shaw, Combination of Multiple Searches, 1994: CombSUM).
    """

    text: float = 0.0
    """BM25 of the record alone."""
    neighbours: float = 1.0
    """BM25 of the record together with its neighbours; alone where it has none."""
    vector: float = 0.4
    """Cosine of the record."""
    context: float = 0.4
    """Mean cosine of the record and its neighbours."""
    recency: float = 0.02
    importance: float = 0.04
    near: tuple[float, ...] = (0.6, 0.3)
    """What a neighbour counts, by its distance."""
    half_life_days: float = 30.0
    """Of recency."""

    def of_neighbours(self) -> "NDArray[float32]":
        """In the order of `Episodes.around`."""
        near = (*self.near, *(0.0,) * REACH)[:REACH]
        return np.array([1, *near, *near], np.float32)


@dataclass(frozen=True, slots=True)
class IndexSettings:
    weights: Weights = field(default_factory=Weights)
    candidates: int = 128
    """Of the words and of the vectors each, at least; more when more is asked for."""
    looked_around: int = 8
    """Times as many rows, the best by their own words, whose neighbours become candidates with them."""
    vectors: VectorSettings = field(default_factory=VectorSettings)
    dead_share: float = 0.5
    """Share of removed rows at which the rows are numbered anew."""
    dead_least: int = 512


class _Asked(NamedTuple):
    """A question, as the index sees it."""

    words: list[Word]
    scores: "NDArray[float32]"
    """BM25 of every row that may be found."""
    vector: "NDArray[float32] | None"
    may: "NDArray[bool_]"
    """Of each row: live and allowed."""


class TenantIndex:
    """One thread at a time changes it, while nobody searches. Only making a graph anew goes on beside it."""

    def __init__(
        self,
        dimensions: int,
        settings: IndexSettings = IndexSettings(),
        start: Callable[[Callable[[], None]], Any] = in_background,
    ) -> None:
        self._settings = settings
        self._vectors = VectorIndex(dimensions, settings.vectors, start)
        self._text, self._episodes = TextIndex(), Episodes()
        self._live, self._times = Column(np.bool_), Column(np.float64)
        self._importances, self._numbers = Column(np.float32), Column(np.int64)
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._places: dict[int, tuple[str, int | None]] = {}
        """Of the rows that are part of an episode: which, and where."""
        self._row_of_number = Column(np.int32, -1)
        self._sayings: Sayings | None = None
        self._mays: Recent[NDArray[bool_]] = Recent()
        self._words = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def listen(self) -> None:
        self._sayings = Sayings()

    def may_say(self, keys: Collection[str]) -> bool:
        return self._sayings is None or self._sayings.may_say(keys)

    def ids(self) -> set[str]:
        return set(self._rows)

    def put(self, record: Record, vector: "NDArray[float32] | None", number: int) -> None:
        """Adds or replaces. Idempotent. Raises InvalidInput for a vector of other dimensions, and keeps what was."""
        row = len(self._ids)
        if vector is not None:
            self._vectors.put(row, vector)
        if (before := self._rows.pop(record.id, None)) is not None:
            self._drop(before)
        self._append(row, record, number)
        self._text.put(row, record.text)
        if self._sayings is not None:
            self._sayings.put(row, keys_of(record.text))
        self._words += float(self._text.lengths.rows[row])
        self._text.tidy(self._live.rows)
        self._renumber_when_due()

    def remove(self, ids: Iterable[str]) -> None:
        """Unknown ids are passed over."""
        for id in ids:
            if (row := self._rows.pop(id, None)) is not None:
                self._drop(row)
        self._renumber_when_due()

    def search(
        self, query: Query, vector: "NDArray[float32] | None", allowed: Allowed | None, now_ms: int
    ) -> list[Scored]:
        """The best first; of the same score in the order of their ids."""
        asked = self._asked(query.text, vector, allowed)
        wanted = query.limit * (4 if query.diversity or query.token_budget else 1)
        rows = self._candidates(asked, max(self._settings.candidates, 2 * wanted))
        if not len(rows):
            return []
        parts = self._parts(rows, asked, now_ms)
        if asked.vector is not None:
            # The vectors of their neighbours are most of what a search reads, so only the likely ones are asked for.
            likely = _best(self._fused(parts) + 1e-6, max(LIKELY, 2 * wanted))
            rows, parts = rows[likely], {name: values[likely] for name, values in parts.items()}
            parts["context"] = self._context(rows, asked)
        return self._ranked(rows, parts, wanted)

    def near(self, text: str, vector: "NDArray[float32] | None", limit: int) -> list[Scored]:
        """The most similar: by cosine, and by words where there is no vector."""
        words = self._text.words(text, self._live.rows, len(self), NEAR_WORDS)
        scores = self._text.scores(words, self._mean_length())
        rows = _best(scores, limit)
        rows = rows[scores[rows] > 0]
        found = {"text": _of_best(scores[rows])}
        if vector is not None:
            nearest, _ = self._vectors.search(vector, limit, width=NEAR_WIDTH)
            rows = np.union1d(rows, nearest).astype(np.int32)
            found = {"vector": self._vectors.cosines(vector, rows)}
        (total,) = found.values()
        return self._scored(rows, total, found, limit)

    def vectors(self, ids: Iterable[str]) -> "NDArray[float32]":
        """Shape (ids, dimensions); zeros for those that have none."""
        return self._vectors.vectors(np.array([self._rows.get(id, -1) for id in ids], np.int32))

    @property
    def nbytes(self) -> int:
        """About what it takes of the memory."""
        columns = (self._live, self._times, self._importances, self._numbers, self._row_of_number)
        parts = (self._vectors, self._text, self._episodes, *columns)
        sayings = 0 if self._sayings is None else self._sayings.nbytes
        return sum(part.nbytes for part in parts) + sayings + 250 * len(self._ids)

    # Rows

    def _append(self, row: int, record: Record, number: int) -> None:
        self._mays.clear()
        self._rows[record.id] = row
        self._ids.append(record.id)
        self._live.append(True)
        self._times.append(record.created_ms if record.valid_from_ms is None else record.valid_from_ms)
        self._importances.append(record.importance)
        self._numbers.append(number)
        self._row_of_number.reach(number + 1)
        self._row_of_number.rows[number] = row
        self._episodes.put(row, record.episode, record.position)
        if record.episode is not None:
            self._places[row] = (record.episode, record.position)

    def _drop(self, row: int) -> None:
        self._mays.clear()
        self._live.rows[row] = False
        if self._sayings is not None:
            self._sayings.remove(row)
        self._ids[row] = ""
        self._words -= float(self._text.lengths.rows[row])
        number = self._numbers.rows[row]
        if self._row_of_number.rows[number] == row:
            self._row_of_number.rows[number] = -1
        self._episodes.remove(row, *self._places.pop(row, (None, None)))
        self._vectors.remove(row)

    def _renumber_when_due(self) -> None:
        settings, dead = self._settings, len(self._ids) - len(self)
        if dead > max(settings.dead_least, settings.dead_share * len(self._ids)) and not self._vectors.building:
            self._renumber()

    def _renumber(self) -> None:
        """Live rows move together, and nothing of the removed ones stays."""
        self._mays.clear()
        kept = np.flatnonzero(self._live.rows).astype(np.int32)
        moved = np.full(len(self._ids), -1, np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        self._vectors.renumber(moved, len(kept))
        self._text.merge(self._live.rows, moved)
        if self._sayings is not None:
            self._sayings.renumber(kept)
        self._episodes.renumber(moved, kept)
        self._ids = [self._ids[row] for row in kept]
        self._rows = {id: row for row, id in enumerate(self._ids)}
        self._places = {int(moved[row]): place for row, place in self._places.items()}
        for column in (self._live, self._times, self._importances, self._numbers):
            rows = column.rows[kept]
            column.clear()
            column.extend(rows)
        numbers = self._row_of_number.rows
        numbers[numbers >= 0] = moved[numbers[numbers >= 0]]

    # Searching

    def _asked(self, text: str, vector: "NDArray[float32] | None", allowed: Allowed | None) -> _Asked:
        may = self._live.rows if allowed is None else self._mays.of(allowed.numbers, lambda: self._may(allowed))
        words = self._text.words(text, self._live.rows, len(self))
        scores = self._text.scores(words, self._mean_length())
        return _Asked(words, scores if allowed is None else scores * may, vector if len(self._vectors) else None, may)

    def _may(self, allowed: Allowed) -> "NDArray[bool_]":
        """Of each row: live, and allowed."""
        known = allowed.numbers[allowed.numbers < len(self._row_of_number)]
        rows = self._row_of_number.rows[known]
        may = np.zeros(len(self._ids), np.bool_)
        may[rows[rows >= 0]] = True
        return may

    def _candidates(self, asked: _Asked, depth: int) -> "NDArray[int32]":
        """All while they are few. Where the question finds too few, the newest."""
        if (left := int(np.count_nonzero(asked.may))) <= depth:
            return np.flatnonzero(asked.may).astype(np.int32)
        found = list[Any]()
        if asked.words:
            found.append(self._by_words(asked.scores, depth))
        if asked.vector is not None:
            nearest, _ = self._vectors.search(asked.vector, depth, None if left == len(self) else asked.may)
            found += [nearest, self._episodes.around(nearest[: depth // 4]).ravel()]
        rows = _distinct(np.concatenate(found or [_NONE]), len(self._ids))
        rows = rows[asked.may[rows]]
        return rows if len(rows) >= depth // 2 else np.union1d(rows, self._newest(asked.may, depth)).astype(np.int32)

    def _newest(self, may: "NDArray[bool_]", count: int) -> "NDArray[int32]":
        times = self._times.rows - self._times.rows.min()
        return _best(np.where(may, times + 1, 0), count)

    def _by_words(self, scores: "NDArray[float32]", depth: int) -> "NDArray[int32]":
        """The best by their own scores together with their neighbours'."""
        near = self._episodes.around(_best(scores, self._settings.looked_around * depth))
        rows = _distinct(near, len(self._ids))
        near = self._episodes.around(rows)
        together = np.einsum("ij,j->i", np.where(near < 0, 0, scores[near]), self._settings.weights.of_neighbours())
        return rows[_best(together, depth)]

    def _parts(self, rows: "NDArray[int32]", asked: _Asked, now_ms: int) -> "dict[str, NDArray[float32]]":
        """What each ingredient says of each row; those that say nothing of any are left out."""
        weights = self._settings.weights
        near = Neighbours(self._episodes.around(rows), weights.of_neighbours())
        parts: dict[str, NDArray[float32]] = {}
        if asked.words:
            parts["text"] = _of_best(asked.scores[rows])
            parts["neighbours"] = _of_best(self._text.around(asked.words, near, asked.may, self._mean_length()))
        if asked.vector is not None:
            parts["vector"] = self._vectors.cosines(asked.vector, rows)
        age = np.maximum(now_ms - self._times.rows[rows], 0) / DAY_MS
        parts["recency"] = np.exp2(-age / weights.half_life_days).astype(np.float32)
        parts["importance"] = self._importances.rows[rows]
        return parts

    def _context(self, rows: "NDArray[int32]", asked: _Asked) -> "NDArray[float32]":
        """Mean cosine of each and its neighbours."""
        near = Neighbours(self._episodes.around(rows), self._settings.weights.of_neighbours())
        every, of_row = _distinct(near.rows, len(self._ids)), np.zeros(len(self._ids), np.float32)
        if asked.vector is not None:
            of_row[every] = self._vectors.cosines(asked.vector, every)
        weights = near.seen(asked.may)
        return np.einsum("ij,ij->i", of_row[near.rows], weights) / weights.sum(axis=1)

    def _ranked(self, rows: "NDArray[int32]", parts: "dict[str, NDArray[float32]]", limit: int) -> list[Scored]:
        return self._scored(rows, self._fused(parts), parts, limit)

    def _fused(self, parts: "dict[str, NDArray[float32]]") -> "NDArray[float32]":
        weights = {name: getattr(self._settings.weights, name) for name in parts}
        cosines = ("vector", "context")
        total = sum(weights[name] * (_of_best(each) if name in cosines else each) for name, each in parts.items())
        return np.asarray(total, np.float32) / np.float32(max(sum(weights.values()), 1e-9))

    def _scored(
        self, rows: "NDArray[int32]", total: "NDArray[float32]", parts: "dict[str, NDArray[float32]]", limit: int
    ) -> list[Scored]:
        """Scores are rounded, so that what is equal is equal however it was summed up."""
        best = _best(total, limit + 16)
        scores = np.round(total[best].astype(float), 6).tolist()
        ids = [self._ids[row] for row in rows[best]]
        order = sorted(range(len(best)), key=lambda place: (-scores[place], ids[place]))[:limit]
        chosen = {name: values[best].astype(float).round(6).tolist() for name, values in parts.items()}
        return [
            Scored(ids[place], scores[place], {name: values[place] for name, values in chosen.items()})
            for place in order
        ]

    def _mean_length(self) -> float:
        return self._words / max(len(self), 1)


def _of_best(scores: "NDArray[float32]") -> "NDArray[float32]":
    """In [0, 1]: 1 is the best one's, 0 is none."""
    highest = max(float(scores.max(initial=0)), 1e-9)
    return (np.maximum(scores, 0) / highest).astype(np.float32)


def _best(scores: "NDArray[Any]", count: int) -> "NDArray[int32]":
    """Places of the highest, in their order; of the same score the last ones. None of those that say nothing, when
    there are more than asked for.
    """
    if len(scores) <= count:
        return np.arange(len(scores), dtype=np.int32)
    places = _above(scores, count)
    if len(places) > count:
        values = scores[places]
        lowest = np.partition(values, -count)[-count]
        higher, equal = places[values > lowest], places[values == lowest]
        places = np.sort(np.concatenate([higher, equal[len(higher) - count :]]))
    return places.astype(np.int32)


def _above(scores: "NDArray[Any]", count: int) -> "NDArray[Any]":
    """Places of `count` of the highest at least, or of all that say something. A sample says where to cut, so that the
    selection looks at few.
    """
    step = len(scores) // SAMPLE + 1
    sample = np.sort(scores[::step])
    above = int(1.5 * count / step) + 8
    if above < len(sample) / 4 and (cut := sample[-above]) > 0 and np.count_nonzero(places := scores >= cut) >= count:
        return np.flatnonzero(places)
    return np.flatnonzero(scores > 0)


def _distinct(rows: "NDArray[Any]", count: int) -> "NDArray[int32]":
    """Sorted, each once, without -1. All are below `count`."""
    marks = np.zeros(count + 1, np.bool_)
    marks[rows] = True
    return np.flatnonzero(marks[:-1]).astype(np.int32)
