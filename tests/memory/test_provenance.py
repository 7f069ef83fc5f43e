"""Where a record came from outlives what it came from: an erasure finds it through what expired or was evicted before.

Through the real service and its store, so that the graph of a shard is what it is after a restart.
"""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import IdempotencyKey
from hanse.contracts.memory import Certificate, Draft, Provenance
from hanse.memory import books, faults
from hanse.memory.writing import Derivations

from ..support.memory import clean_memory
from .plain import SHOP, Clock, agent, ann
from .test_erasure_on_disk import everything_on_disk

SCRIBE = agent("scribe")
SHORT, LONG = 10, 1000
"""Seconds to live."""


async def kept(service, text, *sources, **more):
    draft = Draft(text=text, provenance=Provenance(derived_from=sources), ttl_seconds=LONG, **more)
    [told] = await service.remember([draft], ann())
    return told.record.id


async def kept_briefly(service, text, *sources, **more):
    draft = Draft(text=text, provenance=Provenance(derived_from=sources), ttl_seconds=SHORT, **more)
    [told] = await service.remember([draft], ann())
    return told.record.id


async def passes(service, clock):
    clock.ms += SHORT * 1000
    await service.expire()


async def evict(service, *ids):
    async with service.shelves.use(SHOP) as shelf:
        await service.writing.evict(shelf, ids, ann())


async def erased(service, subject="quill", **more):
    return Certificate.model_validate(await service.tell("erase", {"subject": subject, **more}, ann()))


async def edges(service):
    await service.log.durable()
    found = {}
    for source in sorted(service.log.live_ids(SHOP) | set(service.log.tombstones(SHOP)) | {"subject:quill"}):
        if made := service.log.derived_from(SHOP, source):
            found[source] = made
    return found


async def texts(service):
    return [each["text"] for each in (await service.tell("export", {}, ann()))["records"]]


@pytest.mark.parametrize("how", ["expire", "evict"])
@pytest.mark.parametrize("gone", ["a", "b", "ab", "ba"])
async def test_an_erasure_reaches_through_what_has_gone(tmp_path: Path, how: str, gone: str):
    """Also through the subject's own record, and after a restart."""
    clock = Clock()
    async with clean_memory(tmp_path / "m.db", clock=clock) as service:
        ids = {}
        for name, text in {
            "a": "Quill Zephyrine lives here",
            "b": "Zephyrine is near",
            "c": "Zephyrine matters",
        }.items():
            sources = [ids["b" if name == "c" else "a"]] if ids else []
            keep = kept_briefly if how == "expire" and name in gone else kept
            ids[name] = await keep(service, text, *sources, **({} if ids else {"subject": "quill"}))
        other = await kept(service, "Depot nine closes in March.")
        await passes(service, clock)
        for name in gone if how == "evict" else "":
            await evict(service, ids[name])
    async with clean_memory(tmp_path / "m.db", clock=clock) as service:
        assert ids["c"] in {each["id"] for each in (await service.tell("export", {}, ann()))["records"]}
        told = await service.tell("access", {"subject": "quill"}, ann())
        assert ids["c"] in [each["id"] for each in told["derived"]]
        certificate = await erased(service)
        assert {*certificate.records, *certificate.derived} == {ids[name] for name in "abc" if name not in gone}
        assert service.log.live_ids(SHOP) == {other}
        assert await edges(service) == {}
        await service.tell("compact", {}, ann())
    assert b"Zephyrine" not in everything_on_disk(tmp_path)
    assert b"subject:quill" not in everything_on_disk(tmp_path)


async def test_forgetting_reaches_through_what_has_gone_and_what_has_gone_is_forgotten():
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        first = await kept(service, "Quill lives at Lakeview.")
        between = await kept_briefly(service, "Somebody lives near water.", first)
        last = await kept(service, "Water matters to a customer.", between)
        other = await kept(service, "Boats sell well in spring.", between)
        await passes(service, clock)
        assert (await service.forget([between], SCRIBE)).derived == [], "agents cannot be asked whose it was"
        await evict(service, other)
        assert (await service.forget([first], ann())).derived == [last]
        second = await kept_briefly(service, "Ann rows on Sundays.")
        made = await kept(service, "Rowing is liked by customers.", second)
        await passes(service, clock)
        assert (await service.forget([second], ann())).derived == [made]
        assert await edges(service) == {}


async def test_what_a_step_said_before_leaves_its_trace(tmp_path: Path):
    async with clean_memory(tmp_path / "m.db") as service:
        caller = agent("scribe", task="t1", step="s1")
        first = await kept(service, "Quill lives at Lakeview.", subject="quill")
        said = [
            Draft(text=text, provenance=Provenance(derived_from=(first,)))
            for text in ("Somebody lives near water.", "There is a lake in Ann's town.")
        ]
        [told] = await service.remember([said[0]], caller, key=IdempotencyKey("t1/s1/0"))
        made = await kept(service, "Boats sell well in spring.", told.record.id)
        [again] = await service.remember([said[1]], caller, key=IdempotencyKey("t1/s1/0"))
        assert set((await erased(service)).derived) == {made, again.record.id}


