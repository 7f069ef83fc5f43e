"""The audit of one journal: its hash chain from the genesis, its Merkle tree, and what was kept of both elsewhere."""

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

from ...contracts import AuditReport, Corrupt, Event, Kind
from ...contracts.wire import decode_event
from ..journal import GENESIS
from .head import Head
from .merkle import Tree, leaf_hash
from .readable import Readable
from .stones import Stones, is_stone, leaf_of
from .tasks import WATCHED, TaskTable

PAGE = 5000

_Row = tuple[int, str | None, bytes, bytes]


class Audit:
    """Recomputes the chain from its genesis, page by page: `read_on` until it says that there is no more.

    Finds any edit, deletion, insertion and reordering of entries, an entry of a lower epoch after a higher one, and an
    entry that is filed under another task than its own. What is missing at the end, and a journal that was written
    anew from its beginning, only show against `known` heads that were kept elsewhere: all of them must be in it.

    Of an entry that was compacted away only hashes are left (`stones`). That they are the right ones is shown by the
    journal's own record of the compaction, which stands in the chain, and by every head with a root.
    """

    def __init__(
        self, store: Readable, known: Iterable[Head] = (), *, has_subtrees: bool = False, has_tasks: bool = False
    ) -> None:
        """The store may keep roots of subtrees, and a table of tasks: they must be what the journal says. The table
        can only be compared by an audit that goes on to the journal's end.
        """
        self._store = store
        self._known = _by_sequence(known)
        self._last_known = max(self._known, default=0)
        self._epoch = 0
        self._started = time.perf_counter()
        self._tree = Tree(on_subtree=self._check_subtree if has_subtrees else lambda level, number, root: None)
        self._leaves: list[bytes] = []
        self._stones = Stones()
        self._tasks = TaskTable(store) if has_tasks else None
        self._compaction: Mapping[str, Any] = {}
        self.entries = 0
        self.head = GENESIS
        self.problems: list[str] = []

    def read_on(self, limit: int = PAGE) -> bool:
        """Checks up to `limit` entries. Whether there may be more."""
        rows = self._store.read("chain", (self.entries, limit))
        for row in rows:
            if problem := self._problem(row):
                self.problems.append(problem)
                return False
        self._grow()
        if not rows:
            self._find_end()
        return bool(rows) and not self.problems

    @property
    def root(self) -> bytes:
        """Of the tree of the entries so far."""
        self._grow()
        return self._tree.root

    def report(self) -> AuditReport:
        """What was found. At the journal's end, for that is where its record of compactions is complete."""
        problems = self.problems or self._problems_with_stones()
        return AuditReport(
            ok=not problems,
            entries=self.entries,
            head=self.head.hex(),
            problems=problems,
            seconds=round(time.perf_counter() - self._started, 3),
            compacted=self._stones.count,
        )

    def _problems_with_stones(self) -> list[str]:
        recorded, digest = self._compaction.get("entries", 0), self._compaction.get("digest", Stones().digest)
        if (recorded, digest) == (self._stones.count, self._stones.digest):
            return []
        return [
            f"{self._stones.count} entries are without payload, and these are not the {recorded} that the journal's "
            "own record of its compactions names"
        ]

    def _find_end(self) -> None:
        if self.entries < self._last_known:
            self.problems.append(f"the journal ends at entry {self.entries}, and there was an entry {self._last_known}")

        elif self._tasks and (problem := self._tasks.problem_at_end()):
            self.problems.append(problem)

    def _grow(self) -> None:
        self._tree.extend(self._leaves)
        self._leaves.clear()

    def _problem(self, row: _Row) -> str:
        number, task, entry, recorded = row
        if number != self.entries + 1:
            return f"entry {self.entries + 1} is missing: the next one is {number}"
        if type(entry) is not bytes or type(recorded) is not bytes:
            return f"entry {number} was changed: it is not made of bytes"
        problem = (
            self._problem_of_stone(row) if is_stone(entry) else self._problem_within(number, task, entry, recorded)
        )
        self.entries = number
        return problem or (self._problem_with_known(number) if number in self._known else "")

    def _problem_within(self, number: int, task: str | None, entry: bytes, recorded: bytes) -> str:
        self.head = sha256(self.head + entry).digest()
        self._leaves.append(leaf_hash(entry))
        if self.head != recorded:
            return f"entry {number} was changed: its bytes do not give its hash"
        try:
            event = decode_event(entry)
        except Corrupt as error:
            return f"entry {number} cannot be read: {error.detail}"
        return self._problem_of_event(number, task, event)

    def _problem_of_event(self, number: int, task: str | None, event: Event) -> str:
        below, self._epoch = event.epoch < self._epoch, event.epoch
        if event.kind is Kind.JOURNAL_COMPACTED:
            self._compaction = event.data
        if event.sequence != number:
            return f"entry {number} says it is {event.sequence}"
        if event.task != task:
            return f"entry {number} is about task {event.task} and filed under {task}"
        if below:
            return f"entry {number} is from epoch {event.epoch}, after a higher one"
        return self._tasks.problem(event) if self._tasks and event.kind in WATCHED else ""

    def _problem_of_stone(self, row: _Row) -> str:
        """Its hash is proved by the entry behind it, and all of them by the record of the compaction."""
        number, task, entry, self.head = row
        self._leaves.append(leaf_of(entry))
        self._stones.add(number, entry, self.head)
        return f"entry {number} has no payload and is filed under {task}" if task is not None else ""

    def _problem_with_known(self, number: int) -> str:
        for head in self._known[number]:
            if head.hash != self.head or (head.root is not None and head.root != self.root):
                return f"entry {number} is not the one that was written: somebody has written the journal anew"
        return ""

    def _check_subtree(self, level: int, number: int, root: bytes) -> None:
        for (kept,) in self._store.read("subtree", (level, number)):
            if kept != root:
                self.problems.append(f"the kept root of subtree {number} of level {level} is not that of its entries")


def verify(store: Readable, *, progress: Callable[[int], None] | None = None) -> AuditReport:
    """The whole audit at once."""
    audit = Audit(store)
    while audit.read_on():
        if progress:
            progress(audit.entries)
    return audit.report()


def _by_sequence(known: Iterable[Head]) -> dict[int, list[Head]]:
    found: dict[int, list[Head]] = {}
    for head in known:
        found.setdefault(head.sequence, []).append(head)
    found.pop(0, None)  # of an empty journal: any journal begins like that
    return found
