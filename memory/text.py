"""BM25 over the texts of one tenant: which words stand in which rows, and what a row's words are worth to a question.

Of each word there are the rows that it stands in: in parts that are sorted by word, each several times as large as the
next, and in what came since, in the order of its coming, which is small enough to be looked through. So a write is seen
at once and costs what its words cost. Removed rows are passed over, and dropped when parts are merged.

A conversation says little in one turn: what it is about stands in the turns around it. `around` therefore weighs a
row's words together with those of its neighbours: each word's count first and the saturation after, which asks that
many words of the question are near, not that one is often there.

A library's index (tantivy) was weighed against this: a write that is to be seen at once costs it 3.5 ms of processor
time, a tenant of a hundred records 2.4 MB, and it gives scores of its best rows alone; here it is 0.05 ms, 40 kB, and
every row's score, which filters, neighbours and fusion ask for. SQLite's FTS5, which is there with `apsw` already,
takes a write as cheaply (0.04 ms for one in and one out), but walks the rows that have any word of a question one by
one: among 100,000 records 27 ms of processor time for every score, 30 ms for the best thousand, where this takes 0.34.

    BM25: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009). Its statistics are those of the live
    rows, so the scores are those of an index made anew.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .analysis import terms
from .column import Column

if TYPE_CHECKING:
    from numpy import bool_, float32, int32, int64
    from numpy.typing import NDArray

K1 = 1.2
"""How soon a word that is repeated counts no more."""
B = 0.75
"""How much a long text has to say more often what a short one says once."""
MERGE_AT = 1 << 12
"""Entries that are looked through, before they become a part."""
MERGE_SHARE = 8
"""A part is merged into the one before it when that is less than so many times as large."""
LONGEST_QUESTION = 64
"""Different words of a question that count; of a longer one the rarest."""

RARE = 8192
"""Rows that the rarest words of a text are looked up in, all of them together."""


class Word(NamedTuple):
    """A word of the question, where it stands and what it is worth there."""

    rows: "NDArray[int32]"
    counts: "NDArray[float32]"
    worth: float


class Part(NamedTuple):
    """Entries sorted by word: those of `terms[i]` are from `starts[i]` up to `starts[i + 1]`."""

    terms: "NDArray[int64]"
    starts: "NDArray[int64]"
    rows: "NDArray[int32]"
    counts: "NDArray[float32]"

    @staticmethod
    def of(terms: "NDArray[int64]", rows: "NDArray[int32]", counts: "NDArray[float32]") -> "Part":
        order = np.argsort(terms, kind="stable")
        words, starts = np.unique(terms[order], return_index=True)
        return Part(words, np.append(starts, len(terms)).astype(np.int64), rows[order], counts[order])

    def every_term(self) -> "NDArray[int64]":
        """That of each entry."""
        return np.repeat(self.terms, np.diff(self.starts))

    def place(self, term: int) -> slice:
        """Where a word's entries are."""
        at = int(self.terms.searchsorted(term))
        if at == len(self.terms) or self.terms[at] != term:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def spread(self, terms: "NDArray[int64]") -> "NDArray[int64]":
        """How many entries each has."""
        at = self.terms.searchsorted(terms)
        there = self.terms.take(at, mode="clip") == terms
        at = np.where(there, at, 0)
        return np.where(there, self.starts[at + 1] - self.starts[at], 0)

    @property
    def nbytes(self) -> int:
        return self.terms.nbytes + self.starts.nbytes + self.rows.nbytes + self.counts.nbytes


class Neighbours(NamedTuple):
    """Which rows stand around which: `weights[i]` for `rows[:, i]`; -1 is none. The first is the row itself."""

    rows: "NDArray[int32]"
    weights: "NDArray[float32]"

    def seen(self, allowed: "NDArray[bool_]") -> "NDArray[float32]":
        """Their weights, nothing for those that are none or not allowed."""
        return np.where((self.rows >= 0) & allowed[self.rows], self.weights, np.float32(0))


