"""A reader beside the shard answers what the shard would, is never behind what was acknowledged, and changes nothing.

Processes that are killed are in `test_reader_crash.py`, readers of a whole federation in `test_memory_readers.py`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from hanse.contracts import Clock as ClockPort
from hanse.contracts import Corrupt, Epoch, Event, HanseError, Kind, NotAllowed, NotFound, Tenant, Unavailable
from hanse.contracts import Sequence as Number
from hanse.contracts.memory import Change, Draft, Layer, Provenance, Query, Record, Scope
from hanse.memory import hygiene, projection, telling
from hanse.memory.derivation import everything_derived
from hanse.memory.index import TenantIndex
from hanse.memory.lately import Given, LatelyOfAll
from hanse.memory.reader import FollowingShelf, MemoryReader, _ids
from hanse.memory.service import MemoryService, Parts, Settings
from hanse.runtime.store.postgresql import PostgresReader, PostgresStore
from hanse.runtime.store.reading import StoreReader
from hanse.runtime.world import SystemClock, SystemEntropy

from ..support.postgres import Server
from .plain import SHOP, Clock, ExactIndex, WordEmbedder, agent, ann, memory, recollect
from .test_erasure_on_disk import SOUND
from .test_past import Door

GUARD_SECONDS = 10


@asynccontextmanager
async def reader_of(
    path: Path,
    service: MemoryService | None,
    *,
    clock: ClockPort | None = None,
    embedder: WordEmbedder | None = None,
    settings: Settings | None = None,
    started: bool = False,
    on_failure: Any = lambda error: None,
    look: Callable[[], Any] | None = None,
    **parts: Any,
) -> AsyncIterator[MemoryReader]:
    """A reader of the store at `path`, or of what `look` gives, which tells `service` what it gave out."""

    async def tell(given: Mapping[Tenant, Sequence[Given]]) -> None:
        if service is None:
            raise Unavailable("the shard is away")
        for tenant, each in given.items():
            service.told(tenant, each)

    clock = clock or (service.clock if service else SystemClock())
    with closing(look() if look else StoreReader(path, "memory")) as store:
        reader = MemoryReader(
            store,
            clock,
            SystemEntropy(),
            WordEmbedder() if embedder is None else embedder,
            Parts(**{"make_index": ExactIndex, "recollect": recollect, **hygiene.parts(clock), **parts}),
            tell=tell,
            settings=settings,
            on_failure=on_failure,
        )
        if started:
            await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


@asynccontextmanager
async def both(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[MemoryService, MemoryReader]]:
    path, clock, snapshots = tmp_path / "m.sqlite", more.pop("clock", None) or Clock(), more.pop("snapshots", None)
    async with (
        memory(path, clock=clock, snapshots=snapshots, **{**hygiene.parts(clock), **more}) as service,
        reader_of(path, service, clock=clock, **more) as reader,
    ):
        yield service, reader


async def remembered(service: MemoryService, text: str, caller: Any = None, **more: Any) -> Record:
    [told] = await service.remember([Draft(text=text, **more)], caller or ann())
    return told.record


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def texts(of: Any, text: str = "", caller: Any = None, **more: Any) -> list[str]:
    found = await of.recall(Query(text=text, limit=100, **more), caller or ann())
    return [hit.record.text for hit in found.hits]


async def test_a_reader_answers_with_every_write_that_was_acknowledged(tmp_path: Path):
    async with both(tmp_path) as (service, reader):
        for i in range(20):
            await remembered(service, f"lamp number {i} stands in room {i}")
            assert len(await texts(reader, "lamp")) == i + 1
        assert await texts(reader, "lamp number 7") == await texts(service, "lamp number 7")
        assert await reader.check(SHOP) == SOUND


async def test_what_comes_and_goes_while_a_shelf_is_opened_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(projection, "SMALL", -1)  # so that opening goes on in a thread, and the loop meanwhile
    door = Door(pass_by=3)

    class Held(ExactIndex):
        def put(self, record: Record, vector: Any, number: int) -> None:
            if "late" not in record.text:
                door.enter()
            super().put(record, vector, number)

    async with memory(path := tmp_path / "m.sqlite") as service:
        told = await service.remember([Draft(text=f"shelf {i}") for i in range(20)], ann())
        async with reader_of(path, service, make_index=Held) as reader:
            asked = asyncio.create_task(texts(reader, "shelf"))
            await door.reached_by(asked)
            late = await remembered(service, "shelf of the late one")
            await service.forget([told[2].record.id], ann())
            await texts(reader, "shelf", ann("bank"))  # for another tenant the reader looks at the journal meanwhile
            door.open()
            left = [f"shelf {i}" for i in range(20) if i != 2]
            assert sorted(await asked) == sorted([*left, late.text])
            assert (await texts(reader, "late"))[0] == late.text
            assert await reader.check(SHOP) == SOUND


async def test_what_was_derived_goes_with_its_source(tmp_path: Path):
    async with both(tmp_path, plan_erasure=everything_derived) as (service, reader):
        root = await remembered(service, "the root is red")
        made = await remembered(service, "its leaves are bitter", provenance=Provenance(derived_from=(root.id,)))
        assert len(await texts(reader, "root leaves")) == 2
        assert (await reader.get(made.id, ann())).text == "its leaves are bitter"
        await service.forget([root.id], ann())
        with pytest.raises(NotFound):
            await reader.get(made.id, ann())
        assert await texts(reader, "root leaves") == []
        assert await reader.check(SHOP) == SOUND


async def test_a_revision_a_pin_and_an_expiry_are_seen(tmp_path: Path):
    clock = Clock()
    async with both(tmp_path, clock=clock) as (service, reader):
        door = await remembered(service, "the door is green")
        note = await remembered(service, "back in a minute", layer=Layer.WORKING, ttl_seconds=60)
        assert (await reader.get(door.id, ann())).text == "the door is green"
        await service.revise(door.id, Change(text="the door is red"), ann(), version=1)
        assert (await reader.get(door.id, ann())).text == "the door is red"
        assert await texts(reader, "door") == ["the door is red"]
        await service.pin(door.id, ann())
        assert (await reader.get(door.id, ann())).pinned
        assert [each.version for each in await reader.history(door.id, ann())] == [1, 2, 3]
        clock.ms += 61_000
        with pytest.raises(NotFound):
            await reader.get(note.id, ann())
        await service.expire()
        assert await texts(reader, "minute") == []
        with pytest.raises(NotFound, match="expired"):
            await reader.history(note.id, ann())
        assert await reader.check(SHOP) == SOUND


async def test_the_past_is_asked_of_a_reader_too(tmp_path: Path):
    clock = Clock()
    async with both(tmp_path, clock=clock) as (service, reader):
        doors = [await remembered(service, f"door {i} green") for i in range(5)]
        then, clock.ms = clock.ms, clock.ms + 1000
        for i, door in enumerate(doors):
            await service.revise(door.id, Change(text=f"door {i} red"), ann(), version=1)
        assert sorted(await texts(reader, "door", as_of_ms=then)) == [f"door {i} green" for i in range(5)]
        await service.forget([doors[0].id], ann())
        await service.revise(doors[1].id, Change(text="door 1 blue"), ann(), version=2)
        assert sorted(await texts(reader, "door", as_of_ms=then)) == [f"door {i} green" for i in range(1, 5)]
        assert sorted(await texts(reader, "door")) == ["door 1 blue", "door 2 red", "door 3 red", "door 4 red"]


async def test_what_was_masked_is_gone_from_its_past_too(tmp_path: Path):
    clock = Clock()
    async with both(tmp_path, clock=clock) as (service, reader):
        record = await remembered(service, "write to ann.lee@example.com about the lease")
        doors = [await remembered(service, f"door {i} green") for i in range(5)]
        then, clock.ms = clock.ms, clock.ms + 1000
        await service.revise(record.id, Change(text="write to ann.lee@example.com about the flat"), ann(), version=1)
        for i, door in enumerate(doors):
            await service.revise(door.id, Change(text=f"door {i} red"), ann(), version=1)
        assert "ann.lee" in str(await texts(reader, "write", as_of_ms=then))
        await service.tell("redact", {"kinds": ["e-mail"]}, ann())
        for as_of in (None, then):
            assert "ann.lee" not in str(await texts(reader, "write", as_of_ms=as_of))
        [shelf] = reader.shelves.open
        assert shelf._past._projection is not None
        known = {id for id in shelf._past._projection.ids() if id.startswith(record.id)}
        assert known == {f"{record.id}@3"}, "words that were masked are in no index"
        assert "ann.lee" not in str(await reader.history(record.id, ann()))


async def test_a_grant_is_there_at_once_and_gone_at_once(tmp_path: Path):
    async with both(tmp_path) as (service, reader):
        await remembered(service, "the safe opens to the left", agent("till"), scope=Scope.AGENT)
        for granted in (True, False, True):
            await service.tell("grant", {"owner": "till", "reader": "audit", "granted": granted}, ann())
            assert bool(await texts(reader, "safe", agent("audit"))) is granted
            assert len(await reader.tell("grants", {}, ann())) == granted


async def test_what_is_restored_is_there_with_its_grants(tmp_path: Path):
    async with memory(tmp_path / "old.sqlite", snapshots=tmp_path / "s", **hygiene.parts(Clock())) as service:
        await remembered(service, "the safe opens to the left", agent("till"), scope=Scope.AGENT)
        await service.tell("grant", {"owner": "till", "reader": "audit"}, ann())
        await service.tell("snapshot", {}, ann())
    async with both(tmp_path, snapshots=tmp_path / "s") as (service, reader):
        assert await texts(reader, "safe", agent("audit")) == []
        await service.tell("restore", {}, ann())
        assert await texts(reader, "safe", agent("audit")) == ["the safe opens to the left"]
        assert await reader.check(SHOP) == SOUND


def test_every_entry_about_records_is_followed():
    """A kind of entry that a reader does not know of would leave it behind. These two say nothing about records."""
    silent = {Kind.MEMORY_GRANTED, Kind.MEMORY_CERTIFIED}
    about = {"tenant": SHOP, "records": [["one", 1]], "derived": []}
    for kind in (each for each in Kind if each.name.startswith("MEMORY_")):
        data = {**about, "records": ["one"]} if kind in (Kind.MEMORY_FORGOTTEN, Kind.MEMORY_EMBEDDED) else about
        event = Event(Number(1), Epoch(1), 0, kind, None, None, data)
        assert list(_ids(event)) == ([] if kind in silent else ["one"]), kind


async def test_vectors_that_are_made_up_for_are_taken_in(tmp_path: Path):
    embedder = WordEmbedder()
    async with both(tmp_path, embedder=embedder) as (service, reader):
        embedder.away = True
        await remembered(service, "the kettle leaks")
        embedder.away = False
        before = (await reader.recall(Query(text="the kettle"), ann())).hits[0]
        await service.upkeep.fill(SHOP)
        after = (await reader.recall(Query(text="the kettle"), ann())).hits[0]
        assert (before.record.embedding, after.record.embedding) == (None, embedder.digest)
        assert after.score == (await service.recall(Query(text="the kettle"), ann())).hits[0].score > before.score


async def test_a_forgotten_record_leaves_every_place_in_the_memory_of_a_reader(tmp_path: Path):
    """Row, vector, words and caches: with the next question, and without one when it looks by itself."""
    async with both(tmp_path, make_index=TenantIndex) as (service, reader):
        secret = await remembered(service, "zqsecret lies under the third stone")
        other = await remembered(service, "the third stone is loose")
        assert len(await texts(reader, "stone")) == 2
        [shelf] = reader.shelves.open
        await service.forget([secret.id], ann())
        assert isinstance(shelf, FollowingShelf)
        await reader._settle(shelf)
        assert await shelf.indexed() == ({other.id}, {other.id})
        assert secret.id not in shelf._cache
        assert shelf._changes == []
        assert await texts(reader, "zqsecret stone") == ["the third stone is loose"]
        with pytest.raises(NotFound):
            await reader.get(secret.id, ann())
        assert await reader.timeline(ann()) == []


async def test_it_looks_by_itself_when_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hanse.memory.reader.FOLLOW_SECONDS", 0.01)
    async with memory(path := tmp_path / "m.sqlite") as service, reader_of(path, service, started=True) as reader:
        record = await remembered(service, "zqsecret")
        await texts(reader, "zqsecret")
        [shelf] = reader.shelves.open
        await service.forget([record.id], ann())
        await until(lambda: not (len(shelf._present) or shelf._cache))


async def test_what_a_reader_gave_out_comes_back_as_an_echo(tmp_path: Path):
    """At once, without a pause between the answer and what is made of it; also for a shelf that was closed."""
    said = "The delivery for the Kiel warehouse comes on Tuesday at nine."
    async with both(tmp_path) as (service, reader):
        record = await remembered(service, said)
        await texts(reader, "delivery Kiel")
        [told] = await service.remember([Draft(text=f"I recalled that: {said}")], ann())
        assert (told.outcome, told.record.id) == ("echo", record.id)


async def test_a_version_that_was_given_out_is_an_echo_though_another_one_came(tmp_path: Path):
    async with both(tmp_path) as (service, reader):
        record = await remembered(service, "The lamp in the hall is green and flickers.")
        await texts(reader, "lamp")
        await service.revise(record.id, Change(text="The lamp in the hall was repaired."), ann(), version=1)
        [told] = await service.remember([Draft(text="The lamp in the hall is green and flickers.")], ann())
        assert told.outcome == "echo"


async def test_an_echo_is_known_though_the_shard_closed_the_tenant_meanwhile(tmp_path: Path):
    said = "The lamp in the hall is green and flickers."
    async with both(tmp_path, settings=Settings(open_tenants=1)) as (service, reader):
        record = await remembered(service, said)
        for by in (service, reader):
            await texts(by, "lamp")
            await remembered(service, f"another tenant {by}", ann("bank"))
            assert not service.shelves.is_open(SHOP)
            [told] = await service.remember([Draft(text=f"I recalled that: {said}")], ann())
            assert (told.outcome, told.record.id) == ("echo", record.id)


async def test_of_tenants_that_nobody_has_open_not_all_are_remembered():
    lately = LatelyOfAll(2, lambda tenant: tenant == "open")
    for tenant in ("open", "a", "b", "c"):
        lately.of(Tenant(tenant)).told([("r", 1)])
    assert [*lately._of] == ["open", "b", "c"]


@pytest.mark.parametrize("by_reader", [True, False])
async def test_what_was_given_out_and_forgotten_is_no_echo(tmp_path: Path, by_reader: bool):
    async with both(tmp_path) as (service, reader):
        record = await remembered(service, "The lamp in the hall is green and flickers.")
        await texts(reader if by_reader else service, "lamp")
        await service.forget([record.id], ann())
        assert not service.lately.of(SHOP)._given
        [told] = await service.remember([Draft(text="The lamp in the hall is green and flickers.")], ann())
        assert told.outcome == "stored"


async def test_many_recalls_share_a_message():
    sent: list[Mapping[Tenant, Sequence[Given]]] = []
    free = asyncio.Event()

    async def send(given: Mapping[Tenant, Sequence[Given]]) -> None:
        sent.append(given)
        await free.wait()

    teller = telling.Telling(send)
    telling_all = [asyncio.create_task(teller.tell(Tenant(f"t{i % 2}"), [(f"r{i}", 1)])) for i in range(50)]
    await until(lambda: sent)
    assert not any(each.done() for each in telling_all)
    free.set()
    await asyncio.gather(*telling_all)
    assert len(sent) <= 2
    assert sum(len(given) for message in sent for given in message.values()) == 50
    await teller.stop()


async def test_a_reader_answers_though_the_shard_is_away_and_tells_it_when_it_is_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "RETRY_SECONDS", 0)
    sent: list[Any] = []
    is_away = True

    async def send(given: Mapping[Tenant, Sequence[Given]]) -> None:
        if is_away:
            raise Unavailable("the shard is away")
        sent.append(given)

    teller = telling.Telling(send)
    async with asyncio.timeout(GUARD_SECONDS):
        await teller.tell(SHOP, [("a", 1), ("b", 1)])
        await teller.tell(SHOP, [("a", 2)])
        assert teller.away
        is_away = False
        await until(lambda: sent)
    assert sent == [{SHOP: [("b", 1), ("a", 2)]}]
    await teller.stop()


async def test_a_shard_that_says_nothing_holds_recalls_up_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "PATIENCE_SECONDS", 0.01)

    async def send(given: Any) -> None:
        await asyncio.Event().wait()

    teller = telling.Telling(send)
    async with asyncio.timeout(GUARD_SECONDS):
        await teller.tell(SHOP, [("a", 1)])
        assert teller.away
        monkeypatch.setattr(telling, "PATIENCE_SECONDS", 1000)
        await teller.tell(SHOP, [("b", 1)])
    await teller.stop()


async def test_a_reader_writes_nothing_and_says_who_does(tmp_path: Path):
    async with both(tmp_path) as (service, reader):
        await remembered(service, "a chair")
        for verb in ("erase", "grant", "compact", "stats", "nonsense"):
            with pytest.raises(NotAllowed, match="ask the shard"):
                await reader.tell(verb, {}, ann())
        with pytest.raises(NotAllowed, match="writes nothing"):
            reader.log.write_note(SHOP, "a", "b", 1)
        with pytest.raises(NotAllowed, match="writes nothing"):
            reader.log.grant(ann(), "a", "b", True)


async def test_verbs_that_read_say_what_the_shard_says(tmp_path: Path):
    async with both(tmp_path) as (service, reader):
        root = await remembered(service, "Ann prefers letters to calls.", subject="ann")
        sources = Provenance(derived_from=(root.id,))
        await remembered(service, "Letters are what Ann reads.", provenance=sources)
        for verb, given in (("access", {"subject": "ann"}), ("audit", {}), ("export", {}), ("grants", {})):
            assert await reader.tell(verb, given, ann()) == await service.tell(verb, given, ann())


async def test_a_log_that_was_put_back_ends_the_reader(tmp_path: Path):
    failed: list[BaseException] = []
    path = tmp_path / "m.sqlite"
    async with memory(path) as service:
        for i in range(5):
            await remembered(service, f"number {i}")
        async with reader_of(path, service, on_failure=failed.append) as reader:
            assert len(await texts(reader, "number")) == 5
            with closing(apsw.Connection(str(path))) as other:
                other.execute("DELETE FROM journal WHERE sequence > 3")
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await texts(reader, "number")
    assert [type(each) for each in failed] == [Corrupt]


async def test_the_files_are_cut_off_while_readers_ask(tmp_path: Path):
    """A reader holds nothing open between its statements: what was forgotten leaves the write-ahead log at once."""
    async with both(tmp_path) as (service, reader):
        record = await remembered(service, "zqsecret")
        reading = asyncio.create_task(_ask_on(reader))
        for _ in range(20):
            await service.forget([record.id], ann())
            assert not any(b"zqsecret" in each.read_bytes() for each in tmp_path.iterdir())
            record = await remembered(service, "zqsecret")
        reading.cancel()


async def _ask_on(reader: MemoryReader) -> None:
    while True:
        await texts(reader, "zqsecret")
        await asyncio.sleep(0)


async def test_a_tenant_that_was_closed_for_room_is_opened_with_all_that_came_since(tmp_path: Path):
    async with both(tmp_path, settings=Settings(open_tenants=1)) as (service, reader):
        for tenant in ("one", "two", "one", "two", "one"):
            await remembered(service, "a stone of this garden", ann(tenant), importance=0.5)
            await service.remember([Draft(text=f"garden {random.random()}")], ann(tenant))
            assert await texts(reader, "garden", ann(tenant)) == await texts(service, "garden", ann(tenant))
            assert len(reader.shelves) == 1
            assert set(reader._changed) == {tenant}


# By chance


THINGS = ("lamp", "door", "stone")


class Chance:
    """Writes of every kind, and questions asked of both, by a seed."""

    def __init__(self, seed: int, service: MemoryService, readers: Sequence[MemoryReader], clock: Clock) -> None:
        self.random = random.Random(seed)
        self.service, self.readers, self.clock = service, readers, clock
        self.ids: list[str] = []
        self.forgotten: set[str] = set()
        self.moments: list[int] = [clock.ms]
        self.callers = [ann(), agent("till"), agent("desk"), ann("bank"), agent("till", "bank")]

    async def write(self) -> None:
        self.clock.ms += self.random.randrange(1, 500)
        self.moments.append(self.clock.ms)
        ways = (*[self.remember] * 5, *[self.revise] * 3, self.forget, self.forget, self.grant, self.erase, self.mask)
        with suppress(HanseError):  # refused by the rules: of a record that is somebody else's, or gone
            await self.random.choice((*ways, self.expire, self.evict))()

    async def remember(self) -> None:
        caller = self.random.choice(self.callers)
        drafts = [self.draft(caller) for _ in range(self.random.choice((1, 1, 3)))]
        self.ids += [each.record.id for each in await self.service.remember(drafts, caller)]

    def draft(self, caller: Any) -> Draft:
        thing, number = self.random.choice(THINGS), self.random.randrange(10**9)
        return Draft(
            text=f"{thing} {number} of mail{self.random.randrange(9)}@example.com",
            scope=self.random.choice((Scope.FEDERATION, Scope.AGENT)) if caller.agent else Scope.FEDERATION,
            subject=self.random.choice((None, "ann", "bob")),
            episode=self.random.choice((None, "e1", "e2")),
            layer=self.random.choice((Layer.EPISODIC, Layer.SEMANTIC, Layer.WORKING)),
            ttl_seconds=self.random.choice((1, 5)) if self.random.random() < 0.2 else None,
            payload={"size": self.random.randrange(5)},
        )

    async def revise(self) -> None:
        id, caller = self.an_id(), self.random.choice(self.callers)
        version = (await self.service.get(id, caller)).version
        await self.service.revise(id, Change(text=f"door {self.random.random()}"), caller, version=version)

    async def forget(self) -> None:
        certificate = await self.service.forget([self.an_id()], self.random.choice((ann(), ann("bank"))))
        self.forgotten |= {*certificate.records}

    async def grant(self) -> None:
        granted, tenant = self.random.random() < 0.6, self.random.choice((ann(), ann("bank")))
        await self.service.tell("grant", {"owner": "till", "reader": "desk", "granted": granted}, tenant)

    async def erase(self) -> None:
        told = await self.service.tell("erase", {"subject": self.random.choice(("ann", "bob"))}, ann())
        self.forgotten |= {*told["records"]}

    async def mask(self) -> None:
        pattern = f"mail{self.random.randrange(9)}@example\\.com"
        await self.service.tell("redact", {"pattern": pattern}, self.random.choice((ann(), ann("bank"))))

    async def expire(self) -> None:
        await self.service.expire()

    async def evict(self) -> None:
        await self.service.tell("tidy", {"records": 15}, ann())

    def an_id(self) -> str:
        return self.random.choice([*self.ids[-30:], "none"])

    async def ask(self) -> None:
        """The same of the shard and of a reader. What was forgotten is in neither."""
        caller, reader = self.random.choice(self.callers), self.random.choice(self.readers)
        ask = self.random.choice((self.recall, self.recall, self.get, self.history, self.line))
        expected, found = await ask(self.service, caller), await ask(reader, caller)
        assert found == expected
        assert not self.forgotten & {*self._shown(found)}

    async def recall(self, of: Any, caller: Any) -> Any:
        return await self._told(of.recall(self._same(self._query), caller))

    async def get(self, of: Any, caller: Any) -> Any:
        return await self._told(of.get(self._same(self.an_id), caller))

    async def history(self, of: Any, caller: Any) -> Any:
        return await self._told(of.history(self._same(self.an_id), caller))

    async def line(self, of: Any, caller: Any) -> Any:
        episode = self._same(lambda: self.random.choice((None, "e1", "e2")))
        return await self._told(of.timeline(caller, episode=episode, limit=10))

    def _shown(self, found: Any) -> list[str]:
        """Ids of the records in an answer, without those that they were made of or that an error is about."""
        records = found if isinstance(found, list) else [hit["record"] for hit in found.get("hits", [])]
        return [each["id"].partition("@")[0] for each in records]

    def _query(self) -> Query:
        return Query(
            text=self.random.choice(("", "lamp", "door 7", "stone of mail3@example.com")),
            limit=self.random.choice((3, 50)),
            subjects=self.random.choice(((), ("ann",))),
            payload=self.random.choice(({}, {"size": 2})),
            as_of_ms=self.random.choice((None, None, self.random.choice(self.moments))),
        )

    def _same(self, draw: Any) -> Any:
        """The same for both of whom it is asked: whoever asks second has the same state of chance."""
        fixed = random.Random(len(self.moments) * 7919 + len(self.ids))
        was, self.random = self.random, fixed
        try:
            return draw()
        finally:
            self.random = was

    async def _told(self, asked: Any) -> Any:
        """Errors are answers too."""
        try:
            found = await asked
        except HanseError as error:
            return error.to_data()
        if isinstance(found, list):
            return [each.model_dump(mode="json") for each in found]
        return found.model_dump(mode="json")


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_written_a_reader_answers_as_the_shard_does(tmp_path: Path, seed: int):
    await by_chance(seed, 120, tmp_path / "m.sqlite", None, None)


async def test_over_postgresql_too(tmp_path: Path, server: Server):
    where = (server.url, "test-reader", "memory-0", "memory")
    await by_chance(7, 60, tmp_path, PostgresStore(*where), lambda: PostgresReader(*where))


async def by_chance(seed: int, rounds: int, path: Path, store: Any, look: Callable[[], Any] | None) -> None:
    clock, few, same = Clock(), Settings(open_tenants=1), {"make_index": TenantIndex, "look": look}
    async with (
        memory(path, clock=clock, store=store, **{**hygiene.parts(clock), "make_index": TenantIndex}) as service,
        reader_of(path, service, clock=clock, **same) as one,
        reader_of(path, service, clock=clock, settings=few, **same) as other,
    ):
        chance = Chance(seed, service, [one, other], clock)
        for _ in range(rounds):
            await chance.write()
            if chance.random.random() < 0.7:
                await chance.ask()
        for reader in (one, other):
            for tenant in (SHOP, Tenant("bank")):
                assert await reader.check(tenant) == SOUND
        assert chance.forgotten
        assert chance.ids
