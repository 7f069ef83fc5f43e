"""Tools for models: their schemas, and that nothing comes past them."""

from collections.abc import Iterable
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from hanse.contracts import AgentId, InvalidInput, NotFound, Tenant, TooLarge
from hanse.contracts.caller import Caller
from hanse.contracts.memory import Draft, Layer, Record
from hanse.memory import tools
from hanse.runtime.tenant_memory import LinkedMemory

from ..support.memory import clean_memory
from .plain import SHOP, ann


async def test_a_model_remembers_recalls_revises_and_forgets():
    async with clean_memory() as service:
        own = LinkedMemory(
            service, Caller(tenant=Tenant(SHOP), by="scribe", agent=AgentId("scribe"), labels=("private",))
        )
        fact = {"entity": "ann", "attribute": "drink", "value": "green tea"}
        told = await tools.call("memory_remember", {"text": "Ann drinks green tea.", "fact": fact}, own)
        assert (told["outcome"], told["version"]) == ("stored", 1)
        found = await tools.call("memory_recall", {"query": "green tea"}, own)
        assert found["labels"] == ["private"], "labels travel with what is recalled"
        assert (found["hits"][0]["id"], found["hits"][0]["fact"]) == (told["id"], fact)
        revised = await tools.call("memory_revise", {"id": told["id"], "version": 1, "text": "Ann drinks tea."}, own)
        assert revised["version"] == 2
        assert (await tools.call("memory_timeline", {}, own))["records"] == []
        gone = await tools.call("memory_forget", {"ids": [told["id"]]}, own)
        assert gone["records"] == [told["id"]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("memory_remember", {}),
        ("memory_remember", {"text": "x", "pinned": True}),
        ("memory_remember", {"text": "x", "tenant": "other"}),
        ("memory_remember", {"text": "x", "provenance": {"by": "ann"}}),
        ("memory_remember", ["x"]),
        ("memory_recall", {"query": "x", "limit": 10_000}),
        ("memory_recall", {"query": "x", "include_quarantined": True}),
        ("memory_forget", {"ids": []}),
        ("memory_revise", {"id": "r"}),
    ],
)
async def test_what_a_model_may_not_decide_is_refused(name, arguments):
    async with clean_memory() as service:
        with pytest.raises(InvalidInput):
            await tools.call(name, arguments, LinkedMemory(service, Caller(tenant=Tenant(SHOP), by="m")))


async def test_an_unknown_tool_is_named_with_the_known_ones():
    async with clean_memory() as service:
        with pytest.raises(NotFound, match="memory_recall"):
            await tools.call("memory_sell", {}, LinkedMemory(service, Caller(tenant=Tenant(SHOP), by="m")))


@pytest.mark.parametrize("tool", tools.descriptions(), ids=lambda tool: tool["name"])
def test_a_tool_is_described_as_mcp_wants_it(tool):
    assert set(tool) == {"name", "title", "description", "inputSchema", "annotations"}
    assert tool["description"].endswith(".")
    schema = tool["inputSchema"]
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    Draft202012Validator(schema)


def test_only_forgetting_destroys_and_only_finding_reads():
    hints = {tool["name"]: tool["annotations"] for tool in tools.descriptions()}
    assert [name for name, each in hints.items() if each["destructiveHint"]] == ["memory_forget"]
    assert [name for name, each in hints.items() if each["readOnlyHint"]] == ["memory_recall", "memory_timeline"]


def test_the_pool_takes_the_same_tools():
    assert [tool.name for tool in tools.for_chat()] == [tool["name"] for tool in tools.descriptions()]


# What a conversation keeps


def conversation(service: Any, found: Iterable[str] = ()) -> tools.Conversation:
    scribe = Caller(tenant=Tenant(SHOP), by="scribe", agent=AgentId("scribe"))
    return tools.Conversation(LinkedMemory(service, scribe), found)


async def letter(service: Any, text: str = "Ben writes that Ann drinks tea.", *labels: str) -> Record:
    [told] = await service.remember([Draft(text=text, labels=labels)], ann())
    return told.record


async def test_what_a_model_keeps_is_derived_from_all_that_it_has_found():
    async with clean_memory() as service:
        source = await letter(service, "Ben writes that Ann drinks tea.", "private")
        talk = conversation(service)
        before = await talk.call("memory_remember", {"text": "The lamp stands in hall nine."})
        await talk.call("memory_recall", {"query": "what does Ann drink", "subject": None})
        after = await talk.call("memory_remember", {"text": "Tea should be in the next parcel."})
        kept = await service.get(after["id"], ann())
        assert source.id in kept.provenance.derived_from
        assert kept.labels == ("private",)
        assert (await service.get(before["id"], ann())).provenance.derived_from == ()


async def test_what_is_forgotten_takes_along_what_a_model_made_of_it():
    async with clean_memory() as service:
        source = await letter(service)
        talk = conversation(service)
        await talk.call("memory_recall", {"query": "tea"})
        told = await talk.call("memory_remember", {"text": "A parcel for her needs a kettle."})
        certificate = await service.forget([source.id], ann())
        assert certificate.derived == [told["id"]]


async def test_a_revision_is_derived_too_and_inherits_labels():
    async with clean_memory() as service:
        own = await conversation(service).call("memory_remember", {"text": "Parcels leave at noon."})
        source = await letter(service, "Ben writes that parcels leave at dawn.", "untrusted-carrier")
        talk = conversation(service, [source.id])
        revised = await talk.call("memory_revise", {"id": own["id"], "version": 1, "text": "Parcels leave at dawn."})
        assert revised["labels"] == ["untrusted-carrier"]
        kept = await service.get(own["id"], ann())
        assert kept.provenance.derived_from == (source.id,)
        assert (await service.forget([source.id], ann())).derived == [own["id"]]


async def test_the_timeline_counts_as_found_and_what_one_forgets_does_not():
    async with clean_memory() as service:
        [told] = await service.remember([Draft(text="Ann rang twice.", layer=Layer.EPISODIC, episode="day")], ann())
        talk = conversation(service)
        await talk.call("memory_timeline", {"episode": "day"})
        assert talk.found == (told.record.id,)
        own = conversation(service)
        noted = await own.call("memory_remember", {"text": "The lamp stands in hall nine."})
        await own.call("memory_recall", {"query": "lamp"})
        assert noted["id"] in own.found
        await own.call("memory_forget", {"ids": [noted["id"]]})
        assert noted["id"] not in own.found


async def test_nothing_is_made_of_what_was_deleted_meanwhile():
    async with clean_memory() as service:
        source = await letter(service)
        talk = conversation(service)
        await talk.call("memory_recall", {"query": "tea"})
        await service.forget([source.id], ann())
        with pytest.raises(InvalidInput, match=r"deleted meanwhile\. Begin a new conversation"):
            await talk.call("memory_remember", {"text": "A parcel for her needs a kettle."})


async def test_a_conversation_has_an_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "MAX_FOUND", 1)
    async with clean_memory() as service:
        await letter(service)
        await letter(service, "The warehouse is in Kiel.")
        with pytest.raises(TooLarge, match="Begin a new one"):
            await conversation(service).call("memory_recall", {"query": ""})
