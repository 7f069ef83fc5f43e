"""Journals of a release, written down for every release after it: `tests/data/journals/README.md` says when and how.

    python -m tests.support.recording 0.1.0        # writes tests/data/journals/0.1.0.xz

Each journal is one coordinator's, entry by entry as they lay on its disk: of simulated federations with everything that
goes wrong there, and of one in which tasks are forked. Beside it stands the state hash of each of its tasks, as the
release that wrote it gives it.
"""

import asyncio
import lzma
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import Event, Fork, Refusal, capability
from hanse.contracts.wire import decode_event, encode_event
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Federation
from hanse.runtime.replay import Replay
from hanse.runtime.simulation.fate import MOODS, Fault, Planned
from hanse.runtime.simulation.story import tell
from hanse.runtime.simulation.village import Mood

FOLDER = Path(__file__).parents[1] / "data" / "journals"
SEEDS = range(1000, 1100)
SILENT_SEEDS = range(12)


@dataclass(frozen=True)
class Recorded:
    """One journal."""

    name: str
    entries: list[bytes]
    states: dict[str, str]
    """Task to the state hash that its replay must end with."""


def read(file: Path) -> list[Recorded]:
    return [Recorded(**each) for each in msgpack.unpackb(lzma.decompress(file.read_bytes()))]


def write(file: Path, journals: list[Recorded]) -> None:
    data = [{"name": each.name, "entries": each.entries, "states": each.states} for each in journals]
    file.write_bytes(lzma.compress(msgpack.packb(data), preset=9 | lzma.PRESET_EXTREME))  # type: ignore[arg-type]


def replays(entries: list[bytes]) -> dict[str, Replay]:
    """Every task of a journal, read again."""
    found: dict[str, Replay] = {}
    for entry in entries:
        event = decode_event(entry)
        if event.task is not None:
            found.setdefault(event.task, Replay()).take(event, entry)
    return {task: replay.end() for task, replay in found.items()}


def recorded(name: str, entries: list[bytes]) -> Recorded:
    """With the states as this release gives them. Fails for a journal that this release cannot replay."""
    found = replays(entries)
    for task, replay in found.items():
        assert replay.divergence is None, (name, task, replay.divergence)
    return Recorded(name, entries, {task: replay.state for task, replay in found.items()})


def simulated() -> Iterator[Recorded]:
    for seed in SEEDS:
        yield recorded(f"seed {seed}", _entries(tell(seed).journal))
    for seed in SILENT_SEEDS:
        planned = [Planned(Fault.OUTSIDE, 0.5, 11, "outside", MOODS.index(Mood.VEILED))]
        yield recorded(f"seed {seed}, silent", _entries(tell(seed, planned).journal))


def _entries(journal: list[Event]) -> list[bytes]:
    return [encode_event(event) for event in journal]


class Cents(BaseModel):
    cents: int


class Closed(Refusal):
    code = "recording.closed"


class Till(Agent):
    """Takes money, and gives it back."""

    domain = "till"

    @capability(effect="reversible", compensation="give_back", price_cents=2)
    async def pay(self, request: Cents, context: Context) -> Cents:
        """Pay."""
        if request.cents > 900:
            raise Closed(cents=request.cents)
        return request

    @capability(effect="irreversible")
    async def give_back(self, request: Cents, context: Context) -> Cents:
        """Give back."""
        return request


TILLS = [AgentEntry.model_validate({"class": Till, "name": name}) for name in ("north", "south")]


def _plan(last: int) -> dict[str, Any]:
    pay = {"id": "pay", "call": "till.pay", "input": {"cents": {"$from": "input.cents"}}}
    each = {"id": "each", "call": "till.pay", "for_each": [1, 2, 3], "input": {"cents": {"$from": "item"}}}
    maybe = {"id": "maybe", "call": "till.pay", "input": {"cents": 999}, "optional": True}
    never = {"id": "never", "call": "till.pay", "input": {"cents": 1}, "when": {"$ok": "maybe"}}
    end = {"id": "end", "call": "till.pay", "input": {"cents": last}, "after": ["pay", "each", "never"]}
    return {"steps": [pay, each, maybe, never, end], "output": {"$from": "end"}}


async def forked() -> Recorded:
    """Tasks that end in each way, forked from each of their steps, and forks of forks."""
    async with Federation.in_process(TILLS) as federation:
        for last in (1, 999):
            task = await federation.submit(plan=_plan(last), input={"cents": 5})
            await task.wait(30)
            for step in ("pay", "each", "end"):
                fork = await federation.client.fork(task.id, Fork(step=step))
                await federation.client.wait(fork.id, 30)
                again = await federation.client.fork(fork.id, Fork(step="end", plan=_plan(7)))
                await federation.client.wait(again.id, 30)
        events = await federation.client.events()
    return recorded("forks", _entries(events))


def main(release: str) -> None:
    journals = [*simulated(), asyncio.run(forked())]
    write(FOLDER / f"{release}.xz", journals)
    tasks = sum(len(each.states) for each in journals)
    events = sum(len(each.entries) for each in journals)
    print(f"{len(journals)} journals, {tasks} tasks, {events} events")


if __name__ == "__main__":
    main(sys.argv[1])
