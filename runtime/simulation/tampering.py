"""Changes planted into a task's history, for a replay to find: at least one in every kind of decision, and in the plan.

Each is what a changed plan, other code, or somebody with an editor would leave behind, had the hashes been made anew.
What came from outside and decided nothing, such as how long a call took, is not among them: only the chain keeps that.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from random import Random
from typing import Any

from ...contracts import Bid, Event, Kind
from ..negotiation import Weights, decide

History = list[Event]
Data = dict[str, Any]
_QUESTIONS = (Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED)
_LANDINGS = (Kind.STEP_COMPLETED, Kind.STEP_FAILED)


def planted(history: History, random: Random) -> Iterator[tuple[str, History]]:
    """Every change that this history has room for, each in a copy of its own, at a place drawn by lot."""
    for name, plant in CHANGES.items():
        if (changed := plant(deepcopy(history), random)) is not None:
            yield name, changed


def _changed(
    kind: Kind, change: Callable[[Data], None], fits: Callable[[Event, History], bool] = lambda event, history: True
) -> Callable[[History, Random], History | None]:
    """Changes the data of one event of a kind."""

    def plant(history: History, random: Random) -> History | None:
        places = [i for i, event in enumerate(history) if event.kind is kind and fits(event, history)]
        if not places:
            return None
        place = random.choice(places)
        data = dict(history[place].data)
        change(data)
        return [*history[:place], history[place]._replace(data=data), *history[place + 1 :]]

    return plant


def _left_out(fits: Callable[[Event], bool]) -> Callable[[History, Random], History | None]:
    """Takes one event out."""

    def plant(history: History, random: Random) -> History | None:
        places = [i for i, event in enumerate(history) if fits(event)]
        if not places:
            return None
        place = random.choice(places)
        return history[:place] + history[place + 1 :]

    return plant


def _plan(change: Callable[[Data, list[Data], History], bool]) -> Callable[[History, Random], History | None]:
    """Changes the plan; `change` gets it, its steps that were awarded, and the history. False when it cannot."""

    def plant(history: History, random: Random) -> History | None:
        plan = history[0].data["plan"]
        awarded = {event.step.partition("[")[0] for event in history if event.kind is Kind.STEP_AWARDED and event.step}
        steps = [step for step in plan["steps"] if step["id"] in awarded]
        random.shuffle(steps)
        return history if change(plan, steps, history) else None

    return plant


def _other_input(plan: Data, steps: list[Data], history: History) -> bool:
    for step in steps:
        step["input"] = {"planted": 1}
        return True
    return False


def _step_gone(plan: Data, steps: list[Data], history: History) -> bool:
    if not steps or len(plan["steps"]) < 2:
        return False
    plan["steps"].remove(steps[0])
    return True


def _other_order(plan: Data, steps: list[Data], history: History) -> bool:
    """A step must now wait for one that was awarded after it."""
    order = [event.step for event in history if event.kind is Kind.STEP_AWARDED]
    for step in steps:
        later = (
            [each["id"] for each in steps if each["id"] in order[order.index(step["id"]) + 1 :]]
            if step["id"] in order
            else []
        )
        later = [each for each in later if each != step["id"] and order.index(each) > order.index(step["id"])]
        if later:
            step["after"] = [*step.get("after", ()), later[0]]
            return True
    return False


def _other_output(plan: Data, steps: list[Data], history: History) -> bool:
    plan["output"] = {"planted": 1}
    return history[-1].kind is Kind.TASK_COMPLETED


def _made_optional(plan: Data, steps: list[Data], history: History) -> bool:
    """The failure that ended the plan would now be lived with."""
    ended = next((event for event in history if event.kind is Kind.TASK_ABORTING and event.data["step"]), None)
    if ended is None or ended.data["error"]["branch"] not in ("policy", "permanent"):
        return False
    name = ended.data["step"].partition("[")[0]
    next(step for step in plan["steps"] if step["id"] == name)["optional"] = True
    return True


def _condition_added(plan: Data, steps: list[Data], history: History) -> bool:
    for step in steps:
        step["when"] = False
        return True
    return False


def _set(**fields: Any) -> Callable[[Data], None]:
    return lambda data: data.update(fields)


def _dearer(data: Data) -> None:
    """The bid that won, less good than it was."""
    for bid in data["bids"]:
        if bid["agent"] == data["agent"]:
            bid["price_cents"] += 1000


def _weighed(data: Data) -> None:
    data["weights"] = {"cents_per_waiting_second": 12345.0}


def _weighs(event: Event, history: History) -> bool:
    """Whether other weights give another award, or other words for it."""
    bids = [Bid.from_data(bid) for bid in event.data["bids"]]
    return decide(bids, Weights(12345.0)).reason != decide(bids, Weights(10.0)).reason


def _next_number(data: Data) -> None:
    data["attempt"] += 1


def _more(name: str) -> Callable[[Data], None]:
    return lambda data: data.update({name: data[name] + 1})


def _said_no(data: Data) -> None:
    data["decision"] = "denied" if data["decision"] == "approved" else "approved"


def _matters(event: Event, history: History) -> bool:
    """Whether something came of the decision: a task may end before."""
    after = history[history.index(event) + 1 :]
    return any(each.step == event.step and each.kind in (Kind.STEP_AWARDED, Kind.STEP_FAILED) for each in after)


def _shows(event: Event, history: History) -> bool:
    """Whether what came of it says that somebody was asked: what was too dear had failed in any case."""
    after = [each for each in history[history.index(event) + 1 :] if each.step == event.step]
    came = next((each for each in after if each.kind in (Kind.STEP_AWARDED, Kind.STEP_FAILED)), None)
    return came is not None and (came.kind is Kind.STEP_AWARDED or came.data["error"]["code"] != "budget_exhausted")


def _other_verdict(data: Data) -> None:
    data["retry_at_ms"] = 1 if data["retry_at_ms"] is None else None


def _has_limit(event: Event, history: History) -> bool:
    return event.data.get("max_attempts") is not None


def _for_a_reason(event: Event, history: History) -> bool:
    return event.data["why"] not in ("half_done", "poisoned")


def _other_error(data: Data) -> None:
    data["error"] = {**data["error"], "detail": "planted"}


def _by_plan(event: Event, history: History) -> bool:
    return event.data["step"] is not None


def _has_approval(event: Event, history: History) -> bool:
    return event.data["approval"] is not None


def _undo_swapped(history: History, random: Random) -> History | None:
    """Two steps are undone, or confirmed, each in the other's place."""
    undone = [
        event.step for event in history if event.kind is Kind.STEP_AWARDED and event.step and event.step[-1] in "~+"
    ]
    names = list(dict.fromkeys(undone))
    if len(names) < 2:
        return None
    swap = {names[0]: names[1], names[1]: names[0]}
    return [event._replace(step=swap.get(event.step, event.step) if event.step else None) for event in history]


