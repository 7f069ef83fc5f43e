"""Checks the contracts of a whole configuration before anything is started: what no single class can know.

A class proves its own contracts when it is created. Here they meet: the compensation that another agent must offer,
two agents with one name, two providers that promise different things, a rule that fits nothing. Each finding says
what to write.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..agents import Agent
from ..contracts import (
    Capability,
    CapabilityName,
    Contract,
    HanseError,
    InvalidConfiguration,
    JsonObject,
)
from ..contracts.template import references
from .assembly import make_connectors
from .config import AgentEntry, ApprovalRule, Configuration


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend (`error`) or to look at (`warning`)."""

    severity: str
    about: str
    detail: str

    def to_data(self) -> JsonObject:
        return {"severity": self.severity, "about": self.about, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Offered:
    """One agent of the configuration with what it offers."""

    agent: str
    capabilities: Mapping[CapabilityName, Capability]


def check(configuration: Configuration) -> tuple[list[Offered], list[Finding]]:
    """Every agent that could be loaded, and everything that was found, errors first."""
    agents, findings = list[Offered](), list[Finding]()
    for entry in configuration.agents:
        try:
            agents.append(_load(entry))
        except HanseError as error:
            findings.append(Finding("error", entry.label, error.detail))
    findings += [
        *_names(agents),
        *_compensations(agents),
        *_providers(agents),
        *_connectors(configuration),
        *_rules(agents, configuration.approvals),
    ]
    return agents, sorted(findings, key=lambda finding: finding.severity)


def contracts(configuration: Configuration) -> Iterator[Contract]:
    """What the agents of a configuration promise. Raises what keeps one of them from being loaded."""
    for entry in configuration.agents:
        yield from (each.contract for each in _load(entry).capabilities.values())


def _load(entry: AgentEntry) -> Offered:
    """Makes the agent as its host would, so that wrong options are found too. Nothing starts."""
    cls = entry.load()
    if not issubclass(cls, Agent):
        raise InvalidConfiguration(f"{cls.__qualname__} is not an agent. Write: class {cls.__name__}(Agent): …")
    agent = cls.configured(name=entry.name, options=entry.options)
    return Offered(agent.name, agent.capabilities)


def _connectors(configuration: Configuration) -> Iterator[Finding]:
    try:
        make_connectors(configuration)
    except HanseError as error:
        yield Finding("error", "connectors", error.detail)


def _names(agents: Iterable[Offered]) -> Iterator[Finding]:
    seen = set[str]()
    for offered in agents:
        if offered.agent in seen:
            yield Finding("error", offered.agent, "two agents have this name. Give each its own: name: …")
        seen.add(offered.agent)


def _compensations(agents: list[Offered]) -> Iterator[Finding]:
    known = _by_name(agents)
    for offered in agents:
        for capability in offered.capabilities.values():
            yield from _compensation(capability, known)


def _compensation(capability: Capability, known: Mapping[CapabilityName, list[Capability]]) -> Iterator[Finding]:
    undo = capability.contract.compensation
    if undo is None:
        return
    about = capability.contract.full_name
    if undo.capability not in known:
        yield Finding("error", about, _no_such(undo.capability, known))
        return
    for other in known[undo.capability]:
        yield from (Finding("error", about, text) for text in _unbound(capability, undo.input, other))


def _no_such(wanted: CapabilityName, known: Iterable[CapabilityName]) -> str:
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Add the agent that offers it, or name another one"
    return f"its compensation {wanted} is offered by no agent of this configuration. {hint}"


def _unbound(capability: Capability, template: Mapping[str, Any], undo: Capability) -> Iterator[str]:
    """What the compensation needs and does not get, and what it gets from nowhere."""
    schema = undo.contract.input_schema
    for name in schema.get("required", []):
        if name not in template:
            yield f"its compensation {undo.contract.name} needs {name!r}. Write: {_suggestion(capability, name)}"
    for name in template:
        if name not in schema.get("properties", {name: None}):
            yield f"its compensation {undo.contract.name} takes no {name!r}. It takes {_listed(schema)}"
    for text in references(dict(template)):
        if problem := _nowhere(capability, text):
            yield problem


def _suggestion(capability: Capability, name: str) -> str:
    source = next((source for source, shape in _sources(capability).items() if name in _fields(shape)), None)
    reference = f"{source}.{name}" if source else "output.…"
    return f'compensation_input={{"{name}": {{"$from": "{reference}"}}}}'


def _nowhere(capability: Capability, text: str) -> str:
    """Why a reference such as `output.moved` leads nowhere, or nothing."""
    root, _, path = text.partition(".")
    sources = _sources(capability)
    if root not in sources:
        return f"its compensation_input refers to {text!r}. Refer to input.… or output.…"
    field = path.partition(".")[0]
    fields = _fields(sources[root])
    return (
        f"its {root} has no {field!r}. It has {_listed(sources[root])}"
        if field and fields and field not in fields
        else ""
    )


def _providers(agents: list[Offered]) -> Iterator[Finding]:
    """Interchangeable providers promise the same, or callers are surprised by whoever wins."""
    for name, offers in _by_name(agents).items():
        for other in offers[1:]:
            if other.input.schema.get("properties") != offers[0].input.schema.get("properties"):
                yield Finding("warning", name, "its providers take different inputs, so an award decides what is valid")
            elif other.contract.effect is not offers[0].contract.effect:
                yield Finding("warning", name, "its providers differ in effect, so an award decides what can be undone")


def _rules(agents: list[Offered], rules: Iterable[ApprovalRule]) -> Iterator[Finding]:
    known = _by_name(agents)
    for number, rule in enumerate(rules):
        fitting = [offers[0] for name, offers in known.items() if fnmatchcase(name, rule.capability)]
        about = f"approvals[{number}]"
        if not fitting and known:
            near = difflib.get_close_matches(rule.capability, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            yield Finding("warning", about, f"{rule.capability} fits no capability, so nobody is ever asked.{hint}")
        for capability in fitting if rule.above else ():
            yield from _amount(about, rule, capability)


def _amount(about: str, rule: ApprovalRule, capability: Capability) -> Iterator[Finding]:
    assert rule.above
    field, fields = rule.above.field.partition(".")[0], _fields(capability.input.schema)
    if fields and field not in fields:
        takes = _listed(capability.input.schema)
        detail = f"{capability.contract.name} takes no {field!r}, so a person is always asked. It takes {takes}"
        yield Finding("warning", about, detail)


def _by_name(agents: Iterable[Offered]) -> dict[CapabilityName, list[Capability]]:
    found: dict[CapabilityName, list[Capability]] = {}
    for offered in agents:
        for name, capability in offered.capabilities.items():
            found.setdefault(name, []).append(capability)
    return found


def _sources(capability: Capability) -> dict[str, JsonObject]:
    return {"input": capability.contract.input_schema, "output": capability.contract.output_schema}


def _fields(schema: JsonObject) -> JsonObject:
    return schema.get("properties", {})


def _listed(schema: JsonObject) -> str:
    return ", ".join(_fields(schema)) or "nothing"
