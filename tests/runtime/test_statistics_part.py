"""The part: answers are of everything on disk when they were asked for, one reading serves many, nobody waits long."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import pytest

from hanse.contracts import InvalidInput, Tenant
from hanse.contracts.outcomes import OutcomesView, Total
from hanse.runtime import statistics_part
from hanse.runtime.answering import Asked
from hanse.runtime.federation import Federation
from hanse.runtime.statistics import Keeper
from hanse.runtime.statistics_part import StatisticsPart, seconds_of

from .test_standing import Genie, grant

ASKED = Asked(Tenant("acme"), "ada", {})


class Slow(Keeper):
    """Reads two batches, the first one when it is let, and counts."""

    def __init__(self) -> None:
        super().__init__(None, lambda: pytest.fail("nothing is read"), None)  # type: ignore[arg-type]
        self.begun = self.ended = self.inside = self.most = 0
        self.has_begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def read_on(self) -> Generator[int]:
        self.begun += 1
        self.has_begun.release()
        try:
            self._alone(lambda: self.may_go_on.wait(20))
            yield 5
            self._alone(lambda: None)
            yield 3
        finally:
            self.ended += 1

    def totals(self, tenant: Tenant) -> list[Total]:
        self._alone(lambda: None)
        return [Total(metric="ended", value=self.ended)]

    def _alone(self, work: Callable[[], Any]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        work()
        self.inside -= 1


async def begun(keeper: Slow) -> None:
    assert await asyncio.to_thread(keeper.has_begun.acquire, timeout=10)


def ended(answer: Any) -> float:
    """How many readings had ended when this was answered."""
    return answer[0]["value"]


@pytest.fixture
async def part(keeper: Slow) -> AsyncIterator[StatisticsPart]:
    made = StatisticsPart(keeper)
    yield made
    keeper.may_go_on.set()
    await made.stop()
    assert (keeper.most, keeper.ended) == (1, keeper.begun)


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(statistics_part, "TOTALS_SECONDS", 20)
    return Slow()


async def test_who_comes_while_it_reads_shares_the_next_reading(keeper: Slow, part: StatisticsPart):
    first = asyncio.create_task(part._totals(ASKED))
    await begun(keeper)
    later = [asyncio.create_task(part._totals(ASKED)) for _ in range(20)]
    await asyncio.sleep(0)
    keeper.may_go_on.set()
    await first
    assert {ended(answer) for answer in await asyncio.gather(*later)} == {2}
    assert keeper.begun == 2


async def test_who_will_not_wait_gets_what_there_is_between_two_batches(
    keeper: Slow, part: StatisticsPart, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(statistics_part, "TOTALS_SECONDS", 0)
    asked = [asyncio.create_task(part._totals(ASKED)) for _ in range(3)]
    await begun(keeper)
    keeper.may_go_on.set()
    assert min(ended(answer) for answer in await asyncio.gather(*asked)) == 0
    monkeypatch.setattr(statistics_part, "TOTALS_SECONDS", 20)
    assert ended(await part._totals(ASKED)) == 2


async def test_who_leaves_does_not_let_another_in_beside_the_reading(keeper: Slow, part: StatisticsPart):
    first = asyncio.create_task(part._totals(ASKED))
    await begun(keeper)
    first.cancel()
    second = asyncio.create_task(part._totals(ASKED))
    await asyncio.wait([second], timeout=0.01)
    keeper.may_go_on.set()
    assert ended(await second) == 2


async def test_stopping_ends_the_reading_and_then_closes(keeper: Slow):
    part = StatisticsPart(keeper)
    asked = asyncio.create_task(part._totals(ASKED))
    await begun(keeper)
    stopping = asyncio.create_task(part.stop())
    await asyncio.wait([stopping], timeout=0.01)
    keeper.may_go_on.set()
    await stopping
    assert (keeper.begun, keeper.ended, keeper.most) == (1, 1, 1)
    await asyncio.gather(asked, return_exceptions=True)


async def test_an_answer_says_that_it_is_not_complete(monkeypatch: pytest.MonkeyPatch):
    async with Federation.in_process(agents=[Genie]) as federation:
        await grant(federation, 1)
        assert (await federation.client.stats()).complete
        monkeypatch.setattr(statistics_part, "PATIENCE_SECONDS", 0)
        assert not (await federation.client.stats()).complete


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
