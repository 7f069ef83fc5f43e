"""Which schemas an engine may be made to compile.

An engine turns each new schema into a grammar: it takes processor time, and memory for as long as it is kept
(CVE-2025-29770 filled a disk with schemas that each came once). So a schema is bounded in size and in the counts that
grammars grow with, and only so many different ones are let through in an hour. Those that the federation's own
contracts brought do not count.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..contracts import Digest, InvalidInput, Overloaded, TooLarge
from ..contracts.ports import Clock
from ..contracts.schema import JsonObject, canonical, digest

COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")


@dataclass(frozen=True, slots=True)
class SchemaLimits:
    """Of one schema, and of all together."""

    bytes: int = 64 * 1024
    depth: int = 32
    count: int = 10_000
    """Of `maxLength` and its like: a grammar repeats a rule that often."""
    pattern: int = 256
    """Characters of a regular expression."""
    distinct: int = 256
    """New schemas in `window_seconds`."""
    window_seconds: float = 3600


class SchemaGate:
    """Lets schemas through, or says why not."""

    def __init__(self, clock: Clock, limits: SchemaLimits | None = None, *, own: Iterable[JsonObject] = ()) -> None:
        self._clock = clock
        self._limits = limits or SchemaLimits()
        self._own = {digest(each) for each in own}
        self._seen: OrderedDict[Digest, float] = OrderedDict()

    def allow(self, schema: JsonObject) -> None:
        """Lets one schema through for ever: it comes from a contract."""
        self._own.add(digest(schema))

    def admit(self, schema: JsonObject) -> None:
        """Raises TooLarge or InvalidInput for a schema over a limit, Overloaded when there were too many new ones."""
        if len(canonical(schema)) > self._limits.bytes:
            raise TooLarge(f"the answer's schema has more than {self._limits.bytes} bytes")
        name = digest(schema)
        if name in self._own:
            return
        _within(schema, self._limits)
        self._count(name)

    def _count(self, name: Digest) -> None:
        now = self._clock.monotonic()
        self._forget(now - self._limits.window_seconds)
        if name not in self._seen and len(self._seen) >= self._limits.distinct:
            oldest = next(iter(self._seen.values()))
            raise Overloaded(
                f"more than {self._limits.distinct} different schemas were asked for lately. Use those again",
                retry_after_seconds=round(oldest + self._limits.window_seconds - now, 1),
            )
        self._seen[name] = now
        self._seen.move_to_end(name)

    def _forget(self, before: float) -> None:
        while self._seen and next(iter(self._seen.values())) < before:
            self._seen.popitem(last=False)


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
