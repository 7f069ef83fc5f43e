"""The shared memory in a running federation: agents remember and recall, whoever runs again says it once, and what
needs no memory goes on without it.
"""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import (
    Conflict,
    ContractBreach,
    DeadlineExceeded,
    InvalidConfiguration,
    NotAllowed,
    Unavailable,
    capability,
)
from hanse.contracts.memory import Draft, Layer, Scope
from hanse.memory.consolidation import DAY_MS
from hanse.runtime.assembly import World
from hanse.runtime.audit.anchors import read_anchors
from hanse.runtime.audit.folder import audit
from hanse.runtime.config import Configuration
from hanse.runtime.federation import Federation
from hanse.runtime.parts import memory_shard
from hanse.runtime.world import SystemEntropy

from ..memory.plain import Clock, WordEmbedder, ann
from ..support.pool import ScriptedModels
from ..support.postgres import Server

MEMORY = {"shards": 2}


class Text(BaseModel):
    text: str


class Found(BaseModel):
    texts: list[str]
    labels: list[str] = []


class Clerk(Agent):
    """Remembers."""

    domain = "clerk"

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    @capability(effect="reversible", compensation="forget")
    async def note(self, request: Text, context: Context) -> Found:
        """Remember a text."""
        told = await context.memory.remember(request.text, subject="anna")
        record = told.record
        assert (record.provenance.agent, record.provenance.task) == ("clerk", context.task_id)
        return Found(texts=[record.id])

    @capability(effect="reversible", compensation="forget")
    async def jot(self, request: Text, context: Context) -> Found:
        """Write something down while working."""
        told = await context.memory.remember(request.text, layer="working")
        return Found(texts=[told.record.id])

    @capability(effect="irreversible")
    async def forget(self, request: Text, context: Context) -> Found:
        """Forget what was said about a text."""
        found = await context.memory.recall(request.text)
        certificate = await context.memory.forget([hit.record for hit in found.hits])
        return Found(texts=certificate.records)

    @capability(effect="irreversible")
    async def count(self, request: Text, context: Context) -> Found:
        """Say how often it was asked, and lose against others now and then."""
        number = await context.state.get("counts", "all", default=0) + 1
        told = await context.memory.remember(f"asked {number} times {request.text}", payload={"number": number})
        await asyncio.sleep(0)
        await context.state.put("counts", "all", number)
        return Found(texts=[told.record.text])

    @capability(effect="read")
    async def look(self, request: Text, context: Context) -> Found:
        """Recall."""
        found = await context.memory.recall(request.text, limit=5)
        return Found(texts=[hit.record.text for hit in found.hits], labels=found.labels)

    @capability(effect="read")
    async def scribble(self, request: Text, context: Context) -> Found:
        """Break the promise only to read."""
        await context.memory.remember(request.text)
        return Found(texts=[])

    @capability(effect="irreversible")
    async def repeat(self, request: Text, context: Context) -> Found:
        """Say again what was read."""
        await context.memory.recall(request.text)
        told = await context.memory.remember("it was read and understood")
        return Found(texts=[], labels=list(told.record.labels))

    @capability(effect="irreversible")
    async def correct(self, request: Text, context: Context) -> Found:
        """Revise what is known."""
        found = await context.memory.recall(request.text, limit=1)
        record = found.hits[0].record
        revised = await context.memory.revise(record, text=f"{record.text} indeed")
        with pytest.raises(Conflict):
            await context.memory.revise(record, text="never")
        with pytest.raises(NotAllowed):
            await context.memory.pin(revised)
        line = await context.memory.history(revised)
        return Found(texts=[each.text for each in line])

    @capability(effect="pure")
    async def think(self, request: Text) -> Text:
        """Needs nobody."""
        return request


def federation(**more: Any) -> Federation:
    return Federation.in_process([Clerk], **{"memory": MEMORY, "embedder": WordEmbedder(), **more})


