"""The token bucket: so many a second on average, and so many at once after a pause.

With rate r (tokens per second) and burst b, the level at time t is

    level(t) = min(b, level(t0) + r * (t - t0))

where t0 is when it was last touched. Whoever goes through takes one token; with less than one there, the next is there
after (1 - level) / r seconds. In any stretch of T seconds at most b + r * T go through. (Turner, "New directions in
communications", IEEE Communications Magazine 24(10), 1986; RFC 2697 calls it a committed information rate and burst.)
"""

from .ports import Clock

_GRAIN = 1e-9
"""What adding up fractions may lose. Without it a caller who comes exactly on time would be sent away now and then."""


class Bucket:
    """Full at first."""

    def __init__(self, clock: Clock, per_second: float, burst: float) -> None:
        self._clock, self._rate, self._burst = clock, per_second, burst
        self._level, self._at = burst, clock.monotonic()

    def take(self) -> bool:
        """Takes a token if there is one."""
        if self.seconds_left > 0:
            return False
        self._level -= 1
        return True

    def take_on_credit(self) -> float:
        """Takes a token that may not be there yet. Gives the seconds until it is; whoever waits them goes in turn."""
        left = self.seconds_left
        self._level -= 1
        return left

    def give_back(self) -> None:
        """It was not used after all."""
        self._level += 1

    @property
    def seconds_left(self) -> float:
        """Until there is a token; 0 when there is one."""
        now = self._clock.monotonic()
        self._level, self._at = min(self._burst, self._level + self._rate * (now - self._at)), now
        return 0.0 if self._level >= 1 - _GRAIN else (1 - self._level) / self._rate
