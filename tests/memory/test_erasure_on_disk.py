"""What was forgotten is found nowhere: not in the files, byte by byte, not in snapshots, not in what is kept in memory.

I14 for deletion: index, tables and log agree, and what was deleted never comes back.
"""

import asyncio
import hashlib
import random
from pathlib import Path

import apsw
import pytest

from hanse.contracts import IdempotencyKey, NotFound
from hanse.contracts.memory import Certificate, Change, Draft, Layer, Provenance, Query, Record
from hanse.memory.access import Lifetimes
from hanse.memory.certificates import problems_of
from hanse.memory.service import MemoryService, Settings
from hanse.runtime.store import sqlite

from .plain import SHOP, Clock, ann, memory

SOUND = {"only_in_index": [], "only_in_tables": [], "not_in_index": [], "not_in_tables": []}


def word(number: int) -> str:
    """A word that stands nowhere else."""
    return "zq" + hashlib.sha256(str(number).encode()).hexdigest()[:18]


def everything_on_disk(folder: Path) -> bytes:
    return b"\0".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def traces(folder: Path, *words: str) -> list[str]:
    """Which words are still in the files, in any case and in the encodings that files have."""
    data = everything_on_disk(folder)
    return [each for each in words if each.encode() in data or each.encode("utf-16-le") in data]


async def remembered(service: MemoryService, text: str, **more: object) -> Record:
    [told] = await service.remember([Draft.model_validate({"text": text, **more})], ann())
    return told.record


async def test_the_scan_would_find_it(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "snapshots") as service:
        await remembered(service, f"the secret is {word(1)}")
        await service.tell("snapshot", {}, ann())
        assert traces(tmp_path, word(1)) == [word(1)]


@pytest.mark.parametrize("seed", range(3))
async def test_forgotten_text_is_found_nowhere_on_disk(tmp_path: Path, seed: int):
    """Many records of all sizes, revised, pinned, derived from, with keys and payloads; a third of them forgotten."""
    chance = random.Random(seed)
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "snapshots") as service:
        records: list[Record] = []
        for i in range(120):
            padding = " ".join(word(i) for _ in range(chance.choice((1, 3, 30, 400))))
            about = {"payload": {"about": word(i)}, "subject": word(i), "episode": word(i), "labels": (word(i),)}
            draft = Draft.model_validate({"text": padding, "layer": Layer.EPISODIC, **about})
            [told] = await service.remember([draft], ann(), key=IdempotencyKey(f"key {i}"))
            records.append(told.record)
        for i in chance.sample(range(120), 40):
            change = Change(text=f"now {word(1000 + i)} and {word(i)}")
            records[i] = await service.revise(records[i].id, change, ann(), version=1)
        await service.tell("snapshot", {}, ann())
        gone = chance.sample(range(120), 40)
        words = [*(word(i) for i in gone), *(word(1000 + i) for i in gone)]
        assert len(traces(tmp_path, *words)) >= len(gone)
        for i in gone:
            certificate = await service.forget([records[i].id], ann())
            assert (certificate.records, certificate.by) == ([records[i].id], "ann")
        assert traces(tmp_path, *words) == []
        await service.tell("snapshot", {}, ann())
        await service.tell("compact", {}, ann())
        assert traces(tmp_path, *words) == []
        kept = [word(i) for i in range(120) if i not in gone]
        assert traces(tmp_path, *kept) == kept
        assert await service.check(SHOP) == SOUND
    assert traces(tmp_path, *words) == []
    async with memory(tmp_path / "m.sqlite") as service:
        assert await service.check(SHOP) == SOUND
        for i in gone:
            with pytest.raises(NotFound):
                await service.get(records[i].id, ann())
            assert (await service.recall(Query(text=word(i), limit=1), ann())).hits[0].record.id != records[i].id


