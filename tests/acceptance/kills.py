"""A thousand deaths (G1, G6, G7): `python -m tests.acceptance.kills --kills 1000`.

A town on real Ray works off plans of twenty steps, with an outside that counts, questions to a person, refusals,
compensations and tasks that are cancelled, while its processes are killed with SIGKILL one after the other: at every
named point of a coordinator's, an agent's and a gateway's work in turn, and every other time at any moment. Everything
is submitted over HTTP under idempotency keys. At the end journals, stores and the outside are read as they lie on disk:
nothing that was acknowledged is lost, and nothing happened twice.

How long each took to come back is measured too: from the kill to the next step that the same agent completes, or to
the first step that the next reign completes.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from hanse import Federation
from hanse.agents import faults as agent_faults
from hanse.benchmarks.machine import facts, percentile
from hanse.contracts import Event, HanseError, Kind, Submission, TaskStatus, Unavailable
from hanse.runtime import actors, faults
from hanse.runtime.client import Client
from hanse.runtime.config import AgentEntry
from hanse.runtime.world import ORDERS_VARIABLE

from . import outside
from .town import Crier, Square, Vault

AT_ONCE = 16
"""Tasks under way."""
STEPS = 20
CANCELLED = 0.1
"""Share of the tasks of which nobody wants to know any more as soon as they are there."""
HOSTS = {"vault": "hall", "crier": "square"}
COORDINATOR, GATEWAY = "coordinator", "gateway"
POINTS = {
    **{point: "hall" for point in agent_faults.POINTS if point.startswith("agent.")},
    **{point: "square" for point in agent_faults.POINTS if point.startswith("effect.")},
    **dict.fromkeys(faults.POINTS, COORDINATOR),
    faults.BEFORE_ANSWER: GATEWAY,
}
"""Who dies at which point. Both hosts come by the agents' points, so either may."""
PATIENCE_SECONDS = 120.0


@dataclass
class Death:
    victim: str
    at: str
    """The named point, or nothing for any moment."""
    seconds: float = math.nan
    """Until it worked again."""


