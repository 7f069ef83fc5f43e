"""Tools for models: their schemas, and that nothing comes past them."""

import pytest
from jsonschema_rs import Draft202012Validator

from hanse.contracts import AgentId, InvalidInput, NotFound, Tenant
from hanse.contracts.caller import Caller
from hanse.memory import tools
from hanse.runtime.tenant_memory import LinkedMemory

from ..support.memory import clean_memory
from .plain import SHOP


async def test_a_model_remembers_recalls_revises_and_forgets():
    async with clean_memory() as service:
        scribe = Caller(tenant=Tenant(SHOP), by="scribe", agent=AgentId("scribe"), labels=("private",))
        own = LinkedMemory(service, scribe)
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
