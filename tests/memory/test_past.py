"""Questions of the past answer rightly whatever is written meanwhile, and hold nobody up who does not ask them."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hanse.contracts.memory import Change, Draft, Query, Record
from hanse.memory import hygiene, past, projection
from hanse.memory.ports import Decision, Sought
from hanse.memory.service import MemoryService

from .plain import SHOP, Clock, ExactIndex, ann, memory

GUARD_SECONDS = 10
"""After which a test that hangs fails."""


class Door:
    """Whoever comes to it in a thread waits until it is opened. Nobody may come on the event loop, which all need."""

    def __init__(self, pass_by: int = 0) -> None:
        self._reached, self._opened = asyncio.Event(), threading.Event()
        self._loop, self._home, self._left = asyncio.get_running_loop(), threading.get_ident(), pass_by

    def enter(self) -> None:
        assert threading.get_ident() != self._home, "the event loop is held up"
        self._left -= 1
        if self._left < 0:
            self._loop.call_soon_threadsafe(self._reached.set)
            self._opened.wait(GUARD_SECONDS)
            self._opened.set()  # nobody behind waits as long again

    async def reached_by(self, asked: "asyncio.Task[Any]") -> None:
        """Raises what ended it before it came here."""
        reached = asyncio.create_task(self._reached.wait())
        await asyncio.wait([reached, asked], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        assert not asked.done() or asked.result()

    def open(self) -> None:
        self._opened.set()


class Watch:
    """Makes indexes, and is told what is put into one of the past, and of questions."""

    def __init__(self) -> None:
        self.made: list[Watched] = []
        self.put_past: Callable[[str], Any] = lambda id: None
        self.searched: Callable[[], Any] = lambda: None

    def __call__(self, dimensions: int) -> "Watched":
        self.made.append(Watched(dimensions, self))
        return self.made[-1]


class Watched(ExactIndex):
    def __init__(self, dimensions: int, watch: Watch) -> None:
        super().__init__(dimensions)
        self._watch = watch

    def put(self, record: Record, vector: Any, number: int) -> None:
        if past.BETWEEN in record.id:
            self._watch.put_past(record.id)
        super().put(record, vector, number)

    def search(self, *arguments: Any) -> Any:
        self._watch.searched()
        return super().search(*arguments)


class Looks:
    """A gate that stores everything, and keeps what it was shown."""

    def __init__(self) -> None:
        self.near: list[set[str]] = []

    def seeks(self, draft: Draft) -> Sought:
        return Sought()

    def judge(self, draft: Draft, caller: Any, near: Sequence[Any], lately: Any, facts: Any) -> Decision:
        self.near.append({hit.record.text for hit in near})
        return Decision()


async def remembered(service: MemoryService, text: str) -> Record:
    [result] = await service.remember([Draft(text=text)], ann())
    return result.record


async def texts(service: MemoryService, text: str, as_of_ms: int | None = None) -> set[str]:
    found = await service.recall(Query(text=text, as_of_ms=as_of_ms, limit=50), ann())
    return {hit.record.text for hit in found.hits}


@asynccontextmanager
async def with_a_past(**parts: Any) -> AsyncIterator[tuple[MemoryService, Clock, list[Record], int]]:
    """Five doors, each of which was green at the moment given and is red now."""
    async with memory(clock=(clock := Clock()), **parts) as service:
        doors = [await remembered(service, f"door {i} green") for i in range(5)]
        then, clock.ms = clock.ms, clock.ms + 1000
        for i, door in enumerate(doors):
            doors[i] = await service.revise(door.id, Change(text=f"door {i} red"), ann(), version=1)
        clock.ms += 1000
        yield service, clock, doors, then


async def test_writers_and_readers_of_the_present_do_not_wait_while_the_past_is_made():
    index, door = Watch(), Door()
    async with asyncio.timeout(GUARD_SECONDS), with_a_past(make_index=index, gate=Looks()) as (service, _, doors, then):
        index.put_past = lambda id: door.enter()
        asked = asyncio.create_task(texts(service, "door", then))
        await door.reached_by(asked)
        await remembered(service, "a window")
        await service.revise(doors[0].id, Change(text="door 0 blue"), ann(), version=2)
        await service.forget([doors[1].id], ann())
        assert await texts(service, "door window") == {"a window", "door 0 blue", *(f"door {i} red" for i in (2, 3, 4))}
        assert not asked.done()
        door.open()
        assert await asked == {f"door {i} green" for i in (0, 2, 3, 4)}


@pytest.mark.parametrize("taken_in", range(10))
async def test_what_is_written_while_the_past_is_made_is_in_it_afterwards(
    taken_in: int, monkeypatch: pytest.MonkeyPatch
):
    """Held after each number of versions, so that what is written was taken in already, or was not yet."""
    monkeypatch.setattr(past, "SLICE", 3)
    index, door = Watch(), Door(taken_in)
    async with asyncio.timeout(GUARD_SECONDS), with_a_past(make_index=index) as (service, clock, doors, then):
        index.put_past = lambda id: door.enter()
        asked = asyncio.create_task(texts(service, "door", then))
        await door.reached_by(asked)
        between = clock.ms
        await service.forget([doors[0].id, doors[4].id], ann())
        clock.ms += 1000
        for i in (1, 3):
            await service.revise(doors[i].id, Change(text=f"door {i} blue"), ann(), version=2)
        await remembered(service, "door 5 new")
        door.open()
        assert await asked == {f"door {i} green" for i in (1, 2, 3)}
        assert not any(doors[0].id in id or doors[4].id in id for id in index.made[-1].ids())
        assert await texts(service, "door", then) == {f"door {i} green" for i in (1, 2, 3)}
        assert await texts(service, "door", between) == {f"door {i} red" for i in (1, 2, 3)}
        clock.ms += 1000
        await service.revise(doors[2].id, Change(text="door 2 blue"), ann(), version=2)
        assert await texts(service, "door", clock.ms - 1) == {"door 1 blue", "door 2 red", "door 3 blue", "door 5 new"}


async def test_a_write_costs_the_next_question_of_the_past_its_own_record_alone():
    index, put = Watch(), list[str]()
    async with with_a_past(make_index=index) as (service, _, doors, then):
        index.put_past = put.append
        await texts(service, "door", then)
        assert len(put) == 10
        await service.revise(doors[0].id, Change(text="door 0 blue"), ann(), version=2)
        assert await texts(service, "door", then) == {f"door {i} green" for i in range(5)}
        assert put[10:] == [f"{doors[0].id}@{version}" for version in (1, 2, 3)]


async def test_a_question_of_the_past_does_not_wait_for_what_is_written_after_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(past, "SLICE", 1)
    index, door, put = Watch(), Door(), list[str]()
    async with asyncio.timeout(GUARD_SECONDS), with_a_past(make_index=index) as (service, _, doors, then):
        await texts(service, "door", then)
        for i in (0, 1):
            await service.revise(doors[i].id, Change(text=f"door {i} blue"), ann(), version=2)
        index.put_past = lambda id: (door.enter(), put.append(id))
        asked = asyncio.create_task(texts(service, "door", then))
        await door.reached_by(asked)
        await service.revise(doors[2].id, Change(text="door 2 blue"), ann(), version=2)
        door.open()
        assert await asked == {f"door {i} green" for i in range(5)}
        assert put == [f"{doors[i].id}@{version}" for i in (0, 1) for version in (1, 2, 3)]
        await texts(service, "door", then)
        assert put[6:] == [f"{doors[2].id}@{version}" for version in (1, 2, 3)]


async def test_what_is_written_again_after_a_question_of_the_past_is_no_less_known_to_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(past, "SLICE", 1)
    index, door = Watch(), Door()
    async with asyncio.timeout(GUARD_SECONDS), with_a_past(make_index=index) as (service, clock, doors, then):
        await texts(service, "door", then)
        for i in (0, 1):
            await service.revise(doors[i].id, Change(text=f"door {i} blue"), ann(), version=2)
        blue, clock.ms = clock.ms, clock.ms + 1000
        await service.revise(doors[2].id, Change(text="door 2 blue"), ann(), version=2)
        index.put_past = lambda id: door.enter()
        asked = asyncio.create_task(texts(service, "door", blue))
        await door.reached_by(asked)
        assert not asked.done()
        await service.revise(doors[1].id, Change(text="door 1 white"), ann(), version=3)
        door.open()
        assert await asked == {"door 0 blue", "door 1 blue", *(f"door {i} red" for i in (2, 3, 4))}


async def test_what_is_forgotten_leaves_the_past_before_anybody_asks_again():
    index = Watch()
    async with with_a_past(make_index=index) as (service, _, doors, then):
        await texts(service, "door", then)
        await service.forget([doors[0].id], ann())
        assert index.made[-1].ids() == {f"{door.id}@{version}" for door in doors[1:] for version in (1, 2)}


async def test_what_is_masked_leaves_the_past_before_anybody_asks_again():
    index, number = Watch(), "+49 30 901820"
    async with memory(clock=(clock := Clock()), **{**hygiene.parts(clock), "make_index": index}) as service:
        record = await remembered(service, f"the door is {number}")
        then, clock.ms = clock.ms, clock.ms + 1000
        await service.revise(record.id, Change(text=f"the gate is {number}"), ann(), version=1)
        assert await texts(service, "door", then) == {f"the door is {number}"}
        assert (await service.tell("redact", {"kinds": ["phone"]}, ann()))["derived"] == [record.id]
        assert index.made[-1].ids() == set()
        assert await texts(service, "door", then) == set()


async def test_a_past_that_is_asked_for_while_a_write_goes_to_the_disk_knows_it_afterwards():
    async with asyncio.timeout(GUARD_SECONDS), with_a_past() as (service, clock, doors, then):
        store: Any = service.log._store
        begun, go_on, commit = asyncio.Event(), asyncio.Event(), store.commit

        async def held(writes: Any) -> None:
            begun.set()
            await go_on.wait()
            await commit(writes)

        store.commit = lambda writes: asyncio.ensure_future(held(writes))
        blue = Change(text="door 0 blue")
        revised = asyncio.create_task(service.revise(doors[0].id, blue, ann(), version=2))
        await begun.wait()
        asked = asyncio.create_task(texts(service, "door", then))
        for _ in range(10):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(revised, asked)
        clock.ms += 1000
        await service.revise(doors[1].id, Change(text="door 1 blue"), ann(), version=2)
        expected = {"door 0 blue", "door 1 red", "door 2 red", "door 3 red", "door 4 red"}
        assert await texts(service, "door", clock.ms - 1) == expected


async def test_whoever_leaves_while_the_past_is_made_leaves_the_rest_to_the_next_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(past, "SLICE", 3)
    index, door, put = Watch(), Door(4), list[str]()
    async with asyncio.timeout(GUARD_SECONDS), with_a_past(make_index=index) as (service, _, _, then):
        index.put_past = lambda id: (door.enter(), put.append(id))
        asked = asyncio.create_task(texts(service, "door", then))
        await door.reached_by(asked)
        asked.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()  # or the next one would find a thread at the projection
        door.open()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await texts(service, "door", then) == {f"door {i} green" for i in range(5)}
        assert len(put) == len(set(put)) == 10


async def test_a_past_that_could_not_be_made_is_made_anew():
    def full(id: str) -> None:
        raise MemoryError

    index = Watch()
    async with with_a_past(make_index=index) as (service, _, _, then):
        index.put_past = full
        with pytest.raises(MemoryError):
            await texts(service, "door", then)
        index.put_past = lambda id: None
        assert await texts(service, "door", then) == {f"door {i} green" for i in range(5)}


async def test_a_past_that_nobody_asks_for_any_more_is_let_go():
    async with with_a_past() as (service, _, _, then):
        await texts(service, "door", then)
        for i in range(11):
            await remembered(service, f"window {i}")
        async with service.shelves.use(SHOP) as shelf:
            assert shelf._past._projection is None
        assert await texts(service, "door", then) == {f"door {i} green" for i in range(5)}


@pytest.mark.parametrize("seed", range(8))
async def test_every_moment_is_as_it_was_less_what_was_forgotten(seed: int, monkeypatch: pytest.MonkeyPatch):
    """Writers and readers of the past at once; then every moment is asked for and held against what was written."""
    monkeypatch.setattr(past, "SLICE", 2)
    chance, moments = random.Random(seed), list[int]()
    said: dict[str, list[tuple[int, str]]] = {}
    async with memory(clock=(clock := Clock())) as service:

        async def write() -> None:
            if chance.random() < 0.4 or not said:
                record = await remembered(service, f"door {len(said)} {clock.ms}")
                said[record.id] = [(record.updated_ms, record.text)]
            elif chance.random() < 0.75:
                id = chance.choice(list(said))
                change = Change(text=f"door {id} {clock.ms}")
                revised = await service.revise(id, change, ann(), version=len(said[id]))
                said[id].append((revised.updated_ms, revised.text))
            else:
                await service.forget([gone := chance.choice(list(said))], ann())
                del said[gone]

        for _ in range(40):
            clock.ms += 1000
            moments.append(clock.ms)
            readers = (texts(service, "door", chance.choice(moments)) for _ in range(chance.randrange(3)))
            await asyncio.gather(write(), *readers)
        for moment in moments:
            was = [[text for at, text in versions if at <= moment] for versions in said.values()]
            assert await texts(service, "door", moment) == {versions[-1] for versions in was if versions}


# What the gate looks at


async def test_a_writer_looks_for_what_is_near_while_a_reader_is_still_searching(monkeypatch: pytest.MonkeyPatch):
    """It sees what was written before it all the same, and nothing that was forgotten."""
    monkeypatch.setattr(projection, "SMALL", 0)
    index, door, gate = Watch(), Door(), Looks()
    async with asyncio.timeout(GUARD_SECONDS), memory(make_index=index, gate=gate) as service:
        first, other = await remembered(service, "first door"), await remembered(service, "other door")
        await texts(service, "door")
        index.searched = door.enter
        asked = asyncio.create_task(texts(service, "door"))
        await door.reached_by(asked)
        await remembered(service, "new door")
        await service.revise(first.id, Change(text="first gate"), ann(), version=1)
        await service.forget([other.id], ann())
        await remembered(service, "last door")
        assert gate.near[-2:] == [{"first door", "other door"}, {"first gate", "new door"}]
        assert not asked.done()
        door.open()
        await asked
        assert await texts(service, "door gate") == {"first gate", "new door", "last door"}
