"""The limits of a coordinator, as values: what it takes in, what it gives out, whom it leaves alone for how long."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, and so many at once after a pause (`contracts.bucket`).

    With a `capability` (a pattern), it is about steps: what is over waits. Without one, it is about the submissions of
    a tenant: what is over is told to come again. A `tenant` with `*` or `?` gives each tenant that fits a bucket of
    its own; without a tenant, all share one.
    """

    per_second: float
    burst: float
    capability: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep the coordinator answering and its agents well."""

    open_tasks: int = 10_000
    in_flight_per_agent: int = 512
    rates: tuple[Rate, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of the tenants. One that is not named has weight 1, and has no claim of its own on open tasks."""
    repeated_calls: int | None = 5
    """How often steps of one task may make the same call with the same input; None for without end."""
    breaker_failures: int = 5
    """Failures in a row after which an agent is not given the capability for a while."""
    breaker_seconds: float = 1.0
    """For how long at first. Also the shortest time between two probes."""
    breaker_longest_seconds: float = 8.0
    lease_seconds: float = 10.0
    """Silence about a step, or of an agent, after which the step counts as interrupted."""
    deaths: int = 5
    """Times that an agent may die with a step in hand before the step is held for a person."""
