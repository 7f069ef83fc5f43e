"""Kills processes of a running federation while it works, and proves from its journal that every shot hit."""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hanse.contracts import Event, Kind
from hanse.runtime.client import Client
from hanse.runtime.runfile import process_started

COORDINATOR = "coordinator"
PAGE_SECONDS = 10.0


@dataclass
class Fire:
    """Follows the journal and kills the next victim each time so many more tasks have ended.

    A victim that is not there, because it is just coming back from another death, dies as soon as it is.
    """

    client: Client
    victims: Sequence[str]
    """Hosts and `COORDINATOR`, in the order in which they are killed."""
    tasks: int
    """How many there will be."""
    killed: list[int] = field(default_factory=list[int])
    """Process ids."""
    ended: int = 0
    _seen: int = 0

    async def burn(self) -> None:
        """Returns when every task has ended, every victim was killed, and all are back."""
        while not (self.ended == self.tasks and self._is_spent and await self._all_are_back()):
            await self._watch()
            while self._is_due and await self._strike(self.victims[len(self.killed)]):
                pass

    @property
    def _is_spent(self) -> bool:
        return len(self.killed) == len(self.victims)

    @property
    def _is_due(self) -> bool:
        every = self.tasks // (len(self.victims) + 1)
        return not self._is_spent and self.ended >= every * (len(self.killed) + 1)

    async def _watch(self) -> None:
        for event in await self.client.events(after=self._seen, wait_seconds=PAGE_SECONDS):
            self._seen = event.sequence
            self.ended += event.kind.ends_task

    async def _strike(self, victim: str) -> bool:
        """Whether it was there to be killed."""
        pid = await self._pid(victim)
        if pid is None or pid in self.killed or process_started(pid) is None:
            return False
        os.kill(pid, signal.SIGKILL)
        self.killed.append(pid)
        return True

    async def _pid(self, victim: str) -> int | None:
        if victim == COORDINATOR:
            return (await self.client.status()).coordinators[0]
        return next((each.pid for each in await self.client.agents() if each.host == victim and each.healthy), None)

    async def _all_are_back(self) -> bool:
        return all(each.healthy for each in await self.client.agents())


def deaths(journal: Iterable[Event], homes: Mapping[str, str]) -> Counter[str]:
    """How often each process must have died, as the journal tells it: by host, and of the coordinator.

    `homes` says on which host each agent lives. A process that comes back has a new incarnation, and a coordinator a
    new epoch, so a link that was lost and dialed again is not taken for a death.
    """
    lives: dict[str, set[str]] = {}
    for event in journal:
        if event.kind is Kind.AGENT_JOINED:
            lives.setdefault(homes[event.data["agent"]], set()).add(event.data["incarnation"])
        elif event.kind is Kind.COORDINATOR_STARTED:
            lives.setdefault(COORDINATOR, set()).add(str(event.data["epoch"]))
    return Counter({who: len(each) - 1 for who, each in lives.items()})