async def test_agents_remember_recall_revise_and_forget():
    async with federation() as running:
        await running.call("clerk.note", {"text": "anna likes letters"})
        await running.call("clerk.note", {"text": "the warehouse is in Kiel"})
        found = await running.call("clerk.look", {"text": "what does anna like"})
        assert found["texts"][0] == "anna likes letters"
        corrected = await running.call("clerk.correct", {"text": "anna likes letters"})
        assert corrected["texts"] == ["anna likes letters", "anna likes letters indeed"]
        await running.call("clerk.forget", {"text": "anna likes letters"})
        assert (await running.call("clerk.look", {"text": "anna"}))["texts"] == []


async def test_a_tenant_s_own_budget_of_memory_is_in_the_configuration():
    tenants = [{"name": "default", "memory": {"records": 2}}, {"name": "bank"}]
    async with federation(tenants=tenants, memory=MEMORY | {"characters_per_tenant": 5000}) as running:
        told = await running.memory.tell("stats")
        assert told["budget"] == {"records": 2, "characters": 5000}


async def test_what_a_task_jots_down_is_for_its_own_steps():
    steps = [
        {"id": "jot", "call": "clerk.jot", "input": {"text": "the lamp is on shelf nine"}},
        {"id": "look", "call": "clerk.look", "input": {"text": "lamp"}, "after": ["jot"]},
    ]
    async with federation() as running:
        task = await running.submit(plan={"steps": steps, "output": {"$from": "look.texts"}})
        assert await task.result(10) == ["the lamp is on shelf nine"]
        assert (await running.call("clerk.look", {"text": "lamp"}))["texts"] == []


async def test_a_pool_writes_the_summaries_where_there_is_one(tmp_path: Path):
    clock, pool = Clock(), ScriptedModels(lambda ask, caller: "Visitors asked for rooms with a view.")
    configuration = Configuration.for_agents([], data=tmp_path, memory={})
    part = memory_shard(configuration, World(clock, SystemEntropy()), print, 0, WordEmbedder(), pool)
    await part.start()
    said = [f"Visitor {number} asked for room {number}00 with a view of garden {number}." for number in range(10)]
    drafts = [Draft(text=text, layer=Layer.EPISODIC, episode="desk", labels=("front",)) for text in said]
    await part.service.remember(drafts, ann())
    clock.ms += 60 * DAY_MS
    [made] = (await part.service.tell("consolidate", {}, ann()))["summaries"]
    summary = await part.service.get(made["id"], ann())
    await part.stop()
    [(ask, caller)] = pool.asked
    assert (summary.text, summary.provenance.model) == ("Visitors asked for rooms with a view.", "sha256:1")
    assert len(summary.provenance.derived_from) == 10
    assert set(ask.sources) <= set(said)
    assert (caller.tenant, caller.labels) == (ann().tenant, ("front",))


async def test_handlers_that_lose_and_run_again_say_it_once():
    async with federation() as running:
        answers = await asyncio.gather(*(running.call("clerk.count", {"text": f"word{i}"}) for i in range(12)))
        numbers = sorted(int(answer["texts"][0].split()[1]) for answer in answers)
        assert numbers == list(range(1, 13))
        found = await running.memory.recall(limit=100)
        assert sorted(hit.record.payload["number"] for hit in found.hits) == numbers
        assert {hit.record.text for hit in found.hits} == {answer["texts"][0] for answer in answers}


async def test_who_has_read_something_untrusted_speaks_untrusted():
    async with federation() as running:
        await running.memory.remember("a letter from outside came in", labels=["private", "mail"])
        assert (await running.call("clerk.repeat", {"text": "letter from outside"}))["labels"] == ["mail", "private"]


async def test_a_capability_that_only_reads_writes_nothing():
    async with federation() as running:
        with pytest.raises(ContractBreach, match="only reads"):
            await running.call("clerk.scribble", {"text": "anna was here"})
        assert (await running.memory.recall()).hits == []


