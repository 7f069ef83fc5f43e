"""What was recalled lately: found by its words, and kept within bounds."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import Query
from hanse.memory import lately as module
from hanse.memory.gate import Gate
from hanse.memory.lately import Lately

from ..support.memory import clean_memory
from .making import CALLER, Now, draft, record
from .plain import agent, ann
from .test_hygiene import remember

TEA = "Ann Lee prefers green tea in the office."
WORDS = ["Ann", "prefers", "preferring", "green", "tea", "17", "never", "Bergen", "office", "the", "I recall:", ". "]


def nothing(id: str, version: int):
    pytest.fail("nothing needs to be looked up")


def lately_of(*texts: str, most_bytes: int = module.KEPT_BYTES) -> Lately:
    lately = Lately(most_bytes)
    lately.gave(record(f"r{number}", text) for number, text in enumerate(texts))
    return lately


@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), max_size=8), st.lists(st.sampled_from(WORDS)))
def test_the_gate_decides_as_if_it_had_been_given_everything(said, words):
    texts, text = [" ".join(each) for each in said], " ".join(words).strip() or "Ann"
    lately, gate = lately_of(*texts), Gate(Now())
    known, found = lately.records(nothing), lately.said_in(text, nothing)
    every = gate.judge(draft(text), CALLER, (), known[::-1])
    assert gate.judge(draft(text), CALLER, (), found) == every


def test_what_is_over_its_bytes_is_dropped_oldest_first_with_all_it_was_found_by():
    lately = lately_of(*(f"Parcel {number} went to depot {number}." for number in range(1000)), most_bytes=50_000)
    assert lately.nbytes <= 50_000
    assert 20 < len(lately) < 100
    assert lately.said_in("Parcel 3 went to depot 3.", nothing) == []
    assert [each.id for each in lately.said_in("Parcel 999 went to depot 999.", nothing)] == ["r999"]
    assert lately.forget([f"r{number}" for number in range(1000)]) > 20
    assert (lately.nbytes, lately._holders, lately._unread) == (0, {}, {})


def test_what_is_given_out_again_is_the_latest_and_takes_no_more_room():
    lately = lately_of(*(f"Parcel {number} went to depot {number}." for number in range(20)))
    assert len(lately.records(nothing)) == 20
    taken = lately.nbytes
    lately.gave([record("r0", "Parcel 0 went to depot 0.")])
    assert ([each.id for each in lately.records(nothing)][-1], lately.nbytes) == ("r0", taken)
    assert [each.id for each in lately.said_in("Parcel 0 went to depot 0.", nothing)] == ["r0"]
    lately.gave([record("r0", "Parcel 0 was lost.", version=2)])
    assert lately.said_in("Parcel 0 went to depot 0.", nothing) == [], "another version says something else"


def test_a_long_text_is_not_kept_beyond_the_bytes_either():
    lately = lately_of("word " * 6000, most_bytes=10_000)
    assert (len(lately), lately.nbytes) == (0, 0)


def test_what_rests_is_looked_up_again():
    lately = lately_of(TEA)
    lately.rest()
    assert [each.id for each in lately.said_in(TEA, lambda id, version: record(id, TEA))] == ["r0"]
    assert lately.said_in(TEA, nothing), "once"
    lately.rest()
    assert lately.said_in(TEA, lambda id, version: None) == [], "it was forgotten meanwhile"
    assert len(lately) == 0


async def test_an_echo_is_known_after_thousands_of_other_recalls():
    async with clean_memory() as service:
        first = await remember(service, f"{TEA} Her desk is by the window, and the kettle is in room 12.")
        await service.recall(Query(text="green tea"), ann())
        others = [f"Parcel {number} for depot {number * 7}" for number in range(600)]
        for text in others:
            await remember(service, f"{text} came back damaged.")
        for text in others:
            await service.recall(Query(text=text, limit=1), ann())
        for number in range(10):
            await remember(service, f"Ann Lee drinks tea number {number}.", ann())
        echo = await remember(service, f"Relevant context: {TEA} Parcel 5 for depot 35 came back damaged.", agent("s"))
        assert (echo.outcome, echo.record.id) == ("echo", first.record.id)


async def test_what_was_given_out_is_read_in_stretches_when_somebody_asks():
    lately, looked_up = lately_of(*(f"Parcel {number} went to depot {number}." for number in range(150))), list[str]()
    lately.told([("told", 1)])
    assert lately._holders == {}, "whoever recalls does not wait for that"

    def look_up(id: str, version: int):
        looked_up.append(id)
        return record(id, TEA)

    reading = asyncio.create_task(lately.read(look_up))
    await asyncio.sleep(0)
    assert len(lately._unread) == 151 - module.AT_A_STRETCH
    lately.gave([record("r150", "Parcel 150 went to depot 150.")])
    await reading
    assert (looked_up, lately._unread) == (["told"], {})
    assert [each.id for each in lately.said_in("Parcel 150 went to depot 150.", nothing)] == ["r150"]
