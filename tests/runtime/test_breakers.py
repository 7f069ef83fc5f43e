"""An agent that fails again and again is left alone, seen to be left alone, and tried again with care."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import (
    Conflict,
    ContractBreach,
    Event,
    Failed,
    HanseError,
    Kind,
    ModelUnavailable,
    NotFound,
    Overloaded,
    Refusal,
    RetryPolicy,
    Submission,
    TimedOut,
    Unavailable,
    capability,
)
from hanse.runtime.breakers import is_its_fault
from hanse.runtime.client import LinkClient
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import Town

ONCE = RetryPolicy(max_attempts=1)
OPENED, HALF_OPEN, CLOSED = Kind.BREAKER_OPENED, Kind.BREAKER_HALF_OPEN, Kind.BREAKER_CLOSED


class Job(BaseModel):
    number: int = 0


class _Smith(Agent):
    """Forges. What goes wrong is decided by the test."""

    troubles: Iterator[HanseError] = iter(())

    @capability(retry=ONCE)
    async def forge(self, request: Job, context: Context) -> Job:
        """Forge."""
        for trouble in type(self).troubles:
            raise trouble
        return request

    @capability(retry=ONCE)
    async def look(self, request: Job, context: Context) -> Job:
        """Look at the fire."""
        return request


class Hans(_Smith):
    """The only smith."""

    domain = "smith"
    name = "hans"


class Fritz(_Smith):
    """Another smith, who never fails."""

    domain = "smith"
    name = "fritz"
    troubles = iter(())

    def price_cents(self, capability: str) -> float:
        return 5


ALONE: dict[str, Any] = {"agents": [Hans], "hosts": {"smithy": ["hans"]}}
BOTH: dict[str, Any] = {"agents": [Hans, Fritz], "hosts": {"smithy": ["hans"], "barn": ["fritz"]}}


async def forged(client: LinkClient, count: int = 1, call: str = "smith.forge") -> list[str]:
    """How so many tasks ended, one after another."""
    ended: list[str] = []
    for _ in range(count):
        view = await client.submit(Submission(call=call, input={}))
        view = await client.wait(view.id, 200)
        ended.append(view.error.code if view.error else str(view.status))
    return ended


async def told(client: LinkClient) -> list[Event]:
    """What the journal says of breakers."""
    return [event for event in await client.events() if event.kind in (OPENED, HALF_OPEN, CLOSED)]


async def here(client: LinkClient) -> None:
    """Until every agent has joined and said what it asks for."""
    await client.gather(30)
    await asyncio.sleep(0.5)


@pytest.fixture(autouse=True)
def _no_troubles_left() -> Iterator[None]:
    yield
    Hans.troubles = iter(())


def test_five_failures_in_a_row_open_it_and_a_probe_that_succeeds_closes_it():
    Hans.troubles = iter([Unavailable("no fire")] * 5)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        assert await forged(client, 5) == ["unavailable"] * 5
        before = town.loop.time()
        assert await forged(client, 1) == ["completed"], "it waits for the probe, and is the probe"
        assert 0.9 <= town.loop.time() - before <= 3
        events = await told(client)
        assert [event.kind for event in events] == [OPENED, HALF_OPEN, CLOSED]
        about = {"agent": "hans", "capability": "smith.forge", "failures": 5, "code": "unavailable", "seconds": 1.0}
        assert dict(events[0].data) == about
        assert await forged(client, 3) == ["completed"] * 3

    play(scene, **ALONE)


def test_a_success_between_failures_keeps_it_closed():
    good = iter([True, False] * 20)

    class Moody(Hans):
        """Fails every other time."""

        domain = "smith"
        name = "hans"

        @capability(retry=ONCE)
        async def forge(self, request: Job, context: Context) -> Job:
            """Forge."""
            if next(good):
                raise Unavailable("no fire")
            return request

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        await forged(client, 20)
        assert not await told(client)

    play(scene, agents=[Moody], hosts=ALONE["hosts"])


def test_an_open_breaker_is_seen_and_holds_up_nothing_else():
    Hans.troubles = iter([TimedOut("too slow")] * 5)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        await forged(client, 5)
        (agent,) = await client.agents()
        assert agent.healthy
        assert len(agent.troubles) == 1
        assert agent.troubles[0].startswith("smith.forge: breaker open since 2027-01-15T08:00:0")
        assert "(timed_out), next probe in" in agent.troubles[0]
        waiting = await client.submit(Submission(call="smith.forge", input={}))
        (step,) = await client.steps(waiting.id)
        assert step.reason.startswith("hans: breaker open since")
        assert await forged(client, 3, "smith.look") == ["completed"] * 3

    play(scene, **ALONE)


def test_the_award_to_another_says_why_this_one_did_not_get_it():
    Hans.troubles = iter([Unavailable("no fire")] * 5)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        await forged(client, 5)
        assert await forged(client, 1) == ["completed"]
        award = [event for event in await client.events() if event.kind is Kind.STEP_AWARDED][-1]
        assert award.data["agent"] == "fritz"
        refused = {bid["agent"]: bid["refusal"] for bid in award.data["bids"]}
        assert refused["fritz"] == ""
        assert refused["hans"].startswith("breaker open since")
        assert "hans refuses: breaker open since" in award.data["reason"]

    play(scene, **BOTH)


def test_probes_come_one_at_a_time_and_never_closer_than_a_second():
    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        tasks = [await client.submit(Submission(call="smith.forge", input={"number": i})) for i in range(60)]
        for task in tasks:
            await client.wait(task.id, 300)
        events = await client.events()
        probes = [event.at_ms for event in events if event.kind is HALF_OPEN]
        assert len(probes) >= 3
        assert min(later - earlier for earlier, later in itertools.pairwise(probes)) >= 1000
        assert [event.kind for event in events if event.kind in (OPENED, CLOSED)][-1] is CLOSED

    Hans.troubles = iter([Unavailable("no fire")] * 12)
    play(scene, **ALONE)


def test_a_process_that_starts_anew_begins_with_a_closed_breaker():
    Hans.troubles = iter([Unavailable("no fire")] * 5)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        await forged(client, 5)
        town.processes["smithy"].kill()
        assert await forged(client, 1) == ["completed"]
        events = await told(client)
        assert [event.kind for event in events] == [OPENED, CLOSED]
        assert events[-1].data["reason"] == "its process has started anew"

    play(scene, **ALONE)


class Full(Refusal):
    """A rule says no."""

    code = "breakers_test.full"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (Unavailable(), True),
        (TimedOut(), True),
        (ContractBreach(), True),
        (Failed("a bug"), True),
        (Overloaded(), False),
        (Conflict(), False),
        (ModelUnavailable(), False),
        (NotFound(), False),
        (Full(), False),
    ],
)
def test_what_counts_against_an_agent(error: HanseError, fault: bool):
    assert is_its_fault(error) is fault


def test_refusals_never_open_it():
    Hans.troubles = iter([Full()] * 30)

    async def scene(town: Town, people: Process) -> None:
        client = town.client(people)
        await here(client)
        assert await forged(client, 30) == ["breakers_test.full"] * 30
        assert not await told(client)

    play(scene, **ALONE)
