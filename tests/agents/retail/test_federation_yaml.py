"""The configuration the store ships with."""

from pathlib import Path

import pytest

from hanse.agents import retail
from hanse.agents.agent import Agent
from hanse.runtime.config import Configuration, load


@pytest.fixture
def configuration() -> Configuration:
    return load(Path(retail.__file__).with_name("federation.yaml"), {})


def test_it_names_every_agent_of_the_store(configuration: Configuration) -> None:
    offered = {value for value in vars(retail).values() if isinstance(value, type) and issubclass(value, Agent)}
    assert {entry.load() for entry in configuration.agents} == offered


def test_what_it_asks_people_about_exists(configuration: Configuration) -> None:
    contracts = {
        name: each.contract for entry in configuration.agents for name, each in entry.load().capabilities.items()
    }
    for rule in configuration.approvals:
        assert rule.above
        assert rule.above.field in contracts[rule.capability].input_schema["properties"]


def test_every_capability_that_the_plans_call_is_offered_and_undone(configuration: Configuration) -> None:
    capabilities = {
        name: each.contract for entry in configuration.agents for name, each in entry.load().capabilities.items()
    }
    called = {step["call"] for task in retail.customer_tasks() for step in task.plan["steps"]}
    assert called <= set(capabilities)
    undone = {contract.compensation.capability for contract in capabilities.values() if contract.compensation}
    assert undone <= set(capabilities)
