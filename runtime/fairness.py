"""Fairness between tenants: whose waiting step is next, and who is let in when it is full.

Waiting steps are served by start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), with every step as long as any
other. Each tenant has a start tag; the tenant with the lowest is served, and then

    start(tenant) = max(v, start(tenant)) + 1 / weight(tenant)

where v, the virtual time, is the start tag of whoever was served last. So tenants that wait all the time are served in
proportion to their weights, and one that comes back after a pause starts at v: it is served soon, and has saved up
nothing. Within a tenant the higher priority goes first, and among equals who came first.
"""

import heapq
from collections.abc import Callable, Mapping, Set
from typing import Generic, TypeVar

from ..contracts import Tenant

T = TypeVar("T")
_Entry = tuple[int, int, T]


class FairQueue(Generic[T]):
    """What waits, by tenant."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._waiting: dict[Tenant, list[_Entry[T]]] = {}
        self._starts: dict[Tenant, float] = {}
        self._now = 0.0
        self._count = 0
        self._first = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, tenant: Tenant) -> bool:
        return tenant in self._waiting

    def put(self, tenant: Tenant, priority: int, item: T) -> None:
        self._count += 1
        self._add(tenant, (-priority, self._count, item))

    def put_back(self, tenant: Tenant, priority: int, item: T) -> None:
        """It could not be served after all: it is the tenant's first again, and costs the tenant nothing."""
        self._first -= 1
        self._starts[tenant] -= self._share(tenant)
        self._add(tenant, (-priority, self._first, item))

    def next(self, aside: Set[Tenant] = frozenset()) -> Tenant | None:
        """Whose turn it is, of those who are not put aside; None when nobody else waits."""
        tenants = self._waiting.keys() - aside if aside else self._waiting
        return min(tenants, key=lambda tenant: (self._starts[tenant], tenant), default=None)

    def take(self, tenant: Tenant) -> T:
        """The tenant's next one, which it is charged for. Raises KeyError when it has none."""
        entries = self._waiting[tenant]
        _, _, item = heapq.heappop(entries)
        self._now = max(self._now, self._starts[tenant])
        self._starts[tenant] += self._share(tenant)
        if not entries:
            del self._waiting[tenant]
        return item

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Forgets what is not wanted any more."""
        for tenant, entries in list(self._waiting.items()):
            kept = [entry for entry in entries if wanted(entry[2])]
            heapq.heapify(kept)
            if kept:
                self._waiting[tenant] = kept
            else:
                del self._waiting[tenant]

    def _add(self, tenant: Tenant, entry: _Entry[T]) -> None:
        if tenant not in self._waiting:
            self._waiting[tenant] = []
            self._starts[tenant] = max(self._now, self._starts.get(tenant, 0.0))
        heapq.heappush(self._waiting[tenant], entry)

    def _share(self, tenant: Tenant) -> float:
        return 1 / self._weights.get(tenant, 1.0)


class Shares:
    """How many tasks each tenant may have open.

    While there is room, anybody comes in. When it is full, a tenant that has less than its share still does, so there
    are never more than twice as many tasks open as there is room for, and one that floods takes nobody's share. The
    share of a tenant is the room times its weight over all weights.
    """

    def __init__(self, room: int, weights: Mapping[str, float]) -> None:
        self._room = room
        total = sum(weights.values())
        self._shares = {tenant: room * weight / total for tenant, weight in weights.items()}
        self._open: dict[Tenant, int] = {}

    def admits(self, tenant: Tenant, open_tasks: int) -> bool:
        """`open_tasks` are those of all tenants."""
        return open_tasks < self._room or self._open.get(tenant, 0) < self._shares.get(tenant, 0)

    def opened(self, tenant: Tenant) -> None:
        self._open[tenant] = self._open.get(tenant, 0) + 1

    def closed(self, tenant: Tenant) -> None:
        left = self._open[tenant] - 1
        if left:
            self._open[tenant] = left
        else:
            del self._open[tenant]