def _undo_left_out(history: History, random: Random) -> History | None:
    undone = [event.step for event in history if event.step and event.step[-1] in "~+"]
    return [event for event in history if event.step != undone[0]] if undone else None


def _unasked(history: History, random: Random) -> History | None:
    """As if nobody had been asked about a step that then ran, or was refused."""
    asked = [event for event in history if event.kind is Kind.APPROVAL_DECIDED and _shows(event, history)]
    if not asked:
        return None
    return [event for event in history if not (event.step == asked[0].step and event.kind in _QUESTIONS)]


def _repeated(history: History, random: Random) -> History | None:
    places = [i for i, event in enumerate(history) if event.kind in (Kind.STEP_AWARDED, *_LANDINGS)]
    if not places:
        return None
    place = random.choice(places)
    return [*history[: place + 1], history[place], *history[place + 1 :]]


def _reordered(history: History, random: Random) -> History | None:
    """What came of an award, before the award."""
    for i, event in enumerate(history):
        if event.kind is Kind.STEP_AWARDED and i + 1 < len(history) and history[i + 1].step == event.step:
            return [*history[:i], history[i + 1], event, *history[i + 2 :]]
    return None


def _of_another_task(history: History, random: Random) -> History | None:
    place = random.randrange(len(history))
    return [*history[:place], history[place]._replace(task="another"), *history[place + 1 :]] if place else None


def _other_end(history: History, random: Random) -> History | None:
    last = history[-1]
    if not last.kind.ends_task:
        return None
    kind = Kind.TASK_FAILED if last.kind is Kind.TASK_COMPLETED else Kind.TASK_COMPLETED
    data: Mapping[str, Any] = {"output": None, "error": None, "cost_cents": last.data["cost_cents"]}
    return [*history[:-1], last._replace(kind=kind, data=data)]


