"""The federation of one seed: its processes, what they stand on, and whoever starts them again when they die."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from ...agents import Agent
from ...agents.engine import Engine
from ...contracts import AgentId, Event, StorageError, Tenant
from ...contracts.token import agent_key
from ...contracts.wire import decode_event
from ..approvals import Rulebook, lot_secret
from ..audit.anchoring import Witnesses
from ..budgets import Cap
from ..client import LinkClient, Shard
from ..config import Above, ApprovalRule
from ..coordinator import Coordinator, Settings
from ..delegating import LinkDelegates
from ..host import Host
from ..limits import Limits
from ..link import Receiver
from ..service import Service
from .disk import Disk
from .loop import Process, SimulatedClock, SimulatedEntropy, VirtualLoop
from .network import Network
from .village import AGENTS, Notebook, Outside, Square

EPOCH_MS = 1_800_000_000_000
KEY = bytes(range(32))
COORDINATOR = "coordinator"
HOSTS = {"north": ("vault", "windmill"), "south": ("crier", "watermill", "envoy")}
"""Which agents share a process."""
RULES = (ApprovalRule(capability="vault.put", above=Above(field="number", limit=7), expires_seconds=40),)
"""Big numbers need a person."""
NO_CAPS: Mapping[Tenant, Cap] = {}
PATIENCE_SECONDS = 1e9


class Town:
    """Everything there is, under one seed."""

    def __init__(
        self,
        loop: VirtualLoop,
        random: Random,
        rules: Sequence[ApprovalRule] = RULES,
        caps: Mapping[Tenant, Cap] = NO_CAPS,
        *,
        agents: Sequence[type[Agent]] = AGENTS,
        hosts: Mapping[str, Sequence[str]] = HOSTS,
        limits: Limits | None = None,
        restart_seconds: tuple[float, float] = (0.05, 2),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`hosts` says which agents share a process, `restart_seconds` within what time a dead one is started again,
        `options` are those of every engine."""
        self.loop = loop
        self.rules, self.caps = rules, caps
        self._hosts = hosts
        self._limits = limits or Limits()
        self._restart_seconds = restart_seconds
        self._options = options or {}
        self.random = random
        self.network = Network(loop, Random(random.random()))
        self.outside = Outside(Random(random.random()))
        named = {agent.name: agent for agent in agents}
        self.notebook = Notebook()
        self.disks = {
            name: Disk("agent" if name in named else "journal", Random(random.random()))
            for name in (*named, COORDINATOR)
        }
        self.clocks = {name: SimulatedClock(loop, EPOCH_MS) for name in (COORDINATOR, *hosts)}
        self.coordinator: Coordinator | None = None
        """The one that was started last."""
        self.processes: dict[str, Process] = {}
        """Who bears each name now. One that bore it before may still be alive, and not know."""
        self.starts = 0
        self.deaths = 0
        self._agents = named
        self._entropy = Random(random.random())

    # Starting, and starting again

    def start_all(self) -> None:
        for name in (COORDINATOR, *self._hosts):
            self.start(name)

    def start(self, name: str) -> None:
        """A new process of this name, whether or not an older one lives."""
        process = self.processes[name] = Process(name, self.loop)
        process.on_death.append(lambda: self._died(process))
        self.starts += 1
        process.spawn(self._begin(process))

    async def _begin(self, process: Process) -> None:
        try:
            await (self._coordinate(process) if process.name == COORDINATOR else self._house(process))
        except StorageError:
            process.kill()

    def _died(self, process: Process) -> None:
        """Whoever watches over processes starts it again, a while later."""
        self.deaths += 1
        if self.processes[process.name] is process:
            self.loop.later(self.random.uniform(*self._restart_seconds), self._start_again, process)

    def _start_again(self, process: Process) -> None:
        if self.processes[process.name] is process:
            self.start(process.name)

    # What runs in them

    async def _coordinate(self, process: Process) -> None:
        coordinator = Coordinator(
            self.disks[COORDINATOR].open(process),
            KEY,
            self.clocks[COORDINATOR],
            self._chance(),
            Settings(
                expected_agents=frozenset(self._agents),
                gate=Rulebook(tuple(self.rules), lot_secret(KEY)),
                caps=self.caps,
                limits=self._limits,
                witnesses=Witnesses((self.notebook,), every_entries=10, every_seconds=1),
            ),
            on_failure=_ends(process),
        )
        coordinator.on_request(Service(coordinator).handle)
        await coordinator.start()
        self.coordinator = coordinator
        self.network.listen(process, lambda link: coordinator)

    async def _house(self, process: Process) -> None:
        host = Host(process.name, f"{self.starts}", self.clocks[process.name], on_failure=_ends(process))
        for name in self._hosts[process.name]:
            host.take_in(self._engine(name, process, host))
        await host.start([self.network.dialer(process, COORDINATOR)])

    def _engine(self, name: str, process: Process, host: Host) -> Engine:
        return Engine(
            self._agents[name].configured(name=name),
            self.disks[name].open(process),
            key=agent_key(KEY, AgentId(name)),
            clock=self.clocks[process.name],
            entropy=self._chance(),
            connectors={"square": Square(self.outside)},
            on_progress=host.send,
            delegates=LinkDelegates(self.client(process, "host")),
            **self._options,
        )

    def _chance(self) -> SimulatedEntropy:
        return SimulatedEntropy(Random(self._entropy.random()))

    # Looking at it

    def entries(self) -> list[bytes]:
        """The journal, as it stands on the coordinator's disk."""
        return [entry for _, _, entry, _ in self.disks[COORDINATOR].read("chain", (0, 1_000_000))]

    def events(self) -> list[Event]:
        return [decode_event(entry) for entry in self.entries()]

    # Reaching it

    def client(self, process: Process, by: str = "client", tenant: str = "default") -> LinkClient:
        """Of somebody in this process."""
        dial: Callable[[Receiver], Any] = self.network.dialer(process, COORDINATOR)
        return LinkClient([Shard(dial, PATIENCE_SECONDS)], Tenant(tenant), by)


def _ends(process: Process) -> Callable[[BaseException], None]:
    return lambda error: process.kill()
