"""A plan is proved from itself: what is wrong with it is said with a pointer, and what passes can be laid out."""

import itertools
import json
import time
from graphlib import TopologicalSorter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import InvalidPlan, Plan, Step, StepId
from hanse.contracts.plain import check
from hanse.contracts.plan import MAX_STEPS
from hanse.contracts.template import MAX_DEPTH, MAX_FAN_OUT, RESERVED, resolve

from ..strategies import MALFORMATIONS, malformed_plans, nested, plain, plans


def step(id: str = "s1", call: str = "orders.get", **parts: Any) -> dict[str, Any]:
    return {"id": id, "call": call, **parts}


def plan(*steps: Any, **parts: Any) -> dict[str, Any]:
    return {"steps": list(steps), **parts}


def refused(data: Any) -> tuple[str, str]:
    """Pointer and detail of the refusal."""
    with pytest.raises(InvalidPlan) as caught:
        Plan.parse(data)
    where = caught.value.ids["pointer"]
    assert caught.value.detail.startswith(f"{where or '/'}: ")
    check(caught.value.to_data())
    return where, caught.value.detail


# What passes


@given(plans())
def test_a_plan_comes_back_from_its_data(data: Any):
    parsed = Plan.parse(data)
    again = Plan.parse(json.loads(json.dumps(parsed.to_data())))
    assert again == parsed
    assert again.digest == parsed.digest


@given(plans(min_steps=2))
def test_steps_can_be_laid_out_in_the_order_of_their_dependencies(data: Any):
    parsed = Plan.parse(data)
    order = list(TopologicalSorter(parsed.dependencies).static_order())
    assert sorted(order) == sorted(parsed.by_id)


def test_the_plan_of_the_design_page_is_read():
    parsed = Plan.parse(
        plan(
            step("s1", "orders.get", input={"order_id": "#W1"}),
            step("s2", "payments.refund@1.2", input={"amount": {"$from": "s1.total"}}, after=["s1"]),
            output={"$from": "s2"},
        )
    )
    assert parsed.steps[1] == Step(
        id=StepId("s2"),
        call=parsed.steps[1].call,
        version="1.2",
        input={"amount": {"$from": "s1.total"}},
        after=(StepId("s1"),),
    )
    assert parsed.steps[1].full_call == "payments.refund@1.2"
    assert parsed.dependencies == {"s1": frozenset(), "s2": {"s1"}}


def test_a_step_without_input_gets_an_empty_object_and_null_is_null():
    parsed = Plan.parse(plan(step("a"), step("b", input=None)))
    assert [each.input for each in parsed.steps] == [{}, None]
    assert [each["input"] for each in parsed.to_data()["steps"]] == [{}, None]


def test_a_condition_that_is_false_is_not_lost_on_its_way_through_the_journal():
    parsed = Plan.parse(plan(step(when=False)))
    assert parsed.steps[0].when is False
    assert Plan.parse(parsed.to_data()).steps[0].when is False


def test_a_list_that_is_empty_is_not_lost_on_its_way_through_the_journal():
    parsed = Plan.parse(plan(step(for_each=[])))
    assert Plan.parse(parsed.to_data()).steps[0].for_each == []


def test_nothing_is_written_of_what_was_not_said():
    assert Plan.parse(plan(step(after=[], when=None, for_each=None, optional=False))).to_data() == {
        "steps": [{"id": "s1", "call": "orders.get", "input": {}}],
        "output": None,
    }


def test_a_plan_has_a_digest_of_what_it_does():
    one, other = plan(step(when=True)), plan(step(when=False))
    assert Plan.parse(one).digest != Plan.parse(other).digest
    assert Plan.parse(one).digest == Plan.parse(one).digest


# Dependencies


