"""How far the long verbs are, for whoever asks meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..contracts import Tenant


class Progress:
    """Of one verb that is under way."""

    def __init__(self) -> None:
        self.done, self.of = 0, 0

    def begin(self, of: int) -> None:
        """So much is to be done."""
        self.done, self.of = 0, of

    def advance(self, count: int) -> None:
        self.done += count


class Works:
    """What is under way, tenant by tenant."""

    def __init__(self) -> None:
        self._under_way: dict[Tenant, list[tuple[str, Progress]]] = {}

    @contextmanager
    def begun(self, tenant: Tenant, verb: str) -> Iterator[Progress]:
        """Shown until it ends, in whatever way."""
        entry = verb, Progress()
        self._under_way.setdefault(tenant, []).append(entry)
        try:
            yield entry[1]
        finally:
            self._under_way[tenant].remove(entry)
            if not self._under_way[tenant]:
                del self._under_way[tenant]

    def of(self, tenant: Tenant) -> list[dict[str, object]]:
        """Each verb with how much is done, of how much; `of` is 0 as long as nobody knows."""
        return [{"verb": verb, "done": each.done, "of": each.of} for verb, each in self._under_way.get(tenant, ())]
