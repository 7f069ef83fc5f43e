"""`hanse audit verify` with no federation: finds the data folder, reads the journals in it, and draws what came out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ...contracts import InvalidInput, JsonObject, NotFound, Unavailable
from .. import audit
from ..audit.anchors import Kept, read_anchors
from ..audit.head import Signer, read_key
from ..config import default_heads
from ..secret_key import known_key
from ..store.place import place_of
from .command import Session
from .output import Output
from .reach import folders
from .text import duration


def found(session: Session, absent: Unavailable | None = None) -> Path:
    """The data folder that the command is about.

    Raises InvalidInput when there are several, and `absent`, the reason why no federation answers, when there is none.
    """
    known = list(folders(session.options))
    held = [folder for folder in known if audit.journals(place_of(folder))]
    if len(held) > 1:
        raise InvalidInput(f"there are journals in {', '.join(map(str, held))}. Say which with --data")
    if not held and absent is not None and session.options.data is None:
        raise absent
    return (held or known)[0]


def read(
    out: Output, data: Path, heads: Sequence[str], anchors: Sequence[Path] | None = None, key: str | None = None
) -> JsonObject:
    """What an audit of the folder found, with the fields of an AuditReport, and each journal for itself."""
    kept = anchored(data, anchors, key)
    with _bars(out) as progress:
        audited = audit.audit(data, [*map(audit.Head.parse, heads), *(each.head for each in kept.heads)], progress)
    problems = [f"{each.journal}: {problem}" for each in audited for problem in each.report.problems]
    return {
        "ok": all(each.report.ok for each in audited) and not kept.problems,
        "entries": sum(each.report.entries for each in audited),
        "head": " ".join(each.head for each in audited),
        "problems": [*kept.problems, *problems],
        "seconds": round(sum(each.report.seconds for each in audited), 3),
        "compacted": sum(each.report.compacted for each in audited),
        "data": str(data),
        "anchored": {each.journal: _anchored_up_to(kept, each.journal) for each in audited},
        "journals": [each.report.model_dump() | {"journal": each.journal, "head": each.head} for each in audited],
    }


def anchored(data: Path, anchors: Sequence[Path] | None, key: str | None) -> Kept:
    """The heads in the files that were named, else in the one beside the data folder, where there is one."""
    files = [path for path in (default_heads(data),) if path.exists()] if anchors is None else anchors
    return read_anchors(files, read_key(key) if key else None, _own_key(data))


def public_key(data: Path) -> str:
    """In hex. Raises NotFound for a data folder that was never used."""
    if (key := _own_key(data)) is None:
        raise NotFound(f"there is no secret.key in {data}: no federation has run over it", data=str(data))
    return key.hex()


def _own_key(data: Path) -> bytes | None:
    secret = known_key(data)
    return None if secret is None else Signer("", secret).public


def _anchored_up_to(kept: Kept, journal: str) -> int:
    return max((head.sequence for head in kept.heads if head.journal == journal), default=0)


def drawn(report: JsonObject) -> str:
    """A line for each journal."""
    return "\n".join(_line(each, report["anchored"][each["journal"]]) for each in report["journals"])


def _line(journal: JsonObject, anchored_up_to: int) -> str:
    verdict = "unbroken" if journal["ok"] else "BROKEN"
    anchored = f", anchored up to entry {anchored_up_to}" if anchored_up_to else ""
    compacted = f"{journal['compacted']} of them compacted, " if journal["compacted"] else ""
    return (
        f"{journal['journal']}: {journal['entries']} entries, {compacted}{verdict}, head {journal['head']}"
        f"{anchored}, in {duration(journal['seconds'] * 1000)}"
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
