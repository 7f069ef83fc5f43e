"""Plans by choice: small DAGs in which everything a plan can say is said often.

Whoever calls gives `choose`, which picks one of several options: Hypothesis, which can then shrink what it finds, or a
seeded generator, which is many times faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

Choose = Callable[[Sequence[Any]], Any]
"""Picks one. The first option is the simplest."""

PINS: dict[str, Any] = {
    "shop.look": {"version": "1.0", "effect": "read", "undo": None},
    "shop.mail": {"version": "1.0", "effect": "irreversible", "undo": None},
    "shop.sell": {
        "version": "1.0",
        "effect": "reversible",
        "undo": {"capability": "shop.unsell", "input": {"n": {"$from": "input.n"}, "was": {"$from": "output.was"}}},
    },
    "shop.book": {
        "version": "1.0",
        "effect": "reversible",
        "undo": {"capability": "shop.unbook", "input": {"ref": {"$from": "output.list.0"}}},
    },
    "shop.hold": {
        "version": "1.0",
        "effect": "reversible",
        "undo": {"capability": "shop.unsell", "input": {"n": {"$from": "input.n"}}},
        "confirm": {"capability": "shop.take", "input": {"n": {"$from": "input.n"}, "was": {"$from": "output.was"}}},
    },
    "shop.take": {"version": "1.0", "effect": "irreversible", "undo": None},
    "shop.unsell": {"version": "1.0", "effect": "irreversible", "undo": None},
    "shop.unbook": {"version": "1.0", "effect": "irreversible", "undo": None},
}
"""As `task.submitted` has them. The templates of the undoing refer to what is not always there."""
CALLS = ("shop.look", "shop.sell", "shop.sell", "shop.book", "shop.mail", "shop.hold")

VALUES = (0, None, True, False, 1, 2, -1, "", "a")
_TAILS = ("n", "was", "list", "list.0", "list.0.x", "list.9", "flag", "n.deep")
_COMPARED = ("$eq", "$ne", "$gt", "$ge", "$lt", "$le", "$in")


def plan(choose: Choose, max_steps: int = 8) -> dict[str, Any]:
    """As a caller would send it; acyclic, because a step refers only to those made before it."""
    names = [f"s{i}" for i in range(choose(range(1, max_steps + 1)))]
    steps: list[Any] = []
    for i, name in enumerate(names):
        steps.insert(choose(range(len(steps), -1, -1)), _step(choose, name, names[:i]))
    return {"steps": steps, "output": _maybe(choose, 2, lambda: _template(choose, names, False))}


def task_input(choose: Choose) -> dict[str, Any]:
    return {"n": choose(range(3)), "list": _items(choose), "flag": choose([False, True])}


def output(choose: Choose) -> dict[str, Any]:
    """What a step answers; what it leaves out a later step may refer to in vain."""
    given: dict[str, Any] = {"n": choose(range(3))}
    for name, make in (("was", lambda: choose(VALUES)), ("list", lambda: _items(choose)), ("flag", lambda: True)):
        if choose([True, False]):
            given[name] = make()
    return given


def submitted(plan: dict[str, Any], input: Any = None, budget_cents: float | None = None) -> dict[str, Any]:
    """The data of `task.submitted`."""
    return {"tenant": "t", "key": None, "plan": plan, "input": input, "pins": PINS, "budget_cents": budget_cents}


def _step(choose: Choose, name: str, earlier: list[str]) -> dict[str, Any]:
    step: dict[str, Any] = {"id": name, "call": choose(CALLS)}
    inside = _one_in(choose, 4)
    if inside:
        step["for_each"] = _list(choose, earlier)
    step["input"] = {"n": _template(choose, earlier, inside), "k": choose(VALUES)}
    if earlier and _one_in(choose, 3):
        step["after"] = sorted({choose(earlier), choose(earlier)})
    if _one_in(choose, 4):
        step["when"] = _condition(choose, earlier, inside)
    if _one_in(choose, 4):
        step["optional"] = True
    if _one_in(choose, 6):
        step["budget"] = {"cents": choose([0, 0.1, 0.5, 3])}
    return step


def _list(choose: Choose, earlier: list[str]) -> Any:
    if choose([True, True, False]):
        return _items(choose)
    lists = ["input.list", *(f"{name}.list" for name in earlier)]
    return {"$from": choose([*lists, *lists, *lists, "input.n", "input.gone", *earlier])}


def _items(choose: Choose) -> list[Any]:
    return [choose([choose(VALUES), {"x": choose(VALUES)}]) for _ in range(choose(range(4)))]


def _template(choose: Choose, earlier: list[str], inside: bool) -> Any:
    def leaf() -> Any:
        return choose(VALUES) if choose([True, True, False]) else _binding(choose, earlier, inside)

    match choose(["leaf", "leaf", "leaf", "first", "list", "object"]):
        case "first":
            return {"$first": [_binding(choose, earlier, inside), leaf()]}
        case "list":
            return [leaf() for _ in range(choose(range(3)))]
        case "object":
            return {"a": leaf(), "b": {"$literal": choose([{"$from": "nowhere"}, [1, None]])}}
    return leaf()


def _binding(choose: Choose, earlier: list[str], inside: bool) -> dict[str, str]:
    sure = ["input.n", "input.list", *earlier, *(f"{name}.n" for name in earlier)]
    texts = [*sure * 4, "input.gone", *(f"{name}.{tail}" for name in earlier for tail in _TAILS)]
    return {"$from": choose([*texts, "item", "item.x", "index"] if inside else texts)}


def _condition(choose: Choose, earlier: list[str], inside: bool) -> Any:
    def leaf() -> Any:
        return choose(VALUES) if choose([True, False]) else _binding(choose, earlier, inside)

    match choose(["binding", "compared", "compared", "ok", "not", "several"]):
        case "compared":
            return {choose(_COMPARED): [leaf(), leaf()]}
        case "ok" if earlier:
            return {"$ok": choose(earlier)}
        case "not":
            return {"$not": _condition(choose, earlier, inside)}
        case "several":
            return {choose(["$and", "$or"]): [_condition(choose, earlier, inside) for _ in range(choose(range(3)))]}
    return _binding(choose, earlier, inside)


def _one_in(choose: Choose, count: int) -> bool:
    return choose(range(count)) == count - 1


def _maybe(choose: Choose, count: int, make: Callable[[], Any]) -> Any:
    return make() if _one_in(choose, count) else None
