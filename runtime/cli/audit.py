"""`hanse audit`: the journal, checked."""

import typer

from .command import Ended, Session, command
from .exits import Exit
from .text import duration, plain

app = typer.Typer(help="The journal: what happened, and that nobody changed it.", no_args_is_help=True)


@command(app)
async def verify(session: Session) -> None:
    """Recompute the hash chain of every journal from its beginning."""
    async with session.client() as client:
        report = await client.verify()
    verdict = "unbroken" if report.ok else "BROKEN"
    words = f"{report.entries} entries, {verdict}, head {report.head}, in {duration(report.seconds * 1000)}"
    session.out.show(report, lambda: words)
    for problem in report.problems:
        session.out.remark(f"hanse: {plain(problem)}", "red")
    if not report.ok:
        raise Ended(Exit.FAILED)
