"""The part: answers are of everything on disk when they were asked for, one reading serves many, nobody waits long."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hanse.contracts import InvalidInput, Tenant, Unavailable
from hanse.contracts.outcomes import OutcomesView
from hanse.runtime import statistics_part
from hanse.runtime.answering import Asked
from hanse.runtime.federation import Federation
from hanse.runtime.statistics import Keeper
from hanse.runtime.statistics_part import StatisticsPart, seconds_of

from .test_standing import Genie, grant

ASKED = Asked(Tenant("acme"), "ada", {})


class Slow(Keeper):
    """Reads when it is let, and counts."""

    def __init__(self) -> None:
        super().__init__(None, lambda: pytest.fail("nothing is read"), None)  # type: ignore[arg-type]
        self.begun = self.inside = self.most = 0
        self.entries = 7
        self.has_begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def catch_up(self) -> None:
        self.begun += 1
        self.has_begun.release()
        self._alone(lambda: self.may_end.wait(20))

    def totals(self, tenant: Tenant) -> list:
        self._alone(lambda: None)
        return []

    def _alone(self, work: Callable[[], Any]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        work()
        self.inside -= 1


async def test_who_comes_while_it_reads_shares_the_next_reading():
    keeper = Slow()
    part = StatisticsPart(keeper)
    first = asyncio.create_task(part._totals(ASKED))
    assert await asyncio.to_thread(keeper.has_begun.acquire, timeout=10)
    later = [asyncio.create_task(part._totals(ASKED)) for _ in range(20)]
    await asyncio.sleep(0)
    keeper.may_end.set()
    assert await asyncio.gather(first, *later) == [[]] * 21
    assert (keeper.begun, keeper.most) == (2, 1)
    await part.stop()


async def test_a_long_reading_is_said_and_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics_part, "PATIENCE_SECONDS", 0.01)
    keeper = Slow()
    part = StatisticsPart(keeper)
    for _ in range(3):
        with pytest.raises(Unavailable, match="still being read, 7 entries so far"):
            await part._totals(ASKED)
    assert keeper.begun == 1
    keeper.may_end.set()
    monkeypatch.setattr(statistics_part, "PATIENCE_SECONDS", 10)
    assert await part._totals(ASKED) == []
    await part.stop()


async def test_who_leaves_does_not_let_another_in_beside_the_reading():
    keeper = Slow()
    part = StatisticsPart(keeper)
    first = asyncio.create_task(part._totals(ASKED))
    assert await asyncio.to_thread(keeper.has_begun.acquire, timeout=10)
    first.cancel()
    second = asyncio.create_task(part._totals(ASKED))
    await asyncio.wait([second], timeout=0.01)
    keeper.may_end.set()
    await second
    assert keeper.most == 1
    await part.stop()


@pytest.mark.parametrize("seconds", [0, -1, True, "1", 1e12, float("nan"), [5]])
def test_a_window_has_a_length_that_makes_sense(seconds):
    with pytest.raises(InvalidInput, match="since_seconds"):
        seconds_of({"since_seconds": seconds})


async def test_with_two_shards_everything_is_counted_once():
    async with Federation.in_process(agents=[Genie], coordinator={"shards": 2}) as federation:
        await grant(federation, 9)
        await grant(federation, 3, fulfilled=False)
        view = await federation.client.stats(since_seconds=3600)
        assert isinstance(view, OutcomesView)
        assert (view.total.tasks, view.total.completed, view.total.refusals) == (12, 9, {"refused": 3})
        assert min((await federation.client.status()).heads) > 3  # both have worked
