"""Readers of the memory in a running federation: whom a client asks, and what it does when nobody is there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import InvalidConfiguration, NotFound, Tenant, Unavailable
from hanse.contracts.memory import Draft, Query
from hanse.runtime import actors, cluster, memory_readers
from hanse.runtime.answering import Asked, Counter
from hanse.runtime.assembly import World
from hanse.runtime.client import Shard
from hanse.runtime.config import Configuration
from hanse.runtime.federation import Federation
from hanse.runtime.gateway import health
from hanse.runtime.link import Link, Receiver, pipe
from hanse.runtime.memory_client import MemoryClient
from hanse.runtime.memory_readers import Readers
from hanse.runtime.parts import memory_reader, parts_of

from ..memory.plain import WordEmbedder, ann
from ..support.postgres import Server

GUARD_SECONDS = 20


@asynccontextmanager
async def running(data: Path, readers: int = 2, **more: Any) -> AsyncIterator[Federation]:
    memory = {"shards": 1, "readers": readers}
    async with Federation.in_process(memory=memory, data=data, embedder=WordEmbedder(), **more) as federation:
        yield federation


async def reads_of(federation: Federation) -> dict[str, int]:
    return {each.name: each.reads for each in (await federation.client.status()).memory_processes}


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while not holds():  # noqa: ASYNC110 - a link that is made on the side tells nobody
            await asyncio.sleep(0.001)


async def reached(federation: Federation) -> None:
    """Returns when the client has a link to every reader."""
    with_memory: Any = federation.client
    await federation.memory.recall("anything")
    ways = [way for readers in with_memory._memory._readers for way in readers._ways]
    await until(lambda: all(way.shard.is_reached for way in ways))


async def test_reads_go_to_readers_and_writes_to_the_shard(tmp_path: Path):
    async with running(tmp_path) as federation:
        await reached(federation)
        before = await reads_of(federation)
        told = await federation.memory.remember("Ann prefers letters to calls.", subject="ann")
        found = await asyncio.gather(*(federation.memory.recall("letters") for _ in range(10)))
        assert {each.hits[0].record.text for each in found} == {"Ann prefers letters to calls."}
        assert (await federation.memory.get(told.record.id)).text == "Ann prefers letters to calls."
        assert len(await federation.memory.history(told.record.id)) == 1
        assert (await federation.memory.tell("access", subject="ann"))["subject"] == "ann"
        assert (await federation.memory.tell("stats"))["records"] == 1
        await federation.memory.tell("grant", owner="till", reader="desk")
        await federation.memory.forget([told.record.id])
        assert (await federation.memory.recall("letters")).hits == []
        with pytest.raises(NotFound, match="asked"):
            await federation.memory.history(told.record.id)
        after = await reads_of(federation)
        assert after["memory-0"] == before["memory-0"]
        readers = [after[name] - before[name] for name in ("memory-0-reader-0", "memory-0-reader-1")]
        assert sum(readers) == 14
        assert min(readers) >= 4, "ten that ask at once are shared out"


async def test_what_a_reader_gave_out_is_an_echo(tmp_path: Path):
    async with running(tmp_path, readers=1) as federation:
        await reached(federation)
        said = "The delivery for the Kiel warehouse comes on Tuesday at nine."
        told = await federation.memory.remember(said)
        await federation.memory.recall("delivery Kiel")
        [again] = await federation.client.memory.remember([Draft(text=f"I recalled that: {said}")])
        assert (again.outcome, again.record.id) == ("echo", told.record.id)


async def test_the_status_says_who_answers(tmp_path: Path):
    async with running(tmp_path) as federation:
        view = await federation.client.status()
        assert view.memory == "1 shard, 2 readers"
        assert [(each.name, each.kind, each.answers) for each in view.memory_processes] == [
            ("memory-0", "shard", True),
            ("memory-0-reader-0", "reader", True),
            ("memory-0-reader-1", "reader", True),
        ]
        await federation.memory.remember("a chair")
        await federation.memory.recall("a chair")
        shard, *_ = (await federation.client.status()).memory_processes
        assert (shard.sequence, shard.tenants, shard.records) == (1, 1, 1)
    async with Federation.in_process() as without:
        assert (await without.client.status()).memory == "not configured"


async def test_the_metrics_say_it_too(tmp_path: Path):
    async with running(tmp_path, readers=1) as federation:
        await federation.memory.remember("a chair")
        lines = [*health._memory(await federation.client.status())]
    assert 'hanse_memory_up{process="memory-0-reader-0",kind="reader"} 1' in lines
    assert 'hanse_memory_open_records{process="memory-0",kind="shard"} 1' in lines
    assert "# TYPE hanse_memory_reads_total counter" in lines


async def test_readers_over_postgresql(tmp_path: Path, server: Server):
    sections: Any = {"federation": {"name": "read"}, "store": {"url": server.url}}
    async with running(tmp_path, **sections) as federation:
        await reached(federation)
        for i in range(10):
            told = await federation.memory.remember(f"lamp number {i} in room {i}")
            assert len((await federation.memory.recall("lamp", limit=50)).hits) == i + 1
        await federation.memory.forget([told.record.id])
        assert len((await federation.memory.recall("lamp", limit=50)).hits) == 9
        assert (await reads_of(federation))["memory-0"] <= 1


async def test_a_memory_in_memory_has_no_readers():
    with pytest.raises(InvalidConfiguration, match="nothing that readers could open"):
        Configuration.for_agents([], data=":memory:", memory={"readers": 1})


def test_readers_are_parts_that_may_be_on_any_node(tmp_path: Path):
    configuration = Configuration.for_agents([], data=tmp_path, memory={"shards": 2, "readers": 2})
    assert [(each.name, each.roams) for each in parts_of(configuration) if each.name.startswith("memory")] == [
        ("memory-0", False),
        ("memory-1", False),
        ("memory-0-reader-0", True),
        ("memory-0-reader-1", True),
        ("memory-1-reader-0", True),
        ("memory-1-reader-1", True),
    ]


async def test_a_reader_of_another_layout_does_not_start(tmp_path: Path):
    """It would say of most tenants that they have nothing."""
    async with running(tmp_path):
        pass
    configuration = Configuration.for_agents([], data=tmp_path, memory={"shards": 3, "readers": 1})
    part = memory_reader(configuration, World.real(), print, 0, Place("shard").way(), WordEmbedder())
    with pytest.raises(InvalidConfiguration, match="laid out in 1"):
        await part.start()
    await part.reader.stop()
    part._store.close()


@pytest.mark.parametrize("url", [None, "postgresql://hanse@db.example.com/hanse"])
def test_readers_live_where_their_store_can_be_opened(tmp_path: Path, url: str | None, monkeypatch: pytest.MonkeyPatch):
    store = {} if url is None else {"store": {"url": url}}
    configuration = Configuration.for_agents([], data=tmp_path, memory={"readers": 1}, **store)
    placed: dict[str, Any] = {}

    class Actor:
        @staticmethod
        def options(**options: Any) -> Any:
            placed[options["name"]] = (options["resources"], options["max_restarts"], options["scheduling_strategy"])
            return type("Made", (), {"remote": staticmethod(lambda *_: None)})

    monkeypatch.setattr(actors, "PartActor", Actor)
    monkeypatch.setattr(cluster, "_here", lambda: "10.0.0.1")
    cluster._parts(configuration, False)
    here = {"node:10.0.0.1": cluster.PINCH}
    assert placed["memory-0"] == (here, -1, "SPREAD")
    assert placed["memory-0-reader-0"] == (here if url is None else None, -1, "SPREAD")


# What a client does


class Place:
    """Somewhere that answers recalls, when it does."""

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, 0
        self.listens = True
        self.free = asyncio.Event()
        self.free.set()
        self.counter = Counter(name, {"recall": self._recall, "remember": self._remember})
        self._links: list[Link] = []

    def way(self, patience: float = 0) -> Shard:
        return Shard(self._dial, patience)

    def die(self) -> None:
        self.listens = False
        for link in self._links:
            link.close("killed")

    async def _dial(self, receiver: Receiver) -> Link:
        if not self.listens:
            raise Unavailable("nobody listens")
        near, _ = pipe(receiver, self.counter)
        self._links.append(near)
        return near

    async def _recall(self, asked: Asked) -> Any:
        self.asked += 1
        await self.free.wait()
        return {"hits": [], "degraded": self.name}

    async def _remember(self, asked: Asked) -> Any:
        self.asked += 1
        return []


@asynccontextmanager
async def client_of(*readers: Place, shard: Place) -> AsyncIterator[MemoryClient]:
    """A client that has a link to everybody who listens."""
    beside = Readers([each.way() for each in readers])
    client = MemoryClient([shard.way(5)], [beside])
    beside.pick(ann().tenant)
    await until(
        lambda: all(way.shard.is_reached for way, each in zip(beside._ways, readers, strict=True) if each.listens)
    )
    try:
        yield client
    finally:
        await client.close()


async def recalled(client: MemoryClient, tenant: str = "shop") -> str:
    """By whom."""
    return (await client.recall(Query(), ann(tenant))).degraded


async def test_a_tenant_keeps_to_its_reader_while_that_is_free():
    one, two, shard = Place("one"), Place("two"), Place("shard")
    async with client_of(one, two, shard=shard) as client:
        asked = {tenant: {await recalled(client, tenant) for _ in range(5)} for tenant in map(str, range(20))}
        assert all(len(readers) == 1 for readers in asked.values())
        assert set().union(*asked.values()) == {"one", "two"}


async def test_the_one_with_less_to_do_is_asked():
    one, two, shard = Place("one"), Place("two"), Place("shard")
    one.free.clear()
    two.free.clear()
    async with client_of(one, two, shard=shard) as client:
        asked = [asyncio.create_task(recalled(client)) for _ in range(10)]
        await until(lambda: one.asked + two.asked == 10)
        assert (one.asked, two.asked) == (5, 5)
        one.free.set()
        two.free.set()
        await asyncio.gather(*asked)


async def test_when_a_reader_dies_another_one_is_asked_and_then_the_shard():
    one, two, shard = Place("one"), Place("two"), Place("shard")
    async with client_of(one, two, shard=shard) as client:
        one.free.clear()
        two.free.clear()
        asked = asyncio.create_task(recalled(client))
        await until(lambda: one.asked + two.asked)
        first, other = (one, two) if one.asked else (two, one)
        other.free.set()
        first.die()
        assert await asked == other.name, "a question that was with it is asked again"
        other.die()
        assert await recalled(client) == "shard"


async def test_nobody_waits_for_a_reader_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory_readers, "REST_SECONDS", 0)
    one, shard = Place("one"), Place("shard")
    one.listens = False
    async with client_of(one, shard=shard) as client:
        assert await recalled(client) == "shard"
        one.listens = True
        [beside] = client._readers
        await until(lambda: beside.pick(ann().tenant))
        assert await recalled(client) == "one"


async def test_a_reader_that_says_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    one, shard = Place("one"), Place("shard")
    one.free.clear()
    async with client_of(one, shard=shard) as client:
        [beside] = client._readers
        monkeypatch.setattr(MemoryClient._read, "__defaults__", (0.01,))
        assert await recalled(client) == "shard"
        assert beside.pick(Tenant("shop")) is None, "it rests"
        assert one.asked == 1


async def test_writes_never_go_to_a_reader():
    one, shard = Place("one"), Place("shard")
    async with client_of(one, shard=shard) as client:
        await client.remember([], ann())
        assert (one.asked, shard.asked) == (0, 1)
