"""How healthy a tenant's memory is: what is said twice, out of date, cut off from its sources, or in dispute.

Each finding is a share of the records that could have it, with a few examples to look at. The score is 100 less the
shares, weighed by what they do to an answer: a contradiction misleads, a duplicate takes up room.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from ..contracts.memory import Layer, Record, State
from .books import is_summary
from .budgets import DAY_MS, size_of
from .facts import contradictions
from .report import Example, Finding, Report
from .wording import fingerprint, wording

EXAMPLES = 5
STALE_DAYS = 180
"""A fact that nobody confirmed for so long is doubtful."""
MAX_BUCKET = 200
"""Records of one bucket that are compared with one another; a bucket of more holds a word that says nothing."""

WEIGHTS: Mapping[str, float] = {
    "contradictory": 40,
    "stale": 20,
    "orphaned": 15,
    "duplicates": 15,
    "unsourced": 10,
}


class _Found(NamedTuple):
    ids: tuple[str, ...]
    why: str


def audit(
    records: Iterable[Record],
    now_ms: int,
    *,
    stale_days: float = STALE_DAYS,
    elsewhere: Collection[str] = frozenset(),
) -> Report:
    """Looks at all records of one tenant, in any state. `elsewhere` are ids that exist and are not among them."""
    everything = list(records)
    live = [record for record in everything if record.state is State.LIVE]
    known = {record.id for record in everything} | set(elsewhere)
    facts = [record for record in live if record.fact is not None]
    derived = [record for record in live if record.provenance.derived_from]
    findings = [
        _finding("duplicates", duplicates(live), live),
        _finding("stale", _stale(live, now_ms, stale_days), live),
        _finding("orphaned", _orphaned(derived, known), derived),
        _finding("unsourced", _unsourced(live), live),
        _finding("contradictory", _contradictory(facts), facts),
    ]
    return Report(
        at_ms=now_ms,
        records=len(live),
        quarantined=sum(record.state is State.QUARANTINED for record in everything),
        superseded=sum(record.state is State.SUPERSEDED for record in everything),
        pinned=sum(record.pinned for record in live),
        bytes=sum(map(size_of, everything)),
        layers={layer.value: sum(record.layer is layer for record in live) for layer in Layer},
        findings=findings,
        score=round(100 - sum(WEIGHTS[each.name] * each.share for each in findings), 1),
    )


def duplicates(live: Sequence[Record]) -> list[_Found]:
    """Records that say what another one of the same scope and event says, each with the first that says it.

    Only records that share one of their three rarest words are compared, so that the work grows with the records and
    not with their square.
    """
    found, first = dict[str, _Found](), dict[tuple[object, ...], Record]()
    for record in live:
        twin = first.setdefault((fingerprint(record.text), *_room(record)), record)
        if twin is not record:
            found[record.id] = _Found((twin.id, record.id), "word for word the same")
    for one, other in _neighbours([record for record in live if record.id not in found]):
        if other.id not in found and _says_no_more(other, one):
            found[other.id] = _Found((one.id, other.id), "says nothing beyond the other")
    return list(found.values())


def _neighbours(records: Sequence[Record]) -> Iterable[tuple[Record, Record]]:
    """Pairs worth a look, the longer text first."""
    frequency: dict[str, int] = defaultdict(int)
    for record in records:
        for word in wording(record.text).stems:
            frequency[word] += 1
    buckets: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda each: -len(each.text)):
        rarest = sorted(wording(record.text).stems, key=lambda word: (frequency[word], word))[:3]
        for word in rarest:
            buckets[(word, *_room(record))].append(record)
    for bucket in buckets.values():
        yield from combinations(bucket[:MAX_BUCKET], 2)


def _room(record: Record) -> tuple[object, ...]:
    """Where a duplicate would be one: the same words of two people, or of two events, are not."""
    event = record.episode if record.layer is Layer.EPISODIC else None
    fact = record.fact.model_dump_json() if record.fact else None
    return (record.scope, record.owner, record.subject, event, fact, repr(record.payload) if record.payload else None)


def _says_no_more(record: Record, other: Record) -> bool:
    said, known = wording(record.text), wording(other.text)
    if is_summary(record) or is_summary(other) or not said.stems:
        return False
    return said.stems <= known.stems and not said.turns(known) and said.shared_order(known) >= 0.5


def _stale(live: Sequence[Record], now_ms: int, stale_days: float) -> Iterable[_Found]:
    for record in live:
        if why := _why_stale(record, now_ms, stale_days):
            yield _Found((record.id,), why)


def _why_stale(record: Record, now_ms: int, stale_days: float) -> str:
    if record.valid_to_ms is not None and record.valid_to_ms <= now_ms:
        return "is not valid any more"
    if record.expires_ms is not None and record.expires_ms <= now_ms:
        return "has expired"
    days = (now_ms - record.updated_ms) / DAY_MS
    old = record.layer is Layer.SEMANTIC and not record.pinned and days > stale_days
    return f"was not confirmed for {days:.0f} days" if old else ""


def _orphaned(derived: Sequence[Record], known: Collection[str]) -> Iterable[_Found]:
    for record in derived:
        if lost := [id for id in record.provenance.derived_from if id not in known]:
            total = len(record.provenance.derived_from)
            yield _Found((record.id,), f"{len(lost)} of its {total} sources are gone")


def _unsourced(live: Sequence[Record]) -> Iterable[_Found]:
    for record in live:
        source = record.provenance
        if not (source.task or source.agent or source.by or source.document or source.derived_from):
            yield _Found((record.id,), "nobody knows where it came from")


def _contradictory(facts: Sequence[Record]) -> Iterable[_Found]:
    for one, other in contradictions(facts):
        if one.fact and other.fact:
            what = f"{other.fact.attribute} of {other.fact.entity}"
            yield _Found((one.id, other.id), f"{what} is {one.fact.value!r} and {other.fact.value!r}")


def _finding(name: str, found: Iterable[_Found], of: Sequence[Record]) -> Finding:
    listed = list(found)
    examples = [Example(ids=list(each.ids), why=each.why) for each in listed[:EXAMPLES]]
    return Finding(name=name, count=len(listed), of=len(of), examples=examples)
