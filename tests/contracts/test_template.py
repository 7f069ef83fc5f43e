"""What a template stands for: values by reference, the first that exists, literals, conditions."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from hanse.contracts.plan import Plan
from hanse.contracts.template import (
    ABSENT,
    MissingOutput,
    Scope,
    has_bindings,
    holds,
    literal,
    look_up,
    references,
    resolve,
    resolve_or_null,
)

from ..strategies import conditions, nested, plain, plans

KNOWN: dict[str, Any] = {
    "input": {"a": 1, "list": [10, {"b": 20}], "nothing": None, "text": "abc", "yes": True, "no": False},
    "done": {"total": 5},
    "null": None,
    "item": "third",
    "index": 2,
}


def scope(root: str) -> Any:
    return KNOWN.get(root, ABSENT)


# References


def test_references_are_found_in_order_and_not_in_literals():
    template = {"a": {"$from": "x.1"}, "b": [{"$first": [{"$from": "y"}, 1]}], "c": {"$literal": {"$from": "z"}}}
    assert list(references(template)) == ["x.1", "y"]


@pytest.mark.parametrize("walk", [lambda value: list(references(value)), has_bindings, literal])
def test_depth_is_no_recursion_error_for_whoever_walks_a_template(walk: Any):
    for leaf in (1, {"$from": "a"}):
        walk(nested(100_000, leaf))


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("input.a", 1),
        ("input.list", [10, {"b": 20}]),
        ("input.list.0", 10),
        ("input.list.1.b", 20),
        ("input.list.01", {"b": 20}),
        ("input.nothing", None),
        ("done", {"total": 5}),
        ("null", None),
        ("item", "third"),
        ("index", 2),
    ],
)
def test_a_reference_leads_to_a_value(reference: str, value: Any):
    assert look_up(reference, scope) == value


@pytest.mark.parametrize(
    "reference",
    [
        "skipped",
        "skipped.total",
        "input.b",
        "input.a.b",
        "input.list.2",
        "input.list.-1",
        "input.list.one",
        "input.list.²",
        "input.list.٠",
        "input.list." + "9" * 5_000,
        "input.text.0",
        "input.nothing.a",
        "null.a",
        "input.",
        "",
    ],
)
def test_a_reference_to_nothing_is_a_missing_output(reference: str):
    with pytest.raises(MissingOutput):
        look_up(reference, scope)


def test_null_exists_and_what_is_missing_does_not():
    assert resolve({"$from": "input.nothing"}, scope) is None
    with pytest.raises(MissingOutput):
        resolve({"a": [{"$from": "input.missing"}]}, scope)
    assert resolve_or_null({"a": [{"$from": "input.missing"}], "b": {"$from": "done"}}, scope) == {
        "a": [None],
        "b": {"total": 5},
    }


def test_a_value_is_not_read_as_a_template_again():
    def sly(root: str) -> Any:
        return {"$from": "input.secret"}

    assert resolve({"a": {"$from": "input"}}, sly) == {"a": {"$from": "input.secret"}}
    assert resolve({"$first": [{"$from": "input"}]}, sly) == {"$from": "input.secret"}


# The first that exists


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ([{"$from": "skipped"}, {"$from": "done.total"}], 5),
        ([{"$from": "input.nothing"}, 7], 7),
        ([{"$from": "input.a"}, {"$from": "done"}], 1),
        ([{"$from": "input.no"}, 1], False),
        ([{"x": {"$from": "skipped"}}, "rather"], "rather"),
        ([{"$first": [{"$from": "skipped"}]}, {"$first": [0]}], 0),
        ([{"$from": "skipped"}, None], None),
        ([{"$literal": {"$from": "skipped"}}], {"$from": "skipped"}),
    ],
)
def test_first_takes_the_first_that_exists_and_is_not_null(options: list[Any], value: Any):
    assert resolve({"$first": options}, scope) == value


def test_first_of_nothing_is_missing():
    for options in ([{"$from": "skipped"}], [{"$from": "input.nothing"}, {"$from": "skipped"}]):
        with pytest.raises(MissingOutput):
            resolve({"$first": options}, scope)
        assert resolve_or_null({"a": {"$first": options}}, scope) == {"a": None}


# Literals


@given(plain)
def test_a_literal_is_what_it_is(value: Any):
    assert resolve({"$literal": value}, scope) == value
    assert resolve_or_null([{"$literal": value}], scope) == [value]


def test_what_holds_no_mark_is_itself():
    template = {"a": [1, None, {"b": "$from", "$other": {"$and": 1}}], "$x": {}}
    assert resolve(template, scope) == template


# Conditions


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        (True, True),
        (False, False),
        ({"$from": "input.yes"}, True),
        ({"$from": "input.no"}, False),
        ({"$from": "input.nothing"}, False),
        ({"$from": "skipped"}, False),
        ({"$from": "input.list"}, True),
        ({"$first": [{"$from": "skipped"}, {"$from": "input.yes"}]}, True),
        ({"$eq": [{"$from": "done.total"}, 5]}, True),
        ({"$eq": [{"$from": "skipped"}, None]}, True),
        ({"$ne": [{"$from": "skipped"}, None]}, False),
        ({"$gt": [{"$from": "done.total"}, 4.5]}, True),
        ({"$gt": [5, 5]}, False),
        ({"$ge": [5, 5]}, True),
        ({"$lt": ["a", "b"]}, True),
        ({"$le": [2, 1]}, False),
        ({"$in": ["b", ["a", "b"]]}, True),
        ({"$in": ["b", {"$from": "input.text"}]}, True),
        ({"$in": ["a", {"$from": "input"}]}, True),
        ({"$in": [1, 5]}, False),
        ({"$gt": [1, "a"]}, False),
        ({"$le": [1, "a"]}, False),
        ({"$lt": [{"$from": "skipped"}, 5]}, False),
        ({"$ge": [{"$from": "skipped"}, 5]}, False),
        ({"$eq": [{"a": {"$from": "input.a"}}, {"a": 1}]}, True),
        ({"$not": {"$from": "skipped"}}, True),
        ({"$not": {"$gt": [1, "a"]}}, True),
        ({"$and": []}, True),
        ({"$or": []}, False),
        ({"$and": [True, {"$ok": "done"}]}, True),
        ({"$and": [True, {"$ok": "skipped"}]}, False),
        ({"$or": [{"$ok": "skipped"}, {"$from": "input.yes"}]}, True),
        ({"$ok": "done"}, True),
        ({"$ok": "null"}, True),
        ({"$ok": "skipped"}, False),
        ({"$not": {"$ok": "skipped"}}, True),
    ],
)
def test_a_condition_is_true_or_false(condition: Any, truth: bool):
    assert holds(condition, scope) is truth


@given(conditions(["input", "done", "skipped", "null", "item"], ["done", "skipped", "null"]))
def test_a_condition_never_raises(condition: Any):
    assert holds(condition, scope) in (True, False)
    assert holds({"$not": condition}, scope) is not holds(condition, scope)


def test_values_too_deep_to_compare_are_not_equal():
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    also: Any = []
    for _ in range(100_000):
        also = [also]
    values = {"a": deep, "b": also}
    assert holds({"$eq": [{"$from": "a"}, {"$from": "b"}]}, values.__getitem__) is False


@given(plans())
def test_with_all_its_outputs_there_every_step_of_a_plan_resolves_or_misses(data: Any):
    """Of a parsed plan nothing but MissingOutput is raised, whatever the steps answered."""
    parsed = Plan.parse(data)
    outputs: dict[str, Any] = {"input": {"cents": 1}, "item": [1], "index": 0}

    def answered(root: str) -> Any:
        return outputs.get(root, {"cents": [1], "account": {"0": None}})

    _try_all(parsed, answered)
    _try_all(parsed, lambda root: ABSENT)
    resolve_or_null(parsed.output, answered)


def _try_all(plan: Plan, scope: Scope) -> None:
    for step in plan.steps:
        for template in (step.input, step.for_each):
            with suppress(MissingOutput):
                resolve(template, scope)
        if step.when is not None:
            holds(step.when, scope)
