"""The purse of a call: what tiers do for it beside answering is paid from it too.

A validator is handed texts and nothing else, so that anybody may write one, and a cache knows answers and no money.
Both may ask a tier of vectors for what they do. So who pays is not said to them: it stands around them, as a context
variable, and tasks that they start have it too.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from .budget import LEASE_SECONDS, CallBudget, Used
from .price import guess_tokens, price
from .tier import Tier


class Purse:
    """One call's."""

    def __init__(self, money: CallBudget, durable: Callable[[], Awaitable[None]]) -> None:
        """`durable` returns when what was journaled so far is on disk."""
        self._money, self._durable = money, durable
        self.used = Used()
        """So far, beside what its attempts took."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """In this block `paid` takes from it."""
        before = _open.set(self)
        try:
            yield
        finally:
            _open.reset(before)

    @asynccontextmanager
    async def paying(self, tier: Tier, texts: Sequence[str]) -> AsyncIterator[None]:
        """Reserved before and settled after, whatever came of it. Raises BudgetExhausted, and then nothing is done."""
        used = _cost(tier, texts)
        cost = used.microcents
        held = self._money.reserve(tier.name, cost, tier.timeout_seconds + LEASE_SECONDS) if cost else None
        try:
            if held:
                await self._durable()
            yield
        finally:
            if held:
                self._money.settle(held, used)
            else:
                self._money.use(tier.name, used)
            before = self.used
            self.used = Used(before.prompt_tokens + used.prompt_tokens, 0, before.microcents + cost)


_open: ContextVar[Purse | None] = ContextVar("purse", default=None)


@asynccontextmanager
async def paid(tier: Tier, texts: Sequence[str]) -> AsyncIterator[None]:
    """By the purse around it. What the pool does for itself, such as comparing vectors, nobody pays."""
    if (purse := _open.get()) is None:
        yield
        return
    async with purse.paying(tier, texts):
        yield


def _cost(tier: Tier, texts: Sequence[str]) -> Used:
    tokens = guess_tokens(texts)
    return Used(tokens, 0, price(tier, tokens, 0))
