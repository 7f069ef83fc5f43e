"""Many tasks on a terminal: how far, who is busy, the last awards with their reasons, losses and recoveries, questions.

Pure: a tally of events in, something to print out. `closing` is the table at the end.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..report import AwardSeen, Report, Tally
from .text import duration, money, plain
from .view import bar

MAX_BUSY = 10
MAX_WAITING = 5


def board(tally: Tally, expected: int | None = None) -> RenderableType:
    """The picture of a run under way. `expected` is how many tasks will come, where that is known."""
    parts = [
        _progress(tally, expected),
        _busy(tally),
        _awards(tally.contests, "several agents wanted"),
        _awards(tally.awards, "last awards"),
        _happenings(tally),
        _questions(tally),
    ]
    return Group(*(part for part in parts if part is not None))


def closing(report: Report, more: Iterable[tuple[str, str]] = ()) -> RenderableType:
    """The table at the end of a run, one figure a row, and `more` rows below."""
    table = Table(title="What happened", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="dim")
    table.add_column(max_width=90, overflow="fold")
    for name, figure in (*figures(report), *more):
        alarm = name == _DOUBLED and figure != "0"
        table.add_row(name, Text(figure, style="bold red" if alarm else ""))
    return table


_DOUBLED = "effects run twice"


def figures(report: Report) -> Iterator[tuple[str, str]]:
    """Each row of the closing table: a name and a figure in words."""
    yield "tasks", _sum(report.tasks)
    yield "steps", _sum(report.steps)
    yield "bids", f"{report.bids}, of which {report.bids_declined} declined"
    yield "awards", f"{report.awards}, of which {report.contested} had more than one willing agent"
    yield "refused by policy", _sum(report.refusals)
    yield "approvals", _each(report.approvals) or "none"
    yield "retries", str(report.retries)
    yield "interruptions", str(report.interruptions)
    yield "recoveries", str(report.recoveries)
    yield "effects delivered once", str(report.effects - report.effects_doubled)
    yield _DOUBLED, str(report.effects_doubled)
    yield "answered from receipts", str(report.receipts)
    yield "step latency p50 / p95", _pair(report.step_p50_ms, report.step_p95_ms)
    yield "task latency p50 / p95", _pair(report.task_p50_ms, report.task_p95_ms)
    yield "cost", money(report.cost_cents) or "nothing"
    yield "time", f"{duration(report.seconds * 1000)}, {report.events} events"


def _progress(tally: Tally, expected: int | None) -> RenderableType:
    counts = Counter(tally.tasks.values())
    total = max(expected or 0, len(tally.tasks))
    ended = len(tally.tasks) - counts["open"]
    line = Text.assemble(("tasks ", "dim"), f"{ended}/{total}  ", (_each(counts), "dim"))
    return Group(line, bar(ended, total, 60))


def _busy(tally: Tally) -> RenderableType | None:
    working = Counter(tally.in_flight.values()).most_common(MAX_BUSY)
    words = "  ".join(f"{plain(agent)} {count}" for agent, count in working)
    return Text.assemble(("busy ", "dim"), words) if words else None


def _awards(awards: Iterable[AwardSeen], title: str) -> RenderableType | None:
    """Awards with their reasons, the last one first."""
    table = Table.grid(padding=(0, 2))
    for award in reversed(list(awards)):
        bids = f"of {award.bids}" if award.bids > 1 else ""
        table.add_row(
            Text(plain(award.step, 24)),
            Text(f"→ {plain(award.agent)}", style="cyan"),
            Text(bids, style="dim"),
            Text(plain(award.reason, 90), style="dim italic"),
        )
    return Group(Text(title, style="dim"), table) if table.row_count else None


def _happenings(tally: Tally) -> RenderableType | None:
    lines = [Text(f"! {plain(each)}", style="yellow") for each in tally.happenings]
    return Group(*lines) if lines else None


def _questions(tally: Tally) -> RenderableType | None:
    waiting = list(tally.waiting.items())
    lines = [
        Text(f"? {plain(asked.get('rule', ''))}   hanse approvals approve {name}", style="bold yellow")
        for name, asked in waiting[:MAX_WAITING]
    ]
    lines += [Text(f"? and {len(waiting) - MAX_WAITING} more", style="yellow")] if len(waiting) > MAX_WAITING else []
    return Group(*lines) if lines else None


def _sum(counts: Mapping[str, int]) -> str:
    """`74: 70 completed, 4 failed`."""
    return f"{sum(counts.values())}: {_each(counts)}" if len(counts) > 1 else _each(counts) or "none"


def _each(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {plain(name)}" for name, count in ordered if count)


def _pair(p50: float | None, p95: float | None) -> str:
    return f"{duration(p50)} / {duration(p95)}" if p50 is not None else "none"
