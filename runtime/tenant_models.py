"""The model pool on behalf of somebody outside of any step: a person's program, a client of the gateway.

Two classes keep `TenantModels`: `LinkedModels` here speaks to the pool's part in its own cluster, `HttpModels`
(`http_models.py`) to a gateway.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..agents.models import Pool
from ..contracts.caller import Caller
from ..contracts.pool import (
    Administration,
    Answer,
    Ask,
    CacheView,
    CallView,
    Judgement,
    Piece,
    PromptView,
    TierView,
    UsageView,
)

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class ReachedPool(Administration, Protocol):
    """A pool at the other end of something that can be closed."""

    async def close(self) -> None: ...


class TenantModels(Pool, Protocol):
    """What a tenant may ask of the pool, and see of its own use of it. Raises what `Administration` raises."""

    def but(
        self,
        *,
        budget_cents: float | None = None,
        deadline_ms: int = 0,
        interactive: bool = False,
        labels: tuple[str, ...] = (),
    ) -> "TenantModels":
        """For one request: what it may cost, until when, how urgent it is, what is known of its data."""
        ...

    async def calls(self, limit: int = 50, before: str | None = None) -> list[CallView]: ...

    async def text(self, digest: str) -> str: ...

    async def usage(self, days: int = 1, *, by_task: bool = False) -> list[UsageView]: ...

    async def caches(self) -> list[CacheView]: ...

    async def purge(self) -> int: ...

    async def prompts(self) -> list[PromptView]: ...


class LinkedModels:
    """Keeps `TenantModels` over a pool and a caller."""

    def __init__(self, pool: Administration, caller: Caller) -> None:
        self._pool = pool
        self.caller = caller

    def but(self, **changes: Any) -> "LinkedModels":
        return LinkedModels(self._pool, self.caller.model_copy(update=changes))

    async def ask(self, ask: Ask) -> Answer:
        return await self._pool.ask(ask, self.caller)

    def stream(self, ask: Ask) -> AsyncIterator[Piece]:
        return self._pool.stream(ask, self.caller)

    async def embed(self, texts: Sequence[str]) -> "NDArray[float32]":
        return await self._pool.embed(texts, self.caller)

    async def judge(self, validator: str, text: str, sources: Sequence[str] = ()) -> Judgement:
        return await self._pool.judge(validator, text, self.caller, sources)

    async def tiers(self) -> list[TierView]:
        return await self._pool.tiers()

    async def calls(self, limit: int = 50, before: str | None = None) -> list[CallView]:
        return await self._pool.calls(self.caller.tenant, limit, before)

    async def text(self, digest: str) -> str:
        return await self._pool.text(self.caller.tenant, digest)

    async def usage(self, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        return await self._pool.usage(self.caller.tenant, days, by_task=by_task)

    async def caches(self) -> list[CacheView]:
        return await self._pool.caches(self.caller.tenant)

    async def purge(self) -> int:
        return await self._pool.purge(self.caller.tenant, self.caller.by)

    async def prompts(self) -> list[PromptView]:
        return await self._pool.prompts()


def in_words(tiers: Sequence[TierView]) -> str:
    """One line for `hanse status`: `planner ready, validator warming 40%`."""
    return ", ".join(f"{view.name} {_state(view)}" for view in tiers) or "no tiers"


def _state(view: TierView) -> str:
    return f"{view.state} {view.progress:.0%}" if view.state == "warming" and view.progress else str(view.state)
