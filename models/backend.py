"""What stands behind a tier: an engine that turns one ask into one text, and knows of no prices, caches or policy."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from ..contracts import Digest
from ..contracts.pool import Ask, TierState, ToolCall
from ..contracts.schema import JsonObject


@dataclass(frozen=True, slots=True)
class Raw:
    """What an engine made of an ask, unjudged."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RawPiece:
    """A part of it. The last one has the whole in `raw`."""

    text: str = ""
    raw: Raw | None = None
    tool_calls: tuple[JsonObject, ...] = ()
    """Deltas in OpenAI's shape."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a backend is, for `hanse models`."""

    state: TierState
    detail: str = ""
    remedy: str = ""
    progress: float = 0.0
    replicas: int = 0
    digest: str = ""
    """Of what answers, where nobody else says it."""
    queued: int = 0
    in_flight: int = 0


class Backend(Protocol):
    """One generative tier's engine."""

    @property
    def digest(self) -> Digest:
        """Of the weights and the engine's options."""
        ...

    def condition(self) -> Condition: ...

    def watch(self, tell: Callable[[], None]) -> None:
        """`tell` is called on the pool's loop each time the condition may have changed."""
        ...

    async def complete(self, ask: Ask, seconds: float) -> Raw:
        """Raises ModelUnavailable when there is no engine or it died, Overloaded when it is full, TimedOut after
        `seconds`, InvalidInput for what the engine refuses, such as more tokens than its context window.
        """
        ...

    def stream(self, ask: Ask, seconds: float) -> AsyncIterator[RawPiece]:
        """Raises the same, also after the first piece."""
        ...

    async def count_tokens(self, ask: Ask) -> int:
        """Tokens of the prompt as the engine counts them; an estimate that is never too low while it is away."""
        ...
