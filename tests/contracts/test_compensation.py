"""A compensation's input is bound by name: from the step's input, then its output, unless the author says where."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from hanse.contracts import Domain, InvalidContract, capabilities_of, capability
from hanse.contracts.template import resolve

REQUIRED: Any = ...


def model(title: str, /, **fields: Any) -> type[BaseModel]:
    """A model with these fields: a type, or a type and a default."""
    each = {key: field if isinstance(field, tuple) else (field, REQUIRED) for key, field in fields.items()}
    return create_model(title, **each)  # pyright: ignore[reportCallIssue, reportArgumentType]


def bound(takes: Any, gives: Any, undo_takes: Any, written: dict[str, Any] | None = None) -> Any:
    """The template of the compensation's input, as class creation makes it."""

    class Agent:
        @capability(effect="reversible", compensation="undo", compensation_input=written)
        async def act(self, request: takes) -> gives:  # pyright: ignore[reportInvalidTypeForm]
            """Act."""

        @capability(effect="irreversible")
        async def undo(self, request: undo_takes) -> None:  # pyright: ignore[reportInvalidTypeForm]
            """Undo."""

    compensation = capabilities_of(Agent, Domain("ledger"))[  # pyright: ignore[reportArgumentType]
        "ledger.act"
    ].contract.compensation
    assert compensation is not None
    return compensation.input


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(InvalidContract) as caught:
        bound(*arguments, **options)
    return caught.value.detail


def undone(template: Any, input: Any, output: Any) -> Any:
    """What the compensation gets, given what the caller wrote and what the step answered."""
    return resolve(template, {"input": input, "output": output}.__getitem__)


def test_a_field_is_taken_from_the_input_first():
    template = bound(model("In", account=str), model("Out", account=str), model("Undo", account=str))
    assert template == {"account": {"$from": "input.account"}}


def test_a_field_that_the_input_lacks_is_taken_from_the_output():
    template = bound(model("In", account=str), model("Out", entry=int), model("Undo", account=str, entry=int))
    assert template == {"account": {"$from": "input.account"}, "entry": {"$from": "output.entry"}}


def test_a_field_of_another_type_is_not_taken():
    template = bound(model("In", it=str), model("Out", it=int), model("Undo", it=int))
    assert template == {"it": {"$from": "output.it"}}


def test_an_integer_is_a_number_and_not_the_other_way_round():
    assert bound(model("In", it=int), type(None), model("Undo", it=float)) == {"it": {"$from": "input.it"}}
    assert "needs 'it'" in refused(model("In", it=float), type(None), model("Undo", it=int))


def test_what_the_author_writes_comes_before_both():
    written = {"cents": {"$from": "output.moved"}, "reason": "undone"}
    undo = model("Undo", account=str, cents=int, reason=str)
    template = bound(model("In", account=str, cents=int), model("Out", moved=int), undo, written)
    assert template == {"account": {"$from": "input.account"}, **written}


def test_a_field_that_is_nowhere_says_what_to_write():
    says = refused(model("In", account=str), model("Out", cents=int), model("Undo", account=str, entry=int))
    assert says == (
        "ledger.act: its compensation ledger.undo needs 'entry', "
        "which is neither in the step's input nor in its output. "
        'Add it to the output, or write compensation_input={"entry": {"$from": "output.…"}}'
    )


def test_a_field_that_is_nowhere_and_has_a_default_is_left_out():
    assert bound(model("In", account=str), type(None), model("Undo", account=str, note=(str, ""))) == {
        "account": {"$from": "input.account"}
    }


# What the caller may leave out


def test_a_default_that_the_caller_relied_on_becomes_part_of_the_template():
    template = bound(model("In", cents=(int, 100)), type(None), model("Undo", cents=int))
    assert undone(template, {}, None) == {"cents": 100}
    assert undone(template, {"cents": 5}, None) == {"cents": 5}


def test_a_default_of_null_too():
    template = bound(model("In", note=(str | None, None)), type(None), model("Undo", note=str | None))
    assert undone(template, {}, None) == {"note": None}
    assert undone(template, {"note": "x"}, None) == {"note": "x"}


