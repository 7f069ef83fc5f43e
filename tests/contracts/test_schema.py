"""Types are seen as JSON Schema; values as canonical JSON with one digest."""

import dataclasses
import datetime
import decimal
import enum
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator

from hanse.contracts import InvalidContract, InvalidInput, Shape, canonical, digest

from ..strategies import nested, not_plain, plain, with_one


@given(plain)
def test_canonical_json_says_the_same(value: Any):
    assert json.loads(canonical(value)) == value


@given(plain)
def test_a_digest_survives_json(value: Any):
    assert digest(json.loads(json.dumps(value))) == digest(value)


def test_canonical_json_sorts_keys_and_leaves_no_space():
    assert (
        canonical({"b": [1, 2.5, None, True], "a": "ü", "ä": {}}) == '{"a":"ü","b":[1,2.5,null,true],"ä":{}}'.encode()
    )


def test_numbers_are_written_the_same_for_ever():
    """Digests are kept for years: a new encoder must not write a number otherwise."""
    numbers = [0, -1, 2**64 - 1, -(2**63), 0.1, 1.0, -0.0, 1e16, 1e21, 1.5e300, 5e-324, 123456789012345680.0]
    assert canonical(numbers) == (
        b"[0,-1,18446744073709551615,-9223372036854775808,"
        b"0.1,1.0,-0.0,1e+16,1e+21,1.5e+300,5e-324,1.2345678901234568e+17]"
    )


def test_text_is_written_the_same_for_ever():
    assert canonical('\u0000\b\n\u001f"\\/\u007f\u2028ü😀') == '"\\u0000\\b\\n\\u001f\\"\\\\/\u007f\u2028ü😀"'.encode()


def test_subclasses_of_plain_types_have_the_digest_of_what_they_are():
    class Point(NamedTuple):
        x: float
        y: float

    class Real(float):
        pass

    assert canonical({Colour.RED: [Point(1.5, Real(2.5)), Colour.RED]}) == b'{"red":[[1.5,2.5],"red"]}'


def test_the_order_of_keys_does_not_matter_and_everything_else_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    values = [1, 1.5, "1", True, None, [1], {"1": 1}, [], {}, "", 0]
    assert len({digest(each) for each in values}) == len(values)


def test_a_digest_is_sha_256_of_the_canonical_bytes():
    """The vector of the empty object: `printf '{}' | sha256sum`."""
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({"a": 1}) == "sha256:" + hashlib.sha256(b'{"a":1}').hexdigest()


@given(with_one(not_plain))
def test_what_is_not_plain_has_no_digest(value: Any):
    with pytest.raises(InvalidInput):
        digest(value)


def test_a_key_that_is_no_text_has_no_digest_because_two_values_would_share_it():
    for key in (1, True, None, 1.5):
        with pytest.raises(InvalidInput, match="keys of an object are texts"):
            digest({key: "a"})


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_depth_is_refused_and_never_a_recursion_error(depth: int):
    for measure in (canonical, digest):
        with pytest.raises(InvalidInput, match="nested deeper"):
            measure(nested(depth))


class Colour(enum.StrEnum):
    RED = "red"


class Inner(BaseModel):
    amount: decimal.Decimal
    when: datetime.datetime


class Outer(BaseModel):
    inner: Inner
    colours: set[Colour]
    note: str | None = None


class Node(BaseModel):
    children: list["Node"] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def shape(type_: Any, mode: Any = "validation") -> Shape:
    return Shape(type_, "Ledger.deposit, input", mode)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (Outer, {"inner": {"amount": "1.50", "when": "2026-11-21T09:00:00Z"}, "colours": ["red"], "note": None}),
        (Point, {"x": 1, "y": 2}),
        (Node, {"children": [{"children": []}]}),
        (list[int], [1, 2]),
        (dict[str, Point], {"a": {"x": 1, "y": 0}}),
        (int | None, None),
        (type(None), None),
        (Any, {"a": [1, None]}),
    ],
)
def test_a_value_comes_back_as_it_was_written(type_: Any, data: Any):
    both = shape(type_)
    assert both.dump(both.load(data)) == data


def test_a_schema_says_what_is_taken():
    assert shape(Point).schema == {
        "properties": {"x": {"title": "X", "type": "integer"}, "y": {"default": 0, "title": "Y", "type": "integer"}},
        "required": ["x"],
        "title": "Point",
        "type": "object",
    }


