"""Rates: so many a second, by capability and by tenant. What is over waits; a submission that is over comes again."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache

from ..contracts import CapabilityName, Clock, Overloaded, Tenant
from ..contracts.bucket import Bucket
from .limits import Rate


class Rates:
    """The buckets of one shard. Full again after a restart: then each rule lets through one burst more."""

    def __init__(self, rates: tuple[Rate, ...], clock: Clock) -> None:
        self._clock = clock
        self._of_steps = [rate for rate in rates if rate.capability is not None]
        self._of_tasks = [rate for rate in rates if rate.capability is None]
        self.on_steps = bool(self._of_steps)
        """Whether there is any rule about steps."""
        self._buckets: dict[tuple[Rate, Tenant | None], Bucket] = {}

    def submit(self, tenant: Tenant) -> None:
        """Counts a submission. Raises Overloaded when it comes too early."""
        self._take([rate for rate in self._of_tasks if _fits(rate.tenant, tenant)], tenant)

    def seconds_left(self, tenant: Tenant, call: CapabilityName) -> float:
        """Until a step may go; 0 when it may."""
        return max((bucket.seconds_left for bucket in self._for(tenant, call)), default=0.0)

    def take(self, tenant: Tenant, call: CapabilityName) -> None:
        """Counts a step that goes, after `seconds_left` said that it may."""
        for bucket in self._for(tenant, call):
            bucket.take()

    def _take(self, rates: list[Rate], tenant: Tenant) -> None:
        """From all buckets or from none: who is sent away by one has not used up another."""
        buckets = [self._bucket(rate, tenant) for rate in rates]
        if left := max((bucket.seconds_left for bucket in buckets), default=0.0):
            text = f"{tenant} submits faster than its rate; come again in {left:.1f} s"
            raise Overloaded(text, retry_after_seconds=round(left, 3))
        for bucket in buckets:
            bucket.take()

    def _for(self, tenant: Tenant, call: CapabilityName) -> Iterator[Bucket]:
        for rate in self._of_steps:
            if _fits(rate.capability, call) and _fits(rate.tenant, tenant):
                yield self._bucket(rate, tenant)

    def _bucket(self, rate: Rate, tenant: Tenant) -> Bucket:
        whose = (rate, tenant if rate.tenant is not None else None)
        if whose not in self._buckets:
            self._buckets[whose] = Bucket(self._clock, rate.per_second, rate.burst)
        return self._buckets[whose]


@cache
def _fits(pattern: str | None, name: str) -> bool:
    return pattern is None or fnmatchcase(name, pattern)
