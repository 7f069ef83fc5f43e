"""The log: every version of every record, on disk before anybody is told. The truth, of which all else is a projection.

A write is a journal entry and rows in one commit. Between its being written and its being on disk the log answers with
it already, so that of two writers who compare and set the second one sees what the first one did.

The journal outlives what is forgotten, so it holds no text: of a version it has a digest that is salted, and the salt
goes with the record. Without it nobody can find out the text by trying texts.
"""

import hashlib
from asyncio import Future
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy

from ..contracts import Clock, Entropy, IdempotencyKey, Kind, StepId, TaskId, Tenant, Write
from ..contracts.caller import Caller
from ..contracts.memory import Certificate, Layer, Record, State
from ..contracts.plain import pack, unpack
from ..contracts.wire import decode_event
from .books import sources_of

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_PAGE = 1000
TOGETHER = 32
"""Records that one query looks up; see `current_some`."""
_UPKEEP, _UNCLEAN = "upkeep", "unclean"
_REASON = "forgotten"
"""Of notes: why a record was forgotten, by its id."""
ALL = 1 << 62
"""Above every version, and more than there are of anything."""
_RESTORING = "restoring"
"""Of notes: whether a snapshot is there as a whole, by its seal."""
_OWED = "owed"
"""Of notes: certificates that are due when what was erased has left the files, by their id."""
_BEHIND_ALL = "~"
"""Above every id."""
_RECEIPT = ("key", "salt", "digest", "body", "at_ms")
Vector = Any
"""NDArray[float32] of one row, or None."""


class Readable(Protocol):
    """As much of a store as the log reads."""

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


class Recorder(Protocol):
    """The journal, for whoever writes rows together with its entries. The events of one turn are one commit."""

    @property
    def sequence(self) -> int: ...

    def append(self, kind: Kind, task: TaskId | None, step: StepId | None, data: Mapping[str, Any]) -> Any: ...

    def write(self, write: Write) -> None: ...

    def durable(self) -> "Future[None]": ...


class Kept(NamedTuple):
    """A record with its vector, as the projections take it."""

    record: Record
    vector: "NDArray[float32] | None"


class Version(NamedTuple):
    """One version of a record, and when it was the current one."""

    record: Record
    vector: "NDArray[float32] | None"
    known_ms: int
    ended_ms: int | None


class Farewell(NamedTuple):
    """How a record went."""

    at_ms: int
    cause: str
    """asked, expired, erased, replaced or evicted."""
    reason: str
    """What whoever asked for it gave as a reason, or nothing."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a key."""

    records: tuple[tuple[str, str], ...]
    """Ids and outcomes, in the order of the drafts."""
    same: bool | None
    """Whether it was the same that was said. None when that was forgotten."""


