"""`hanse approvals`: questions to a person, each bound to the exact input it is about."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from ...contracts import ApprovalStatus, ApprovalView, InvalidInput, NotFound
from ..client import Client
from ..flood import decide_all, grouped
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .submission import input_of
from .text import inline
from .view import prompt, question

app = typer.Typer(help="Questions to a person.", no_args_is_help=True)

ApprovalArgument = Annotated[
    str, typer.Argument(help="Id of the question, TASK:STEP. Not with --group.", metavar="APPROVAL")
]
GroupOption = Annotated[str, typer.Option("--group", help="All that a group shows, each by its own digest.")]
Note = Annotated[str, typer.Option(help="Kept in the journal with the decision.")]
Digest = Annotated[str | None, typer.Option(help="Digest of the input you saw. Anything else is refused.")]


@command(app, "list")
async def list_(
    session: Session,
    all: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    by_rule: Annotated[bool, typer.Option("--grouped", help="As few prompts: one per rule and capability.")] = False,
) -> None:
    """List what waits for a decision."""
    async with session.client() as client:
        found = await client.approvals(pending=not all)
    if by_rule:
        groups = grouped(each for each in found if each.decision is ApprovalStatus.PENDING)
        session.out.show(groups, lambda: Group(*map(prompt, groups)) if groups else "Nothing waits for a decision.")
        return
    names = ("approval", "rule", "input", "asked", "expires", "decision")
    empty = "Nobody was ever asked." if all else "Nothing waits for a decision."
    session.out.show(found, lambda: table(*names, rows=[_row(each) for each in found], empty=empty))


@command(app)
async def approve(
    session: Session,
    approval: ApprovalArgument = "",
    note: Note = "",
    digest: Digest = None,
    input: Annotated[str, typer.Option(help="Run it with this JSON, or @file, instead of what was asked about.")] = "",
    group: GroupOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
) -> None:
    """Let a step run, after showing the very input it would run with."""
    async with session.client() as client:
        if group:
            await _decide_group(session, client, group, note, approve=True, yes=yes)
            return
        seen = await _find(client, approval)
        changed = input_of([input]) if input else None
        if not digest and not yes:
            _confirm(session, question(seen if changed is None else seen.model_copy(update={"input": changed})))
        await _decide(session, client, seen, digest, note, approve=True, input=changed)


@command(app)
async def deny(
    session: Session,
    approval: ApprovalArgument = "",
    note: Note = "",
    digest: Digest = None,
    group: GroupOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="As with approve; a no is never asked about.")] = False,
) -> None:
    """Refuse a step. Its plan is aborted and undone, unless the step is optional."""
    async with session.client() as client:
        if group:
            await _decide_group(session, client, group, note, approve=False, yes=True)
            return
        await _decide(session, client, await _find(client, approval), digest, note, approve=False)


async def _decide_group(session: Session, client: Client, id: str, note: str, *, approve: bool, yes: bool) -> None:
    """Decides what is in the group as it was shown: what came later is not in it."""
    found = next((each for each in grouped(await client.approvals()) if each.id == id), None)
    if found is None:
        raise NotFound(f"no group {id} waits. See hanse approvals list --grouped", group=id)
    if not yes:
        _confirm(session, prompt(found))
    decided, refused = await decide_all(client, found.seen, approve=approve, note=note)
    for name, error in refused.items():
        session.out.remark(f"{name}: {error.detail}", "red")
    word = "approved" if approve else "denied"
    session.out.show(decided, lambda: f"{len(decided)} {word}, {len(refused)} not: {found.about}")


async def _decide(
    session: Session,
    client: Client,
    seen: ApprovalView,
    digest: str | None,
    note: str,
    *,
    approve: bool,
    input: Any = None,
) -> None:
    about = digest or seen.digest
    decided = await client.decide(seen.id, approve=approve, digest=about, note=note, input=input)
    by = f" by {decided.by}" if decided.by else _votes(decided)
    session.out.show(decided, lambda: f"{decided.capability} {inline(decided.input)}: {decided.decision}{by}")
    if decided.decision is ApprovalStatus.PENDING and input is None and decided.digest != about:
        session.out.remark(
            f"hanse: this had been said before, to an earlier question. Another one waits for an answer of its own: "
            f"hanse approvals approve {decided.id}",
            "yellow",
        )
        raise Ended(Exit.WAITING)


def _votes(seen: ApprovalView) -> str:
    return f", {len(seen.votes)} of {seen.quorum} have said yes" if seen.quorum > 1 else ""


def _confirm(session: Session, asked: RenderableType) -> None:
    """Raises Ended when the person says no now; that decides nothing."""
    session.out.remarks.print(asked)
    if not session.out.remarks.is_terminal:
        session.out.remark("hanse: nobody is here to confirm. Add --yes, or --digest with what you saw", "red")
        raise Ended(Exit.USAGE)
    if not typer.confirm("Let it run?", err=True):
        session.out.remark("nothing was decided")
        raise Ended(Exit.REFUSED)


async def _find(client: Client, approval: str) -> ApprovalView:
    """The question, from those that wait and, failing that, from all."""
    if not approval:
        raise InvalidInput("say which question: its id, as hanse approvals list shows it, or --group")
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
