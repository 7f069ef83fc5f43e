"""`hanse models`: the tiers of the model pool, what was used of them, and what they keep."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from ...contracts.pool import CacheView, CallView, PromptView, TierState, TierView, UsageView
from ..client import Client
from .command import Session, command, default
from .output import table
from .text import plain

app = typer.Typer(help="The model pool.")

LOOK_SECONDS = 1.0
"""Between two looks with --watch."""
_COLORS = {
    TierState.READY: "green",
    TierState.WARMING: "yellow",
    TierState.WAITING: "yellow",
    TierState.DEGRADED: "yellow",
}
_SHOWN = 12
"""Characters of a digest that are shown: enough to tell two apart."""

Days = Annotated[int, typer.Option(min=1, max=366, help="Days in UTC, today included.")]


@command(app, "list")
async def list_(
    session: Session, watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second.")] = False
) -> None:
    """Show the tiers: state with progress, model, digest, queue, calls, tokens, cost."""
    async with session.client() as client:
        if watch:
            await _watch(session, client)
            return
        found = await client.models.tiers()
    session.out.show(found, lambda: drawn(found))


default(app, list_)


@command(app)
async def usage(
    session: Session,
    days: Days = 1,
    by_task: Annotated[bool, typer.Option("--by-task", help="A line for each task.")] = False,
) -> None:
    """Show what the tenant has used, by day and tier."""
    async with session.client() as client:
        found = await client.models.usage(days, by_task=by_task)
    names = ("day", *(("task",) if by_task else ()), "tier", "calls", "attempts", "tokens in", "out", "cents")
    rows = [_used(each, by_task) for each in found]
    session.out.show(found, lambda: table(*names, rows=rows, empty="Nothing was used."))


@command(app)
async def calls(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    before: Annotated[str | None, typer.Option(help="Older ones than this call.")] = None,
) -> None:
    """List the tenant's calls, the newest first, with what came of each."""
    async with session.client() as client:
        found = await client.models.calls(limit, before)
    names = ("call", "capability", "purpose", "tier", "outcome", "attempts", "tokens", "cents", "ms")
    session.out.show(found, lambda: table(*names, rows=[_call(each) for each in found], empty="Nothing was asked."))


@command(app)
async def prompts(session: Session) -> None:
    """List the prompt files with their versions."""
    async with session.client() as client:
        found = await client.models.prompts()
    names = ("prompt", "version", "digest", "runs", "inputs")
    session.out.show(found, lambda: table(*names, rows=[_prompt(each) for each in found], empty="There are none."))


@command(app)
async def caches(session: Session) -> None:
    """Show how many answers are kept for the tenant, and how often they were given again."""
    async with session.client() as client:
        found = await client.models.caches()
    names = ("tenant", "same words", "given again", "same meaning", "given again", "not found", "bytes")
    session.out.show(found, lambda: table(*names, rows=[_cache(each) for each in found], empty="Nothing is kept."))


@command(app)
async def purge(session: Session) -> None:
    """Forget the answers that were kept for the tenant."""
    async with session.client() as client:
        gone = await client.models.purge()
    session.out.show({"purged": gone}, lambda: f"{gone} kept answers forgotten")


def drawn(tiers: Sequence[TierView]) -> RenderableType:
    """The tiers as a table, and below it what to do about those that are not well."""
    names = ("tier", "kind", "state", "model", "digest", "queue", "in flight", "calls", "tokens", "cents")
    return table(*names, rows=[_row(each) for each in tiers], empty="No tier is configured.")


async def _watch(session: Session, client: Client) -> None:
    """Until Ctrl-C: drawn over itself on a terminal, a line of JSON each time with --json, a table each time else."""
    if session.out.live:
        with Live(console=session.out.console, auto_refresh=False) as live:
            await _look(client, lambda tiers: live.update(drawn(tiers), refresh=True))
    else:
        await _look(client, lambda tiers: session.out.show(tiers, lambda: drawn(tiers)))


async def _look(client: Client, show: Callable[[list[TierView]], None]) -> None:
    while True:
        show(await client.models.tiers())
        await asyncio.sleep(LOOK_SECONDS)


def _row(tier: TierView) -> list[RenderableType | str]:
    return [
        *(tier.name, tier.kind, _state(tier), tier.model, _short(tier.digest)),
        *(str(tier.queued), str(tier.in_flight), str(tier.calls), str(tier.tokens), f"{tier.cents:g}"),
    ]


def _state(tier: TierView) -> Text:
    """`warming 40%: loading weights`, and on the next line what to do."""
    percent = f" {tier.progress:.0%}" if tier.state is TierState.WARMING and tier.progress else ""
    text = Text(f"{tier.state}{percent}", style=_COLORS.get(tier.state, "red"))
    if tier.detail:
        text.append(f": {plain(tier.detail)}", style="dim")
    return text.append(f"\n{plain(tier.remedy)}") if tier.remedy else text


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_SHOWN]


def _used(each: UsageView, by_task: bool) -> list[str]:
    task = [each.task or "-"] if by_task else []
    figures = (each.calls, each.attempts, each.prompt_tokens, each.completion_tokens)
    return [each.day, *task, each.tier or "kept answers", *map(str, figures), f"{each.cents:g}"]


def _call(each: CallView) -> list[str]:
    tokens = each.usage.prompt_tokens + each.usage.completion_tokens
    tier = each.tier or ("" if each.cached == "no" else f"kept ({each.cached})")
    what = (each.id, each.capability or each.by, each.purpose, tier, each.outcome)
    return [*what, str(len(each.attempts)), str(tokens), f"{each.usage.cents:g}", f"{each.usage.latency_ms:.0f}"]


def _prompt(each: PromptView) -> list[str]:
    runs = "current" if each.current else "beside it" if each.shadow else ""
    return [each.name, each.version, _short(each.digest), runs, ", ".join(each.inputs)]


def _cache(each: CacheView) -> list[str]:
    figures = (each.exact, each.exact_hits, each.semantic, each.semantic_hits, each.misses, each.bytes)
    return [each.tenant, *map(str, figures)]
