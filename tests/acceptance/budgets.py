"""One budget, four coordinators, one PostgreSQL (G14): `python -m tests.acceptance.budgets --plans 100 --deaths 20`.

On real Ray, plans that cost more than a tenant's day are all submitted at once, over four shards of the coordinator
whose journals are schemas of one database, while coordinators and agents are killed with SIGKILL and the server is
killed and restarted: replies are lost, and so are commits whose outcome nobody knows. Afterwards every journal is read
entry by entry by the bursar, who shares no code with those who reserve. A level that was over its limit after any entry
is an overspend.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from hanse import Federation
from hanse.contracts import Event, HanseError, Kind, StorageError, Submission, TaskView, Unavailable
from hanse.runtime.client import Client
from hanse.runtime.simulation.bursar import MICRO, Bursar

from ..support.postgres import Server
from . import outside
from .bank import Clerk

SHARDS = 4
LEASE_SECONDS = 60.0
"""Within which what a dead holder had reserved is settled or given back."""


@dataclass
class Day:
    """A tenant's day that pays for about half of what is asked of it."""

    plans: int
    deaths: int
    seed: int = 0
    views: list[TaskView] = field(default_factory=list[TaskView])
    killed: Counter[str] = field(default_factory=Counter[str])

    @property
    def cap(self) -> float:
        """Cents, in equal parts for the shards."""
        return float(self.plans)

    async def spend(self, server: Server, data: Path, name: str) -> None:
        """To the end of every plan."""
        sections: dict[str, Any] = {
            "federation": {"name": name},
            "store": {"url": server.url},
            "coordinator": {"shards": SHARDS},
            "tenants": [{"name": "default", "budget": {"cents_per_day": self.cap}}],
        }
        async with Federation.local([Clerk], data=data, **sections) as federation:
            trouble = asyncio.create_task(self._trouble(federation.client, server))
            self.views = await asyncio.gather(*(self._errand(federation, each) for each in range(self.plans)))
            await trouble

    async def _errand(self, federation: Federation, number: int) -> TaskView:
        random = Random(f"{self.seed} {number}")
        await asyncio.sleep(random.uniform(0, self.deaths))
        asked = Submission(plan=_plan(random), idempotency_key=f"plan-{number}")
        while True:
            with suppress(Unavailable, StorageError):
                view = await federation.client.submit(asked)
                while not view.status.terminal:
                    view = await federation.client.wait(view.id, 10)
                return view
            await asyncio.sleep(0.2)

    async def _trouble(self, client: Client, server: Server) -> None:
        """One death a second or so; every fifth is the server's."""
        random = Random(self.seed)
        for number in range(self.deaths):
            await asyncio.sleep(random.uniform(0.5, 1.5))
            if number % 5 == 4:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                self.killed["server"] += 1
            else:
                await self._kill(client, random.choice(["coordinator", "coordinator", "agent"]), random)

    async def _kill(self, client: Client, who: str, random: Random) -> None:
        """Somebody who is just coming back is passed over."""
        with suppress(HanseError, ProcessLookupError):
            if who == "agent":
                pids = [agent.pid for agent in await client.agents() if agent.healthy]
            else:
                pids = (await client.status()).coordinators
            if pids:
                os.kill(random.choice(pids), signal.SIGKILL)
                self.killed[who] += 1

    def judge(self, data: Path) -> dict[str, Any]:
        """What came of it, as the journals have it."""
        outside.check_receipts(data, outside.check_journal(data, [view.id for view in self.views]))
        found = [_Shard(outside.events(data, shard), self.cap / SHARDS) for shard in range(SHARDS)]
        back = sorted(seconds for shard in found for seconds in shard.back)
        ends = Counter(view.error.code if view.error else "completed" for view in self.views)
        return {
            "plans": self.plans,
            "ends": dict(ends),
            "deaths": dict(self.killed),
            "reigns": sum(len(outside.epochs(shard.events)) for shard in found),
            "events": sum(len(shard.events) for shard in found),
            "cap_cents": self.cap,
            "spent_cents": sum(shard.spent for shard in found),
            "overspent_cents": max(shard.bursar.overspent for shard in found) / MICRO,
            "dead_reservations": len(back),
            "longest_seconds": back[-1] if back else 0.0,
            "problems": [problem for shard in found for problem in shard.problems],
        }


class _Shard:
    """One coordinator's part of the day."""

    def __init__(self, events: list[Event], cap: float) -> None:
        self.events = events
        self.bursar = Bursar({"default": {"cents": cap, "minutes": None}})
        self.problems = list(self.bursar.read(events))
        self.problems += [
            f"{name} still holds {level.held.total()} at the end"
            for (_, _, name), level in self.bursar.levels.items()
            if level.held.total()
        ]
        tenants = [level for key, level in self.bursar.levels.items() if key[:2] == ("cents", "tenant")]
        self.spent = sum(level.spent for level in tenants) / MICRO
        self.back = list(_dead_for(events))


def _dead_for(events: Sequence[Event]) -> Any:
    """Seconds from a holder's death until what it held was settled or given back."""
    died: dict[tuple[Any, Any], int] = {}
    for event in events:
        if event.kind is Kind.STEP_INTERRUPTED:
            died.setdefault((event.task, event.step), event.at_ms)
        elif event.kind in (Kind.STEP_COMPLETED, Kind.STEP_FAILED) and (event.task, event.step) in died:
            yield (event.at_ms - died.pop((event.task, event.step))) / 1000


def _plan(random: Random) -> dict[str, Any]:
    """Some steps in a row and side by side at a cent each; now and then it may cost less than it wants."""
    steps: list[dict[str, Any]] = []
    for number in range(random.randint(1, 4)):
        after = [random.choice(steps)["id"]] if steps and random.random() < 0.7 else []
        input = {"text": f"entry {number}", "seconds": round(random.uniform(0, 1), 2)}
        steps.append({"id": f"s{number}", "call": "clerk.post", "input": input, "after": after})
    return {"steps": steps, "output": None}


async def measure(plans: int, deaths: int, seed: int, data: Path, server: Server, name: str) -> dict[str, Any]:
    day = Day(plans, deaths, seed)
    await day.spend(server, data, name)
    return day.judge(data)


def main() -> int:
    """0 when nothing was overspent and everything that died gave back in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=100, help="at once, on one tenant's day")
    parser.add_argument("--deaths", type=int, default=20, help="of processes, each fifth the database server's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    server = Server()
    try:
        with tempfile.TemporaryDirectory(prefix="hanse-budgets-") as folder:
            found = asyncio.run(
                measure(options.plans, options.deaths, options.seed, Path(folder) / "data", server, "budgets")
            )
    finally:
        server.close()
    table = Table("figure", "value")
    for figure, value in found.items():
        table.add_row(figure.replace("_", " "), str(value))
    Console().print(table)
    print(json.dumps({"benchmark": "budgets on PostgreSQL", **found}))
    return 1 if found["problems"] or found["overspent_cents"] or found["longest_seconds"] > LEASE_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
