"""The books that a summary keeps: for each line of its text, where it came from.

They let an erasure take out single lines, also of a summary of summaries, and tell a summary from what happened.
"""

from typing import Any

from ..contracts.memory import Draft, Record

KIND = "summary"
"""`kind` in the payload of a summary."""
LINES = "lines"
"""In its payload: for each line of its text, the ids that it came through, the original's first."""


def is_summary(record: Draft) -> bool:
    """Whether consolidation made it."""
    return record.payload.get("kind") == KIND


def lines_of(record: Record) -> list[list[str]] | None:
    """Where each line of a summary came from; None when the record does not say it of every line."""
    books: Any = record.payload.get(LINES)
    complete = isinstance(books, list) and len(books) == len(record.text.split("\n")) and all(books)
    return books if complete and all(isinstance(through, list) for through in books) else None
