"""A projection of the log: index and tables over the same records, by the same numbers, and how work at it is done."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..contracts.memory import Query
from .access import View
from .log import Kept
from .ports import Allowed, Index, Scored
from .tables import Database, Tables

Result = TypeVar("Result")

SMALL = 20_000
"""Records up to which a question is answered on the spot: a thread would cost more than it frees."""


class Projection:
    """Index and tables over the same records, by the same numbers. One thread at a time calls it."""

    def __init__(self, index: Index, database: Database) -> None:
        self.index = index
        self.tables = Tables(database)
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, each: Kept, known_ms: int | None = None, ended_ms: int | None = None) -> None:
        self._drop(each.record.id)
        number, self._next = self._next, self._next + 1
        self._numbers[each.record.id], self._ids[number] = number, each.record.id
        self.tables.put(number, each.record, known_ms, ended_ms)
        self.index.put(each.record, each.vector, number)

    def remove(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._drop(id)
        self.index.remove(ids)

    def search(self, query: Query, vector: Any, view: View, now_ms: int) -> list[Scored]:
        if not query.text.strip():
            return self._newest(query, view, now_ms)
        numbers = self.tables.allowed(query, view, now_ms)
        if numbers is None:
            return self.index.search(query, vector, None, now_ms)
        allowed = Allowed(numbers, lambda: [self._ids[int(number)] for number in numbers])
        return self.index.search(query, vector, allowed, now_ms) if len(numbers) else []

    def ids(self) -> set[str]:
        return set(self._numbers)

    def close(self) -> None:
        self.tables.close()

    def _newest(self, query: Query, view: View, now_ms: int) -> list[Scored]:
        numbers = self.tables.newest(query, view, now_ms, query.limit)
        return [Scored(self._ids[number], 1 - i / len(numbers), {"recency": 1.0}) for i, number in enumerate(numbers)]

    def _drop(self, id: str) -> None:
        if (number := self._numbers.pop(id, None)) is not None:
            del self._ids[number]
            self.tables.remove(number)


def comparable(each: Kept, model: str) -> Kept:
    """With its vector, if that is of this model: vectors of two models say nothing of one another."""
    return each if each.record.embedding == model else Kept(each.record, None)


async def aside(projection: Projection, work: Callable[..., Result], *arguments: Any) -> Result:
    """On the spot while the projection is small, else in a thread."""
    if len(projection) <= SMALL:
        return work(*arguments)
    return await to_its_end(work, *arguments)


async def to_its_end(work: Callable[..., Result], *arguments: Any) -> Result:
    """Done in a thread. Ends with the work, also for a caller who leaves: the next one must not find it under way."""
    thread = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise
