"""The shelves of all tenants that are open: opened when somebody asks, closed when others need the room.

Nothing leads from one shelf to another. A caller gets the one of its own tenant and no other.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..contracts import InvalidInput, Tenant
from .shelf import Shelf

MAX_NAME = 200
"""Characters of a tenant's name."""

Make = Callable[[Tenant], Shelf]


class Shelves:
    """At most so many open, and so many records on them, beside those that are in use."""

    def __init__(self, make: Make, *, open_tenants: int, open_records: int) -> None:
        self._make = make
        self._open_tenants, self._open_records = open_tenants, open_records
        self._opening: OrderedDict[Tenant, asyncio.Task[Shelf]] = OrderedDict()
        """Open, or about to be; the one used last stands last."""
        self._users: dict[Tenant, int] = {}

    def __len__(self) -> int:
        return len(self._opening)

    @property
    def open(self) -> list[Shelf]:
        return [task.result() for task in self._opening.values() if task.done() and not task.exception()]

    def is_open(self, tenant: Tenant) -> bool:
        """Or about to be."""
        return tenant in self._opening

    @asynccontextmanager
    async def use(self, tenant: Tenant) -> AsyncIterator[Shelf]:
        """The shelf of a tenant, which stays open meanwhile. Raises InvalidInput without a tenant."""
        check_tenant(tenant)
        async with self.held(tenant):
            yield await self._opened(tenant)

    @asynccontextmanager
    async def held(self, tenant: Tenant) -> AsyncIterator[None]:
        """What is open stays open meanwhile."""
        self._users[tenant] = self._users.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant]
            self._make_room()

    def close(self) -> None:
        """Closes all of them. What comes later finds them anew."""
        for shelf in self.open:
            shelf.close()
        for task in self._opening.values():
            task.cancel()
        self._opening.clear()

    def drop_stale(self, model: str) -> None:
        """Lets go of shelves whose vectors are of another model, as soon as nobody uses them."""
        for shelf in self.open:
            if shelf.model != model and shelf.tenant not in self._users:
                self._close(shelf.tenant)

    async def _opened(self, tenant: Tenant) -> Shelf:
        if (task := self._opening.get(tenant)) is None:
            task = self._opening[tenant] = asyncio.create_task(self._open(tenant))
        self._opening.move_to_end(tenant)
        try:
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and (task.cancelled() or task.exception()) and self._opening.get(tenant) is task:
                del self._opening[tenant]
            raise

    async def _open(self, tenant: Tenant) -> Shelf:
        shelf = self._make(tenant)
        await shelf.open()
        return shelf

    def _make_room(self) -> None:
        """Closes what was not used for longest. A shelf in use has writes under way, so it stays; so does the last."""
        for tenant in list(self._opening)[:-1]:
            if len(self._opening) <= self._open_tenants and self._records() <= self._open_records:
                return
            if tenant not in self._users and self._opening[tenant].done():
                self._close(tenant)

    def _records(self) -> int:
        return sum(shelf.live for shelf in self.open)

    def _close(self, tenant: Tenant) -> None:
        task = self._opening.pop(tenant)
        if not (task.cancelled() or task.exception()):
            task.result().close()


def check_tenant(tenant: str) -> None:
    """Raises InvalidInput."""
    if not (tenant and tenant.strip() and len(tenant) <= MAX_NAME and tenant.isprintable()):
        raise InvalidInput(f"say whose memory: a tenant has a name of 1 to {MAX_NAME} characters", pointer="/tenant")
