"""Two tasks beside one another: every difference at its smallest place, and none where there is none."""

from typing import Any

import pytest
from hypothesis import given

from hanse.runtime.comparison import compare, differences, told
from hanse.runtime.federation import Federation

from ..strategies import plain
from .test_replay import Till, step


def found(first: Any, second: Any) -> list[tuple[str, Any, Any]]:
    return [(each.at, each.first, each.second) for each in differences(first, second)]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1, 1, []),
        (1, 2, [("", 1, 2)]),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, [("/b", 2, 3)]),
        ({"a": 1}, {}, [("/a", 1, None)]),
        ({}, {"a": None}, [("/a", None, None)]),
        ([1, 2], [1, 3], [("/1", 2, 3)]),
        ([1], [1, 2], [("", [1], [1, 2])]),
        ({"a/b": {"c": 1}}, {"a/b": {"c": 2}}, [("/a~1b/c", 1, 2)]),
    ],
)
def test_differences_are_the_smallest_places(first: Any, second: Any, expected: Any):
    assert found(first, second) == expected


@given(plain)
def test_nothing_differs_from_itself(value: Any):
    assert found(value, value) == []


async def test_plan_input_ends_and_steps_are_held_beside_one_another():
    async with Federation.in_process([Till]) as federation:
        one = await federation.submit(plan={"steps": [step("a", 1), step("b", 2, after=["a"])]}, input={"x": 1})
        other = await federation.submit(plan={"steps": [step("a", 1), step("c", 901, after=["a"])]}, input={"x": 2})
        for task in (one, other):
            await task.wait(10)
        result = compare(await told(federation.client, one.id), await told(federation.client, other.id))
    assert [each.at for each in result.plan] == ["/steps/b", "/steps/c"]
    assert [each.at for each in result.input] == ["/x"]
    assert {each.at for each in result.ends} == {"/status", "/error"}
    differing = {pair.step: pair.differs for pair in result.steps}
    assert differing["a"] == ["status"]
    assert "call" in differing["b"]
    assert "call" in differing["a~"]
    assert not result.same
    assert result.to_data()["steps"][0]["first"]["latency_ms"] is not None
