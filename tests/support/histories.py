"""Histories of tasks as a coordinator wrote them: of simulated federations, and of any federation in this process."""

from collections.abc import Iterable
from functools import cache

from hanse.contracts import Event
from hanse.runtime.replay import Replay
from hanse.runtime.simulation.fate import MOODS, Fault, Planned
from hanse.runtime.simulation.story import tell
from hanse.runtime.simulation.village import Mood


@cache
def simulated(seed: int, *, silent: bool = False) -> tuple[tuple[Event, ...], ...]:
    """Every task of one seed, each with its events. Not to be changed.

    `silent`: nothing goes wrong but that the outside does what it is told, says nothing, and cannot be asked for a
    while, so that steps are held until a person has found out.
    """
    veiled = MOODS.index(Mood.VEILED)
    told = tell(seed, [Planned(Fault.OUTSIDE, 0.5, 11, "outside", veiled)] if silent else None)
    return tuple(map(tuple, by_task(told.journal)))


def by_task(journal: Iterable[Event]) -> list[list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in journal:
        if event.task is not None:
            found.setdefault(event.task, []).append(event)
    return list(found.values())


def replayed(history: Iterable[Event]) -> Replay:
    """A history, read again to its end or to where it diverges."""
    replay = Replay()
    for event in history:
        if not replay.take(event):
            break
    return replay.end()
