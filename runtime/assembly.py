"""Puts the parts together from a configuration: what an actor does in its process, and what one process does alone.

Nothing here is Ray; `actors.py` and `federation.py` call it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..agents.connector import Connector
from ..agents.engine import Engine
from ..contracts import AgentId, Entropy, InvalidConfiguration, StorageError, Tenant
from ..contracts.delegation import Delegates
from ..contracts.ids import coordinator_name
from ..contracts.memory import Memory
from ..contracts.pool import Models
from ..contracts.ports import Clock, Faults
from ..contracts.token import Key, agent_key
from ..models.tier import Kind
from .approvals import Rulebook, lot_secret
from .audit.anchoring import Anchoring, Witnesses
from .audit.anchors import Anchor, FileAnchor, SyslogAnchor
from .budgets import Cap
from .config import AgentEntry, AnchorEntry, Configuration, FileAnchorEntry, SyslogAnchorEntry, load_class
from .config import HttpConnector as HttpSection
from .coordinator import Coordinator, Settings
from .host import Host
from .journal import Journal
from .notify import Channel, Mail, Notifier, Webhook
from .secret_key import root_key
from .service import Service
from .store.place import OpenStore, Reader, in_memory_store, settled
from .world import SystemClock, SystemEntropy

Failure = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class World:
    """What the parts get from outside."""

    clock: Clock
    entropy: Entropy
    faults: Faults | None = None
    """Crash points, in tests."""

    @staticmethod
    def real(faults: Faults | None = None) -> "World":
        return World(SystemClock(), SystemEntropy(), faults)


def namespace_of(configuration: Configuration) -> str:
    """The Ray namespace of a federation's actors."""
    return f"hanse-{configuration.federation.name}"


def open_store(configuration: Configuration, name: str, schema: str, *, secure_delete: bool = False) -> OpenStore:
    """The store of one writer. A configuration whose data is `:memory:` keeps everything in memory."""
    if in_memory(configuration):
        return in_memory_store(schema)
    place = settled(configuration.data, configuration.address)
    return place.open(name, schema, secure_delete=secure_delete)


def look_at_store(configuration: Configuration, name: str, schema: str, table: str) -> Reader:
    """The store of another process, to read. Raises StorageError while that has not made it with this table, and
    InvalidConfiguration where nobody but its writer can look at it."""
    if in_memory(configuration):
        raise InvalidConfiguration(f"the store {name} is in the memory of its process. Give federation.data a folder")
    found = settled(configuration.data, configuration.address).reader(name, schema)
    if not found.has(table):
        found.close()
        raise StorageError(f"the store {name} is not made yet")
    return found


def make_coordinator(
    configuration: Configuration, shard: int, key: bytes, world: World, on_failure: Failure
) -> Coordinator:
    """A coordinator with its counter. Not started."""
    coordinator = Coordinator(
        open_store(configuration, coordinator_name(shard), "journal"),
        key,
        world.clock,
        world.entropy,
        _settings(configuration, shard, key),
        faults_port=world.faults,
        on_failure=on_failure,
    )
    coordinator.on_request(Service(coordinator).handle)
    if configuration.notify:
        channels = [_channel(configuration, each) for each in configuration.notify]
        coordinator.accompany(Notifier(coordinator.store, coordinator.journal, world.clock, channels))
    return coordinator


def _channel(configuration: Configuration, notice: Any) -> Channel:
    tenant = notice.tenant and Tenant(notice.tenant)
    if notice.kind == "mail":
        return Mail(notice.to, tenant, _connector(notice.connector, configuration.connectors[notice.connector]))
    parts = urlsplit(notice.url)
    section = HttpSection(kind="http", base_url=f"{parts.scheme}://{parts.netloc}")
    secret = notice.secret and notice.secret.get_secret_value()
    return Webhook(notice.url, secret, tenant, _connector("webhook", section))


def _settings(configuration: Configuration, shard: int, key: bytes) -> Settings:
    shards, rules = configuration.coordinator.shards, Rulebook(configuration.rules, lot_secret(key))
    return Settings(
        name=configuration.federation.name,
        shard=shard,
        shards=shards,
        expected_agents=frozenset(agent_id(entry) for entry in configuration.agents),
        draining=configuration.coordinator.draining,
        gate=rules,
        minds=rules.minds if configuration.memory else None,
        foregone=rules.foregone if rules.refuses_labels else None,
        notify=bool(configuration.notify),
        caps={tenant: cap.part(shard, shards) for tenant, cap in _caps(configuration)},
        limits=configuration.coordinator_limits,
        tiers=_tiers(configuration),
        witnesses=None if in_memory(configuration) else make_witnesses(configuration),
        data=None if in_memory(configuration) else configuration.data,
    )


def _tiers(configuration: Configuration) -> frozenset[str]:
    """Those of the model pool that write answers."""
    tiers = configuration.models.tiers if configuration.models else ()
    return frozenset(tier.name for tier in tiers if tier.kind is Kind.GENERATE)


