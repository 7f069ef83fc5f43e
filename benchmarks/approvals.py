"""Approvals under fire (goal G15): people decide twice, late, out of order and about something else, while processes
are killed, links break and clocks jump; and a flood of requests is grouped.

Not a speed. Each run is one seed of the simulation, with the real coordinator, agents and stores. What people were told
is held against the journal afterwards: an acknowledged decision that is not in it is lost, one that counts twice is
double, and nothing gated may run without as many of them as its rule says, about its very input and plan, in time.
The flood runs on a federation in this process, with its journal on the disk of `--folder`.

    python -m hanse.benchmarks.approvals --runs 1000
"""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from ..contracts import ApprovalView, Event, HanseError, JsonObject, Kind, Submission, digest
from ..runtime.client import LinkClient
from ..runtime.config import Above, ApprovalRule
from ..runtime.federation import Federation
from ..runtime.flood import decide_all, grouped
from ..runtime.simulation.story import SAFETY_SECONDS, Story, tell
from ..runtime.simulation.village import AGENTS
from .machine import percentile, show

RULES = (
    ApprovalRule(
        capability="vault.put",
        above=Above(field="number", limit=6),
        quorum=2,
        approvers=("ann", "bob", "cy"),
        delegates={"ann": "dee"},
        expires_seconds=40,
    ),
    ApprovalRule(
        capability="vault.put",
        above=Above(field="number", limit=3),
        approvers=("bob",),
        escalate_after_seconds=8,
        escalate_to=("boss",),
        expires_seconds=25,
    ),
    ApprovalRule(capability="crier.cry", sample=2, four_eyes=True, expires_seconds=30),
)
PEOPLE = ("ann", "bob", "cy", "dee", "boss", "eve", "client")
"""`eve` may decide nothing that names its approvers; `client` is who submits."""
REFUSALS = {"conflict", "not_found", "digest_mismatch", "not_allowed", "invalid_input"}


class Yes(NamedTuple):
    """A decision that somebody was told is taken."""

    approval: str
    by: str
    approve: bool
    digest: str


class Council(Story):
    """A story whose people decide as people do."""

    rules = RULES

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._told_yes: list[Yes] = []
        self.tried: Counter[str] = Counter()

    async def _answer_questions(self) -> None:
        """Everybody looks in now and then; what they decide takes its time, and overtakes what others decided."""
        clients = {name: self._town.client(self._people, name) for name in PEOPLE}
        under_way: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(self._random.uniform(0.2, 2))
            questions = await self._client.approvals()
            await self._see_to_held()
            for question in questions:
                other = self._random.choice(questions)
                for name in self._random.sample(PEOPLE, 3):
                    for _ in range(self._random.choice([1, 1, 2])):
                        work = self._say(clients[name], name, question, other)
                        under_way.add(task := self._people.spawn(self._noting(work)))
                        task.add_done_callback(under_way.discard)

    async def _say(self, client: LinkClient, by: str, question: ApprovalView, other: ApprovalView) -> None:
        """One decision, sent some time after it was made."""
        random = self._random
        no = 1 if self._loop.time() < SAFETY_SECONDS else 0  # afterwards everything asked for is to be done
        what = random.choices(["yes", "no", "stale", "other plan", "edit", "bad edit"], [12, no, 1, 1, 2, 1])[0]
        await asyncio.sleep(random.choice([0, 0, 0.01, 1, 45]) * random.random())
        self.tried[what] += 1
        wanted: dict[str, Any] = {"approve": what != "no", "digest": question.digest, "plan": question.plan}
        match what:
            case "stale":
                wanted["digest"] = other.digest
            case "other plan":
                wanted["plan"] = digest("another plan")
            case "edit" if question.capability == "vault.put":
                wanted["input"] = {**question.input, "number": random.randint(1, 9)}
            case "bad edit":
                wanted["input"] = {"number": "many"}
            case _:
                pass
        try:
            await client.decide(question.id, **wanted)
        except HanseError as error:
            if error.code not in REFUSALS:
                self._told.problems.append(f"I5: {error.code}: {error}")
        else:
            self._taken(question, by, wanted, what)

    def _taken(self, question: ApprovalView, by: str, wanted: JsonObject, what: str) -> None:
        if what == "other plan" or (what == "stale" and wanted["digest"] != question.digest):
            self._told.problems.append(f"I5: {what}: a decision about something else was taken for {question.id}")
        elif what == "bad edit":
            self._told.problems.append(f"I5: {question.id} takes an input that breaks its contract")
        else:
            seen = digest(wanted["input"]) if "input" in wanted else wanted["digest"]
            self._told_yes.append(Yes(question.id, by, wanted["approve"], seen))

    # Judging

    def judge(self) -> None:
        super().judge()
        self._told.problems += self._wrong()

    def _wrong(self) -> Iterator[str]:
        of: dict[str, list[Event]] = {}
        for event in self._told.journal:
            if event.kind in _ABOUT:
                of.setdefault(event.data["approval"], []).append(event)
        for yes in set(self._told_yes):
            if not any(_says(event, yes) for event in of.get(yes.approval, [])):
                yield f"I5: lost: {yes}"
        for approval, events in of.items():
            yield from _doubled(approval, events)
            yield from _late(approval, events)
        yield from self._misapplied(of)

    def _misapplied(self, of: dict[str, list[Event]]) -> Iterator[str]:
        plans = {str(e.task): digest(e.data["plan"]) for e in self._told.journal if e.kind is Kind.TASK_SUBMITTED}
        for event in self._told.journal:
            if event.kind is Kind.STEP_AWARDED and (approval := event.data["approval"]):
                decided = next((e for e in of[approval] if e.kind is Kind.APPROVAL_DECIDED), None)
                if decided is None or decided.data["decision"] != "approved":
                    yield f"I5: {event.step} runs without a yes"
                elif (decided.data["digest"], decided.data["plan"]) != (event.data["input"], plans[str(event.task)]):
                    yield f"I5: {event.step} runs with something else than what was approved"