class TextIndex:
    """Rows are numbered by whoever calls, from zero upwards; each is put once."""

    def __init__(self) -> None:
        self.lengths = Column(np.float32)
        """Words of each row."""
        self._parts: list[Part] = []
        """The largest first."""
        self._new_terms, self._new_rows, self._new_counts = Column(np.int64), Column(np.int32), Column(np.float32)

    def put(self, row: int, text: str) -> None:
        counted = Counter(terms(text))
        self.lengths.reach(row + 1)
        self.lengths.rows[row] = counted.total()
        self._new_terms.extend(np.fromiter(counted.keys(), np.int64, len(counted)))
        self._new_rows.extend(np.full(len(counted), row, np.int32))
        self._new_counts.extend(np.fromiter(counted.values(), np.float32, len(counted)))

    def tidy(self, live: "NDArray[bool_]") -> None:
        """Merges what came since into the parts when it is time, and small parts into larger ones."""
        if len(self._new_terms) <= MERGE_AT:
            return
        self._parts.append(self._merged([], live))
        while len(self._parts) > 1 and len(self._parts[-2].rows) < MERGE_SHARE * len(self._parts[-1].rows):
            self._parts[-2:] = [self._merged(self._parts[-2:], live)]

    def merge(self, live: "NDArray[bool_]", moved: "NDArray[int32] | None" = None) -> None:
        """One part of all, without what is not live. `moved` has the new row of each old one, where rows change."""
        one = self._merged(self._parts, live)
        self._parts = [one if moved is None else one._replace(rows=moved[one.rows])]
        if moved is not None:
            lengths, self.lengths = self.lengths.rows[live], Column(np.float32)
            self.lengths.extend(lengths)

    def _merged(self, parts: Sequence[Part], live: "NDArray[bool_]") -> Part:
        """One part of some and of what came since, which is empty then."""
        new = (self._new_terms, self._new_rows, self._new_counts)
        terms = np.concatenate([*(each.every_term() for each in parts), new[0].rows])
        rows = np.concatenate([*(each.rows for each in parts), new[1].rows])
        counts = np.concatenate([*(each.counts for each in parts), new[2].rows])
        for column in new:
            column.clear()
        kept = live[rows]
        return Part.of(terms[kept], rows[kept], counts[kept])

    def words(self, text: str, live: "NDArray[bool_]", total: int, most: int | None = None) -> list[Word]:
        """Those of the question that stand in a live row; `most` of them, the rarest. `total` is how many rows live."""
        counted = Counter(terms(text))
        asked = [*counted] if most is None else self._rarest(counted, most)
        found = [self._word(term, counted[term], live, total) for term in asked]
        present = [word for word in found if len(word.rows)]
        return sorted(present, key=lambda word: -word.worth)[:LONGEST_QUESTION]

    def scores(self, words: Sequence[Word], mean: float) -> "NDArray[float32]":
        """BM25 of every row. `mean` is the mean length of the live rows."""
        scores = np.zeros(len(self.lengths), np.float32)
        for rows, counts, worth in words:
            at = rows.astype(np.intp)  # once, and not for each of its uses
            room = _room(self.lengths.rows.take(at), mean)
            scores[at] += worth * (K1 + 1) * counts / (counts + room)
        return scores

    def around(
        self, words: Sequence[Word], near: Neighbours, allowed: "NDArray[bool_]", mean: float
    ) -> "NDArray[float32]":
        """BM25 of each row of `near.rows[:, 0]`, its words counted together with its neighbours'.

        What is not `allowed` counts for nobody: who may not read a record shall not feel it either.
        """
        weights = near.seen(allowed)
        room = _room(_sums(self.lengths.rows[near.rows], weights) / weights.sum(axis=1), mean)
        scores, counted = np.zeros(len(near.rows), np.float32), np.zeros(len(self.lengths), np.float32)
        concerned = np.zeros(len(self.lengths), np.bool_)
        concerned[near.rows] = True
        for rows, counts, worth in words:
            at = np.flatnonzero(concerned.take(rows))  # of many rows that have a word, few are asked about
            some = rows.take(at)
            counted[some] = counts.take(at)
            together = _sums(counted[near.rows], weights)
            scores += worth * (K1 + 1) * together / (together + room)
            counted[some] = 0
        return scores

    @property
    def nbytes(self) -> int:
        columns = (self._new_terms, self._new_rows, self._new_counts, self.lengths)
        return sum(part.nbytes for part in self._parts) + sum(column.nbytes for column in columns)

    def _rarest(self, asked: Iterable[int], most: int) -> list[int]:
        """Of those that stand anywhere, as long as all of them together stand in `RARE` rows at most; one at least."""
        terms = np.fromiter(asked, np.int64)
        spread = (self._new_terms.rows[:, None] == terms).sum(axis=0)
        for part in self._parts:
            spread += part.spread(terms)
        order = [place for place in np.argsort(spread, kind="stable") if spread[place]][:most]
        few = int(np.searchsorted(np.cumsum(spread[order]), RARE, side="right"))
        return terms[order[: max(few, 1)]].tolist()

    def _word(self, term: int, times: int, live: "NDArray[bool_]", total: int) -> Word:
        old = [(part.rows[at], part.counts[at]) for part in self._parts if (at := part.place(term)).stop]
        new = np.flatnonzero(self._new_terms.rows == term)
        if len(new) or len(old) != 1:
            old.append((self._new_rows.rows[new], self._new_counts.rows[new]))
            rows, counts = (np.concatenate(each) for each in zip(*old, strict=True))
        else:
            [(rows, counts)] = old
        if total < len(live) and not (alive := live.take(rows)).all():
            rows, counts = rows[alive], counts[alive]
        return Word(rows, counts, times * math.log(1 + (total - len(rows) + 0.5) / (len(rows) + 0.5)))


def _sums(values: "NDArray[float32]", weights: "NDArray[float32]") -> "NDArray[float32]":
    """Of each row."""
    return np.einsum("ij,ij->i", values, weights)


def _room(lengths: "NDArray[float32]", mean: float) -> "NDArray[float32]":
    """What a count is held against: it counts half where it is equal."""
    return K1 * (1 - B + B * lengths / max(mean, 1e-6))
