"""Counts of ended tasks are kept, not counted again: always what grouping over all tasks would say."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import HanseError, Refusal, capability
from hanse.runtime.federation import Federation


class Wish(BaseModel):
    fulfilled: bool


class Genie(Agent):
    """Fulfils some wishes."""

    domain = "genie"

    @capability(version="1.0", effect="read")
    async def grant(self, request: Wish, context: Context) -> Wish:
        """Grant a wish, or not."""
        if not request.fulfilled:
            raise Refusal("no")
        return request


APPROVALS = [{"capability": "genie.grant", "above": {"field": "times", "limit": 0}}]


def running(data: Any, **sections: Any) -> Federation:
    return Federation.in_process(agents=[Genie], data=data, **sections)


async def grant(federation: Federation, times: int, *, fulfilled: bool = True) -> None:
    for _ in range(times):
        task = await federation.submit(call="genie.grant", input={"fulfilled": fulfilled})
        await task.wait(30)


async def test_each_end_is_counted_and_a_restart_counts_the_same(tmp_path: Path):
    async with running(tmp_path) as federation:
        await grant(federation, 3)
        await grant(federation, 2, fulfilled=False)
        before = (await federation.client.status()).tasks
        assert before == {"completed": 3, "failed": 2}
    async with running(tmp_path) as federation:
        assert (await federation.client.status()).tasks == before
        await grant(federation, 1)
        assert (await federation.client.status()).tasks == {"completed": 4, "failed": 2}


async def test_what_is_open_and_what_was_canceled_count_too():
    async with running(":memory:", approvals=APPROVALS) as federation:
        asked = [await federation.submit(call="genie.grant", input={"fulfilled": True}) for _ in range(2)]
        for task in asked:
            await federation.client.wait(task.id, 30)
        status = await federation.client.status()
        assert status.tasks == {"input_required": 2}
        assert status.approvals_pending == 2
        await asked[0].cancel("changed my mind")
        status = await federation.client.status()
        assert status.tasks == {"input_required": 1, "canceled": 1}
        assert status.approvals_pending == 1


async def test_a_tenant_sees_its_own_alone():
    async with running(":memory:") as federation:
        await grant(federation, 1)
        other = federation.client.acting("other", "eve")  # pyright: ignore[reportAttributeAccessIssue]
        assert (await other.status()).tasks == {}
        with pytest.raises(HanseError, match="no"):
            await federation.call("genie.grant", {"fulfilled": False})
        assert (await other.status()).tasks == {}
        assert (await federation.client.status()).tasks == {"completed": 1, "failed": 1}
