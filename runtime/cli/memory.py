"""`hanse memory`: what the federation remembers, looked at and put right by people."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...contracts import InvalidInput
from ...contracts.events import timestamp
from ...contracts.memory import (
    BoundMemory,
    Certificate,
    Change,
    Draft,
    Fact,
    Hit,
    Layer,
    Query,
    Record,
    Remembered,
    Scope,
)
from ...memory.report import Report, plot
from . import certificates, keeping
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .text import inline, json_text, plain
from .view import bar

app = typer.Typer(help="What is remembered: search it, correct it, forget it.", no_args_is_help=True)

app.add_typer(certificates.app, name="certificates")
keeping.add_to(app)

Id = Annotated[str, typer.Argument(help="Id of the record.", metavar="RECORD")]
Subject = Annotated[str, typer.Argument(help="Whom it is about.", metavar="SUBJECT")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")]
EXPORT_PAGE = 500


@command(app)
async def search(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(help="What to look for. Nothing gives the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    layer: Annotated[list[Layer] | None, typer.Option(help="Only these.")] = None,
    scope: Annotated[list[Scope] | None, typer.Option(help="Only these.")] = None,
    owner: Annotated[list[str] | None, typer.Option(help="Only what belongs to these.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only about these.")] = None,
    episode: Annotated[list[str] | None, typer.Option(help="Only of these.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only with all of these.")] = None,
    as_of: Annotated[int | None, typer.Option(help="As it was known and valid then, in Unix milliseconds.")] = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="What the write gate kept aside, too.")] = False,
) -> None:
    """Find what is remembered, and why each hit was found."""
    query = Query(
        text=" ".join(words or ()),
        limit=limit,
        layers=tuple(layer or ()),
        scopes=tuple(scope or ()),
        owners=tuple(owner or ()),
        subjects=tuple(subject or ()),
        episodes=tuple(episode or ()),
        labels=tuple(label or ()),
        as_of_ms=as_of,
        include_quarantined=quarantined,
    )
    async with session.client() as client:
        found = await client.memory.recall(query)
    session.out.show(found, lambda: _hits(found.hits))
    if found.degraded:
        session.out.remark(f"hanse: {plain(found.degraded)}", "yellow")


@command(app)
async def show(session: Session, record: Id) -> None:
    """Show one record, with where it came from."""
    async with session.client() as client:
        found = await client.memory.get(record)
    session.out.show(found, lambda: _record(found))


@command(app)
async def history(session: Session, record: Id) -> None:
    """Show the versions of a record, oldest first."""
    async with session.client() as client:
        found = await client.memory.history(record)
    rows = [[str(each.version), each.state, _day(each.updated_ms), each.text, inline(each.payload)] for each in found]
    names = ("version", "state", "changed", "text", "payload")
    session.out.show(found, lambda: table(*names, rows=rows, empty="It has no versions."))


@command(app)
async def remember(
    session: Session,
    text: Annotated[str, typer.Argument(help="One statement, or - to read it from standard input.")],
    layer: Annotated[Layer, typer.Option()] = Layer.SEMANTIC,
    subject: Annotated[str | None, typer.Option(help="Whom it is about, for access and erasure.")] = None,
    episode: Annotated[str | None, typer.Option(help="The course of events that it is a part of.")] = None,
    fact: Annotated[str | None, typer.Option(help="ENTITY.ATTRIBUTE=VALUE, the same as data.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Such as private or untrusted.")] = None,
    importance: Annotated[float, typer.Option(min=0, max=1)] = 0.5,
    ttl: Annotated[float | None, typer.Option(help="Seconds until it is deleted.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="An anchor that hygiene leaves alone.")] = False,
) -> None:
    """Remember something, and say what became of it."""
    draft = Draft(
        text=sys.stdin.read() if text == "-" else text,
        layer=layer,
        subject=subject,
        episode=episode,
        fact=_fact(fact) if fact else None,
        labels=tuple(label or ()),
        importance=importance,
        ttl_seconds=ttl,
        pinned=pin,
    )
    async with session.client() as client:
        [told] = await client.memory.remember([draft])
    session.out.show(told, lambda: _remembered(told))


@command(app)
async def revise(
    session: Session,
    record: Id,
    text: Annotated[str | None, typer.Option(help="What it should say.")] = None,
    importance: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    confidence: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    version: Annotated[int | None, typer.Option(help="The version you saw. Any other is refused.")] = None,
) -> None:
    """Correct a record. Its earlier version is kept."""
    change = Change(text=text, importance=importance, confidence=confidence)
    if change == Change():
        raise InvalidInput("say what to change: --text, --importance or --confidence")
    async with session.client() as client:
        seen = version or (await client.memory.get(record)).version
        revised = await client.memory.revise(record, change, version=seen)
    session.out.show(revised, lambda: f"{revised.id} is at version {revised.version}")


@command(app)
async def pin(
    session: Session,
    record: Id,
    off: Annotated[bool, typer.Option("--off", help="Take the pin out again.")] = False,
) -> None:
    """Make a record an anchor: never merged, evicted or summarised, and changed by people alone."""
    async with session.client() as client:
        found = await client.memory.pin(record, pinned=not off)
    session.out.show(found, lambda: f"{found.id} is {'pinned' if found.pinned else 'not pinned'}")


@command(app)
async def forget(
    session: Session,
    records: Annotated[list[str], typer.Argument(help="Ids of the records.", metavar="RECORD...")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    yes: Yes = False,
) -> None:
    """Delete records for good, with what was derived from them."""
    async with session.client() as client:
        if not yes:
            _confirm(session, Group(*[_line(await client.memory.get(each)) for each in records]), "Forget for good?")
        certificate = await client.memory.forget(records, reason=reason)
    session.out.show(certificate, lambda: _certificate(certificate))


@command(app)
async def access(session: Session, subject: Subject) -> None:
    """Everything that is kept about a subject, as JSON, for the subject."""
    async with session.client() as client:
        told = await client.memory.tell("access", {"subject": subject})
    session.out.show(told, lambda: json_text(told, pretty=True))


@command(app)
async def erase(
    session: Session,
    subject: Subject,
    alias: Annotated[list[str] | None, typer.Option(help="A name or address to mask where others mention it.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Write the certificate into this file.")] = None,
    yes: Yes = False,
) -> None:
    """Delete everything about a subject for good, with what was derived from it, and certify it."""
    async with session.client() as client:
        if not yes:
            await _confirm_erasure(session, client.memory, subject)
        told = await client.memory.tell("erase", {"subject": subject, "aliases": alias or []})
    if certificate is not None:
        certificate.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    session.out.show(told, lambda: _certificate(Certificate.model_validate(told)))


@command(app)
async def redact(
    session: Session,
    pattern: Annotated[str | None, typer.Argument(help="A regular expression of RE2.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="secret, card, e-mail or phone, instead.")] = None,
    region: Annotated[str | None, typer.Option(help="Country of telephone numbers without a prefix: DE.")] = None,
    yes: Yes = False,
) -> None:
    """Mask something in every record, in every version, and in what was derived from it."""
    wanted = {"pattern": pattern, "kinds": kind or None, "region": region}
    if not yes:
        _confirm(session, Text(f"every {pattern or ', '.join(kind or ())} in the memory"), "Mask for good?")
    async with session.client() as client:
        told = await client.memory.tell("redact", {name: each for name, each in wanted.items() if each is not None})
    session.out.show(told, lambda: _certificate(Certificate.model_validate(told)))


@command(app)
async def audit(
    session: Session,
    stale_days: Annotated[float, typer.Option(help="Days after which an unconfirmed fact is doubtful.")] = 180,
    plot_: Annotated[Path | None, typer.Option("--plot", help="Draw it into this file: .png, .svg or .pdf.")] = None,
) -> None:
    """Score the memory: what is said twice, stale, orphaned, unsourced or contradictory."""
    async with session.client() as client:
        report = Report.model_validate(await client.memory.tell("audit", {"stale_days": stale_days}))
    if plot_ is not None:
        plot(report, plot_)
    session.out.show(report, lambda: _report(report))


@command(app)
async def export(
    session: Session,
    file: Annotated[Path | None, typer.Argument(help="Where to. Standard output when left out.")] = None,
) -> None:
    """Write every record that you may read, as JSON lines."""
    count = 0
    async with session.client() as client:
        with file.open("wb") if file else nullcontext(sys.stdout.buffer) as out:
            async for record in _everything(client.memory):
                out.write(orjson.dumps(record) + b"\n")
                count += 1
            out.flush()
    session.out.remark(f"{count} records" + (f" in {file}" if file else ""))


async def _everything(memory: BoundMemory) -> AsyncIterator[Mapping[str, Any]]:
    after = None
    while True:
        page = await memory.tell("export", {"limit": EXPORT_PAGE} | ({"after": after} if after else {}))
        for record in page["records"]:
            yield record
        if not (after := page["after"]):
            return


# Asking again


async def _confirm_erasure(session: Session, memory: BoundMemory, subject: str) -> None:
    told = await memory.tell("access", {"subject": subject})
    about = f"{len(told['records'])} records about {plain(subject)}, and {len(told['derived'])} derived from them"
    _confirm(session, Text(about), "Erase for good?")


def _confirm(session: Session, what: RenderableType, question: str) -> None:
    """Raises Ended when the person says no, or is not there."""
    session.out.remarks.print(what)
    if not session.out.remarks.is_terminal:
        session.out.remark("hanse: nobody is here to confirm. Add --yes", "red")
        raise Ended(Exit.USAGE)
    if not typer.confirm(question, err=True):
        session.out.remark("nothing was changed")
        raise Ended(Exit.REFUSED)


# Drawing


def _hits(hits: list[Hit]) -> RenderableType:
    rows = [[f"{hit.score:.2f}", hit.record.text, hit.why, hit.record.id] for hit in hits]
    return table("score", "text", "why", "record", rows=rows, empty="Nothing is remembered of that.")


def _line(record: Record) -> Text:
    return Text.assemble((record.id, "dim"), "  ", plain(record.text, 200))


def _record(record: Record) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for name, value in _facts(record):
        grid.add_row(Text(name, style="dim"), Text(plain(value)))
    return Group(Text(plain(record.text), style="bold"), grid)


def _facts(record: Record) -> list[tuple[str, str]]:
    """What there is to say of it, without what is empty."""
    source = record.provenance
    fact = record.fact
    about = {
        "id": record.id,
        "version": f"{record.version}, {record.state}{', pinned' if record.pinned else ''}",
        "layer": f"{record.layer}, {record.scope}{' ' + record.owner if record.owner else ''}",
        "subject": record.subject,
        "episode": f"{record.episode}, {record.position}" if record.episode else None,
        "fact": f"{fact.entity}.{fact.attribute} = {fact.value}" if fact else None,
        "payload": inline(record.payload, 400) if record.payload else None,
        "labels": ", ".join(record.labels),
        "weight": f"importance {record.importance:g}, confidence {record.confidence:g}",
        "known": f"since {_day(record.created_ms)}, changed {_day(record.updated_ms)}",
        "valid": f"until {_day(record.valid_to_ms)}" if record.valid_to_ms else None,
        "expires": _day(record.expires_ms) if record.expires_ms else None,
        "from": ", ".join(filter(None, (source.by, source.agent, source.task, source.step, source.document))),
        "model": source.model,
        "made of": ", ".join(source.derived_from),
    }
    return [(name, str(value)) for name, value in about.items() if value]


def _remembered(told: Remembered) -> str:
    why = f": {plain(told.reason)}" if told.reason else ""
    against = f"; contradicts {', '.join(told.contradicts)}" if told.contradicts else ""
    return f"{told.outcome} {told.record.id}{why}{against}"


def _certificate(made: Certificate) -> str:
    places = ", ".join(f"{count} {place}" for place, count in made.places.items())
    about = f" about {plain(made.subject)}" if made.subject else ""
    if made.pending:
        return (
            f"{len(made.records)} records{about} and {len(made.derived)} derived ones are forgotten, and still in a "
            f"file: {plain(made.pending)}. That is made up for, and certified then: "
            f"hanse memory certificates show {made.id}"
        )
    return (
        f"{len(made.records)} records{about} and {len(made.derived)} derived ones ({places or 'nothing'}), "
        f"certificate {made.id}, {made.digest}"
    )


def _report(report: Report) -> RenderableType:
    layers = ", ".join(f"{count} {layer}" for layer, count in report.layers.items() if count)
    head = (
        f"{report.records} live records ({layers or 'none'}), {report.quarantined} quarantined, {report.pinned} pinned"
    )
    grid = Table.grid(padding=(0, 2))
    for finding in report.findings:
        count = f"{finding.count} of {finding.of}"
        grid.add_row(Text(finding.name), bar(round(1000 * finding.share), 1000, 30), Text(count, style="dim"))
        for example in finding.examples:
            grid.add_row("", Text(plain(example.why), style="dim"), Text(", ".join(example.ids), style="dim"))
    return Group(Text(f"score {report.score:g} of 100", style="bold"), Text(head), grid)


def _day(at_ms: int) -> str:
    return timestamp(at_ms).replace("T", " ").partition(".")[0]


def _fact(text: str) -> Fact:
    """`order 17.status=shipped`. A value that is JSON of a number or a boolean is one."""
    left, equals, value = text.partition("=")
    entity, dot, attribute = left.rpartition(".")
    if not (equals and dot and entity.strip() and attribute.strip()):
        raise InvalidInput(f"{text!r} is no fact. Write ENTITY.ATTRIBUTE=VALUE", pointer="/fact")
    return Fact(entity=entity.strip(), attribute=attribute.strip(), value=_value(value))


def _value(text: str) -> str | bool | int | float:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text