@pytest.mark.parametrize(
    "parts",
    [
        {"after": ["a"]},
        {"input": {"$from": "a"}},
        {"input": [{"x": {"$from": "a.field.0.field"}}]},
        {"input": {"$first": [{"$from": "a.x"}, 5]}},
        {"when": {"$from": "a.ready"}},
        {"when": {"$ok": "a"}},
        {"when": {"$not": {"$or": [False, {"$and": [{"$ok": "a"}]}]}}},
        {"when": {"$eq": [1, {"$from": "a.x"}]}},
        {"when": {"$in": [1, {"$first": [{"$from": "a.x"}, []]}]}},
        {"for_each": {"$from": "a.items"}},
        {"for_each": [{"$from": "a"}, 2]},
        {"after": ["a", "a"], "input": {"$from": "a"}, "when": {"$ok": "a"}},
    ],
)
def test_a_step_waits_for_whatever_it_speaks_of(parts: dict[str, Any]):
    assert Plan.parse(plan(step("b", **parts), step("a"))).dependencies == {"a": frozenset(), "b": {"a"}}


@pytest.mark.parametrize(
    "parts",
    [
        {"input": {"$from": "input.a"}},
        {"input": {"a": "a", "b": ["$from", "a"]}},
        {"input": {"$literal": {"$from": "a"}}},
        {"when": {"$eq": [{"$literal": {"$ok": "a"}}, 1]}},
        {"for_each": [1, 2], "input": [{"$from": "item.a"}, {"$from": "index"}]},
    ],
)
def test_a_step_waits_for_nothing_else(parts: dict[str, Any]):
    assert Plan.parse(plan(step("b", **parts), step("a"))).dependencies == {"a": frozenset(), "b": frozenset()}


# One call


@given(plain)
def test_the_plan_of_one_call_gives_the_input_as_it_is(value: Any):
    parsed = Plan.of_call("ledger.deposit@1", value)
    assert parsed.steps[0].full_call == "ledger.deposit@1"
    assert resolve(parsed.steps[0].input, lambda root: pytest.fail(f"looks up {root}")) == value
    assert Plan.parse(parsed.to_data()) == parsed


@pytest.mark.parametrize(
    "value", [{"$from": "call"}, {"$literal": 1, "b": 2}, {"a": [{"$first": [{"$from": "nobody"}]}]}, {"$literal": 1}]
)
def test_data_that_looks_like_a_template_is_still_data(value: Any):
    parsed = Plan.of_call("ledger.deposit", value)
    assert resolve(parsed.steps[0].input, lambda root: pytest.fail(f"looks up {root}")) == value
    assert parsed.dependencies == {"call": frozenset()}


@pytest.mark.parametrize("call", ["", "deposit", None, 5, "a.b.c", "ledger.deposit@"])
def test_a_call_of_no_capability_is_refused(call: Any):
    with pytest.raises(InvalidPlan, match="is not a capability"):
        Plan.of_call(call, {})


# What is refused


