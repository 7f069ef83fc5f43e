"""When a contract can take the place of another one for tasks that were planned under that."""

import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from hanse.contracts import CapabilityName, Compensation, Contract, Effect
from hanse.runtime.compatibility import objections


class Inner(BaseModel):
    name: str
    size: int = 1


class Old(BaseModel):
    account: str
    cents: int = Field(ge=0)
    note: str | None = None
    color: Literal["red", "green"] = "red"
    inner: Inner
    tags: list[str] = []


def schema(type_: Any) -> dict[str, Any]:
    return TypeAdapter(type_).json_schema()


def contract(input: Any = Old, output: Any = Old, **changes: Any) -> Contract:
    made = Contract(CapabilityName("shop.sell"), "1.0", Effect.IRREVERSIBLE, "Sell.", schema(input), schema(output))
    return dataclasses.replace(made, **changes)


class WithOptional(Old):
    color: Literal["red", "green"] = "red"
    more: int = 5


class WithRequired(Old):
    more: int


class Narrower(Old):
    cents: int = Field(ge=1)


class Wider(Old):
    cents: float  # type: ignore[assignment]


class Retyped(Old):
    cents: str  # type: ignore[assignment]


class FewerColors(Old):
    color: Literal["red"] = "red"  # type: ignore[assignment]


class MoreColors(Old):
    color: Literal["red", "green", "blue"] = "red"  # type: ignore[assignment]


class NoNull(Old):
    note: str = ""  # type: ignore[assignment]


class OtherInner(BaseModel):
    name: str
    size: int


class InnerNeedsMore(Old):
    inner: OtherInner  # type: ignore[assignment]


class Numbers(Old):
    tags: list[int] = []  # type: ignore[assignment]


class Lost(BaseModel):
    account: str


@pytest.mark.parametrize("input", [Old, WithOptional, Wider, MoreColors])
def test_an_input_that_takes_all_that_the_old_one_took(input: type):
    assert objections(contract(), contract(input=input)) == []


@pytest.mark.parametrize(
    ("input", "says"),
    [
        (WithRequired, "input/more: is required"),
        (Narrower, "input/cents: minimum 1 was 0"),
        (Retyped, "input/cents: integer is not always string"),
        (FewerColors, "input/color: 'green' is not among the values"),
        (NoNull, "input/note"),
        (InnerNeedsMore, "input/inner/size: is required"),
        (Numbers, "input/tags/*: string is not always integer"),
    ],
)
def test_an_input_that_does_not(input: type, says: str):
    found = objections(contract(), contract(input=input))
    assert len(found) == 1
    assert found[0].startswith(says)


@pytest.mark.parametrize("output", [Old, WithOptional, WithRequired, Narrower, FewerColors, NoNull])
def test_an_output_that_gives_all_that_the_old_one_gave(output: type):
    assert objections(contract(), contract(output=output)) == []


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (Wider, "output/cents"),
        (MoreColors, "output/color: 'blue' is not among the values"),
        (Retyped, "output/cents: string is not always integer"),
        (Lost, "output/cents: is required, and may be missing"),
    ],
)
def test_an_output_that_does_not(output: type, says: str):
    found = objections(contract(), contract(output=output))
    assert any(text.startswith(says) for text in found), found


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"effect": Effect.READ}, "its effect is read, and was irreversible"),
        ({"effect": Effect.REVERSIBLE, "compensation": Compensation(CapabilityName("shop.undo"))}, "its effect"),
        ({"confirmation": Compensation(CapabilityName("shop.confirm"))}, "its confirmation is shop.confirm with {}"),
        ({"name": CapabilityName("shop.other")}, "it is shop.other"),
    ],
)
def test_a_promise_that_changes(changes: dict[str, Any], says: str):
    assert objections(contract(), contract(**changes))[0].startswith(says)


def test_figures_and_words_may_change():
    new = contract(description="Sell it.", price_cents=9, latency_ms=1, labels=("x",), version="2.0")
    assert objections(contract(), new) == []


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


def test_a_schema_that_refers_to_itself():
    assert objections(contract(input=Tree), contract(input=Tree)) == []
    assert objections(contract(input=Old), contract(input=Tree)) != []


MODELS = st.sampled_from([Old, WithOptional, WithRequired, Narrower, Wider, Retyped, FewerColors, MoreColors, NoNull])


@given(MODELS, MODELS, MODELS)
def test_what_can_take_a_place_twice_can_take_it_at_once(first: type, second: type, third: type):
    one, two, three = contract(input=first), contract(input=second), contract(input=third)
    if not objections(one, two) and not objections(two, three):
        assert objections(one, three) == []


@given(MODELS)
def test_every_contract_can_take_its_own_place(model: type):
    assert objections(contract(model, model), contract(model, model)) == []