@dataclass
class Slaughter:
    """Kills, while others work."""

    federation: Federation
    orders: Path
    data: Path
    random: Random
    deaths: list[Death] = field(default_factory=list[Death])
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    """Task by idempotency key, as a client was told over HTTP."""
    problems: list[str] = field(default_factory=list[str])
    held: Counter[str] = field(default_factory=Counter[str])
    """Steps that a person had to let go on, by why."""
    _seen: int = 0
    _news: list[tuple[float, Event]] = field(default_factory=list[tuple[float, Event]])
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _over: bool = False

    async def go(self, kills: int, shown: Progress, bar: TaskID) -> None:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(each) for each in (self._listen(), self._approve())]
            workers = [group.create_task(self._work(number)) for number in range(AT_ONCE)]
            points = itertools.cycle(POINTS)
            for number in range(kills):
                await self._kill(next(points) if number % 2 == 0 else "")
                shown.advance(bar)
            self._over = True
            await asyncio.wait(workers)
            for helper in helpers:
                helper.cancel()

    @property
    def client(self) -> Client:
        return self.federation.client

    # Work

    async def _work(self, worker: int) -> None:
        """One task after the other, until enough have died."""
        async with Federation.connect(str(self.federation.url)) as http:
            for number in itertools.count():
                if self._over:
                    return
                await self._one(http.client, f"{worker}-{number}")

    async def _one(self, http: Client, key: str) -> None:
        asked = Submission(plan=_plan(Random(key)), idempotency_key=key)
        view = await _insisting(lambda: http.submit(asked))
        if self.acknowledged.setdefault(key, view.id) != view.id:
            self.problems.append(f"one key, two tasks: {key}")
        task = view.id
        if Random(key).random() < CANCELLED:
            await _insisting(lambda: http.cancel(task, "thought better of it"))
        while not view.status.terminal:
            view = await _insisting(lambda: http.wait(task, 10))
            if view.status is TaskStatus.INPUT_REQUIRED:
                await asyncio.sleep(0.05)

    async def _approve(self) -> None:
        """A person who says yes to everything, and that a step under which its agents died may be tried again."""
        while True:
            for asked in await _insisting(self.client.approvals):
                with contextlib.suppress(HanseError):
                    await self.client.decide(asked.id, approve=True, digest=asked.digest)
            for task in await _insisting(lambda: self.client.tasks(status=TaskStatus.INPUT_REQUIRED)):
                for held in task.held:
                    self.held[held.why] += 1
                    with contextlib.suppress(HanseError):
                        await self.client.resume(task.id, "again", step=held.step)
            await asyncio.sleep(0.1)

    async def _listen(self) -> None:
        while True:
            events = await _insisting(lambda: self.client.events(after=self._seen, wait_seconds=5))
            now = time.perf_counter()
            for event in events:
                self._seen = event.sequence
                self._news.append((now, event))
            self._woken.set()

    # Death

    async def _kill(self, point: str) -> None:
        death = Death(POINTS.get(point) or self.random.choice([COORDINATOR, *HOSTS.values()]), point)
        homes = await self._homes() if point else {}
        self._news.clear()
        died = await (self._at(point) if point else self._at_any_moment(death.victim))
        if point and death.victim in HOSTS.values():
            death.victim = homes[died[1]]
        death.seconds = await self._back(death.victim, died[0])
        self.deaths.append(death)

    async def _homes(self) -> dict[int, str]:
        """Hosts by process, when all are back: whose death it was that came to a point is told by its process alone."""
        while True:
            homes = {each.pid: each.host for each in await _insisting(self.client.agents) if each.healthy}
            if {*homes.values()} == {*HOSTS.values()}:
                return homes
            await asyncio.sleep(0.01)

    async def _at(self, point: str) -> tuple[float, int]:
        """When the order was carried out, and by which process."""
        (self.orders / point).touch()
        if point == faults.RECOVERING:
            await self._at_any_moment(COORDINATOR)
        until = time.perf_counter() + PATIENCE_SECONDS
        while not (fired := list(self.orders.glob(f"{point}.[0-9]*"))):
            if time.perf_counter() > until:
                raise TimeoutError(f"nobody came by {point}")
            await asyncio.sleep(0.005)
        died = time.perf_counter(), int(fired[0].name.rpartition(".")[2])
        fired[0].unlink()
        return died

    async def _at_any_moment(self, victim: str) -> tuple[float, int]:
        await asyncio.sleep(self.random.uniform(0, 0.3))  # any moment
        while True:
            pid = await _insisting(lambda: self._pid(victim))
            with contextlib.suppress(ProcessLookupError):  # it has just died of something else
                os.kill(pid, signal.SIGKILL)
                return time.perf_counter(), pid

    async def _pid(self, victim: str) -> int:
        if victim == COORDINATOR:
            return (await self.client.status()).coordinators[0]
        pids = [each.pid for each in await self.client.agents() if each.host == victim and each.healthy]
        if not pids:
            raise Unavailable(f"{victim} is not back yet")
        return pids[0]

    async def _back(self, victim: str, died: float) -> float:
        """Seconds until the victim worked again, as seen from outside."""
        if victim == GATEWAY:
            await _insisting(lambda: self._answers())
            return time.perf_counter() - died
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._first_work(victim, died) - died
        except TimeoutError:
            raise TimeoutError(
                f"{victim} does not work again; after {self.deaths[-3:]}; {await self._told()}"
            ) from None

    async def _told(self) -> str:
        view = await self.client.status()
        agents = {agent.id: (agent.healthy, agent.reason, agent.in_flight) for agent in view.agents}
        return f"agents {agents}, tasks {view.tasks}, news {[str(event.kind) for _, event in self._news[-20:]]}"

    async def _first_work(self, victim: str, died: float) -> float:
        while (back := next(self._works_again(victim, died), None)) is None:
            self._woken.clear()
            await self._woken.wait()
        return back

    async def _answers(self) -> None:
        async with Federation.connect(str(self.federation.url)) as http:
            await http.client.tasks(limit=1)

    def _works_again(self, victim: str, died: float) -> Iterator[float]:
        """When the first step was completed after it came back."""
        came = False
        for at, event in self._news:
            if at < died:
                continue
            if victim == COORDINATOR:
                came = came or event.kind is Kind.COORDINATOR_STARTED
            elif event.kind is Kind.AGENT_JOINED:
                came = came or HOSTS[event.data["agent"]] == victim
            if came and event.kind is Kind.STEP_COMPLETED and victim in (COORDINATOR, HOSTS[event.data["agent"]]):
                yield at

    # Judgement

    def judge(self) -> Counter[str]:
        """From the disk. Raises AssertionError for a broken promise."""
        told = outside.check_journal(self.data, self.acknowledged.values())
        outside.check_effects(self.data / "heard", told, "crier.cry")
        outside.check_receipts(self.data, told)
        assert not self.problems, self.problems
        return Counter(str(run.status) for run in told.values())


