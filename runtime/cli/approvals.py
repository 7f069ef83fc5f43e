"""`hanse approvals`: questions to a person, each bound to the exact input it is about."""

from typing import Annotated

import typer

from ...contracts import ApprovalView, NotFound
from ..client import Client
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .text import inline
from .view import question

app = typer.Typer(help="Questions to a person.", no_args_is_help=True)

ApprovalArgument = Annotated[str, typer.Argument(help="Id of the question, TASK:STEP.", metavar="APPROVAL")]
Note = Annotated[str, typer.Option(help="Kept in the journal with the decision.")]
Digest = Annotated[str | None, typer.Option(help="Digest of the input you saw. Anything else is refused.")]


@command(app, "list")
async def list_(
    session: Session,
    all: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
) -> None:
    """List what waits for a decision."""
    async with session.client() as client:
        found = await client.approvals(pending=not all)
    names = ("approval", "rule", "input", "asked", "expires", "decision")
    empty = "Nobody was ever asked." if all else "Nothing waits for a decision."
    session.out.show(found, lambda: table(*names, rows=[_row(each) for each in found], empty=empty))


@command(app)
async def approve(
    session: Session,
    approval: ApprovalArgument,
    note: Note = "",
    digest: Digest = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
) -> None:
    """Let a step run, after showing the very input it would run with."""
    async with session.client() as client:
        seen = await _find(client, approval)
        if not digest and not yes:
            _confirm(session, seen)
        await _decide(session, client, seen, digest, note, approve=True)


@command(app)
async def deny(session: Session, approval: ApprovalArgument, note: Note = "", digest: Digest = None) -> None:
    """Refuse a step. Its plan is aborted and undone, unless the step is optional."""
    async with session.client() as client:
        await _decide(session, client, await _find(client, approval), digest, note, approve=False)


async def _decide(
    session: Session, client: Client, seen: ApprovalView, digest: str | None, note: str, *, approve: bool
) -> None:
    decided = await client.decide(seen.id, approve=approve, digest=digest or seen.digest, note=note)
    by = f" by {decided.by}" if decided.by else ""
    session.out.show(decided, lambda: f"{decided.capability} {inline(decided.input)}: {decided.decision}{by}")


def _confirm(session: Session, seen: ApprovalView) -> None:
    """Raises Ended when the person says no now; that decides nothing."""
    session.out.remarks.print(question(seen))
    if not session.out.remarks.is_terminal:
        session.out.remark("hanse: nobody is here to confirm. Add --yes, or --digest with what you saw", "red")
        raise Ended(Exit.USAGE)
    if not typer.confirm("Let it run?", err=True):
        session.out.remark("nothing was decided")
        raise Ended(Exit.REFUSED)


async def _find(client: Client, approval: str) -> ApprovalView:
    """The question, from those that wait and, failing that, from all."""
    for pending in (True, False):
        for each in await client.approvals(pending=pending):
            if each.id == approval:
                return each
    raise NotFound(f"there is no approval {approval}. See hanse approvals list", approval=approval)


def _row(each: ApprovalView) -> list[str]:
    decision = each.decision + (f" by {each.by}" if each.by else "")
    return [each.id, each.rule, inline(each.input), _short(each.requested_at), _short(each.expires_at or ""), decision]


def _short(timestamp: str) -> str:
    return timestamp.replace("T", " ").partition(".")[0]
