"""A damaged row of the table of tasks loses no task: the journal is the truth (I1, F23)."""

from pathlib import Path

import apsw
import pytest

from hanse.contracts import Submission, TaskStatus
from hanse.runtime.audit import audit
from hanse.runtime.cli.reach import Options

from .cli.shop import Shop

ASKED = Submission.model_validate({"call": "ledger.deposit", "input": {"account": "a", "cents": 5}})
REVIEWED = Submission.model_validate({"call": "ledger.withdraw", "input": {"account": "a", "cents": 500}})


def damage(data: Path, status: str, damaged: str) -> None:
    connection = apsw.Connection(str(data / "coordinator-0.sqlite"))
    connection.execute("UPDATE task SET status = ? WHERE status = ?", (damaged, status))
    assert connection.changes() == 1
    connection.close()


@pytest.mark.parametrize("bit", range(8))
async def test_an_open_task_whose_status_has_a_flipped_bit_goes_on(tmp_path: Path, bit: int):
    async with Shop(tmp_path)(Options()) as client:
        task = await client.submit(REVIEWED)
        await client.wait(task.id, 10)
    damage(tmp_path, "submitted", "submi" + chr(ord("t") ^ 1 << bit) + "ted")
    async with Shop(tmp_path)(Options()) as client:
        (asked,) = await client.approvals()
        await client.decide(asked.id, approve=False, digest=asked.digest)
        assert (await client.wait(task.id, 10)).status is TaskStatus.FAILED
    assert audit(tmp_path)[0].report.ok


async def test_an_ended_task_whose_status_was_damaged_is_mended(tmp_path: Path):
    async with Shop(tmp_path)(Options()) as client:
        task = await client.submit(ASKED)
        assert (await client.wait(task.id, 10)).status is TaskStatus.COMPLETED
    damage(tmp_path, "completed", "complexed")
    assert not audit(tmp_path)[0].report.ok
    async with Shop(tmp_path)(Options()) as client:
        assert (await client.task(task.id)).status is TaskStatus.COMPLETED
    assert audit(tmp_path)[0].report.ok
