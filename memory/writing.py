"""Writing: the gate, the log, the shelf, in that order, and then the disk.

Whoever looks and then writes holds the shelf's gate meanwhile, so that nothing comes in between: two drafts that say
the same make one record, of two who compare and set one loses. Nobody holds it while waiting for the disk.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from ..contracts import (
    BudgetExhausted,
    Clock,
    Conflict,
    Entropy,
    Faults,
    IdempotencyKey,
    InvalidInput,
    KeyReused,
    NotFound,
    Tenant,
)
from ..contracts.caller import Caller
from ..contracts.ids import step_key
from ..contracts.memory import Change, Draft, Hit, Record, Remembered, State
from ..contracts.plain import check, pack
from . import faults as points
from .access import (
    Lifetimes,
    check_pin,
    check_plain,
    check_read,
    check_write,
    is_person,
    prepared,
    view_of,
)
from .certificates import Claim, unsigned
from .embedding import Embedding, Vectors
from .log import Kept, Log, Receipt
from .numbering import Numbering
from .ports import Decision, Erasure, Gate, Graph, PlanErasure, Scored, Sought, together
from .shelf import Shelf
from .wording import forget_texts, wording

NEAR = 5
"""Records that the gate looks at for each draft."""
Clean = Callable[[Draft, Tenant], Draft]
"""A tenant's draft as it may be written: without what must not be kept."""

Plan = Callable[[Graph], Sequence[Claim]]
"""Of an erasure: made when nobody else writes, and each claim gets a certificate."""
AT_A_STRETCH = 4
"""Drafts that are judged until others have a turn: about a millisecond."""
MAX_DRAFTS = 1000
"""At once."""
_GONE = "it was forgotten since"


def unchanged(draft: Draft, tenant: Tenant) -> Draft:
    """A draft as it is."""
    return draft


@dataclass(frozen=True, slots=True)
class Budget:
    """What one tenant may keep."""

    records: int = 1_000_000
    text_bytes: int = 1 << 30


@dataclass(slots=True)
class _Batch:
    """What is about to be written together."""

    new: dict[str, Kept] = field(default_factory=dict[str, Kept])
    revised: list[Kept] = field(default_factory=list[Kept])
    results: list[Remembered] = field(default_factory=list[Remembered])
    places: dict[str, int] = field(default_factory=dict[str, int])
    """Last position by episode."""
    ids: list[str] = field(default_factory=list[str])
    """Of those in `new` that have a vector, by their row in `vectors`."""
    vectors: Any = None
    keys: list[frozenset[str]] = field(default_factory=list[frozenset[str]])
    """Of the texts in `new`."""
    all_keys: set[str] = field(default_factory=set[str])
    aside: bool = False
    """One of those in `new` is in quarantine."""

    def store(self, each: Kept, most: int) -> None:
        """One more of at most so many."""
        self.new[each.record.id] = each
        self.aside |= each.record.state is State.QUARANTINED
        self.keys.append(wording(each.record.text).keys)
        self.all_keys |= self.keys[-1]
        if each.vector is not None:
            if self.vectors is None:
                self.vectors = numpy.empty((most, len(each.vector)), numpy.float32)
            self.vectors[len(self.ids)] = each.vector
            self.ids.append(each.record.id)

    def near(self, vector: Any, sought: Sought) -> list[tuple[Scored, Record]]:
        """Drafts before this one in the same batch, the most similar first; without vectors the latest. None where none
        of them is sought.
        """
        if not self._has(sought):
            return []
        if vector is None or not self.ids:
            return [(Scored(id, 0, {}), each.record) for id, each in list(self.new.items())[-NEAR:]]
        cosines = self.vectors[: len(self.ids)] @ vector
        best = numpy.argsort(-cosines)[:NEAR] if len(cosines) <= NEAR else numpy.argpartition(-cosines, NEAR)[:NEAR]
        found = [(self.ids[row], float(cosines[row])) for row in best]
        return [(Scored(id, cosine, {"vector": cosine}), self.new[id].record) for id, cosine in found]

    def _has(self, sought: Sought) -> bool:
        if sought.aside and self.aside:
            return True
        return sought.keys <= self.all_keys and any(sought.keys <= keys for keys in self.keys)

    def latest(self, shelf: Shelf, id: str) -> Kept | None:
        """A record as it will be."""
        found = next((each for each in reversed(self.revised) if each.record.id == id), None) or self.new.get(id)
        return found or shelf.kept(id)

    def replace(self, each: Kept) -> None:
        """A record that is not stored yet is changed as it stands; one that is gets another version."""
        if each.record.id in self.new:
            self.new[each.record.id] = each
        else:
            self.revised.append(each)


