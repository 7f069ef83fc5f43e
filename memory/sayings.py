"""Which rows may say all that a text says, answered without looking at one of them.

What says the same as a draft has all of its words, or other forms of them, and so all of its keys (`Wording.keys`).
Hardly any draft has such a record, and whoever knows that need not search for one. So each row has a signature: of each
of its keys some bits are set. They are kept in slices, one for each bit, over all rows: what may have all keys is where
all of their slices have a one, which of 100,000 rows is found in a few microseconds.

    Signatures in slices: Faloutsos and Chan, Fast Text Access Methods for Optical and Large Magnetic Disks (VLDB 1988).

A row that says it is never missed. One that does not may be taken for one that does: with a dozen keys in each row and
four in the question, one row in a million.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy import int32, intp, uint8
    from numpy.typing import NDArray

BITS = 512
"""Of a signature; a power of two."""
BITS_OF_A_KEY = 2
ASKED = 12
"""Keys of a question that are looked at: so many tell enough."""
FIRST = 4
"""Slices, the sparsest, that are looked at before the others: mostly nothing is left then."""
_STEP = 32
"""Slices that are renumbered at once."""


class Sayings:
    """Rows are numbered by whoever calls, from zero upwards; each is put once."""

    def __init__(self) -> None:
        self._slices: NDArray[uint8] = np.zeros((BITS, 8), np.uint8)
        self._ones = np.zeros(BITS, np.int64)
        """Of each slice, also of rows that were removed."""
        self._bytes = 0
        """Of each slice that are in use."""

    def put(self, row: int, keys: Iterable[str]) -> None:
        at, places = row >> 3, _places(keys)
        self._make_room(at + 1)
        self._slices[places, at] |= np.uint8(1 << (row & 7))
        self._ones[places] += 1

    def remove(self, row: int) -> None:
        if (at := row >> 3) < self._bytes:
            self._slices[:, at] &= np.uint8(0xFF ^ (1 << (row & 7)))

    def may_say(self, keys: Collection[str]) -> bool:
        """Whether any row may have all of these. What has no keys anything may say."""
        places = _places(islice(keys, ASKED))
        places = places[np.argsort(self._ones[places])]
        left = np.bitwise_and.reduce(self._slices[places[:FIRST], : self._bytes], axis=0)
        if not left.any():
            return False
        there = np.flatnonzero(left)
        return bool(np.bitwise_and.reduce(self._slices[places[:, None], there], axis=0).any())

    def renumber(self, kept: "NDArray[int32]") -> None:
        """The old rows that stay, in their order: each is numbered by its place there."""
        count = -(-len(kept) // 8)
        fresh = np.zeros((BITS, max(8, count)), np.uint8)
        for start in range(0, BITS, _STEP):
            bits = np.unpackbits(self._slices[start : start + _STEP, : self._bytes], axis=1, bitorder="little")
            fresh[start : start + _STEP, :count] = np.packbits(bits[:, kept], axis=1, bitorder="little")
        self._slices, self._bytes = fresh, count
        self._ones = np.bitwise_count(fresh).sum(axis=1, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        return self._slices.nbytes

    def _make_room(self, count: int) -> None:
        if count > self._slices.shape[1]:
            room = np.zeros((BITS, max(count, 2 * self._slices.shape[1])), np.uint8)
            room[:, : self._bytes] = self._slices[:, : self._bytes]
            self._slices = room
        self._bytes = max(self._bytes, count)


def _places(keys: Iterable[str]) -> "NDArray[intp]":
    """The slices of some keys, by their hash in this process, each once."""
    hashes = list(map(hash, keys))
    found = {bits >> 16 * turn & BITS - 1 for turn in range(BITS_OF_A_KEY) for bits in hashes}
    return np.fromiter(found, np.intp, len(found))
