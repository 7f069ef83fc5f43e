"""`hanse audit`: the journal, checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...contracts import InvalidInput, JsonObject, Unavailable
from .command import Ended, Session, command
from .exits import Exit
from .text import duration, json_text, plain

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


@command(app)
def prove(
    session: Session,
    sequence: Annotated[int, typer.Argument(help="Number of the entry.", min=1)],
    journal: Annotated[str, typer.Option(help="Name of the journal, as verify shows it.")] = "coordinator-0",
    since: Annotated[
        int, typer.Option(help="Also prove that the first so many entries are still the same.", min=0)
    ] = 0,
    anchors: Anchors = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the proof into this file.")] = None,
) -> None:
    """Prove that one entry is in a journal, without showing the others.

    The proof holds its bytes, the path to the root of the journal's Merkle tree (RFC 9162), and the signed head. It is
    read from the files of the data folder, and `hanse audit check` checks it anywhere.
    """
    from .evidence import proof_of
    from .journals import found

    _hand_over(session, proof_of(session, found(session), journal, sequence, since, anchors), out)


@command(app)
async def bundle(
    session: Session,
    task: Annotated[str, typer.Argument(help="Id of the task.", metavar="TASK")],
    anchors: Anchors = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the bundle into this file.")] = None,
) -> None:
    """Gather the evidence of a task in one signed file.

    Plan, bids, award, token, approval, effect, receipt, and what models and memory gave. A running federation is asked;
    where none runs, the files in the data folder are read.
    """
    try:
        async with session.client() as client:
            evidence = await client.bundle(task)
    except Unavailable as error:
        if session.options.url:
            raise
        evidence = _bundle_from_files(session, task, anchors, error)
    _hand_over(session, evidence, out)


def _bundle_from_files(session: Session, task: str, anchors: Sequence[Path] | None, absent: Unavailable) -> JsonObject:
    from .evidence import bundle_of
    from .journals import found

    return bundle_of(session, found(session, absent), task, anchors)


@command(app)
def check(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A proof or a bundle.")],
    key: Key = None,
    anchors: Anchors = None,
) -> None:
    """Check a proof or a bundle with nothing but the file and the federation's public key, and tell what it shows.

    Without --key it only shows that the file fits the key that it names itself. With --anchors the head that it was
    proved against must be one that was kept there.
    """
    from .evidence import checked

    found = checked(file, key, anchors)
    report = {"ok": not found.problems, "problems": found.problems, "reasons": found.lines}
    session.out.show(report, lambda: "\n".join(map(_indented, found.lines)) or "IT DOES NOT HOLD")
    if key is None:
        session.out.remark("hanse: whose key it is was not checked: give it with --key", "yellow")
    _end(session, not found.problems, found.problems)


@command(app, "compact")
async def compact_(
    session: Session,
    before: Annotated[str | None, typer.Option(help="Tasks that ended before this date go.", metavar="DATE")] = None,
    keep_days: Annotated[float | None, typer.Option(help="Tasks that ended longer ago go.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say exactly what would go, and change nothing.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Keep no archive of what goes.")] = False,
) -> None:
    """Let go of tasks that ended long ago, so that the journal can still be verified.

    Of their entries the journal keeps the hashes; the entries go into an archive in the data folder. The tasks, their
    idempotency keys and their receipts are forgotten. No federation may be running over the folder.
    """
    from . import compaction
    from .journals import found

    before_ms, data = compaction.horizon(before, keep_days), found(session)
    if dry_run:
        gone = compaction.planned(data, before_ms)
    else:
        gone = await compaction.done(data, before_ms, discard=discard, by="cli")
    session.out.show(compaction.reported(gone, dry_run=dry_run), lambda: compaction.drawn(gone, dry_run=dry_run))


def _hand_over(session: Session, evidence: JsonObject, out: Path | None) -> None:
    if out is None:
        return session.out.emit(evidence)
    try:
        out.write_text(json_text(evidence) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}") from error
    session.out.show({"file": str(out)}, lambda: f"written to {out}")


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


def _indented(line: str) -> str:
    """Made harmless, with its indentation as it was."""
    return " " * (len(line) - len(line.lstrip())) + plain(line)


def _end(session: Session, ok: bool, problems: Sequence[str]) -> None:
    for problem in problems:
        session.out.remark(f"hanse: {plain(problem)}", "red")
    if not ok:
        raise Ended(Exit.FAILED)