CHANGES: Mapping[str, Callable[[History, Random], History | None]] = {
    "plan: another input of a step": _plan(_other_input),
    "plan: a step is gone": _plan(_step_gone),
    "plan: another order": _plan(_other_order),
    "plan: another output": _plan(_other_output),
    "plan: a failure would be lived with": _plan(_made_optional),
    "plan: a condition that is false": _plan(_condition_added),
    "award: to another agent": _changed(Kind.STEP_AWARDED, _set(agent="nobody")),
    "award: another version": _changed(Kind.STEP_AWARDED, _set(version="99.9")),
    "award: another reason": _changed(Kind.STEP_AWARDED, _set(reason="planted")),
    "award: another price": _changed(Kind.STEP_AWARDED, _more("price_cents")),
    "award: another input": _changed(Kind.STEP_AWARDED, _set(input="sha256:planted")),
    "award: another attempt": _changed(Kind.STEP_AWARDED, _next_number),
    "award: other bids": _changed(Kind.STEP_AWARDED, _dearer),
    "award: no bids": _changed(Kind.STEP_AWARDED, _set(bids=[])),
    "award: other weights": _changed(Kind.STEP_AWARDED, _weighed, _weighs),
    "award: without its approval": _changed(Kind.STEP_AWARDED, _set(approval=None), _has_approval),
    "award: left out": _left_out(lambda event: event.kind is Kind.STEP_AWARDED),
    "award: after what came of it": _reordered,
    "landing: by another agent": _changed(Kind.STEP_COMPLETED, _set(agent="nobody")),
    "landing: of another attempt": _changed(Kind.STEP_COMPLETED, _next_number),
    "landing: left out": _left_out(lambda event: event.kind is Kind.STEP_COMPLETED),
    "landing or award: twice": _repeated,
    "retry: the other verdict": _changed(Kind.STEP_FAILED, _other_verdict, _has_limit),
    "hold: for another reason": _changed(Kind.STEP_HELD, _set(why="half_done"), _for_a_reason),
    "hold: with another choice": _changed(Kind.STEP_HELD, _set(choices={"forget_it": "planted"})),
    "hold: after another attempt": _changed(Kind.STEP_HELD, _next_number),
    "hold: left out": _left_out(lambda event: event.kind is Kind.STEP_HELD),
    "hold: resumed as nobody could": _changed(Kind.STEP_RESUMED, _set(choice="forget_it")),
    "hold: never resumed": _left_out(lambda event: event.kind is Kind.STEP_RESUMED),
    "question: about another input": _changed(Kind.APPROVAL_REQUESTED, _set(input={"planted": 1})),
    "question: another digest": _changed(Kind.APPROVAL_REQUESTED, _set(digest="sha256:planted")),
    "question: decided otherwise": _changed(Kind.APPROVAL_DECIDED, _said_no, _matters),
    "question: another digest was decided": _changed(Kind.APPROVAL_DECIDED, _set(digest="sha256:planted")),
    "question: never asked": _unasked,
    "skip: another reason": _changed(Kind.STEP_SKIPPED, _set(reason="planted")),
    "skip: left out": _left_out(lambda event: event.kind is Kind.STEP_SKIPPED),
    "inheritance: another output": _changed(Kind.STEP_INHERITED, _set(output={"planted": 1})),
    "inheritance: from another task": _changed(Kind.STEP_INHERITED, _set(task="another")),
    "inheritance: left out": _left_out(lambda event: event.kind is Kind.STEP_INHERITED),
    "expansion: one member more": _changed(Kind.STEP_EXPANDED, _more("count")),
    "expansion: left out": _left_out(lambda event: event.kind is Kind.STEP_EXPANDED),
    "abort: another error": _changed(Kind.TASK_ABORTING, _other_error, _by_plan),
    "abort: another step": _changed(Kind.TASK_ABORTING, _set(step="planted"), _by_plan),
    "abort: left out": _left_out(lambda event: event.kind is Kind.TASK_ABORTING and event.data["step"] is not None),
    "undoing, confirming: in another order": _undo_swapped,
    "undoing, confirming: left out": _undo_left_out,
    "end: another cost": _changed(Kind.TASK_COMPLETED, _more("cost_cents")),
    "end: another cost of a failure": _changed(Kind.TASK_FAILED, _more("cost_cents")),
    "end: another output": _changed(Kind.TASK_COMPLETED, _set(output={"planted": 1})),
    "end: another error": _changed(Kind.TASK_FAILED, _other_error),
    "end: another reason": _changed(Kind.TASK_CANCELED, _set(reason="planted")),
    "end: another end": _other_end,
    "end: left out": _left_out(lambda event: event.kind.ends_task),
    "task: an event of another one": _of_another_task,
}
"""By what they change: first the kind of decision, then how."""
