"""The exact cache: an answer that was given to the same words, kept in memory, per tenant, bounded, and for a while.

It answers only asks that say that they are pure. Its key holds everything that could change the answer: the tenant,
what is known of the data, the words, the schema, the tools, the settings, the prompt's digest, the rules by which
answers were judged, and the digests of all models that may work for the ask. So nothing is answered across tenants, nor
for another model, prompt or schema.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..contracts import Clock, Tenant
from ..contracts.pool import Answer


@dataclass(slots=True)
class Entry:
    """A kept answer."""

    answer: Answer
    bytes: int
    at: float
    """On the monotonic clock."""


class Shelf:
    """Answers of all tenants under keys of theirs; the one used longest ago goes first when there is no more room."""

    def __init__(self, clock: Clock, entries: int, bytes: int, seconds: float) -> None:
        """`entries` per tenant, `bytes` of all together."""
        self._clock, self._entries, self._bytes, self._seconds = clock, entries, bytes, seconds
        self._tenants: OrderedDict[Tenant, OrderedDict[str, Entry]] = OrderedDict()
        self._dropped: Callable[[Tenant, str], None] = lambda tenant, key: None
        self.bytes = 0

    def on_drop(self, told: Callable[[Tenant, str], None]) -> None:
        """`told` hears of every entry that goes."""
        self._dropped = told

    def get(self, tenant: Tenant, key: str) -> Answer | None:
        kept = self._tenants.get(tenant, OrderedDict[str, Entry]())
        entry = kept.get(key)
        if entry is None:
            return None
        if self._clock.monotonic() - entry.at > self._seconds:
            self.drop(tenant, key)
            return None
        kept.move_to_end(key)
        self._tenants.move_to_end(tenant)
        return entry.answer

    def put(self, tenant: Tenant, key: str, answer: Answer) -> bool:
        """Whether it was kept: an answer that takes more than a hundredth of the room is not."""
        size = len(answer.model_dump_json()) + len(key)
        if size > self._bytes / 100 or not self._entries:
            return False
        self.drop(tenant, key)
        kept = self._tenants.setdefault(tenant, OrderedDict())
        kept[key] = Entry(answer, size, self._clock.monotonic())
        self._tenants.move_to_end(tenant)
        self.bytes += size
        self._make_room(tenant)
        return True

    def drop(self, tenant: Tenant, key: str) -> None:
        kept = self._tenants.get(tenant)
        entry = kept.pop(key, None) if kept else None
        if entry is not None:
            self.bytes -= entry.bytes
            self._dropped(tenant, key)
        if kept is not None and not kept:
            del self._tenants[tenant]

    def purge(self, tenant: Tenant | None) -> int:
        """Forgets a tenant's answers, or all. How many there were."""
        gone = [(each, key) for each in self._of(tenant) for key in self._tenants[each]]
        for each, key in gone:
            self.drop(each, key)
        return len(gone)

    def count(self, tenant: Tenant) -> int:
        return len(self._tenants.get(tenant, ()))

    def size(self, tenant: Tenant) -> int:
        """Bytes of a tenant's answers."""
        return sum(entry.bytes for entry in self._tenants.get(tenant, {}).values())

    def tenants(self) -> list[Tenant]:
        return list(self._tenants)

    def _of(self, tenant: Tenant | None) -> Iterable[Tenant]:
        if tenant is None:
            return list(self._tenants)
        return [tenant] if tenant in self._tenants else []

    def _make_room(self, tenant: Tenant) -> None:
        while self.count(tenant) > self._entries:
            self.drop(tenant, next(iter(self._tenants[tenant])))
        while self.bytes > self._bytes:
            longest_ago = next(iter(self._tenants))
            self.drop(longest_ago, next(iter(self._tenants[longest_ago])))
