"""Heartbeats: an agent that has a step says from time to time that it still does, or the step counts as interrupted.

A link can be well while what went over it is lost: a process that hangs, an answer that was dropped. So every heartbeat
of an agent (`Offer.working`) names what it has had for long, and a step's progress counts as well. What nobody has
spoken of for the time of a lease is sent again, under the same key: an agent that still works on it, or has done it,
says so. A link on which nothing at all came for that long is closed, so that its agents count as gone.

This costs a step nothing until it is as old as a tick: what is in hand is looked at once a second.
"""

from collections.abc import Iterable

from ..contracts import AwardId, Clock
from .directory import Member


class Heartbeats:
    """The heartbeats of what one shard's agents have in hand."""

    def __init__(self, clock: Clock, seconds: float, tick_seconds: float) -> None:
        """Looked at every `tick_seconds`."""
        self.seconds = seconds
        self._clock = clock
        self._longest_gap = 3 * tick_seconds
        self._last: dict[AwardId, float] = {}
        self._looked = self._awake_since = clock.monotonic()

    def tick(self) -> None:
        """Whoever stood still himself need not wonder that he heard nothing: everything begins anew."""
        before, self._looked = self._looked, self._clock.monotonic()
        if self._looked - before > self._longest_gap:
            self._awake_since = self._looked

    def heard(self, awards: Iterable[AwardId]) -> None:
        """An agent works on them."""
        now = self._clock.monotonic()
        for award in awards:
            if award in self._last:
                self._last[award] = now

    def lapsed(self, in_hand: Iterable[AwardId]) -> list[AwardId]:
        """Those of which nobody has spoken for too long. Their leases begin anew."""
        now = self._clock.monotonic()
        self._last = {award: self._last.get(award, now) for award in in_hand}
        late = [award for award, at in self._last.items() if self._is_late(at, now)]
        self._last.update(dict.fromkeys(late, now))
        return late

    def is_silent(self, member: Member) -> bool:
        """Whether nothing was heard for too long of an agent whose link stands."""
        return member.present and self._is_late(member.heard, self._clock.monotonic())

    def _is_late(self, heard: float, now: float) -> bool:
        return now - max(heard, self._awake_since) > self.seconds
