"""Looks at what a federation left behind, from outside: its journals and stores, the world it acted on, and the
client's own log. Nothing here asks the federation itself."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import psycopg

from hanse.contracts import Event, Kind, StepStatus, TaskId, TaskView
from hanse.contracts.plain import unpack
from hanse.contracts.wire import decode_event
from hanse.runtime.address import Address
from hanse.runtime.audit import verify
from hanse.runtime.execution import Run, fold
from hanse.runtime.folder import all_replayed
from hanse.runtime.simulation.referee import referee
from hanse.runtime.store.place import ADDRESS
from hanse.runtime.store.postgresql import in_postgresql, store_names
from hanse.runtime.store.statements import load_statements

from .town import heard_keys


class Reader:
    """A store's file, read only."""

    def __init__(self, path: Path, schema: str) -> None:
        self._connection: Any = apsw.Connection(
            f"file:{path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        self._queries = load_statements(schema).queries

    def read(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(self._queries[query], tuple(parameters)))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql))


class DatabaseReader(Reader):
    """A store that is a schema of a database, read only."""

    def __init__(self, address: Address, name: str, schema: str) -> None:
        self._address, self._schema = address, f"{address.federation}/{name}"
        self._queries = in_postgresql(schema).queries

    def read(self, query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return self.rows(self._queries[query], tuple(parameters))

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._address.url, cursor_factory=psycopg.RawCursor) as connection:
            connection.execute("SELECT set_config('search_path', quote_ident($1), false)", (self._schema,))
            return connection.execute(sql.encode(), parameters).fetchall()


def _agents(data: Path) -> dict[str, Reader]:
    if (address := _address(data)) is None:
        return {path.stem: Reader(path, "agent") for path in sorted((data / "agents").glob("*.sqlite"))}
    names = [name for name in store_names(address.url, address.federation) if name.startswith("agents/")]
    return {name.removeprefix("agents/"): DatabaseReader(address, name, "agent") for name in names}


def _address(data: Path) -> Address | None:
    said = data / ADDRESS
    return Address(**json.loads(said.read_text())) if said.exists() else None


def shards(data: Path) -> list[Reader]:
    """The journal of each coordinator, in order."""
    if (address := _address(data)) is not None:
        names = [name for name in store_names(address.url, address.federation) if name.startswith("coordinator-")]
        return [DatabaseReader(address, name, "journal") for name in names]
    found = sorted(data.glob("coordinator-*.sqlite"), key=lambda path: int(path.stem.rpartition("-")[2]))
    return [Reader(path, "journal") for path in found]


def events(data: Path, shard: int = 0) -> list[Event]:
    return _events(shards(data)[shard])


def _events(store: Reader) -> list[Event]:
    return [decode_event(entry) for (entry,) in store.rows("SELECT entry FROM journal ORDER BY sequence")]


def by_task(journal: list[Event]) -> dict[TaskId, list[Event]]:
    found: dict[TaskId, list[Event]] = {}
    for event in journal:
        if event.task is not None:
            found.setdefault(event.task, []).append(event)
    return found


def check_journal(data: Path, acknowledged: Iterable[str]) -> dict[str, Run]:
    """I1, I3, I7, I10 and I13 of everything in the journals. Returns the tasks as they tell them."""
    told: dict[str, Run] = {}
    for store in shards(data):
        report = verify(store)  # pyright: ignore[reportArgumentType]
        assert report.ok, report.problems
        told |= _check_shard(_events(store))
    lost = [task for task in acknowledged if task not in told]
    assert not lost, f"acknowledged and lost: {lost}"
    return told


def _check_shard(journal: list[Event]) -> dict[str, Run]:
    assert [event.epoch for event in journal] == sorted(event.epoch for event in journal), "an entry of a lower epoch"
    told: dict[str, Run] = {}
    for task, history in by_task(journal).items():
        referee(history)
        run = fold(iter(history))
        assert run is not None
        assert run.status.terminal, f"{task} did not end"
        assert sum(event.kind.ends_task for event in history) == 1
        told[task] = run
    return told


def check_replay(told: Mapping[str, Run], views: Mapping[str, TaskView]) -> None:
    """I13: what the journal tells is what the federation said."""
    for task, view in views.items():
        assert (told[task].status, told[task].output) == (view.status, view.output)


def check_states(data: Path, states: Mapping[str, str]) -> None:
    """I13: the journals on disk, replayed, come event by event to the states that the federation's own replay gave."""
    reports = {report.task: report for report in (replay.report() for replay in all_replayed(data))}
    for task, state in states.items():
        assert reports[task].ok, reports[task].divergence
        assert reports[task].state == state


def check_effects(square: Path, runs: dict[str, Run], capability: str) -> None:
    """I2: every effect at most once, and exactly once for a step that completed."""
    heard = Counter(key.rpartition("!")[0] for key in heard_keys(square))
    assert all(count == 1 for count in heard.values()), f"heard twice: {heard}"
    for run in runs.values():
        for step in run.steps.values():
            if step.call == capability and step.status == "completed" and step.members is None:
                assert heard[f"{run.task}/{step.id}"] == 1, f"{step.id} completed and was not heard"


class Receipt(NamedTuple):
    """What an agent keeps of a step that it executed."""

    agent: str
    award: str
    output: Any


def receipts(*data: Path) -> dict[str, list[Receipt]]:
    """By the step's key, from the stores of all agents in these folders."""
    found: dict[str, list[Receipt]] = {}
    for agent, store in [each for folder in data for each in _agents(folder).items()]:
        for key, award, output in store.rows("SELECT key, award, output FROM receipt ORDER BY key"):
            found.setdefault(key, []).append(Receipt(agent, award, unpack(output)))
    return found


def check_receipts(data: Path, runs: Mapping[str, Run], *elsewhere: Path) -> None:
    """I2 within: each step that changed something was executed by one agent, once, with the output in the journal.

    `elsewhere` are the data folders of other nodes.
    """
    done = {
        f"{task}/{step.id}": [Receipt(str(step.agent), step.award["award"], step.output)]
        for task, run in runs.items()
        for step in run.steps.values()
        if step.status in (StepStatus.COMPLETED, StepStatus.COMPENSATED) and step.members is None
        if step.inherited is None  # then the receipt is that of the task where it was done
        if run.pin(step).effect.writes
    }
    assert receipts(data, *elsewhere) == done


def replayed(journal: Iterable[Event]) -> list[Event]:
    """Steps that were executed before and answered from the receipt."""
    return [event for event in journal if event.kind is Kind.STEP_COMPLETED and event.data["replayed"]]


def epochs(journal: Iterable[Event]) -> list[int]:
    """The reigns of a journal, in order."""
    return [event.epoch for event in journal if event.kind is Kind.COORDINATOR_STARTED]
