"""One seed from its beginning to its end: what people ask of the town, what goes wrong, and whether promises held."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ...contracts import (
    Budget,
    Conflict,
    Effect,
    Event,
    Fork,
    HanseError,
    HeldView,
    InvalidInput,
    StepStatus,
    Submission,
    TaskId,
    TaskStatus,
    TaskView,
)
from ...contracts.holding import Choice, Why
from ...contracts.plain import unpack
from ...contracts.wire import decode_event
from ..audit import Audit
from ..config import ApprovalRule
from ..execution import Run, StepRun, fold
from ..replay import Replay
from .bursar import Bursar
from .fate import Fate, Planned, random_faults
from .loop import Process, Stuck, VirtualLoop, run_to_end
from .referee import referee
from .town import COORDINATOR, RULES, Town
from .village import Outside, fresh_weather, random_plan

SAFETY_SECONDS = 8.0
"""In which things go wrong."""
HEALED_AT = SAFETY_SECONDS + 4
PATIENCE_SECONDS = 5.0
"""Before somebody says what came of an effect that nobody knows about."""
LIVENESS_SECONDS = 900.0
"""After healing. By then everything has come to its end, or never will."""


@dataclass
class Told:
    """What came of one seed."""

    seed: int
    digest: str = ""
    """Over the journal: the same seed gives the same one."""
    events: int = 0
    tasks: Counter[str] = field(default_factory=Counter[str])
    held: Counter[str] = field(default_factory=Counter[str])
    """Steps that a person had to resume, by why."""
    seconds: float = 0
    """That passed in the town."""
    planned: list[Planned] = field(default_factory=list[Planned])
    problems: list[str] = field(default_factory=list[str])
    journal: list[Event] = field(default_factory=list[Event])


def tell(seed: int, planned: list[Planned] | None = None, story: "type[Story] | None" = None) -> Told:
    """Runs one seed, with faults of its own or the given ones. What breaks a promise is in `problems`."""
    told = Told(seed)
    loop = VirtualLoop()
    fresh_weather()
    teller = (story or Story)(loop, Random(seed), told, planned)
    try:
        run_to_end(loop, teller.go(), teller.judge)
    except Stuck as error:
        told.problems.append(str(error))
    told.seconds = loop.time()
    return told


async def find_out(outside: Outside, task: TaskView, held: HeldView) -> tuple[Choice, Any]:
    """Goes to the square and asks those who were there; or has what is broken mended. The choice, and the result."""
    if held.why != Why.OUTCOME_UNKNOWN:
        return Choice.AGAIN, None
    await asyncio.sleep(PATIENCE_SECONDS)  # what is on its way has arrived by then
    was_heard = any(key.startswith(f"{task.id}/{held.step}!") for key in +outside.heard)
    return (Choice.HAPPENED, {"words": "somebody heard it"}) if was_heard else (Choice.NOT_HAPPENED, None)


class Story:
    """People, and what they ask for."""

    rules: Sequence[ApprovalRule] = RULES

    def __init__(self, loop: VirtualLoop, random: Random, told: Told, planned: list[Planned] | None) -> None:
        self._loop = loop
        self._random = random
        self._told = told
        self._town = Town(loop, Random(random.random()), self.rules)
        chance = random_faults(Random(random.random()), SAFETY_SECONDS)
        self._fate = Fate(self._town, chance if planned is None else planned)
        told.planned = self._fate.planned
        self._acknowledged: set[str] = set()
        self._views: dict[str, TaskView] = {}
        self._done = asyncio.Event()

    async def go(self) -> None:
        """To the end of every task."""
        self._town.start_all()
        self._fate.begin()
        self._loop.later(HEALED_AT, self._fate.heal)
        people = self._people = Process("people", self._loop)
        self._client = self._town.client(people)
        errands = [people.spawn(self._noting(self._errand(number))) for number in range(self._random.randint(1, 6))]
        answering = people.spawn(self._noting(self._answer_questions()))
        try:
            async with asyncio.timeout(SAFETY_SECONDS + LIVENESS_SECONDS):
                await asyncio.gather(*errands)
                await self._noting(self._still_works())
        except TimeoutError:
            self._told.problems.append(f"I11: not everything has ended {LIVENESS_SECONDS:g} s after healing")
        finally:
            answering.cancel()

    async def _noting(self, errand: Coroutine[Any, Any, None]) -> None:
        """An answer that nobody expects is a broken promise, and no reason to stop looking."""
        try:
            await errand
        except HanseError as error:
            self._told.problems.append(f"I15: {type(error).__name__}: {error}")

    async def _errand(self, number: int) -> None:
        """One task of one person, who asks twice when in a hurry, and may think better of it."""
        random = Random(self._random.random())
        await asyncio.sleep(random.uniform(0, SAFETY_SECONDS * 0.75))
        asked = Submission(
            plan=random_plan(random),
            idempotency_key=f"errand-{number}",
            budget=Budget(cents=random.randint(1, 12)) if random.random() < 0.2 else None,
            deadline_seconds=random.choice([2, 20, 120]) if random.random() < 0.3 else None,
        )
        views = await asyncio.gather(*(self._submitted(asked) for _ in range(random.choice([1, 1, 2]))))
        if len({view.id for view in views if view}) > 1:
            self._told.problems.append(f"I2: one key, two tasks: {views}")
        if view := views[0]:
            if random.random() < 0.2:
                await asyncio.sleep(random.expovariate(1))
                await self._cancel(view.id)
            await self._to_its_end(view.id)
            if random.random() < 0.2:
                await self._go_another_way(view.id, random.choice(asked.plan["steps"])["id"])

    async def _go_another_way(self, task: str, step: str) -> None:
        """Somebody would have the rest of it anew."""
        while True:
            try:
                view = await self._client.fork(task, Fork(step=step, idempotency_key=f"fork-{task}"))
            except (Conflict, InvalidInput):  # an effect would be had twice, or nobody knows whether it was had
                self._told.tasks["not_forked"] += 1
                return
            except HanseError as error:
                if error.verdict != "retry":
                    raise
                await asyncio.sleep(0.5)
            else:
                self._acknowledged.add(view.id)
                return await self._to_its_end(view.id)

    async def _cancel(self, task: str) -> None:
        try:
            await self._client.cancel(task, "thought better of it")
        except Conflict:  # what was staged is being made final
            self._told.held["too_late_to_cancel"] += 1

    async def _submitted(self, asked: Submission) -> TaskView | None:
        """Asks until it is taken on, or refused for good."""
        while True:
            try:
                view = await self._client.submit(asked)
            except HanseError as error:
                if error.verdict != "retry":
                    self._told.problems.append(f"refused: {error}")
                    return None
                await asyncio.sleep(0.5)
            else:
                self._acknowledged.add(view.id)
                return view

    async def _to_its_end(self, task: str) -> None:
        while not (view := await self._client.wait(task, 5)).status.terminal:  # noqa: ASYNC110 - it waits for people
            await asyncio.sleep(0.2)
        self._views[task] = view

    async def _answer_questions(self) -> None:
        """A person who looks in now and then, says yes mostly, sometimes twice, and to some things nothing at all."""
        while True:
            await asyncio.sleep(self._random.uniform(0.2, 2))
            for question in await self._client.approvals():
                if Random(f"ignored {question.id}").random() < 0.15:
                    continue
                for _ in range(self._random.choice([1, 1, 2])):
                    await self._decide(question.id, question.digest)
            await self._see_to_held()

    async def _see_to_held(self) -> None:
        for task in await self._client.tasks(status=TaskStatus.INPUT_REQUIRED):
            for held in task.held:
                await self._resume(task, held, *await find_out(self._town.outside, task, held))

    async def _resume(self, task: TaskView, held: HeldView, choice: Choice, result: Any) -> None:
        self._told.held[held.why] += 1
        try:
            await self._client.resume(task.id, choice, step=held.step, result=result, note="so it was")
        except HanseError as error:
            if error.code not in ("conflict", "not_found") and error.verdict != "retry":
                self._told.problems.append(f"I15: {error}")

    async def _decide(self, question: str, digest: str) -> None:
        approve = Random(question).random() < 0.8
        try:
            await self._client.decide(question, approve=approve, digest=digest, note="so be it")
        except HanseError as error:
            if error.code not in ("conflict", "not_found"):  # it expired, or its task ended, meanwhile
                self._told.problems.append(f"I5: {error}")

    async def _still_works(self) -> None:
        """After healing every agent does what it is asked."""
        await asyncio.sleep(max(0, HEALED_AT + 1 - self._loop.time()))
        calls = {
            "vault.put": {"name": "z", "number": 1},
            "crier.cry": {"words": "all is well"},
            "mill.grind": {"number": 1},
        }
        for round in range(5):
            more = {"envoy.carry": {"name": "z", "number": 1}} if round == 0 else {}
            for capability, input in (calls | more).items():
                view = await self._submitted(
                    Submission(call=capability, input=input, idempotency_key=f"after-{capability}-{round}")
                )
                if view:
                    await self._to_its_end(view.id)
                    if (ended := self._views[view.id]).status is not TaskStatus.COMPLETED:
                        self._told.problems.append(f"I11: {capability} fails after healing: {ended.error}")

    # Judging

    def judge(self) -> None:
        """Everything is read from the disks and the outside. Nobody is asked."""
        self._told.problems += [f"I7 I10: {problem}" for problem in self._audited()]
        entries = self._town.entries()
        self._told.digest = hashlib.sha256(b"".join(entries)).hexdigest()
        self._told.events = len(entries)
        self._told.journal = [decode_event(entry) for entry in entries]
        self._told.problems += [f"I6: {problem}" for problem in Bursar({}).read(self._told.journal)]
        runs = dict(self._runs())
        self._told.tasks = Counter(str(run.status) for run in runs.values())
        for problem in (*self._lost(runs), *self._effects(runs), *self._vault(runs), *self._undone(runs)):
            self._told.problems.append(problem)

    def _audited(self) -> list[str]:
        """The chain; the kept roots and the table of tasks; and each head that ever went outside is still in it."""
        heads = [head.head for head in self._town.notebook.heads]
        audit = Audit(self._town.disks[COORDINATOR], heads, has_subtrees=True, has_tasks=True)
        while audit.read_on():
            pass
        return audit.report().problems

    def _runs(self) -> Iterator[tuple[TaskId, Run]]:
        """I3 and I13: every history is legal, folds, and is decided again as it was."""
        histories: dict[TaskId, list[Event]] = {}
        for event in self._told.journal:
            if event.task is not None:
                histories.setdefault(event.task, []).append(event)
        for task, history in histories.items():
            try:
                referee(history)
            except AssertionError as error:
                self._told.problems.append(f"I3: {task}: {error}")
            if (at := _replayed(history).divergence) is not None:
                self._told.problems.append(f"I13: {task} would be decided otherwise now: {at}")
            run = fold(iter(history))
            assert run is not None
            yield task, run

    def _lost(self, runs: dict[TaskId, Run]) -> Iterator[str]:
        for task in self._acknowledged - runs.keys():
            yield f"I1: {task} was acknowledged and is not there"
        for task, run in runs.items():
            view = self._views.get(task)
            if not run.status.terminal:
                yield f"I1: {task} has not ended"
            elif view and (view.status, view.output) != (run.status, run.output):
                yield f"I13: {task} was said to be {view.status} {view.output}, and is {run.status} {run.output}"

    def _effects(self, runs: dict[TaskId, Run]) -> Iterator[str]:
        """I2: heard at most once, and once what is said to be done."""
        heard: Counter[str] = Counter()
        for key, count in self._town.outside.heard.items():
            heard[key.rpartition("!")[0]] += count
        for step, count in heard.items():
            if count > 1:
                yield f"I2: {step} was heard {count} times"
        for task, run in runs.items():
            for step in run.steps.values():
                done = [child for child in step.children.values() if child["status"] == TaskStatus.COMPLETED]
                if len(done) > 1:  # whatever the envoy does is one child
                    yield f"I2: {task}/{step.id} has had {len(done)} child tasks"
                cried = step.call == "crier.cry" and _is_done_here(step)
                if cried and not heard[f"{task}/{step.id}"]:
                    yield f"I2: {task}/{step.id} is completed and was not heard"

    def _vault(self, runs: dict[TaskId, Run]) -> Iterator[str]:
        """I2 and I4: what is kept is what the journal says was put in and taken back, and no promise stays open."""
        wanted: Counter[str] = Counter()
        for run in runs.values():
            for step in run.steps.values():
                stays = step.call == "vault.put" or step.confirms is not None
                if stays and _is_done_here(step):
                    wanted[step.input["name"]] += step.input["number"]
                if step.call == "vault.take_back" and not step.settles and _is_done_here(step):  # a child's own
                    wanted[step.input["name"]] -= step.input["number"]
        for name, total in wanted.items():
            kept, pledged = self._kept("total", name), self._kept("pledged", name)
            if (kept, pledged) != (total, 0):
                yield f"I4: the vault keeps {kept} under {name} and has {pledged} promised, and should keep {total}"

    def _kept(self, collection: str, name: str) -> int:
        rows = self._town.disks["vault"].read("state", (collection, name))
        return unpack(rows[0][0]) if rows else 0

    def _undone(self, runs: dict[TaskId, Run]) -> Iterator[str]:
        """I4: a plan that failed leaves nothing reversible standing, unless it says so."""
        for task, run in runs.items():
            if (
                run.status in (TaskStatus.FAILED, TaskStatus.CANCELED)
                and (run.error or {}).get("code") != "compensation_failed"
            ):
                for step in run.steps.values():
                    standing = _is_done_here(step) and not step.settles
                    if standing and run.pin(step).effect is Effect.REVERSIBLE:
                        yield f"I4: {task} is {run.status}, and {step.id} stands"


def _is_done_here(step: StepRun) -> bool:
    """And not in the task that this one was forked from."""
    return step.status is StepStatus.COMPLETED and step.members is None and step.inherited is None


def _replayed(history: list[Event]) -> Replay:
    replay = Replay()
    for event in history:
        replay.take(event)
    return replay.end()
