"""Where words and data go. With `--json`, standard output carries JSON alone, and what is for people goes to standard
error; without it, results are drawn on standard output and only remarks go to standard error."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ...contracts import HanseError
from . import exits
from .text import SPELLED, json_text, plain, writable

WIDE = 200
"""Columns where there is no terminal to ask: pipes and files."""
NARROW = 8
"""Characters that a column of a table needs in the mean, with the space behind it, to be read with ease."""


class Output:
    """The two streams of one command."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.console = _console(sys.stdout)
        self.remarks = _console(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether a picture can be drawn over itself."""
        return self.console.is_terminal and not self.json

    def show(self, data: Any, draw: Callable[[], RenderableType | str]) -> None:
        """A result: as data for programs, or drawn for people."""
        if self.json:
            self.emit(data)
        else:
            self.draw(draw())

    def emit(self, data: Any) -> None:
        """One JSON document in one line; over several, indented, where a person looks."""
        print(writable(json_text(data, pretty=sys.stdout.isatty()), sys.stdout.encoding), flush=True)

    def draw(self, what: RenderableType | str) -> None:
        """Something drawn; a text stays one line however long it is, so that programs can read it by lines."""
        if isinstance(what, str):
            self.console.print(Text(what), soft_wrap=True)
        else:
            self.console.print(what)

    async def ask(self, question: str) -> str:
        """What the person types, stripped, in lower case. Other work goes on meanwhile, and Ctrl-C ends it.

        Not a thread that reads: a thread cannot be interrupted, and would keep the program from ending.
        """
        self.console.print(Text(question, style="bold"), end=" ")
        loop, typed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sys.stdin, typed.set)
        try:
            await typed.wait()
        finally:
            loop.remove_reader(sys.stdin)
        return sys.stdin.readline().strip().lower()

    def remark(self, text: str, style: str = "") -> None:
        """Something for people only."""
        self.remarks.print(Text(text, style=style), soft_wrap=True)

    def error(self, error: HanseError) -> None:
        """One line for people; with `--json`, the problem for programs as well."""
        self.remark(f"hanse: {exits.line(error)}", "red")
        for text in exits.more(error):
            self.remark(f"       {text}", "red")
        if self.json:
            self.emit({"error": {**error.to_data(), "exit": int(exits.exit_of(error))}})


def table(*names: str, rows: Sequence[Sequence[RenderableType | str]], empty: str) -> RenderableType:
    """A table, or the sentence that says why there is none."""
    if not rows:
        return Text(empty, style="dim")
    return _Table(names, [[Text(plain(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows])


@dataclass(frozen=True)
class _Table:
    """Its first column is never broken, because the next command wants an id whole. Where that leaves the others no
    room, each row stands below itself, a line for a cell."""

    names: Sequence[str]
    rows: Sequence[Sequence[RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first = max(Measurement.get(console, options, row[0]).maximum for row in self.rows)
        if first + NARROW * (len(self.names) - 1) > options.max_width:
            yield from (self._lines(row) for row in self.rows)
        else:
            yield self._drawn()

    def _drawn(self) -> RenderableType:
        drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
        for number, name in enumerate(self.names):
            drawn.add_column(name, overflow="fold", no_wrap=number == 0)
        for row in self.rows:
            drawn.add_row(*row)
        return drawn

    def _lines(self, row: Sequence[RenderableType]) -> RenderableType:
        lines = Table.grid(padding=(0, 2, 0, 2))
        for name, cell in zip(self.names[1:], row[1:], strict=True):
            lines.add_row(Text(name, style="dim"), cell)
        return Group(row[0], lines)


def _console(stream: Any) -> Console:
    """What the stream has no letters for is spelled otherwise, and breaks nothing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=SPELLED)
    terminal = stream.isatty()
    return Console(file=stream, width=None if terminal else WIDE, highlight=False, markup=False, emoji=False)
