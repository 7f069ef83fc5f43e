"""The audit of a data folder with no federation running: every store in it that keeps a journal, from its genesis.

It reads files and nothing else, so it also works on a copy, on another machine, and for somebody who trusts nobody
here. What was cut off at the end of a journal, and a journal that was written anew, can only be seen by whoever kept
heads: `anchors` hold them.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...contracts import AuditReport, HanseError, InvalidInput, NotFound
from ...contracts.ids import coordinator_name, shard_named
from ..journal import GENESIS
from ..store.reading import StoreReader
from .chain import Audit
from .head import Head

Progress = Callable[[str, int, int], None]
"""Takes a journal's name, how many of its entries were checked, and how many there are."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One journal."""

    journal: str
    """Its store's file, without the ending, seen from the data folder."""
    report: AuditReport

    @property
    def head(self) -> str:
        """As `Head.parse` takes it."""
        return f"{self.journal}:{self.report.entries}:{self.report.head}"


def audit(data: Path, kept: Iterable[Head] = (), progress: Progress = lambda *_: None) -> list[Audited]:
    """Every journal in a data folder, and those that heads name and that are not there.

    Raises NotFound where there is none, InvalidInput for a head that does not say of which it is.
    """
    heads = list(kept)
    names = journals(data)
    if not names:
        raise NotFound(f"there is no journal in {data}. Say where one is: --data", data=str(data))
    names |= {name: data / f"{name}.sqlite" for head in heads if (name := _gone(head, names))}
    known = _assigned(heads, names)
    return [Audited(name, _audited(path, name, known.get(name, []), progress)) for name, path in names.items()]


def journals(data: Path) -> dict[str, Path]:
    """The stores with a journal, by name. One that cannot be read is among them: somebody must say so."""
    found = {_name(data, path): path for path in sorted(data.rglob("*.sqlite")) if path.is_file() and _counts(path)}
    return found | {name: data / f"{name}.sqlite" for name in _gaps(found)}


def shards(data: Path) -> dict[str, Path]:
    """The coordinators' journals, by name."""
    return {name: path for name, path in journals(data).items() if shard_named(name) is not None}


def _name(data: Path, path: Path) -> str:
    return path.relative_to(data).with_suffix("").as_posix()


def _counts(path: Path) -> bool:
    try:
        with closing(StoreReader(path, "journal")) as store:
            return store.has("journal")
    except HanseError:
        return True


def _gaps(names: Iterable[str]) -> list[str]:
    """Shards are numbered from 0: one that is missing below another one was there."""
    there = {shard for name in names if (shard := shard_named(name)) is not None}
    return [coordinator_name(number) for number in range(max(there, default=0)) if number not in there]


def _gone(head: Head, names: Mapping[str, Path]) -> str:
    """A coordinator's journal that is not there. Any other unknown name is a slip of whoever wrote it."""
    name = head.journal or ""
    return name if name not in names and shard_named(name) is not None else ""


def _assigned(kept: Iterable[Head], names: Mapping[str, Path]) -> dict[str, list[Head]]:
    found: dict[str, list[Head]] = {}
    for head in kept:
        found.setdefault(_meant(head, names), []).append(head)
    return found


def _meant(head: Head, names: Mapping[str, Path]) -> str:
    """A head without a name is the coordinator's, where there is only one."""
    shards = [name for name in names if shard_named(name) is not None]
    name = head.journal or (shards[0] if len(shards) == 1 else "")
    if name not in names:
        raise InvalidInput(f"which journal is the head of? Write JOURNAL:{head.sequence}:…, one of {', '.join(names)}")
    return name


def _audited(path: Path, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    if not path.exists():
        return _unreadable("it is missing: journals of higher numbers are there, or heads of it were kept")
    try:
        with closing(StoreReader(path, "journal")) as store:
            return _checked(store, name, kept, progress)
    except HanseError as error:
        return _unreadable(error.detail)


def _checked(store: StoreReader, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    """The chain, and whether SQLite's pages and indexes fit it: a task is found by an index, not by the chain."""
    report = _chained(store, name, kept, progress)
    problems = [] if report.problems else store.problems()
    return report.model_copy(update={"ok": False, "problems": problems}) if problems else report


def _chained(store: StoreReader, name: str, kept: list[Head], progress: Progress) -> AuditReport:
    audit = Audit(store, kept, has_subtrees=store.has("subtree"), has_tasks=store.has("task"))
    last = store.read("head")
    expected = last[0][0] if last else 0
    progress(name, 0, expected)
    while audit.read_on():
        progress(name, audit.entries, expected)
    return audit.report()


def _unreadable(why: str) -> AuditReport:
    return AuditReport(ok=False, entries=0, head=GENESIS.hex(), problems=[why])
