"""`hanse tasks replay`, `fork` and `diff`: a task read again, taken another way, and held beside another one."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ...contracts import Fork, InvalidInput, JsonObject, ReplayReport, TaskView, Unavailable
from ..comparison import Comparison, Difference, StepPair, compare, told
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .submission import input_of, read_plan_file
from .tasks import TaskArgument, app
from .text import duration, inline, money, plain
from .view import status_text

MAX_SHOWN = 60
"""Characters of a value in a table."""


@command(app)
async def replay(
    session: Session,
    task: Annotated[
        str | None, typer.Argument(help="Id of the task; every task when left out.", metavar="TASK")
    ] = None,
) -> None:
    """Read the journal of a task again and decide again whatever was decided. Calls no agent and no model.

    A running federation is asked to do it. Where none runs, the files in the data folder are read, and nothing is
    written. Ends with 1 when an event is not what it had to be.
    """
    try:
        reports = await _asked(session, task)
    except Unavailable as error:
        if session.options.url:
            raise
        reports = _read(session, error, task)
    diverging = [report for report in reports if not report.ok]
    data = reports[0] if task else _summary(reports, diverging)
    session.out.show(data, lambda: _replayed(reports, diverging, one=task is not None))
    if diverging:
        raise Ended(Exit.FAILED)


@command(app)
async def fork(
    session: Session,
    task: TaskArgument,
    step: Annotated[str, typer.Option("--from", help="Step from which on everything is done anew.")],
    input: Annotated[str | None, typer.Option(help="Another input of the task: JSON, or @file.")] = None,
    plan: Annotated[str | None, typer.Option(help="A file with another plan.")] = None,
    version: Annotated[
        list[str] | None, typer.Option(help="CAPABILITY=VERSION for what is done anew. Repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The tier that answers what it asks of models.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key gives the same task.")] = None,
) -> None:
    """Start a new task from a prefix of this one. What was done before the step is not done again, nor undone."""
    given: dict[str, Any] = {"step": step, "versions": dict(map(_versioned, version or ()))}
    given |= {"input": input_of([input])} if input is not None else {}
    given |= {"plan": read_plan_file(plan)["plan"]} if plan is not None else {}
    given |= {"model": model} if model is not None else {}
    given |= {"idempotency_key": key} if key is not None else {}
    async with session.client() as client:
        view = await client.fork(task, Fork(**given))
    session.out.show(view, lambda: _forked(view))


@command(app)
async def diff(
    session: Session,
    first: Annotated[str, typer.Argument(help="Id of a task.", metavar="TASK")],
    second: Annotated[str, typer.Argument(help="Id of another one.", metavar="OTHER")],
) -> None:
    """Hold two tasks beside one another: plan, input, and of each step agent, award, output, cost, time, decisions."""
    async with session.client() as client:
        comparison = compare(await told(client, first), await told(client, second))
    session.out.show(comparison.to_data(), lambda: _compared(comparison))


# Replaying


async def _asked(session: Session, task: str | None) -> list[ReplayReport]:
    async with session.client() as client:
        if task is not None:
            return [await client.replay(task)]
        reports, page = list[ReplayReport](), await client.tasks(limit=1000)
        while page:
            reports += [await client.replay(view.id) for view in page]
            page = await client.tasks(limit=1000, before=page[-1].id)
        return reports


def _read(session: Session, absent: Unavailable, task: str | None) -> list[ReplayReport]:
    """`absent` is why no federation was asked."""
    from ..folder import all_replayed, replayed
    from .journals import found

    data = found(session, absent)
    if task is not None:
        return [replayed(data, task).report()]
    return [each.report() for each in all_replayed(data)]


def _summary(reports: Sequence[ReplayReport], diverging: Sequence[ReplayReport]) -> JsonObject:
    return {
        "ok": not diverging,
        "tasks": len(reports),
        "events": sum(report.events for report in reports),
        "decided": sum(report.decided for report in reports),
        "diverging": [report.model_dump() for report in diverging],
    }


def _replayed(reports: Sequence[ReplayReport], diverging: Sequence[ReplayReport], *, one: bool) -> RenderableType:
    if one:
        return _verdict(reports[0])
    events, decided = sum(each.events for each in reports), sum(each.decided for each in reports)
    last = f"{len(reports)} tasks, {events} events, {decided} decided again: {len(diverging)} diverge"
    return Group(*map(_verdict, diverging), Text(last, style="red" if diverging else "green"))


def _verdict(report: ReplayReport) -> Text:
    begin = f"task {report.task}: {report.events} events, {report.decided} decided again"
    if (at := report.divergence) is None:
        return Text(f"{begin}, all the same; {report.status}, state {report.state[:16]}", style="green")
    about = " ".join(filter(None, [at.kind, at.step]))
    return Text(
        f"{begin}, then event {at.sequence} {plain(about)} diverges in {plain(at.what)}: "
        f"expected {inline(at.expected, 200)}, found {inline(at.found, 200)}",
        style="red",
    )


# Forking


def _versioned(word: str) -> tuple[str, str]:
    capability, equals, version = word.partition("=")
    if not (capability and equals and version):
        raise InvalidInput(f"{word!r:.80} is not CAPABILITY=VERSION. Write it as in orders.refund=1.2")
    return capability, version


def _forked(view: TaskView) -> Text:
    kept = ", ".join(view.forked_from.inherited) if view.forked_from and view.forked_from.inherited else "nothing"
    return Text.assemble(f"task {view.id} is ", status_text(view.status), f"; carried over: {plain(kept, 400)}")


# Comparing


def _compared(comparison: Comparison) -> RenderableType:
    parts: list[RenderableType] = []
    for name in ("input", "plan", "ends"):
        if changed := getattr(comparison, name):
            title = "end" if name == "ends" else name
            parts.append(table(title, "first", "second", rows=[_difference(each) for each in changed], empty=""))
    names = ("", "step", "agent", "price", "time", "output", "award, decisions")
    parts.append(table(*names, rows=[_pair(each) for each in comparison.steps], empty="They have no steps."))
    verdict = "they are the same" if comparison.same else "they differ"
    return Group(*parts, Text(f"first {comparison.first.id}, second {comparison.second.id}: {verdict}"))


def _difference(each: Difference) -> list[str]:
    return [plain(each.at or "/"), inline(each.first, MAX_SHOWN), inline(each.second, MAX_SHOWN)]


def _pair(pair: StepPair) -> list[Any]:
    mark = Text("≠", "yellow") if pair.differs else Text("=", "dim")
    why = [*_both(pair, "award", plain), *_both(pair, "decisions", lambda said: ", ".join(said))]
    return [
        mark,
        pair.step,
        " → ".join(_both(pair, "agent", plain)),
        " → ".join(_both(pair, "price_cents", money)),
        f"{duration(pair.first.get('latency_ms'))} → {duration(pair.second.get('latency_ms'))}",
        " → ".join(_both(pair, "output", lambda value: inline(value, MAX_SHOWN))),
        plain("; ".join(filter(None, why)), 2 * MAX_SHOWN),
    ]


def _both(pair: StepPair, name: str, words: Any) -> Iterator[str]:
    """One text where both are the same, else two."""
    first, second = pair.first.get(name), pair.second.get(name)
    yield words(first) if first is not None else "–"
    if first != second:
        yield words(second) if second is not None else "–"
