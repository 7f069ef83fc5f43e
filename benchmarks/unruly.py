"""Not a speed: agents that die of one step, fail, hang, and a tenant that floods; what becomes of everybody else.

The federation is real but for the world around it: time, processes, network and disks are those of
`hanse.runtime.simulation`, so seconds are simulated seconds and do not depend on how busy this machine is. What a
coordinator takes of a processor to do all this is therefore not in these figures; `steps` measures that.
"""

import argparse
import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from ..agents import Agent, Context
from ..contracts import (
    Event,
    Kind,
    Overloaded,
    RetryPolicy,
    Submission,
    TaskStatus,
    Unavailable,
    capability,
)
from ..runtime.client import LinkClient
from ..runtime.limits import Limits
from ..runtime.simulation.loop import Process
from ..runtime.simulation.stage import die, play
from ..runtime.simulation.town import Town
from .machine import percentile, show

WORK_SECONDS = 0.1
"""That a handler takes."""
PATIENCE_SECONDS = 250.0
TENANTS = ("flood", "a", "b", "c")
ONCE = RetryPolicy(max_attempts=1)


class Order(BaseModel):
    poisoned: bool = False


class Kitchen(Agent):
    """Cooks, and dies of what is poisoned."""

    domain = "kitchen"

    @capability(effect="irreversible", timeout_seconds=600)
    async def cook(self, request: Order, context: Context) -> Order:
        """Cook an order."""
        await asyncio.sleep(WORK_SECONDS)
        if request.poisoned:
            die()
        return request


class Bakery(Kitchen):
    """Another process, beside it."""

    domain = "bakery"
    name = "bakery"


class Well(Agent):
    """Gives water, unless it is dry."""

    domain = "well"
    dry = False

    @capability(retry=ONCE)
    async def draw(self, request: Order, context: Context) -> Order:
        """Draw a bucket."""
        if type(self).dry:
            raise Unavailable("the well is dry")
        return request


@dataclass
class Street:
    """Traffic: one call after the other, whether or not the one before is answered."""

    client: LinkClient
    call: str
    per_second: float
    until: float
    times: list[float] = field(default_factory=list[float])
    """Seconds that each call took."""
    ended: list[float] = field(default_factory=list[float])
    """When each was completed."""
    sent_away: int = 0

    async def run(self) -> None:
        loop, started = asyncio.get_running_loop(), list[asyncio.Task[None]]()
        while loop.time() < self.until:
            started.append(asyncio.create_task(self._one()))
            await asyncio.sleep(1 / self.per_second)
        await asyncio.gather(*started)

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            view = await self.client.submit(Submission(call=self.call, input={}))
        except Overloaded:
            self.sent_away += 1
            return
        if (await self.client.wait(view.id, PATIENCE_SECONDS)).status is TaskStatus.COMPLETED:
            self.times.append(loop.time() - began)
            self.ended.append(loop.time())


async def ready(town: Town, people: Process, tenant: str = "default") -> LinkClient:
    client = town.client(people, tenant=tenant)
    await client.gather(30)
    await asyncio.sleep(0.5)
    return client


def row(what: str, goal: str, figure: float, n: int) -> dict[str, Any]:
    return {"what": what, "goal": goal, "figure": round(figure, 3), "n": n}


# Poison


def poison(seed: int, seconds: float, *, with_it: bool) -> dict[str, Any]:
    """Traffic at an agent and at the one beside it, with one poisoned order in between or without."""

    async def scene(town: Town, people: Process) -> dict[str, Any]:
        client = await ready(town, people)
        until = town.loop.time() + seconds
        streets = [Street(client, call, 20, until) for call in ("kitchen.cook", "bakery.cook")]
        running = asyncio.gather(*(street.run() for street in streets))
        await asyncio.sleep(seconds / 10)
        task = (await client.submit(Submission(call="kitchen.cook", input={"poisoned": with_it}))).id
        view = await client.wait(task, PATIENCE_SECONDS)
        await running
        events = await _all_events(client)
        suspected = Counter(str(event.task) for event in events if event.kind is Kind.STEP_SUSPECTED)
        return {
            "held": bool(view.held) and view.held[0].why == "poisoned",
            "attempts": suspected.pop(task, 0),
            "innocents_deaths": max(suspected.values(), default=0),
            "lost": sum(street.sent_away for street in streets) + _unfinished(events, task),
            "same_p99": percentile(streets[0].times, 0.99),
            "beside_p99": percentile(streets[1].times, 0.99),
            "deaths": town.deaths,
        }

    hosts = {"kitchen": ["kitchen"], "bakery": ["bakery"]}
    return play(scene, seed=seed, agents=[Kitchen, Bakery], hosts=hosts, restart_seconds=(0.3, 0.6))


async def _all_events(client: LinkClient) -> list[Event]:
    found: list[Event] = []
    while page := await client.events(after=found[-1].sequence if found else 0):
        found += page
    return found


def _unfinished(events: list[Event], but: str) -> int:
    """Tasks that were taken on and not completed, besides one."""
    completed = {event.task for event in events if event.kind is Kind.TASK_COMPLETED}
    return len({event.task for event in events if event.kind is Kind.TASK_SUBMITTED} - completed - {but})


