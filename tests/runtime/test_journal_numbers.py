"""The journal's numbers have no holes, whatever it is asked to write."""

from typing import Any

import pytest

from hanse.contracts import Kind, TaskId
from hanse.runtime.audit import verify
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock

TASK = TaskId("0193502f-7c00-7005-8123-456789abcdef")


@pytest.mark.parametrize("odd", [2**64, "\ud800", {1, 2}, object()])
async def test_an_event_that_cannot_be_written_takes_no_number(odd: Any):
    store = SqliteStore.open(":memory:", "journal")
    journal = Journal(store, SystemClock(), on_failure=lambda error: pytest.fail(str(error)))
    journal.append(Kind.TASK_CANCELING, TASK, None, {"reason": "", "by": "alice"})
    with pytest.raises(TypeError):
        journal.append(Kind.TASK_COMPLETED, TASK, None, {"output": odd, "cost_cents": 0})
    journal.append(Kind.TASK_CANCELED, TASK, None, {"reason": "", "cost_cents": 0})
    await journal.durable()
    assert [(event.sequence, event.kind.value) for event in journal.read()] == [
        (1, "task.canceling"),
        (2, "task.canceled"),
    ]
    report = verify(store)
    assert report.ok, report.problems
    await store.close()