class Log:
    """The log of one shard. All methods are called on one event loop."""

    def __init__(self, store: Readable, recorder: Recorder, clock: Clock, entropy: Entropy) -> None:
        self._store, self._recorder = store, recorder
        self._clock, self._entropy = clock, entropy
        self._pending: dict[tuple[str, str], tuple[int, Kept | None]] = {}
        """What is not on disk yet, by tenant and id. None is gone."""
        self._unclean = {Tenant(tenant): unpack(value) for tenant, value in store.read("noted", (_UPKEEP, _UNCLEAN))}
        self._receipts: dict[tuple[str, str], tuple[bytes, tuple[tuple[str, str], ...]]] = {}

    # Reading: the truth as of now

    def current(self, tenant: Tenant, id: str) -> Kept | None:
        """The live or quarantined record. None when there is none."""
        if (pending := self._pending.get((tenant, id))) is not None:
            return pending[1]
        rows = self._store.read("current", (tenant, id))
        return kept(rows[0], tenant) if rows else None

    def current_some(self, tenant: Tenant, ids: Sequence[str]) -> Iterator[Kept]:
        """Those of these records that are there. On disk only."""
        for start in range(0, len(ids), TOGETHER):
            some = ids[start : start + TOGETHER]
            padded = [*some, *[some[-1]] * (TOGETHER - len(some))]
            yield from (kept(row, tenant) for row in self._store.read("current_some", (tenant, *padded)))

    def records(self, tenant: Tenant, ids: Sequence[str]) -> Iterator[Record]:
        """Those of these live or quarantined records that there are."""
        pending = [self._pending.get((tenant, id)) for id in ids]
        yield from (each[1].record for each in pending if each is not None and each[1] is not None)
        on_disk = [id for id, each in zip(ids, pending, strict=True) if each is None]
        yield from (each.record for each in self.current_some(tenant, on_disk))

    def record(self, tenant: Tenant, id: str) -> Record | None:
        found = self.current(tenant, id)
        return found.record if found else None

    def is_forgotten(self, tenant: Tenant, id: str) -> bool:
        pending = self._pending.get((tenant, id))
        return (pending is not None and pending[1] is None) or bool(self._store.read("tombstone", (tenant, id)))

    def farewell(self, tenant: Tenant, id: str) -> Farewell | None:
        """How a record went. None when there is none, or none that has gone. On disk only."""
        for at_ms, cause in self._store.read("tombstone", (tenant, id)):
            return Farewell(at_ms, cause, self.note(tenant, _REASON, id) or "")
        return None

    def granted(self, tenant: Tenant) -> list[dict[str, Any]]:
        """Who may read whose private records. On disk only."""
        names = ("owner", "reader", "by", "at_ms")
        return [dict(zip(names, row, strict=True)) for row in self._store.read("grants", (tenant,))]

    def receipt(self, tenant: Tenant, key: IdempotencyKey, said: bytes) -> Receipt | None:
        """What came of a key before. `said` are the bytes of what is said now."""
        if (pending := self._receipts.get((tenant, key))) is not None:
            return Receipt(pending[1], pending[0] == said)
        for salt, digest, body in self._store.read("receipt", (tenant, key)):
            same = None if digest is None else _salted(salt, said) == digest
            return Receipt(tuple((id, outcome) for id, outcome in unpack(body)), same)
        return None

    # Reading: what is on disk

    def versions(self, tenant: Tenant, id: str) -> list[Record]:
        """All versions of a record, oldest first."""
        rows = self._store.read("versions", (tenant, id))
        return [_record(tenant, row[0], row[2], row[3], ended=row[4]) for row in rows]

    def live(self, tenant: Tenant) -> Iterator[list[Kept]]:
        """Current records in pages, in the order of their ids."""
        after = ""
        while rows := self._store.read("live", (tenant, after, _PAGE)):
            yield [kept(row, tenant) for row in rows]
            after = rows[-1][0]

    def page(self, tenant: Tenant, after: str, limit: int) -> list[Kept]:
        """Current records with ids above `after`."""
        return [kept(row, tenant) for row in self._store.read("live", (tenant, after, limit))]

    def kept_versions(self, tenant: Tenant, id: str) -> list[Version]:
        """All versions of a record, each in the state that it was in, oldest first."""
        return [_version(row, tenant) for row in self._store.read("kept_versions", (tenant, id))]

    def all_versions(self, tenant: Tenant, limit: int = _PAGE) -> Iterator[list[Version]]:
        """Current and past ones, each in the state that it was in, in pages of at most `limit`."""
        after: tuple[str, int] = ("", 0)
        while rows := self._store.read("all_versions", (tenant, *after, limit)):
            yield [_version(row, tenant) for row in rows]
            after = rows[-1][0], rows[-1][1]

    def has_past(self, tenant: Tenant, moment_ms: int) -> bool:
        """Whether some version was the current one then and is not now."""
        return bool(self._store.read("ended_between", (tenant, moment_ms, moment_ms)))

    def live_ids(self, tenant: Tenant) -> set[str]:
        return {id for (id,) in self._store.read("live_ids", (tenant,))}

    def count(self, tenant: Tenant) -> int:
        return self._store.read("live_count", (tenant,))[0][0]

    def tenants(self) -> list[Tenant]:
        return [Tenant(tenant) for (tenant,) in self._store.read("tenants")]

    def tenants_without_vector(self, model: str) -> list[Tenant]:
        return [Tenant(tenant) for (tenant,) in self._store.read("tenants_without_vector", (model,))]

    def without_vector(self, tenant: Tenant, model: str, after: str, limit: int) -> list[Record]:
        """Current records whose vector is missing or was made by another model."""
        rows = self._store.read("without_vector", (tenant, model, after, limit))
        return [_record(tenant, id, body, made) for id, _, body, made, _ in rows]

    def last_position(self, tenant: Tenant, episode: str) -> int | None:
        on_disk = self._store.read("last_position", (tenant, episode))[0][0]
        waiting = [
            each[1].record.position
            for (owner, _), each in self._pending.items()
            if owner == tenant and each[1] and each[1].record.episode == episode
        ]
        return max((place for place in (on_disk, *waiting) if place is not None), default=None)

    def episode(self, tenant: Tenant, episode: str, before: int, limit: int, offset: int = 0) -> list[Record]:
        """Records of an episode, latest first."""
        rows = self._store.read("episode", (tenant, episode, before, limit, offset))
        return [kept(row, tenant).record for row in rows]

    def timeline(self, tenant: Tenant, before_ms: int, limit: int, offset: int = 0) -> list[Record]:
        """Episodic records, latest first."""
        rows = self._store.read("timeline", (tenant, before_ms, limit, offset))
        return [kept(row, tenant).record for row in rows]

    def about(self, tenant: Tenant, subject: str) -> list[str]:
        """Ids of records of which any version is about the subject."""
        return [id for (id,) in self._store.read("subject_ids", (tenant, subject))]

    def derived_from(self, tenant: Tenant, id: str) -> list[str]:
        """Ids of records of which any version names `id` as a source, also of those not yet on disk.

        Some of them may be gone: see `drop`.
        """
        found = {each for (each,) in self._store.read("derived_from", (tenant, id))}
        for (owner, other), (_, pending) in self._pending.items():
            if owner == tenant and pending and id in sources_of(pending.record):
                found.add(other)
        return sorted(found)

    def tombstones(self, tenant: Tenant) -> dict[str, Farewell]:
        """How everything went that has gone, by id."""
        reasons = self.notes(tenant, _REASON)
        rows = self._store.read("tombstones", (tenant,))
        return {id: Farewell(at_ms, cause, reasons.get(id, "")) for id, at_ms, cause in rows}

    def beside(self, tenant: Tenant) -> dict[str, list[dict[str, Any]]]:
        """What stands beside the records, by kind, as a snapshot has it."""
        derivations, receipts = (self._store.read(query, (tenant,)) for query in ("derivations", "receipts"))
        return {
            "derivations": [{"source": source, "id": id} for source, id in derivations],
            "tombstones": [{"id": id} | farewell._asdict() for id, farewell in self.tombstones(tenant).items()],
            "grants": self.granted(tenant),
            "receipts": [dict(zip(_RECEIPT, row, strict=True)) for row in receipts],
            "certificates": [{"body": each} for each in self._certificates(tenant)],
        }

    def digest(self, tenant: Tenant, id: str) -> str | None:
        """Of the current version, as the journal has it. On disk only."""
        for salt, body in self._store.read("salted", (tenant, id)):
            return _named(salt, body)
        return None

    def _certificates(self, tenant: Tenant) -> list[bytes]:
        return [body for (body,) in self._store.read("certificates", (tenant, _BEHIND_ALL, ALL))]

    def certificate(self, tenant: Tenant, id: str) -> Certificate | None:
        rows = self._store.read("certificate", (tenant, id))
        return Certificate.model_validate(unpack(rows[0][0])) if rows else None

    def certificates(self, tenant: Tenant, before: str | None, limit: int) -> list[Certificate]:
        """Newest first; only those with an id below `before`."""
        rows = self._store.read("certificates", (tenant, before or _BEHIND_ALL, limit))
        return [Certificate.model_validate(unpack(body)) for (body,) in rows]

    def certified(self, tenant: Tenant) -> Iterator[dict[str, str]]:
        """What the journal says was certified: digests by certificate, page by page."""
        after = 0
        while rows := self._store.read("entries", (after, _PAGE)):
            events = (decode_event(entry) for _, entry, _ in rows)
            made = (event.data for event in events if event.kind is Kind.MEMORY_CERTIFIED)
            yield {each["certificate"]: each["digest"] for each in made if each["tenant"] == tenant}
            after = rows[-1][0]

    def owed(self, tenant: Tenant) -> list[Certificate]:
        """Certificates of erasures that may still be in some file. On disk only."""
        return [Certificate.model_validate(each) for each in self.notes(tenant, _OWED).values()]

    def head_at(self, sequence: int) -> str | None:
        """The hash of an entry, in hex. None where the journal does not go so far."""
        rows = self._store.read("entries", (sequence - 1, 1))
        return rows[0][2].hex() if rows and rows[0][0] == sequence else None

    def last_change(self, tenant: Tenant) -> int:
        """The last entry that wrote a record of the tenant, or deleted one."""
        return self._store.read("last_change", (tenant, tenant))[0][0] or 0

    def due(self, now_ms: int, limit: int = 10_000) -> list[tuple[Tenant, str]]:
        return [(Tenant(tenant), id) for tenant, id in self._store.read("due", (now_ms, limit))]

    def next_due(self) -> int | None:
        """Unix milliseconds at which the next record expires."""
        return self._store.read("next_due")[0][0]

    def note(self, tenant: Tenant, collection: str, key: str) -> Any:
        """What was noted beside the records. None when nothing was."""
        rows = self._store.read("note", (tenant, collection, key))
        return unpack(rows[0][0]) if rows else None

    def notes(self, tenant: Tenant, collection: str) -> dict[str, Any]:
        return {key: unpack(value) for key, value in self._store.read("notes", (tenant, collection))}

    @property
    def unclean(self) -> Mapping[Tenant, int]:
        """Tenants of whom something was deleted that may still be in files, and the entry that deleted it last."""
        return self._unclean

    def head(self) -> tuple[int, bytes]:
        """Sequence and hash of the last journal entry on disk."""
        rows = self._store.read("head")
        return (rows[0][0], rows[0][1]) if rows else (0, b"")

    def news(self, after: int, limit: int) -> list[tuple[int, bytes | None, bytes]]:
        """Journal entries on disk after `after`, oldest first: sequence, entry, hash. First comes the one at `after`,
        without its entry, so that whoever follows sees whether it is the log that was followed."""
        return [(sequence, entry, hash) for sequence, entry, hash in self._store.read("news", (after, limit))]

    @property
    def sequence(self) -> int:
        """Of the last journal entry, on disk or not."""
        return self._recorder.sequence

    # Writing: at once in memory; on disk once `durable` is done

    def durable(self) -> "Future[None]":
        """Done when everything written so far is on disk. Raises StorageError when it never will be."""
        return self._recorder.durable()

    def add(self, caller: Caller, added: Sequence[Kept], replaced: Sequence[Kept] = ()) -> None:
        """New records, and new versions of records that are there: one entry for each kind."""
        self._put(Kind.MEMORY_REMEMBERED, caller, added, {})
        self._put(Kind.MEMORY_REVISED, caller, replaced, {})

    def revise(self, caller: Caller, revised: Kept) -> None:
        self._put(Kind.MEMORY_REVISED, caller, [revised], {})

    def pin(self, caller: Caller, pinned: Kept) -> None:
        self._put(Kind.MEMORY_PINNED, caller, [pinned], {"pinned": pinned.record.pinned})

    def forget(
        self,
        caller: Caller,
        ids: Sequence[str],
        cause: str,
        *,
        derived: Sequence[str] = (),
        traces: Sequence[str] = (),
        keep: Sequence[Kept] = (),
        reason: str = "",
    ) -> int | None:
        """Deletes records with all their versions; `keep` are derived records that stay, with nothing of their past.

        All that was derived has to be in `derived`, or in `keep` without what goes: where it came from is forgotten
        too. So it is of `traces`, what had gone before. Everything before this has to be on disk.

        Returns the entry that says so; None when there is nothing to do.
        """
        if not (ids or derived or keep):
            return None
        tenant, gone = caller.tenant, {*ids, *derived}
        left = self._parents(tenant, gone) - {*gone, *traces}
        sequence = self._gone(caller, ids, cause, derived, reason)
        for id in sorted({*gone, *traces}):
            self._write("delete_derivations", tenant, id)
            self._write("delete_sources", tenant, id)
        left |= self._keep(caller, keep, sequence) - {*gone, *traces}
        self._contract(tenant, left)
        return sequence

    def drop(self, caller: Caller, ids: Sequence[str], cause: str) -> None:
        """Deletes records with all their versions, whose derivatives stay: those that expired, were evicted, replaced.

        Where the derivatives came from outlives the record, or nobody could find them when that is erased. What names
        it goes on naming it, because a summary says of its lines through whom they came, and its subject takes the
        place of a source. Not so a record that nothing alive names any more: its sources become those of what was made
        of it, in the same commit. Were it kept instead, a chain in which each is made of the one before, and expires,
        would grow for ever; were all bridged, a summary could not tell which line has to go. So there are never more
        of the gone than what the living ones name, and each has at most all the living and all subjects for a source.
        """
        if not ids:
            return
        for id in ids:
            self._write("insert_subject_derivation", caller.tenant, id)
        self._gone(caller, ids, cause)
        self._contract(caller.tenant, ids)

    def embed(self, tenant: Tenant, by: str, model: str, vectors: Sequence[tuple[str, int, Vector]]) -> None:
        """Vectors of versions: id, version, vector. What is gone by then stays gone."""
        if not vectors:
            return
        data = {"tenant": tenant, "by": by, "model": model, "records": [id for id, _, _ in vectors]}
        self._recorder.append(Kind.MEMORY_EMBEDDED, None, None, data)
        for id, version, vector in vectors:
            if (found := self._pending.get((tenant, id))) is None or found[1] is not None:
                self._write("write_embedding", tenant, id, version, model, packed(vector))

    def grant(self, caller: Caller, owner: str, reader: str, granted: bool) -> None:
        data = {"tenant": caller.tenant, "by": caller.by, "owner": owner, "reader": reader, "granted": granted}
        event = self._append(Kind.MEMORY_GRANTED, caller, data)
        if granted:
            self._write("write_grant", caller.tenant, owner, reader, caller.by, event.at_ms)
        else:
            self._write("delete_grant", caller.tenant, owner, reader)

    def write_receipt(
        self, tenant: Tenant, key: IdempotencyKey, said: bytes, records: Sequence[tuple[str, str]]
    ) -> None:
        """Says what came of a key, in the commit of the writes before it."""
        salt = self._entropy.bytes(16)
        body = pack([list(each) for each in records])
        row = (salt, _salted(salt, said), body, self._clock.now_ms(), self._recorder.sequence)
        self._write("write_receipt", tenant, key, *row)
        for id, _ in records:
            self._write("insert_receipt_record", tenant, id, key)
        self._receipts[tenant, key] = said, tuple(records)
        self._when_durable(lambda: self._receipts.pop((tenant, key), None))

    def drop_receipts(self, before_ms: int) -> None:
        """Keys used before that moment are free again."""
        self._write("delete_receipt_records", before_ms)
        self._write("delete_receipts", before_ms)

    def owe(self, certificate: Certificate) -> None:
        """Notes that a certificate is due, in the commit of the erasure before it."""
        self.write_note(certificate.tenant, _OWED, certificate.id, certificate.model_dump(mode="json"))
        self._soil(certificate.tenant, self._recorder.sequence)

    def certify(self, certificate: Certificate) -> None:
        """Keeps a certificate for good, which is not due any more."""
        about = {"tenant": certificate.tenant, "by": certificate.by, "certificate": certificate.id}
        caller = Caller(tenant=certificate.tenant, by=certificate.by)
        self._append(Kind.MEMORY_CERTIFIED, caller, {**about, "digest": certificate.digest})
        self._write("insert_certificate", certificate.tenant, certificate.id, pack(certificate.model_dump(mode="json")))
        self.write_note(certificate.tenant, _OWED, certificate.id, None)

    def clean(self, tenant: Tenant, sequence: int) -> None:
        """Nothing that was deleted by then is in any file any more."""
        if self._unclean.get(tenant) == sequence:
            del self._unclean[tenant]
            self.write_note(tenant, _UPKEEP, _UNCLEAN, None)

    def write_note(self, tenant: Tenant, collection: str, key: str, value: Any) -> None:
        """Notes something beside the records; None takes it away."""
        if value is None:
            self._write("delete_note", tenant, collection, key)
        else:
            self._write("write_note", tenant, collection, key, pack(value))

    # Restoring

    def restored(self, tenant: Tenant, seal: str) -> bool | None:
        """Whether the snapshot with this seal was restored. False when that was begun alone, None when it was not."""
        return self.note(tenant, _RESTORING, seal)

    def begin_restoring(self, caller: Caller, seal: str, beside: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Says whose snapshot is brought back, with what stands beside its records. What is there already stays."""
        tenant = caller.tenant
        about = {"tenant": tenant, "by": caller.by, "records": [], "snapshot": seal}
        sequence = self._append(Kind.MEMORY_RESTORED, caller, about).sequence
        self.write_note(tenant, _RESTORING, seal, self.restored(tenant, seal) or False)
        for row in beside.get("tombstones", ()):
            self._write("insert_tombstone", tenant, row["id"], sequence, row["at_ms"], row["cause"])
            if row["reason"]:
                self.write_note(tenant, _REASON, row["id"], row["reason"])
        for row in beside.get("derivations", ()):
            self._write("insert_derivation", tenant, row["source"], row["id"])
        for row in beside.get("grants", ()):
            self._write("write_grant", tenant, row["owner"], row["reader"], row["by"], row["at_ms"])
        for row in beside.get("receipts", ()):
            self._write("insert_receipt", tenant, *(row[name] for name in _RECEIPT), sequence)
            for id, _ in unpack(row["body"]):
                self._write("insert_receipt_record", tenant, id, row["key"])
        for row in beside.get("certificates", ()):
            self._write("insert_certificate", tenant, unpack(row["body"])["id"], row["body"])

    def restore(self, caller: Caller, versions: Sequence[Kept], seal: str) -> None:
        """Versions of records as they were, all of each, oldest first."""
        self._put(Kind.MEMORY_RESTORED, caller, versions, {"snapshot": seal})

    def end_restoring(self, tenant: Tenant, seal: str) -> None:
        """All of it is there."""
        self.write_note(tenant, _RESTORING, seal, True)

    # How

    def _gone(
        self, caller: Caller, ids: Sequence[str], cause: str, derived: Sequence[str] = (), reason: str = ""
    ) -> int:
        """Deletes records, but not where they stood between others. Returns the entry that says so."""
        gone = {*ids, *derived}
        about = {"tenant": caller.tenant, "by": caller.by, "records": sorted(gone - {*derived})}
        why = {"cause": cause} | ({"reason": reason} if reason else {})
        event = self._append(Kind.MEMORY_FORGOTTEN, caller, {**about, "derived": sorted(derived), **why})
        for id in sorted(gone):
            if reason:
                self.write_note(caller.tenant, _REASON, id, reason)
            self._write("insert_tombstone", caller.tenant, id, event.sequence, event.at_ms, cause)
            self._delete(caller.tenant, id, ALL, event.sequence)
            self._pending[caller.tenant, id] = event.sequence, None
        self._settle_when_durable(caller.tenant, gone, event.sequence)
        self._soil(caller.tenant, event.sequence)
        return event.sequence

    def _soil(self, tenant: Tenant, sequence: int) -> None:
        self._unclean[tenant] = sequence
        self.write_note(tenant, _UPKEEP, _UNCLEAN, sequence)

    def _keep(self, caller: Caller, keep: Sequence[Kept], sequence: int) -> set[str]:
        """Writes what is left of records, in place of their past. Returns the sources of which nothing is left."""
        lost = {each.record.id: self._parents(caller.tenant, [each.record.id]) for each in keep}
        self._put(Kind.MEMORY_REVISED, caller, keep, {})
        for each in keep:
            self._delete(caller.tenant, each.record.id, each.record.version, sequence)
            lost[each.record.id] -= sources_of(each.record)
            for source in sorted(lost[each.record.id]):
                self._write("delete_derivation", caller.tenant, source, each.record.id)
        return set[str]().union(*lost.values())

    def _parents(self, tenant: Tenant, ids: Iterable[str]) -> set[str]:
        """What any version of these names as a source. On disk only."""
        return {source for id in ids for (source,) in self._store.read("sources", (tenant, id))}

    def _contract(self, tenant: Tenant, ids: Iterable[str]) -> None:
        """Takes out of the graph those of them, and of their sources, that are gone and that nothing alive names."""
        for id in sorted(ids):
            self._write("bridge_derivations", tenant, id)
            self._write("delete_bridged", tenant, id)

    def _put(self, kind: Kind, caller: Caller, records: Sequence[Kept], more: Mapping[str, Any]) -> None:
        if not records:
            return
        prepared = [self._prepared(each) for each in records]
        said = [[each.record.id, each.record.version, digest] for each, _, _, digest in prepared]
        event = self._append(kind, caller, {"tenant": caller.tenant, "by": caller.by, "records": said, **more})
        for each, salt, body, _ in prepared:
            self._row(caller.tenant, each, event.sequence, salt, body)
        self._settle_when_durable(caller.tenant, [each.record.id for each in records], event.sequence)

    def _prepared(self, each: Kept) -> tuple[Kept, bytes, bytes, str]:
        salt, body = self._entropy.bytes(16), body_of(each.record)
        return each, salt, body, _named(salt, body)

    def _append(self, kind: Kind, caller: Caller, data: Mapping[str, Any]) -> Any:
        return self._recorder.append(kind, caller.task, caller.step, data)

    def _row(self, tenant: Tenant, each: Kept, sequence: int, salt: bytes, body: bytes) -> None:
        record = each.record
        times = (record.updated_ms, record.expires_ms)
        place = (record.episode, record.position, record.created_ms, int(record.layer is Layer.EPISODIC))
        self._write(
            "insert_record", tenant, record.id, record.version, sequence, *times, *place, record.subject, salt, body
        )
        if record.version > 1:
            self._write("end_version", record.updated_ms, tenant, record.id, record.version - 1)
        if each.vector is not None and record.embedding is not None:
            self._write("write_embedding", tenant, record.id, record.version, record.embedding, packed(each.vector))
        self._sources(tenant, record)
        self._pending[tenant, record.id] = sequence, each

    def _sources(self, tenant: Tenant, record: Record) -> None:
        for source in sorted(sources_of(record)):
            self._write("insert_derivation", tenant, source, record.id)

    def _delete(self, tenant: Tenant, id: str, below: int, sequence: int) -> None:
        self._write("blind_receipts", tenant, id, sequence)
        self._write("delete_versions", tenant, id, below)
        self._write("delete_embeddings", tenant, id, below)

    def _write(self, statement: str, *row: Any) -> None:
        self._recorder.write(Write(statement, row))

    def _settle_when_durable(self, tenant: Tenant, ids: Iterable[str], sequence: int) -> None:
        self._when_durable(lambda: self._settle(tenant, ids, sequence))

    def _settle(self, tenant: Tenant, ids: Iterable[str], sequence: int) -> None:
        """What is on disk is not waited for, unless it was written again meanwhile."""
        for id in ids:
            if (pending := self._pending.get((tenant, id))) is not None and pending[0] == sequence:
                del self._pending[tenant, id]

    def _when_durable(self, action: Callable[[], Any]) -> None:
        self._recorder.durable().add_done_callback(lambda future: future.cancelled() or future.exception() or action())


def body_of(record: Record) -> bytes:
    """What is kept of a record, less what other columns say."""
    return pack(record.model_dump(mode="json", exclude={"id", "tenant", "embedding"}))


def kept(row: Sequence[Any], tenant: Tenant) -> Kept:
    """Of a row of id, version, body, model, vector."""
    id, _, body, model, vector = row[:5]
    return Kept(_record(tenant, id, body, model), unpacked(vector))


def _version(row: Sequence[Any], tenant: Tenant) -> Version:
    """Of a row of id, version, body, model, vector, and when it was known from and until."""
    return Version(*kept(row, tenant), row[5], row[6])


def _record(tenant: Tenant, id: str, body: bytes, model: str | None, *, ended: int | None = None) -> Record:
    data = unpack(body) | {"id": id, "tenant": tenant, "embedding": model}
    return Record.model_validate(data | {"state": State.SUPERSEDED} if ended is not None else data)


def packed(vector: Any) -> bytes:
    """Half precision: neighbours by cosine stay the same to the third decimal, at half the size."""
    return cast("bytes", vector.astype("<f2").tobytes())


def unpacked(vector: bytes | None) -> "NDArray[float32] | None":
    if vector is None:
        return None
    return numpy.frombuffer(vector, dtype="<f2").astype(numpy.float32)


def _named(salt: bytes, body: bytes) -> str:
    """The digest of a version as the journal has it."""
    return "sha256:" + _salted(salt, body).hex()


def _salted(salt: bytes, said: bytes) -> bytes:
    return hashlib.sha256(salt + said).digest()
