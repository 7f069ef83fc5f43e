"""`hanse tasks`: what was asked for, and how it stands."""

from typing import Annotated

import typer
from rich.text import Text

from ...contracts import Conflict, StepView, TaskStatus, TaskView
from ..client import all_events
from .command import Ended, Session, command
from .exits import Exit, exit_of_task
from .output import table
from .submission import json_of
from .text import duration, inline, money, plain
from .view import MARKS, held_step, status_text, task_view
from .watch import watch as follow

app = typer.Typer(help="Work that was asked for.", no_args_is_help=True)

TaskArgument = Annotated[str, typer.Argument(help="Id of the task.", metavar="TASK")]


@command(app, "list")
async def list_(
    session: Session,
    status: Annotated[TaskStatus | None, typer.Option(help="Only tasks in this status.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 20,
    before: Annotated[str | None, typer.Option(help="Only tasks older than this one: the last id of a page.")] = None,
) -> None:
    """List tasks, the newest first."""
    async with session.client() as client:
        found = await client.tasks(status=status and str(status), limit=limit, before=before)
    names = ("task", "status", "steps", "cost", "created", "labels or key")
    session.out.show(found, lambda: table(*names, rows=[_row(task) for task in found], empty="There are no tasks."))


@command(app)
async def get(session: Session, task: TaskArgument) -> None:
    """Show one task: its steps, bids, awards and output."""
    async with session.client() as client:
        view = await client.task(task)
        if session.out.json:
            return session.out.emit(view)
        asked = [each for each in await client.approvals() if each.task == task] if view.approvals else []
        session.out.draw(task_view(view, await client.steps(task), await all_events(client, task), asked))


@command(app)
async def steps(session: Session, task: TaskArgument) -> None:
    """List the steps of a task with agent, price, time and output."""
    async with session.client() as client:
        found = await client.steps(task)
    labels = ("labels",) if any(step.labels for step in found) else ()
    names = ("", "step", "capability", "agent", "tries", "price", "time", *labels, "output or reason")
    rows = [_step_row(step, with_labels=bool(labels)) for step in found]
    session.out.show(found, lambda: table(*names, rows=rows, empty="It has no steps."))


@command(app)
async def watch(session: Session, task: TaskArgument) -> None:
    """Follow a task live to its end: the DAG, bids, awards, progress, questions. Lines in a pipe."""
    async with session.client() as client:
        ended = await follow(client, session.out, task)
    if exit := exit_of_task(ended):
        raise Ended(exit)


@command(app)
async def cancel(
    session: Session, task: TaskArgument, reason: Annotated[str, typer.Option(help="Kept in the journal.")] = ""
) -> None:
    """Cancel a task. What it changed already is undone by its compensations."""
    async with session.client() as client:
        view = await client.cancel(task, reason)
    session.out.show(view, lambda: Text.assemble(f"task {view.id} is ", status_text(view.status)))


@command(app)
async def resume(
    session: Session,
    task: TaskArgument,
    choice: Annotated[str | None, typer.Argument(help="How the held step goes on. Asked for when left out.")] = None,
    step: Annotated[str | None, typer.Option(help="Which step, where several are held.")] = None,
    result: Annotated[str | None, typer.Option(help="JSON: what the outside effect gave, if it happened.")] = None,
    output: Annotated[str | None, typer.Option(help="JSON: the output of a step done by hand.")] = None,
    note: Annotated[str, typer.Option(help="Kept in the journal.")] = "",
) -> None:
    """Say how a held step goes on: one whose outcome nobody knows, or that cannot be undone."""
    found = {"result": json_of(result, "--result"), "output": json_of(output, "--output")}
    async with session.client() as client:
        if choice is None:
            step, choice = _chosen(session, await client.task(task), step)
        view = await client.resume(task, choice, step=step, note=note, **found)
    session.out.show(view, lambda: Text.assemble(f"task {view.id} is ", status_text(view.status)))


def _chosen(session: Session, task: TaskView, step: str | None) -> tuple[str, str]:
    """Asks the person at the terminal. Raises Ended where there is nobody, Conflict where nothing is held."""
    held = [each for each in task.held if step in (None, each.step)]
    if not held:
        raise Conflict(f"nothing of task {task.id} is held up: it is {task.status}", task=task.id)
    session.out.remarks.print(held_step(task.id, held[0]))
    if not session.out.remarks.is_terminal:
        session.out.remark("hanse: nobody is here to choose. Write the choice behind the task", "red")
        raise Ended(Exit.USAGE)
    return held[0].step, typer.prompt(f"Which of {', '.join(held[0].choices)}", err=True)


def _row(task: TaskView) -> list:
    named = ", ".join(f"{name}={value}" for name, value in task.labels.items()) or task.idempotency_key or ""
    what = f"part of {task.part_of[-1].task}" if task.part_of else named
    done = f"{task.steps_done}/{task.steps_total}"
    created = task.created_at.replace("T", " ").partition(".")[0]
    return [task.id, status_text(task.status), done, money(task.cost_cents), created, plain(what, 50)]


def _step_row(step: StepView, *, with_labels: bool) -> list:
    mark, style = MARKS[step.status]
    result = step.error.detail if step.error else step.reason if step.output is None else inline(step.output)
    return [
        Text(mark, style),
        step.id,
        step.call,
        step.agent or "",
        str(step.attempts or ""),
        money(step.price_cents),
        duration(step.latency_ms),
        *([", ".join(map(plain, sorted(step.labels)))] if with_labels else []),
        plain(result, 80),
    ]
