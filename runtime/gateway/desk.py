"""What the routes share: the settings, the counters, and the client for whoever asks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from ...contracts import Tenant
from ...contracts.ports import Faults, NoFaults
from ..client import Client
from ..world import faults_from_environment
from .admission import Admission
from .meter import Meter
from .security import Caller
from .settings import Settings
from .tier_list import TierList

ClientFor = Callable[[Tenant, str], Client]
"""Gives the client that acts for a tenant, on behalf of `by`."""


@dataclass(slots=True)
class Desk:
    """One gateway process."""

    client_for: ClientFor
    settings: Settings
    admission: Admission = field(init=False)
    meter: Meter = field(default_factory=Meter)
    tiers: TierList = field(default_factory=TierList)
    faults: Faults = field(default_factory=lambda: faults_from_environment() or NoFaults())
    """Crash points, in tests."""
    _clients: dict[Caller, Client] = field(default_factory=dict[Caller, Client])

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings.in_flight, self.settings.waiting)

    def client(self, caller: Caller) -> Client:
        """One per caller. Callers are as many as there are credentials."""
        found = self._clients.get(caller)
        if found is None:
            found = self._clients[caller] = self.client_for(caller.tenant, caller.by)
        return found

    def anybody(self) -> Client:
        """A client that only asks whether the federation answers."""
        credentials = self.settings.credentials
        tenant = self.settings.open_for or credentials[0].tenant
        return self.client(Caller(tenant, "health"))


def desk_of(request: Request) -> Desk:
    return cast("Desk", request.app.state.desk)


def client_of(request: Request) -> Client:
    """The client of the caller that the edge has identified."""
    return desk_of(request).client(request.scope["caller"])
