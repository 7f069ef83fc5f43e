"""The books that a summary keeps: for each line of its text, where it came from.

They let an erasure take out single lines, also of a summary of summaries, and tell a summary from what happened.

What a record was made of outlives its sources: `sources_of` names them, and a subject, of whom nothing may be there any
more, stands among them by its `node_of`.
"""

from typing import Any

from ..contracts.memory import Draft, Record

KIND = "summary"
"""`kind` in the payload of a summary."""
LINES = "lines"
"""In its payload: for each line of its text, the ids that it came through, the original's first."""


_SUBJECT = "subject:"
"""Before the name of a subject where ids of records stand. No id begins so."""


def node_of(subject: str) -> str:
    """Stands for a subject among the sources of what is left of its records. `memory.sql` writes it too."""
    return _SUBJECT + subject


def sources_of(record: Record) -> set[str]:
    """What it names as its sources: those it was derived from, and those that its lines came through."""
    through = (id for line in lines_of(record) or () for id in line)
    return {*record.provenance.derived_from, *(id for id in through if isinstance(id, str))}


def is_summary(record: Draft) -> bool:
    """Whether consolidation made it."""
    return record.payload.get("kind") == KIND


def lines_of(record: Record) -> list[list[str]] | None:
    """Where each line of a summary came from; None when the record does not say it of every line."""
    books: Any = record.payload.get(LINES)
    complete = isinstance(books, list) and len(books) == len(record.text.split("\n")) and all(books)
    return books if complete and all(isinstance(through, list) for through in books) else None
