"""Ports: what the parts need from the world and from one another, with the guarantees they may rely on.

Time, randomness and storage come through here, so a whole federation can run on a simulated clock and disk and any
failure can be replayed from its seed.
"""

from asyncio import Future
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .events import Event, Kind
from .ids import Epoch, StepId, TaskId


class Clock(Protocol):
    """Wall time for people and deadlines. Never used to order events."""

    def now_ms(self) -> int:
        """Unix milliseconds. May jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start. Never goes back."""
        ...


class Entropy(Protocol):
    """Randomness for ids and jitter."""

    def bytes(self, count: int) -> bytes: ...

    def fraction(self) -> float:
        """In [0, 1)."""
        ...


class Write(NamedTuple):
    """One row for one named statement of a store's `.sql` file."""

    statement: str
    row: tuple[Any, ...]


class Store(Protocol):
    """The transactional truth. One process writes it; every writer has an epoch."""

    @property
    def epoch(self) -> Epoch:
        """Raised by one each time the store is opened for writing."""
        ...

    def commit(self, writes: Iterable[Write]) -> "Future[None]":
        """Atomic, and durable when the future resolves: on disk, not in a cache.

        Commits take effect in the order of the calls; many share one fsync. Within a commit the statements run in the
        order of the `.sql` file and the rows of one statement in the order given. Raises (through the future) Fenced
        when a higher epoch owns the store, StorageError when the disk refuses; after either nothing more is accepted,
        because what the disk holds is no longer known: close, reopen, recover.
        """
        ...

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a named query over what was committed. May block for a disk read, not for a commit."""
        ...

    async def close(self) -> None:
        """Waits for commits under way. Idempotent."""
        ...


class Recorder(Protocol):
    """A journal, as the parts outside the shell see it. Appending is immediate; `durable` says when it is on disk."""

    def append(self, kind: Kind, task: TaskId | None, step: StepId | None, data: Mapping[str, Any]) -> Event:
        """The event in its place. Raises TypeError for what is no plain data, and then nothing was appended."""
        ...

    def write(self, write: Write) -> None:
        """A row that belongs to the same commit as the events appended around it."""
        ...

    def durable(self) -> "Future[None]":
        """Done when everything appended and written so far is on disk. Raises StorageError when it never will be."""
        ...


class Faults(Protocol):
    """Named places where a test may stop the world. The default does nothing."""

    def reach(self, point: str) -> None: ...


class NoFaults:
    def reach(self, point: str) -> None:
        """Goes on."""
