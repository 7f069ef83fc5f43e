"""`hanse new`: a small project that works as it is."""

import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from ...contracts import InvalidInput
from .command import Session, command

app = typer.Typer()

FILES = {
    "hanse.yaml": "hanse.yaml.txt",
    "agents.py": "agents.py.txt",
    "test_agents.py": "test_agents.py.txt",
    "transfer.json": "transfer.json.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}
"""File of the project to its template in `project/`."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")


@command(app)
def new(
    session: Session,
    name: Annotated[str, typer.Argument(help="Of the federation, and of its folder unless --folder is given.")],
    folder: Annotated[Path | None, typer.Option(help="Where to write. Made when it is not there.")] = None,
) -> None:
    """Write a small project that runs: hanse.yaml, an agent, its test, a plan, a README."""
    if not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} is no name. Write letters, digits, - and _, a letter first, at most 63", name=name
        )
    target = folder or Path(name)
    written = write(target, name)
    session.out.show({"folder": str(target), "files": written}, lambda: _next(target, written))


def write(target: Path, name: str) -> list[str]:
    """Writes the project. Raises InvalidInput, with nothing written, when one of its files is there already."""
    if taken := [file for file in FILES if (target / file).exists()]:
        raise InvalidInput(f"{target / taken[0]} is there already. Choose another --folder", folder=str(target))
    target.mkdir(parents=True, exist_ok=True)
    for file, template in FILES.items():
        (target / file).write_text(rendered(template, name), encoding="utf-8")
    return list(FILES)


def rendered(template: str, name: str) -> str:
    """A template of `project/` for a federation of this name."""
    text = (files("hanse.runtime.cli") / "project" / template).read_text(encoding="utf-8")
    return Template(text).substitute(name=name, title=name.replace("-", " ").replace("_", " ").capitalize())


def _next(target: Path, written: list[str]) -> str:
    return f"{target}: {', '.join(written)}\nNow: cd {target} && hanse contracts check && hanse up"
