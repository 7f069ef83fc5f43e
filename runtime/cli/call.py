"""`hanse call` and `hanse run`: work is asked for, and waited for."""

from typing import Annotated

import typer

from ...contracts import Contract, JsonObject, NotFound, Submission, TaskStatus, TaskView
from ..client import Client
from .command import Ended, Session, command
from .exits import Exit, exit_of_task
from .submission import input_of, labels_of, read_plan_file, submission_of
from .text import inline, plain
from .watch import watch

app = typer.Typer()

Words = Annotated[list[str] | None, typer.Argument(help="JSON, @file, - for standard input, or key=value each.")]
Key = Annotated[str | None, typer.Option(help="Idempotency key: the same key is the same task.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the end; 0 returns at once.", min=0)]
Deadline = Annotated[float | None, typer.Option(help="Seconds until the task is given up.", min=0)]
Budget = Annotated[float | None, typer.Option(help="Cents that the task may spend.", min=0)]
Priority = Annotated[
    int | None, typer.Option(help="0 to 9, which goes first where not all can; 5 if left out.", min=0, max=9)
]
Purse = Annotated[
    list[str] | None, typer.Option("--budget", help="tokens=N, seconds=N, human_minutes=N or cents=N. Repeatable.")
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="key=value, kept with the task. Repeatable.")]


@command(app)
async def call(
    session: Session,
    capability: Annotated[str, typer.Argument(help="domain.method, or domain.method@1.2")],
    input: Words = None,
    key: Key = None,
    wait: Wait = 60,
    deadline_seconds: Deadline = None,
    budget_cents: Budget = None,
    budget: Purse = None,
    priority: Priority = None,
    label: Labels = None,
) -> None:
    """Call one capability and print what it returns.

    A value of key=value is read as the contract's schema wants it: text stays text, 5 becomes a number.
    """
    async with session.client() as client:
        schema = await _schema(client, capability) if any("=" in word for word in input or ()) else None
        body = {"call": capability, "input": input_of(input or (), schema)}
        submission = submission_of(body | _extra(key, deadline_seconds, _budget(budget_cents, budget), priority, label))
        _end(session, await _waited(client, submission, wait))


@command(app, "run")
async def run_(
    session: Session,
    plan: Annotated[str, typer.Argument(help="A plan in JSON or YAML, - for standard input, or retail: the shop.")],
    input: Annotated[str | None, typer.Option(help="The plan's input: JSON or @file.")] = None,
    key: Key = None,
    wait: Annotated[float | None, typer.Option(help="Seconds to wait without watching.", min=0)] = None,
    deadline_seconds: Deadline = None,
    budget_cents: Budget = None,
    budget: Purse = None,
    priority: Priority = None,
    label: Labels = None,
) -> None:
    """Run a plan and watch it to its end, or run the retail federation's 74 customer tasks: hanse run retail."""
    if plan == "retail":
        from . import retail

        return await retail.run(session)
    body = read_plan_file(plan) | ({"input": input_of([input])} if input else {})
    submission = submission_of(body | _extra(key, deadline_seconds, _budget(budget_cents, budget), priority, label))
    async with session.client() as client:
        if wait is not None:
            return _end(session, await _waited(client, submission, wait))
        task = await client.submit(submission)
        session.out.remark(f"task {task.id}", "dim")
        ended = await watch(client, session.out, task.id)
    if exit := exit_of_task(ended):
        raise Ended(exit)


async def _schema(client: Client, capability: str) -> JsonObject | None:
    """The input schema, to read words by. Without one, words are read as JSON where they can be."""
    try:
        contract: Contract = await client.capability(capability)
    except NotFound:
        return None
    return contract.input_schema


def _budget(cents: float | None, words: list[str] | None) -> JsonObject:
    return input_of(words or ()) | ({} if cents is None else {"cents": cents})


def _extra(
    key: str | None,
    deadline_seconds: float | None,
    budget: JsonObject,
    priority: int | None,
    label: list[str] | None,
) -> JsonObject:
    given = {
        "idempotency_key": key,
        "deadline_seconds": deadline_seconds,
        "budget": budget,
        "priority": priority,
        "labels": labels_of(label or ()),
    }
    return {name: value for name, value in given.items() if value not in (None, {})}


async def _waited(client: Client, submission: Submission, seconds: float) -> TaskView:
    task = await client.submit(submission)
    return await client.wait(task.id, seconds) if seconds and not task.status.terminal else task


def _end(session: Session, task: TaskView) -> None:
    """Prints the output, or says where the task stands; ends the command with the code that this means."""
    exit = exit_of_task(task)
    if task.status is TaskStatus.COMPLETED:
        session.out.show(task, lambda: inline(task.output, 100_000))
        return
    if session.out.json:
        session.out.emit(task)
    session.out.remark(_standing(task), "yellow" if exit in (Exit.WAITING, Exit.UNFINISHED) else "red")
    raise Ended(exit)


def _standing(task: TaskView) -> str:
    if task.error:
        return f"hanse: {plain(task.error.detail)} [{task.error.code}; task={task.id}]"
    if task.approvals:
        return f"hanse: task {task.id} waits for a person. Look: hanse approvals list"
    return f"hanse: task {task.id} is {task.status} and goes on. Follow it: hanse tasks watch {task.id}"
