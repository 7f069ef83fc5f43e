"""The link between nodes, with Ray's part played by a post office that delivers when and in which order it likes.

With Ray itself it runs in `tests/acceptance/two_nodes.py`."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from hanse.contracts import AwardId
from hanse.contracts.messages import Stop
from hanse.runtime import ray_link
from hanse.runtime.link import Link
from hanse.runtime.ray_link import Switchboard


class Office:
    """The other end's actor handle. Calls lie here until they are delivered."""

    def __init__(self, board: Switchboard) -> None:
        self.board = board
        self.calls: list[tuple[Future[bool], tuple[str, int, Sequence[bytes]]]] = []

    @property
    def receive(self) -> "Office":
        return self

    def remote(self, *call: Any) -> "Office":
        self.calls.append((Future(), call))
        return self

    def future(self) -> Future[bool]:
        return self.calls[-1][0]

    def deliver(self, position: int = 0) -> None:
        answer, call = self.calls.pop(position)
        answer.set_result(self.board.deliver(*call))


class End:
    """Whoever sits there."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.reasons: list[str] = []

    def received(self, link: Link, message: Any) -> None:
        self.heard += message.awards

    def closed(self, link: Link, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def ends() -> tuple[End, End]:
    return End(), End()


@pytest.fixture
async def boards() -> tuple[Switchboard, Switchboard]:
    loop = asyncio.get_running_loop()
    return Switchboard(loop), Switchboard(loop)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_that_overtake_one_another_are_heard_in_order(boards: Any, ends: Any) -> None:
    office = Office(boards[1])
    near = boards[0].link("l", office, ends[0])
    boards[1].link("l", Office(boards[0]), ends[1])
    for number in range(6):
        near.send(Stop([AwardId(f"{number}")]))
        await settled()
    for position in (3, 1, 0, 2, 1, 0):
        office.deliver(position)
    await settled()
    assert ends[1].heard == ["0", "1", "2", "3", "4", "5"]


async def test_it_says_nothing_by_itself_before_it_begins(boards: Any, ends: Any) -> None:
    """The other end does not know of it yet, and would answer just that."""
    office = Office(boards[1])
    near = boards[0].link("l", office, ends[0])
    await settled()
    assert not office.calls
    near.begin()
    office.deliver()
    await settled()
    assert ends[0].reasons == ["the other end does not know this link"]
    assert not boards[0].deliver("l", 0, []), "it is forgotten"


async def test_an_end_that_answers_nothing_is_taken_to_be_gone(
    boards: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_link, "KEEPALIVE_SECONDS", 0.01)
    monkeypatch.setattr(ray_link, "SILENCE_SECONDS", 0.05)
    gone = asyncio.Event()
    ends[0].closed = lambda link, reason: gone.set()
    boards[0].link("l", Office(boards[1]), ends[0]).begin()
    async with asyncio.timeout(10):
        await gone.wait()


async def test_a_frame_that_is_none_closes_the_link(boards: Any, ends: Any) -> None:
    boards[1].link("l", Office(boards[0]), ends[1])
    assert boards[1].deliver("l", 0, [b"\xc1"])
    await settled()
    assert len(ends[1].reasons) == 1
