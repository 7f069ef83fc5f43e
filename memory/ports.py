"""What the parts of the memory are to one another: one tenant's index, the gate before it, the packing behind it.

A record has a number while its tenant is open: a small integer that the shelf gives, never twice. The tables answer
filters with numbers, and the index looks them up, because fifty thousand texts cannot be handed over in a millisecond.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ..contracts.caller import Caller
from ..contracts.memory import Change, Draft, Hit, Query, Recollection, Record

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray


class Scored(NamedTuple):
    """What the index says of one record. `parts` is what each ingredient gave; `vector` there is the cosine."""

    id: str
    score: float
    parts: Mapping[str, float]


class Allowed(Collection[str]):
    """The records that a query may find: a collection of ids that also has their numbers."""

    def __init__(self, numbers: "NDArray[int64]", ids: Callable[[], Collection[str]]) -> None:
        self.numbers = numbers
        """Sorted, each once."""
        self._read = ids
        self._ids: frozenset[str] | None = None

    @property
    def ids(self) -> frozenset[str]:
        """Slow for many: reads texts. Prefer `numbers`."""
        if self._ids is None:
            self._ids = frozenset(self._read())
        return self._ids

    def __contains__(self, id: object) -> bool:
        return id in self.ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.numbers)


class Index(Protocol):
    """One tenant's hybrid index in memory: a projection of the log, of live and quarantined records.

    One thread at a time calls it; `near` and `vectors` also beside a `search`, which changes nothing either.
    """

    def put(self, record: Record, vector: "NDArray[float32] | None", number: int) -> None:
        """Adds or replaces. Idempotent. A record that is put again has a new number."""
        ...

    def remove(self, ids: Iterable[str]) -> None:
        """Unknown ids are passed over."""
        ...

    def search(
        self, query: Query, vector: "NDArray[float32] | None", allowed: Allowed | None, now_ms: int
    ) -> list[Scored]:
        """The best first, enough of them for `query.limit` after diversity. `allowed` None allows everything."""
        ...

    def near(self, text: str, vector: "NDArray[float32] | None", limit: int) -> list[Scored]:
        """The most similar, for the gate: cheap, with the cosine in `parts["vector"]` where there is one."""
        ...

    def listen(self) -> None:
        """From here on `may_say` knows. Called before anything is put, where a gate is going to ask."""
        ...

    def may_say(self, keys: Collection[str]) -> bool:
        """Whether some record may have all of these keys (`Wording.keys`): never no where one has."""
        ...

    def vectors(self, ids: Iterable[str]) -> "NDArray[float32]":
        """Shape (ids, dimensions); zeros for those that have none."""
        ...

    def ids(self) -> set[str]: ...


MakeIndex = Callable[[int], Index]
"""An empty index for vectors of so many dimensions."""


class Recollect(Protocol):
    """`recall.recollect`: what was found, made into an answer: diversity, token budget, `why`."""

    def __call__(
        self, query: Query, scored: Sequence[Scored], records: Mapping[str, Record], index: Index, *, now_ms: int
    ) -> Recollection: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says to a draft."""

    outcome: Literal["stored", "merged", "quarantined", "echo"] = "stored"
    reason: str = ""
    target: str | None = None
    """The record that the draft is merged into, or that it echoes."""
    contradicts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Added to the draft's, such as those of the record that it echoes."""
    change: Change | None = None
    """What merging changes in the target; None leaves it as it is."""
    ends: Mapping[str, Change] = field(default_factory=dict[str, Change])
    """What else changes when the draft is stored, by id: facts that hold until it begins to."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What similar records would tell about a draft, so that nobody searches for them in vain."""

    keys: frozenset[str] = frozenset()
    """Those that say the same have all of these (`Wording.keys`). Without any, everything may say the same."""
    aside: bool = False
    """Those in quarantine say something, too."""


class Gate(Protocol):
    """Decides what is kept. Pure: what it needs to know is handed to it."""

    def seeks(self, draft: Draft) -> Sought:
        """Which similar records it has to be handed to judge this draft. The others change nothing."""
        ...

    def judge(
        self,
        draft: Draft,
        caller: Caller,
        near: Sequence[Hit],
        recalled_lately: Sequence[Record],
        facts: Sequence[Record],
    ) -> Decision:
        """`near` are the most similar live records that the caller may read, with the cosine in `parts["vector"]`;
        `recalled_lately` what this tenant was given lately, as far as the draft may come from it; `facts` live ones of
        the same entity and attribute.
        """
        ...


@dataclass(frozen=True, slots=True)
class Erasure:
    """What has to be done for some records to be gone, with everything of them in what was derived from them."""

    delete: tuple[str, ...] = ()
    """What was asked for."""
    derived: tuple[str, ...] = ()
    """What goes with it, because it was derived from it; none of them is in `delete`."""
    rewrite: Mapping[str, Record] = field(default_factory=dict[str, Record])
    """Derived records that stay, with what is left of them. All their earlier versions go."""
    traces: tuple[str, ...] = ()
    """Subjects, and records that had gone before, by time or for want of room, through which the derived ones were
    found. That they once were between them need not be known any more."""

    @staticmethod
    def of(
        asked: Sequence[str], derived: Sequence[str], graph: "Graph", rewrite: Mapping[str, Record] | None = None
    ) -> "Erasure":
        """Of those that are there what goes, of those that have gone before the traces."""
        here = {id for id in (*asked, *derived) if graph.record(id) is not None}
        return Erasure(
            delete=tuple(id for id in asked if id in here),
            derived=tuple(id for id in derived if id in here),
            rewrite=rewrite or {},
            traces=tuple(id for id in (*asked, *derived) if id not in here),
        )


def together(erasures: "Iterable[Erasure]") -> Erasure:
    """All of them as one. None touches what another deletes."""
    every = list(erasures)
    return Erasure(
        delete=tuple(id for each in every for id in each.delete),
        derived=tuple(id for each in every for id in each.derived),
        rewrite={id: record for each in every for id, record in each.rewrite.items()},
        traces=tuple(id for each in every for id in each.traces),
    )


class Graph(Protocol):
    """The records of a tenant and what was derived from what, for whoever plans an erasure."""

    def record(self, id: str) -> Record | None: ...

    def derived_from(self, id: str) -> list[str]:
        """Ids of records of which any version names `id` as a source, also of some that have gone: then `record` is
        None, and what was derived from them is found by asking on."""
        ...


PlanErasure = Callable[[Sequence[str], Graph], Erasure]
"""`erasure.plan`: pure."""


class Scrubber(Protocol):
    """A store that can get rid of what was deleted from it, as far as files go."""

    def scrub(self) -> Awaitable[None]:
        """What was deleted is in no file of the store any more: pages are overwritten, the log is cut off."""
        ...

    def compact(self) -> Awaitable[None]:
        """The same, by writing the file anew, which also gives its room back. Takes as long as the file is large."""
        ...
