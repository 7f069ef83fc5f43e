"""A data folder with no federation running: the coordinators' stores in it, to look at. Nothing is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ..contracts import Contract, NotFound, TaskId
from ..contracts.ids import shard_named, shard_of
from ..contracts.plain import unpack
from .replay import Replay, replay
from .store.place import Place, place_of

_PAGE = 1000
Row = tuple[int, bytes, bytes]
"""Sequence, entry, hash."""


class Shelf:
    """One coordinator's store. A context manager."""

    def __init__(self, place: Place, name: str, shard: int) -> None:
        self._place = place
        self.name = name
        self.shard = shard

    def __enter__(self) -> Self:
        self._store = self._place.reader(self.name, "journal")
        return self

    def __exit__(self, *exc: object) -> None:
        self._store.close()

    def has(self, task: str) -> bool:
        return bool(self._store.read("task", (task,)))

    def tasks(self) -> Iterator[TaskId]:
        """All of them, oldest first."""
        yield from (TaskId(row[0]) for row in self._pages("task_ids", "", ()))

    def open_tasks(self) -> list[TaskId]:
        return [TaskId(task) for (task,) in self._store.read("open_tasks")]

    def entries(self, task: str) -> Iterator[Row]:
        """Of one task, oldest first."""
        yield from self._pages("entries_of_task", 0, (task,))  # type: ignore[misc]

    def contract(self, digest: str) -> Contract | None:
        """One that an agent has offered; None in a store of before they were kept."""
        rows = self._store.read("contract", (digest,)) if self._store.has("contract") else []
        return Contract.from_data(unpack(rows[0][0])) if rows else None

    def _pages(self, query: str, after: Any, before: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        while page := self._store.read(query, (*before, after, _PAGE)):
            yield from page
            after = page[-1][0]


def shelves(place: Place) -> list[Shelf]:
    """The coordinators' stores in a place, by shard. Empty where there is none."""
    found = {shard: name for name in place.names() if (shard := shard_named(name)) is not None}
    return [Shelf(place, name, shard) for shard, name in sorted(found.items())]


def replayed(data: Path, task: str) -> Replay:
    """One task, read again. Raises NotFound, and Corrupt for what is no journal."""
    try:
        shard = shard_of(TaskId(task))
    except ValueError:
        shard = None
    for shelf in shelves(place_of(data)):
        if shelf.shard == shard:
            with shelf:
                if shelf.has(task):
                    return replay(shelf.entries(task))
    raise NotFound(f"there is no task {task} in {data}", task=task)


def all_replayed(data: Path) -> Iterator[Replay]:
    """Every task of the folder, one after the other."""
    for shelf in shelves(place_of(data)):
        with shelf:
            for task in shelf.tasks():
                yield replay(shelf.entries(task))
