"""A stage: one scene in a town of one's own agents, on simulated time. For tests and benchmarks of what is slow, hangs
or dies, where seconds must not depend on how busy this machine is.
"""

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from .loop import Process, VirtualLoop, current, run_to_end
from .town import Town

T = TypeVar("T")


def play(scene: Callable[[Town, Process], Coroutine[Any, Any, T]], *, seed: int = 1, **options: Any) -> T:
    """What a scene comes to. It runs as the process of people who never die; `options` are those of the town.

    Raises Stuck when nothing would ever happen again, and whatever the scene raises.
    """
    loop = VirtualLoop()
    town = Town(loop, Random(seed), **options)
    people = Process("people", loop)
    town.start_all()
    return run_to_end(loop, people.spawn(scene(town, people)))


def die() -> None:
    """Ends the process whose turn it is, as SIGKILL would. What it was about to do next, it never does."""
    process = current()
    assert process is not None, "nobody's turn: only within a scene's agents"
    process.kill()
