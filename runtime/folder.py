"""A data folder with no federation running: the coordinators' stores in it, to look at. Nothing is written."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..contracts import NotFound, TaskId
from ..contracts.ids import shard_of
from .replay import Replay, replay
from .store.reading import StoreReader

_SHARD = re.compile(r"coordinator-(\d+)\.sqlite")
_PAGE = 1000


def shards(data: Path) -> dict[int, Path]:
    """The stores of the coordinators, by shard. Empty where there is none."""
    found = {int(match[1]): path for path in data.glob("*.sqlite") if (match := _SHARD.fullmatch(path.name))}
    return dict(sorted(found.items()))


def replayed(data: Path, task: str) -> Replay:
    """One task, read again. Raises NotFound, and Corrupt for what is no journal."""
    try:
        path = shards(data).get(shard_of(TaskId(task)))
    except ValueError:
        path = None
    if path is not None:
        with _opened(path) as store:
            if store.read("task", (task,)):
                return replay(rows(store, task))
    raise NotFound(f"there is no task {task} in {data}", task=task)


def all_replayed(data: Path) -> Iterator[Replay]:
    """Every task of the folder, one after the other."""
    for path in shards(data).values():
        with _opened(path) as store:
            for (task,) in tasks(store):
                yield replay(rows(store, task))


def open_tasks(data: Path) -> Iterator[tuple[TaskId, list[tuple[Any, ...]]]]:
    """The tasks that have not ended, each with its entries."""
    for path in shards(data).values():
        with _opened(path) as store:
            for (task,) in store.read("open_tasks"):
                yield TaskId(task), list(rows(store, task))


def tasks(store: StoreReader) -> Iterator[tuple[str]]:
    """Ids, oldest first, in pages."""
    page = store.read("task_ids", ("", _PAGE))
    while page:
        yield from ((row[0],) for row in page)
        page = store.read("task_ids", (page[-1][0], _PAGE))


def rows(store: StoreReader, task: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Entries of one task, oldest first: sequence, entry, hash."""
    page = store.read("entries_of_task", (task, 0, _PAGE))
    while page:
        yield from page  # type: ignore[misc]
        page = store.read("entries_of_task", (task, page[-1][0], _PAGE))


@contextmanager
def _opened(path: Path) -> Iterator[StoreReader]:
    with closing(StoreReader(path, "journal")) as store:
        yield store
