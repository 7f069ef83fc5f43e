"""What compaction leaves of an entry: a zero byte and its leaf hash, in the place of its bytes; its chain hash stays.

Bytes of an event begin with the version of their encoding, which is not zero (`contracts.wire`), so the two cannot be
taken for one another. A checker that is handed an entry to prove hashes what it is given, and never reads a stone.
"""

from hashlib import sha256

from .merkle import leaf_hash

_MARK = b"\x00"
_LENGTH = 33


def stone_of(entry: bytes) -> bytes:
    """What stays of an entry."""
    return _MARK + leaf_hash(entry)


def is_stone(entry: bytes) -> bool:
    return entry[:1] == _MARK and len(entry) == _LENGTH


def leaf_of(entry: bytes) -> bytes:
    """The leaf hash of an entry as it lies in the journal, compacted or not."""
    return entry[1:] if is_stone(entry) else leaf_hash(entry)


class Stones:
    """All stones of a journal, in order: how many, and a digest that any other set would not have."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = sha256()

    def add(self, number: int, stone: bytes, hash: bytes) -> None:
        """`hash` is that of the chain."""
        self.count += 1
        self._hash.update(number.to_bytes(8, "big") + stone + hash)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
