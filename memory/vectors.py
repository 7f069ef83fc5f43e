"""Vectors of one tenant in FAISS: compared one by one while they are few, along a graph (HNSW) when they are many.

    put ──> generation: the vectors, the graph over them, which row each belongs to
    many, or many gone ──> another generation is made in the background ──> takes the place of the first in one step

A vector that was removed stays in its generation until the next one, but no search can return it: the selector that
every search carries lets live rows through and nothing else. A filter is the same selector with fewer rows; one that
leaves few is answered by comparing those few.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..contracts import InvalidInput
from .column import Column
from .recent import Recent

if TYPE_CHECKING:
    from numpy import bool_, float32, int32, uint8
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

CHUNK = 512
"""Vectors that a generation in the making takes at once, while the index is locked for copying them."""
BEHIND = 16
"""Vectors that it may lack when it takes over; adding these is the longest that anybody waits."""


@dataclass(frozen=True, slots=True)
class VectorSettings:
    graph_from: int = 10_000
    """Vectors from which on there is a graph."""
    exact_up_to: int = 10_000
    """Vectors that a filter may leave over for all of them to be compared."""
    links: int = 24
    """Of each vector in the graph (HNSW's M)."""
    build_width: int = 64
    """Candidates for a vector's links (efConstruction)."""
    search_width: int = 320
    """Candidates of a search (efSearch), or twice the number of those asked for."""
    dead_share: float = 0.3
    """Share of removed vectors at which a new generation is made."""
    dead_least: int = 512
    """As many must have been removed at least."""
    threads: int = 1
    """Of one search or one addition. Searches of different tenants run beside one another."""


def in_background(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="hanse-vectors", daemon=True).start()


class VectorIndex:
    """Rows are numbered by whoever calls; each is put once. Safe to call from several threads."""

    def __init__(
        self,
        dimensions: int,
        settings: VectorSettings = VectorSettings(),
        start: Callable[[Callable[[], None]], Any] = in_background,
    ) -> None:
        self.dimensions = dimensions
        self._settings, self._start = settings, start
        self._lock = threading.RLock()
        self._labels = Column(np.int32, -1)
        """Of each row: its place in the generation."""
        self._live = 0
        self._building = False
        self._now = _Generation(dimensions, settings, graph=False)

    def __len__(self) -> int:
        return self._live

    @property
    def building(self) -> bool:
        return self._building

    @property
    def has_graph(self) -> bool:
        return self._now.graph is not None

    def put(self, row: int, vector: "NDArray[float32]") -> None:
        """Raises InvalidInput for a vector of other dimensions or with numbers that are none."""
        checked = _checked(vector, self.dimensions)
        with self._lock:
            self._labels.reach(row + 1)
            self._labels.rows[row] = len(self._now)
            self._now.add(checked, np.array([row], np.int32))
            self._live += 1
        self._renew_when_due()

    def remove(self, row: int) -> None:
        with self._lock:
            if row >= len(self._labels) or (label := int(self._labels.rows[row])) < 0:
                return
            self._labels.rows[row] = -1
            self._now.drop(label)
            self._live -= 1
        self._renew_when_due()

    def search(
        self,
        query: "NDArray[float32]",
        limit: int,
        allowed: "NDArray[bool_] | None" = None,
        *,
        width: int | None = None,
    ) -> tuple["NDArray[int32]", "NDArray[float32]"]:
        """Rows and cosines of the nearest, best first. `allowed` says of each row whether it may be returned and is not
        changed afterwards, `width` how many candidates the graph keeps, where that is not what the settings say.
        """
        checked = _checked(query, self.dimensions)
        with self._lock:
            return self._now.search(checked, min(limit, self._live), allowed, self._live, width)

    def cosines(self, query: "NDArray[float32]", rows: "NDArray[int32]") -> "NDArray[float32]":
        """Exact; 0 for a row that has no vector."""
        # Not with BLAS, which wakes a thread for every core where one does it sooner.
        return np.einsum("ij,j->i", self.vectors(rows), _checked(query, self.dimensions)[0])

    def vectors(self, rows: "NDArray[int32]") -> "NDArray[float32]":
        """Shape (rows, dimensions); zeros for a row that has none, and for -1."""
        with self._lock:
            if not len(self._now):
                return np.zeros((len(rows), self.dimensions), np.float32)
            self._labels.reach(int(rows.max(initial=-1)) + 1)
            labels = np.where(rows < 0, np.int32(-1), self._labels.rows.take(rows))
            found = self._now.vectors.take(labels, axis=0)
        found[labels < 0] = 0
        return found

    def renumber(self, moved: "NDArray[int32]", count: int) -> None:
        """`moved` has the new number of each row, of which there are `count` then. Not while `building`."""
        with self._lock:
            self._now.renumber(moved)
            self._label(count)

    def renew(self) -> None:
        """Another generation, without what was removed. Returns when it has taken over."""
        settings = self._settings
        fresh, done = _Generation(self.dimensions, settings, graph=self._live >= settings.graph_from), 0
        while not self._take_over(fresh, done):
            done = self._copy(fresh, done, CHUNK)

    @property
    def nbytes(self) -> int:
        return self._now.nbytes + self._labels.nbytes

    def _renew_when_due(self) -> None:
        with self._lock:
            if self._building or not self._is_due():
                return
            self._building = True
        self._start(self._renew_safely)

    def _is_due(self) -> bool:
        settings, dead = self._settings, len(self._now) - self._live
        if self._now.graph is None and self._live >= settings.graph_from:
            return True
        return dead > max(settings.dead_least, settings.dead_share * len(self._now))

    def _renew_safely(self) -> None:
        try:
            self.renew()
        except (RuntimeError, MemoryError):
            log.exception("the old vectors go on answering", extra={"action": "vectors_not_renewed"})
        finally:
            self._building = False

    def _copy(self, fresh: "_Generation", done: int, count: int) -> int:
        """What lies from `done` on, as much as is taken at once. Only the copying holds the lock."""
        with self._lock:
            until = min(done + count, len(self._now))
            rows = self._now.rows.rows[done:until]
            kept = rows >= 0
            vectors, rows = self._now.vectors[done:until][kept], rows[kept].copy()
        fresh.add(vectors, rows)
        return until

    def _take_over(self, fresh: "_Generation", done: int) -> bool:
        with self._lock:
            if len(self._now) - done > BEHIND:
                return False
            self._copy(fresh, done, BEHIND)
            rows = fresh.rows.rows
            rows[self._labels.rows[rows] < 0] = -1  # removed since it was copied
            self._now = fresh
            self._label(len(self._labels))
            return True

    def _label(self, count: int) -> None:
        """The place of each row, from the row of each place."""
        rows = self._now.rows.rows
        labels = np.full(count, -1, np.int32)
        labels[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        self._labels = Column(np.int32, -1)
        self._labels.extend(labels)


class _Wanted(NamedTuple):
    """Which places of a generation a search may return, a bit each, and their number."""

    bits: "NDArray[uint8]"
    left: int


class _Generation:
    """Vectors, in the order of their coming."""

    def __init__(self, dimensions: int, settings: VectorSettings, *, graph: bool) -> None:
        import faiss

        faiss.omp_set_num_threads(settings.threads)  # of the calling thread
        self._faiss, self._settings, self._dimensions = faiss, settings, dimensions
        self.rows = Column(np.int32, -1)
        """Of each vector; -1 when it was removed."""
        self._wanted: Recent[_Wanted] = Recent()
        self.flat = faiss.IndexFlatIP(dimensions)
        self.graph = self._make_graph() if graph else None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def vectors(self) -> "NDArray[float32]":
        """A view, until the next addition."""
        shape = (self.flat.ntotal, self._dimensions)
        return self._faiss.rev_swig_ptr(self.flat.get_xb(), shape[0] * shape[1]).reshape(shape)

    def add(self, vectors: "NDArray[float32]", rows: "NDArray[int32]") -> None:
        if len(rows):
            (self.flat if self.graph is None else self.graph).add(np.ascontiguousarray(vectors))
            self.rows.extend(rows)
            self._wanted.clear()

    def drop(self, label: int) -> None:
        self.rows.rows[label] = -1
        self._wanted.clear()

    def renumber(self, moved: "NDArray[int32]") -> None:
        rows = self.rows.rows
        rows[rows >= 0] = moved[rows[rows >= 0]]
        self._wanted.clear()

    def search(
        self,
        query: "NDArray[float32]",
        limit: int,
        allowed: "NDArray[bool_] | None",
        live: int,
        width: int | None = None,
    ) -> tuple["NDArray[int32]", "NDArray[float32]"]:
        if limit <= 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        if allowed is None and live == len(self):
            return self._nearest(query, limit, None, live, width)
        bits, left = self._wanted.of(allowed, lambda: self._select(allowed))
        return self._nearest(query, limit, bits, left, width)

    def _select(self, allowed: "NDArray[bool_] | None") -> "_Wanted":
        wanted = self.rows.rows >= 0
        if allowed is not None:
            wanted &= allowed.take(self.rows.rows)
        return _Wanted(np.packbits(wanted, bitorder="little"), int(np.count_nonzero(wanted)))

    def _nearest(
        self, query: "NDArray[float32]", limit: int, bits: Any, left: int, width: int | None
    ) -> tuple["NDArray[int32]", "NDArray[float32]"]:
        """`bits` say which places may be returned; `left` is their number."""
        selector = None if bits is None else self._faiss.IDSelectorBitmap(bits)
        index, parameters = self._way(limit, left, selector, width or self._settings.search_width)
        cosines, labels = index.search(query, limit, params=parameters)
        found = labels[0] >= 0
        return self.rows.rows[labels[0][found]], cosines[0][found]

    def _way(self, limit: int, left: int, selector: Any, width: float) -> tuple[Any, Any]:
        """Along the graph, with more candidates the fewer of them may be returned; or one by one."""
        if self.graph is None or left <= self._settings.exact_up_to:
            return self.flat, None if selector is None else self._faiss.SearchParameters(sel=selector)
        width = max(width, 2 * limit) * (len(self) / left) ** 0.25
        return self.graph, self._faiss.SearchParametersHNSW(sel=selector, efSearch=int(width))

    def _make_graph(self) -> Any:
        """Over the same vectors, which are not kept twice."""
        graph = self._faiss.IndexHNSW(self.flat, self._settings.links)
        graph.hnsw.efConstruction = self._settings.build_width
        return graph

    @property
    def nbytes(self) -> int:
        links = 0 if self.graph is None else 8 * self._settings.links * len(self)
        return 4 * self.flat.ntotal * self._dimensions + links + self.rows.nbytes


def _checked(vector: "NDArray[float32]", dimensions: int) -> "NDArray[float32]":
    """As one row."""
    row = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
    if row.shape[1] != dimensions:
        raise InvalidInput(f"a vector has {dimensions} numbers here, and this one has {row.shape[1]}")
    if not np.isfinite(row).all():
        raise InvalidInput("a vector holds finite numbers, and this one holds others")
    return row
