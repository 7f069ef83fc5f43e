"""Snapshots in an object store that speaks S3, through pyarrow's own client: written, read back, torn, cleaned of what
was forgotten, and out of reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse.contracts import Corrupt, StorageError
from hanse.contracts.memory import Query
from hanse.memory.service import Settings

from ..support.bucket import Bucket, bucket
from .plain import Clock, ann, memory
from .test_erasure_on_disk import _issued, remembered, word
from .test_restoring import everything, lives

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store() -> Iterator[Bucket]:
    with bucket() as there:
        yield there


def traces(store: Bucket, *words: str) -> list[str]:
    return [each for each in words if any(each.encode() in data for data in store.objects.values())]


async def test_a_lost_store_comes_back_from_a_bucket(tmp_path: Path, store: Bucket):
    clock = Clock()
    async with memory(tmp_path / "old.sqlite", clock=clock, snapshots=store.uri) as service:
        await lives(service)
        clock.ms += 2000
        await service.upkeep._expire()
        await service.tell("snapshot", {}, ann())
        known = everything(service)
    assert sum(key.endswith("/manifest.json") for key in store.objects) == 1
    assert any(asked.startswith("PUT") for asked in store.asked), "it went over the wire"
    async with memory(tmp_path / "new.sqlite", snapshots=store.uri) as service:
        told = await service.tell("restore", {}, ann())
        assert (told["records"], told["versions"], everything(service) == known) == (4, 6, True)


async def test_a_snapshot_takes_the_place_of_the_one_before(tmp_path: Path, store: Bucket):
    async with memory(tmp_path / "m.sqlite", snapshots=store.uri) as service:
        await remembered(service, "the first of them")
        await service.tell("snapshot", {}, ann())
        first = {key for key in store.objects if not key.endswith("/")}
        await remembered(service, "and a second one")
        made = await service.tell("snapshot", {}, ann())
        there = {key.rpartition("/")[2] for key in store.objects if not key.endswith("/")}
        assert there == {"manifest.json", *(file["name"] for file in made["files"])}
        assert len(first) == len(there)


async def test_what_was_forgotten_leaves_the_bucket(tmp_path: Path, store: Bucket):
    async with memory(tmp_path / "m.sqlite", snapshots=store.uri) as service:
        gone = await remembered(service, f"the secret is {word(1)}", subject=word(1))
        await remembered(service, f"this is kept: {word(2)}", subject=word(2))
        await service.tell("snapshot", {}, ann())
        assert traces(store, word(1), word(2)) == [word(1), word(2)], "a scan would find it"
        made = await service.forget([gone.id], ann())
        assert (made.pending, made.places["snapshots"] > 0, traces(store, word(1))) == ("", True, [])
        await service.tell("snapshot", {}, ann())
        assert traces(store, word(1), word(2)) == [word(2)]


async def test_an_object_that_is_torn_changed_or_gone_is_refused(tmp_path: Path, store: Bucket):
    async with memory(tmp_path / "m.sqlite", snapshots=store.uri) as service:
        await remembered(service, "something to be kept")
        await service.tell("snapshot", {}, ann())
    for key, good in [each for each in store.objects.items() if each[1]]:
        for bad in (good[:-1], good[: len(good) // 2], b"", bytes([good[0] ^ 1]) + good[1:]):
            store.objects[key] = bad
            async with memory(tmp_path / "new.sqlite", snapshots=store.uri) as service:
                with pytest.raises(Corrupt):
                    await service.tell("restore", {}, ann())
                assert (await service.recall(Query(), ann())).hits == []
        store.objects[key] = good
    async with memory(tmp_path / "new.sqlite", snapshots=store.uri) as service:
        assert (await service.tell("restore", {}, ann()))["records"] == 1


async def test_a_bucket_out_of_reach_holds_up_no_work_and_is_made_up_for(tmp_path: Path, store: Bucket):
    settings = Settings(compact_seconds=0.01)
    async with memory(tmp_path / "m.sqlite", snapshots=store.uri, settings=settings, started=True) as service:
        gone = await remembered(service, f"the secret is {word(1)}", subject=word(1))
        await service.tell("snapshot", {}, ann())
        store.away = True
        with pytest.raises(StorageError, match="the place of the snapshots"):
            await service.tell("snapshot", {}, ann())
        assert (await remembered(service, "life goes on")).id
        owed = await service.forget([gone.id], ann())
        assert ("place of the snapshots" in owed.pending, owed.signature) == (True, "")
        store.away = False
        made = await _issued(service, owed)
        assert (made.places["snapshots"] > 0, traces(store, word(1))) == (True, [])
