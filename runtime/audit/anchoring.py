"""Hands the heads of one journal to its anchors, aside from its work.

    commit ──> committed(...)          counts, and keeps the entries' bytes for a moment; nothing waits for anything
                   │ 100 entries, or 10 seconds after the first that no anchor holds
                   ▼
               the tree grows, its root and the hash are signed ──> one line per anchor: sends, and after a failure
                                                                    tries again with the newest head

Only heads that are on disk are handed out, so after a power cut no anchor holds what the journal has not. A line that
is busy gets the newest head when it is free again: an anchor that is slow or away makes the stretch that nobody vouches
for longer, which status and log say, and costs no memory. Each head vouches for all entries before it.

At the start the last head that a file holds is compared: a journal that does not contain it was rolled back.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...contracts import AnchoringView, AnchorView, Clock, HanseError, Write
from ...contracts.events import timestamp
from ..journal import Journal
from .anchors import Anchor
from .head import SignedHead, Signer
from .merkle import Tree, leaf_hash
from .stones import leaf_of
from .tree import kept_tree

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STOP_SECONDS = 2.0
"""How long an orderly stop waits for the last head to be kept."""
_PAGE = 256
_MAX_FRESH = 512
"""Entries whose bytes wait in memory for the tree, which then takes them in: half a millisecond of work at most."""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who keeps the heads of a journal, and how often they are handed out, whichever comes first."""

    anchors: tuple[Anchor, ...] = ()
    every_entries: int = 100
    every_seconds: float = 10

    def of(self, journal: Journal, name: str, federation: str, root_key: bytes, clock: Clock) -> "Anchoring":
        """For one journal, by its name in the federation. Not started."""
        return Anchoring(journal, name, Signer(federation, root_key), self, clock)


