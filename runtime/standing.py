"""How many tasks of each tenant have ended, and how: counted in the store once, and from then on with each that ends.

Whoever looks at a status asks for this, and a tenant's tasks are never fewer than before, so grouping over all of them
each time would make looking dearer with every task that was ever done.
"""

from collections import Counter, defaultdict

from ..contracts import Store, TaskStatus, Tenant


class Standing:
    """The counts of one shard."""

    def __init__(self, store: Store) -> None:
        self._counts: defaultdict[Tenant, Counter[str]] = defaultdict(Counter)
        for tenant, status, count in store.read("ended_counts"):
            self._counts[Tenant(tenant)][status] = count

    def ended(self, tenant: Tenant, status: TaskStatus) -> None:
        """One more."""
        self._counts[tenant][str(status)] += 1

    def of(self, tenant: Tenant) -> dict[str, int]:
        """Count per terminal status."""
        return dict(self._counts.get(tenant, ()))
