"""Merkle trees over the entries of a journal: what is one of them can be shown without showing the others.

Hashes, trees and both kinds of proof are those of RFC 9162 section 2.1 (the same as RFC 6962 section 2.1) with SHA-256:
a leaf is H(0x00 || entry), a node H(0x01 || left || right), and a tree of n leaves splits at the largest power of two
below n. Leaves are numbered from 0, so entry `sequence` is leaf `sequence - 1`.

Nothing here reads a store: a `Nodes` gives the roots of complete subtrees, from wherever they are kept.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Protocol

EMPTY = sha256(b"").digest()
"""Root of a tree without leaves."""
TILE_BITS = 8
TILE = 1 << TILE_BITS
"""Leaves of a subtree whose root is kept; of its 256 neighbours' roots again, and so on: 32 bytes for 256 entries."""

OnSubtree = Callable[[int, int, bytes], None]
"""Takes level, number and root of a complete subtree: `number << level` is its first leaf. Levels are 8, 16, 24, …"""


class Nodes(Protocol):
    """The roots of complete subtrees."""

    def node(self, level: int, number: int) -> bytes:
        """Root of the `2**level` leaves from leaf `number << level` on. Raises LookupError when they are not there."""
        ...


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows. Of whole tiles it holds one root for each bit of their number, and of the last one the leaves.

    So a leaf costs no more than two hashes, one of them when its tile is whole; a root costs those of the last tile.
    """

    def __init__(
        self, size: int = 0, peaks: Iterable[bytes] = (), on_subtree: OnSubtree = lambda level, number, root: None
    ) -> None:
        """`peaks` are the roots of the complete subtrees that `size` leaves, whole tiles, fall into, largest first."""
        assert size % TILE == 0, "begins with whole tiles"
        self.on_subtree = on_subtree
        self._tiles = size >> TILE_BITS
        self._peaks = list(peaks)
        self._tail: list[bytes] = []

    @property
    def size(self) -> int:
        return (self._tiles << TILE_BITS) + len(self._tail)

    @property
    def root(self) -> bytes:
        parts = [*self._peaks, _root_of_row(self._tail)] if self._tail else list(self._peaks)
        root = parts.pop() if parts else EMPTY
        while parts:
            root = node_hash(parts.pop(), root)
        return root

    def extend(self, leaves: Iterable[bytes]) -> None:
        """More leaves, in order."""
        self._tail.extend(leaves)
        whole = len(self._tail) // TILE * TILE
        for at in range(0, whole, TILE):
            self._push(_root_of_row(self._tail[at : at + TILE]))
        del self._tail[:whole]

    def _push(self, root: bytes) -> None:
        """The root of the next tile."""
        level, number = TILE_BITS, self._tiles
        self._tiles += 1
        self.on_subtree(level, number, root)
        while number & 1:
            root = node_hash(self._peaks.pop(), root)
            level, number = level + 1, number >> 1
            if level % TILE_BITS == 0:
                self.on_subtree(level, number, root)
        self._peaks.append(root)


def peaks_of(nodes: Nodes, size: int) -> list[bytes]:
    """As a Tree takes them."""
    levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
    return [nodes.node(level, (size >> level) - 1) for level in levels]


def root_of(nodes: Nodes, size: int) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return _subtree(nodes, 0, size)


def inclusion(nodes: Nodes, leaf: int, size: int) -> list[bytes]:
    """The audit path of a leaf in the tree of the first `size` leaves (RFC 9162 section 2.1.3.1).

    Raises ValueError for a leaf that is not in it.
    """
    if not 0 <= leaf < size:
        raise ValueError(f"leaf {leaf} is not in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if leaf < middle:
            path.append(_subtree(nodes, middle, end))
            end = middle
        else:
            path.append(_subtree(nodes, begin, middle))
            begin = middle
    return path[::-1]


def consistency(nodes: Nodes, old: int, new: int) -> list[bytes]:
    """Proof that the tree of `new` leaves only adds to that of `old` (RFC 9162 section 2.1.4.1).

    Raises ValueError unless 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from {old} leaves to {new}")
    return [] if old == new else _subproof(nodes, old, 0, new, True)


def _subproof(nodes: Nodes, old: int, begin: int, end: int, known: bool) -> list[bytes]:
    if old == end - begin:
        return [] if known else [_subtree(nodes, begin, end)]
    split = _split(end - begin)
    if old <= split:
        return [*_subproof(nodes, old, begin, begin + split, known), _subtree(nodes, begin + split, end)]
    right = _subproof(nodes, old - split, begin + split, end, False)
    return [*right, _subtree(nodes, begin, begin + split)]


def root_from_inclusion(leaf: int, size: int, entry: bytes, path: Sequence[bytes]) -> bytes:
    """The root that a path gives for an entry (RFC 9162 section 2.1.3.2): the proof holds when it is the tree's.

    Raises ValueError for a path that fits no such tree.
    """
    if not 0 <= leaf < size:
        raise ValueError(f"leaf {leaf} is not in a tree of {size}")
    node, last, root = leaf, size - 1, leaf_hash(entry)
    for each in path:
        if last == 0:
            raise ValueError("the path is too long")
        if node & 1 or node == last:
            root = node_hash(each, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, each)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ValueError("the path is too short")
    return root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that one tree only adds to the other (RFC 9162 section 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(each, first), node_hash(each, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, each)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _subtree(nodes: Nodes, begin: int, end: int) -> bytes:
    """Root of the leaves from `begin` up to `end`. `begin` is where a subtree of that size can begin."""
    count = end - begin
    if count == 0:
        return EMPTY
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return nodes.node(level, begin >> level)
    middle = begin + _split(count)
    return node_hash(_subtree(nodes, begin, middle), _subtree(nodes, middle, end))


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _root_of_row(row: Sequence[bytes]) -> bytes:
    """Root of the leaves of one tile, or of as many as it has. A last one without a neighbour rises as it is."""
    while len(row) > 1:
        row = [*parents(row), row[-1]] if len(row) & 1 else parents(row)
    return row[0]


def parents(row: Sequence[bytes]) -> list[bytes]:
    """The row above a row of roots. A last one without a neighbour has no parent yet."""
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=False)]
