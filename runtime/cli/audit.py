"""`hanse audit`: the journal, checked."""

from collections.abc import Sequence
from pathlib import Path
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


Anchors = Annotated[
    list[Path] | None,
    typer.Option("--anchors", help="A file with heads, of a file anchor or a collector. Repeatable."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="The federation's public key, as hanse audit key prints it, or a file with it."),
]


@command(app)
async def verify(session: Session, expect_head: Heads = None, anchors: Anchors = None, key: Key = None) -> None:
    """Recompute the hash chain of every journal from its beginning, and compare the heads that were kept outside.

    A running federation is asked for its own chains. Where none runs, and for --expect-head and --anchors, the files in
    the data folder are read, and nothing is written; without --anchors, the heads are those in the file that the
    federation keeps beside its data folder. All heads must be in the journals: then nothing that was there when a head
    was kept was edited, deleted, inserted, reordered, cut off, put back or written anew.
    """
    if expect_head or anchors:
        return _read(session, expect_head or (), anchors, key)
    try:
        await _ask(session)
    except Unavailable as error:
        if session.options.url:
            raise
        _read(session, (), None, key, error)


@command(app, "key")
def key_(session: Session) -> None:
    """Print the public key that the heads of this data folder are signed with. Give it to whoever checks them."""
    from .journals import found, public_key

    key = public_key(found(session))
    session.out.show({"key": key}, lambda: key)


async def _ask(session: Session) -> None:
    async with session.client() as client:
        report = await client.verify()
    verdict = "unbroken" if report.ok else "BROKEN"
    words = f"{report.entries} entries, {verdict}, head {report.head}, in {duration(report.seconds * 1000)}"
    session.out.show(report, lambda: words)
    _end(session, report.ok, report.problems)


def _read(
    session: Session,
    heads: Sequence[str],
    anchors: Sequence[Path] | None,
    key: str | None,
    absent: Unavailable | None = None,
) -> None:
    """`absent` is why no federation was asked."""
    from .journals import drawn, found, read

    if session.options.url:
        raise InvalidInput(
            "--expect-head and --anchors read the journals' files, and --url asks a federation. Leave one of them out"
        )
    data = found(session, absent)
    report = read(session.out, data, heads, anchors, key)
    session.out.show(report, lambda: drawn(report))
    _end(session, report["ok"], report["problems"])


def _end(session: Session, ok: bool, problems: Sequence[str]) -> None:
    for problem in problems:
        session.out.remark(f"hanse: {plain(problem)}", "red")
    if not ok:
        raise Ended(Exit.FAILED)