class Writing:
    """The verbs that change something, over an open shelf. What they return is on disk."""

    def __init__(
        self,
        log: Log,
        embedding: Embedding,
        clock: Clock,
        entropy: Entropy,
        faults: Faults,
        *,
        gate: Gate | None,
        plan_erasure: PlanErasure,
        lifetimes: Lifetimes,
        budget_of: Callable[[Tenant], Budget],
        clean: Clean = unchanged,
    ) -> None:
        self._log, self._embedding = log, embedding
        self._clock, self._faults = clock, faults
        self._ids = Numbering(clock, entropy)
        self._gate, self._plan_erasure = gate, plan_erasure
        self._lifetimes, self._budget_of = lifetimes, budget_of
        self._clean = clean

    # Remember

    async def remember(
        self, shelf: Shelf, drafts: Sequence[Draft], caller: Caller, key: IdempotencyKey | None
    ) -> list[Remembered]:
        if len(drafts) > MAX_DRAFTS:
            raise InvalidInput(f"{len(drafts)} drafts at once, and {MAX_DRAFTS} are taken at most. Send them in parts")
        ready = [prepared(self._clean(draft, shelf.tenant), caller, self._lifetimes) for draft in drafts]
        said = _said(drafts) if key else b""
        vectors = await self._embedding.of([draft.text for draft in ready])
        async with shelf.gate:
            if key and (receipt := self._log.receipt(shelf.tenant, key, said)):
                if receipt.same is not False:
                    return [self._again(shelf, *each, caller) for each in zip(receipt.records, ready, strict=True)]
                self._take_back(shelf, caller, key, receipt)
            batch = await self._judged(shelf, ready, vectors, caller)
            self._write(shelf, caller, batch)
            if key:
                outcomes = [(each.record.id, each.outcome) for each in batch.results]
                self._log.write_receipt(shelf.tenant, key, said, outcomes)
            self._faults.reach(points.before("remember"))
        await self._log.durable()
        self._faults.reach(points.after("remember"))
        return batch.results

    async def _judged(self, shelf: Shelf, drafts: Sequence[Draft], vectors: Vectors, caller: Caller) -> _Batch:
        batch, now_ms = _Batch(), self._clock.now_ms()
        await shelf.read_lately()
        for draft, vector in zip(drafts, vectors.rows, strict=True):
            draft = self._with_sources(shelf, draft, caller)
            decision = await self._decision(shelf, batch, draft, vector, caller)
            record = self._record(shelf, batch, draft, vectors.model, now_ms)
            self._follow(shelf, batch, decision, Kept(record, vector), len(drafts))
            if len(batch.results) % AT_A_STRETCH == 0:
                await asyncio.sleep(0)  # whoever recalls or embeds has work meanwhile
        return batch

    async def _decision(self, shelf: Shelf, batch: _Batch, draft: Draft, vector: Any, caller: Caller) -> Decision:
        if self._gate is None:
            return Decision()
        view, now_ms, sought = view_of(caller, shelf.grants), self._clock.now_ms(), self._gate.seeks(draft)
        found = [*await shelf.near(draft.text, vector, NEAR, sought), *batch.near(vector, sought)]
        near = [_hit(scored, record) for scored, record in found if view.shows(record) and _lives(record, now_ms)]
        lately = [record for record in shelf.recalled_lately(draft.text) if view.shows(record)]
        facts = [*shelf.facts(draft.fact), *_facts_in(batch, shelf, draft)] if draft.fact else []
        return self._gate.judge(draft, caller, near, lately, [each for each in facts if view.shows(each)])

    def _follow(self, shelf: Shelf, batch: _Batch, decision: Decision, each: Kept, most: int) -> None:
        """Does what the gate decided, of at most so many."""
        contradicts = list(decision.contradicts)
        target = batch.latest(shelf, decision.target) if decision.target else None
        if target is not None and decision.outcome in ("merged", "echo"):
            if decision.change is not None and not target.record.pinned:
                target = Kept(self._changed(target.record, decision.change), target.vector)
                batch.replace(target)
            result = Remembered(record=target.record, outcome=decision.outcome, reason=decision.reason)
        else:
            aside = decision.outcome == "quarantined"
            record = each.record
            if aside or decision.labels:
                labels = tuple(sorted({*record.labels, *decision.labels}))
                state = State.QUARANTINED if aside else State.LIVE
                record = record.model_copy(update={"labels": labels, "state": state})
            batch.store(Kept(record, each.vector), most)
            self._end(shelf, batch, decision.ends)
            outcome = "quarantined" if aside else "stored"
            result = Remembered(record=record, outcome=outcome, reason=decision.reason, contradicts=contradicts)
        batch.results.append(result)

    def _end(self, shelf: Shelf, batch: _Batch, ends: Mapping[str, Change]) -> None:
        for id, change in ends.items():
            if (old := batch.latest(shelf, id)) is not None:
                batch.replace(Kept(self._changed(old.record, change), old.vector))

    def _record(self, shelf: Shelf, batch: _Batch, draft: Draft, model: str | None, now_ms: int) -> Record:
        ttl = draft.ttl_seconds
        return Record.model_validate(
            dict(draft)
            | {
                "id": self._ids.next(),
                "tenant": shelf.tenant,
                "embedding": model,
                "created_ms": now_ms,
                "updated_ms": now_ms,
                "position": self._position(shelf, batch, draft),
                "valid_from_ms": now_ms if draft.valid_from_ms is None else draft.valid_from_ms,
                "expires_ms": None if ttl is None else now_ms + int(ttl * 1000),
            }
        )

    def _position(self, shelf: Shelf, batch: _Batch, draft: Draft) -> int | None:
        if draft.episode is None:
            return draft.position
        last = batch.places.get(draft.episode)
        if last is None:
            found = self._log.last_position(shelf.tenant, draft.episode)
            last = -1 if found is None else found
        position = last + 1 if draft.position is None else draft.position
        batch.places[draft.episode] = max(last, position)
        return position

    def _with_sources(self, shelf: Shelf, draft: Draft, caller: Caller) -> Draft:
        """The draft with the labels of what it was derived from. Raises InvalidInput for sources that are not there."""
        if not draft.provenance.derived_from:
            return draft
        labels = {*draft.labels} | self._labels_of(shelf, draft.provenance.derived_from, caller)
        return draft.model_copy(update={"labels": tuple(sorted(labels))})

    def _labels_of(self, shelf: Shelf, sources: Iterable[str], caller: Caller) -> set[str]:
        """Raises InvalidInput for sources that are not there, or that the caller may not read."""
        labels, view = set[str](), view_of(caller, shelf.grants)
        for source in sources:
            record = shelf.record(source)
            if record is None or not view.shows(record):
                raise InvalidInput(f"derived_from names {source:.80}, which is not there", pointer="/provenance")
            labels.update(record.labels)
        return labels

    def _write(self, shelf: Shelf, caller: Caller, batch: _Batch) -> None:
        new = list(batch.new.values())
        self._check_budget(shelf, new)
        before = {each.record.id: old for each in batch.revised if (old := shelf.record(each.record.id))}
        self._log.add(caller, new, batch.revised)
        shelf.put([*new, *_last(batch.revised)], before=before)

    def _check_budget(self, shelf: Shelf, new: Sequence[Kept]) -> None:
        records, text = shelf.live + len(new), shelf.text_bytes + sum(len(each.record.text) for each in new)
        budget = self._budget_of(shelf.tenant)
        if new and (records > budget.records or text > budget.text_bytes):
            raise BudgetExhausted(
                f"this tenant keeps {budget.records} records and {budget.text_bytes} characters at most. Forget some, "
                "let them expire, or allow more in hanse.yaml: in the tenant's memory, or memory.records_per_tenant",
                records=shelf.live,
            )

    # The same key again

    def _again(self, shelf: Shelf, was: tuple[str, str], draft: Draft, caller: Caller) -> Remembered:
        id, outcome = was
        if (record := shelf.record(id)) is not None:
            return Remembered.model_validate({"record": record, "outcome": outcome, "reason": "as before"})
        now_ms = self._clock.now_ms()
        times = {"created_ms": now_ms, "updated_ms": now_ms, "state": State.SUPERSEDED}
        gone = Record.model_validate(dict(draft) | {"id": id, "tenant": shelf.tenant, **times})
        return Remembered.model_validate({"record": gone, "outcome": outcome, "reason": _GONE})

    def _take_back(self, shelf: Shelf, caller: Caller, key: IdempotencyKey, receipt: Receipt) -> None:
        """A handler ran again and says something else: what it said before goes. Raises KeyReused for anybody else."""
        own = step_key(caller.task, caller.step) if caller.task and caller.step else None
        if own is None or not key.startswith(f"{own}/"):
            raise KeyReused(f"the key {key!r:.200} was used before with other drafts", key=key)
        stored = [id for id, outcome in receipt.records if outcome in ("stored", "quarantined")]
        gone = [record for id in stored if (record := shelf.record(id))]
        self._log.drop(caller, [record.id for record in gone], "replaced")
        shelf.remove(gone)

    # Revise and pin

    async def revise(
        self, shelf: Shelf, id: str, change: Change, caller: Caller, version: int, key: IdempotencyKey | None
    ) -> Record:
        said = pack([id, version, change.model_dump(mode="json", exclude_none=True)]) if key else b""
        change = _cleaned(change, lambda draft: self._clean(draft, shelf.tenant))
        vectors = await self._embedding.of([change.text] if change.text is not None else [])
        async with shelf.gate:
            if key and (receipt := self._log.receipt(shelf.tenant, key, said)):
                return self._revised_before(shelf, key, receipt)
            old = self._writable(shelf, id, caller)
            if old.record.version != version:
                raise Conflict(
                    f"the record is at version {old.record.version}, not {version}. Read it again and decide anew",
                    record=id,
                    version=old.record.version,
                )
            inherited = self._labels_of(shelf, change.derived_from or (), caller)
            record = self._changed(old.record, _allowed_change(old.record, change, caller, inherited))
            check_plain(record)
            new = self._with_vector(record, old, vectors if change.text is not None else None)
            self._log.revise(caller, new)
            if key:
                self._log.write_receipt(shelf.tenant, key, said, [(id, "stored")])
            shelf.put([new], before={id: old.record})
            self._faults.reach(points.before("revise"))
        await self._log.durable()
        self._faults.reach(points.after("revise"))
        return new.record

    def _revised_before(self, shelf: Shelf, key: IdempotencyKey, receipt: Receipt) -> Record:
        [(id, _)] = receipt.records
        if receipt.same is False:
            raise KeyReused(f"the key {key!r:.200} was used before for another change", key=key)
        if (record := shelf.record(id)) is None:
            raise NotFound(_GONE, record=id)
        return record

    async def pin(self, shelf: Shelf, id: str, caller: Caller, *, pinned: bool) -> Record:
        check_pin(caller)
        async with shelf.gate:
            old = self._existing(shelf, id)
            check_read(old.record, view_of(caller, shelf.grants))
            if old.record.pinned == pinned:
                return old.record
            new = Kept(self._next(old.record, {"pinned": pinned}), old.vector)
            self._log.pin(caller, new)
            shelf.put([new], before={id: old.record})
            self._faults.reach(points.before("revise"))
        await self._log.durable()
        return new.record

    def _changed(self, old: Record, change: Change) -> Record:
        """The next version."""
        said = {name: value for name, value in change if value is not None and name != "derived_from"}
        if new := [id for id in change.derived_from or () if id != old.id]:
            sources = tuple(dict.fromkeys((*old.provenance.derived_from, *new)))
            said["provenance"] = old.provenance.model_copy(update={"derived_from": sources})
        if change.ttl_seconds is not None:
            self._lifetimes.of(old.model_copy(update={"ttl_seconds": change.ttl_seconds}))
            said["expires_ms"] = self._clock.now_ms() + int(change.ttl_seconds * 1000)
        return self._next(old, said)

    def _next(self, old: Record, said: Mapping[str, Any]) -> Record:
        now_ms = max(self._clock.now_ms(), old.updated_ms)
        return Record.model_validate(dict(old) | {**said, "version": old.version + 1, "updated_ms": now_ms})

    def _with_vector(self, record: Record, old: Kept, vectors: Vectors | None) -> Kept:
        if vectors is None:
            return Kept(record, old.vector)
        return Kept(record.model_copy(update={"embedding": vectors.model}), vectors.rows[0])

    def _writable(self, shelf: Shelf, id: str, caller: Caller) -> Kept:
        old = self._existing(shelf, id)
        check_read(old.record, view_of(caller, shelf.grants))
        check_write(old.record, caller)
        return old

    def _existing(self, shelf: Shelf, id: str) -> Kept:
        """Raises NotFound."""
        found = shelf.kept(id)
        if found is None or not _lives(found.record, self._clock.now_ms()):
            raise NotFound("there is no such record", record=id[:100])
        return found

    # Forget

    async def forget(self, shelf: Shelf, ids: Sequence[str], caller: Caller, reason: str = "") -> list[str]:
        """The ids of the certificates that are due. The reason is kept."""

        def plan(graph: Graph) -> list[Claim]:
            return [Claim(self._plan_erasure(self._forgettable(shelf, ids, caller), graph))]

        return await self.erase(shelf, plan, caller, cause="asked", reason=reason)

    async def erase(
        self,
        shelf: Shelf,
        plan: Plan,
        caller: Caller,
        *,
        cause: str = "erased",
        reason: str = "",
    ) -> list[str]:
        """Erases and rewrites by a plan that looks at everything the tenant has; the ids of the certificates of it,
        claim by claim, which are due when it has left the files.

        Everything has to be on disk for that, and nothing may be written between the plan and what it leads to.
        """
        async with shelf.gate:
            due = await self.erase_held(shelf, plan, caller, cause, reason)
        await self._log.durable()
        self._faults.reach(points.after("forget"))
        return due

    async def erase_held(
        self,
        shelf: Shelf,
        plan: Plan,
        caller: Caller,
        cause: str,
        reason: str,
    ) -> list[str]:
        """The same for whoever holds the shelf's gate, and waits for the disk when it is let go of."""
        await self._log.durable()
        return await self._erase(shelf, plan(Derivations(shelf, self._log)), caller, cause, reason)

    async def _erase(self, shelf: Shelf, claims: Sequence[Claim], caller: Caller, cause: str, reason: str) -> list[str]:
        erasure = together(each.erasure for each in claims)
        keep = await self._rewritten(shelf, erasure)
        gone = [record for id in (*erasure.delete, *erasure.derived) if (record := shelf.record(id))]
        before = {each.record.id: old for each in keep if (old := shelf.record(each.record.id))}
        places, digests = _places(gone), self._digests(shelf.tenant, [*gone, *before.values()])
        entry = self._log.forget(
            caller, erasure.delete, cause, derived=erasure.derived, traces=erasure.traces, keep=keep, reason=reason
        )
        places |= shelf.remove(gone)
        shelf.put(keep, before=before, rewritten=True)
        forget_texts()
        about: dict[str, Any] = {"by": caller.by, "at_ms": self._clock.now_ms(), "entry": entry, "reason": reason}
        due = [unsigned(self._ids.next(), shelf.tenant, each, places, digests, **about) for each in claims]
        for each in due:
            self._log.owe(each)
        self._faults.reach(points.before("forget"))
        return [each.id for each in due]

    def _digests(self, tenant: Tenant, records: Iterable[Record]) -> dict[str, str]:
        found = ((record.id, self._log.digest(tenant, record.id)) for record in records)
        return {id: digest for id, digest in found if digest is not None}

    async def evict(self, shelf: Shelf, ids: Sequence[str], caller: Caller) -> int:
        """Deletes records to make room. What was derived from them stays: a summary outlives its sources."""
        async with shelf.gate:
            gone = [record for id in ids if (record := shelf.record(id)) and not record.pinned]
            self._log.drop(caller, [record.id for record in gone], "evicted")
            shelf.remove(gone)
        await self._log.durable()
        return len(gone)

    def _forgettable(self, shelf: Shelf, ids: Sequence[str], caller: Caller) -> list[str]:
        """Those that are there. What never was is NotFound.

        What has gone by itself may have left something derived: people have that forgotten too. For others it is
        passed over, because nobody can tell any more whose it was.
        """
        found: list[str] = []
        for id in dict.fromkeys(ids):
            check(id, "/ids")
            if (record := shelf.record(id)) is not None:
                check_write(record, caller, forget=True)
            elif not self._log.is_forgotten(shelf.tenant, id):
                raise NotFound("there is no such record", record=id[:100])
            if record is not None or is_person(caller):
                found.append(id)
        return found

    async def _rewritten(self, shelf: Shelf, erasure: Erasure) -> list[Kept]:
        texts = {id: record.text for id, record in erasure.rewrite.items()}
        vectors = await self._embedding.of(list(texts.values()))
        kept: list[Kept] = []
        for (id, left), vector in zip(erasure.rewrite.items(), vectors.rows, strict=True):
            if (old := shelf.record(id)) is None:
                continue
            said = dict(left) | {"version": old.version, "updated_ms": old.updated_ms, "embedding": vectors.model}
            kept.append(Kept(self._next(Record.model_validate(said), {}), vector))
        return kept

    async def expire(self, shelf: Shelf, ids: Sequence[str]) -> int:
        """Deletes what has outlived its time, by now. Returns how many."""
        caller, now_ms = Caller(tenant=shelf.tenant, by="time"), self._clock.now_ms()
        async with shelf.gate:
            found = (shelf.record(id) for id in ids)
            gone = [record for record in found if record is not None and not _lives(record, now_ms)]
            self._log.drop(caller, [record.id for record in gone], "expired")
            shelf.remove(gone)
            self._faults.reach(points.before("expire"))
        await self._log.durable()
        self._faults.reach(points.after("expire"))
        return len(gone)