@pytest.mark.parametrize(
    ("data", "where", "says"),
    [
        (None, "", "must be an object, not NoneType"),
        ([], "", "must be an object, not list"),
        ({}, "/steps", "must be a list, not NoneType"),
        ({"steps": {}}, "/steps", "must be a list, not dict"),
        (plan(), "/steps", "between 1 and 10000 steps, this one has 0"),
        (plan("s1"), "/steps/0", "must be an object, not str"),
        ({"step": [step()]}, "", "unknown key 'step'. Known: output, steps"),
        (plan(step(), goal="x"), "", "unknown key 'goal'"),
        (plan(step(), step("s2", inputs={})), "/steps/1", "unknown key 'inputs'. Known: after, budget, call, for_each"),
        (plan({"call": "a.b"}), "/steps/0/id", "None is not a step id"),
        (plan(step("1st")), "/steps/0/id", "'1st' is not a step id. Write letters, digits, _ and -"),
        (plan(step("a.b")), "/steps/0/id", "is not a step id"),
        (plan(step("s[1]")), "/steps/0/id", "is not a step id"),
        (plan(step("s~")), "/steps/0/id", "is not a step id"),
        (plan(step("s\n")), "/steps/0/id", "is not a step id"),
        (plan(step("x" * 65)), "/steps/0/id", "at most 64"),
        (plan(step("x" * 1_000_000)), "/steps/0/id", "at most 64"),
        (plan({"id": "s1"}), "/steps/0/call", "None is not a capability. Write domain.method or domain.method@1.2"),
        (plan(step(call="get")), "/steps/0/call", "'get' is not a capability"),
        (plan(step(call="orders.get@latest")), "/steps/0/call", "is not a capability"),
        (plan(step(call="orders.get@١")), "/steps/0/call", "is not a capability"),
        (plan(step(call="orders.get@" + "1" * 5000)), "/steps/0/call", "is not a capability"),
        (plan(step(call="orders.get\n")), "/steps/0/call", "is not a capability"),
        (plan(step(call="o" * 100_000 + ".get")), "/steps/0/call", "is not a capability"),
        (plan(step(), step()), "/steps", "two steps are called 's1'"),
        (plan(step(after="s2")), "/steps/0/after", "must be a list, not str"),
        (plan(step(after=None)), "/steps/0/after", "must be a list, not NoneType"),
        (plan(step("a"), step("b", after=["a", 5])), "/steps/1/after/1", "5 is not a step id"),
        (
            plan(step("first"), step("b", after=["frist"])),
            "/steps/1/after/0",
            "no step of this plan. Did you mean 'first'?",
        ),
        (plan(step(optional=1)), "/steps/0/optional", "must be true or false"),
        (plan(step(input={"a/b": {"$from": "s2"}})), "/steps/0/input/a~1b", "'s2' refers to 's2', which is neither"),
        (plan(step(input={"$from": "output.x"})), "/steps/0/input", "'output', which is neither a step nor 'input'"),
        (plan(step(input={"$from": ""})), "/steps/0/input", "takes a reference, such as step.field.0, not ''"),
        (plan(step(input={"$from": "input."})), "/steps/0/input", "takes a reference"),
        (plan(step(input={"$from": "input..a"})), "/steps/0/input", "takes a reference"),
        (plan(step(input={"$from": 5})), "/steps/0/input", "takes a reference"),
        (plan(step(input={"$from": "x" * 100_000})), "/steps/0/input", "neither a step nor"),
        (plan(step(input=[{"$from": "input", "x": 1}])), "/steps/0/input/0", "$from stands alone in its object"),
        (plan(step(input={"$first": [], "x": 1})), "/steps/0/input", "$first stands alone"),
        (plan(step(input={"$literal": 1, "x": 1})), "/steps/0/input", "$literal stands alone"),
        (plan(step(input={"a": {"$first": []}})), "/steps/0/input/a", "$first takes a list with something in it"),
        (plan(step(input={"$first": {"$from": "input"}})), "/steps/0/input", "$first takes a list"),
        (plan(step(input={"$first": [{"$from": "s9"}]})), "/steps/0/input/$first/0", "'s9', which is neither"),
        (plan(step(input={"$from": "item"})), "/steps/0/input", "'item' means something only inside for_each"),
        (plan(step(when={"$from": "index"})), "/steps/0/when", "'index' means something only inside for_each"),
        (plan(step(for_each=[{"$from": "item"}])), "/steps/0/for_each/0", "means something only inside for_each"),
        (plan(step(for_each=[1]), output={"$from": "item"}), "/output", "means something only inside for_each"),
        (plan(step(), output={"a": [{"$from": "s2"}]}), "/output/a/0", "'s2', which is neither a step"),
        (plan(step(), output={"$from": 1}), "/output", "takes a reference"),
        (plan(step(for_each="abc")), "/steps/0/for_each", "takes a list, or a reference to one"),
        (plan(step(for_each={"a": 1})), "/steps/0/for_each", "takes a list, or a reference to one"),
        (plan(step(for_each=False)), "/steps/0/for_each", "takes a list, or a reference to one"),
        (plan(step(for_each=[0] * (MAX_FAN_OUT + 1))), "/steps/0/for_each", "more than 10000 items"),
        (plan(step(input=[0, float("nan")])), "/steps/0/input/1", "nan is no number in JSON"),
        (plan(step(input={"n": 2**64})), "/steps/0/input/n", "at most 64 bits"),
        (plan(step(input={1: 2})), "/steps/0/input", "keys of an object are texts"),
        (plan(step(input={"a": {1, 2}})), "/steps/0/input/a", "set is not plain data"),
        (plan(step(input=({"$from": "s1"},))), "/steps/0/input", "is a tuple, in which references are not looked for"),
        (plan(step(after=("s1",))), "/steps/0/after", "must be a list, not tuple"),
        (plan(step(when=b"x")), "/steps/0/when", "bytes is not plain data"),
    ],
)
def test_what_is_wrong_is_said_with_a_pointer(data: Any, where: str, says: str):
    pointer, detail = refused(data)
    assert pointer == where
    assert says in detail
    assert len(detail) < 400


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_word_that_references_use_is_no_name_for_a_step(name: str):
    assert refused(plan(step(name))) == (
        "/steps/0/id",
        f"/steps/0/id: {name!r} is reserved for references. Take another id",
    )


