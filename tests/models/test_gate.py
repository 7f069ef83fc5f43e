"""The gate before an engine that compiles schemas."""

import pytest

from hanse.contracts import InvalidInput, Overloaded, Tenant, TooLarge
from hanse.models.gate import SchemaAllowance, SchemaGate

from .doubles import Watch

SHOP, BANK = Tenant("shop"), Tenant("bank")


def schema(number: int) -> dict[str, object]:
    return {"type": "object", "properties": {f"field{number}": {"type": "string"}}}


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def gate() -> SchemaGate:
    return SchemaGate()


@pytest.fixture
def allowance(watch: Watch) -> SchemaAllowance:
    return SchemaAllowance(watch, distinct=3, window_seconds=60)


def test_only_so_many_different_ones_pass_in_an_hour(allowance: SchemaAllowance) -> None:
    for number in (1, 2, 3, 1, 2, 3):
        allowance.admit(SHOP, schema(number))
    with pytest.raises(Overloaded, match="3 different schemas") as error:
        allowance.admit(SHOP, schema(4))
    assert error.value.retry_after_seconds == 60
    allowance.admit(SHOP, schema(2))


def test_one_tenant_uses_up_nothing_of_anothers(allowance: SchemaAllowance) -> None:
    for number in (1, 2, 3):
        allowance.admit(SHOP, schema(number))
    for number in (4, 5, 6):
        allowance.admit(BANK, schema(number))
    for tenant in (SHOP, BANK):
        with pytest.raises(Overloaded):
            allowance.admit(tenant, schema(7))


def test_one_that_is_not_used_any_more_makes_room(allowance: SchemaAllowance, watch: Watch) -> None:
    for number in (1, 2, 3):
        allowance.admit(SHOP, schema(number))
    watch.now = 50
    allowance.admit(SHOP, schema(1))
    watch.now = 61
    allowance.admit(SHOP, schema(4))
    allowance.admit(SHOP, schema(5))
    with pytest.raises(Overloaded):
        allowance.admit(SHOP, schema(6))


def test_a_large_one_is_refused(gate: SchemaGate) -> None:
    with pytest.raises(TooLarge, match="bytes"):
        gate.admit({"enum": ["x" * 100_000]})


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
