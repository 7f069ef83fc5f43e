"""`hanse stats`: how well work went, and what it cost."""

import re
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ...contracts import InvalidInput
from ...contracts.outcomes import Moment, Outcome, OutcomesView, Spread
from .command import Session, command
from .output import table
from .text import duration, money, plain

app = typer.Typer()

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BAR = 10
_LEVELS = " ▁▂▃▄▅▆▇█"


class By(StrEnum):
    CAPABILITY = "capability"
    AGENT = "agent"
    TENANT = "tenant"


@command(app)
async def stats(
    session: Session,
    since: Annotated[str, typer.Option(help="Look back so far: 90s, 30m, 24h, 7d, 4w.")] = "24h",
    by: Annotated[By, typer.Option(help="One line for each of these.")] = By.CAPABILITY,
) -> None:
    """Show how well work went: success, cost, people's part, repair, retries, refusals, latency."""
    seconds = seconds_of(since)
    async with session.client() as client:
        view = await client.stats(since_seconds=seconds, by=str(by))
    session.out.show(view, lambda: drawn(view, since))


def seconds_of(text: str) -> float:
    """Of a number and a unit. Raises InvalidInput."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw])", text.strip())
    if found is None or not float(found[1]):
        raise InvalidInput(f"{text!r:.40} is no length of time. Write one such as 90s, 30m, 24h, 7d or 4w")
    return float(found[1]) * _UNITS[found[2]]


def drawn(view: OutcomesView, since: str) -> RenderableType:
    """The whole first, then a table of parts."""
    names = (view.by, "tasks", "success", "", "¢ per success", "person", "override", "retries", "undone")
    rows = [_row(row) for row in view.rows]
    return Group(
        _headline(view, since),
        *_lines(view.total),
        Text(),
        table(*names, "p50", "p95", "refused", rows=rows, empty="Nothing ended in this time."),
    )


def bar(share: float | None) -> Text:
    """A share of ten squares; dots for what is missing. Never full unless all of it is there."""
    if share is None:
        return Text()
    full = _BAR if share >= 1 else min(_BAR - 1, round(share * _BAR))
    style = "green" if share >= 0.95 else "yellow" if share >= 0.8 else "red"
    return Text.assemble(("■" * full, style), ("·" * (_BAR - full), "dim"))


def spark(trend: list[Moment]) -> str:
    """Tasks that ended in each part, the busiest one at full height; any at all can be seen."""
    most = max((moment.tasks for moment in trend), default=0)
    return "".join(_LEVELS[-(-moment.tasks * (len(_LEVELS) - 1) // most) if most else 0] for moment in trend)


def _headline(view: OutcomesView, since: str) -> Text:
    total = view.total
    return Text.assemble(
        (f"last {since}", "bold"),
        ("" if view.complete else "  (the journals are still being read)", "yellow"),
        f"  {total.tasks} tasks: {total.completed} completed, {total.failed} failed, {total.canceled} canceled  ",
        (spark(view.trend), "cyan"),
    )


def _lines(total: Outcome) -> list[Text]:
    cost = f"{_money(total.cost_cents)} in all, {_money(total.cents_per_success)} per success"
    people = f"in {_share(total.intervention_rate)} of tasks, {total.decided} decisions{_deciding(total.deciding)}"
    repair = f"{total.recovering.count} steps{_spread(total.recovering)}"
    models = f"{_share(total.model_cost_share)} of the cost, {total.model_calls} calls"
    return [
        _line("success", _share(total.success_rate), "  ", bar(total.success_rate)),
        _line("cost", cost),
        _line("people", people, f", {_share(total.override_rate)} overridden" if total.decided else ""),
        _line("repaired", repair),
        _line("calls", f"{total.calling.count}{_spread(total.calling, with_p99=True)}"),
        _line("models", models),
        _line("refused", ", ".join(f"{count} {code}" for code, count in sorted(total.refusals.items())) or "none"),
    ]


def _line(name: str, *parts: str | Text) -> Text:
    return Text.assemble((f"{name:<10}", "dim"), *parts)


def _row(row: Outcome) -> list[RenderableType | str]:
    return [
        plain(row.name),
        str(row.tasks),
        _share(row.success_rate),
        bar(row.success_rate),
        _money(row.cents_per_success),
        _share(row.intervention_rate),
        _share(row.override_rate),
        _number(row.retries_per_step),
        _share(row.compensation_rate),
        _seconds(row.calling.p50),
        _seconds(row.calling.p95),
        str(sum(row.refusals.values()) or ""),
    ]


def _deciding(spread: Spread) -> str:
    return _spread(spread).replace(": ", " after ", 1)


def _spread(spread: Spread, *, with_p99: bool = False) -> str:
    if not spread.count:
        return ""
    last = f", p99 {_seconds(spread.p99)}" if with_p99 else ""
    return f": p50 {_seconds(spread.p50)}, p95 {_seconds(spread.p95)}{last}"


def _share(share: float | None) -> str:
    """Per cent without decimals that say nothing; 100% and 0% only when it is so."""
    if share is None:
        return "-"
    if 0 < share < 1:
        return f"{min(99.9, max(0.1, share * 100)):.3g}%"
    return f"{share:.0%}"


def _money(cents: float | None) -> str:
    return "-" if cents is None else money(round(cents, 2)) or "0¢"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds * 1000)
