"""Snapshots are whole or they are not used: torn, foreign and changed ones are refused, and the log has everything."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from hanse.contracts import Corrupt, NotFound, StorageError, Tenant
from hanse.contracts.memory import OF_SNAPSHOT, Draft, Fact, Layer, Provenance, Scope
from hanse.memory.log import Kept
from hanse.memory.snapshot import MANIFEST, RECORDS, Mark, Part, Snapshots

from .plain import SHOP, ann, memory

KEY = b"k" * 32


async def some(tmp_path: Path) -> list[Kept]:
    """Records with everything in them."""
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s") as service:
        drafts = [
            Draft(text="plain"),
            Draft(
                text="ä full\none 🚢",
                layer=Layer.EPISODIC,
                scope=Scope.SUBJECT,
                owner="anna",
                episode="e",
                payload={"a": {"b": [1, 2.5, None, True, "x"]}},
                fact=Fact(entity="door", attribute="color", value=3),
                importance=0.1,
                confidence=0.2,
                labels=("private",),
                valid_to_ms=1 << 40,
                ttl_seconds=1000,
                provenance=Provenance(document="d"),
            ),
        ]
        await service.remember(drafts, ann())
        await service.tell("snapshot", {}, ann())
        return [each for page in service.log.live(SHOP) for each in page]


async def parts(kept: Sequence[Kept]) -> AsyncIterator[Part]:
    yield Part(RECORDS, kept)


async def loaded(shots: Snapshots, tenant: Tenant = SHOP) -> list[Kept]:
    """Everything in a snapshot. Raises what reading it raises."""
    async with shots.held(tenant) as snapshot:
        return [each async for page in snapshot.records() for each in page]


async def write(shots: Snapshots, kept: Sequence[Kept], sequence: int = 1, forgotten: int | None = None) -> object:
    return await shots.write(SHOP, Mark(sequence, "", 0), parts(kept), forgotten)


def files(tmp_path: Path) -> dict[str, Path]:
    return {("manifest" if file.name == MANIFEST else "records"): file for file in (tmp_path / "s").rglob("*.*")}


def snapshots(tmp_path: Path, key: bytes = KEY) -> Snapshots:
    return Snapshots(tmp_path / "s", key)


async def test_a_snapshot_gives_back_what_was_there(tmp_path: Path):
    kept = await some(tmp_path)
    found = await loaded(snapshots(tmp_path))
    assert [each.record for each in found] == [each.record for each in kept]
    for one, other in zip(found, kept, strict=True):
        assert one.vector is not None
        assert (one.vector == other.vector).all()


async def test_any_flipped_bit_is_found(tmp_path: Path):
    await some(tmp_path)
    chance = random.Random(4)
    for file in files(tmp_path).values():
        good = file.read_bytes()
        for _ in range(40):
            bad = bytearray(good)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            file.write_bytes(bad)
            with pytest.raises(Corrupt):
                await loaded(snapshots(tmp_path))
        file.write_bytes(good)
    assert await loaded(snapshots(tmp_path))


async def test_a_torn_file_is_found(tmp_path: Path):
    await some(tmp_path)
    for file in files(tmp_path).values():
        good = file.read_bytes()
        for length in (0, 1, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:length])
            with pytest.raises(Corrupt):
                await loaded(snapshots(tmp_path))
        file.unlink()
        with pytest.raises((Corrupt, NotFound)):
            await loaded(snapshots(tmp_path))
        file.write_bytes(good)


async def test_a_snapshot_of_others_is_foreign(tmp_path: Path):
    await some(tmp_path)
    with pytest.raises(NotFound, match="1 folders there are of other tenants or of another federation's key"):
        await loaded(snapshots(tmp_path, b"another key"))
    with pytest.raises(Corrupt, match=r"another federation wrote it.*--key") as raised:
        await snapshots(tmp_path, b"another key").tenants()
    assert raised.value.ids["of"] == OF_SNAPSHOT
    there = files(tmp_path)["manifest"].parent
    other = Path(snapshots(tmp_path)._place(Tenant("rival")).folder)
    other.mkdir()
    for file in there.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(Corrupt, match="another tenant's"):
        await loaded(snapshots(tmp_path), Tenant("rival"))


@pytest.mark.parametrize(("change", "why"), [({"format": 1}, "is of format 1"), ({"files": None}, "says too little")])
async def test_a_manifest_of_another_format_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, object], why: str
):
    await some(tmp_path)
    reseal(tmp_path, **change)
    with pytest.raises(Corrupt, match=why):
        await loaded(snapshots(tmp_path))


async def test_a_manifest_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path):
    await some(tmp_path)
    said = json.loads(files(tmp_path)["manifest"].read_text())
    reseal(tmp_path, files=[said["files"][0] | {"name": "../../m.sqlite"}])
    with pytest.raises(Corrupt, match="is not there"):
        await loaded(snapshots(tmp_path))


def reseal(tmp_path: Path, **change: object) -> None:
    """Writes another manifest, as somebody could who has the key."""
    manifest = files(tmp_path)["manifest"]
    said = json.loads(manifest.read_text()) | change
    manifest.write_text(json.dumps(said | {"seal": snapshots(tmp_path)._seal(said)}))


async def test_a_second_snapshot_takes_the_place_of_the_first(tmp_path: Path):
    kept = await some(tmp_path)
    shots = snapshots(tmp_path)
    await write(shots, kept[:1], 99)
    assert len(list((tmp_path / "s").rglob("*.parquet"))) == 1
    manifest = await shots.manifest(SHOP)
    assert manifest is not None
    assert (manifest.sequence, len(await loaded(shots))) == (99, 1)


async def test_a_snapshot_that_was_begun_before_something_was_forgotten_is_not_kept(tmp_path: Path):
    kept = await some(tmp_path)
    shots = snapshots(tmp_path)
    before = shots.forgotten(SHOP)
    assert await shots.discard(SHOP) == 2
    assert await write(shots, kept, 99, before) is None
    with pytest.raises(NotFound):
        await loaded(shots)
    assert not list((tmp_path / "s").rglob("*.parquet"))


async def test_what_is_forgotten_while_a_snapshot_is_written_ends_it(tmp_path: Path):
    kept, shots = await some(tmp_path), snapshots(tmp_path)
    before = shots.forgotten(SHOP)

    async def interrupted() -> AsyncIterator[Part]:
        yield Part(RECORDS, kept[:1])
        shots._discarded[SHOP] = 1  # what `discard` says first, before it waits for its turn
        yield Part(RECORDS, kept[1:])
        raise AssertionError("it went on")

    assert await shots.write(SHOP, Mark(9, "", 0), interrupted(), before) is None
    assert not list((tmp_path / "s").rglob("*.parquet"))


async def test_a_place_may_be_any_uri(tmp_path: Path):
    kept = await some(tmp_path)
    shots = Snapshots(f"file://{tmp_path}/elsewhere", KEY)
    await write(shots, kept)
    assert len(await loaded(shots)) == 2
    assert await shots.tenants() == [SHOP]


async def test_a_place_may_be_no_disk_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where a file is there with all its bytes or not at all, and nothing is renamed."""
    kept = await some(tmp_path)
    (tmp_path / "bucket").mkdir()
    bucket = SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())
    bucket.create_dir(f"memory/{Path(snapshots(tmp_path)._place(SHOP).folder).name}")
    monkeypatch.setattr(Snapshots, "_root", lambda self: (bucket, "memory", False))
    shots = Snapshots("s3://bucket/memory", KEY)
    for _ in range(2):
        await write(shots, kept)
    assert [each.record for each in await loaded(shots)] == [each.record for each in kept]
    assert len([each for each in (tmp_path / "bucket").rglob("*") if each.is_file()]) == 2
    assert await shots.tenants() == [SHOP]
    assert await shots.discard(SHOP) == 2
    assert await shots.manifest(SHOP) is None


async def test_a_place_that_is_none_says_so(tmp_path: Path):
    with pytest.raises(StorageError, match=r"no place that pyarrow.fs knows"):
        await loaded(Snapshots("nowhere://at/all", KEY))


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "ü" * 50, "con", "x\\y"])
async def test_a_tenant_may_be_called_anything(tmp_path: Path, name: str):
    shots = Snapshots(tmp_path / "s", KEY)
    await shots.write(Tenant(name), Mark(1, "", 0), parts([]))
    assert await loaded(shots, Tenant(name)) == []
    [folder] = (tmp_path / "s").iterdir()
    assert name not in folder.name