async def test_a_summary_loses_the_line_that_came_through_what_has_gone():
    """However many steps away, and keeps those of others."""
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        said = [
            await kept_briefly(service, "Quill asked for room 100.", subject="quill"),
            await kept_briefly(service, "Ben asked for a parcel from Oslo.", subject="ben"),
        ]
        lines = "Quill asked for room 100.\nBen asked for a parcel from Oslo."
        month = await kept(service, lines, *said, payload={"lines": [[id] for id in said]})
        year = await kept(service, f"{lines} ", month, payload={"lines": [[id, month] for id in said]})
        await passes(service, clock)
        assert await edges(service) == {
            "subject:quill": [said[0]], **{id: sorted([month, year]) for id in said}, month: [year],
        }  # fmt: skip
        certificate = await erased(service)
        assert (certificate.records, certificate.derived) == ([], sorted([month, year]))
        left = await service.get(year, ann())
        assert left.text.strip() == "Ben asked for a parcel from Oslo."
        assert "Quill" not in str(await service.tell("access", {"subject": "ben"}, ann()))
        assert (await erased(service, "ben")).derived == sorted([month, year])
        assert await edges(service) == {}


async def test_a_chain_that_goes_at_its_end_does_not_grow():
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        last = await kept_briefly(service, "round 0 of many", subject="quill")
        sizes = set()
        for number in range(1, 12):
            new = await kept_briefly(service, f"round {number} of depot {number * 31}", last)
            clock.ms += SHORT * 500
            await service.expire()
            await evict(service, last)
            last = new
            sizes.add(len(await edges(service)))
        assert sizes == {2}, "the subject, and the one that the last was made of"
        assert (await erased(service)).derived == [last]
        assert await edges(service) == {}


@st.composite
def lives(draw):
    """Records in five levels, each made of some before, a few of them about Quill; and who goes when, and how."""
    records = [((), draw(st.booleans())) for _ in range(draw(st.integers(1, 3)))]
    for _ in range(5):
        for _ in range(draw(st.integers(1, 2))):
            sources = draw(st.lists(st.sampled_from(range(len(records))), min_size=1, max_size=3, unique=True))
            records.append((tuple(sources), draw(st.integers(0, 6)) == 0))
    going = draw(st.lists(st.tuples(st.sampled_from(range(len(records))), st.booleans()), max_size=len(records)))
    return records, going


@settings(max_examples=60)
@given(lives(), st.booleans())
def test_whatever_went_before_an_erasure_leaves_nothing_derived(made, together):
    records, going = made
    asyncio.run(_erase_after(records, going, together))


async def _erase_after(records, going, together):
    clock = Clock()
    async with clean_memory(clock=clock, gate=None) as service:
        ids, quills, own = [], set(), set()
        expiring = {number for number, expires in going if expires}
        for number, (sources, about) in enumerate(records):
            keep = kept_briefly if number in expiring else kept
            subject = {"subject": "quill"} if about else {}
            ids.append(await keep(service, f"record {number}", *(ids[each] for each in sources), **subject))
            if about or quills & set(sources):
                quills.add(number)
            own |= {ids[-1]} if about else set()
        evictions = [evict(service, ids[number]) for number, expires in going if not expires]
        if together:
            await asyncio.gather(passes(service, clock), *evictions)
        else:
            for each in (*evictions, passes(service, clock)):
                await each
        gone = {ids[number] for number, _ in going}
        certificate = await erased(service)
        assert set(certificate.records) == own - gone
        assert set(certificate.derived) == {ids[number] for number in quills} - own - gone
        assert service.log.live_ids(SHOP) == {*ids} - gone - {ids[number] for number in quills}
        left = await edges(service)
        assert "subject:quill" not in left
        async with service.shelves.use(SHOP) as shelf:
            graph = Derivations(shelf, service.log)
            live = service.log.live_ids(SHOP)
            records = [record for id in live if (record := graph.record(id)) is not None]
            named = {source for record in records for source in books.sources_of(record)}
            assert set(left) <= live | named, "none of the gone is known that nothing alive names"


async def waiting(shelf, count):
    """Until so many wait for the gate."""
    while len(shelf.gate._waiters or ()) < count:  # noqa: ASYNC110 - a lock tells nobody who waits for it
        await asyncio.sleep(0)


async def test_what_is_written_while_a_subject_is_to_be_erased_is_erased_too():
    async with clean_memory() as service, service.shelves.use(SHOP) as shelf:
        async with shelf.gate:
            writing = asyncio.create_task(kept(service, "Quill lives at Lakeview.", subject="quill"))
            await waiting(shelf, 1)
            erasing = asyncio.create_task(erased(service))
            await waiting(shelf, 2)
        assert (await erasing).records == [await writing]


class Counting:
    """Counts how often each point is reached."""

    def __init__(self):
        self.points = []

    def reach(self, point):
        self.points.append(point)


async def test_a_subject_and_its_aliases_are_erased_by_one_commit():
    async with clean_memory(faults=(counting := Counting())) as service:
        own = await kept(service, "Quill Zephyrine lives here.", subject="quill")
        other = await kept(service, "Ben met Quill Zephyrine at the fair.")
        said = await service.tell("erase", {"subject": "quill", "aliases": ["Quill Zephyrine"]}, ann())
        assert counting.points.count(faults.before("forget")) == 1
        assert (said["records"], said["derived"], said["masked"]["derived"]) == ([own], [], [other])
        assert await texts(service) == ["Ben met [pattern] at the fair."]
