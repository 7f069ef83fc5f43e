"""What the memory does though nobody asks: snapshots of what changed, summaries, room."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import Unavailable
from hanse.contracts.caller import Caller
from hanse.contracts.memory import Draft, Layer
from hanse.memory import hygiene
from hanse.memory.consolidation import Policy
from hanse.memory.service import MemoryService, Settings
from hanse.memory.writing import Budget

from ..support.memory import clean_memory
from .plain import ann, memory

SOON = 0.02


class Told:
    """A verb that somebody waits for."""

    def __init__(self, *, fails: int = 0) -> None:
        self.callers: list[Caller] = []
        self.begun, self.called = asyncio.Event(), asyncio.Event()
        self._fails = fails

    async def __call__(self, service: MemoryService, parameters: Mapping[str, Any], caller: Caller) -> Any:
        self.callers.append(caller)
        self.begun.set()
        if len(self.callers) <= self._fails:
            raise Unavailable("not now")
        self.called.set()


async def test_who_wrote_something_is_tidied_and_nobody_else():
    consolidate, tidy = Told(), Told()
    verbs = {"consolidate": consolidate, "tidy": tidy}
    async with memory(settings=Settings(tidy_seconds=SOON), verbs=verbs, started=True) as service:
        await service.remember([Draft(text="Ann came by.")], ann("one"))
        await asyncio.wait_for(tidy.called.wait(), 10)
        await service.remember([Draft(text="Bob came by.")], ann("two"))
        tidy.called.clear()
        await asyncio.wait_for(tidy.called.wait(), 10)
    assert [each.tenant for each in consolidate.callers] == ["one", "two"]
    assert {each.by for each in tidy.callers} == {"upkeep"}


async def test_a_round_that_fails_does_not_end_the_rounds():
    consolidate, tidy = Told(fails=1), Told()
    verbs = {"consolidate": consolidate, "tidy": tidy}
    async with memory(settings=Settings(tidy_seconds=SOON), verbs=verbs, started=True) as service:
        await service.remember([Draft(text="Ann came by.")], ann())
        await asyncio.wait_for(consolidate.begun.wait(), 10)
        await service.remember([Draft(text="Bob came by.")], ann())
        await asyncio.wait_for(tidy.called.wait(), 10)


async def test_what_is_over_the_budget_goes_by_itself():
    """The verbs of the product: by hand they would be asked for, here nobody asks."""
    evicted = asyncio.Event()

    async def tidy(service: MemoryService, parameters: Mapping[str, Any], caller: Caller) -> Any:
        told = await hygiene.tidy(service, {"records": 3}, caller)
        if told["evicted"]:
            evicted.set()
        return told

    verbs = {**hygiene.verbs(None, Policy()), "tidy": tidy}
    async with clean_memory(settings=Settings(tidy_seconds=SOON, budget=Budget()), verbs=verbs) as service:
        await service.start()
        texts = [
            f"Number {number}: {word} was delivered."
            for number, word in enumerate(["tea", "salt", "rope", "nails", "tar"])
        ]
        await service.remember([Draft(text=text, layer=Layer.EPISODIC) for text in texts], ann())
        await asyncio.wait_for(evicted.wait(), 20)
        assert (await service.tell("stats", {}, ann()))["records"] == 3


async def test_what_changed_is_snapshotted_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with memory(snapshots=tmp_path, settings=Settings(snapshot_seconds=SOON), started=True) as service:
        assert service.snapshots is not None
        written, write = asyncio.Event(), service.snapshots.write

        async def noted(*about: Any) -> Any:
            manifest = await write(*about)
            written.set()
            return manifest

        monkeypatch.setattr(service.snapshots, "write", noted)
        await service.remember([Draft(text="Ann came by.")], ann())
        await asyncio.wait_for(written.wait(), 20)
    assert list(tmp_path.rglob("*.parquet"))
