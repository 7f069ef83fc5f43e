"""How much a tenant may keep, and what goes first when it is more.

The order, each from the least valuable: what has expired; what was quarantined, the oldest first; working notes;
earlier versions that only queries of the past find; what a summary already tells; then everything else by its worth.
Pinned records never go: where they alone are over the budget, the budget is refused and not kept by force.

The worth of a record is its importance times its confidence, halved for every `half_life_days` that it was not
changed: the forgetting curve that generative agents use for recall (Park et al., 2023), with importance as its scale.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from ..contracts.memory import Layer, Record, State

DAY_MS = 86_400_000
"""Milliseconds of a day."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one tenant. None is without limit."""

    records: int | None = None
    bytes: int | None = None
    """Of texts and payloads, in UTF-8."""
    half_life_days: float = 30


class Eviction(NamedTuple):
    """A record that goes, and why."""

    id: str
    reason: str


class Overflow(NamedTuple):
    """What to evict, and whether that is enough."""

    evictions: list[Eviction]
    records: int
    """Kept then."""
    bytes: int
    fits: bool


def overflow(
    records: Iterable[Record], budget: Budget, now_ms: int, *, summarised: Collection[str] = frozenset()
) -> Overflow:
    """What has to go, in the order in which it goes. What has expired goes also where there is room.

    `summarised` are ids of records that a summary was made of.
    """
    ranked = sorted((_rank(record, budget, now_ms, summarised) for record in records), key=lambda each: each.order)
    count, size = len(ranked), sum(each.size for each in ranked)
    evictions = list[Eviction]()
    for each in ranked:
        if each.order[0] and _fits(count, size, budget):
            break
        if each.record.pinned:
            continue
        evictions.append(Eviction(each.record.id, _REASONS[each.order[0]]))
        count, size = count - 1, size - each.size
    return Overflow(evictions, count, size, _fits(count, size, budget))


def size_of(record: Record) -> int:
    """Bytes that count."""
    return len(record.text.encode()) + (len(orjson.dumps(record.payload)) if record.payload else 0)


def worth(record: Record, now_ms: int, half_life_days: float) -> float:
    """In [0, 1]."""
    age_days = max(0.0, (now_ms - record.updated_ms) / DAY_MS)
    return record.importance * record.confidence * 0.5 ** (age_days / half_life_days)


_REASONS = (
    "has expired",
    "was quarantined",
    "was a working note",
    "is an earlier version",
    "is told by a summary",
    "is worth least",
)


class _Ranked(NamedTuple):
    order: tuple[int, float, int]
    size: int
    record: Record


def _rank(record: Record, budget: Budget, now_ms: int, summarised: Collection[str]) -> _Ranked:
    last = record.updated_ms if record.state is State.QUARANTINED else worth(record, now_ms, budget.half_life_days)
    return _Ranked((_group(record, now_ms, summarised), last, record.created_ms), size_of(record), record)


def _group(record: Record, now_ms: int, summarised: Collection[str]) -> int:
    if record.expires_ms is not None and record.expires_ms <= now_ms and not record.pinned:
        return 0
    if record.state is State.QUARANTINED:
        return 1
    if record.layer is Layer.WORKING:
        return 2
    if record.state is State.SUPERSEDED:
        return 3
    return 4 if record.id in summarised and record.layer is Layer.EPISODIC else 5


def _fits(count: int, size: int, budget: Budget) -> bool:
    return (budget.records is None or count <= budget.records) and (budget.bytes is None or size <= budget.bytes)
