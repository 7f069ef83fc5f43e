"""Reads a `.sql` file: a schema, then named statements, each with a sentence that says what it does."""

import re
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path

_WITH = re.compile(r"^-- with: (\w+)$", re.MULTILINE)
_SECTION = re.compile(r"^-- (schema|write|query)(?:: (\w+))?[^\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statements:
    """One store's SQL."""

    schema: str
    writes: dict[str, str]
    """In file order, which is the order in which a commit runs them; those of another file come behind."""
    queries: dict[str, str]


@cache
def load_statements(name: str) -> Statements:
    """The statements of `name.sql` beside this file, and behind them those of the files that it is `-- with`."""
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return reduce(_and, map(load_statements, _WITH.findall(text)), _parsed(text))


def _parsed(text: str) -> Statements:
    marks = list(_SECTION.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    bodies = [(mark[1], mark[2], text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True)]
    return Statements(
        schema="\n".join(body for kind, _, body in bodies if kind == "schema"),
        writes={name: body for kind, name, body in bodies if kind == "write"},
        queries={name: body for kind, name, body in bodies if kind == "query"},
    )


def _and(first: Statements, second: Statements) -> Statements:
    schema = f"{first.schema}\n{second.schema}"
    return Statements(schema, first.writes | second.writes, first.queries | second.queries)
