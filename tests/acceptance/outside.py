"""Looks at what a federation left behind, from outside: its journals and stores, the world it acted on, and the
client's own log. Nothing here asks the federation itself."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from hanse.contracts import Event, TaskId
from hanse.contracts.wire import decode_event
from hanse.runtime.execution import Run, fold
from hanse.runtime.journal import verify
from hanse.runtime.store.statements import load_statements

from ..support.referee import referee
from .town import heard_keys


class Reader:
    """A store's file, read only."""

    def __init__(self, path: Path, schema: str) -> None:
        self._connection = apsw.Connection(
            f"file:{path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        self._queries = load_statements(schema).queries

    def read(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(self._queries[query], tuple(parameters)))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql))


def events(data: Path, shard: int = 0) -> list[Event]:
    rows = Reader(data / f"coordinator-{shard}.sqlite", "journal").rows("SELECT entry FROM journal ORDER BY sequence")
    return [decode_event(entry) for (entry,) in rows]


def by_task(journal: list[Event]) -> dict[TaskId, list[Event]]:
    found: dict[TaskId, list[Event]] = {}
    for event in journal:
        if event.task is not None:
            found.setdefault(event.task, []).append(event)
    return found


def check_journal(data: Path, acknowledged: Iterator[str] | list[str]) -> dict[str, Run]:
    """I1, I3, I7, I10 and I13 of everything in the journal. Returns the tasks as the journal tells them."""
    store = Reader(data / "coordinator-0.sqlite", "journal")
    report = verify(store)  # pyright: ignore[reportArgumentType]
    assert report.ok, report.problems
    journal = events(data)
    assert [event.epoch for event in journal] == sorted(event.epoch for event in journal), "an entry of a lower epoch"
    told: dict[str, Run] = {}
    for task, history in by_task(journal).items():
        referee(history)
        run = fold(iter(history))
        assert run is not None
        assert run.status.terminal, f"{task} did not end"
        assert sum(event.kind.ends_task for event in history) == 1
        told[task] = run
    lost = [task for task in acknowledged if task not in told]
    assert not lost, f"acknowledged and lost: {lost}"
    return told


def check_effects(square: Path, runs: dict[str, Run], capability: str) -> None:
    """I2: every effect at most once, and exactly once for a step that completed."""
    heard = Counter(key.rpartition("!")[0] for key in heard_keys(square))
    assert all(count == 1 for count in heard.values()), f"heard twice: {heard}"
    for run in runs.values():
        for step in run.steps.values():
            if step.call == capability and step.status == "completed":
                assert heard[f"{run.task}/{step.id}"] == 1, f"{step.id} completed and was not heard"


def receipts(data: Path, agent: str) -> list[str]:
    store = Reader(data / "agents" / f"{agent}.sqlite", "agent")
    return [key for (key,) in store.rows("SELECT key FROM receipt ORDER BY key")]
