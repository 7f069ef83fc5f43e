"""Forgetting for good: what has to go when some records go, and what a person may see.

What is derived goes with what it was derived from, however many steps away, because a paraphrase cannot be searched
for. The exception keeps its books: a summary made of whole lines of others (`consolidation`) says of each line where it
came from, and loses only the lines of what goes.

    ann's note ── summary of May ── summary of the year        the note goes: both summaries lose its line
              └── a model's conclusion ── another one           both conclusions go

A record on the way may have gone before, by time or for want of room: the graph knows what it stood between as long as
something derived from it lives (`log.drop`), so it is walked through as if it was there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..contracts import JsonObject
from ..contracts.memory import Record, Scope
from .books import LINES, lines_of
from .derivation import closure
from .ports import Erasure, Graph
from .redaction import Values, rewritten


def plan(ids: Sequence[str], graph: Graph) -> Erasure:
    """What forgetting these takes: records, some of which may have gone before, and subjects by their `node_of`."""
    seeds = tuple(dict.fromkeys(ids))
    touched = closure(seeds, graph)
    rewrite, derived = _judged(set(seeds), touched, graph)
    return Erasure.of(seeds, derived, graph, rewrite)


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


class After:
    """A graph as an erasure will leave it, for what is to be done in the same commit."""

    def __init__(self, graph: Graph, erasure: Erasure) -> None:
        self._graph, self._rewrite = graph, erasure.rewrite
        self._gone = {*erasure.delete, *erasure.derived}

    def record(self, id: str) -> Record | None:
        return None if id in self._gone else self._rewrite.get(id) or self._graph.record(id)

    def derived_from(self, id: str) -> list[str]:
        return self._graph.derived_from(id)


# Of whom and of what


def is_about(subject: str, record: Record) -> bool:
    return record.subject == subject or (record.scope is Scope.SUBJECT and record.owner == subject)


def bundle(
    subject: str,
    own: Iterable[str],
    derived: Iterable[str],
    versions: Callable[[str], Sequence[Record]],
    at_ms: int,
) -> JsonObject:
    """All that is kept about a subject, for the subject: every version of its `own` records, and of the `derived` ones.

    `versions` are those of a record, quarantined ones too; none of one that has gone.
    """
    return {
        "subject": subject,
        "at_ms": at_ms,
        "records": [_told(versions(id)) for id in own],
        "derived": [_told(found) for id in derived if (found := versions(id))],
    }


class Mask(Protocol):
    """What is to be masked: a `Pattern`, a `Redactor`, `Values`."""

    def mask(self, text: str) -> str: ...

    def values(self, text: str) -> list[str]:
        """What it would mask, as it stands."""
        ...


def redactions(versions: Iterable[Record], mask: Mask, graph: Graph) -> Erasure:
    """Records as they stand with something masked: those that show it in any version, and what was derived from them.

    What is derived may write the same in another way, `+49 30 90` as `493090`; there the found values are masked in any
    spelling.
    """
    found: dict[str, list[str]] = {}
    for record in versions:
        if rewritten(record, mask.mask) is not record:
            found.setdefault(record.id, []).extend(mask.values(_all_text(record)))
    changed = {id: rewritten(record, mask.mask) for id in found if (record := graph.record(id)) is not None}
    for id, values in found.items():
        spelled = Values(values)
        for derived in closure([id], graph):
            record = changed.get(derived) or graph.record(derived)
            if record is not None and (clean := rewritten(record, spelled.mask)) is not record:
                changed[derived] = clean
    return Erasure(rewrite=changed)


def _told(versions: Sequence[Record]) -> JsonObject:
    return {"id": versions[0].id if versions else "", "versions": [each.model_dump(mode="json") for each in versions]}


def _all_text(record: Record) -> str:
    fact = record.fact
    return "\n".join((record.text, *_texts(record.payload), f"{fact.entity}\n{fact.value}" if fact else ""))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
