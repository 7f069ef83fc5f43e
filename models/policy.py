"""What the pool may do: which validators look at what, when an answer is refused, how far it climbs, what it may spend.

Validators advise with scores. That a score is too high, how often a tier may try again, and where work of one
capability may begin at all, stands here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..contracts.pool import Purpose
from .validator import TRAINED

_ALWAYS = ("empty", "refusal", "repetition", "unicode", "echo")
VALIDATORS: Mapping[Purpose, tuple[str, ...]] = {
    Purpose.COMPLETE: (*_ALWAYS, "numbers", "ids"),
    Purpose.CHOOSE: ("empty", "unicode"),
    Purpose.EXTRACT: ("empty", "unicode", "numbers", "ids", "entities", "postconditions"),
    Purpose.CHAT: _ALWAYS,
}
THRESHOLDS: Mapping[str, float] = dict.fromkeys(
    ("empty", "refusal", "repetition", "unicode", "echo", "numbers", "ids", "postconditions"), 0.5
)
"""Names that are missing only advise. Names of people and places are found by their capitals, which is a guess."""
KNOWN = frozenset({name for names in VALIDATORS.values() for name in names}.union(TRAINED))
"""Every validator that ships with Hanse, whether or not what it needs is installed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one pool. Money in cents; None is no limit."""

    validators: Mapping[Purpose, tuple[str, ...]] = field(default_factory=lambda: VALIDATORS)
    """Who looks at calls of a purpose, where the ask names nobody. Those who guard what goes in look at all of them."""
    thresholds: Mapping[str, float] = field(default_factory=lambda: THRESHOLDS)
    """An answer is refused when a validator's score reaches its threshold. One without a threshold advises."""
    required: frozenset[str] = frozenset()
    """Validators without whose opinion nothing is accepted: they look whatever an ask names. The silence of others is
    written down, and no more."""
    judge_seconds: float = 5.0
    """After which a validator has no opinion."""

    repairs: int = 1
    """How often one tier may try again, with the error before its eyes."""
    attempts: int = 6
    """Of all tiers together, for one call."""
    max_answer_chars: int = 200_000
    """A longer answer is refused, and not kept."""
    floors: Mapping[str, str] = field(default_factory=dict[str, str])
    """Pattern of a capability's name (`payments.*`) to the lowest tier that may work for it. The first match counts."""

    call_cents: float | None = None
    task_cents: float | None = None
    tenant_day_cents: float | None = None
    """Days are those of UTC."""
    second_cents: float = 0.01
    """What a second of waiting costs, in the router's eyes: it decides between tiers that have no price."""

    cache_entries: int = 2_000
    """Per tenant, of each of the two caches."""
    cache_bytes: int = 64 * 1024 * 1024
    """Of all tenants together, per cache."""
    cache_seconds: float = 86_400.0
    semantic_threshold: float | None = 0.97
    """Cosine from which two asks mean the same. None switches the semantic cache off."""

    breaker_failures: int = 5
    """In a row, after which a tier is left alone for a while."""
    breaker_seconds: float = 5.0
    """The first pause; it doubles with each probe that fails, up to two minutes."""

    keep_days: int = 30
    """For how long the words of prompts and answers are kept. Their digests stay."""
    shadows: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of a prompt to the version that runs beside the current one."""
    shadow_share: float = 0.1
    """Of the calls of that prompt."""

    def floor_of(self, capability: str | None) -> str | None:
        """The lowest tier that may work for a capability; None when any may."""
        found = (tier for pattern, tier in self.floors.items() if fnmatchcase(capability or "", pattern))
        return next(found, None)

    def refuses(self, validator: str, score: float) -> bool:
        threshold = self.thresholds.get(validator)
        return threshold is not None and score >= threshold