async def test_what_was_derived_goes_too_however_deep(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite") as service:
        first = await remembered(service, f"root {word(0)}")
        line = [first]
        for i in range(1, 6):
            sources = Provenance(derived_from=(line[-1].id,))
            line.append(await remembered(service, f"copy {i} of {word(0)}", provenance=sources))
        other = await remembered(service, "something else")
        certificate = await service.forget([first.id], ann())
        assert certificate.derived == sorted(each.id for each in line[1:])
        assert traces(tmp_path, word(0)) == []
        assert [hit.record.id for hit in (await service.recall(Query(), ann())).hits] == [other.id]


async def test_forgetting_twice_is_forgetting_once():
    async with memory() as service:
        record = await remembered(service, "a")
        await service.forget([record.id, record.id], ann())
        assert (await service.forget([record.id], ann())).records == []
        with pytest.raises(NotFound):
            await service.forget(["never was"], ann())


async def test_what_is_remembered_while_its_source_is_forgotten_does_not_outlive_it():
    async with memory() as service:
        for _ in range(10):
            source = await remembered(service, "source")
            drafts = [Draft(text="derived", provenance=Provenance(derived_from=(source.id,)))]
            await asyncio.gather(
                service.forget([source.id], ann()), service.remember(drafts, ann()), return_exceptions=True
            )
            assert (await service.recall(Query(), ann())).hits == []


async def test_the_journal_holds_no_text_and_its_digests_tell_nothing(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite") as service:
        record = await remembered(service, f"the word is {word(1)}")
        await service.forget([record.id], ann())
        entries = b"".join(entry for _, entry, _ in service.log._store.read("entries", (0, 100)))
        assert word(1).encode() not in entries
        assert record.id.encode() in entries


# What expires


async def test_what_expires_is_not_shown_and_then_not_there(tmp_path: Path):
    clock = Clock()
    async with memory(tmp_path / "m.sqlite", clock=clock, snapshots=tmp_path / "s") as service:
        record = await remembered(service, f"for now {word(2)}", layer=Layer.WORKING, ttl_seconds=10)
        await remembered(service, "for ever")
        await service.tell("snapshot", {}, ann())
        clock.ms += 9_999
        assert (await service.get(record.id, ann())).id == record.id
        clock.ms += 1
        with pytest.raises(NotFound):
            await service.get(record.id, ann())
        assert [hit.record.text for hit in (await service.recall(Query(text="now for ever"), ann())).hits] == [
            "for ever"
        ]
        assert traces(tmp_path, word(2)) == [word(2)]
        await service.upkeep._expire()
        assert traces(tmp_path, word(2)) == []
        assert await service.check(SHOP) == SOUND


async def test_what_expires_is_deleted_by_itself(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite", started=True) as service:
        clean, done = service.log.clean, asyncio.Event()
        service.log.clean = lambda tenant, sequence: (clean(tenant, sequence), done.set())[0]
        await remembered(service, f"for now {word(3)}", layer=Layer.WORKING, ttl_seconds=0.2)
        await asyncio.wait_for(done.wait(), 20)
        assert (service.log.count(SHOP), traces(tmp_path, word(3))) == (0, [])


async def test_working_memory_always_ends():
    settings = Settings(lifetimes=Lifetimes(working_seconds=60))
    async with memory(clock=(clock := Clock()), settings=settings) as service:
        record = await remembered(service, "a", layer=Layer.WORKING)
        assert record.expires_ms == clock.ms + 60_000


async def test_what_was_forgotten_is_no_failure_though_a_reader_stands_still_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is committed, so it is said to be; the file is cleaned when the reader has gone, and certified then."""
    monkeypatch.setattr(sqlite, "BUSY_MS", 50)  # which is waited for the reader each time
    settings = Settings(compact_seconds=0.01)
    async with memory(tmp_path / "m.sqlite", settings=settings, started=True) as service:
        record = await remembered(service, f"the secret is {word(1)}")
        frozen = apsw.Connection(str(tmp_path / "m.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
        standing = frozen.execute("SELECT * FROM record, journal AS j, journal AS k")
        next(standing)
        owed = await service.forget([record.id], ann(), reason="asked for")
        assert (owed.records, owed.signature, "in use by a reader" in owed.pending) == ([record.id], "", True)
        assert problems_of(owed, None)[0].startswith("it is not issued yet")
        with pytest.raises(NotFound):
            await service.get(record.id, ann())
        assert (await service.recall(Query(text="secret"), ann())).hits == []
        assert traces(tmp_path, word(1)) == [word(1)], "else nothing was held up here"
        with pytest.raises(NotFound):
            await service.tell("certificate", {"id": owed.id}, ann())
        standing.close()
        frozen.close()
        made = await _issued(service, owed)
        assert (made.id, made.records, made.pending) == (owed.id, [record.id], "")
        assert made.digest
        assert traces(tmp_path, word(1)) == []


async def test_snapshots_out_of_reach_hold_up_the_certificate_and_not_what_is_forgotten(tmp_path: Path):
    place, settings = tmp_path / "snapshots", Settings(compact_seconds=0.01)
    async with memory(tmp_path / "m.sqlite", snapshots=place, settings=settings, started=True) as service:
        record = await remembered(service, f"the secret is {word(1)}")
        await service.tell("snapshot", {}, ann())
        (folder,) = place.iterdir()
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("in the way")
        owed = await service.forget([record.id], ann())
        assert (owed.records, "place of the snapshots" in owed.pending) == ([record.id], True)
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
        made = await _issued(service, owed)
        assert (made.records, made.places["snapshots"] > 0, made.pending) == ([record.id], True, "")
        assert traces(tmp_path, word(1)) == []


async def _issued(service: MemoryService, owed: Certificate) -> Certificate:
    """When the upkeep has made up for what was left."""
    while (found := service.log.certificate(SHOP, owed.id)) is None:  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.01)
    return found
