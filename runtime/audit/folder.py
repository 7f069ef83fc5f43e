"""The audit of a data folder with no federation running: every store in it that keeps a journal, from its genesis.

It reads files and nothing else, so it also works on a copy, on another machine, and for somebody who trusts nobody
here. What was cut off at the end of a journal, and a journal that was written anew, can only be seen by whoever kept
heads: `anchors` hold them.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...contracts import AuditReport, HanseError, InvalidInput, NotFound
from ...contracts.ids import coordinator_name, shard_named
from ..journal import GENESIS
from ..store.place import Place, Reader, place_of
from .chain import Audit
from .head import Head

Progress = Callable[[str, int, int], None]
"""Takes a journal's name, how many of its entries were checked, and how many there are."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One journal."""

    journal: str
    """The name of its store."""
    report: AuditReport

    @property
    def head(self) -> str:
        """As `Head.parse` takes it."""
        return f"{self.journal}:{self.report.entries}:{self.report.head}"


def audit(data: Path, kept: Iterable[Head] = (), progress: Progress = lambda *_: None) -> list[Audited]:
    """Every journal in a data folder, and those that heads name and that are not there.

    Raises NotFound where there is none, InvalidInput for a head that does not say of which it is.
    """
    heads, place = list(kept), place_of(data)
    names = journals(place)
    if not names:
        raise NotFound(f"there is no journal in {data}. Say where one is: --data", data=str(data))
    names += dict.fromkeys(name for head in heads if (name := _gone(head, names)))
    known = _assigned(heads, names)
    return [Audited(name, _audited(place, name, known.get(name, []), progress)) for name in names]


def journals(place: Place) -> list[str]:
    """The stores with a journal. One that cannot be read, or is missing, is among them: somebody must say so."""
    found = [name for name in place.names() if _counts(place, name)]
    return found + _gaps(found)


def shards(place: Place) -> list[str]:
    """The coordinators' journals."""
    return [name for name in journals(place) if shard_named(name) is not None]


def _counts(place: Place, name: str) -> bool:
    try:
        with closing(place.reader(name, "journal")) as store:
            return store.has("journal")
    except HanseError:
        return True


def _gaps(names: Iterable[str]) -> list[str]:
    """Shards are numbered from 0: one that is missing below another one was there."""
    there = {shard for name in names if (shard := shard_named(name)) is not None}
    return [coordinator_name(number) for number in range(max(there, default=0)) if number not in there]


def _gone(head: Head, names: Sequence[str]) -> str:
    """A coordinator's journal that is not there. Any other unknown name is a slip of whoever wrote it."""
    name = head.journal or ""
    return name if name not in names and shard_named(name) is not None else ""


def _assigned(kept: Iterable[Head], names: Sequence[str]) -> dict[str, list[Head]]:
    found: dict[str, list[Head]] = {}
    for head in kept:
        found.setdefault(_meant(head, names), []).append(head)
    return found


def _meant(head: Head, names: Sequence[str]) -> str:
    """A head without a name is the coordinator's, where there is only one."""
    shards = [name for name in names if shard_named(name) is not None]
    name = head.journal or (shards[0] if len(shards) == 1 else "")
    if name not in names:
        raise InvalidInput(f"which journal is the head of? Write JOURNAL:{head.sequence}:…, one of {', '.join(names)}")
    return name


def _audited(place: Place, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    if name not in place.names():
        return _unreadable("it is missing: journals of higher numbers are there, or heads of it were kept")
    try:
        with closing(place.reader(name, "journal")) as store:
            return _checked(store, name, kept, progress)
    except HanseError as error:
        return _unreadable(error.detail)


def _checked(store: Reader, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    """The chain, and whether the database's pages and indexes fit it: a task is found by an index, not by the chain."""
    report = _chained(store, name, kept, progress)
    problems = [] if report.problems else store.problems()
    return report.model_copy(update={"ok": False, "problems": problems}) if problems else report


def _chained(store: Reader, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    audit = Audit(store, kept, has_subtrees=store.has("subtree"), has_tasks=store.has("task"))
    last = store.read("head")
    expected = last[0][0] if last else 0
    progress(name, 0, expected)
    while audit.read_on():
        progress(name, audit.entries, expected)
    return audit.report()


def _unreadable(why: str) -> AuditReport:
    return AuditReport(ok=False, entries=0, head=GENESIS.hex(), problems=[why])
