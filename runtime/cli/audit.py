"""`hanse audit`: the journal, checked."""

from collections.abc import Sequence
from typing import Annotated

import typer

from ...contracts import InvalidInput, Unavailable
from .command import Ended, Session, command
from .exits import Exit
from .text import duration, plain

app = typer.Typer(help="The journal: what happened, and that nobody changed it.", no_args_is_help=True)

Heads = Annotated[
    list[str] | None,
    typer.Option("--expect-head", help="A head that you kept: SEQUENCE:HASH, or JOURNAL:SEQUENCE:HASH. Repeatable."),
]


@command(app)
async def verify(session: Session, expect_head: Heads = None) -> None:
    """Recompute the hash chain of every journal from its beginning.

    A running federation is asked to do it. Where none runs, and for --expect-head, the files in the data folder are
    read, and nothing is written.
    """
    if expect_head:
        return _read(session, expect_head)
    try:
        await _ask(session)
    except Unavailable as error:
        if session.options.url:
            raise
        _read(session, (), error)


async def _ask(session: Session) -> None:
    async with session.client() as client:
        report = await client.verify()
    verdict = "unbroken" if report.ok else "BROKEN"
    words = f"{report.entries} entries, {verdict}, head {report.head}, in {duration(report.seconds * 1000)}"
    session.out.show(report, lambda: words)
    _end(session, report.ok, report.problems)


def _read(session: Session, heads: Sequence[str], absent: Unavailable | None = None) -> None:
    """`absent` is why no federation was asked."""
    from .journals import drawn, found, read

    if heads and session.options.url:
        raise InvalidInput(
            "--expect-head reads the journals' files, and --url asks a federation. Leave one of them out"
        )
    data = found(session, absent)
    report = read(session.out, data, heads)
    session.out.show(report, lambda: drawn(report))
    _end(session, report["ok"], report["problems"])


def _end(session: Session, ok: bool, problems: Sequence[str]) -> None:
    for problem in problems:
        session.out.remark(f"hanse: {plain(problem)}", "red")
    if not ok:
        raise Ended(Exit.FAILED)