@pytest.mark.parametrize(
    ("condition", "where", "says"),
    [
        ("yes", "", "a condition is true, false, a reference, or one of $eq, $ne, $gt, $ge, $lt, $le, $in, $not"),
        ("false", "", "a condition is"),
        (1, "", "a condition is"),
        ([], "", "a condition is"),
        ({}, "", "a condition is"),
        ({"$eq": [1, 1], "$ne": [1, 2]}, "", "a condition is"),
        ({"eq": [1, 1]}, "", "unknown condition 'eq'. Known: $eq"),
        ({"$gte": [1, 1]}, "", "unknown condition '$gte'"),
        ({"$literal": True}, "", "unknown condition '$literal'"),
        ({"$eq": 1}, "/$eq", "$eq takes a list of two"),
        ({"$in": [1]}, "/$in", "$in takes a list of two"),
        ({"$lt": [1, 2, 3]}, "/$lt", "$lt takes a list of two"),
        (
            {"$eq": [True, {"$gt": [1, 2]}]},
            "/$eq/1",
            "$eq compares values; conditions are joined with $and, $or and $not",
        ),
        ({"$and": {"$ok": "s1"}}, "/$and", "must be a list, not dict"),
        ({"$and": [True, {"$or": [0]}]}, "/$and/1/$or/0", "a condition is"),
        ({"$not": "x"}, "/$not", "a condition is"),
        ({"$not": None}, "/$not", "a condition is"),
        ({"$ok": 5}, "/$ok", "5 is not a step id"),
        ({"$ok": "input"}, "/$ok", "'input' is reserved"),
        ({"$and": [{"$not": {"$ok": "nobody"}}]}, "/$and/0/$not/$ok", "'nobody' is no step of this plan"),
        ({"$eq": [{"$from": "nobody"}, 1]}, "/$eq/0", "'nobody', which is neither"),
    ],
)
def test_a_condition_that_would_always_hold_or_never_is_refused(condition: Any, where: str, says: str):
    pointer, detail = refused(plan(step("a"), step("b", when=condition)))
    assert pointer == f"/steps/1/when{where}"
    assert says in detail


@pytest.mark.parametrize("name", sorted(MALFORMATIONS))
@settings(max_examples=10)  # and all of them together are a property of their own
@given(data=st.data())
def test_every_way_to_spoil_a_plan_is_refused(name: str, data: st.DataObject):
    spoiled = data.draw(plans())
    spoiled = {**spoiled, "steps": [dict(each) for each in spoiled["steps"]]}
    MALFORMATIONS[name](data.draw, spoiled, data.draw(st.integers(0, len(spoiled["steps"]) - 1)))  # pyright: ignore[reportArgumentType]
    refused(spoiled)


@given(malformed_plans())
def test_a_malformed_plan_is_an_invalid_plan_and_never_another_error(data: Any):
    refused(data)