async def _insisting(ask: Any) -> Any:
    """The answer, however often the other side dies before it gives one."""
    while True:
        try:
            return await ask()
        except HanseError as error:
            if error.verdict != "retry":
                raise
            await asyncio.sleep(0.05)


def _plan(random: Random) -> dict[str, Any]:
    """Twenty steps: most keep numbers, some are cried out, and one plan in five is refused at its end."""
    steps: list[dict[str, Any]] = []
    for number in range(STEPS - 1):
        put = {"call": "vault.put", "input": {"name": random.choice("abcd"), "number": random.randint(1, 9)}}
        cry = {"call": "crier.cry", "input": {"words": f"hear {number}"}}
        after = [steps[random.randrange(len(steps))]["id"]] if steps and random.random() < 0.8 else []
        steps.append({"id": f"s{number}", "after": after} | (cry if random.random() < 0.25 else put))
    last = "vault.refuse" if random.random() < 0.2 else "vault.total"
    kept = [step["id"] for step in steps if step["call"] == "vault.put"]
    steps[-1] |= {"for_each": [1, 2]} if random.random() < 0.5 else {"when": False}
    steps.append({"id": "last", "call": last, "input": {"name": "a", "number": 1}, "after": kept[-3:]})
    return {"steps": steps}


@contextlib.asynccontextmanager
async def _town(data: Path, orders: Path) -> AsyncIterator[Federation]:
    os.environ[ORDERS_VARIABLE] = str(orders)
    actors.PATIENCE_SECONDS = 90.0
    square = {"file": str(data / "heard"), "settle_seconds": 0}
    try:
        async with Federation.local(
            agents=[
                AgentEntry(**{"class": Vault, "host": HOSTS["vault"]}),
                AgentEntry(**{"class": Crier, "host": HOSTS["crier"]}),
            ],
            data=data,
            http=True,
            connectors={"square": {"kind": "class", "class": f"{Square.__module__}:Square", "options": square}},
            approvals=[{"capability": "crier.cry"}],
            gateway={"port": 0, "open_on_loopback": True},
        ) as federation:
            yield federation
    finally:
        del os.environ[ORDERS_VARIABLE]


async def slaughter(kills: int, folder: Path, seed: int, console: Console) -> Slaughter:
    """Kills so many, waits for the end of all work, and judges. Raises AssertionError for a broken promise."""
    data, orders = folder / "data", folder / "orders"
    data.mkdir()
    orders.mkdir()
    async with _town(data, orders) as federation:
        killing = Slaughter(federation, orders, data, Random(seed))
        with Progress(console=console, transient=True) as shown:
            await killing.go(kills, shown, shown.add_task("killed", total=kills))
    return killing


def _told(killing: Slaughter, ended: Counter[str]) -> dict[str, Any]:
    back: dict[str, list[float]] = defaultdict(list)
    for death in killing.deaths:
        back[death.victim].append(death.seconds)
    at = Counter(death.at for death in killing.deaths if death.at)
    return {
        "benchmark": "kills",
        "kills": len(killing.deaths),
        "tasks": len(killing.acknowledged),
        "ended": dict(ended),
        "held": dict(killing.held),
        "lost": 0,
        "doubled": 0,
        "points": len(at),
        "least_hits_of_a_point": min(at.values(), default=0),
        "seconds_to_come_back": {
            who: {"n": len(each), "p50": percentile(each, 0.5), "p99": percentile(each, 0.99), "max": max(each)}
            for who, each in sorted(back.items())
        },
        "machine": facts(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        killing = asyncio.run(slaughter(options.kills, Path(folder), options.seed, console))
        told = _told(killing, killing.judge())
    table = Table(title=f"{told['kills']} deaths, {told['tasks']} tasks, nothing lost, nothing doubled")
    for column in ("who died", "times", "back after s p50", "p99", "max"):
        table.add_column(column, justify="left" if column == "who died" else "right")
    for who, each in told["seconds_to_come_back"].items():
        table.add_row(who, str(each["n"]), *(f"{each[name]:.2f}" for name in ("p50", "p99", "max")))
    console.print(table)
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
