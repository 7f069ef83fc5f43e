"""What a gateway is told at its start. It holds digests of tokens and no token, because Ray keeps it in its records."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from ...contracts import InvalidConfiguration, Tenant
from ..config import Configuration

OPEN = "loopback"
"""Who decides and submits where requests without a token are let in."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token's digest, and for whom it speaks."""

    tenant: Tenant
    by: str
    """Written into the journal as the one who submitted, canceled or approved."""
    digest: bytes = field(repr=False)
    """SHA-256 of the token."""

    @staticmethod
    def of(tenant: str, token: str, by: str = "") -> "Credential":
        """`by` is the tenant's name when left out. Raises InvalidConfiguration for a token that no header can carry."""
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidConfiguration(f"the token of {tenant} must be printable ASCII without spaces", tenant=tenant)
        return Credential(Tenant(tenant), by or tenant, hashlib.sha256(token.encode()).digest())


@dataclass(frozen=True, slots=True)
class Settings:
    """Frozen, and small enough to read. Durations are in seconds, sizes in bytes."""

    credentials: tuple[Credential, ...] = ()
    open_for: Tenant | None = None
    """The tenant of requests without a token. None: they are refused. Only where `host` is a loopback address."""
    host: str = "127.0.0.1"
    """The address that the gateway listens on."""
    body_bytes: int = 1024 * 1024
    json_depth: int = 64
    in_flight: int = 256
    """Requests worked on at once; one more is answered with 429."""
    waiting: int = 1024
    """Event streams and `?wait=` requests held open at once; one more is answered with 429."""
    max_wait_seconds: float = 300
    keep_alive_seconds: float = 15
    """Of silence on an event stream, before a comment says that it still lives."""
    patience_seconds: float = 30
    """How long an event stream stays open while the coordinator cannot be reached."""

    def __post_init__(self) -> None:
        if self.open_for is not None and not is_loopback(self.host):
            raise InvalidConfiguration(
                f"{self.host} can be reached from outside, so requests without a token cannot be let in. "
                "Listen on 127.0.0.1, or give the tenants tokens",
                host=self.host,
            )
        if self.open_for is None and not self.credentials:
            raise InvalidConfiguration(
                "nobody could use this gateway. Give a tenant a token, or write open_on_loopback: true"
            )

    @staticmethod
    def of(configuration: Configuration) -> "Settings":
        """The gateway that `hanse.yaml` describes. Raises InvalidConfiguration."""
        gateway = configuration.gateway
        return Settings(
            credentials=tuple(_credentials(configuration)),
            open_for=Tenant(configuration.tenants[0].name) if gateway.open_on_loopback else None,
            host=gateway.host,
            body_bytes=configuration.limits.body_bytes,
        )


def is_loopback(host: str) -> bool:
    """Whether an address or `localhost` stays on this machine. Other names are not looked up: they may change."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _credentials(configuration: Configuration) -> Iterable[Credential]:
    for tenant in configuration.tenants:
        if tenant.token is not None:
            yield Credential.of(tenant.name, tenant.token.get_secret_value())
        for person in tenant.people:
            if person.token is not None:
                yield Credential.of(tenant.name, person.token.get_secret_value(), by=person.name)