class Anchoring:
    """Of one journal, on whose event loop all methods are called."""

    def __init__(self, journal: Journal, name: str, signer: Signer, witnesses: Witnesses, clock: Clock) -> None:
        self._journal = journal
        self._name = name
        self._signer = signer
        self._clock = clock
        self._witnesses = witnesses
        self._loop = asyncio.get_running_loop()
        self._lines = [_Line(anchor, self) for anchor in witnesses.anchors]
        self._sequence, self._hash = 0, b""
        self._tree = Tree()
        self._fresh: list[bytes] = []
        self._head: SignedHead | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_ready = False
        self._alarm = ""

    def start(self) -> None:
        """From the journal's end, before anything is appended. The tree is caught up aside."""
        self._sequence, self._hash = self._journal.sequence, self._journal.head
        self._journal.on_commit = self.committed
        self._starting = self._loop.create_task(self._start())

    async def stop(self) -> None:
        """Hands out the last head and waits for it, not for long."""
        if self._timer:
            self._timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                if self._starting:
                    await self._starting
                if self._is_ready:
                    await asyncio.gather(*(line.finish() for line in self._lines))
        for line in self._lines:
            await line.close()

    def committed(self, sequence: int, hash: bytes, entries: Sequence[bytes]) -> None:
        """These entries are on disk now, the last of them with this sequence and hash. It is part of each commit."""
        self._sequence, self._hash = sequence, hash
        self._fresh.extend(entries)
        if len(self._fresh) > _MAX_FRESH:
            self._grow()
        if self._is_ready:
            self._look()

    def view(self) -> AnchoringView:
        held = max((line.sequence for line in self._lines), default=0)
        return AnchoringView(
            journal=self._name,
            sequence=self._sequence,
            unanchored=self._sequence - held,
            anchors=[line.view() for line in self._lines],
            alarm=self._alarm,
        )

    @property
    def signer(self) -> Signer:
        return self._signer

    def held(self) -> SignedHead | None:
        """The newest head that an anchor holds, since the start."""
        return max((line.held for line in self._lines if line.held), key=lambda head: head.sequence, default=None)

    def head(self) -> SignedHead:
        """The newest one, signed. Once for all lines that want it."""
        if self._head is None or self._head.sequence != self._sequence:
            self._grow()
            now = self._clock.now_ms()
            self._head = self._signer.sign(self._name, self._sequence, self._hash, self._tree.root, now)
        return self._head

    @property
    def sequence(self) -> int:
        """Of the last entry on disk."""
        return self._sequence

    # The start

    async def _start(self) -> None:
        """Never breaks off the coordinator's: an anchor is a witness, not a condition."""
        try:
            await self._catch_up()
            for line in self._lines:
                self._compare(await line.last(self._name), line)
        except HanseError as error:
            self._raise_alarm(f"the tree of {self._name} cannot be made: {error.detail}")
            return
        self._is_ready = True
        self._look(at_once=True)

    async def _catch_up(self) -> None:
        """The kept roots first, then the entries behind them, page by page between other work."""
        self._tree = kept_tree(self._journal.store)
        self._tree.on_subtree = self._keep_subtree
        while self._missing:
            rows = self._journal.store.read("chain", (self._tree.size, min(_PAGE, self._missing)))
            self._tree.extend([leaf_of(entry) for _, _, entry, _ in rows])
            await asyncio.sleep(0)

    @property
    def _missing(self) -> int:
        """Entries that are neither in the tree nor on their way."""
        return self._sequence - len(self._fresh) - self._tree.size

    def _grow(self) -> None:
        if self._missing == 0:
            self._tree.extend(map(leaf_hash, self._fresh))
        self._fresh.clear()

    def _keep_subtree(self, level: int, number: int, root: bytes) -> None:
        self._journal.write(Write("keep_subtree", (level, number, root)))

    def _compare(self, last: SignedHead | None, line: "_Line") -> None:
        if last is None:
            return
        if last.sequence > self._sequence:
            found = f"ends at entry {self._sequence}"
        elif self._journal.store.read("hash_of", (last.sequence,)) != [(last.hash,)]:
            found = f"has another entry {last.sequence}"
        else:
            return
        self._raise_alarm(
            f"{line.name} holds a head of entry {last.sequence}, and {self._name} {found}: it was rolled back or "
            "written anew. Look with hanse audit verify; if you began anew on purpose, move the heads away"
        )

    def _raise_alarm(self, text: str) -> None:
        self._alarm = text
        _log.critical(text, extra={"action": "anchor.alarm"})

    # When to hand out

    def _look(self, *, at_once: bool = False) -> None:
        """Gives the newest head to every line that is free and due, and sees that somebody looks again."""
        behind = False
        for line in self._lines:
            wants = self._sequence - line.sequence
            if not line.busy and (self.is_due(line.sequence) or (at_once and wants)):
                line.send()
            behind = behind or wants > 0
        if behind and self._timer is None:
            self._timer = self._loop.call_later(self._witnesses.every_seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._look(at_once=True)

    def is_due(self, held: int) -> bool:
        """Whether so many entries are behind the last that is held that they want a head."""
        return self._sequence - held >= self._witnesses.every_entries


class _Line:
    """One anchor, and how it stands with it."""

    def __init__(self, anchor: Anchor, anchoring: Anchoring) -> None:
        self._anchor = anchor
        self._anchoring = anchoring
        self._task: asyncio.Task[None] | None = None
        self._error = ""
        self.held: SignedHead | None = None
        self.name = anchor.name

    @property
    def sequence(self) -> int:
        """Of the last entry that the anchor's head covers."""
        return self.held.sequence if self.held else 0

    @property
    def busy(self) -> bool:
        """Has one on its way."""
        return self._task is not None and not self._task.done()

    async def last(self, journal: str) -> SignedHead | None:
        """What it held before this start. One that cannot say so now will take the next head, or fail then."""
        with suppress(HanseError):
            return await self._anchor.last(journal)
        return None

    def send(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._deliver())

    async def finish(self) -> None:
        """Hands out the newest head, behind what is on its way."""
        await self._idle()
        if self.sequence < self._anchoring.sequence:
            self.send()
            await self._idle()

    async def _idle(self) -> None:
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._anchor.close()

    def view(self) -> AnchorView:
        at = timestamp(self.held.at_ms) if self.held else None
        return AnchorView(name=self.name, sequence=self.sequence, at=at, error=self._error)

    async def _deliver(self) -> None:
        """Until the anchor is not far behind: what came while a head was on its way may be due already."""
        while True:
            self.held, self._error = await self._taken(), ""
            if not self._anchoring.is_due(self.sequence):
                return

    async def _taken(self) -> SignedHead:
        """The head that the anchor has taken: each attempt hands over the newest."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            head = self._anchoring.head()
            try:
                await self._anchor.keep(head)
            except HanseError as error:
                self._failed(error.detail)
            except Exception as error:
                self._failed(f"{type(error).__name__}: {error}")
            else:
                return head
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _failed(self, why: str) -> None:
        self._error = why
        unanchored = self._anchoring.sequence - self.sequence
        _log.error("%s takes no head: %s", self.name, why, extra={"action": "anchor.failed", "unanchored": unanchored})
