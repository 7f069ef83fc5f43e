"""Every erasure leaves a certificate, signed and kept; one that was changed is found out with nothing else at hand."""

import asyncio
from pathlib import Path

import pytest

from hanse.contracts import Kind, NotAllowed, NotFound
from hanse.contracts.memory import Certificate, Provenance
from hanse.contracts.wire import decode_event
from hanse.memory.certificates import problems_of
from hanse.memory.service import MemoryService
from hanse.runtime.audit.head import Signer

from ..support.memory import clean_memory
from .plain import SHOP, Clock, agent, ann, memory
from .test_erasure_on_disk import remembered, traces, word

KEY = Signer("shop", b"r" * 32).public


async def kept(service: MemoryService) -> list[Certificate]:
    told = await service.tell("certificates", {}, ann())
    return [Certificate.model_validate(each) for each in told["certificates"]]


async def test_a_certificate_is_kept_and_says_who_asked_when_for_what_and_nothing_that_was_erased(tmp_path: Path):
    clock = Clock()
    async with clean_memory(tmp_path / "m.sqlite", clock) as service:
        root = await remembered(service, f"about {word(1)}", subject="bob")
        derived = await remembered(
            service, f"the invoice of June is late {word(2)}", provenance=Provenance(derived_from=(root.id,))
        )
        journaled = _journaled(service)
        made = await service.forget([root.id], ann(), reason="he asked for it")
        assert (made.by, made.at_ms, made.reason) == ("ann", clock.ms, "he asked for it")
        assert (made.records, made.derived) == ([root.id], [derived.id])
        assert made.digests == {id: journaled[id] for id in (root.id, derived.id)}
        assert made.places["rows"] == 2
    async with clean_memory(tmp_path / "m.sqlite", clock) as service:
        assert await kept(service) == [made]
        assert await service.tell("certificate", {"id": made.id}, ann()) == made.model_dump(mode="json")
        assert problems_of(made, KEY) == []
        entries = {n: decode_event(entry) for n, entry, _ in service.log._store.read("entries", (0, 100))}
        entry = entries[made.entry or 0]
        assert (entry.kind, entry.data["records"]) == (Kind.MEMORY_FORGOTTEN, [root.id])
    assert traces(tmp_path, word(1)) == []


def _journaled(service: MemoryService) -> dict[str, str]:
    """Digests by record, as the journal has them."""
    events = [decode_event(entry) for _, entry, _ in service.log._store.read("entries", (0, 100))]
    return {id: digest for event in events for id, _, digest in event.data["records"]}


@pytest.mark.parametrize(
    "changed",
    [{"derived": []}, {"at_ms": 0}, {"by": "bob"}, {"reason": "none"}, {"places": {"rows": 1}}, {"tenant": "u"}],
)
async def test_one_that_was_changed_is_found_out(changed: dict[str, object]):
    async with memory() as service:
        root = await remembered(service, "a")
        await remembered(service, "b", provenance=Provenance(derived_from=(root.id,)))
        made = await service.forget([root.id], ann())
        assert problems_of(Certificate.model_validate_json(made.model_dump_json()), KEY) == []
        other = made.model_copy(update=changed)
        assert problems_of(other, KEY) == ["it does not say what it said when it was made: its digest is another"]
        forged = made.model_copy(update={"digest": "sha256:" + "0" * 64})
        assert problems_of(forged, KEY)


async def test_one_that_was_made_anew_with_another_key_is_found_out():
    async with memory() as service:
        made = await service.forget([(await remembered(service, "a")).id], ann())
        stranger = Signer("shop", b"s" * 32)
        service.signer = stranger
        [again] = [await service.forget([(await remembered(service, "b")).id], ann())]
        assert problems_of(again, None) == []
        assert "another federation's key" in problems_of(again, KEY)[0]
        swapped = made.model_copy(update={"signature": again.signature})
        assert problems_of(swapped, KEY) == ["its signature is not that of its key"]
        assert "nobody signed it" in problems_of(made.model_copy(update={"signature": ""}), KEY)[0]


async def test_the_journal_says_that_there_is_a_certificate():
    async with memory() as service:
        made = await service.forget([(await remembered(service, "a")).id], ann())
        events = [decode_event(entry) for _, entry, _ in service.log._store.read("entries", (0, 100))]
        [event] = [event for event in events if event.kind is Kind.MEMORY_CERTIFIED]
        assert event.data == {"tenant": SHOP, "by": "ann", "certificate": made.id, "digest": made.digest}


async def test_many_at_once_each_get_one(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite") as service:
        records = [await remembered(service, f"record {n}") for n in range(8)]
        made = await asyncio.gather(*(service.forget([each.id], ann()) for each in records))
        assert sorted(each.id for each in await kept(service)) == sorted(each.id for each in made)
        assert [each.records for each in made] == [[each.id] for each in records]
        events = [decode_event(entry) for _, entry, _ in service.log._store.read("entries", (0, 100))]
        said = [event.data["certificate"] for event in events if event.kind is Kind.MEMORY_CERTIFIED]
        assert sorted(said) == sorted(each.id for each in made), "the journal says each once"


async def test_erasing_a_subject_and_masking_its_names_are_certified_apart():
    async with clean_memory() as service:
        await remembered(service, "he is late", subject="ben")
        other = await remembered(service, "Benny was seen")
        told = await service.tell("erase", {"subject": "ben", "aliases": ["Benny"]}, ann())
        masked, own = await kept(service)
        assert (own.subject, own.id, len(own.records)) == ("ben", told["id"], 1)
        assert (masked.records, masked.derived, masked.places["rewritten"]) == ([], [other.id], 1)
        assert [problems_of(each, KEY) for each in (own, masked)] == [[], []]


async def test_that_nothing_was_there_is_certified_too():
    async with clean_memory() as service:
        await service.tell("erase", {"subject": "nobody"}, ann())
        [made] = await kept(service)
        assert (made.subject, made.records, made.entry) == ("nobody", [], None)


async def test_certificates_come_in_pages_newest_first_and_to_people_of_the_tenant_alone():
    async with memory() as service:
        made = [await service.forget([(await remembered(service, f"r {n}")).id], ann()) for n in range(5)]
        newest = await service.tell("certificates", {"limit": 2}, ann())
        assert [each["id"] for each in newest["certificates"]] == [made[4].id, made[3].id]
        older = await service.tell("certificates", {"limit": 9, "before": made[3].id}, ann())
        assert [each["id"] for each in older["certificates"]] == [each.id for each in made[2::-1]]
        assert await service.tell("certificates", {}, ann("rival")) == {"certificates": []}
        with pytest.raises(NotFound):
            await service.tell("certificate", {"id": made[0].id}, ann("rival"))
        with pytest.raises(NotAllowed):
            await service.tell("certificates", {}, agent("till"))
