"""Labels over generated plans: those of a step are exactly those of what it is made of, and what it took up itself.

Whoever checks reads the plan by itself, and what each attempt took up from the journal. Every landing may bring a label
that nothing else has, so that one too many or too few shows. Bugs are planted to see that it does.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from hanse.contracts import Kind, Plan, StepId
from hanse.contracts.labels import IN_BEGINNING, IN_ERROR, Marks, joined
from hanse.runtime import execution
from hanse.runtime.execution import Run, StepRun

from ..support.driver import Driver
from ..support.plans import PINS, plan, submitted, task_input
from .test_execution_properties import same_when_folded

SEEDS = range(300)
LANDED = (Kind.STEP_COMPLETED, Kind.STEP_FAILED, Kind.STEP_HELD)
PINNED = {"shop.look": ["pinned", "outward"], "shop.sell": ["sold"]}


class Labelling(Driver):
    """What lands has sometimes taken something up: a label of its own, from a place of its own."""

    def record(self, kind: Kind, step: StepRun | None, data: dict[str, Any]) -> None:
        if kind in LANDED and step is not None and step.attempt and self._choose([False, True]):
            label = {f"label{len(self.events)}": [f"record r{len(self.events)}"]}
            if kind is Kind.STEP_COMPLETED:
                data |= {"labels": label}
            else:
                error = data["error"]
                data |= {"error": error | {"ids": error.get("ids", {}) | {IN_ERROR: label}}}
        super().record(kind, step, data)


def begun(random: Random) -> dict[str, Any]:
    pins = {name: pin | ({"labels": PINNED[name]} if name in PINNED else {}) for name, pin in PINS.items()}
    beginning = random.choice([{}, {IN_BEGINNING: {"begun": ["label of the task"]}}])
    return submitted(plan(random.choice), task_input(random.choice)) | {"pins": pins} | beginning


def play(seed: int) -> None:
    random = Random(seed)
    driver = Labelling(begun(random), random.choice)
    for _ in range(2000):
        driver.advance()
        check(driver)
        same_when_folded(driver)
        if driver.run.status.terminal:
            return
        driver.play(random.choice([*driver.moves(), *driver.interrupts(random.choice)]))
    raise AssertionError("it does not end")


# Somebody else's reckoning


def check(driver: Driver) -> None:
    data = driver.events[0].data
    steps = {step["id"]: step for step in data["plan"]["steps"]}
    for name in steps:
        run = driver.run.steps[StepId(name)]
        if not all(driver.run.steps[StepId(source)].done for source in made_of(steps[name])):
            continue  # nobody knows yet what it is made of
        for each in (*([run] if run.done or not run.members else []), *(run.members or ())):
            found = driver.run.known_of(each)
            wanted = expected(driver, steps, name, each.id)
            assert set(found) == wanted, f"{each.id}: {found}"


def expected(driver: Driver, steps: dict[str, Any], name: str, id: str) -> set[str]:
    found = set(driver.events[0].data.get(IN_BEGINNING, ()))
    for source in made_of(steps[name]):
        found |= expected(driver, steps, source, source)
    whose = [id] if id != name else [name, *(member.id for member in driver.run.steps[StepId(name)].members or ())]
    ran = any(event.kind is Kind.STEP_AWARDED and event.step in whose for event in driver.events)
    if ran or not driver.run.steps[StepId(id)].done:
        found |= {*PINNED.get(steps[name]["call"], ())} - {"outward"}
    for event in driver.events:
        if event.step in whose and event.kind in LANDED:
            found |= {*(event.data.get("labels") or (event.data.get("error") or {}).get("ids", {}).get(IN_ERROR, ()))}
    return found


def made_of(step: dict[str, Any]) -> set[str]:
    """Steps that its input, its condition and its list refer to, by reading the plan as JSON."""
    parts = [step.get("input"), step.get("when"), step.get("for_each")]
    return {text.partition(".")[0] for part in parts for text in referred(part)} - {"input", "item", "index"}


def referred(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("$from", "$ok"):
                yield value
            elif key != "$literal":
                yield from referred(value)
    elif isinstance(node, list):
        for value in node:
            yield from referred(value)


@pytest.mark.parametrize("tenth", range(10))
def test_the_labels_of_a_step_are_those_of_what_it_is_made_of_and_its_own(tenth: int):
    for seed in SEEDS[tenth::10]:
        try:
            play(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


# Bugs that it finds


def only_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditions and lists are forgotten."""

    def forgetful(of: Plan) -> dict[StepId, frozenset[StepId]]:
        return {step.id: frozenset(map(StepId, made_of({"input": step.input}))) for step in of.steps}

    monkeypatch.setattr(Plan, "sources", property(forgetful))


def too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only comes after counts too."""
    monkeypatch.setattr(Plan, "sources", property(lambda of: of.dependencies))


def only_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed attempt has taken up is forgotten."""
    monkeypatch.setattr(execution, "IN_ERROR", "elsewhere")


def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several sources only the first counts."""
    monkeypatch.setattr(execution, "joined", lambda *marks: next((each for each in marks if each), {}))


def no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list gives what its members gave, and forgets what they knew."""

    def carried(run: Run, step: StepRun) -> Marks:
        ran = step.attempt or step.inherited
        return joined(run._given(step), run._own(step) if ran else {})

    monkeypatch.setattr(Run, "_carried_by", carried)


@pytest.mark.parametrize("bug", [only_input, too_much, only_answers, one_place, no_members])
def test_a_planted_bug_is_found(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch):
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        play_all()


def play_all() -> None:
    for seed in SEEDS:
        play(seed)
