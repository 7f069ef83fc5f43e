"""A store that was lost comes back from its snapshot: all that a tenant had, and nothing that was forgotten."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import Conflict, Corrupt, IdempotencyKey, NotAllowed, NotFound, Tenant
from hanse.contracts.memory import Change, Draft, Fact, Layer, Provenance, Query, Record, Scope
from hanse.memory.books import node_of
from hanse.memory.service import MemoryService, Settings
from hanse.memory.snapshot import Snapshots

from ..support.memory import clean_memory
from .making import DAY
from .plain import SHOP, Clock, WordEmbedder, agent, ann, memory
from .test_erasure_on_disk import SOUND, remembered, traces, word

KEY = b"k" * 32


async def lives(service: MemoryService) -> dict[str, str]:
    """A life with a bit of everything. Ids by name."""
    first = await remembered(service, "the door is red", fact=Fact(entity="door", attribute="color", value="red"))
    second = await service.revise(first.id, Change(text="the door is blue"), ann(), version=1)
    await service.revise(first.id, Change(text="the door is green"), ann(), version=second.version)
    private = Draft(text="a secret of the till", scope=Scope.AGENT)
    [own] = await service.remember([private], agent("till"), key=IdempotencyKey("till/1"))
    await service.tell("grant", {"owner": "till", "reader": "audit"}, ann())
    derived = await remembered(service, "doors are painted", provenance=Provenance(derived_from=(first.id,)))
    gone = await remembered(service, "of no use", subject="bob")
    await service.forget([gone.id], ann(), reason="asked for it")
    short = await remembered(service, "soon over", layer=Layer.WORKING, ttl_seconds=1, subject="eve")
    made = await remembered(service, "made of what ends", provenance=Provenance(derived_from=(short.id,)))
    return {"door": first.id, "own": own.record.id, "derived": derived.id, "gone": gone.id, "made": made.id}


def everything(service: MemoryService) -> list[Any]:
    """All that the log knows of the tenant, but for what each log has of its own: salts and places in the journal."""
    versions = [each for page in service.log.all_versions(SHOP) for each in page]
    rows = [(each.record, each.known_ms, each.ended_ms, _bytes(each.vector)) for each in versions]
    return [rows, service.log.beside(SHOP)]


def _bytes(vector: Any) -> bytes | None:
    return None if vector is None else vector.tobytes()


async def snapshot_of_a_life(tmp_path: Path) -> tuple[dict[str, str], list[Any]]:
    clock = Clock()
    async with memory(tmp_path / "old.sqlite", clock=clock, snapshots=tmp_path / "s") as service:
        ids = await lives(service)
        clock.ms += 2000
        await service.upkeep._expire()
        await service.tell("snapshot", {}, ann())
        return ids, everything(service)


async def test_a_lost_store_comes_back_with_all_that_it_knew(tmp_path: Path):
    ids, known = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        told = await service.tell("restore", {}, ann())
        assert (told["records"], told["versions"], told["left_out"]) == (4, 6, 0)
        assert everything(service) == known
        assert await service.check(SHOP) == SOUND
        history = [each.text for each in await service.history(ids["door"], ann())]
        assert history == ["the door is red", "the door is blue", "the door is green"]
        with pytest.raises(NotFound, match="asked for it"):
            await service.history(ids["gone"], ann())
        assert (await service.get(ids["own"], agent("audit"))).text == "a secret of the till"
        assert service.log.derived_from(SHOP, node_of("eve")) != []
        assert (await service.forget([ids["door"]], ann())).derived == [ids["derived"]]


async def test_what_comes_back_is_found_at_once_and_after_the_next_start(tmp_path: Path):
    await snapshot_of_a_life(tmp_path)
    for _ in range(2):
        async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
            await service.tell("restore", {}, ann())
            found = await service.recall(Query(text="which door is green", limit=1), ann())
            assert found.hits[0].record.text == "the door is green"


async def test_a_key_that_was_used_before_the_loss_is_known(tmp_path: Path):
    ids, _ = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        await service.tell("restore", {}, ann())
        private = Draft(text="a secret of the till", scope=Scope.AGENT)
        [again] = await service.remember([private], agent("till"), key=IdempotencyKey("till/1"))
        assert (again.record.id, again.reason) == (ids["own"], "as before")


async def test_restoring_twice_is_restoring_once(tmp_path: Path):
    _, known = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        await service.tell("restore", {}, ann())
        again = await service.tell("restore", {}, ann())
        assert (again["records"], again["known"]) == (0, 4)
        assert everything(service) == known


async def test_what_was_changed_since_a_restoring_is_not_put_back_by_another(tmp_path: Path):
    ids, _ = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        await service.tell("restore", {}, ann())
        kept = shutil.copytree(tmp_path / "s", tmp_path / "copy")
        await service.revise(ids["door"], Change(text="the door is gone"), ann(), version=3)
        await service.forget([ids["made"]], ann())
        told = await service.restore(Snapshots(kept, KEY), ann())
        assert (told.records, told.known, told.left_out) == (0, 3, 1)
        assert (await service.get(ids["door"], ann())).text == "the door is gone"
        with pytest.raises(NotFound):
            await service.get(ids["made"], ann())


# Refusals


async def test_where_something_is_remembered_nothing_is_restored_unless_it_is_merged(tmp_path: Path):
    ids, _ = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        new = await remembered(service, "since the loss")
        with pytest.raises(Conflict, match=r"remembers 1 records already.*--merge"):
            await service.tell("restore", {}, ann())
        assert service.log.live_ids(SHOP) == {new.id}
        await service.tell("restore", {"merge": True}, ann())
        assert service.log.live_ids(SHOP) == {new.id, ids["door"], ids["own"], ids["derived"], ids["made"]}
        assert await service.tell("grants", {}, ann()) == [], "nobody knows whether it was taken back since"
        assert await service.check(SHOP) == SOUND


async def test_only_people_restore_and_only_their_own_tenant(tmp_path: Path):
    await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        with pytest.raises(NotAllowed):
            await service.tell("restore", {}, agent("till"))
        with pytest.raises(NotFound):
            await service.tell("restore", {}, ann("rival"))
        assert service.log.count(SHOP) == 0


async def test_a_foreign_snapshot_comes_back_with_the_key_of_who_wrote_it(tmp_path: Path):
    _, known = await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite") as service:
        with pytest.raises(NotFound, match="another federation's key"):
            await service.restore(Snapshots(tmp_path / "s", b"own" * 11), ann())
        await service.restore(Snapshots(tmp_path / "s", KEY), ann())
        assert everything(service) == known


async def test_a_changed_snapshot_changes_nothing(tmp_path: Path):
    """The last file is wrong, and nothing of the first comes back either."""
    await snapshot_of_a_life(tmp_path)
    [file] = (tmp_path / "s").rglob("receipts-*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        with pytest.raises(Corrupt, match="is not the one that its manifest names"):
            await service.tell("restore", {}, ann())
        assert service.log.count(SHOP) == 0
        assert service.log.notes(SHOP, "restoring") == {}


# What does not come back


async def test_what_the_log_knows_as_forgotten_stays_away_with_all_that_was_made_of_it(tmp_path: Path):
    """A copy of a snapshot that was taken before."""
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s") as service:
        root = await remembered(service, f"about {word(1)}")
        await remembered(service, f"made of {word(1)}", provenance=Provenance(derived_from=(root.id,)))
        other = await remembered(service, f"other {word(2)}")
        await service.tell("snapshot", {}, ann())
        shutil.copytree(tmp_path / "s", tmp_path / "copy")
        await service.forget([root.id], ann())
        await service.forget([other.id], ann())
        assert traces(tmp_path / "s", word(1), word(2)) == []
        told = await service.restore(Snapshots(tmp_path / "copy", KEY), ann())
        assert (told.records, told.left_out + told.known) == (0, 3)
        assert service.log.count(SHOP) == 0
        shutil.rmtree(tmp_path / "copy")
    assert traces(tmp_path, word(1), word(2)) == []


async def test_what_was_made_of_something_forgotten_stays_away_though_this_log_never_had_it(tmp_path: Path):
    """The older of two snapshots was restored, its root forgotten, and then the newer one is merged."""
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "older") as service:
        draft = Draft(text=f"about {word(1)}")
        [told] = await service.remember([draft], ann(), key=IdempotencyKey("root"))
        root = told.record
        await remembered(service, "of nobody")
        await service.tell("snapshot", {}, ann())
        shutil.copytree(tmp_path / "older", tmp_path / "newer")
        derived = await remembered(service, f"made of {word(1)}", provenance=Provenance(derived_from=(root.id,)))
        await service.tell("snapshot", {}, ann())
        shutil.rmtree(tmp_path / "newer")
        (tmp_path / "older").rename(tmp_path / "newer")
    async with memory(tmp_path / "first.sqlite") as service:
        await service.restore(Snapshots(tmp_path / "newer", KEY), ann())
        assert service.log.live_ids(SHOP) >= {root.id, derived.id}
    async with memory(tmp_path / "second.sqlite") as service:
        service.log.begin_restoring(ann(), "another", {"tombstones": [_tombstone(root.id)]})
        told = await service.restore(Snapshots(tmp_path / "newer", KEY), ann())
        assert (told.records, told.left_out) == (1, 2)
        assert derived.id not in service.log.live_ids(SHOP)
        assert service.log.derived_from(SHOP, root.id) == []
        receipt = service.log.receipt(SHOP, IdempotencyKey("root"), b"")
        assert receipt is not None
        assert receipt.same is None, "what it said cannot be tried out"


def _tombstone(id: str) -> dict[str, Any]:
    return {"id": id, "at_ms": 1, "cause": "asked", "reason": ""}


async def test_a_summary_comes_back_without_the_lines_of_what_was_forgotten(tmp_path: Path):
    clock = Clock()
    async with clean_memory(tmp_path / "m.sqlite", clock, snapshots=tmp_path / "s") as service:
        said = [f"on day {n} ann bought {word(n)} and paid for it in full" for n in range(8)]
        records = [await remembered(service, text, layer=Layer.EPISODIC, episode="e") for text in said]
        clock.ms += 400 * DAY
        await service.tell("consolidate", {}, ann())
        summary = _summary(service)
        assert [n for n in range(8) if word(n) in summary.text], "it says something"
        doomed = next(n for n in range(8) if word(n) in summary.text)
        await service.tell("snapshot", {}, ann())
    async with clean_memory(tmp_path / "new.sqlite", clock, snapshots=tmp_path / "s") as service:
        service.log.begin_restoring(ann(), "another", {"tombstones": [_tombstone(records[doomed].id)]})
        await service.tell("restore", {}, ann())
        assert records[doomed].id not in service.log.live_ids(SHOP)
        assert word(doomed) not in _summary(service).text
        assert _summary(service).text
        assert await service.check(SHOP) == SOUND


def _summary(service: MemoryService) -> Record:
    [found] = [each.record for page in service.log.live(SHOP) for each in page if each.record.payload]
    return found


async def test_what_an_older_snapshot_brought_back_goes_when_a_newer_one_knows_that_it_was_forgotten(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s") as service:
        doomed = await remembered(service, f"about {word(1)}")
        kept = await remembered(service, "of nobody")
        await service.tell("snapshot", {}, ann())
        older = shutil.copytree(tmp_path / "s", tmp_path / "older")
        await service.forget([doomed.id], ann())
        await service.tell("snapshot", {}, ann())
    async with memory(tmp_path / "new.sqlite") as service:
        await service.restore(Snapshots(older, KEY), ann())
        assert service.log.live_ids(SHOP) == {doomed.id, kept.id}
        await service.restore(Snapshots(tmp_path / "s", KEY), ann(), merge=True)
        assert service.log.live_ids(SHOP) == {kept.id}
        assert await service.check(SHOP) == SOUND


# Another embedder


async def test_with_another_embedder_vectors_are_made_anew(tmp_path: Path):
    ids, _ = await snapshot_of_a_life(tmp_path)
    embedder = WordEmbedder("words-2", 48)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s", embedder=embedder, started=True) as service:
        filled, done = service.upkeep.fill, asyncio.Event()

        async def fill(tenant: Tenant) -> bool:
            result = await filled(tenant)
            done.set()
            return result

        service.upkeep.fill = fill
        await service.tell("restore", {}, ann())
        await asyncio.wait_for(done.wait(), 20)
        assert (await service.get(ids["door"], ann())).embedding == "words-2"
        assert service.log.without_vector(SHOP, "words-2", "", 10) == []


# The snapshot of a store that was lost


async def test_the_snapshot_of_a_lost_store_is_not_overwritten_by_what_came_after(tmp_path: Path):
    _, known = await snapshot_of_a_life(tmp_path)
    settings = Settings(snapshot_seconds=0.01, compact_seconds=0)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s", settings=settings) as service:
        new = await remembered(service, f"since the loss {word(7)}")
        with pytest.raises(Conflict, match=r"its own was lost.*hanse memory restore"):
            await service.tell("snapshot", {}, ann())
        certificate = await service.forget([new.id], ann())
        assert certificate.places["snapshots_not_restored"] == 1
        await service.tell("restore", {}, ann())
        assert everything(service)[0] == known[0]
        await service.tell("snapshot", {}, ann())


async def test_the_snapshot_of_a_lost_store_goes_when_somebody_says_so(tmp_path: Path):
    await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        await remembered(service, "since the loss")
        manifest = await service.tell("snapshot", {"replace": True}, ann())
        assert sum(file["rows"] for file in manifest["files"] if file["kind"] == "records") == 1


async def test_a_snapshot_that_had_to_go_is_taken_again(tmp_path: Path):
    settings = Settings(compact_seconds=0)
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s", settings=settings, started=True) as service:
        record = await remembered(service, f"about {word(1)}")
        await remembered(service, "stays")
        await service.tell("snapshot", {}, ann())
        taken = asyncio.ensure_future(_next_snapshot(service))
        await asyncio.sleep(0)
        await service.forget([record.id], ann())
        assert (await taken)["files"][0]["rows"] == 1
        assert traces(tmp_path / "s", word(1)) == []


async def _next_snapshot(service: MemoryService) -> dict[str, Any]:
    """The manifest of the next one that upkeep takes."""
    taken, done = service.upkeep.snapshot, asyncio.get_running_loop().create_future()

    async def snapshot(tenant: Tenant, *, replace: bool = False) -> dict[str, Any]:
        result = await taken(tenant, replace=replace)
        if not done.done():
            done.set_result(result)
        return result

    service.upkeep.snapshot = snapshot
    return await asyncio.wait_for(done, 20)


async def test_what_changed_when_no_snapshot_could_be_taken_is_taken_at_the_next_start(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s") as service:
        await remembered(service, "one")
    settings = Settings(snapshot_seconds=0.01)
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s", settings=settings, started=True) as service:
        manifest = await _next_snapshot(service)
        assert manifest["files"][0]["rows"] == 1


async def test_what_was_left_out_does_not_stay_in_the_snapshot_either(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite", snapshots=tmp_path / "s") as service:
        await remembered(service, f"about {word(1)}", subject="bob")
        await remembered(service, "of another")
        await service.tell("snapshot", {}, ann())
    settings = Settings(compact_seconds=0)
    async with clean_memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s", settings=settings) as service:
        await service.tell("erase", {"subject": "bob"}, ann())
        assert traces(tmp_path / "s", word(1)) == [word(1)]
        assert (await service.tell("restore", {}, ann()))["left_out"] == 1
        taken = asyncio.ensure_future(_next_snapshot(service))
        await asyncio.sleep(0)
        await service.start()
        assert (await taken)["files"][0]["rows"] == 1
        assert traces(tmp_path / "s", word(1)) == []


async def test_after_a_restoring_snapshots_follow_again_and_do_not_take_the_old_one_for_their_own(tmp_path: Path):
    """The journal that was lost was longer than the new one is."""
    async with memory(tmp_path / "old.sqlite", snapshots=tmp_path / "s") as service:
        for n in range(30):
            await remembered(service, f"record {n}")
        await service.tell("snapshot", {}, ann())
    settings = Settings(snapshot_seconds=0.01)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s", settings=settings) as service:
        await service.tell("restore", {}, ann())
        await remembered(service, "since the loss")
        taken = asyncio.ensure_future(_next_snapshot(service))
        await asyncio.sleep(0)
        await service.start()
        assert (await taken)["files"][0]["rows"] == 31


async def test_two_snapshots_that_were_restored_are_both_known(tmp_path: Path):
    for name in ("one", "two"):
        async with memory(tmp_path / f"{name}.sqlite", snapshots=tmp_path / name) as service:
            await remembered(service, name)
            await service.tell("snapshot", {}, ann())
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "one") as service:
        await service.tell("restore", {}, ann())
        await service.restore(Snapshots(tmp_path / "two", KEY), ann(), merge=True)
        assert service.log.count(SHOP) == 2
        await service.tell("snapshot", {}, ann())


async def test_how_far_a_restoring_is_can_be_asked(tmp_path: Path):
    await snapshot_of_a_life(tmp_path)
    async with memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s", faults=(faults := Asking())) as service:
        faults.service = service
        await service.tell("restore", {}, ann())
        assert [[each["done"] for each in seen] for seen in faults.seen] == [[0], [0], [6]]
        assert faults.seen[0] == [{"verb": "restore", "done": 0, "of": 6}]
        assert await service.tell("progress", {}, ann()) == []


class Asking:
    """Looks at how far it is, wherever a test could kill it."""

    service: MemoryService

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def reach(self, point: str) -> None:
        if point in ("memory.restoring", "memory.restored"):
            self.seen.append(self.service.works.of(SHOP))


async def test_certificates_come_back_and_a_subject_erased_since_does_not(tmp_path: Path):
    """The store is lost, somebody asks to be forgotten meanwhile, and then the snapshot is merged."""
    clock = Clock()
    async with clean_memory(tmp_path / "m.sqlite", clock, snapshots=tmp_path / "s") as service:
        earlier = await service.forget([(await remembered(service, "of no use")).id], ann())
        bob = await remembered(service, f"about {word(1)}", subject="bob")
        await remembered(
            service, f"the invoice of June is late {word(1)}", provenance=Provenance(derived_from=(bob.id,))
        )
        eve = await remembered(service, "of another")
        await service.tell("snapshot", {}, ann())
    clock.ms += 1000
    async with clean_memory(tmp_path / "new.sqlite", clock, snapshots=tmp_path / "s") as service:
        erased = await service.tell("erase", {"subject": "bob"}, ann())
        assert erased["places"]["snapshots_not_restored"] == 1
        told = await service.tell("restore", {"merge": True}, ann())
        assert (told["records"], told["left_out"]) == (1, 2)
        assert service.log.live_ids(SHOP) == {eve.id}
        certificates = (await service.tell("certificates", {}, ann()))["certificates"]
        assert [each["id"] for each in certificates] == [erased["id"], earlier.id]
        assert traces(tmp_path / "new.sqlite", word(1)) == []
