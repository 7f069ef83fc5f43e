"""The less frequent verbs: what `tell` of the memory knows by name. Each takes plain data and gives plain data.

Hygiene adds its own (`Parts.verbs`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..contracts import InvalidInput, NotAllowed, NotFound
from ..contracts.caller import Caller
from .access import check_person, is_person, view_of
from .snapshot import Snapshots

if TYPE_CHECKING:
    from .service import MemoryService, Reading

Verb = Callable[["MemoryService", Mapping[str, Any], Caller], Awaitable[Any]]


async def grant(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Lets `reader` read what the agent `owner` keeps to itself; with `granted` false, no longer.

    Only the owner and people may. Returns all grants.
    """
    owner = str(parameters.get("owner") or caller.agent or "")
    reader = parameters.get("reader")
    if not owner or not isinstance(reader, str) or not reader:
        raise InvalidInput("a grant names an owner and a reader", pointer="/reader")
    if not (is_person(caller) or owner == caller.agent):
        raise NotAllowed(f"only {owner} itself and people may let others read its private memory")
    granted = bool(parameters.get("granted", True))
    async with service.shelves.use(caller.tenant) as shelf:
        service.log.grant(caller, owner, reader, granted)
        shelf.grant(owner, reader, granted)
        await service.log.durable()
    return await grants(service, {}, caller)


async def grants(service: "Reading", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Who may read whose private memory."""
    return service.log.granted(caller.tenant)


async def stats(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """How much the tenant keeps, by layer, scope and state."""
    async with service.shelves.use(caller.tenant) as shelf:
        rows = await shelf.select(
            "SELECT layer, scope, quarantined, count(*), count(*) FILTER (expires_ms < 1152921504606846976) "
            "FROM records GROUP BY ALL ORDER BY ALL"
        )
        names = ("layer", "scope", "quarantined", "records", "expiring")
        budget = service.settings.budget_of(caller.tenant)
        return {
            "records": shelf.live,
            "characters": shelf.text_bytes,
            "budget": {"records": budget.records, "characters": budget.text_bytes},
            "by": [dict(zip(names, row, strict=True)) for row in rows],
            "model": shelf.model,
            "open_tenants": len(service.shelves),
        }


async def snapshot(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Writes what the tenant has into Parquet files now. Returns their manifest.

    With `replace` also where a snapshot of a store that was lost lies, which is gone then.
    """
    check_person(caller, "snapshot")
    _place(service)
    return await service.upkeep.snapshot(caller.tenant, replace=_truth(parameters, "replace"))


async def restore(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Brings back the tenant's snapshot into a store that was lost. With `merge` beside what is remembered since."""
    check_person(caller, "restore")
    restored = await service.restore(_place(service), caller, merge=_truth(parameters, "merge"))
    return restored.model_dump(mode="json")


async def certificates(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """The certificates of the tenant's erasures, newest first; `before` is the last id of the page before.

    With `lost`, instead, the ids of those that the journal says were made and that are not there as they were made.
    """
    check_person(caller, "see the certificates of")
    if _truth(parameters, "lost"):
        return {"lost": await _lost(service, caller)}
    before, limit = str(parameters.get("before") or ""), int(parameters.get("limit") or 100)
    found = service.log.certificates(caller.tenant, before or None, max(1, min(limit, 1000)))
    return {"certificates": [each.model_dump(mode="json") for each in found]}


async def _lost(service: "MemoryService", caller: Caller) -> list[str]:
    lost: list[str] = []
    for page in service.log.certified(caller.tenant):
        kept = {id: service.log.certificate(caller.tenant, id) for id in page}
        lost += [id for id, digest in page.items() if (found := kept[id]) is None or found.digest != digest]
        await asyncio.sleep(0)
    return lost


async def certificate(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """One of them by its `id`."""
    check_person(caller, "see the certificates of")
    id = str(parameters.get("id") or "")
    if (found := service.log.certificate(caller.tenant, id)) is None:
        raise NotFound("there is no such certificate", certificate=id[:100])
    return found.model_dump(mode="json")


async def progress(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Which of the tenant's long verbs are under way, and how far they are."""
    return service.works.of(caller.tenant)


async def export(service: "Reading", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """All records that the caller may read, in pages: `after` is the id that the page before ended with."""
    after, limit = str(parameters.get("after") or ""), int(parameters.get("limit") or 500)
    async with service.shelves.use(caller.tenant) as shelf:
        view = view_of(caller, shelf.grants)
        page = service.log.page(caller.tenant, after, max(1, min(limit, 1000)))
        shown = [each.record.model_dump(mode="json") for each in page if view.shows(each.record)]
        return {"records": shown, "after": page[-1].record.id if page else None}


async def compact(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Writes the store's file anew. Takes as long as it is large."""
    check_person(caller, "compact")
    await service.upkeep.compact()
    return {"compacted": True}


async def rebuild(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Makes the tenant's index and tables anew from the log, while the old ones answer."""
    check_person(caller, "rebuild")
    with service.works.begun(caller.tenant, "rebuild") as work:
        async with service.shelves.use(caller.tenant) as shelf:
            await shelf.rebuild(work)
    return {"records": shelf.live}


async def check(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Compares index and tables with the log. Empty lists are as it should be."""
    check_person(caller, "check")
    return await service.check(caller.tenant)


def _place(service: "MemoryService") -> Snapshots:
    """Raises InvalidInput."""
    if service.snapshots is None:
        raise InvalidInput("no place for snapshots is configured. Add memory.snapshots to hanse.yaml")
    return service.snapshots


def _truth(parameters: Mapping[str, Any], name: str) -> bool:
    """Raises InvalidInput."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is true or false", pointer=f"/{name}")
    return value


VERBS: Mapping[str, Verb] = {
    "grant": grant,
    "grants": grants,
    "stats": stats,
    "snapshot": snapshot,
    "restore": restore,
    "progress": progress,
    "certificates": certificates,
    "certificate": certificate,
    "export": export,
    "compact": compact,
    "rebuild": rebuild,
    "check": check,
}
