"""The tiers of the configuration, kept in this process's Ray cluster."""

from ..contracts.ports import Clock
from ..models.gate import SchemaGate
from ..models.keeper import Keeper
from .config import Configuration, Models
from .gateway.settings import is_loopback
from .loopback import stay_on_loopback
from .weights import sources_of


def make_keeper(configuration: Configuration, namespace: str, clock: Clock) -> Keeper:
    """A keeper of the configured tiers. Not started. Raises InvalidConfiguration."""
    from ..models.serve_deployer import ServeDeployer

    models = configuration.models or Models()
    prepare = stay_on_loopback if is_loopback(configuration.gateway.host) else None
    return Keeper(
        [entry.tier() for entry in models.tiers],
        sources_of(configuration).locate,
        ServeDeployer(namespace, prepare),
        clock,
        SchemaGate(),
        at_once=models.start_at_once,
    )
