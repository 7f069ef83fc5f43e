"""Restoring: a tenant's memory brought back from a snapshot, when its store was lost or it moves to another federation.

    snapshot, checked from end to end ──> what stands beside the records ──> records, in batches ──> done

Each arrow is a commit, and the log says whose snapshot is under way: who is killed in between does it again, and what
is there already stays as it is. What the log knows as forgotten does not come back, nor what was derived from it, nor
what is about a subject that was erased. Nobody writes meanwhile; who reads sees it come back.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..contracts import Conflict
from ..contracts.caller import Caller
from ..contracts.memory import Record, Restored
from ..contracts.plain import unpack
from . import faults as points
from .books import node_of
from .certificates import Claim
from .erasure import is_about
from .log import ALL, Kept, Log
from .ports import Erasure, Graph
from .progress import Progress
from .shelf import Shelf
from .snapshot import BESIDE, RECORDS, Manifest, Snapshot, Snapshots

if TYPE_CHECKING:
    from .service import MemoryService

BATCH = 500
"""Versions of records in one commit, or a few more: those of one record are not torn apart."""
FOR_GOOD = ("asked", "erased")
"""Causes of a farewell that take along what was derived."""


class Contents:
    """The records of a snapshot and what was derived from what, for whoever plans what stays away."""

    def __init__(self, records: Mapping[str, Record], derivations: Iterable[Mapping[str, Any]]) -> None:
        self._records = records
        self._derived: dict[str, list[str]] = {}
        for each in derivations:
            self._derived.setdefault(each["source"], []).append(each["id"])

    def record(self, id: str) -> Record | None:
        return self._records.get(id)

    def derived_from(self, id: str) -> list[str]:
        return self._derived.get(id, [])


async def restore(
    service: "MemoryService", snapshots: Snapshots, caller: Caller, progress: Progress, *, merge: bool = False
) -> Restored:
    """Brings back the snapshot of the caller's tenant. Doing it again changes nothing.

    Raises NotFound where there is none, Corrupt for one that is torn, changed or foreign, Conflict where something is
    remembered already, unless it is to be merged: then what is there stays, and what is not there is added.
    """
    async with service.shelves.use(caller.tenant) as shelf, shelf.gate, snapshots.held(caller.tenant) as snapshot:
        await service.log.durable()
        work = _Restoring(service, shelf, snapshot, caller, progress)
        _check_room(service.log, snapshot.manifest, merge=merge)
        return await work.run()


def continues(log: Log, manifest: Manifest) -> bool:
    """Whether this log has all that the snapshot has: it was taken of it, or was restored into it."""
    restored = log.restored(manifest.tenant, manifest.seal)
    return _is_of(log, manifest) if restored is None else restored


def is_current(log: Log, manifest: Manifest) -> bool:
    """Whether the snapshot was taken of this log, and nothing was written since."""
    return _is_of(log, manifest) and manifest.sequence >= log.last_change(manifest.tenant)


def _is_of(log: Log, manifest: Manifest) -> bool:
    return not manifest.records or log.head_at(manifest.sequence) == manifest.head


def _check_room(log: Log, manifest: Manifest, *, merge: bool) -> None:
    """Raises Conflict."""
    begun = log.restored(manifest.tenant, manifest.seal) is not None
    if not (merge or begun) and (count := log.count(manifest.tenant)):
        raise Conflict(
            f"{manifest.tenant} remembers {count} records already. Nothing was changed. To add what the snapshot has "
            "beside them: hanse memory restore --merge",
            records=count,
        )


class _Restoring:
    """One of them, while nobody else writes."""

    def __init__(
        self, service: "MemoryService", shelf: Shelf, snapshot: Snapshot, caller: Caller, progress: Progress
    ) -> None:
        self._service, self._log, self._shelf = service, service.log, shelf
        self._snapshot, self._caller, self._progress = snapshot, caller, progress
        self._seal = snapshot.manifest.seal
        self._known = self._log.live_ids(shelf.tenant) | self._log.tombstones(shelf.tenant).keys()
        self._records = self._versions = self._kept = 0

    async def run(self) -> Restored:
        beside = {kind: await self._snapshot.rows(kind) for kind in _beside(self._snapshot.manifest)}
        erasure = await self._not_to_come_back(beside)
        away = {*erasure.delete, *erasure.derived}
        self._progress.begin(self._snapshot.manifest.records)
        self._begin(beside, away)
        self._known |= {each["id"] for each in beside["tombstones"]}
        await self._log.durable()
        self._service.faults.reach(points.RESTORING)
        async for batch in self._batches():
            await self._take_in(self._chosen(batch, away, erasure.rewrite))
            self._progress.advance(len(batch))
        await self._erase_what_went_later(beside["tombstones"])
        self._service.faults.reach(points.RESTORED)
        self._log.end_restoring(self._shelf.tenant, self._seal)
        await self._log.durable()
        return Restored(
            tenant=self._shelf.tenant,
            taken_ms=self._snapshot.manifest.at_ms,
            records=self._records,
            versions=self._versions,
            known=self._kept,
            left_out=len(away),
        )

    def _begin(self, beside: Mapping[str, Sequence[Mapping[str, Any]]], away: set[str]) -> None:
        """Grants come back into a log that knows nothing of the tenant: elsewhere they may have been taken back."""
        gone = self._log.tombstones(self._shelf.tenant).keys()
        grants = () if self._known or self._log.granted(self._shelf.tenant) else beside["grants"]
        for each in grants:
            self._shelf.grant(each["owner"], each["reader"], granted=True)
        self._log.begin_restoring(
            self._caller,
            self._seal,
            {
                "tombstones": [each for each in beside["tombstones"] if each["id"] not in self._known],
                "derivations": [each for each in beside["derivations"] if not away & {each["source"], each["id"]}],
                "grants": grants,
                "certificates": beside["certificates"],
                "receipts": [_blind(each) for each in beside["receipts"]] if away | gone else beside["receipts"],
            },
        )

    async def _batches(self) -> AsyncIterator[list[Kept]]:
        """Whole records, in the order of the snapshot."""
        batch: list[Kept] = []
        async for page in self._snapshot.records():
            for each in page:
                if len(batch) >= BATCH and each.record.id != batch[-1].record.id:
                    yield batch
                    batch = []
                batch.append(each)
        if batch:
            yield batch

    def _chosen(self, batch: Sequence[Kept], away: set[str], rewrite: Mapping[str, Record]) -> list[Kept]:
        """What of it is not there yet and may come back. Of what is rewritten no earlier version stays."""
        chosen: dict[str, list[Kept]] = {}
        for each in batch:
            id = each.record.id
            if id in away:
                continue
            if id in self._known:
                self._kept += id not in chosen
                chosen[id] = []
            elif (left := rewrite.get(id)) is not None:
                chosen[id] = [_next(left)]
            else:
                chosen.setdefault(id, []).append(each)
        return [version for versions in chosen.values() for version in versions]

    async def _take_in(self, versions: Sequence[Kept]) -> None:
        current = {each.record.id: each for each in versions}
        if not current:
            return
        self._log.restore(self._caller, versions, self._seal)
        self._shelf.put(list(current.values()))
        await self._log.durable()
        self._service.faults.reach(points.RESTORING)
        self._records, self._versions = self._records + len(current), self._versions + len(versions)

    async def _not_to_come_back(self, beside: Mapping[str, Sequence[Mapping[str, Any]]]) -> Erasure:
        """What this log has forgotten for good, the snapshot not yet, with all that the snapshot derived from it."""
        derivations = beside["derivations"]
        named = {each[side] for each in derivations for side in ("source", "id")}
        seeds = [id for id in self._forgotten_since(beside["tombstones"]) if id in named]
        erased = self._erased_since(beside["certificates"])
        if not (seeds or erased):
            return Erasure()
        current: dict[str, Record] = {}
        async for page in self._snapshot.records():
            current |= {each.record.id: each.record for each in page}
            seeds += [each.record.id for each in page if _is_of_erased(each.record, erased)]
        seeds += map(node_of, erased)
        return self._service.parts.plan_erasure(list(dict.fromkeys(seeds)), Contents(current, derivations))

    def _forgotten_since(self, known: Sequence[Mapping[str, Any]]) -> list[str]:
        gone = self._log.tombstones(self._shelf.tenant)
        return [id for id in gone.keys() - {each["id"] for each in known} if gone[id].cause in FOR_GOOD]

    def _erased_since(self, known: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Until when records are about subjects that were erased, in unix milliseconds, by subject."""
        there = {unpack(each["body"])["id"] for each in known}
        made = self._log.certificates(self._shelf.tenant, None, ALL)
        return {each.subject: each.at_ms for each in reversed(made) if each.subject and each.id not in there}

    async def _erase_what_went_later(self, tombstones: Sequence[Mapping[str, Any]]) -> None:
        """What was there and that the snapshot knows as forgotten, as after an older snapshot was restored."""
        ids = [each["id"] for each in tombstones if each["cause"] in FOR_GOOD and self._shelf.record(each["id"])]
        if ids:

            def plan(graph: Graph) -> list[Claim]:
                return [Claim(self._service.parts.plan_erasure(ids, graph))]

            await self._service.writing.erase_held(self._shelf, plan, self._caller, "erased", "")


def _beside(manifest: Manifest) -> set[str]:
    return {file.kind for file in manifest.files} - {RECORDS} | {*BESIDE}


def _is_of_erased(record: Record, erased: Mapping[str, int]) -> bool:
    return any(is_about(subject, record) and record.created_ms <= at_ms for subject, at_ms in erased.items())


def _blind(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Without what could be compared with a text that has gone."""
    return {**receipt, "salt": None, "digest": None}


def _next(left: Record) -> Kept:
    """What is left of a summary, as a version of its own. Its vector is made later."""
    return Kept(left.model_copy(update={"version": left.version + 1, "embedding": None}), None)