_ABOUT = (
    Kind.APPROVAL_REQUESTED,
    Kind.APPROVAL_VOTED,
    Kind.APPROVAL_EDITED,
    Kind.APPROVAL_ESCALATED,
    Kind.APPROVAL_DECIDED,
)


def _says(event: Event, yes: Yes) -> bool:
    """Whether an event is where a decision that was taken went."""
    if event.data.get("by") != yes.by or event.data.get("digest") != yes.digest:
        return False
    if event.kind is Kind.APPROVAL_DECIDED:
        return event.data["decision"] == ("approved" if yes.approve else "denied")
    return yes.approve and event.kind in (Kind.APPROVAL_VOTED, Kind.APPROVAL_EDITED)


def _doubled(approval: str, events: list[Event]) -> Iterator[str]:
    """A question is asked once and decided once, and no place says yes to the same input twice."""
    for kind in (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED):
        if sum(event.kind is kind for event in events) > 1:
            yield f"I5: {approval} has two of {kind}"
    since: list[str] = []
    for event in events:
        since = [] if event.kind is Kind.APPROVAL_EDITED else since
        yes = event.kind is Kind.APPROVAL_VOTED or event.data.get("decision") == "approved"
        if yes and event.data["seat"] in since:
            yield f"I5: {approval}: {event.data['seat']} counts twice"
        since += [event.data["seat"]] if yes else []


def _late(approval: str, events: list[Event]) -> Iterator[str]:
    expires = next(event.data["expires_ms"] for event in events if event.kind is Kind.APPROVAL_REQUESTED)
    for event in events:
        yes = event.kind in (Kind.APPROVAL_VOTED, Kind.APPROVAL_EDITED) or event.data.get("decision") == "approved"
        if yes and event.at_ms >= expires:
            yield f"I5: {approval}: a yes after it had expired"


def under_fire(runs: int, first: int = 0) -> JsonObject:
    """Every run's figures together."""
    figures, problems = Counter[str](), list[str]()
    for seed in range(first, first + runs):
        told = tell(seed, story=Council)
        problems += [f"seed {seed}: {problem}" for problem in told.problems]
        figures.update(str(event.kind) for event in told.journal if event.kind in _ABOUT)
        figures.update(
            f"decided: {event.data['decision']}" for event in told.journal if event.kind is Kind.APPROVAL_DECIDED
        )
        figures.update(f"faults: {each.fault}" for each in told.planned if each.fired)
        figures["events"] += told.events
    return {"runs": runs, **dict(sorted(figures.items())), "problems": problems[:10], "broken": len(problems)}


TIMED = 200
"""Questions that are decided one after another, for the time that it takes."""
FLOODED = [
    {"capability": "vault.put", "above": {"field": "number", "limit": 6}},
    {"capability": "vault.take_back", "risk": "low"},
    {"capability": "crier.*"},
]


async def flood(requests: int, folder: Path) -> JsonObject:
    """So many questions at once, as prompts; and all of them decided, each by its own digest."""
    async with Federation.in_process(agents=AGENTS[:1], approvals=FLOODED, data=folder) as federation:
        client = federation.client
        random = Random(requests)
        await asyncio.gather(*(client.submit(_request(random, number)) for number in range(requests)))
        questions = await client.approvals()
        groups = grouped(questions)
        times = [await _decided_in(client, each) for each in questions[:TIMED]]
        left = grouped(await client.approvals())
        decided = [await decide_all(client, group.seen, approve=True) for group in left]
        late = await client.approvals()
        return {
            "requests": len(questions),
            "prompts": len(groups),
            "decided": len(times) + sum(len(views) for views, _ in decided),
            "refused": sum(len(refused) for _, refused in decided),
            "left": len(late),
            "decision_p50_ms": percentile(times, 0.5) * 1000,
            "decision_p99_ms": percentile(times, 0.99) * 1000,
        }


async def _decided_in(client: Any, question: ApprovalView) -> float:
    """Seconds from a decision's sending until it, and the award of the step that it lets run, are on disk."""
    began = time.perf_counter()
    await client.decide(question.id, approve=True, digest=question.digest)
    return time.perf_counter() - began


def _request(random: Random, number: int) -> Submission:
    call = random.choice(["vault.put", "vault.take_back"])
    return Submission(call=call, input={"name": f"n{number}", "number": random.randint(7, 999)})


def main() -> int:
    """0 when no decision was lost, doubled, misapplied or late, and the flood became at most 20 prompts."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts must not depend on the day
        again = [sys.executable, "-m", "hanse.benchmarks.approvals", *sys.argv[1:]]
        return subprocess.run(again, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--requests", type=int, default=1000, help="of the flood")
    parser.add_argument("--folder", default=".", help="where the flood's journal lies; a real disk")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # processes that are killed have much to say
    fire = under_fire(options.runs, options.first)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        flooded = asyncio.run(flood(options.requests, Path(folder) / "data"))
    figures = fire | {f"flood: {name}": value for name, value in flooded.items()}
    rows = [{"figure": name, "value": value} for name, value in figures.items() if name != "problems"]
    show("approvals", rows, **figures)
    fine = not fire["broken"] and flooded["prompts"] <= 20 and not flooded["left"] and not flooded["refused"]
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