def test_a_default_that_looks_like_a_reference_is_data():
    default = {"$from": "input.secret"}
    template = bound(model("In", data=(dict[str, str], default)), type(None), model("Undo", data=dict[str, str]))
    assert undone(template, {"secret": "x"}, None) == {"data": default}


def test_a_field_that_may_be_left_out_is_rather_taken_from_the_output():
    template = bound(model("In", cents=(int, 100)), model("Out", cents=int), model("Undo", cents=int))
    assert undone(template, {}, {"cents": 7}) == {"cents": 7}
    assert undone(template, {"cents": 5}, {"cents": 7}) == {"cents": 5}


def test_an_output_of_null_is_null():
    template = bound(model("In", note=(str | None, "n")), model("Out", note=str | None), model("Undo", note=str | None))
    assert undone(template, {}, {"note": None}) == {"note": None}


def test_the_same_where_the_author_wrote_the_reference():
    written = {"moved": {"$from": "input.cents"}}
    template = bound(model("In", cents=(int, 100)), type(None), model("Undo", moved=int), written)
    assert undone(template, {}, None) == {"moved": 100}


def test_a_default_that_only_the_agent_can_make_is_refused():
    says = refused(model("In", entry=(str, Field(default_factory=str))), type(None), model("Undo", entry=str))
    assert "takes 'entry', which the caller may leave out" in says
    assert "Make it required, give it a plain default, or add it to the output" in says


# What the author can write wrong


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"cent": 5}, "compensation_input has 'cent', which ledger.undo does not have. Did you mean 'cents'?"),
        ({"zzz": 5}, "compensation_input has 'zzz', which ledger.undo does not have. It has account, cents"),
        ({"cents": {"$from": "cents"}}, "refers to 'cents'. Write input.field or output.field"),
        ({"cents": {"$from": "step.cents"}}, "refers to 'step.cents'. Write input.field or output.field"),
        (
            {"cents": {"$from": "output.move"}},
            "'output.move', which the output does not have. Did you mean 'moved'",
        ),
        ({"cents": {"$first": [{"$from": "input.zzz"}, 1]}}, "refers to 'input.zzz', which the input does not have"),
        ({"cents": float("nan")}, "/compensation_input/cents: nan is no number"),
        ({"cents": {1, 2}}, "/compensation_input/cents: set is not plain data"),
    ],
)
def test_a_template_that_could_not_be_filled_is_refused(written: dict[str, Any], says: str):
    undo = model("Undo", account=str, cents=int)
    assert says in refused(model("In", account=str, cents=int), model("Out", moved=int), undo, written)


def test_a_compensation_takes_an_object():
    assert "takes string. Write a model with fields" in refused(model("In", a=str), type(None), str)
    assert "takes array" in refused(model("In", a=str), type(None), list[str])


def test_a_compensation_that_takes_anything_gets_what_was_written():
    assert bound(model("In", a=str), type(None), dict[str, Any]) == {}
    assert bound(model("In", a=str), type(None), dict[str, Any], {"b": 1}) == {"b": 1}


def test_a_model_that_keeps_what_it_does_not_know_gets_what_was_written():
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: str

    assert bound(model("In", a=str), type(None), Open, {"b": 1}) == {"b": 1, "a": {"$from": "input.a"}}


class Tree(BaseModel):
    """A recursive model: its schema is a reference into its own `$defs`."""

    name: str
    children: list["Tree"] = []


def test_recursive_models_are_bound_like_others():
    assert bound(Tree, type(None), model("Undo", name=str)) == {"name": {"$from": "input.name"}}
    assert "needs 'name'" in refused(model("In", other=str), type(None), Tree)


def test_an_alias_is_the_name_that_counts():
    class In(BaseModel):
        order_id: str = Field(alias="orderId")

    assert bound(In, type(None), model("Undo", orderId=str)) == {"orderId": {"$from": "input.orderId"}}


def test_a_name_that_no_reference_can_reach_is_not_bound():
    class In(BaseModel):
        odd: str = Field(alias="a.b")

    assert "needs 'a.b'" in refused(In, type(None), In)


def test_whole_values_and_literals_can_be_written():
    written = {"before": {"$from": "output"}, "what": {"$from": "input"}, "why": [1, {"a": None}]}
    undo = model("Undo", before=Any, what=Any, why=Any)
    assert bound(model("In", a=str), model("Out", b=str), undo, written) == written
