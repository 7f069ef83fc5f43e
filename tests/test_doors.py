"""Every folder's `__init__.py` is its contents page: what the folder knows and what it does not, and what it offers."""

import ast
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from .support.tree import ROOT, package_name, packages

FEW = 4
"""From this many names on, a door has headings."""

doors = pytest.mark.parametrize("folder", [pytest.param(folder, id=package_name(folder)) for folder in packages()])


@doors
def test_a_folder_has_a_door(folder: Path):
    assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)}/ holds modules and has no __init__.py"


@doors
def test_a_door_says_in_two_sentences_what_is_behind_it(folder: Path):
    text = ast.get_docstring(_door(folder)) or ""
    assert len(re.findall(r"[.!?](?=\s|$)", text)) >= 2, (
        f"{folder.relative_to(ROOT)}/__init__.py: say in at least two sentences what this folder knows and what it "
        f"does not. It says: {text!r}"
    )


@doors
def test_a_door_names_exactly_what_it_exports(folder: Path):
    named, exported = _named(folder), _exported(folder)
    assert len(named) == len(set(named)), f"named twice: {[name for name in named if named.count(name) > 1]}"
    assert set(named) == exported, (
        f"{folder.relative_to(ROOT)}/__init__.py: __all__ and what the file imports or defines differ. "
        f"Only in __all__: {sorted(set(named) - exported)}. Not in __all__: {sorted(exported - set(named))}."
    )


@doors
def test_what_a_door_names_is_there(folder: Path):
    module = import_module(package_name(folder))
    missing = [name for name in _named(folder) if not hasattr(module, name)]
    assert not missing, f"{package_name(folder)} names what it does not have: {missing}"


@doors
def test_a_door_with_many_names_groups_them(folder: Path):
    assignment = _all(folder)
    lines = (folder / "__init__.py").read_text().splitlines()[assignment.lineno - 1 : assignment.end_lineno]
    headings = [line for line in lines if _is_heading(line)]
    assert headings or len(_named(folder)) < FEW, (
        f"{folder.relative_to(ROOT)}/__init__.py: group the names in __all__ under headings (`# Write an agent`)"
    )
    assert not any(_is_heading(one) and _is_heading(other) for one, other in pairwise(lines)), "a heading over nothing"


def test_the_root_refuses_an_unknown_name_with_what_it_has():
    with pytest.raises(AttributeError, match="it offers Agent, Context"):
        _ = import_module("hanse").Agnet


def test_the_root_lists_its_names():
    hanse = import_module("hanse")
    assert set(hanse.__all__) <= set(dir(hanse))


def _door(folder: Path) -> ast.Module:
    return ast.parse((folder / "__init__.py").read_text())


def _all(folder: Path) -> ast.Assign | ast.AnnAssign:
    """The statement `__all__ = [...]`, with or without a type."""
    for node in _door(folder).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in map(ast.unparse, _targets(node)):
            return node
    raise AssertionError(f"{folder.relative_to(ROOT)}/__init__.py has no __all__: its contents page")


def _named(folder: Path) -> list[str]:
    value = _all(folder).value
    assert value is not None
    return ast.literal_eval(value)


def _exported(folder: Path) -> set[str]:
    """The public names that the file imports from its own package or defines itself."""
    found: set[str] = set()
    for node in _statements(_door(folder).body):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {ast.unparse(target) for target in _targets(node)}
    return {name for name in found if not name.startswith("_")}


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """The file's statements, with those under `if TYPE_CHECKING:`: the root's door imports at first use."""
    return [inner for node in body for inner in (_statements(node.body) if isinstance(node, ast.If) else [node])]


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _is_heading(line: str) -> bool:
    return bool(re.match(r"\s*# \S", line))
