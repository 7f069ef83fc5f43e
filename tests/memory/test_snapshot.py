"""Snapshots are whole or they are not used: torn, foreign and changed ones are refused, and the log has everything."""

import json
import random
from pathlib import Path

import pytest

from hanse.contracts import Tenant
from hanse.contracts.memory import Draft, Fact, Layer, Provenance, Scope
from hanse.memory.log import Kept
from hanse.memory.snapshot import MANIFEST, Snapshots

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


def files(tmp_path: Path) -> dict[str, Path]:
    return {("manifest" if file.name == MANIFEST else "records"): file for file in (tmp_path / "s").rglob("*.*")}


def snapshots(tmp_path: Path, key: bytes = KEY) -> Snapshots:
    return Snapshots(tmp_path / "s", key)


async def test_a_snapshot_gives_back_what_was_there(tmp_path: Path):
    kept = await some(tmp_path)
    loaded = await snapshots(tmp_path).read(SHOP)
    assert loaded is not None
    assert [each.record for each in loaded.records] == [each.record for each in kept]
    for one, other in zip(loaded.records, kept, strict=True):
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
            assert await snapshots(tmp_path).read(SHOP) is None
        file.write_bytes(good)
    assert await snapshots(tmp_path).read(SHOP)


async def test_a_torn_file_is_found(tmp_path: Path):
    await some(tmp_path)
    for file in files(tmp_path).values():
        good = file.read_bytes()
        for length in (0, 1, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:length])
            assert await snapshots(tmp_path).read(SHOP) is None
        file.unlink()
        assert await snapshots(tmp_path).read(SHOP) is None
        file.write_bytes(good)


async def test_a_snapshot_of_others_is_foreign(tmp_path: Path):
    await some(tmp_path)
    assert await snapshots(tmp_path, b"another key").read(SHOP) is None
    there = files(tmp_path)["manifest"].parent
    other = Path(snapshots(tmp_path)._place(Tenant("rival")).folder)
    for file in there.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert await snapshots(tmp_path).read(Tenant("rival")) is None


async def test_a_manifest_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path):
    await some(tmp_path)
    manifest = files(tmp_path)["manifest"]
    said = json.loads(manifest.read_text())
    said["files"][0]["name"] = "../../m.sqlite"
    sealing = snapshots(tmp_path)
    del said["seal"]
    manifest.write_text(json.dumps(said | {"seal": sealing._seal(said)}))
    assert await snapshots(tmp_path).read(SHOP) is None


async def test_a_second_snapshot_takes_the_place_of_the_first(tmp_path: Path):
    kept = await some(tmp_path)
    shots = snapshots(tmp_path)
    await shots.write(SHOP, 99, kept[:1])
    assert len(list((tmp_path / "s").rglob("*.parquet"))) == 1
    loaded = await shots.read(SHOP)
    assert loaded is not None
    assert (loaded.sequence, len(loaded.records)) == (99, 1)


async def test_a_snapshot_that_was_begun_before_something_was_forgotten_is_not_kept(tmp_path: Path):
    kept = await some(tmp_path)
    shots = snapshots(tmp_path)
    before = shots.forgotten(SHOP)
    assert await shots.discard(SHOP) == 2
    assert await shots.write(SHOP, 99, kept, before) == {}
    assert await shots.read(SHOP) is None
    assert not list((tmp_path / "s").rglob("*.parquet"))


async def test_a_place_may_be_any_uri(tmp_path: Path):
    kept = await some(tmp_path)
    shots = Snapshots(f"file://{tmp_path}/elsewhere", KEY)
    await shots.write(SHOP, 1, kept)
    loaded = await shots.read(SHOP)
    assert loaded is not None
    assert len(loaded.records) == 2


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "ü" * 50, "con", "x\\y"])
async def test_a_tenant_may_be_called_anything(tmp_path: Path, name: str):
    shots = Snapshots(tmp_path / "s", KEY)
    await shots.write(Tenant(name), 1, [])
    assert (await shots.read(Tenant(name))) is not None
    [folder] = (tmp_path / "s").iterdir()
    assert name not in folder.name
