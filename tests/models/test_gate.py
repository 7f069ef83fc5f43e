"""The gate before an engine that compiles schemas."""

import pytest

from hanse.contracts import InvalidInput, Overloaded, TooLarge
from hanse.models.gate import SchemaGate, SchemaLimits

from .doubles import Watch


def schema(number: int) -> dict[str, object]:
    return {"type": "object", "properties": {f"field{number}": {"type": "string"}}}


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def gate(watch: Watch) -> SchemaGate:
    return SchemaGate(watch, SchemaLimits(distinct=3, window_seconds=60), own=[schema(100)])


def test_only_so_many_different_ones_pass_in_an_hour(gate: SchemaGate) -> None:
    for number in (1, 2, 3, 1, 2, 3):
        gate.admit(schema(number))
    with pytest.raises(Overloaded, match="3 different schemas") as error:
        gate.admit(schema(4))
    assert error.value.retry_after_seconds == 60
    gate.admit(schema(2))


def test_one_that_is_not_used_any_more_makes_room(gate: SchemaGate, watch: Watch) -> None:
    for number in (1, 2, 3):
        gate.admit(schema(number))
    watch.now = 50
    gate.admit(schema(1))
    watch.now = 61
    gate.admit(schema(4))
    gate.admit(schema(5))
    with pytest.raises(Overloaded):
        gate.admit(schema(6))


def test_those_of_contracts_do_not_count(gate: SchemaGate) -> None:
    for number in range(101, 150):
        gate.allow(schema(number))
    for number in range(100, 150):
        gate.admit(schema(number))
    for number in (1, 2, 3):
        gate.admit(schema(number))


def test_a_large_one_is_refused_also_from_a_contract(gate: SchemaGate) -> None:
    large = {"enum": ["x" * 100_000]}
    gate.allow(large)
    with pytest.raises(TooLarge, match="bytes"):
        gate.admit(large)


def test_a_deep_one_is_refused(gate: SchemaGate) -> None:
    deep: dict[str, object] = {"type": "string"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    with pytest.raises(TooLarge, match="deeper"):
        gate.admit(deep)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "items": {"type": "integer"}, "minItems": 20_000},
        {"type": "string", "pattern": "(a|b)" * 100},
        {"$ref": "http://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
    ],
)
def test_what_a_grammar_would_grow_from_is_refused(gate: SchemaGate, part: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        gate.admit({"type": "object", "properties": {"part": {"anyOf": [{"type": "null"}, part]}}})


def test_a_refused_one_takes_no_place(gate: SchemaGate) -> None:
    for _ in range(5):
        with pytest.raises(InvalidInput):
            gate.admit({"$ref": "other.json"})
    for number in (1, 2, 3):
        gate.admit(schema(number))
