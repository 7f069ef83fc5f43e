"""`hanse memory certificates`: what was erased, when and at whose word, and that nobody changed what says so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from ...contracts import InvalidInput
from ...contracts.events import timestamp
from ...contracts.memory import BoundMemory, Certificate
from ...memory.certificates import problems_of
from ..audit.head import read_key
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .text import plain

app = typer.Typer(help="The certificates of what was erased: signed, to be checked anywhere.", no_args_is_help=True)
PAGE = 500
_LOST = "the journal says that it was made, and it is not kept"


@command(app, "list")
async def list_(session: Session, limit: Annotated[int, typer.Option(min=1, max=1000)] = 100) -> None:
    """The certificates, the newest first."""
    async with session.client() as client:
        told = await client.memory.tell("certificates", {"limit": limit})
    found = [Certificate.model_validate(each) for each in told["certificates"]]
    rows = [[each.id, _day(each), each.by, each.subject or "", *_counts(each), each.reason] for each in found]
    names = ("certificate", "when", "by", "subject", "records", "derived", "reason")
    session.out.show(found, lambda: table(*names, rows=rows, empty="Nothing was erased."))


@command(app)
async def show(session: Session, certificate: Annotated[str, typer.Argument(metavar="CERTIFICATE")]) -> None:
    """One certificate as JSON, to be handed over."""
    async with session.client() as client:
        session.out.emit(await client.memory.tell("certificate", {"id": certificate}))


@command(app)
async def verify(
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(help="A certificate, or several. Those that the federation keeps when left out.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="The federation's public key, as hanse audit key prints it, or a file with it."),
    ] = None,
) -> None:
    """Check that certificates say what was signed, and that none which the journal knows is missing. For a file nothing
    else is needed, and no federation.

    Without --key it only shows that each fits the key that it names itself.
    """
    public = read_key(key) if key else None
    found = read(file) if file else [each async for each in _kept(session)]
    problems = {each.id: wrong for each in found if (wrong := problems_of(each, public))}
    if file is None:
        problems |= {id: [_LOST] for id in await _lost(session) if id not in problems}
    total = len(problems.keys() | {each.id for each in found})
    report = {"ok": not problems, "certificates": len(found), "problems": problems}
    session.out.show(report, lambda: f"{total - len(problems)} of {total} certificates hold")
    if key is None:
        session.out.remark("hanse: whose key it is was not checked: give it with --key", "yellow")
    for id, wrong in problems.items():
        session.out.remark(f"hanse: {plain(id)}: {plain('; '.join(wrong))}", "red")
    if problems:
        raise Ended(Exit.FAILED)


def read(file: Path) -> list[Certificate]:
    """The certificates in a file: one, with that of what was masked beside it, or several. Raises InvalidInput."""
    try:
        return [Certificate.model_validate(each) for each in _several(orjson.loads(file.read_bytes()))]
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise InvalidInput(f"{file} holds no certificate of erasure") from error


def _several(data: Any) -> list[Any]:
    if isinstance(data, dict):
        inside = data.get("certificates")
        return inside if isinstance(inside, list) else [data, *([data["masked"]] if data.get("masked") else [])]
    return data if isinstance(data, list) else [data]


async def _kept(session: Session) -> AsyncIterator[Certificate]:
    async with session.client() as client:
        memory: BoundMemory = client.memory
        before = None
        while True:
            page = (await memory.tell("certificates", {"limit": PAGE, "before": before}))["certificates"]
            for each in page:
                yield Certificate.model_validate(each)
            if len(page) < PAGE:
                return
            before = page[-1]["id"]


async def _lost(session: Session) -> list[str]:
    async with session.client() as client:
        memory: BoundMemory = client.memory
        return (await memory.tell("certificates", {"lost": True}))["lost"]


def _counts(made: Certificate) -> tuple[str, str]:
    return str(len(made.records)), str(len(made.derived))


def _day(made: Certificate) -> str:
    return timestamp(made.at_ms).replace("T", " ").partition(".")[0]
