"""Compaction: what ended long ago goes, and everything that was proved before, and all that is left, still verifies."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from hanse.contracts import Corrupt, InvalidInput, Kind, NotFound, StorageError, Submission, TaskId, TaskStatus
from hanse.runtime.audit import Head, Signer, audit
from hanse.runtime.audit.anchors import read_anchors
from hanse.runtime.audit.archive import archived
from hanse.runtime.audit.compaction import SHORTEST_MS, check_horizon, compact, forget_receipts, plan
from hanse.runtime.audit.merkle import leaf_hash
from hanse.runtime.audit.proofs import prove
from hanse.runtime.audit.reasons import check
from hanse.runtime.cli.reach import Options
from hanse.runtime.federation import Federation
from hanse.runtime.store.place import Folder
from hanse.runtime.world import SystemClock

from ..cli.shop import AGENTS, RULES, Shop

TASKS = 6
ASKED = {"call": "ledger.withdraw", "input": {"account": "a", "cents": 500}}


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Some ended tasks, and one that waits for a person."""
    async with Federation.in_process(AGENTS, data=tmp_path / "var", approvals=RULES) as federation:
        for number in range(TASKS):
            key = {"idempotency_key": f"key {number}"}
            await federation.call("ledger.deposit", {"account": "a", "cents": 100}, timeout_seconds=10, **key)
        view = await federation.client.submit(Submission.model_validate(ASKED))
        await federation.client.wait(view.id, 10)
    return tmp_path / "var"


def journal(data: Path) -> Path:
    return data / "coordinator-0.sqlite"


def rows(data: Path, sql: str, *parameters: Any, file: str = "coordinator-0") -> list[Any]:
    connection = apsw.Connection(str(data / f"{file}.sqlite"))
    try:
        return list(connection.execute(sql, parameters))
    finally:
        connection.close()


def soon() -> int:
    return SystemClock().now_ms() + 1000


async def compacted(data: Path, before_ms: int | None = None, archive: bool = True) -> Any:
    folder = data / "archive" if archive else None
    place, before_ms = Folder(data), before_ms or soon()
    return await compact(place, "coordinator-0", before_ms, SystemClock(), archive=folder, by="me")


def problems(data: Path, *heads: Head) -> list[str]:
    return [problem for each in audit(data, heads) for problem in each.report.problems]


def heads_of(data: Path) -> list[Head]:
    return [each.head for each in read_anchors([data.with_name("var.heads")]).heads]


async def test_the_journal_still_verifies_and_every_head_is_still_in_it(data: Path):
    before = len(rows(data, "SELECT 1 FROM journal"))
    heads = [*heads_of(data), *(_head(data, sequence) for sequence in range(1, before + 1))]
    done = await compacted(data)
    assert (len(done.tasks), done.entries) == (TASKS, 4 * TASKS)
    assert problems(data, *heads) == []
    (found,) = audit(data)
    assert (found.report.entries, found.report.compacted) == (before + 1, 4 * TASKS)


def _head(data: Path, sequence: int) -> Head:
    ((hash,),) = rows(data, "SELECT hash FROM journal WHERE sequence = ?", sequence)
    return Head(sequence, hash, "coordinator-0")


async def test_nothing_of_what_went_is_in_the_files_any_more(data: Path):
    assert b"task.completed" in journal(data).read_bytes()
    await compacted(data)
    left = journal(data).read_bytes()
    assert b"task.completed" not in left
    assert not [key for key in range(TASKS) if f"key {key}".encode() in left]
    assert not journal(data).with_name("coordinator-0.sqlite-wal").exists()


async def test_what_would_go_is_said_and_nothing_is_changed(data: Path):
    before = journal(data).read_bytes()
    planned = plan(Folder(data), "coordinator-0", soon())
    assert [each.key for each in planned.tasks] == [f"key {number}" for number in range(TASKS)]
    assert journal(data).read_bytes() == before
    done = await compacted(data)
    assert done.tasks == planned.tasks, "and exactly that goes"


async def test_only_what_ended_before_the_horizon_goes(data: Path):
    ((fourth,),) = rows(data, "SELECT updated_ms FROM task ORDER BY id LIMIT 1 OFFSET 3")
    expected = len(rows(data, "SELECT 1 FROM task WHERE status = 'completed' AND updated_ms < ?", fourth))
    assert len((await compacted(data, fourth)).tasks) == expected
    assert len((await compacted(data)).tasks) == TASKS - expected
    assert (await compacted(data)).tasks == []
    assert problems(data, *heads_of(data)) == []


async def test_proofs_from_before_and_of_what_is_left_hold(data: Path):
    signer = Signer("local", (data / "secret.key").read_bytes())
    last = len(rows(data, "SELECT 1 FROM journal"))
    proofs = [prove(data, "coordinator-0", sequence, signer, 1) for sequence in range(1, last + 1)]
    await compacted(data)
    assert all(check(proof, signer.public).problems == [] for proof in proofs)
    for sequence in range(1, last + 2):
        proof = json.loads(json.dumps(prove(data, "coordinator-0", sequence, signer, 1, since=last)))
        assert check(proof, signer.public).problems == []
        assert proof["growth"]["root"] == proofs[0]["head"]["root"]


async def test_without_its_archive_an_entry_cannot_be_proved(data: Path):
    signer = Signer("local", (data / "secret.key").read_bytes())
    (gone, *_) = [n for (n,) in rows(data, "SELECT sequence FROM journal WHERE task IS NOT NULL ORDER BY 1")]
    assert (await compacted(data, archive=False)).archives == []
    with pytest.raises(NotFound, match="no archive here has it"):
        prove(data, "coordinator-0", gone, signer, 1)


