"""The service desk's calculator."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.agents.retail.arithmetic import MAX_LENGTH, calculate
from hanse.agents.retail.refusals import InvalidExpression


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3131.1 + 4777.75 + 367.38", "8276.23"),
        ("155.33 - 147.05 + 268.77 - 235.13", "41.92"),
        ("(1 + 2) * -3", "-9.0"),
        (" 10 / 4", "2.5"),
        ("2", "2.0"),
    ],
)
def test_it_reckons_and_rounds_to_cents(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression", ["", "1 +", "1 / 0", "2 ** 99999999", "7 // 2", "()", "(1, 2)", "1(2)", "9" * 400, "(" * 300, "1\n+1"]
)
def test_what_it_cannot_reckon_it_refuses(expression: str) -> None:
    with pytest.raises(InvalidExpression):
        calculate(expression)


@pytest.mark.parametrize("expression", ["__import__('os')", "1e9", "a", "1" * (MAX_LENGTH + 1)])
def test_it_knows_no_letters_and_no_end(expression: str) -> None:
    with pytest.raises(InvalidExpression, match="Invalid characters"):
        calculate(expression)


@given(st.text("0123456789+-*/(). ", max_size=60))
def test_it_answers_or_refuses_and_nothing_else(expression: str) -> None:
    with suppress(InvalidExpression):
        float(calculate(expression))
