"""A part of the federation answers over a link: values, pieces, errors by name, and nothing for who has left."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hanse.contracts import Failed, InvalidInput, NotFound, Tenant, Unavailable
from hanse.runtime.answering import Asked, Counter
from hanse.runtime.client import Shard
from hanse.runtime.link import Link, Receiver, pipe

TENANT = Tenant("acme")


class Part:
    """Methods that show what may happen."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.links: list[Link] = []
        self.counter = Counter(
            "part",
            {"echo": self.echo, "count": self.count, "refuse": self.refuse, "break": self.fail, "hang": self.hang},
        )

    async def dial(self, receiver: Receiver) -> Link:
        near, _ = pipe(receiver, self.counter)
        self.links.append(near)
        return near

    async def echo(self, asked: Asked) -> Any:
        return [asked.tenant, asked.by, dict(asked.parameters)]

    async def count(self, asked: Asked) -> AsyncIterator[int]:
        for number in range(asked.parameters["to"]):
            if number == asked.parameters.get("break_at"):
                raise InvalidInput("enough", at=number)
            yield number

    async def refuse(self, asked: Asked) -> None:
        raise InvalidInput("no such thing", field="name")

    async def fail(self, asked: Asked) -> None:
        raise RuntimeError("the password is hunter2")

    async def hang(self, asked: Asked) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.fixture
def part() -> Part:
    return Part()


def way(part: Part) -> Shard:
    return Shard(part.dial, 1.0, whom="the part")


async def test_an_answer_knows_who_asked(part: Part) -> None:
    assert await way(part).ask("echo", TENANT, "ann", {"a": 1}) == ["acme", "ann", {"a": 1}]


async def test_pieces_arrive_in_order(part: Part) -> None:
    assert [each async for each in way(part).stream("count", TENANT, "ann", {"to": 5})] == [0, 1, 2, 3, 4]


async def test_a_stream_of_one_answer_gives_that(part: Part) -> None:
    assert [each async for each in way(part).stream("echo", TENANT, "ann", {})] == [["acme", "ann", {}]]


async def test_an_error_ends_a_stream_after_its_pieces(part: Part) -> None:
    stream = way(part).stream("count", TENANT, "ann", {"to": 5, "break_at": 2})
    assert [await anext(stream), await anext(stream)] == [0, 1]
    with pytest.raises(InvalidInput, match="enough"):
        await anext(stream)


async def test_errors_arrive_by_their_name(part: Part) -> None:
    with pytest.raises(InvalidInput, match="no such thing") as caught:
        await way(part).ask("refuse", TENANT, "ann", {})
    assert caught.value.ids == {"field": "name"}


async def test_what_nobody_foresaw_keeps_its_insides_to_itself(part: Part) -> None:
    with pytest.raises(Failed, match="RuntimeError") as caught:
        await way(part).ask("break", TENANT, "ann", {})
    assert "hunter2" not in str(caught.value.to_data())


async def test_an_unknown_method_is_not_found(part: Part) -> None:
    with pytest.raises(NotFound, match="nonsense"):
        await way(part).ask("nonsense", TENANT, "ann", {})


async def test_who_stops_listening_stops_the_work(part: Part) -> None:
    stream = way(part).stream("hang", TENANT, "ann", {})
    assert await anext(stream) == 1
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    await asyncio.wait_for(part.ended.wait(), 5)


async def test_a_lost_link_ends_the_work_and_tells_who_waits(part: Part) -> None:
    stream = way(part).stream("hang", TENANT, "ann", {})
    assert await anext(stream) == 1
    part.links[0].close("cut")
    with pytest.raises(Unavailable):
        await anext(stream)
    await asyncio.wait_for(part.ended.wait(), 5)


async def test_a_stopped_part_ends_what_is_under_way(part: Part) -> None:
    stream = way(part).stream("hang", TENANT, "ann", {})
    assert await anext(stream) == 1
    await part.counter.stop()
    assert part.ended.is_set()


async def test_a_stream_waits_for_a_part_that_is_coming_back(part: Part) -> None:
    tries = 0

    async def dial(receiver: Receiver) -> Link:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("not yet")
        return await part.dial(receiver)

    shard = Shard(dial, 5.0, whom="the part")
    assert [each async for each in shard.stream("count", TENANT, "ann", {"to": 2})] == [0, 1]


async def test_a_broken_stream_says_whom_it_lost(part: Part) -> None:
    stream = way(part).stream("hang", TENANT, "ann", {})
    await anext(stream)
    part.links[0].close("cut")
    with pytest.raises(Unavailable, match="the part cannot be reached: cut") as caught:
        await anext(stream)
    assert caught.value.code == "unavailable"
