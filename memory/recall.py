"""From what was found to what is answered: which hits, how many tokens they take, and why each is there."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..contracts.memory import Hit, Query, Recollection, Record
from .analysis import terms, terms_beginning, words
from .ports import Index, Scored

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

CLOSE, RELATED = 0.5, 0.3
"""Cosines from which on two texts are called close, or related. Sentences that have nothing to do with one another
seldom reach the second with the embedders of the MiniLM family.
"""
SHOWN_WORDS = 4
"""Of the question, in the reason of a hit: more of them explain no more."""
_PIECE = re.compile(r"[^\W_]+|[^\w\s]|_")


def recollect(
    query: Query, scored: Sequence[Scored], records: Mapping[str, Record], index: Index, *, now_ms: int
) -> Recollection:
    """The hits, best first, as many as are asked for and fit the budget, with the labels of all of them."""
    present = [each for each in scored if each.id in records]
    if query.diversity > 0:
        present = diverse(present, query.diversity, query.limit, similarities(present, records, index))
    asked = _asked(query.text)
    hits = pack((_hit(query, asked, each, records[each.id]) for each in present), query.limit, query.token_budget)
    return Recollection(hits=hits, labels=sorted({label for hit in hits for label in hit.record.labels}))


def pack(hits: Iterable[Hit], limit: int, budget: int | None) -> list[Hit]:
    """In their order; one that does not fit any more is passed over, because a shorter one after it may."""
    packed, left = list[Hit](), math.inf if budget is None else budget
    for hit in hits:
        if len(packed) == limit:
            break
        if hit.tokens <= left:
            packed.append(hit)
            left -= hit.tokens
    return packed


def diverse(scored: Sequence[Scored], diversity: float, limit: int, similar: "NDArray[float32]") -> list[Scored]:
    """In the order in which each adds most: its score, less what it shares with those before it (maximal marginal
    relevance: Carbonell and Goldstein, SIGIR 1998). All of them, the first `limit` so chosen. `similar` has their
    similarities, shape (scored, scored), in [0, 1].
    """
    scores = np.array([each.score for each in scored])
    shared, left, order = np.zeros(len(scored)), list(range(len(scored))), list[int]()
    while left and len(order) < limit:
        gains = (1 - diversity) * scores[left] - diversity * shared[left]
        best = left.pop(int(np.argmax(gains)))
        order.append(best)
        shared = np.maximum(shared, similar[best])
    return [scored[place] for place in (*order, *left)]


def similarities(scored: Sequence[Scored], records: Mapping[str, Record], index: Index) -> "NDArray[float32]":
    """Cosines of the vectors; where there are none, the share of common words (Jaccard)."""
    vectors = index.vectors([each.id for each in scored])
    similar = np.clip(vectors @ vectors.T, 0, 1)
    said = [frozenset(terms(records[each.id].text)) for each in scored]
    for place in np.flatnonzero(~vectors.any(axis=1)):
        shared = [len(said[place] & other) / max(len(said[place] | other), 1) for other in said]
        similar[place, :] = similar[:, place] = shared
    return similar


def tokens(text: str) -> int:
    """About how many a model makes of it, rather too many: one for four letters of a word, one for every other sign.

    Models cut texts differently; this needs none of them.
    """
    pieces = _PIECE.findall(text)
    if text.isascii():
        return sum([(len(piece) + 3) // 4 for piece in pieces])
    return sum(-(-len(piece) // 4) if piece.isascii() else len(piece) for piece in pieces)


def why(query: Query, each: Scored, record: Record) -> str:
    """What spoke for it, the weightiest first."""
    return _why(query, _asked(query.text), each, record)


def _why(query: Query, asked: Mapping[int, str], each: Scored, record: Record) -> str:
    return "; ".join(_reasons(query, asked, each, record)) or "it fits the filters"


def _hit(query: Query, asked: Mapping[int, str], each: Scored, record: Record) -> Hit:
    return Hit(
        record=record,
        score=min(max(each.score, 0.0), 1.0),
        why=_why(query, asked, each, record),
        parts=dict(each.parts),
        tokens=tokens(record.text),
    )


def _reasons(query: Query, asked: Mapping[int, str], each: Scored, record: Record) -> Iterator[str]:
    parts = each.parts
    if said := _shared_words(asked, record.text):
        yield f"says {', '.join(f'“{word}”' for word in said)}"
    if (cosine := parts.get("vector", 0)) >= RELATED:
        yield f"{'close' if cosine >= CLOSE else 'related'} in meaning ({cosine:.2f})"
    if record.episode is not None and _is_carried(parts):
        yield "what was said around it fits"
    if parts.get("recency", 0) >= 0.5:
        yield "recent" if query.text.strip() else "among the newest"
    if record.pinned or record.importance >= 0.8:
        yield "pinned" if record.pinned else "important"


def _is_carried(parts: Mapping[str, float]) -> bool:
    """Whether its neighbours say more of it than it does itself."""
    by_words = parts.get("neighbours", 0) > max(0.3, parts.get("text", 0))
    return by_words or parts.get("context", 0) > max(RELATED, parts.get("vector", 0))


def _asked(question: str) -> dict[int, str]:
    """Words of a question, as it has them, by their terms."""
    found = dict[int, str]()
    for word in words(question):
        for term in terms(word):
            found.setdefault(term, word)
    return found


def _shared_words(asked: Mapping[int, str], text: str) -> list[str]:
    """Words of the question that the text says too; a few."""
    said = terms_beginning(text, {word[0] for word in asked.values()})
    return [word for term, word in asked.items() if term in said][:SHOWN_WORDS]
