"""What was recalled lately: the records that a tenant was given last, by whichever process answered.

The write gate asks for it, because what comes back in somebody's own words is an echo and not news. A reader tells ids
and versions alone; the records are looked up when the gate asks. All of it is in memory: after a restart nothing was
recalled lately.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from ..contracts import Tenant
from ..contracts.memory import Record

KEPT = 256
"""Records of a tenant that are remembered as given out."""

Given = tuple[str, int]
"""Id and version of a record, as it was given out."""
LookUp = Callable[[str, int], Record | None]
"""The version of a record. None when it is gone."""


class Lately:
    """One tenant's. What is given out again is there once, as the latest."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, Record | int] = OrderedDict()
        """By id; of those that a reader gave out the version alone."""

    def gave(self, records: Iterable[Record]) -> None:
        self._note((record.id, record) for record in records)

    def told(self, given: Iterable[Given]) -> None:
        """A reader gave these out."""
        self._note(given)

    def forget(self, ids: Iterable[str]) -> int:
        """How many of them were there."""
        return sum(self._given.pop(id, None) is not None for id in ids)

    def rest(self) -> None:
        """Nobody has the tenant open: what can be looked up again needs no room."""
        for id, each in self._given.items():
            self._given[id] = each if isinstance(each, int) else each.version

    def records(self, look_up: LookUp) -> list[Record]:
        """Oldest first, each as it was given out."""
        for id, version in [(id, each) for id, each in self._given.items() if isinstance(each, int)]:
            self._settle(id, look_up(id, version))
        return [each for each in self._given.values() if not isinstance(each, int)]

    def _settle(self, id: str, record: Record | None) -> None:
        if record is None:
            del self._given[id]
        else:
            self._given[id] = record

    def _note(self, given: "Iterable[tuple[str, Record | int]]") -> None:
        for id, each in given:
            self._given[id] = each
            self._given.move_to_end(id)
        while len(self._given) > KEPT:
            self._given.popitem(last=False)


class LatelyOfAll:
    """That of each tenant, also of those whose shelf is closed: readers tell of them too."""

    def __init__(self, tenants: int, is_open: Callable[[Tenant], bool]) -> None:
        """So many `tenants` are remembered, beside those that are open."""
        self._most, self._is_open = tenants, is_open
        self._of: OrderedDict[Tenant, Lately] = OrderedDict()

    def of(self, tenant: Tenant) -> Lately:
        found = self._of.setdefault(tenant, Lately())
        self._of.move_to_end(tenant)
        self._make_room()
        return found

    def _make_room(self) -> None:
        if len(self._of) > self._most:
            for tenant in [each for each in self._of if not self._is_open(each)][: -self._most]:
                del self._of[tenant]
