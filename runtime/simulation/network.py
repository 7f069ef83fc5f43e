"""Links whose frames take their time, and which break: at both ends, but not at the same moment.

What is sent arrives in order or, with everything behind it, not at all: that is what a link promises, whatever carries
it. Frames are real bytes. `RayLink`, which makes this promise of actor calls that come in any order, has its own tests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from ...contracts import Unavailable
from ...contracts.wire import decode, encode
from ..link import Link, Receiver
from .loop import Process, VirtualLoop

DETECTION_SECONDS = 3.0
"""An end learns within this that the other one is gone."""


class Network:
    """Who listens where, and how fast frames travel."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.delay = 0.0002
        """Seconds a frame takes, on average."""
        self.parted: set[frozenset[str]] = set()
        """Pairs of processes, by name, between which nothing gets through."""
        self.links: list[tuple[End, End]] = []
        self.frames = 0
        self.lost = 0
        self._listening: dict[str, tuple[Process, Callable[[Link], Receiver]]] = {}

    def listen(self, process: Process, receiver: Callable[[Link], Receiver]) -> None:
        self._listening[process.name] = (process, receiver)

    def dialer(self, process: Process, name: str) -> Callable[[Receiver], Awaitable[Link]]:
        """The way from a process to whoever listens under a name."""

        async def dial(receiver: Receiver) -> Link:
            await self._travel()
            there = self._listening.get(name)
            if there is None or not there[0].alive or there[0].stopped or self.is_parted(process.name, name):
                raise Unavailable(f"nobody listens at {name}")
            return self._connect(process, receiver, *there)

        return dial

    def is_parted(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self.parted

    def cut(self, one: str, other: str) -> int:
        """Breaks every link between two. How many there were."""
        cut = [pair for pair in self.links if {end.process.name for end in pair} == {one, other}]
        for pair in cut:
            self.break_off(pair, "cut")
        return len(cut)

    def break_off(self, pair: "tuple[End, End]", reason: str) -> None:
        """Both ends will learn of it; what is under way is lost."""
        if pair in self.links:
            self.links.remove(pair)
        for end in pair:
            end.fall(reason, self.random.uniform(0, DETECTION_SECONDS))

    async def _travel(self) -> None:
        await asyncio.sleep(self.random.expovariate(1 / self.delay))

    def _connect(self, here: Process, receiver: Receiver, there: Process, accept: Callable[[Link], Receiver]) -> Link:
        near, far = End(self, here), End(self, there)
        near.other, far.other = far, near
        pair = (near, far)
        near.pair = far.pair = pair
        near.receiver, far.receiver = receiver, accept(far)
        self.links.append(pair)
        here.on_death.append(lambda: self.break_off(pair, "the other side is gone"))
        there.on_death.append(lambda: self.break_off(pair, "the other side is gone"))
        return near


class End:
    """One end of a link."""

    name = "simulated"
    other: "End"
    receiver: Receiver
    pair: "tuple[End, End]"

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self._network = network
        self._open = True
        self._fallen = False
        self._arrives = 0.0

    def send(self, message: Any) -> None:
        frame = encode(message)
        if not (self._open and self.process.alive):
            return
        network = self._network
        network.frames += 1
        if self._fallen or network.is_parted(self.process.name, self.other.process.name):
            self._lose()
            return
        now = network.loop.time()
        self._arrives = max(self._arrives, now + network.random.expovariate(1 / network.delay))
        self.other.process.later(self._arrives - now, self.other._take, frame)

    def close(self, reason: str = "closed") -> None:
        """On purpose: the other end learns of it as fast as frames travel."""
        if self._open and self.process.alive:
            if self.pair in self._network.links:
                self._network.links.remove(self.pair)
            self.fall(reason, 0.0)
            self.other.fall(reason, self._network.random.expovariate(1 / self._network.delay))

    def fall(self, reason: str, seconds: float) -> None:
        """From now on nothing arrives here; after so many seconds it is known."""
        if not self._fallen:
            self._fallen = True
            self.process.later(seconds, self._closed, reason)

    def _lose(self) -> None:
        """A frame that is lost takes the link with it."""
        self._network.lost += 1
        self._network.break_off(self.pair, "nothing gets through")

    def _take(self, frame: bytes) -> None:
        if self._open and not self._fallen:
            self.receiver.received(self, decode(frame))

    def _closed(self, reason: str) -> None:
        if self._open:
            self._open = False
            self.receiver.closed(self, reason)
