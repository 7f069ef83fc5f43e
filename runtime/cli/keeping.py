"""`hanse memory snapshot`, `restore`, `rebuild` and `tidy`: what takes long, with a bar that says how far it is."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ...contracts import HanseError, Tenant, Unavailable
from ...contracts.events import timestamp
from ...contracts.memory import BoundMemory, Restored
from .command import Session, command
from .output import Output
from .reach import running
from .text import plain

LOOK_SECONDS = 0.2
Result = TypeVar("Result")
Look = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]


def add_to(app: typer.Typer) -> None:
    """The commands, beside the others of `hanse memory`."""
    for each in (snapshot, restore, rebuild, tidy):
        command(app)(each)


async def snapshot(
    session: Session,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also in place of the snapshot of a store that was lost.")
    ] = False,
) -> None:
    """Write all that the tenant has into Parquet files, at memory.snapshots of hanse.yaml."""
    manifest = await _told(session, "snapshot", {"replace": replace})
    session.out.show(manifest, lambda: _manifest(manifest))


async def restore(
    session: Session,
    place: Annotated[
        str | None,
        typer.Option("--from", help="A folder, or a URI that pyarrow.fs knows. That of hanse.yaml when left out."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The secret.key of the federation that took it, if it was another.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Whose. All that are there when left out. Repeatable.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Beside what is remembered already, which stays.")] = False,
) -> None:
    """Bring a memory back from its snapshot, when its store was lost or it moves to another federation.

    A running federation brings back your own tenant's, from the place in its configuration. With --from, --key or
    --tenant, or where none runs, the stores of the data folder are written, and no federation may work on them.
    Killed in between, do it again: what is there stays. What was forgotten does not come back.
    """
    if not (place or key or tenant) and _answers(session):
        told = [Restored.model_validate(await _told(session, "restore", {"merge": merge}))]
    else:
        told = await _into_folder(session, place, key, tenant or (), merge=merge)
    session.out.show(told, lambda: "\n".join(map(_restored, told)))
    if any(each.left_out for each in told):
        words = "the snapshot still has what was left out, until the next one: hanse memory snapshot"
        session.out.remark(f"hanse: {words}", "yellow")


async def rebuild(session: Session) -> None:
    """Make indexes and tables anew from the log, while the old ones answer."""
    told = await _told(session, "rebuild", {})
    session.out.show(told, lambda: f"{told['records']} records are indexed anew")


async def tidy(
    session: Session,
    records: Annotated[int | None, typer.Option(min=0, help="Keep at most so many; the tenant's budget else.")] = None,
    characters: Annotated[int | None, typer.Option(min=0, help="The same for all texts together.")] = None,
) -> None:
    """Summarise old episodes, and let go of what is over the budget, the least valuable first."""
    wanted = {name: value for name, value in (("records", records), ("bytes", characters)) if value is not None}
    made = await _told(session, "consolidate", {})
    told = {**made, **await _told(session, "tidy", wanted)}
    session.out.show(told, lambda: _tidied(told))


def _answers(session: Session) -> bool:
    """Whether a federation is there to be asked."""
    if session.options.url:
        return True
    try:
        return running(session.options)[1].url is not None
    except Unavailable:
        return False


async def _into_folder(
    session: Session, place: str | None, key: Path | None, tenants: Sequence[str], *, merge: bool
) -> list[Restored]:
    from ..memory_restoring import read_secret, restore_into

    configuration = session.configuration()
    if session.options.data is not None:
        configuration = configuration.over(session.options.data)

    async def watch(service: Any, tenant: Tenant, work: Awaitable[Restored]) -> Restored:
        async def look() -> Sequence[Mapping[str, Any]]:
            return service.works.of(tenant)

        return await watched(session.out, "restore", work, look)

    secret = read_secret(key) if key else None
    return await restore_into(configuration, place, secret, tenants, watch, merge=merge, by="cli")


async def _told(session: Session, verb: str, parameters: Mapping[str, Any]) -> Any:
    async with session.client() as client:
        memory: BoundMemory = client.memory
        work = memory.tell(verb, parameters)
        return await watched(session.out, verb, work, lambda: memory.tell("progress", {}))


async def watched(out: Output, verb: str, work: Awaitable[Result], look: Look) -> Result:
    """What the work gives; meanwhile a bar, where a person looks."""
    task = asyncio.ensure_future(work)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out.remarks, transient=True, disable=not out.remarks.is_terminal) as bars:
        bar = bars.add_task(verb, total=None)
        while not (await asyncio.wait([task], timeout=LOOK_SECONDS if out.remarks.is_terminal else None))[0]:
            with suppress(HanseError):
                for each in await look():
                    if each["verb"] == verb and each["of"]:
                        bars.update(bar, total=each["of"], completed=each["done"])
    return await task


def _manifest(manifest: Mapping[str, Any]) -> str:
    if not manifest:
        return "Something was forgotten meanwhile. Take it again."
    versions = sum(file["rows"] for file in manifest["files"] if file["kind"] == "records")
    size = sum(file["bytes"] for file in manifest["files"])
    return (
        f"{versions} versions of records in {len(manifest['files'])} files, {size} bytes, entry {manifest['sequence']}"
    )


def _restored(told: Restored) -> str:
    known = f", {told.known} were known already" if told.known else ""
    left = f", {told.left_out} stay forgotten" if told.left_out else ""
    day = timestamp(told.taken_ms).replace("T", " ").partition(".")[0]
    over = f", {told.evicted} went again, over the tenant's budget" if told.evicted else ""
    return f"{plain(told.tenant)}: {told.records} records in {told.versions} versions as of {day}{known}{left}{over}"


def _tidied(told: Mapping[str, Any]) -> str:
    fits = "" if told["fits"] else "; pinned records alone are over the budget"
    return f"{len(told['summaries'])} summaries made, {len(told['evicted'])} records gone, {told['records']} kept{fits}"
