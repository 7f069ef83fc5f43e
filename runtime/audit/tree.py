"""The Merkle tree of a stored journal: roots of complete subtrees from the store, the rest from the entries."""

from itertools import takewhile

from .merkle import TILE, TILE_BITS, Tree, parents, peaks_of
from .readable import Readable
from .stones import leaf_of

_TILES = 64


class StoredNodes:
    """Keeps the `Nodes` port over a journal as it is now; a longer journal needs another one.

    A node costs at most a tile for each eight levels: 256 entries, then 256 kept roots. What is not kept is computed.
    """

    def __init__(self, store: Readable, *, has_subtrees: bool = True) -> None:
        self._store = store
        self._has_subtrees = has_subtrees
        self._tiles: dict[tuple[int, int], list[list[bytes]]] = {}

    def node(self, level: int, number: int) -> bytes:
        height = level % TILE_BITS
        rows = self._tile(level - height, number >> TILE_BITS - height)
        return rows[height][number & (TILE >> height) - 1]

    def _tile(self, base: int, number: int) -> list[list[bytes]]:
        """The rows of a tile from its lowest nodes up, as far as they are complete."""
        if (base, number) not in self._tiles:
            rows = [self._lowest(base, number << TILE_BITS)]
            while len(rows[-1]) > 1:
                rows.append(parents(rows[-1]))
            if len(self._tiles) >= _TILES:
                self._tiles.pop(next(iter(self._tiles)))
            self._tiles[base, number] = rows
        return self._tiles[base, number]

    def _lowest(self, base: int, first: int) -> list[bytes]:
        if base == 0:
            return [leaf_of(entry) for _, _, entry, _ in self._store.read("chain", (first, TILE))]
        found = self._kept(base, first)
        for number in range(first + len(found), first + TILE):
            rows = self._tile(base - TILE_BITS, number)
            if len(rows) <= TILE_BITS:
                break
            found.append(rows[TILE_BITS][0])
        return found

    def _kept(self, level: int, first: int) -> list[bytes]:
        if not self._has_subtrees:
            return []
        rows = self._store.read("subtrees", (level, first, first + TILE - 1))
        there = takewhile(lambda pair: pair[0] == pair[1][0], enumerate(rows, first))
        return [root for _, (_, root) in there]


def kept_size(store: Readable) -> int:
    """How many of a journal's entries, from its first on, lie in tiles whose roots are kept."""
    ((count,),) = store.read("subtree_count", (TILE_BITS,))
    return count << TILE_BITS


def kept_tree(store: Readable) -> Tree:
    """The tree of the entries whose tiles are kept; the others must still be added."""
    size = kept_size(store)
    return Tree(size, peaks_of(StoredNodes(store), size))
