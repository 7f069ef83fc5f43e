"""Execution against the referee: any plan, any luck, every prefix.

A plan is made, and everything that may happen to it is played: outcomes of each kind, retries, questions, parking,
cancellation, deadlines. After each event the referee, who knows the rules and shares no code with `execution`, says
whether it was legal (I3, I4, I6) and what should come next; and a second run, folded from the journal alone, must be
the same as the live one and want the same (I13).

Hypothesis plays some games, because it can shrink what it finds; seeds play many.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hanse.contracts import Kind
from hanse.runtime.execution import Abort, Command, Conclude, Expand, Refuse, Run, Skip, Start, StepRun, fold
from hanse.runtime.simulation.referee import Game, Rules

from ..support.driver import Driver
from ..support.plans import Choose, plan, submitted, task_input

SEEDS = range(400)
BUDGETS = (None, None, None, None, None, 0, 0.3, 2)
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)


@quick
@given(st.data())
def test_one_command_at_a_time(data: st.DataObject):
    play(chosen_by(data), move_on)


@quick
@given(st.data())
def test_all_that_is_possible_at_once(data: st.DataObject):
    play(chosen_by(data), rush_on)


@pytest.mark.parametrize("step", ["move_on", "rush_on"])
def test_many_games(step: str):
    for seed in SEEDS:
        try:
            play(Random(seed).choice, globals()[step])
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def chosen_by(data: st.DataObject) -> Choose:
    """Drawn by its place, so that a failing example can be read and shrinks towards the first."""
    return lambda options: options[data.draw(st.integers(0, len(options) - 1))]


def play(choose: Choose, move: Callable[[Driver, Game, Choose], None]) -> Driver:
    """One game from submission to end."""
    driver = Driver(submitted(plan(choose), task_input(choose), choose(BUDGETS)), choose)
    game = Game(Rules.of(driver.events[0]), driver.events[:1])
    for _ in range(2000):
        move(driver, game, choose)
        same_when_folded(driver)
        if driver.run.status.terminal:
            return driver
    raise AssertionError("it does not end")


def move_on(driver: Driver, game: Game, choose: Choose) -> None:
    """One command, or one thing that happens."""
    wanted = list(driver.run.next())
    parked = {step.id for step in driver.run.steps.values() if step.parked}
    game.due = driver.due
    assert sorted(map(plain, wanted)) == sorted(told(each) for each in game.commands() if str(each[1]) not in parked)
    moves = [*driver.moves(), *driver.interrupts(choose)]
    if wanted and (not moves or choose([True, False])):
        driver.do(choose(wanted))
    else:
        assert moves, "nothing is possible and nothing can happen"
        driver.play(choose(moves))
    judge(driver, game)


def rush_on(driver: Driver, game: Game, choose: Choose) -> None:
    """As the coordinator does it: each command is done while the generator of the next ones is still running."""
    driver.advance()
    judge(driver, game)
    if not driver.run.status.terminal:
        driver.play(choose([*driver.moves(), *driver.interrupts(choose)]))
        judge(driver, game)


def judge(driver: Driver, game: Game) -> None:
    for each in driver.events[len(game.history) :]:
        game.judge(each)
        game.history.append(each)
    assert (driver.run.reserved_cents, driver.run.spent_cents) == pytest.approx((game.reserved_cents, game.spent_cents))


def same_when_folded(driver: Driver) -> None:
    """What the journal does not hold is given to the second run by hand: which retries are due, and what is parked."""
    folded = fold(iter(driver.events))
    assert folded is not None
    for name in driver.due:
        folded.retry(folded.steps[name])  # type: ignore[index]
    list(folded.next())  # prepares a compensation, as asking the live run did
    for step in driver.run.steps.values():
        if step.parked:
            folded.steps[step.id].parked = True
    live = [plain(each) for each in driver.run.next()]
    assert state(folded) == state(driver.run)
    assert sorted(plain(each) for each in folded.next()) == sorted(live)


def state(run: Run) -> dict[str, Any]:
    """Everything a run knows, as plain values."""
    own = {name: value for name, value in vars(run).items() if name not in ("plan", "pins", "steps")}
    return {name: _plain(value) for name, value in own.items()} | {
        "steps": {step.id: _state_of(step) for step in run.steps.values()}
    }


def _state_of(step: StepRun) -> dict[str, Any]:
    """Before its first award the input of a step is only a remembered calculation."""
    known = {name: _plain(getattr(step, name)) for name in (*StepRun.__annotations__, "call", "version")}
    return known | ({} if step.attempt else {"input": None})


def _plain(value: Any) -> Any:
    if isinstance(value, StepRun):
        return value.id
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def plain(command: Command) -> str:
    match command:
        case Start(step):
            return told(("start", step.id, step.input))
        case Skip(step, _):
            return told(("skip", step.id))
        case Refuse(step, _):
            return told(("refuse", step.id))
        case Expand(step, count):
            return told(("expand", step.id, count))
        case Abort(error, step):
            return told(("abort", error, step))
        case Conclude(kind, data):
            return told(("conclude", str(kind), _ending(kind, data)))


def _ending(kind: Kind, data: Any) -> Any:
    if kind is Kind.TASK_COMPLETED:
        return data["output"]
    code = (data.get("error") or {}).get("code")
    return code if code in ("compensation_failed", "confirmation_failed") else None


def told(command: tuple[Any, ...]) -> str:
    return repr(command)
