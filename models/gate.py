"""Which schemas an engine may be made to compile.

An engine turns each new schema into a grammar: it takes processor time, and memory for as long as it is kept
(CVE-2025-29770 filled a disk with schemas that each came once). So a schema is bounded in size and in the counts that
grammars grow with, before each engine; and at the pool's door, where it is known who asks, only so many different ones
are let through in an hour for each tenant, so that no tenant uses up what others need.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..contracts import Digest, InvalidInput, Overloaded, Tenant, TooLarge
from ..contracts.ports import Clock
from ..contracts.schema import JsonObject, canonical, digest

COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")


@dataclass(frozen=True, slots=True)
class SchemaLimits:
    """Of one schema."""

    bytes: int = 64 * 1024
    depth: int = 32
    count: int = 10_000
    """Of `maxLength` and its like: a grammar repeats a rule that often."""
    pattern: int = 256
    """Characters of a regular expression."""


class SchemaGate:
    """Lets schemas through, or says why not."""

    def __init__(self, limits: SchemaLimits | None = None) -> None:
        self._limits = limits or SchemaLimits()

    def admit(self, schema: JsonObject) -> None:
        """Raises TooLarge or InvalidInput for a schema over a limit."""
        if len(canonical(schema)) > self._limits.bytes:
            raise TooLarge(f"the answer's schema has more than {self._limits.bytes} bytes")
        _within(schema, self._limits)


class SchemaAllowance:
    """So many different schemas in a while, for each tenant."""

    def __init__(self, clock: Clock, distinct: int = 256, window_seconds: float = 3600) -> None:
        self._clock, self._distinct, self._window = clock, distinct, window_seconds
        self._seen: dict[Tenant, OrderedDict[Digest, float]] = {}

    def admit(self, tenant: Tenant, schema: JsonObject) -> None:
        """Raises Overloaded when there were too many new ones."""
        name, now = digest(schema), self._clock.monotonic()
        seen = self._seen.setdefault(tenant, OrderedDict())
        _forget(seen, now - self._window)
        if name not in seen and len(seen) >= self._distinct:
            oldest = next(iter(seen.values()))
            raise Overloaded(
                f"more than {self._distinct} different schemas were asked for lately. Use those again",
                retry_after_seconds=round(oldest + self._window - now, 1),
            )
        seen[name] = now
        seen.move_to_end(name)


def _forget(seen: OrderedDict[Digest, float], before: float) -> None:
    while seen and next(iter(seen.values())) < before:
        seen.popitem(last=False)


def _within(schema: JsonObject, limits: SchemaLimits) -> None:
    for depth, key, value in _walk(schema):
        if depth > limits.depth:
            raise TooLarge(f"the answer's schema is nested deeper than {limits.depth}")
        if key in COUNTS and isinstance(value, int | float) and value > limits.count:
            raise InvalidInput(f"{key} of the answer's schema is over {limits.count}", pointer=key)
        if key == "pattern" and isinstance(value, str) and len(value) > limits.pattern:
            raise InvalidInput(f"a pattern of the answer's schema is longer than {limits.pattern}", pointer=key)
        if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise InvalidInput("the answer's schema refers to another document, which is not fetched", pointer=key)


def _walk(value: Any, depth: int = 0, key: str = "") -> Iterator[tuple[int, str, Any]]:
    """Every value with the depth and the key at which it stands."""
    pending = [(depth, key, value)]
    while pending:
        level, name, current = pending.pop()
        yield level, name, current
        if isinstance(current, dict):
            pending += [(level + 1, str(name), each) for name, each in current.items()]
        elif isinstance(current, list):
            pending += [(level + 1, "", each) for each in current]