def in_memory(configuration: Configuration) -> bool:
    """Whether its truth ends with the process."""
    return str(configuration.federation.data) == ":memory:"


def make_witnesses(configuration: Configuration) -> Witnesses:
    """Anchors of one shard."""
    section = configuration.audit
    anchors = tuple(_anchor(entry) for entry in configuration.anchors)
    return Witnesses(anchors, section.every_entries, section.every_seconds)


def witnessed(configuration: Configuration, journal: Journal, name: str, world: World) -> Anchoring | None:
    """Hands out the heads of a part's journal, by its name in the federation. None for one that ends with its process.
    Not started: that comes before anything is appended.
    """
    if in_memory(configuration):
        return None
    key = root_key(configuration.data)
    return make_witnesses(configuration).of(journal, name, configuration.federation.name, key, world.clock)


def _anchor(entry: AnchorEntry) -> Anchor:
    if isinstance(entry, FileAnchorEntry):
        return FileAnchor(entry.path)
    if isinstance(entry, SyslogAnchorEntry):
        return SyslogAnchor(entry.host, entry.port, tcp=entry.protocol == "tcp")
    from .audit.http_anchor import HttpAnchor

    token = entry.token.get_secret_value() if entry.token else None
    return HttpAnchor(entry.url, token, entry.timeout_seconds)


def _caps(configuration: Configuration) -> Iterator[tuple[Tenant, Cap]]:
    for tenant in configuration.tenants:
        if (budget := tenant.budget) is not None:
            cap = Cap(budget.cents_per_day, budget.tokens_per_day, budget.human_minutes_per_day)
            yield Tenant(tenant.name), cap


def agent_keys(configuration: Configuration, host: str, key: bytes) -> dict[AgentId, Key]:
    """What a host gets of the federation's key: that of each of its agents. With it nobody can mint for another."""
    names = [agent_id(entry) for entry in configuration.hosts[host]]
    return {name: agent_key(key, name) for name in names}


def make_host(
    configuration: Configuration,
    host: str,
    keys: Mapping[AgentId, Key],
    world: World,
    on_failure: Failure,
    node: str = "",
    models: Models | None = None,
    memory: Memory | None = None,
    delegates: Delegates | None = None,
) -> Host:
    """A host with an engine for each of its agents. Not started. `models`, `memory` and `delegates` stay the caller's
    to close.
    """
    made = Host(host, world.entropy.bytes(8).hex(), world.clock, node=node, on_failure=on_failure)
    for entry in configuration.hosts[host]:
        _house(made, configuration, entry, keys, world, models, memory, delegates)
    return made


def agent_id(entry: AgentEntry) -> AgentId:
    """The id of a configured agent: the entry's name, else the class's own."""
    return AgentId(entry.name or entry.load().name)


def _house(
    host: Host,
    configuration: Configuration,
    entry: AgentEntry,
    keys: Mapping[AgentId, Key],
    world: World,
    models: Models | None,
    memory: Memory | None,
    delegates: Delegates | None,
) -> None:
    name = agent_id(entry)
    store = open_store(configuration, f"agents/{name}", "agent")
    connectors = make_connectors(configuration)
    engine = Engine(
        entry.load().configured(name=name, options=entry.options),
        store,
        key=keys[name],
        clock=world.clock,
        entropy=world.entropy,
        connectors=connectors,
        faults=world.faults,
        on_progress=host.send,
        models=models,
        memory=memory,
        delegates=delegates,
        max_concurrency=entry.concurrency,
        max_queue=entry.queue,
        bulkheads=entry.bulkheads,
    )
    host.take_in(engine, *(each.close for each in connectors.values()), store.close)


def make_connectors(configuration: Configuration) -> Mapping[str, Connector]:
    """One of each configured connector, for one agent."""
    return {name: _connector(name, each) for name, each in configuration.connectors.items()}


def _connector(name: str, section: Any) -> Connector:
    if section.kind == "class":
        cls = load_class(section.class_)
        if not issubclass(cls, Connector):
            raise InvalidConfiguration(f"connectors: {name}: {section.class_} is not a Connector")
        return cls(**section.options).called(name)
    from ..agents.connectors import HttpConnector, SmtpConnector

    kinds: dict[str, type[Connector]] = {"smtp": SmtpConnector, "http": HttpConnector}
    if section.kind == "sql":
        kinds["sql"] = _sql()
    return kinds[section.kind](**section.model_dump(exclude={"kind"}, exclude_none=True)).called(name)


def _sql() -> type[Connector]:
    """Raises InvalidConfiguration where SQLAlchemy is not installed: most federations need none."""
    try:
        from ..agents.connectors.sql import SqlConnector
    except ModuleNotFoundError as error:
        raise InvalidConfiguration("connectors: kind sql needs SQLAlchemy. Write: pip install 'hanse[sql]'") from error
    return SqlConnector