async def test_an_archive_holds_what_went_byte_for_byte(data: Path):
    before = rows(data, "SELECT sequence, task, entry, hash FROM journal WHERE task IS NOT NULL ORDER BY sequence")
    done = await compacted(data)
    (name,) = done.archives
    held = list(archived(data / "archive" / name))
    assert held == [row for row in before if row[1] in {each.task for each in done.tasks}]
    for sequence, _, entry, _ in held:
        assert rows(data, "SELECT entry FROM journal WHERE sequence = ?", sequence) == [(b"\x00" + leaf_hash(entry),)]
    (data / "archive" / name).write_bytes(b"nothing")
    with pytest.raises(StorageError, match="no archive"):
        list(archived(data / "archive" / name))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE journal SET entry = 'a text', task = NULL WHERE sequence = 1",
        "UPDATE journal SET entry = x'00' || randomblob(32), task = NULL WHERE sequence = 1",
        "UPDATE journal SET entry = CAST(x'00' || randomblob(32) AS BLOB), task = NULL WHERE sequence = 1",
        "UPDATE journal SET entry = CAST(x'00' || randomblob(32) AS BLOB) "
        "WHERE sequence = (SELECT min(sequence) FROM journal WHERE substr(entry, 1, 1) = x'00')",
        "UPDATE journal SET hash = randomblob(32) WHERE sequence = (SELECT min(sequence) FROM journal "
        "WHERE substr(entry, 1, 1) = x'00')",
        "UPDATE journal SET task = 't' WHERE sequence = (SELECT min(sequence) FROM journal "
        "WHERE substr(entry, 1, 1) = x'00')",
    ],
)
async def test_a_payload_that_somebody_took_away_or_changed_is_found(data: Path, sql: str):
    await compacted(data)
    assert problems(data) == []
    rows(data, sql)
    assert problems(data)


async def test_a_stone_in_the_right_place_with_no_record_of_it_is_found(data: Path):
    """The chain cannot tell: the hash of a stone proves itself only by the entry behind it."""
    ((sequence, entry),) = rows(data, "SELECT sequence, entry FROM journal WHERE task IS NOT NULL LIMIT 1")
    rows(data, "UPDATE journal SET entry = ?, task = NULL WHERE sequence = ?", b"\x00" + leaf_hash(entry), sequence)
    (problem,) = problems(data)
    assert "without payload, and these are not the 0" in problem


async def test_the_federation_goes_on_as_if_the_tasks_had_never_been(data: Path):
    open_before = rows(data, "SELECT id FROM task WHERE status NOT IN ('completed', 'failed', 'canceled')")
    gone = (await compacted(data)).tasks[0]
    async with Shop(data)(Options()) as client:
        with pytest.raises(NotFound):
            await client.task(gone.task)
        assert [view.id for view in await client.tasks()] == [open_before[0][0]]
        assert (await client.approvals())[0].task == open_before[0][0]
        assert (await client.verify()).ok
        kinds = [event.kind for event in await client.events()]
        assert Kind.JOURNAL_COMPACTED in kinds
        again = await client.submit(
            Submission.model_validate(
                {"call": "ledger.deposit", "input": {"account": "a", "cents": 1}, "idempotency_key": "key 0"}
            )
        )
        assert (await client.wait(again.id, 10)).output == {"cents": 100 * TASKS + 1}
        (asked,) = await client.approvals()
        await client.decide(asked.id, approve=True, digest=asked.digest)
        assert (await client.wait(asked.task, 10)).status is TaskStatus.COMPLETED
    assert problems(data, *heads_of(data)) == []


async def test_receipts_of_these_tasks_go_and_no_others(data: Path):
    def receipts() -> list[Any]:
        return rows(data, "SELECT key FROM receipt ORDER BY key", file="agents/ledger")

    gone, *_, kept = [each.task for each in plan(Folder(data), "coordinator-0", soon()).tasks]
    assert len(receipts()) == TASKS
    await forget_receipts(Folder(data), ["agents/ledger"], [gone])
    assert len(receipts()) == TASKS - 1
    assert any(key.startswith(kept) for (key,) in receipts())
    assert not any(key.startswith(gone) for (key,) in receipts())


async def test_an_effect_whose_outcome_nobody_knows_stays(data: Path):
    sql = "INSERT INTO effect VALUES (?, 'mail', 'send', x'00', ?, 0, NULL, 0)"
    for key, status in (("t/s!0", "unknown"), ("t/s!1", "claimed"), ("t/s!2", "done"), ("u/s!0", "done")):
        rows(data, sql, key, status, file="agents/ledger")
    await forget_receipts(Folder(data), ["agents/ledger"], [TaskId("t")])
    left = rows(data, "SELECT key FROM effect ORDER BY key", file="agents/ledger")
    assert left == [("t/s!0",), ("t/s!1",), ("u/s!0",)]


async def test_nothing_goes_because_a_damaged_row_says_that_it_ended(data: Path):
    rows(data, "UPDATE task SET status = 'completed' WHERE status = 'submitted'")
    with pytest.raises(Corrupt, match="hanse audit verify"):
        await compacted(data)
    rows(data, "UPDATE task SET status = 'submitted', updated_ms = updated_ms + 1 WHERE status = 'completed'")
    assert (await compacted(data)).tasks == []


def test_a_horizon_lies_a_day_back():
    check_horizon(0, SHORTEST_MS)
    with pytest.raises(InvalidInput, match="less than a day"):
        check_horizon(1, SHORTEST_MS)
