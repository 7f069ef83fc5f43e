"""One timer for all handlers that run: each is told when its own time is up, and none that has ended."""

import asyncio
from collections.abc import Callable

from hanse.agents.deadlines import Deadlines
from hanse.runtime.simulation.loop import VirtualLoop, run_to_end


class Sand:
    """Runs through until `ends`."""

    def __init__(self, ends: float, said: list[tuple[float, float]]) -> None:
        self.ends, self._said = ends, said

    def is_up(self) -> None:
        self._said.append((self.ends, asyncio.get_running_loop().time()))


Story = Callable[[Deadlines, Callable[[float], Sand]], None]


def told(story: Story) -> list[tuple[float, float]]:
    """What comes of a story within a hundred seconds: who was told, and when."""
    said: list[tuple[float, float]] = []

    async def live() -> None:
        story(Deadlines(), lambda ends: Sand(ends, said))
        await asyncio.sleep(100)

    run_to_end(VirtualLoop(), live())
    return said


def test_each_is_told_at_its_own_time_in_whatever_order_they_began():
    def story(deadlines: Deadlines, sand: Callable[[float], Sand]) -> None:
        for ends in (30, 10, 20, 10):
            deadlines.begin(sand(ends))

    assert told(story) == [(10, 10), (10, 10), (20, 20), (30, 30)]


def test_whoever_has_ended_is_told_nothing_and_the_others_are():
    def story(deadlines: Deadlines, sand: Callable[[float], Sand]) -> None:
        first, second = sand(10), sand(20)
        deadlines.begin(first)
        deadlines.begin(second)
        deadlines.end(first)
        deadlines.end(first)

    assert told(story) == [(20, 20)]


def test_the_timer_is_set_anew_after_everybody_has_ended():
    def story(deadlines: Deadlines, sand: Callable[[float], Sand]) -> None:
        early = sand(10)
        deadlines.begin(early)
        deadlines.end(early)
        asyncio.get_running_loop().call_later(15, lambda: deadlines.begin(sand(40)))

    assert told(story) == [(40, 40)]


def test_nobody_is_told_after_the_stop():
    def story(deadlines: Deadlines, sand: Callable[[float], Sand]) -> None:
        deadlines.begin(sand(10))
        deadlines.stop()

    assert told(story) == []
