"""Replay: are journals read again to the same decisions, is every planted change found, and how fast?

Simulated coordinators, under faults, write the journals; a change is planted in every kind of decision that a journal
has room for, each in a copy of its own.
"""

import argparse
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from rich.progress import track

from ..contracts import Event
from ..contracts.wire import encode_event
from ..runtime.replay import Replay
from ..runtime.simulation.fate import MOODS, Fault, Planned
from ..runtime.simulation.story import tell
from ..runtime.simulation.tampering import planted
from ..runtime.simulation.village import Mood
from .machine import show

SILENT_EVERY = 10
"""In one journal of so many the outside falls silent, so that steps are held until a person has found out."""


def histories(seed: int) -> Iterator[list[Event]]:
    """The tasks of one journal, each with its events."""
    silent = Planned(Fault.OUTSIDE, 0.5, 11, "outside", MOODS.index(Mood.VEILED))
    found: dict[str, list[Event]] = {}
    for event in tell(seed, [silent] if seed % SILENT_EVERY == 0 else None).journal:
        if event.task is not None:
            found.setdefault(event.task, []).append(event)
    yield from found.values()


def read(history: Sequence[Event], entries: Sequence[bytes | None]) -> Replay:
    replay = Replay()
    for event, entry in zip(history, entries, strict=True):
        replay.take(event, entry)
    return replay.end()


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    seconds = 0.0
    for seed in track(range(options.first, options.first + options.journals), description="journals", transient=True):
        for history in histories(seed):
            entries = [encode_event(event) for event in history]
            started = time.perf_counter()
            replay = read(history, entries)
            seconds += time.perf_counter() - started
            counts.update(tasks=1, events=replay.events, decided=replay.decided, diverged=replay.divergence is not None)
            counts.update(_refused(history, seed))
    return [
        {
            "journals": options.journals,
            "tasks": counts["tasks"],
            "events": counts["events"],
            "decided_again": counts["decided"],
            "divergences": counts["diverged"],
            "changes_planted": counts["planted"],
            "changes_refused": counts["refused"],
            "events_per_second": counts["events"] / seconds,
        }
    ]


def _refused(history: list[Event], seed: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _, changed in planted(history, Random(seed)):
        refused = read(changed, [None] * len(changed)).divergence is not None
        counts.update(planted=1, refused=refused)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journals", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    logging.disable(logging.CRITICAL)  # the faults of the simulation are logged, and no news
    show("replay", run(parser.parse_args()))


if __name__ == "__main__":
    main()