def poison_rows(seeds: int, seconds: float) -> list[dict[str, Any]]:
    found = [(poison(seed, seconds, with_it=True), poison(seed, seconds, with_it=False)) for seed in range(seeds)]
    ill = [each for each, _ in found]
    beside = max(each["beside_p99"] / well["beside_p99"] for each, well in found)
    same = max(each["same_p99"] / well["same_p99"] for each, well in found)
    return [
        row("poisoned steps held for a person, share", "1", sum(each["held"] for each in ill) / seeds, seeds),
        row("deaths until then, at most", "<= 5", max(each["attempts"] for each in ill), seeds),
        row("deaths that any innocent step saw, at most", "< 5", max(each["innocents_deaths"] for each in ill), seeds),
        row("innocent tasks not completed", "0", sum(each["lost"] for each in ill), seeds),
        row("p99 beside it, with poison against without, at most", "<= 1.2", beside, seeds),
        row("p99 at the very agent that dies, likewise", "none", same, seeds),
    ]


# Failures, and silence


def failing(seed: int, seconds: float) -> dict[str, float]:
    """An agent that fails for some time, under traffic, and is well again then."""

    async def scene(town: Town, people: Process) -> dict[str, float]:
        client = await ready(town, people)
        Well.dry, began = True, town.loop.time()
        street = Street(client, "well.draw", 10, began + seconds + 20)
        running = asyncio.gather(street.run())
        await asyncio.sleep(seconds)
        Well.dry = False
        mended_ms = town.clocks["coordinator"].now_ms()
        await running
        events = await _all_events(client)
        probes = [event.at_ms for event in events if event.kind is Kind.BREAKER_HALF_OPEN]
        closed = next(event.at_ms for event in events if event.kind is Kind.BREAKER_CLOSED)
        opened = next(event.sequence for event in events if event.kind is Kind.BREAKER_OPENED)
        return {
            "failures": sum(event.kind is Kind.STEP_FAILED and event.sequence < opened for event in events) + 1,
            "probes_per_second": 1000 / min(later - before for before, later in pairwise(probes)),
            "back_seconds": (closed - mended_ms) / 1000,
        }

    return play(scene, seed=seed, agents=[Well], hosts={"well": ["well"]})


def hanging(seed: int) -> float:
    """Seconds until a process that stands still is found, with a step in its hands."""

    async def scene(town: Town, people: Process) -> float:
        client = await ready(town, people)
        await asyncio.sleep(0.05 * seed)
        await client.submit(Submission(call="kitchen.cook", input={}))
        await asyncio.sleep(WORK_SECONDS / 2)
        town.processes["kitchen"].stop()
        stopped_ms = town.clocks["coordinator"].now_ms()
        await asyncio.sleep(60)
        events = await _all_events(client)
        return next(event.at_ms - stopped_ms for event in events if event.kind is Kind.STEP_INTERRUPTED) / 1000

    return play(scene, seed=seed, agents=[Kitchen], hosts={"kitchen": ["kitchen"]})


def failing_rows(seeds: int, seconds: float) -> list[dict[str, Any]]:
    found = [failing(seed, seconds) for seed in range(seeds)]
    hung = max(hanging(seed) for seed in range(seeds))
    return [
        row("failures until the breaker opens, at most", "<= 5", max(each["failures"] for each in found), seeds),
        row("probes per second, at most", "<= 1", max(each["probes_per_second"] for each in found), seeds),
        row("seconds from mended to closed, at most", "none", max(each["back_seconds"] for each in found), seeds),
        row("seconds until a hung agent is found, at most", "<= 15", hung, seeds),
    ]


# Floods


def flooded(seed: int, seconds: float) -> dict[str, float]:
    """Each tenant's completed tasks over what it was entitled to, while one of four sends twenty times its share."""
    slots = 8
    share = slots / WORK_SECONDS / len(TENANTS)

    async def scene(town: Town, people: Process) -> dict[str, float]:
        clients = {name: await ready(town, people, name) for name in TENANTS}
        begin = town.loop.time()
        streets = {
            name: Street(client, "kitchen.cook", share * (20 if name == "flood" else 1), begin + seconds)
            for name, client in clients.items()
        }
        await asyncio.gather(*(street.run() for street in streets.values()))
        entitled = share * seconds
        done = {name: sum(at <= begin + seconds for at in each.ended) / entitled for name, each in streets.items()}
        return done | {"sent_away": streets["flood"].sent_away}

    limits = Limits(open_tasks=200, in_flight_per_agent=slots, weights=dict.fromkeys(TENANTS, 1.0))
    return play(scene, seed=seed, agents=[Kitchen], hosts={"kitchen": ["kitchen"]}, limits=limits)


def flooded_rows(seeds: int, seconds: float) -> list[dict[str, Any]]:
    found = [flooded(seed, seconds) for seed in range(seeds)]
    least = min(each[name] for each in found for name in TENANTS[1:])
    return [
        row("share of their due that others get beside a flood, at least", ">= 0.8", least, seeds),
        row("of its own that the flooding tenant gets, at most", "none", max(each["flood"] for each in found), seeds),
        row("submissions of the flood answered 429", "> 0", min(each["sent_away"] for each in found), seeds),
    ]


def measure(seeds: int, seconds: float) -> list[dict[str, Any]]:
    """All rows. `seconds` is how long traffic lasts in each scene."""
    return [*poison_rows(seeds, seconds), *failing_rows(seeds, seconds), *flooded_rows(seeds, seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="scenes of each kind")
    parser.add_argument("--seconds", type=float, default=30, help="simulated seconds of traffic in each")
    options = parser.parse_args()
    show("unruly", measure(options.seeds, options.seconds), simulated_seconds=options.seconds)


if __name__ == "__main__":
    main()