async def test_people_remember_pin_and_tell():
    async with federation() as running:
        told = await running.memory.remember([Draft(text="never refund twice"), "or thrice in a row"])
        assert (await running.memory.pin(told[0].record)).pinned
        assert (await running.memory.tell("stats"))["records"] == 2
        assert (await running.memory.get(told[0].record.id)).provenance.by == "local"


async def test_work_that_needs_no_memory_goes_on_without_it():
    async with federation(memory=None) as running:
        assert await running.call("clerk.think", {"text": "a"}) == {"text": "a"}
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await running.call("clerk.look", {"text": "a"}, deadline_seconds=1)
        with pytest.raises(Unavailable, match="memory:"):
            _ = running.memory


async def test_with_stores_in_a_database_it_is_there_after_a_restart_until_it_is_forgotten(
    tmp_path: Path, server: Server
):
    sections: Any = {"data": tmp_path, "federation": {"name": "memories"}, "store": {"url": server.url}}
    async with federation(**sections) as running:
        told = await running.memory.remember([Draft(text="the key lies under the mat"), "the shop is in Kiel"])
    async with federation(**sections) as running:
        assert (await running.memory.recall("where is the key")).hits[0].record.id == told[0].record.id
        await running.memory.forget([told[0].record])
        assert [hit.record.text for hit in (await running.memory.recall("where is the key")).hits] == [
            "the shop is in Kiel"
        ]
    async with federation(**sections) as running:
        assert [hit.record.text for hit in (await running.memory.recall(limit=9)).hits] == ["the shop is in Kiel"]
    assert {each.journal for each in audit(tmp_path) if each.report.ok} == {"coordinator-0", "memory-0", "memory-1"}


async def test_what_was_remembered_is_there_after_a_restart_and_shards_stay_as_they_were(tmp_path: Path):
    async with federation(data=tmp_path) as running:
        told = await running.memory.remember("the key lies under the mat", scope=Scope.SUBJECT, owner="anna")
    async with federation(data=tmp_path) as running:
        assert (await running.memory.recall("where is the key")).hits[0].record.id == told.record.id
    with pytest.raises(InvalidConfiguration, match="laid out in 2"):
        async with federation(data=tmp_path, memory={"shards": 3}):
            pass


async def test_addresses_are_masked_as_they_are_written_where_a_tenant_wants_it(tmp_path: Path):
    sections: Any = {"memory": MEMORY, "tenants": [{"name": "default", "memory": {"mask": ["e-mail"]}}]}
    async with federation(data=tmp_path, **sections) as running:
        told = await running.memory.remember("Write to ann@example.com about the mat.")
        assert told.record.text == "Write to [e-mail] about the mat."
        revised = await running.memory.revise(told.record, text="Or to bob@example.com.")
        assert revised.text == "Or to [e-mail]."
        assert (await running.memory.recall("who is ann@example.com")).hits[0].record.text == "Or to [e-mail]."
    assert b"@example" not in b"".join(file.read_bytes() for file in tmp_path.rglob("memory-*"))


async def test_the_heads_of_its_journal_are_kept_outside_and_tell_when_it_was_cut(tmp_path: Path):
    data, heads = tmp_path / "var", tmp_path / "heads"
    sections = {"data": data, "audit": {"anchors": [{"kind": "file", "path": str(heads)}]}}
    async with federation(**sections) as running:
        for number in range(3):
            await running.call("clerk.note", {"text": f"number {number}"})
    kept = [head for head in read_anchors([heads]).heads if head.journal.startswith("memory-")]
    assert kept
    assert [each.journal for each in audit(data, [head.head for head in kept]) if not each.report.ok] == []
    last = max(kept, key=lambda head: head.sequence)
    with closing(apsw.Connection(str(data / f"{last.journal}.sqlite"))) as store:
        store.execute("DELETE FROM journal WHERE sequence = ?", (last.sequence,))
    (cut,) = [each for each in audit(data, [head.head for head in kept]) if not each.report.ok]
    assert (cut.journal, "ends at entry" in cut.report.problems[0]) == (last.journal, True)
