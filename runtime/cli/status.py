"""`hanse status` and `hanse version`: what runs, and what this is."""

import platform
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ...contracts import AgentView, AnchoringView, FederationView
from ..client import known_tiers
from .command import Session, command
from .models import drawn
from .output import table
from .text import plain
from .view import budget_words

app = typer.Typer()

SHOWN = ("hanse", "ray", "pydantic", "apsw", "msgpack", "fastapi", "typer")
"""Packages whose versions a bug report needs."""


@command(app)
async def status(session: Session) -> None:
    """Show the federation: agents and their health, tasks, questions, models, memory."""
    async with session.client() as client:
        view = await client.status()
        tiers = await known_tiers(client, view)
    session.out.show(view, lambda: Group(_drawn(view), *([Text(), drawn(tiers)] if tiers else [])))


@command(app, "version")
def version_(session: Session) -> None:
    """Show the versions of Hanse and of what it stands on."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in SHOWN}}
    session.out.show(found, lambda: "\n".join(f"{name} {number}" for name, number in found.items()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _drawn(view: FederationView) -> RenderableType:
    names = ("agent", "domain", "health", "queue", "in flight", "host", "pid", "capabilities")
    agents = table(*names, rows=[_row(agent) for agent in view.agents], empty="No agent has joined yet.")
    tasks = ", ".join(f"{count} {status}" for status, count in sorted(view.tasks.items())) or "none"
    return Group(
        Text.assemble((view.name, "bold"), f"  since {view.started_at}  {_shards(view)}  {view.events} events"),
        Text.assemble(("tasks ", "dim"), tasks),
        Text.assemble(("approvals ", "dim"), f"{view.approvals_pending} waiting"),
        *(Text.assemble(("budget ", "dim"), budget_words(each)) for each in view.budgets),
        Text.assemble(("models ", "dim"), view.models, ("   memory ", "dim"), view.memory),
        *(_anchoring(each) for each in view.anchoring),
        Text(),
        agents,
    )


def _anchoring(view: AnchoringView) -> Text:
    """How much of a journal is vouched for outside, and by whom not."""
    line = Text.assemble(
        ("anchors ", "dim"), f"{view.journal}: {view.unanchored} of {view.sequence} entries unanchored"
    )
    for anchor in view.anchors:
        if anchor.error:
            line.append(f"  {plain(anchor.name)}: {plain(anchor.error)}", style="red")
    return line.append(f"  {plain(view.alarm)}" if view.alarm else "", style="bold red")


def _shards(view: FederationView) -> str:
    return f"epoch {view.epoch}" + (f", {view.shards} shards" if view.shards > 1 else "")


def _health(agent: AgentView) -> Text:
    if not agent.healthy:
        return Text(plain(agent.reason) or "not well", style="red")
    if agent.troubles:
        return Text("\n".join(map(plain, agent.troubles)), style="yellow")
    return Text("ok", style="green")


def _row(agent: AgentView) -> list:
    health = _health(agent)
    capabilities = ", ".join(name.partition(".")[2] for name in agent.capabilities)
    queue, in_flight = str(agent.queue_depth), str(agent.in_flight)
    return [agent.id, agent.domain, health, queue, in_flight, agent.host, str(agent.pid or ""), capabilities]
