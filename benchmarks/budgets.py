"""Budgets under fire (goal G14): many plans at once on one tenant's day, while processes are killed and replies lost.

Not a speed. The federation is the simulation's: the real coordinator, agents and stores, on a clock, a network and
disks that are made from the seed. What is held and spent is read from the journal by somebody who shares no code with
those who reserve, after every single entry: a level that was over its limit at any of them is an overspend.

    python -m hanse.benchmarks.budgets --plans 100
"""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import Random

from ..contracts import Budget, Event, HanseError, JsonObject, Kind, Submission, TaskId, TaskStatus, Tenant
from ..contracts.wire import decode_event
from ..runtime.audit import verify
from ..runtime.budgets import LEASE_SECONDS, Cap
from ..runtime.execution import fold
from ..runtime.simulation.bursar import MICRO, Bursar
from ..runtime.simulation.fate import Fate, Fault, Planned
from ..runtime.simulation.loop import Process, VirtualLoop, run_to_end
from ..runtime.simulation.story import find_out
from ..runtime.simulation.town import COORDINATOR, HOSTS, Town
from ..runtime.simulation.village import fresh_weather, random_plan
from .machine import show

TENANT = Tenant("default")
SAFETY_SECONDS = 30.0
"""In which things go wrong."""
LIVENESS_SECONDS = 900.0
DELAY_SECONDS = 0.05
"""That a message takes, on average, while things go wrong: so much is under way when somebody dies."""
HURTS = (*[Fault.KILL] * 6, *[Fault.CUT] * 4, Fault.STOP, Fault.DOUBLE, Fault.PART, Fault.ALL_DOWN, Fault.OUTSIDE)


class Market:
    """One seed: so many plans, all on one tenant's day, which can pay for about a third of them."""

    def __init__(self, seed: int, plans: int, faults: int, *, clocks: bool) -> None:
        self._random = Random(seed)
        self._plans = plans
        self.cap = round(plans * self._random.uniform(1, 4), 1)
        self.loop = VirtualLoop()
        self.town = Town(self.loop, Random(seed), caps={TENANT: Cap(cents=self.cap, human_minutes=plans / 4)})
        hurts = (*HURTS, *[Fault.CLOCK] * 3) if clocks else HURTS
        self.fate = Fate(self.town, [_fault(self._random, hurts) for _ in range(faults)])
        self.town.network.delay = DELAY_SECONDS
        self.unfinished: list[str] = []

    def run(self) -> None:
        """To the end of every plan."""
        fresh_weather()
        run_to_end(self.loop, self._go())

    async def _go(self) -> None:
        self.town.start_all()
        self.fate.begin()
        self.loop.later(SAFETY_SECONDS, self.fate.heal)
        people = Process("people", self.loop)
        self._client = self.town.client(people)
        deciding = people.spawn(self._decide())
        errands = [people.spawn(self._errand(number)) for number in range(self._plans)]
        try:
            async with asyncio.timeout(SAFETY_SECONDS + LIVENESS_SECONDS):
                await asyncio.gather(*errands)
        except TimeoutError:
            self.unfinished.append("not everything has ended")
        finally:
            deciding.cancel()

    async def _errand(self, number: int) -> None:
        random = Random(f"{number} {self._random.random()}")
        budget = Budget(cents=random.randint(1, 8)) if random.random() < 0.4 else None
        asked = Submission(plan=_with_budgets(random), idempotency_key=f"plan-{number}", budget=budget)
        await asyncio.sleep(random.uniform(0, 10))
        while True:
            try:
                view = await self._client.submit(asked)
                break
            except HanseError:
                await asyncio.sleep(0.5)
        while not (await self._client.wait(view.id, 5)).status.terminal:  # noqa: ASYNC110 - it waits for people
            await asyncio.sleep(0.2)

    async def _decide(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.2, 2))
            for question in await self._client.approvals():
                try:
                    await self._client.decide(question.id, approve=True, digest=question.digest)
                except HanseError as error:
                    if error.code not in ("conflict", "not_found"):
                        self.unfinished.append(str(error))
            await self._see_to_held()

    async def _see_to_held(self) -> None:
        for task in await self._client.tasks(status=TaskStatus.INPUT_REQUIRED):
            for held in task.held:
                choice, result = await find_out(self.town.outside, task, held)
                with suppress(HanseError):  # it was resumed meanwhile
                    await self._client.resume(task.id, choice, step=held.step, result=result)

    # Judging

    def judge(self) -> JsonObject:
        """What came of it, read from the disk alone."""
        events = self.town.events()
        bursar = Bursar({TENANT: {"cents": self.cap, "minutes": self._plans / 4}})
        problems = [*bursar.read(events), *self.unfinished, *self._unlike(bursar)]
        problems += verify(self.town.disks[COORDINATOR]).problems  # pyright: ignore[reportArgumentType]
        ends = Counter(_end(event) for event in events if event.kind.ends_task)
        return {
            "events": len(events),
            "cap": self.cap,
            "spent": sum(level.spent for key, level in bursar.levels.items() if key[:2] == ("cents", "tenant")) / MICRO,
            "overspent": bursar.overspent / MICRO,
            "ends": ends,
            "kills": self.town.deaths,
            "lost": self.town.network.lost,
            "back": list(_dead_for(events)),
            "problems": problems,
        }

    def _unlike(self, bursar: Bursar) -> Iterator[str]:
        """What the coordinator keeps per day, and what its runs fold to, is what the events add up to."""
        for (what, kind, name), level in bursar.levels.items():
            if what == "cents" and kind == "tenant" and name:
                day = name.partition(" ")[2]
                rows = self.town.disks[COORDINATOR].read("spent_on_day", (TENANT, day))
                if (kept := rows[0][0] if rows else 0) != level.spent:
                    yield f"{kept} were kept for {name}, and {level.spent} were spent"
            if level.held.total():
                yield f"{name} still holds {level.held.total()} at the end"
            if what == "cents" and kind == "task":
                events = (event for event in self.events_of(TaskId(name)))
                run = fold(events)
                if run is None or round(run.spent_cents * MICRO) != level.spent:
                    yield f"{name} folds to another sum than its events"

    def events_of(self, task: TaskId) -> list[Event]:
        rows = self.town.disks[COORDINATOR].read("entries_of_task", (task, 0, 1_000_000))
        return [decode_event(entry) for _, entry, _ in rows]


