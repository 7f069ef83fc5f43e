"""The whole command line, put together from its nouns."""

import typer

from . import approvals, audit, call, contracts, doctor, memory, models, new, stats, status, tasks, up
from .exits import Exit

EXITS = "Exit codes: " + ", ".join(f"{exit.value} {exit.name.lower()}" for exit in Exit) + "."

app = typer.Typer(
    name="hanse",
    help="A federation of domain agents: negotiated, durable work under policy, with people in the loop.",
    epilog=EXITS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (new, up, status, stats, call, doctor):
    app.add_typer(part.app)
app.add_typer(tasks.app, name="tasks")
app.add_typer(approvals.app, name="approvals")
app.add_typer(contracts.app, name="contracts")
app.add_typer(audit.app, name="audit")
app.add_typer(memory.app, name="memory")
app.add_typer(models.app, name="models")


def main() -> None:
    """The program `hanse`. Ends the process with one of the codes of `Exit`."""
    app()
