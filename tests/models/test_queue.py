"""The queue before a tier: full, fair, bounded, and never too late."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import DeadlineExceeded, ModelUnavailable, Overloaded, Tenant
from hanse.models.queue import TURN_OF_THE_OTHERS, TierQueue

from ..support.models import HandClock


class Hall:
    """Callers of one queue, each of whom stays inside until let go."""

    def __init__(self, width: int = 1, limit: int = 100) -> None:
        self.clock = HandClock()
        self.queue = TierQueue("t", width, limit, self.clock)
        self.inside: list[str] = []
        self.order: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._numbers = 0

    async def come(self, tenant: str, *, interactive: bool = False, deadline_ms: int = 0) -> asyncio.Task[None]:
        self._numbers += 1
        name = f"{tenant}{self._numbers}"
        stay = self._stay(name, tenant, interactive, deadline_ms)
        task = asyncio.create_task(stay)
        await settle()
        return task

    async def let_go(self, name: str | None = None) -> None:
        self._gates[name or self.inside[0]].set()
        await settle()

    async def let_all_go(self) -> None:
        while self.inside:
            await self.let_go()

    async def _stay(self, name: str, tenant: str, interactive: bool, deadline_ms: int) -> None:
        async with self.queue.place(Tenant(tenant), interactive=interactive, deadline_ms=deadline_ms):
            self._gates[name] = asyncio.Event()
            self.inside.append(name)
            self.order.append(name)
            await self._gates[name].wait()
            self.inside.remove(name)


async def settle() -> None:
    """Lets everything happen that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_are_inside_as_fit_and_the_next_comes_at_once():
    hall = Hall(width=2)
    for _ in range(4):
        await hall.come("a")
    assert (hall.inside, hall.queue.waiting) == (["a1", "a2"], 2)
    await hall.let_go()
    assert (hall.inside, hall.queue.waiting) == (["a2", "a3"], 1)
    await hall.let_all_go()
    assert hall.queue.in_flight == 0


async def test_interactive_work_goes_first_and_the_others_do_not_starve():
    hall = Hall()
    await hall.come("first")
    await hall.come("batch")
    for _ in range(2 * TURN_OF_THE_OTHERS):
        await hall.come("live", interactive=True)
    await hall.let_all_go()
    assert hall.order[1].startswith("live")
    assert hall.order.index("batch2") == TURN_OF_THE_OTHERS


async def test_tenants_take_turns_whatever_each_has_waiting():
    hall = Hall()
    for tenant in "aaaaaaabc":
        await hall.come(tenant)
    await hall.let_all_go()
    assert [name[0] for name in hall.order[:5]] == ["a", "a", "b", "c", "a"]


async def test_a_full_line_refuses_who_has_most_in_it():
    hall = Hall(limit=3)
    await hall.come("a")
    greedy = [await hall.come("a") for _ in range(3)]
    more = await hall.come("a")
    with pytest.raises(Overloaded) as raised:
        await more
    assert raised.value.retry_after_seconds > 0
    await hall.come("b")
    with pytest.raises(Overloaded):
        await greedy[-1]
    await hall.let_all_go()
    assert [name[0] for name in hall.order] == ["a", "a", "b", "a"]


async def test_the_wait_that_is_promised_follows_how_long_calls_take():
    hall = Hall(width=2)
    for _ in range(30):
        await hall.come("a")
        hall.clock.pass_seconds(10)
        await hall.let_go()
    assert hall.queue.retry_after_seconds() == pytest.approx(10 / 2, rel=0.1)


async def test_who_waits_past_the_deadline_is_dropped_and_never_gets_in():
    hall = Hall()
    await hall.come("a")
    late = await hall.come("b", deadline_ms=hall.clock.at_ms + 60_000)
    hall.clock.pass_seconds(60)
    await hall.let_go()
    with pytest.raises(DeadlineExceeded):
        await late
    assert hall.order == ["a1"]
    assert hall.queue.in_flight == 0


async def test_who_waits_hears_of_the_deadline_when_it_comes_and_not_at_the_next_turn():
    hall = Hall()
    await hall.come("a")
    late = await hall.come("b", deadline_ms=hall.clock.at_ms + 5)
    with pytest.raises(DeadlineExceeded):
        await late
    assert hall.queue.waiting == 0


async def test_who_gives_up_leaves_no_gap():
    hall = Hall()
    await hall.come("a")
    impatient, patient = await hall.come("b"), await hall.come("c")
    impatient.cancel()
    await settle()
    await hall.let_go()
    assert hall.inside == ["c3"]
    patient.cancel()
    await settle()
    assert hall.queue.in_flight == 0


async def test_who_gives_up_in_the_moment_of_getting_in_gives_the_place_back():
    hall = Hall()
    await hall.come("a")
    lucky = await hall.come("b")
    hall._gates["a1"].set()
    for _ in range(10):
        if hall.queue.waiting == 0:
            lucky.cancel()
            break
        await asyncio.sleep(0)
    await settle()
    assert hall.queue.in_flight == 0
    await hall.come("c")
    assert hall.inside == ["c3"]


async def test_a_closed_queue_refuses_all():
    hall = Hall()
    await hall.come("a")
    waiting = await hall.come("b")
    hall.queue.close(ModelUnavailable("closed"))
    for task in (waiting, await hall.come("c")):
        with pytest.raises(ModelUnavailable):
            await task
    await hall.let_all_go()


async def test_when_it_gets_wider_those_who_wait_come_in_at_once():
    hall = Hall()
    for tenant in "abcd":
        await hall.come(tenant)
    hall.queue.resize(3)
    await settle()
    assert (hall.inside, hall.queue.waiting) == (["a1", "b2", "c3"], 1)
    await hall.let_all_go()


async def test_when_it_gets_narrower_those_inside_stay_until_they_are_done():
    hall = Hall(3)
    for tenant in "abcd":
        await hall.come(tenant)
    hall.queue.resize(1)
    await settle()
    assert hall.inside == ["a1", "b2", "c3"]
    for inside in (["b2", "c3"], ["c3"], ["d4"]):
        await hall.let_go()
        assert hall.inside == inside
    await hall.let_all_go()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["come", "go", "cancel"]), st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_whatever_happens_places_are_used_and_none_is_lost(moves: list[tuple[str, str, bool]], width: int, limit: int):
    asyncio.run(play(moves, width, limit))


async def play(moves: list[tuple[str, str, bool]], width: int, limit: int) -> None:
    hall, tasks = Hall(width, limit), list[asyncio.Task[None]]()
    for move, tenant, interactive in moves:
        if move == "come":
            tasks.append(await hall.come(tenant, interactive=interactive))
        elif move == "go" and hall.inside:
            await hall.let_go()
        elif move == "cancel" and tasks:
            tasks[len(tasks) // 2].cancel()
            await settle()
            hall.inside = [name for name in hall.inside if not _is_cancelled(hall, name, tasks)]
        assert hall.queue.in_flight <= width
        assert hall.queue.waiting <= limit
        assert not hall.queue.waiting or hall.queue.in_flight == width, "somebody waits beside a free place"
    while any(not task.done() for task in tasks):
        for gate in list(hall._gates.values()):
            gate.set()
        await settle()
    assert (hall.queue.in_flight, hall.queue.waiting) == (0, 0)
    assert not (Counter(hall.order) - Counter(set(hall.order))), "somebody was let in twice"
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_cancelled(hall: Hall, name: str, tasks: list[asyncio.Task[None]]) -> bool:
    number = int("".join(char for char in name if char.isdecimal()))
    return tasks[number - 1].done()