@given(plain)
def test_any_data_is_a_plan_or_refused(data: Any):
    refused(data)


# Cycles


def test_a_cycle_is_spelled_out():
    circle = plan(step("a", after=["c"]), step("b", input={"$from": "a"}), step("c", when={"$ok": "b"}), step("d"))
    assert refused(circle) == ("/steps", "/steps: the steps wait for each other in a circle: a -> c -> b -> a")


def test_a_step_that_waits_for_itself_is_a_cycle():
    assert refused(plan(step("a", after=["a"])))[1].endswith("in a circle: a -> a")


def test_who_only_waits_for_a_cycle_is_not_named():
    tail = plan(step("z", after=["a"]), step("a", after=["b"]), step("b", after=["a"]))
    assert refused(tail)[1].endswith("in a circle: a -> b -> a")


def test_a_cycle_of_ten_thousand_steps_is_found_soon_and_said_shortly():
    circle = [step(f"s{i}", after=[f"s{(i + 1) % MAX_STEPS}"]) for i in range(MAX_STEPS)]
    started = time.process_time()
    detail = refused(plan(*circle))[1]
    assert time.process_time() - started < 5
    assert "s0 -> s1 -> s2 -> s3 -> s4 -> s5 -> s6 -> s7 -> (9989 more) -> s9997 -> s9998 -> s9999 -> s0" in detail
    assert len(detail) < 300


# Bounds


@pytest.mark.parametrize("part", ["input", "when", "for_each", "output"])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 1_000, 100_000])
def test_depth_is_refused_and_never_a_recursion_error(part: str, depth: int):
    data = plan(step(), output=nested(depth)) if part == "output" else plan(step(**{part: nested(depth)}))
    assert "is nested deeper than" in refused(data)[1]


@pytest.mark.parametrize("wrap", [lambda inner: {"$not": inner}, lambda inner: {"$and": [inner]}])
def test_a_deep_condition_is_refused(wrap: Any):
    condition: Any = True
    for _ in range(5_000):
        condition = wrap(condition)
    assert "is nested deeper than" in refused(plan(step(when=condition)))[1]


def test_the_deepest_plan_that_passes_has_a_digest():
    parsed = Plan.parse(plan(step(input=nested(MAX_DEPTH)), output=nested(MAX_DEPTH)))
    assert parsed.digest.startswith("sha256:")
    check(parsed.to_data())


def test_too_many_steps_are_refused():
    assert "this one has 10001" in refused(plan(*(step(f"s{i}") for i in range(MAX_STEPS + 1))))[1]


def chain(i: int) -> dict[str, Any]:
    return step(f"s{i}", input={"a": {"$from": f"s{i - 1}.a"}} if i else {})


def star(i: int) -> dict[str, Any]:
    return step(f"s{i}", after=["s0"] if i else [])


def braid(i: int) -> dict[str, Any]:
    return step(f"s{i}", after=[f"s{j}" for j in range(max(0, i - 20), i)], when={"$ok": f"s{i - 1}"} if i else True)


@pytest.mark.parametrize("make", [chain, star, braid])
def test_a_plan_of_ten_thousand_steps_is_read_soon(make: Any):
    data = plan(*(make(i) for i in range(MAX_STEPS)))
    started = time.process_time()
    parsed = Plan.parse(data)
    parsed.digest  # noqa: B018
    assert time.process_time() - started < 5
    assert len(parsed.dependencies) == MAX_STEPS


@settings(max_examples=30)
@given(plans(min_steps=2), st.randoms())
def test_the_order_in_which_steps_are_written_does_not_matter(data: Any, random: Any):
    parsed = Plan.parse(data)
    shuffled = random.sample(data["steps"], len(data["steps"]))
    again = Plan.parse({**data, "steps": shuffled})
    assert again.dependencies == parsed.dependencies
    assert set(itertools.chain.from_iterable(again.dependencies.values())) <= set(again.by_id)
