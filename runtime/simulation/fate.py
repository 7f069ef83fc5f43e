"""What goes wrong, and when: a list of faults made from the seed, each of which knows whether it has happened.

Faults come in the safety phase. Then everything is healed, and what was promised must come true.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from .disk import Trouble
from .town import COORDINATOR, HOSTS, Town
from .village import Mood


class Fault(StrEnum):
    """Kinds of faults, with their numbers in the list of faults."""

    KILL = "kill"
    """F1 F2 F6: SIGKILL at any await"""
    STOP = "stop"
    """F8: SIGSTOP and SIGCONT"""
    DOUBLE = "double"
    """F9: a second process of the same name, while the first lives on"""
    ALL_DOWN = "all_down"
    """F12: everything at once"""
    CUT = "cut"
    """F15: a link breaks, with what was under way"""
    SLOW_NETWORK = "slow_network"
    """F16"""
    PART = "part"
    """F18 F19: nothing gets through for a while"""
    OUTSIDE = "outside"
    """F20: the outside refuses, loses answers or requests, is late, cannot be asked"""
    DISK_FULL = "disk_full"
    """F25"""
    SYNC_FAILS = "sync_fails"
    """F26"""
    SLOW_DISK = "slow_disk"
    """F27"""
    CLOCK = "clock"
    """F28: wall clocks jump, each its own way"""


@dataclass(slots=True)
class Planned:
    """One fault of a seed."""

    fault: Fault
    at: float
    """Seconds after the beginning."""
    seconds: float
    """How long it lasts, where it lasts."""
    target: str
    number: int
    begun: bool = False
    fired: bool = False
    """It has hurt somebody: only then was anything tested."""

    def __str__(self) -> str:
        hurt = "" if self.fired else "  (hurt nobody)"
        return f"{self.at:7.3f} s  {self.fault} {self.target} {self.seconds:.2f} s #{self.number}{hurt}"


MOODS = [Mood.AWAY, Mood.SILENT_AFTER, Mood.SILENT_BEFORE, Mood.LATE, Mood.DEAF, Mood.VEILED, Mood.LOST]


def random_faults(random: Random, span: float) -> list[Planned]:
    """None to eight, at any time within `span` seconds."""
    names = [COORDINATOR, COORDINATOR, *HOSTS]
    return [
        Planned(
            random.choice(list(Fault)),
            random.uniform(0, span),
            random.choice([0.3, 3, 12]) * random.random(),
            random.choice(names),
            random.randint(1, 400),
        )
        for _ in range(random.choice([0, 1, 1, 2, 3, 5, 8]))
    ]


class Fate:
    """The faults of one seed, in one town."""

    def __init__(self, town: Town, planned: list[Planned]) -> None:
        self._town = town
        self.planned = planned

    def begin(self) -> None:
        for each in self.planned:
            self._town.loop.later(each.at, self._strike, each)

    def heal(self) -> None:
        """From now on nothing goes wrong any more."""
        town = self._town
        town.network.parted.clear()
        town.network.delay = 0.0002
        town.outside.mood = Mood.WELL
        for disk in town.disks.values():
            disk.trouble, disk.delay = None, 0.0003
        for clock in town.clocks.values():
            clock.skew_ms = 0
        for process in town.processes.values():
            process.dies_at_turn = None
            if process.stopped:
                process.go_on()

    def _strike(self, each: Planned) -> None:
        each.begun = True
        _STRIKES[each.fault](self, each)

    def _after(self, each: Planned, action: Callable[[], None]) -> None:
        self._town.loop.later(each.seconds, action)

    def _kill(self, each: Planned) -> None:
        """After so many more turns, which may be in the middle of anything; after a while in any case."""
        process = self._town.processes[each.target]
        process.dies_at_turn = process.turns + each.number
        process.on_death.append(lambda: setattr(each, "fired", True))
        self._town.loop.later(5, process.kill)

    def _stop(self, each: Planned) -> None:
        process = self._town.processes[each.target]
        if process.alive and not process.stopped:
            process.stop()
            each.fired = True
            self._after(each, process.go_on)

    def _double(self, each: Planned) -> None:
        process = self._town.processes[each.target]
        if process.alive and each.number % 2:
            process.stop()
            self._after(each, process.go_on)
        self._town.start(each.target)
        each.fired = True

    def _all_down(self, each: Planned) -> None:
        for process in list(self._town.processes.values()):
            process.kill()
        each.fired = True

    def _cut(self, each: Planned) -> None:
        host = self._host(each)
        each.fired = self._town.network.cut(COORDINATOR, host) > 0

    def _slow_network(self, each: Planned) -> None:
        network = self._town.network
        network.delay = 0.0002 * each.number
        frames = network.frames

        def over() -> None:
            network.delay = 0.0002
            each.fired = network.frames > frames

        self._after(each, over)

    def _part(self, each: Planned) -> None:
        network, pair = self._town.network, frozenset((COORDINATOR, self._host(each)))
        network.parted.add(pair)
        lost = network.lost

        def over() -> None:
            network.parted.discard(pair)
            each.fired = network.lost > lost

        self._after(each, over)

    def _outside(self, each: Planned) -> None:
        outside = self._town.outside
        mood = outside.mood = MOODS[each.number % len(MOODS)]
        met = outside.met[mood]

        def over() -> None:
            outside.mood = Mood.WELL
            each.fired = outside.met[mood] > met

        self._town.loop.later(max(each.seconds, 2), over)

    def _disk_full(self, each: Planned) -> None:
        disk = self._disk(each)
        disk.on_trouble = lambda trouble: setattr(each, "fired", True)
        disk.trouble = Trouble.FULL
        self._after(each, lambda: setattr(disk, "trouble", None))

    def _sync_fails(self, each: Planned) -> None:
        disk = self._disk(each)
        disk.on_trouble = lambda trouble: setattr(each, "fired", True)
        disk.trouble = Trouble.BROKEN_SYNC

    def _slow_disk(self, each: Planned) -> None:
        disk = self._disk(each)
        disk.delay = 0.001 * each.number
        each.fired = True
        self._after(each, lambda: setattr(disk, "delay", 0.0003))

    def _clock(self, each: Planned) -> None:
        clock = self._town.clocks[each.target]
        clock.skew_ms += random_jump(each.number)
        each.fired = True

    def _host(self, each: Planned) -> str:
        return each.target if each.target != COORDINATOR else list(HOSTS)[each.number % len(HOSTS)]

    def _disk(self, each: Planned):
        names = (COORDINATOR,) if each.target == COORDINATOR else HOSTS[each.target]
        return self._town.disks[names[each.number % len(names)]]


def random_jump(number: int) -> int:
    """Milliseconds: an hour either way, or seconds."""
    return [3_600_000, -3_600_000, 5_000, -5_000, 500][number % 5]


_STRIKES: dict[Fault, Callable[[Fate, Planned], None]] = {
    Fault.KILL: Fate._kill,
    Fault.STOP: Fate._stop,
    Fault.DOUBLE: Fate._double,
    Fault.ALL_DOWN: Fate._all_down,
    Fault.CUT: Fate._cut,
    Fault.SLOW_NETWORK: Fate._slow_network,
    Fault.PART: Fate._part,
    Fault.OUTSIDE: Fate._outside,
    Fault.DISK_FULL: Fate._disk_full,
    Fault.SYNC_FAILS: Fate._sync_fails,
    Fault.SLOW_DISK: Fate._slow_disk,
    Fault.CLOCK: Fate._clock,
}
