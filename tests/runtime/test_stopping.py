"""A coordinator that stops while its agents are still linked: an orderly end, not a failure of its journal."""

from pathlib import Path

from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.contracts import Kind, capability
from hanse.runtime.assembly import World, agent_keys, make_coordinator, make_host
from hanse.runtime.audit import verify
from hanse.runtime.config import Configuration
from hanse.runtime.journal import Journal
from hanse.runtime.link import Link, Receiver, pipe
from hanse.runtime.store import SqliteStore


class Nothing(BaseModel):
    pass


class Idle(Agent):
    """Waits for work."""

    domain = "idle"

    @capability(version="1.0", effect="read")
    async def nothing(self, request: Nothing) -> Nothing:
        """Do nothing."""
        return request


async def test_it_stops_before_its_agents_without_a_failure(tmp_path: Path) -> None:
    configuration, world, failures = (
        Configuration.for_agents([Idle], data=tmp_path),
        World.real(),
        list[BaseException](),
    )
    coordinator = make_coordinator(configuration, 0, bytes(32), world, failures.append)
    host = make_host(configuration, "Idle-0", agent_keys(configuration, "Idle-0", bytes(32)), world, failures.append)

    async def to_coordinator(receiver: Receiver) -> Link:
        return pipe(receiver, coordinator)[0]

    await coordinator.start()
    await host.start([to_coordinator])
    while coordinator.is_gathering:
        await coordinator.watchers.watch(None)
    coordinator.journal.append(Kind.AGENT_LEFT, None, None, {"agent": "ghost", "reason": "", "in_flight": 0})
    await coordinator.stop()
    await host.stop()
    assert failures == []
    store = SqliteStore.open(tmp_path / "coordinator-0.sqlite", "journal")
    assert verify(store).ok
    told = [event.data.get("agent") for event in Journal(store, world.clock, failures.append).read()]
    assert "ghost" in told, "what was appended before the stop is on disk"
    await store.close()
