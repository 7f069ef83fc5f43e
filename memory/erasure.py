"""Forgetting for good: what has to go when some records go, what a person may see, and the certificate of an erasure.

What is derived goes with what it was derived from, however many steps away, because a paraphrase cannot be searched
for. The exception keeps its books: a summary made of whole lines of others (`consolidation`) says of each line where it
came from, and loses only the lines of what goes.

    ann's note ── summary of May ── summary of the year        the note goes: both summaries lose its line
              └── a model's conclusion ── another one           both conclusions go
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..contracts import Digest, JsonObject, Tenant, digest
from ..contracts.memory import Certificate, Record, Scope
from .ports import Erasure, Graph
from .redaction import Pattern, Values, rewritten

LINES = "lines"
"""In a summary's payload: for each line of its text, the ids that it came through, the original's first."""


def plan(ids: Sequence[str], graph: Graph) -> Erasure:
    """What forgetting these records takes."""
    seeds = tuple(dict.fromkeys(ids))
    touched = closure(seeds, graph)
    rewrite, derived = _judged(set(seeds), touched, graph)
    return Erasure(delete=seeds, derived=tuple(derived), rewrite=rewrite)


def closure(ids: Iterable[str], graph: Graph) -> list[str]:
    """What was derived from these, at any depth, the nearest first; without these. A circle does no harm."""
    seen, level, found = set(ids), list(dict.fromkeys(ids)), list[str]()
    while level:
        level = list(dict.fromkeys(child for id in level for child in graph.derived_from(id) if child not in seen))
        seen.update(level)
        found += level
    return found


def _judged(seeds: set[str], touched: Sequence[str], graph: Graph) -> tuple[dict[str, Record], list[str]]:
    """Which of the derived records stay in part, and which go.

    A summary that drawn on something that goes is looked at again when more has gone, until nothing changes.
    """
    going, rewrite = set(seeds), dict[str, Record]()
    open_ = list(touched)
    changed = True
    while changed:
        changed = False
        for id in [each for each in open_ if each not in going]:
            record = graph.record(id)
            left = _without(record, going) if record is not None else None
            if left is None:
                going.add(id)
                rewrite.pop(id, None)
                changed = True
            else:
                rewrite[id] = left
    return rewrite, [id for id in touched if id in going]


def _without(record: Record, going: set[str]) -> Record | None:
    """What is left of a summary without the lines of what goes. None for what keeps no books, or has no line left."""
    books = lines_of(record)
    if books is None:
        return None
    text = record.text.split("\n")
    kept = [number for number, through in enumerate(books) if not going & set(through)]
    if not kept:
        return None
    sources = tuple(id for id in record.provenance.derived_from if id not in going)
    return record.model_copy(
        update={
            "text": "\n".join(text[number] for number in kept),
            "payload": {**record.payload, LINES: [books[number] for number in kept]},
            "provenance": record.provenance.model_copy(update={"derived_from": sources}),
        }
    )


def lines_of(record: Record) -> list[list[str]] | None:
    """Where each line of a summary came from; None when the record does not say it of every line."""
    books: Any = record.payload.get(LINES)
    complete = isinstance(books, list) and len(books) == len(record.text.split("\n")) and all(books)
    return books if complete and all(isinstance(through, list) for through in books) else None


# Of whom and of what


def about(subject: str, versions: Iterable[Record]) -> list[str]:
    """Ids of the records about a subject: those that name it in any of their versions, or are scoped to it."""
    return list(dict.fromkeys(record.id for record in versions if is_about(subject, record)))


def is_about(subject: str, record: Record) -> bool:
    return record.subject == subject or (record.scope is Scope.SUBJECT and record.owner == subject)


def bundle(subject: str, versions: Sequence[Record], graph: Graph, at_ms: int) -> JsonObject:
    """All that is kept about a subject, for the subject: every version, and what was derived from it.

    `versions` are all versions of all records of the tenant, quarantined ones too.
    """
    own = about(subject, versions)
    derived = closure(own, graph)
    by_id: dict[str, list[Record]] = {}
    for record in versions:
        by_id.setdefault(record.id, []).append(record)
    return {
        "subject": subject,
        "at_ms": at_ms,
        "records": [_told(by_id.get(id, [])) for id in own],
        "derived": [_told(by_id.get(id, [])) for id in derived],
    }


def redactions(records: Iterable[Record], pattern: Pattern, graph: Graph) -> dict[str, Record]:
    """Records as they stand with a pattern masked, by id: those that show it, and what was derived from them.

    What is derived may write the same in another way, `+49 30 90` as `493090`; there the found values are masked in any
    spelling.
    """
    changed, values = dict[str, Record](), dict[str, list[str]]()
    for record in records:
        if (clean := rewritten(record, pattern.mask)) is not record:
            changed[record.id] = clean
            values[record.id] = pattern.values(_all_text(record))
    for id, found in values.items():
        mask = Values(found)
        for derived in closure([id], graph):
            record = changed.get(derived) or graph.record(derived)
            if record is not None and (clean := rewritten(record, mask.mask)) is not record:
                changed[derived] = clean
    return changed


def _told(versions: Sequence[Record]) -> JsonObject:
    return {"id": versions[0].id if versions else "", "versions": [each.model_dump(mode="json") for each in versions]}


def _all_text(record: Record) -> str:
    fact = record.fact
    return "\n".join((record.text, repr(record.payload), f"{fact.entity}\n{fact.value}" if fact else ""))


# Certificates


def certify(
    id: str,
    tenant: Tenant,
    erasure: Erasure,
    places: Mapping[str, int],
    *,
    by: str,
    at_ms: int,
    subject: str | None = None,
) -> Certificate:
    """The certificate of an erasure that was carried out. It holds ids and counts, and nothing that was erased."""
    certificate = Certificate(
        id=id,
        tenant=tenant,
        subject=subject,
        at_ms=at_ms,
        by=by,
        records=sorted(erasure.delete),
        derived=sorted({*erasure.derived, *erasure.rewrite}),
        places=dict(sorted(places.items())),
        digest="",
    )
    return certificate.model_copy(update={"digest": digest_of(certificate)})


def digest_of(certificate: Certificate) -> Digest:
    """Over everything in it but the digest itself, as canonical JSON."""
    return digest(certificate.model_dump(mode="json", exclude={"digest"}))


def is_genuine(certificate: Certificate) -> bool:
    """Whether it says what it said when it was made."""
    return certificate.digest == digest_of(certificate)
