"""Ids of records: UUIDv7 that sort in the order in which they were given, also within a millisecond and when the clock
goes back. RFC 9562 section 6.2, method 1: the twelve bits behind the time count.
"""

from ..contracts import Clock, Entropy
from ..contracts.ids import MAX_SHARDS, uuid7


class Numbering:
    """Gives ids. One for each process that makes records of a tenant."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock, self._entropy = clock, entropy
        self._ms, self._count = 0, 0

    def next(self) -> str:
        now_ms = self._clock.now_ms()
        if now_ms > self._ms:
            self._ms, self._count = now_ms, 0
        elif self._count + 1 < MAX_SHARDS:
            self._count += 1
        else:
            self._ms, self._count = self._ms + 1, 0
        return uuid7(self._ms, self._entropy.bytes(8), self._count)