class Derivations:
    """The records of a shelf, for whoever plans an erasure."""

    def __init__(self, shelf: Shelf, log: Log) -> None:
        self._shelf, self._log = shelf, log

    def record(self, id: str) -> Record | None:
        return self._shelf.record(id)

    def derived_from(self, id: str) -> list[str]:
        return self._log.derived_from(self._shelf.tenant, id)


def _allowed_change(old: Record, change: Change, caller: Caller, inherited: set[str]) -> Change:
    """The change with the caller's labels, and those inherited from its sources. Only people take labels away."""
    asked = set(old.labels if change.labels is None else change.labels)
    kept = asked if is_person(caller) else asked | {*old.labels}
    return change.model_copy(update={"labels": tuple(sorted(kept | {*caller.labels} | inherited))})


def _cleaned(change: Change, clean: Callable[[Draft], Draft]) -> Change:
    """What a change says, as a draft would be cleaned that says it."""
    said = change.model_dump(include={"payload", "fact"}, exclude_none=True)
    draft = clean(Draft(text=change.text or "-", **said))
    given = {name: getattr(draft, name) for name in ("text", "payload", "fact") if getattr(change, name) is not None}
    return change.model_copy(update=given)


def _said(drafts: Iterable[Draft]) -> bytes:
    return pack([draft.model_dump(mode="json", exclude_defaults=True) for draft in drafts])


def _lives(record: Record, now_ms: int) -> bool:
    return record.expires_ms is None or record.expires_ms > now_ms


def _last(revised: Sequence[Kept]) -> list[Kept]:
    return list({each.record.id: each for each in revised}.values())


def _hit(scored: Scored, record: Record) -> Hit:
    return Hit(record=record, score=scored.score, why="", parts=dict(scored.parts))


def _facts_in(batch: _Batch, shelf: Shelf, draft: Draft) -> list[Record]:
    """Facts of the batch with the same key."""
    if draft.fact is None:
        return []
    key = shelf.key_of(draft.fact)
    return [each.record for each in batch.new.values() if each.record.fact and shelf.key_of(each.record.fact) == key]


def _places(gone: Sequence[Record]) -> dict[str, int]:
    vectors = sum(record.embedding is not None for record in gone)
    return {"rows": len(gone), "vectors": vectors, "text": len(gone)}
