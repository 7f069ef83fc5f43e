"""Numbers that decide something are said, with what they mean and where they come from, where they stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hanse.memory

MODULES = sorted(Path(hanse.memory.__file__).parent.glob("*.py"))


def is_number(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Tuple):
        return bool(value.elts) and all(map(is_number, value.elts))
    if isinstance(value, ast.BinOp):
        return is_number(value.left) and is_number(value.right)
    return isinstance(value, ast.Constant) and type(value.value) in (int, float)


def undocumented(body: list[ast.stmt]) -> Iterator[str]:
    """Names of numbers that no text follows; several in a row may share one that names what each is."""
    for place, statement in enumerate(body):
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not is_number(statement.value):
            continue
        after = next((each for each in body[place + 1 :] if not _is_numbers(each)), None)
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            yield ast.unparse(statement).split("=")[0].strip()


def _is_numbers(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign | ast.AnnAssign) and is_number(statement.value)


@pytest.mark.parametrize("module", MODULES, ids=lambda each: each.stem)
def test_every_number_of_a_module_is_explained(module: Path):
    assert list(undocumented(ast.parse(module.read_text(encoding="utf-8")).body)) == []
