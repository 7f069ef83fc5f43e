"""The package as source: its folders, its modules, and who imports whom, read from the syntax and not by running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("contracts", "agents", "models", "memory", "runtime", "benchmarks")
"""The top-level folders that are part of the package. `tests` is not."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as one import statement names it."""

    importer: str
    imported: str
    """Absolute: `hanse.contracts.ids` also where the file says `from ..contracts import ids`."""
    line: int
    inside_function: bool
    for_types_only: bool
    """Under `if TYPE_CHECKING:`; never happens at run time."""
    relative: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its full name. A folder's name stands for its `__init__.py`."""
    files = [ROOT / "__init__.py", *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))]
    return {_name(file): file for file in files if file.exists() and not _generated(file)}


def packages() -> list[Path]:
    """Every folder that holds modules, the root first."""
    return sorted({file.parent for file in modules().values()})


def data_files() -> list[Path]:
    """Everything in the package's folders that is not Python source, and the root's py.typed."""
    found = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*")) if file.is_file()]
    return [ROOT / "py.typed", *(file for file in found if file.suffix != ".py" and not _generated(file))]


def package_name(folder: Path) -> str:
    return ".".join(("hanse", *folder.relative_to(ROOT).parts))


def imports(name: str) -> Iterator[Import]:
    """Every import of a module, wherever in the file it stands."""
    yield from _walk(ast.parse(modules()[name].read_text()), name, False, False)


def _walk(node: ast.AST, name: str, inside: bool, types_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            relative = isinstance(child, ast.ImportFrom) and child.level > 0
            for target in _targets(child, name):
                yield Import(name, target, child.lineno, inside, types_only, relative)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(ast.Module(child.body, []), name, inside, True)
            yield from _walk(ast.Module(child.orelse, []), name, inside, types_only)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, name, inside or function, types_only)


def _targets(statement: ast.Import | ast.ImportFrom, importer: str) -> set[str]:
    """The modules that a statement names: `from .x import y` is about `x.y` where that is a module, else about `x`."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    source = _absolute(statement, importer)
    return {_module(source, alias.name) for alias in statement.names}


def _module(source: str, name: str) -> str:
    return f"{source}.{name}" if f"{source}.{name}" in modules() else source


def _absolute(statement: ast.ImportFrom, importer: str) -> str:
    if not statement.level:
        return statement.module or ""
    home = importer.split(".")
    up = statement.level - (modules()[importer].name == "__init__.py")
    return ".".join([*home[: len(home) - up], *filter(None, [statement.module])])


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(("hanse", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _generated(file: Path) -> bool:
    return any(part == "__pycache__" or part.startswith(".") or part == "var" for part in file.relative_to(ROOT).parts)