def test_the_schema_of_an_output_says_what_is_written():
    class Total(BaseModel):
        cents: decimal.Decimal

        @computed_field
        @property
        def doubled(self) -> int:
            return int(self.cents * 2)

    out = shape(Total, "serialization")
    assert out.schema["properties"].keys() == {"cents", "doubled"}
    assert out.schema["properties"]["cents"]["type"] == "string"
    assert out.dump(Total(cents=decimal.Decimal("1.5"))) == {"cents": "1.5", "doubled": 3}


def test_names_on_the_wire_are_those_of_the_schema():
    class Ref(BaseModel):
        order_id: str = Field(alias="orderId")

    both = shape(Ref)
    data = both.dump(Ref(orderId="W1"))
    assert data.keys() == both.schema["properties"].keys() == {"orderId"}
    assert both.load(data) == Ref(orderId="W1")


def test_an_input_that_does_not_fit_names_the_place():
    with pytest.raises(InvalidInput, match=r"^/inner/when: ") as caught:
        shape(Outer).load({"inner": {"amount": 1, "when": "soon"}, "colours": []})
    assert caught.value.ids["pointer"] == "/inner/when"


def test_all_problems_come_with_the_error_and_the_first_in_words():
    with pytest.raises(InvalidInput, match=r"^/inner/amount: Field required \(and 2 more\)") as caught:
        shape(Outer).load({"inner": {}})
    problems = caught.value.ids["problems"]
    assert [each["pointer"] for each in problems] == ["/inner/amount", "/inner/when", "/colours"]
    assert len(str(caught.value)) < 100


def test_an_error_does_not_repeat_the_value():
    for data in ({"inner": "hunter2", "colours": ["hunter2"]}, "hunter2"):
        with pytest.raises(InvalidInput) as caught:
            shape(Outer).load(data)
        assert "hunter2" not in str(caught.value.to_data())
    with pytest.raises(InvalidInput) as caught:
        shape(Point).dump({"x": "hunter2, input_type=hunter2"})
    assert "hunter2" not in str(caught.value.to_data())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"x": 1}, "cannot be written as Point"),
        ("x", "cannot be written as Point"),
        (Point(x="one"), "Expected `int`"),  # pyright: ignore[reportArgumentType]
        (Point(x=2**70), "/x: an integer has at most 64 bits"),
    ],
)
def test_an_output_of_another_type_is_refused(value: Any, says: str):
    with pytest.raises(InvalidInput, match=says):
        shape(Point).dump(value)


def test_an_output_that_json_cannot_carry_is_refused():
    for odd in (float("nan"), float("-inf")):
        with pytest.raises(InvalidInput, match="is no number in JSON"):
            shape(list[float]).dump([odd])
    with pytest.raises(InvalidInput, match="surrogate"):
        shape(Any).dump({"a": "\ud800"})
    with pytest.raises(InvalidInput):
        shape(bytes).dump(b"\xff")


def test_a_serializer_that_raises_is_a_refused_output():
    class Odd(BaseModel):
        cents: int

        @computed_field
        @property
        def broken(self) -> int:
            raise KeyError("no")

    with pytest.raises(InvalidInput, match="cannot be written as Odd"):
        shape(Odd, "serialization").dump(Odd(cents=1))


def test_the_authors_own_validators_count():
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def is_even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("must be even")
            return value

    with pytest.raises(InvalidInput, match="/number: Value error, must be even"):
        shape(Even).load({"number": 3})


def test_deep_input_is_refused_and_never_a_recursion_error():
    data: dict[str, Any] = {"children": []}
    for _ in range(5_000):
        data = {"children": [data]}
    with pytest.raises(InvalidInput):
        shape(Node).load(data)


class Opaque:
    """A class that pydantic knows nothing of."""


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        (Opaque, r"Opaque.* cannot be sent between agents\. Write a pydantic model"),
        (dict[str, Opaque], "cannot be sent between agents"),
        (Callable[[int], int], r"has no JSON Schema .*Write only fields that JSON can carry"),
        (list["Nowhere"], "refers to a name that cannot be found"),  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
    ],
)
def test_a_type_that_cannot_be_sent_says_what_to_write(type_: Any, says: str):
    with pytest.raises(InvalidContract, match=rf"^Ledger\.deposit, input: .*{says}"):
        shape(type_)


def test_a_field_that_cannot_be_sent_says_what_to_write():
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        it: Opaque

    with pytest.raises(InvalidContract, match="has no JSON Schema"):
        shape(Holder)


def test_a_field_whose_type_is_nowhere_says_so():
    class Holder(BaseModel):
        it: "Nowhere"  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    with pytest.raises(InvalidContract, match="refers to a name that cannot be found"):
        shape(Holder)
