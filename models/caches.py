"""Both caches as the pool uses them: what the keys are made of, who is asked first, and how often it was worth it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..contracts import Clock, HanseError, Tenant, digest
from ..contracts.caller import Caller
from ..contracts.pool import Answer, Ask, Cached, CacheView, Embedder
from .cache import Shelf
from .policy import Policy
from .semantic import SemanticCache

LONGEST_QUESTION = 2_000
"""Characters of a last message that is looked up by its meaning. A longer one is never asked in other words."""
_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class Keys:
    """Where an ask is looked up. Texts of one `place` differ in nothing but their last message."""

    exact: str
    place: str
    text: str


@dataclass(slots=True)
class _Figures:
    hits: dict[Cached, int] = field(default_factory=lambda: {Cached.EXACT: 0, Cached.SEMANTIC: 0})
    misses: int = 0


class Caches:
    """The exact cache, and the semantic one where there is an embedder and a threshold."""

    def __init__(self, clock: Clock, policy: Policy, embedder: Embedder | None) -> None:
        self._policy, self._embedder = policy, embedder
        self._exact, self._alike = self._shelf(clock), self._shelf(clock)
        threshold = policy.semantic_threshold
        self._semantic = SemanticCache(self._alike, threshold) if embedder and threshold is not None else None
        self._figures: dict[Tenant, _Figures] = {}

    def keys(
        self, ask: Ask, caller: Caller, models: Sequence[tuple[str, str]], judges: Sequence[str], template: str
    ) -> Keys:
        """`models` are the tiers that may work for it, each with its model's digest; `template` is the prompt's.

        The rules of judging are in it: what was accepted under other ones need not be accepted under these.
        """
        judged = {name: self._policy.thresholds.get(name) for name in judges}
        rest = {
            **ask.model_dump(mode="json", exclude={"messages", "pure", "inputs", "correction"}),
            "tenant": caller.tenant,
            "labels": sorted(caller.labels),
            "models": [list(each) for each in models],
            "template": template,
            "judged": judged,
            "required": sorted(self._policy.required),
            "embedder": str(self._embedder.digest) if self._embedder else "",
        }
        messages = [each.model_dump(mode="json") for each in ask.messages]
        last = messages[-1].pop("content") or ""
        place = digest({**rest, "messages": messages})
        return Keys(digest({"place": place, "last": last}), place, last)

    async def get(self, tenant: Tenant, keys: Keys, *, interactive: bool = False) -> tuple[Answer, Cached] | None:
        """An answer that was given before, and how it was found."""
        found = self._exact.get(tenant, keys.exact)
        how = Cached.EXACT
        if found is None:
            found, how = await self._alike_to(tenant, keys, interactive), Cached.SEMANTIC
        self._count(tenant, how if found else Cached.NO)
        return (found, how) if found else None

    async def put(self, tenant: Tenant, keys: Keys, answer: Answer) -> None:
        self._exact.put(tenant, keys.exact, answer)
        vector = await self._vector(keys, False)
        if vector is not None and self._semantic is not None:
            self._semantic.put(tenant, keys.place, keys.text, vector, answer)

    def purge(self, tenant: Tenant | None) -> int:
        """Forgets answers of a tenant, or all. How many there were."""
        return self._exact.purge(tenant) + self._alike.purge(tenant)

    def views(self, tenant: Tenant | None) -> list[CacheView]:
        tenants = dict.fromkeys([*self._exact.tenants(), *self._alike.tenants(), *self._figures])
        return [self._view(each) for each in tenants if tenant in (None, each)]

    def _view(self, tenant: Tenant) -> CacheView:
        figures = self._figures.get(tenant, _Figures())
        return CacheView(
            tenant=tenant,
            exact=self._exact.count(tenant),
            semantic=self._alike.count(tenant),
            bytes=self._exact.size(tenant) + self._alike.size(tenant),
            exact_hits=figures.hits[Cached.EXACT],
            semantic_hits=figures.hits[Cached.SEMANTIC],
            misses=figures.misses,
        )

    async def _alike_to(self, tenant: Tenant, keys: Keys, interactive: bool) -> Answer | None:
        if self._semantic is None or not self._semantic.knows(tenant, keys.place):
            return None
        vector = await self._vector(keys, interactive)
        return None if vector is None else self._semantic.get(tenant, keys.place, keys.text, vector)

    async def _vector(self, keys: Keys, interactive: bool):
        """None where there is nothing to look up by meaning, or nobody who knows meanings."""
        if self._semantic is None or self._embedder is None or not 0 < len(keys.text) <= LONGEST_QUESTION:
            return None
        try:
            return (await self._embedder.embed([keys.text], interactive=interactive))[0]
        except HanseError:
            return None

    def _count(self, tenant: Tenant, how: Cached) -> None:
        figures = self._figures.setdefault(tenant, _Figures())
        if how is Cached.NO:
            figures.misses += 1
        else:
            figures.hits[how] += 1
        if len(self._figures) > _TENANTS:
            del self._figures[next(iter(self._figures))]

    def _shelf(self, clock: Clock) -> Shelf:
        return Shelf(clock, self._policy.cache_entries, self._policy.cache_bytes, self._policy.cache_seconds)
