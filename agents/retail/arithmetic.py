"""The service desk's calculator: numbers, + - * / and parentheses, and nothing else that Python could do."""

import ast
import math
import operator
from collections.abc import Callable

from .refusals import InvalidExpression

MAX_LENGTH = 500
_ALPHABET = frozenset("0123456789+-*/(). ")
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """The value rounded to cents, as text. Raises InvalidExpression."""
    if not set(expression) <= _ALPHABET or len(expression) > MAX_LENGTH:
        raise InvalidExpression("Invalid characters in expression")
    try:
        return str(_finite(round(_value(ast.parse(expression.strip(), mode="eval").body), 2)))
    except (SyntaxError, ArithmeticError, RecursionError, MemoryError) as error:
        raise InvalidExpression(f"Invalid expression: {error}") from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise OverflowError("the result is too large")
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left, op, right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op, operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case _:
            raise InvalidExpression
