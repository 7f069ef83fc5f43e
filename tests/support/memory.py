"""The shared memory behind the surfaces: the real service with its hygiene, and a client that has nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hanse.contracts import Tenant
from hanse.contracts.caller import Caller
from hanse.memory import hygiene
from hanse.memory.service import MemoryService
from hanse.runtime.tenant_memory import LinkedMemory

from ..memory.plain import Clock, memory


@asynccontextmanager
async def clean_memory(
    path: str | Path = ":memory:", clock: Any = None, **options: Any
) -> AsyncIterator[MemoryService]:
    """A service with everything that hygiene gives to it."""
    clock = clock or Clock()
    async with memory(path, clock=clock, **(hygiene.parts(clock) | options)) as service:
        yield service


def client_for(service: MemoryService) -> Any:
    """Gives the client that acts for a tenant, as `create_app` takes it."""
    return lambda tenant, by: MemoryClient(service, tenant, by)


class MemoryClient:
    """As much of a `Client` as the surfaces of memory need."""

    def __init__(self, service: MemoryService, tenant: str, by: str) -> None:
        self.memory = LinkedMemory(service, Caller(tenant=Tenant(tenant), by=by))

    async def close(self) -> None:
        pass
