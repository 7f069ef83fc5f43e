"""Values for property tests: plain data, what is not plain data, plans, and plans that must be refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from hanse.contracts.plain import MAX_INTEGER, MIN_INTEGER
from hanse.contracts.plan import MAX_STEPS
from hanse.contracts.template import RESERVED, literal

texts = st.text(st.characters(codec="utf-8"), max_size=20)
integers = st.integers(MIN_INTEGER, MAX_INTEGER)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
"""What JSON, msgpack and every store can carry."""

literals = plain.map(literal)
"""Templates that stand for plain data."""

not_plain = st.one_of(
    st.just(float("nan")),
    st.just(float("inf")),
    st.integers(min_value=MAX_INTEGER + 1),
    st.integers(max_value=MIN_INTEGER - 1),
    st.just("\ud800"),
    st.binary(),
    st.sets(st.integers(), min_size=1),
    st.builds(object),
    st.dictionaries(st.integers() | st.none() | st.booleans(), st.none(), min_size=1),
    st.just({"\udfff": 1}),
)
"""One value that is not plain data."""


def nested(depth: int, leaf: Any = None) -> Any:
    """A value with `depth` lists and objects, in turn, around `leaf`."""
    for level in range(depth):
        leaf = [leaf] if level % 2 else {"deeper": leaf}
    return leaf


@st.composite
def with_one(draw: st.DrawFn, odd: st.SearchStrategy[Any]) -> Any:
    """Plain data with one odd value somewhere in it."""
    value = draw(odd)
    for _ in range(draw(st.integers(0, 4))):
        around = draw(st.lists(plain, max_size=2))
        value = [*around, value] if draw(st.booleans()) else {"a": around, "b": value}
    return value


step_ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,6}", fullmatch=True).filter(lambda name: name not in RESERVED)

CALLS: Mapping[str, st.SearchStrategy[Any]] = {
    "ledger.deposit": st.fixed_dictionaries({"account": texts, "cents": st.integers(0, 1000)}),
    "ledger.balance@1": st.fixed_dictionaries({"account": texts}),
    "mail.send@1.2": st.dictionaries(texts.filter(lambda key: not key.startswith("$")), literals, max_size=3),
}
"""Capabilities to plan with, and what to give them. Pass your own to plan over real agents."""


@st.composite
def references(draw: st.DrawFn, roots: Sequence[str]) -> dict[str, str]:
    path = draw(st.lists(st.sampled_from(["cents", "account", "0", "7", "no such"]), max_size=2))
    return {"$from": ".".join([draw(st.sampled_from(roots)), *path])}


def conditions(roots: Sequence[str], earlier: Sequence[str]) -> st.SearchStrategy[Any]:
    """Values for `when`, over these roots of references and these steps."""
    operands = scalars | references(roots)
    comparison = st.builds(
        lambda name, a, b: {name: [a, b]},
        st.sampled_from(["$eq", "$ne", "$gt", "$ge", "$lt", "$le", "$in"]),
        operands,
        operands,
    )
    leaves = st.booleans() | references(roots) | comparison
    if earlier:
        leaves |= st.builds(lambda step: {"$ok": step}, st.sampled_from(earlier))
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(lambda each: {"$not": each}, inner)
            | st.builds(
                lambda name, each: {name: each},
                st.sampled_from(["$and", "$or"]),
                st.lists(inner, min_size=1, max_size=3),
            )
        ),
        max_leaves=4,
    )


@st.composite
def steps(draw: st.DrawFn, name: str, earlier: Sequence[str], calls: Mapping[str, st.SearchStrategy[Any]]) -> Any:
    """One step that may refer to earlier ones."""
    call = draw(st.sampled_from(sorted(calls)))
    step: dict[str, Any] = {"id": name, "call": call}
    fans_out = draw(st.integers(0, 4)) == 0
    if fans_out:
        step["for_each"] = draw(st.lists(literals, max_size=3) | references(["input", *earlier]))
    roots = ["input", *earlier, *(["item", "index"] if fans_out else [])]
    step["input"] = draw(_inputs(calls[call], roots))
    if earlier and draw(st.booleans()):
        step["after"] = draw(st.lists(st.sampled_from(earlier), max_size=3))
    if draw(st.integers(0, 3)) == 0:
        step["when"] = draw(conditions(roots, earlier))
    if draw(st.integers(0, 3)) == 0:
        step["optional"] = draw(st.booleans())
    return step


@st.composite
def _inputs(draw: st.DrawFn, literal: st.SearchStrategy[Any], roots: Sequence[str]) -> Any:
    """A literal, some of whose fields are bound."""
    value = draw(literal)
    if not isinstance(value, dict):
        return value
    bound = draw(st.sets(st.sampled_from(sorted(value)), max_size=2)) if value else set[str]()
    first = st.builds(lambda a, b: {"$first": [a, b]}, references(roots), references(roots) | scalars)
    return {key: draw(references(roots) | first) if key in bound else each for key, each in value.items()}


@st.composite
def plans(
    draw: st.DrawFn, calls: Mapping[str, st.SearchStrategy[Any]] = CALLS, min_steps: int = 1, max_steps: int = 6
) -> dict[str, Any]:
    """Plans, as data, that `Plan.parse` takes."""
    names = draw(st.lists(step_ids, unique=True, min_size=min_steps, max_size=max_steps))
    made = [draw(steps(name, names[:i], calls)) for i, name in enumerate(names)]
    plan: dict[str, Any] = {"steps": draw(st.permutations(made))}
    if draw(st.booleans()):
        plan["output"] = draw(
            references(["input", *names]) | st.dictionaries(st.sampled_from("abc"), references(names))
        )
    return plan


Spoil = Callable[[st.DrawFn, dict[str, Any], int], None]
"""Makes a plan wrong at the step with this index."""


def _refer_to_nothing(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    plan["steps"][i].pop("for_each", None)
    plan["steps"][i]["input"] = [{"a": {"$from": draw(_odd_references)}}]


def _set(part: str, values: st.SearchStrategy[Any]) -> Spoil:
    def spoil(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
        plan["steps"][i][part] = draw(values)

    return spoil


def _cycle(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    names = [step["id"] for step in plan["steps"]]
    for step, before in zip(plan["steps"], [names[-1], *names[:-1]], strict=True):
        step["after"] = [before]


def _twin(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    plan["steps"].append(dict(plan["steps"][i]))


def _too_many(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    plan["steps"] = [{"id": f"s{n}", "call": "ledger.balance"} for n in range(MAX_STEPS + 1)]


def _not_a_step(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    plan["steps"][i] = draw(scalars | st.lists(scalars, max_size=2))


def _not_steps(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    plan["steps"] = draw(scalars | st.just([]) | st.just({}))


def _extra(draw: st.DrawFn, plan: dict[str, Any], i: int) -> None:
    where = plan if draw(st.booleans()) else plan["steps"][i]
    where[draw(texts.filter(lambda key: key not in _KEYS))] = draw(plain)


_KEYS = {"steps", "output", "id", "call", "input", "after", "when", "for_each", "optional"}
_odd_ids = st.sampled_from(["", "1st", "a b", "a.b", "ü", "x" * 65, *sorted(RESERVED)]) | st.integers() | st.none()
_odd_calls = st.sampled_from(["", "refund", ".refund", "orders.", "Orders.get", "orders.get@", "orders.get@x", "a.b.c"])
_odd_references = st.sampled_from(["", ".", "nobody", "nobody.field", "item", "index", "output", "input.", "input..a"])
_odd_marks = st.sampled_from([{"$from": 5}, {"$from": "input", "b": 1}, {"$first": []}, {"$first": {}}, {"$first": 1}])
_odd_conditions = st.one_of(
    texts,
    integers,
    st.lists(st.booleans()),
    st.sampled_from(
        [
            {},
            {"$eq": 1},
            {"$eq": [1]},
            {"$eq": [1, 2, 3]},
            {"$eq": [1, 2], "$ne": [1, 2]},
            {"eq": [1, 1]},
            {"$gte": [1, 1]},
            {"$and": 5},
            {"$or": ["yes"]},
            {"$not": {"$not": 0}},
            {"$ok": 7},
            {"$ok": "nobody"},
            {"$eq": [{"$gt": [1, 2]}, True]},
        ]
    ),
)

MALFORMATIONS: Mapping[str, Spoil] = {
    "a cycle": _cycle,
    "two steps of one name": _twin,
    "too many steps": _too_many,
    "a step that is none": _not_a_step,
    "steps that are none": _not_steps,
    "an unknown key": _extra,
    "an odd id": _set("id", _odd_ids),
    "an odd call": _set("call", _odd_calls | scalars.filter(lambda call: not isinstance(call, str))),
    "a reference to nothing": _refer_to_nothing,
    "an odd mark": _set("input", _odd_marks),
    "after nobody": _set("after", st.just(["nobody"]) | scalars.filter(lambda each: each is not None)),
    "an odd condition": _set("when", _odd_conditions),
    "an odd fan": _set("for_each", texts | integers | st.booleans() | st.just({"a": 1}) | st.just({"$from": "item"})),
    "an odd flag": _set("optional", st.none() | integers | texts),
    "a value that is not plain": _set("input", with_one(not_plain)),
    "depth": _set("input", st.integers(65, 5000).map(nested)),
}


@st.composite
def malformed_plans(draw: st.DrawFn, calls: Mapping[str, st.SearchStrategy[Any]] = CALLS) -> Any:
    """Plans, as data, that `Plan.parse` must refuse: a good one with one thing wrong, or no plan at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(scalars | st.lists(plain, max_size=2) | st.just({}))
    plan = draw(plans(calls))
    plan = {**plan, "steps": [dict(step) for step in plan["steps"]]}
    spoil = MALFORMATIONS[draw(st.sampled_from(sorted(MALFORMATIONS)))]
    spoil(draw, plan, draw(st.integers(0, len(plan["steps"]) - 1)))
    return plan
