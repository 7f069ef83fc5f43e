"""`hanse audit verify` with no federation: finds the data folder, reads the journals in it, and draws what came out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ...contracts import InvalidInput, JsonObject, Unavailable
from .. import audit
from .command import Session
from .output import Output
from .reach import folders
from .text import duration


def found(session: Session, absent: Unavailable | None = None) -> Path:
    """The data folder that the command is about.

    Raises InvalidInput when there are several, and `absent`, the reason why no federation answers, when there is none.
    """
    known = list(folders(session.options))
    held = [folder for folder in known if audit.journals(folder)]
    if len(held) > 1:
        raise InvalidInput(f"there are journals in {', '.join(map(str, held))}. Say which with --data")
    if not held and absent is not None and session.options.data is None:
        raise absent
    return (held or known)[0]


def read(out: Output, data: Path, heads: Sequence[str]) -> JsonObject:
    """What an audit of the folder found, with the fields of an AuditReport, and each journal for itself."""
    kept = [audit.Head.parse(text) for text in heads]
    with _bars(out) as progress:
        audited = audit.audit(data, kept, progress)
    return {
        "ok": all(each.report.ok for each in audited),
        "entries": sum(each.report.entries for each in audited),
        "head": " ".join(each.head for each in audited),
        "problems": [f"{each.journal}: {problem}" for each in audited for problem in each.report.problems],
        "seconds": round(sum(each.report.seconds for each in audited), 3),
        "data": str(data),
        "journals": [each.report.model_dump() | {"journal": each.journal, "head": each.head} for each in audited],
    }


def drawn(report: JsonObject) -> str:
    """A line for each journal."""
    return "\n".join(_line(each) for each in report["journals"])


def _line(journal: JsonObject) -> str:
    verdict = "unbroken" if journal["ok"] else "BROKEN"
    return (
        f"{journal['journal']}: {journal['entries']} entries, {verdict}, head {journal['head']}, "
        f"in {duration(journal['seconds'] * 1000)}"
    )


@contextmanager
def _bars(out: Output) -> Iterator[audit.Progress]:
    """A bar for each journal, for people only; gone when the result is there."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=out.remarks, transient=True, disable=not out.remarks.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def progress(journal: str, done: int, of: int) -> None:
            if journal not in known:
                known[journal] = bars.add_task(journal, total=of)
            bars.update(known[journal], completed=done)

        yield progress