def _with_budgets(random: Random) -> JsonObject:
    plan = random_plan(random)
    for step in plan["steps"]:
        if random.random() < 0.2:
            step["budget"] = {"cents": random.choice([0.5, 1, 2, 5]), "human_minutes": random.choice([0, 5])}
    return plan


def _fault(random: Random, hurts: Sequence[Fault]) -> Planned:
    target = random.choice([COORDINATOR, COORDINATOR, *HOSTS])
    at, seconds = random.uniform(0, SAFETY_SECONDS * 0.8), random.choice([0.3, 3, 8]) * random.random()
    return Planned(random.choice(hurts), at, seconds, target, random.randint(1, 400))


def _end(event: Event) -> str:
    return str(event.kind.partition(".")[2]) if event.kind is not Kind.TASK_FAILED else str(event.data["error"]["code"])


def _dead_for(events: Sequence[Event]) -> Iterator[float]:
    """Seconds from a holder's death until what it held was settled or given back."""
    died: dict[str, int] = {}
    for event in events:
        name = f"{event.task}/{event.step}"
        if event.kind is Kind.STEP_INTERRUPTED:
            died.setdefault(name, event.at_ms)
        elif event.kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED) and name in died:
            yield (event.at_ms - died.pop(name)) / 1000


def measure(plans: int, rounds: int, faults: int, first: int = 0) -> JsonObject:
    """All rounds together. In every second round wall clocks jump too, so nothing is timed in it."""
    found: list[JsonObject] = []
    for round_ in range(first, first + rounds):
        market = Market(round_, plans, faults, clocks=round_ % 2 == 1)
        market.run()
        found.append(market.judge() | {"timed": round_ % 2 == 0})
    back = sorted(seconds for each in found if each["timed"] for seconds in each["back"])
    ends = sum((each["ends"] for each in found), Counter[str]())
    return {
        "rounds": rounds,
        "plans": plans * rounds,
        "events": sum(each["events"] for each in found),
        "kills": sum(each["kills"] for each in found),
        "lost_messages": sum(each["lost"] for each in found),
        "overspent_cents": max(each["overspent"] for each in found),
        "spent_of_caps": round(sum(each["spent"] for each in found) / sum(each["cap"] for each in found), 3),
        "completed": ends["completed"],
        "budget_exhausted": ends["budget_exhausted"],
        "other_ends": ends.total() - ends["completed"] - ends["budget_exhausted"],
        "dead_reservations": len(back),
        "longest_seconds": back[-1] if back else 0.0,
        "problems": [problem for each in found for problem in each["problems"]][:5],
    }


def main() -> int:
    """0 when nothing was overspent, everything ended, and dead reservations came back within their lease."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts must not depend on the day
        again = [sys.executable, "-m", "hanse.benchmarks.budgets", *sys.argv[1:]]
        return subprocess.run(again, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=100, help="at once, on one tenant's day")
    parser.add_argument("--rounds", type=int, default=20, help="each from a seed of its own")
    parser.add_argument("--faults", type=int, default=25, help="per round")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # processes that are killed have much to say
    figures = measure(options.plans, options.rounds, options.faults, options.first)
    show("budgets", [{"figure": name.replace("_", " "), "value": value} for name, value in figures.items()], **figures)
    return 1 if figures["problems"] or figures["longest_seconds"] > LEASE_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
