"""Reading on in real journals: only what is new, once each, through crashes, restarts, copies and later versions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from hanse.contracts import Kind, Sequence, TaskId, Tenant, Unavailable, Write
from hanse.runtime.journal import Journal
from hanse.runtime.statistics import Keeper, Projection, Sources, facts, projection, readers, reading
from hanse.runtime.store import SqliteStore
from hanse.runtime.store.place import Folder
from hanse.runtime.world import SystemClock

ACME = Tenant("acme")
WEEK = 7 * 86_400.0


class Shard:
    """A journal on disk."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore.open(path, "journal")
        self.journal = Journal(self.store, SystemClock(), lambda error: None)

    async def work(self, *tasks: str) -> None:
        """Tasks of one call each, from submission to end."""
        for task in tasks:
            self.begin(task)
            self.end(task)
        await self.journal.durable()

    def begin(self, task: str) -> None:
        plan = {"steps": [{"id": "s", "call": "orders.get", "input": {}}], "output": None}
        self._add(Kind.TASK_SUBMITTED, task, None, {"tenant": "acme", "plan": plan, "pins": {}})
        self._add(Kind.STEP_AWARDED, task, "s", {"agent": "a", "attempt": 1, "price_cents": 2.0})

    def end(self, task: str) -> None:
        self._add(Kind.STEP_COMPLETED, task, "s", {"latency_ms": 3.0, "model_cents": 0.0, "output": {}})
        self._add(Kind.TASK_COMPLETED, task, None, {"output": None, "cost_cents": 2.0})

    def _add(self, kind: Kind, task: str, step: str | None, data: dict) -> None:
        self.journal.append(kind, TaskId(task), step, data)  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.journal.stop()
        await self.store.close()


@pytest.fixture
async def shard(tmp_path: Path) -> AsyncIterator[Shard]:
    made = Shard(tmp_path / "coordinator-0.sqlite")
    yield made
    await made.close()


@contextmanager
def keeping(data: Path, *, shards: int = 1) -> Iterator[Keeper]:
    @contextmanager
    def sources() -> Iterator[Sources]:
        found = readers(Folder(data), shards)
        try:
            yield found
        finally:
            for each in found.values():
                each.close()

    keeper = Keeper(data / "statistics.duckdb", sources, SystemClock())
    try:
        yield keeper
    finally:
        keeper.close()


def tasks(keeper: Keeper) -> int:
    keeper.catch_up()
    return keeper.outcomes(ACME, WEEK, "capability").total.tasks


async def test_each_reading_takes_in_what_is_new_and_nothing_twice(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "PAGE", 3)
    taken = list[int]()
    take = facts.Batch.take
    monkeypatch.setattr(facts.Batch, "take", lambda self, event: taken.append(event.sequence) or take(self, event))
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 0
        await shard.work("t1", "t2")
        assert tasks(keeper) == 2
        assert tasks(keeper) == 2
        await shard.work("t3")
        assert tasks(keeper) == 3
    assert taken == list(range(1, 13))


async def test_a_restart_goes_on_where_it_stopped_also_with_tasks_under_way(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await shard.work("t1")
    shard.begin("t2")
    await shard.journal.durable()
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 1
    monkeypatch.setattr(Projection, "_made", lambda self: pytest.fail("it was kept"))
    shard.end("t2")
    await shard.journal.durable()
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 2
        found = keeper.outcomes(ACME, WEEK, "capability")
        assert [(row.name, row.tasks, row.cost_cents) for row in found.rows] == [("orders.get", 2, 4)]


async def test_a_crash_in_the_middle_of_a_batch_leaves_nothing_of_it(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await shard.work("t1", "t2")
    with keeping(tmp_path) as keeper:
        with monkeypatch.context() as broken:
            broken.setattr(Projection, "_run", _fails_at("add_totals"))
            with pytest.raises(RuntimeError, match="the power went"):
                keeper.catch_up()
        assert tasks(keeper) == 2
        steps = [each.value for each in keeper.totals(ACME) if each.metric == "steps"]
        assert steps == [2]


def _fails_at(name: str):
    run = Projection._run

    def failing(self: Projection, statement: str, sql: str, **parameters: object):
        if statement == name:
            raise RuntimeError("the power went")
        return run(self, statement, sql, **parameters)

    return failing


@pytest.mark.parametrize("harm", ["missing", "garbage", "truncated", "another version", "no tables"])
async def test_what_cannot_be_read_is_made_again_from_the_truth(
    shard: Shard, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
):
    await shard.work("t1", "t2")
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 2
    path = tmp_path / "statistics.duckdb"
    if harm == "missing":
        path.unlink()
    elif harm == "garbage":
        path.write_bytes(b"this is no database" * 1000)
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif harm == "another version":
        monkeypatch.setattr(projection, "LAYOUT", projection.LAYOUT + 1)
    else:
        path.unlink()
        projection._connect(path).close()
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 2


async def test_the_shards_are_counted_together(shard: Shard, tmp_path: Path):
    other = Shard(tmp_path / "coordinator-1.sqlite")
    await asyncio.gather(shard.work("t1"), other.work("t2", "t3"))
    await other.close()
    with keeping(tmp_path, shards=3) as keeper:
        assert tasks(keeper) == 3


async def test_a_journal_restored_from_an_older_copy_is_read_anew(shard: Shard, tmp_path: Path):
    path = tmp_path / "coordinator-0.sqlite"
    await shard.work("t1")
    await shard.close()
    copy = path.read_bytes()
    again = Shard(path)
    await again.work("t2", "t3")
    await again.close()
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 3
        path.write_bytes(copy)
        third = Shard(path)
        await third.work("t4")
        assert tasks(keeper) == 2
        await third.close()


async def test_kinds_of_a_later_version_and_damaged_entries_are_passed_over(shard: Shard, tmp_path: Path):
    await shard.work("t1")
    later = bytes([1]) + msgpack.packb((9, 1, 5, "task.dreamt", "t1", None, {}))
    last = shard.journal.sequence
    for number, entry in ((last + 1, later), (last + 2, b"\x07garbage"), (last + 3, b"")):
        await shard.store.commit([Write("insert_entry", (number, None, entry, bytes(32)))])
    shard.journal.sequence = Sequence(last + 3)
    await shard.work("t2")
    with keeping(tmp_path) as keeper:
        assert tasks(keeper) == 2


async def test_a_second_process_is_told_so(shard: Shard, tmp_path: Path):
    with keeping(tmp_path) as keeper:
        tasks(keeper)
        with keeping(tmp_path) as second, pytest.raises(Unavailable, match="another process"):
            second.catch_up()
        await shard.work("t1")
        assert tasks(keeper) == 1


async def test_the_journal_is_not_written_by_being_read(shard: Shard, tmp_path: Path):
    await shard.work("t1")
    epoch = shard.store.epoch
    with keeping(tmp_path) as keeper:
        tasks(keeper)
    await shard.work("t2")
    assert (shard.store.epoch, shard.journal.on_disk) == (epoch, 8)


def test_without_duckdb_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'hanse\[statistics\]'"):
        Projection(None)
