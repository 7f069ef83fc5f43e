"""Two processes say that the same agent lives in them: the one with the later hold on its store has the seat, and the
other one has it back when that one goes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hanse.contracts import Event, Fenced, Kind, Tenant, Unavailable
from hanse.contracts.ids import uuid7
from hanse.contracts.messages import Hello, Offers, Welcome
from hanse.runtime.assembly import World, make_coordinator
from hanse.runtime.client import LinkClient, Shard
from hanse.runtime.config import Configuration
from hanse.runtime.coordinator import Coordinator
from hanse.runtime.link import Link, Receiver, pipe
from hanse.runtime.store import SqliteStore


class Process:
    """A host that says who lives in it, and hears what it is told."""

    def __init__(self, coordinator: Coordinator, epoch: int) -> None:
        self.heard: list[Any] = []
        self.link = pipe(self, coordinator)[0]
        agent = {"agent": "clerk", "domain": "clerk", "description": "", "contracts": [], "node": "", "pid": epoch}
        self.link.send(Hello(f"host-{epoch}", f"born-{epoch}", [agent | {"epoch": epoch}]))
        self.link.send(Offers([]))

    def received(self, link: Link, message: Any) -> None:
        self.heard.append(message)

    def closed(self, link: Link, reason: str) -> None: ...


@dataclass
class House:
    coordinator: Coordinator
    failures: list[BaseException]

    async def incarnation(self) -> str | None:
        """Of the process in which the clerk sits, when everything said so far is on disk."""
        await self.coordinator.journal.durable()
        await self.coordinator.journal.durable()
        member = self.coordinator.directory.members.get("clerk")  # pyright: ignore[reportArgumentType]
        return member.incarnation if member and member.present else None

    def told(self) -> list[Event]:
        return [e for e in self.coordinator.journal.read() if e.kind in (Kind.AGENT_JOINED, Kind.AGENT_LEFT)]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    failures: list[BaseException] = []
    configuration = Configuration.for_agents([], data=":memory:")
    coordinator = make_coordinator(configuration, 0, bytes(32), World.real(), failures.append)
    await coordinator.start()
    yield House(coordinator, failures)
    await coordinator.stop()


async def test_the_later_hold_takes_the_seat(house: House) -> None:
    Process(house.coordinator, 1)
    assert await house.incarnation() == "born-1"
    newer = Process(house.coordinator, 2)
    assert await house.incarnation() == "born-2"
    assert isinstance(newer.heard[0], Welcome)


async def test_an_earlier_hold_that_dials_in_late_does_not(house: House) -> None:
    Process(house.coordinator, 2)
    Process(house.coordinator, 1)
    assert await house.incarnation() == "born-2"
    assert len(house.told()) == 1


async def test_it_has_the_seat_when_the_other_one_goes(house: House) -> None:
    newer, older = Process(house.coordinator, 2), Process(house.coordinator, 1)
    assert await house.incarnation() == "born-2"
    newer.link.close()
    assert await house.incarnation() == "born-1"
    older.link.close()
    assert await house.incarnation() is None


async def test_of_two_that_do_not_say_the_last_one_to_come_sits(house: House) -> None:
    first, second = Process(house.coordinator, 0), Process(house.coordinator, 0)
    assert await house.incarnation() == "born-0"
    second.link.close()
    assert await house.incarnation() == "born-0"
    assert [event.kind for event in house.told()][-2:] == [Kind.AGENT_LEFT, Kind.AGENT_JOINED]
    first.link.close()


async def _hears_in_time(coordinator: Coordinator) -> None:
    coordinator._tick()


async def _refuses_who_asks(coordinator: Coordinator) -> None:
    """What it has in memory is of the past: it may not even know the step that a person decides about."""

    async def dial(receiver: Receiver) -> Link:
        return pipe(receiver, coordinator)[0]

    client = LinkClient([Shard(dial, 5.0)], Tenant("default"), "sue")
    with pytest.raises(Unavailable, match="taken over"):
        await client.decide(f"{uuid7(0, bytes(8), 0)}:step", approve=True, digest="sha256:0")
    await client.close()


@pytest.mark.parametrize("how", [_hears_in_time, _refuses_who_asks])
async def test_a_coordinator_with_nothing_to_write_hears_that_it_was_replaced(
    tmp_path: Any, how: Callable[[Coordinator], Awaitable[None]]
) -> None:
    failures: list[BaseException] = []
    configuration = Configuration.for_agents([], data=tmp_path)
    coordinator = make_coordinator(configuration, 0, bytes(32), World.real(), failures.append)
    await coordinator.start()
    successor = SqliteStore.open(tmp_path / "coordinator-0.sqlite", "journal")
    await how(coordinator)
    assert [type(failure) for failure in failures] == [Fenced]
    await successor.close()
    await coordinator.stop()
