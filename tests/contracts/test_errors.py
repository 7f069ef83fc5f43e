"""The error tree is as drawn, every error has one code, and every error travels."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import (
    Fenced,
    HanseError,
    InvalidContract,
    InvalidInput,
    NotFound,
    Overloaded,
    Permanent,
    PolicyError,
    Refusal,
    Transient,
    Verdict,
    errors,
)
from hanse.contracts.plain import check, pack, unpack

from ..strategies import nested, not_plain, plain, scalars, texts


def family(cls: type[HanseError]) -> Iterator[type[HanseError]]:
    """The class and its descendants that ship with Hanse, in the order of the file."""
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


OURS = list(family(HanseError))


def test_the_tree_is_as_drawn():
    drawing = re.findall(r"^    ([│ ├└─]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawing] == [
        (len(cls.__mro__) - len(HanseError.__mro__), cls.__name__) for cls in OURS
    ]


def test_the_last_branch_of_the_drawing_ends_the_line():
    lines = [line for line in (errors.__doc__ or "").splitlines() if "──" in line]
    assert len(lines) == len(OURS) - 1
    assert lines[-1].strip().startswith("└")


@pytest.mark.parametrize("cls", OURS)
def test_every_error_has_a_code_of_its_own_a_verdict_a_status_and_a_sentence(cls: type[HanseError]):
    assert "code" in vars(cls)
    assert re.fullmatch(r"[a-z_]+", cls.code)
    assert isinstance(cls.verdict, Verdict)
    assert 400 <= cls.status < 600
    assert (cls.__doc__ or "").strip().endswith(".")


def test_no_two_errors_share_a_code():
    codes = [cls.code for cls in OURS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("branch", "verdict"),
    [
        ("Transient", "retry"),
        ("Permanent", "abort"),
        ("PolicyError", "abort"),
        ("BudgetExhausted", "abort"),
        ("ContractBreach", "reauction"),
        ("ModelUnavailable", "retry"),
        ("OutcomeUnknown", "reconcile"),
        ("StorageError", "stop"),
    ],
)
def test_the_branch_carries_the_verdict(branch: str, verdict: str):
    assert {str(cls.verdict) for cls in family(getattr(errors, branch))} == {verdict}


def test_the_docstring_is_the_default_detail():
    assert NotFound().detail == "There is no such thing, or it belongs to somebody else."
    assert str(NotFound("no such order", order="W1")) == "no such order (order=W1)"


def test_lists_and_objects_stay_out_of_the_text():
    assert str(InvalidInput("/a: wrong", pointer="/a", problems=[{"pointer": "/a"}])) == "/a: wrong (pointer=/a)"


def test_ids_can_be_added_and_do_not_overwrite():
    assert NotFound("x", task="t1").about(task="t2", step="s").ids == {"task": "t1", "step": "s"}


def test_an_overload_says_when_to_come_again():
    assert Overloaded(retry_after_seconds=2).retry_after_seconds == 2.0
    assert Overloaded().retry_after_seconds == 1.0


@pytest.mark.parametrize("cls", OURS)
def test_every_error_comes_back_as_what_it_was(cls: type[HanseError]):
    error = cls("because", task="t", number=5)
    back = HanseError.from_data(unpack(pack(error.to_data())))
    assert type(back) is cls
    assert (back.code, back.verdict, back.status, back.detail) == (cls.code, cls.verdict, cls.status, "because")
    assert back.ids == {"task": "t", "number": 5}
    assert back.to_data() == error.to_data()
    assert str(back) == str(error)


# Errors of one's own


class NotPending(Refusal):
    """The order is not pending any more."""

    code = "errors_test.not_pending"


def from_elsewhere(code: str, **data: Any) -> HanseError:
    """An error of a class that this process does not know."""
    return HanseError.from_data({"code": code, "detail": "no", "ids": {"order": "W1"}, **data})


def test_a_refusal_of_ones_own_is_known_where_its_class_is():
    error = HanseError.from_data(NotPending(order="W1").to_data())
    assert type(error) is NotPending
    assert error.detail == "The order is not pending any more."


def test_a_refusal_that_is_not_known_here_stays_a_refusal_with_its_code():
    data = NotPending(order="W1").to_data()
    error = from_elsewhere("orders.not_known_here", **{name: data[name] for name in ("branch", "base")})
    assert type(error) is Refusal
    assert (error.code, error.verdict, error.status) == ("orders.not_known_here", Verdict.ABORT, 422)
    assert error.to_data()["code"] == "orders.not_known_here"
    assert HanseError.from_data(error.to_data()).to_data() == error.to_data()
    assert Refusal.code == "refused"


def test_the_code_of_one_instance_is_not_the_code_of_the_next():
    from_elsewhere("orders.first", base="refused", branch="policy")
    assert Refusal("again").code == "refused"


def test_an_error_of_an_older_writer_has_a_branch_only():
    error = from_elsewhere("orders.something", branch="policy")
    assert type(error) is PolicyError
    assert error.code == "orders.something"


def test_an_error_of_nowhere_is_still_an_error():
    error = from_elsewhere("somewhere.something")
    assert type(error) is HanseError
    assert error.verdict is Verdict.ABORT


def test_a_verdict_and_a_status_of_ones_own_travel():
    class Busy(Refusal):
        """Come again."""

        code = "desk.busy"
        verdict = Verdict.RETRY
        status = 429

    data = Busy().to_data()
    assert (data["base"], data["verdict"], data["status"]) == ("refused", "retry", 429)
    error = HanseError.from_data({**data, "code": "desk.busy_elsewhere"})
    assert (type(error), error.verdict, error.status) == (Refusal, Verdict.RETRY, 429)
    assert Refusal.verdict is Verdict.ABORT
    assert HanseError.from_data(error.to_data()).verdict is Verdict.RETRY


def test_an_error_directly_below_the_root_keeps_its_verdict():
    class Odd(HanseError):
        """Odd."""

        code = "odd.one"
        verdict = Verdict.RECONCILE

    error = HanseError.from_data({**Odd().to_data(), "code": "odd.elsewhere", "branch": "odd.elsewhere"})
    assert (type(error), error.code, error.verdict) == (HanseError, "odd.elsewhere", Verdict.RECONCILE)


def test_the_branch_is_that_of_the_tree_however_deep_the_leaf():
    class Deeper(NotPending):
        """Deeper."""

        code = "orders.deeper"

    assert Deeper().to_data() | {"ids": {}} == {
        "code": "orders.deeper",
        "branch": "policy",
        "base": "refused",
        "detail": "Deeper.",
        "ids": {},
    }
    assert Fenced().to_data()["branch"] == "storage"
    assert HanseError("x").to_data()["branch"] == "error"


def test_an_error_without_a_code_travels_as_its_parent():
    class Nameless(Refusal):
        """Has no code."""

    assert Nameless().code == "refused"
    assert type(HanseError.from_data(Nameless().to_data())) is Refusal


def test_two_errors_cannot_have_one_code():
    class First(Refusal):
        """First."""

        code = "orders.twice"

    with pytest.raises(InvalidContract, match=r"'orders.twice' of .*Second is taken by .*First. Write one of its own"):

        class Second(Refusal):
            """Second."""

            code = "orders.twice"

    assert type(HanseError.from_data({"code": "orders.twice", "detail": "x"})) is First


def test_nobody_can_take_the_code_of_an_error_that_ships_with_hanse():
    with pytest.raises(InvalidContract, match=r"taken by hanse\.contracts.errors.NotFound"):
        type("NotFound", (Permanent,), {"code": "not_found"})
    assert type(HanseError.from_data(NotFound().to_data())) is NotFound


@pytest.mark.parametrize("module", [__name__, "__main__"])
def test_a_module_may_be_loaded_twice(module: str):
    """As `__main__` and under its name, or reloaded: the same class again is no other class."""
    names = {"code": NotPending.code, "__qualname__": NotPending.__qualname__, "__module__": module}
    again = type("NotPending", (Refusal,), names)
    assert type(HanseError.from_data({"code": NotPending.code, "detail": "x"})) is again
    errors._by_code[NotPending.code] = NotPending


@pytest.mark.parametrize(("cls", "module"), [(NotPending, "elsewhere"), (NotFound, "__main__")])
def test_a_class_of_the_same_name_elsewhere_is_another_class(cls: type[HanseError], module: str):
    names = {"code": cls.code, "__qualname__": cls.__qualname__, "__module__": module}
    with pytest.raises(InvalidContract, match="is taken by"):
        type(cls.__name__, (Refusal,), names)


def test_an_error_with_arguments_of_its_own_comes_back():
    class Short(Refusal):
        """Not enough money."""

        code = "payments.short"

        def __init__(self, missing: int) -> None:
            super().__init__(f"{missing} cents are missing", missing=missing)

    error = HanseError.from_data(Short(5).to_data())
    assert type(error) is Short
    assert (error.detail, error.ids) == ("5 cents are missing", {"missing": 5})


# An error must not fail to travel


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


odd = st.one_of(
    not_plain,
    st.builds(Broken),
    st.integers(50, 3_000).map(nested),
    st.dictionaries(st.integers() | st.tuples(st.integers()), plain, min_size=1),
    st.sampled_from([10**5000, 2**63, Verdict.STOP, float("-inf"), "x" * 20_000, b"\xff", NotFound(), frozenset({1})]),
)


@given(st.dictionaries(texts, odd | plain, max_size=4), st.text(st.characters(), max_size=20))
def test_whatever_an_error_is_about_it_travels(ids: dict[str, Any], detail: str):
    error = Refusal(detail).about(**ids)
    data = error.to_data()
    check(data)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    back = HanseError.from_data(unpack(pack(data)))
    assert back.to_data() == data


def test_odd_ids_become_text():
    loop: list[Any] = []
    loop.append(loop)
    ids = Refusal("x", big=2**64, nan=float("nan"), raw=b"\xff", half="\ud800", loop=loop, odd=Broken()).to_data()[
        "ids"
    ]
    assert ids["big"] == "0x10000000000000000"
    assert ids["nan"] == "nan"
    assert ids["raw"] == "b'\\xff'"
    assert ids["half"] == "\\ud800"
    assert ids["odd"] == "<Broken>"


def test_a_long_text_is_cut():
    data = Refusal("d" * 50_000, much="x" * 50_000).to_data()
    assert len(data["detail"]) == len(data["ids"]["much"]) == errors.MAX_TEXT
    assert data["detail"].endswith("d…")


def test_ids_may_be_called_anything():
    ids = {"detail": 1, "self": 2, "code": 3, "": 4, "a b": 5}
    assert HanseError.from_data({"code": "not_found", "detail": "x", "ids": ids}).ids == ids


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: scalars | st.sampled_from(["not_found", "policy", "retry"]) | plain
            for name in ("code", "branch", "base", "detail", "ids", "verdict", "status")
        },
    )
)
def test_data_of_any_shape_is_some_error(data: dict[str, Any]):
    error = HanseError.from_data(data)
    assert isinstance(error.verdict, Verdict)
    assert isinstance(error.status, int)
    check(error.to_data())


def test_errors_of_the_branches_are_told_apart_by_type():
    with pytest.raises(Transient):
        raise HanseError.from_data(Overloaded().to_data())


def test_a_module_that_is_loaded_by_two_paths_keeps_its_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "outer_of_two").mkdir()
    text = "from hanse.contracts import Refusal\nclass Twice(Refusal):\n    code = 'two_paths.twice'\n"
    (tmp_path / "outer_of_two" / "inner_of_two.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "outer_of_two")
    one, other = import_module("inner_of_two"), import_module("outer_of_two.inner_of_two")
    assert one.Twice is not other.Twice
    assert HanseError.from_data(one.Twice("no").to_data()).code == "two_paths.twice"
