"""Tenants that are open: so many, the ones used last, and nothing of the others in memory."""

import gc
import weakref

from hanse.contracts.memory import Draft, Query
from hanse.memory.index import TenantIndex
from hanse.memory.recall import recollect
from hanse.memory.service import Settings

from ..support.memory import clean_memory
from .plain import ann

OPEN = 4
TENANTS = [f"tenant-{number}" for number in range(12)]
TOWNS = ("Lübeck", "Bergen", "Visby", "Riga", "Danzig")


def service():
    return clean_memory(settings=Settings(open_tenants=OPEN), make_index=TenantIndex, recollect=recollect)


async def filled(memory) -> None:
    for tenant in TENANTS:
        drafts = [Draft(text=f"Ship {number} of {tenant} sailed to {town}.") for number, town in enumerate(TOWNS)]
        await memory.remember(drafts, ann(tenant))


async def answer(memory, tenant: str) -> list[tuple[str, float, str]]:
    found = await memory.recall(Query(text="Which ship sailed to Bergen?"), ann(tenant))
    return [(hit.record.text, round(hit.score, 4), hit.why) for hit in found.hits]


async def test_no_more_tenants_are_open_than_may_be_and_those_used_last_are():
    async with service() as memory:
        await filled(memory)
        for tenant in [*TENANTS, *reversed(TENANTS)]:
            await answer(memory, tenant)
            assert len(memory.shelves) <= OPEN
        assert [shelf.tenant for shelf in memory.shelves.open] == TENANTS[:OPEN][::-1]
        await answer(memory, TENANTS[3])
        await answer(memory, TENANTS[9])
        assert {shelf.tenant for shelf in memory.shelves.open} == {TENANTS[1], TENANTS[0], TENANTS[3], TENANTS[9]}


async def test_a_tenant_that_was_closed_answers_the_same_when_it_is_opened_again():
    async with service() as memory:
        await filled(memory)
        before = {tenant: await answer(memory, tenant) for tenant in TENANTS}
        assert all(len(found) == len(TOWNS) for found in before.values())
        assert {tenant: await answer(memory, tenant) for tenant in TENANTS} == before


async def test_of_a_tenant_that_was_closed_nothing_stays_in_memory():
    """So what the memory takes is bounded by how many tenants are open, however many there are."""
    async with service() as memory:
        await filled(memory)
        opened = dict[str, tuple[weakref.ref, weakref.ref]]()
        for tenant in TENANTS:
            await answer(memory, tenant)
            shelf = memory.shelves.open[-1]
            opened[tenant] = weakref.ref(shelf), weakref.ref(shelf._present)
            del shelf
        gc.collect()
        alive = {tenant for tenant, parts in opened.items() if any(part() is not None for part in parts)}
        assert alive == set(TENANTS[-OPEN:])
        assert len(memory.lately._of) <= 2 * OPEN + 1, "of as many closed ones it keeps what they were given"
