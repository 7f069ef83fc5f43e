"""Poisoned memory under fire: whoever dies when, nothing goes out that only a poisoned record asked for, and what
people ask for does. Fault F46, goal G18.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import Random
from typing import Any, cast

import pytest

from hanse.agents import Agent, Context
from hanse.agents.marking import Marking
from hanse.contracts import ApprovalView, Conflict, HanseError, RetryPolicy, Submission, TaskStatus, Tenant, capability
from hanse.contracts.caller import Caller
from hanse.contracts.labels import UNTRUSTED
from hanse.contracts.memory import Hit, Memory, Query, Recollection, Record
from hanse.runtime.client import LinkClient, all_events
from hanse.runtime.execution import Run
from hanse.runtime.simulation.bursar import Bursar
from hanse.runtime.simulation.loop import Process
from hanse.runtime.simulation.referee import referee
from hanse.runtime.simulation.stage import play
from hanse.runtime.simulation.town import COORDINATOR, Town
from hanse.runtime.simulation.village import Crier, Cry

MANY = RetryPolicy(initial_interval=0.1, max_interval=0.5, max_attempts=1000)
POISON = [f"mallory {number}" for number in range(10)]


class Shelf:
    """A memory in which ten rows are poisoned. What is asked for is found."""

    async def recall(self, query: Query, caller: Caller) -> Recollection:
        await asyncio.sleep(0.005)
        hits = [Hit(record=_record(caller.tenant, text), score=1, why="all of them") for text in POISON]
        return Recollection(hits=hits, labels=[UNTRUSTED])


def _record(tenant: Tenant, text: str) -> Record:
    return Record(id=f"row {text}", tenant=tenant, text=text, labels=(UNTRUSTED,), created_ms=1, updated_ms=1)


class Clerk(Agent):
    """Does what it reads."""

    domain = "clerk"
    name = "clerk"

    @capability(effect="read", retry=MANY)
    async def read(self, request: Cry, context: Context) -> Cry:
        """Recall, and say what is to be done."""
        found = await context.memory.recall(request.words)
        await asyncio.sleep(0.01)
        return Cry(words=found.hits[int(request.words)].record.text)

    @capability(effect="irreversible", price_cents=9, timeout_seconds=60, retry=MANY)
    async def obey(self, request: Cry, context: Context) -> Cry:
        """Cry what one is asked for, recall, and cry that too."""
        if request.words.startswith("first"):
            await context.connectors.square.cry(words=request.words)
        found = await context.memory.recall(request.words)
        await context.connectors.square.cry(words=found.hits[0].record.text)
        return request

    @capability(effect="irreversible", price_cents=9, timeout_seconds=60, retry=MANY)
    async def pass_on(self, request: Cry, context: Context) -> Cry:
        """Recall, and have it cried."""
        found = await context.memory.recall(request.words)
        return Cry(**await context.tasks.call("crier.cry", Cry(words=found.hits[1].record.text)))


class Loud(Crier):
    """Is tried again until it is heard."""

    domain = "crier"
    name = "crier"

    @capability(effect="irreversible", price_cents=2, timeout_seconds=60, retry=MANY)
    async def cry(self, request: Cry, context: Context) -> Cry:
        """Cry words out, once."""
        await context.connectors.square.cry(words=request.words)
        return request


def cry(words: Any, **parts: Any) -> dict[str, Any]:
    return {"id": "cry", "call": "crier.cry", "input": {"words": words}, **parts}


def read(id: str = "read") -> dict[str, Any]:
    return {"id": id, "call": "clerk.read", "input": {"words": "3"}}


DUTIES: Sequence[list[dict[str, Any]]] = (
    [read(), cry({"$from": "read.words"})],
    [read(), cry("evil", when={"$eq": [{"$from": "read.words"}, POISON[3]]})],
    [read(), cry({"$from": "item"}, for_each=[{"$from": "read.words"}, "evil too"])],
    [{"id": "obey", "call": "clerk.obey", "input": {"words": "hello"}}],
    [{"id": "pass", "call": "clerk.pass_on", "input": {"words": "hello"}}],
)
HALL: Mapping[str, Any] = {
    "agents": [Clerk, Loud],
    "hosts": {"hall": ["clerk"], "street": ["crier"]},
    "options": {"memory": cast("Memory", Shelf())},
    "rules": (),
}


async def ends(client: LinkClient, task: str, *, yes: bool) -> TaskStatus:
    """Answers what is asked until it is over."""
    while not (view := await client.wait(task, 5)).status.terminal:
        for question in await client.approvals():
            await says(client, question, yes=yes)
        for held in view.held:
            await client.resume(task, "give_up", step=held.step)
    return view.status


async def says(client: LinkClient, question: ApprovalView, *, yes: bool) -> None:
    with suppress(Conflict):  # its task is over
        await client.decide(question.id, approve=yes, digest=question.digest)


async def scene(town: Town, people: Process, random: Random, *, yes: bool, deaths: int = 10) -> list[TaskStatus]:
    """What was asked for by people is cried; what only a poisoned row asks for waits for them."""
    client = town.client(people)
    plans = [*DUTIES, [cry("letter one")], [read("idle"), cry("letter two", after=["idle"])]]
    asked = [
        Submission(plan={"steps": steps, "output": None}, idempotency_key=f"k{number}")
        for number, steps in enumerate(plans)
    ]
    views = [await client.submit(each) for each in asked]
    for _ in range(deaths):
        await asyncio.sleep(random.uniform(0.005, 0.2))
        town.processes[random.choice([COORDINATOR, "hall", "street"])].kill()
    await asyncio.sleep(60)
    assert sum(town.outside.heard.values()) == 2, "before anybody was asked, what people asked for and nothing else"
    statuses = [await ends(client, view.id, yes=yes) for view in views]
    for view in await client.tasks(limit=100):
        assert (await client.replay(view.id)).divergence is None
        referee(await all_events(client, view.id))
    assert not list(Bursar({}).read(town.events()))
    assert set(town.outside.heard.values()) == {1}
    return statuses


@pytest.mark.parametrize("seed", range(12))
def test_nothing_goes_out_that_only_a_poisoned_row_asked_for(seed: int):
    def heard(town: Town, people: Process) -> Any:
        return scene(town, people, Random(seed), yes=False)

    statuses = play(heard, seed=seed, **HALL)
    assert statuses == ["failed"] * len(DUTIES) + ["completed"] * 2


@pytest.mark.parametrize("seed", range(6))
def test_what_a_person_lets_out_goes_out_once(seed: int):
    async def heard(town: Town, people: Process) -> tuple[list[TaskStatus], int]:
        statuses = await scene(town, people, Random(100 + seed), yes=True)
        return statuses, len(town.outside.heard)

    statuses, count = play(heard, seed=seed, **HALL)
    assert (set(statuses), count) == ({"completed"}, 2 + len(DUTIES) + 1)


def test_a_step_that_has_cried_before_it_read_is_not_lost_between():
    """Half of what it does has happened: a no leaves that to a person, and nothing more goes out."""

    async def half(town: Town, people: Process) -> tuple[str, int]:
        client = town.client(people)
        view = await client.submit(Submission(call="clerk.obey", input={"words": "first of all"}))
        await client.wait(view.id, 30)
        (question,) = await client.approvals()
        await client.decide(question.id, approve=False, digest=question.digest)
        held = await client.wait(view.id, 30)
        assert (await client.replay(view.id)).divergence is None
        referee(await all_events(client, view.id))
        return held.held[0].why if held.held else str(held.status), len(town.outside.heard)

    assert play(half, **HALL) == ("half_done", 1)


# Bugs that it finds


def forgets_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator does not fold what was taken up."""
    monkeypatch.setattr(Run, "_takes", lambda run, step, marks: None)


def lets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent does not look at what it has taken up."""
    monkeypatch.setattr(Marking, "check_outward", lambda marking, what: None)


def tells_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child begins as if nobody knew anything."""
    monkeypatch.setattr(Marking, "data", lambda marking: None)


@pytest.mark.parametrize("bug", [forgets_its_attempts, lets_out, tells_no_child])
def test_a_planted_bug_is_found(bug: Any, monkeypatch: pytest.MonkeyPatch):
    bug(monkeypatch)
    with pytest.raises((AssertionError, HanseError)):
        play(lambda town, people: scene(town, people, Random(1), yes=False, deaths=0), **HALL)
