"""What tokens cost. Sums are whole microcents (millionths of a cent), so that they add up exactly."""

from collections.abc import Iterable
from math import ceil

from .tier import Tier

MICROCENTS = 1_000_000
"""In one cent."""


def price(tier: Tier, prompt_tokens: int, completion_tokens: int) -> int:
    """Microcents for so many tokens, rounded up: a reservation is never too small."""
    cents = prompt_tokens * tier.cents_per_1k_prompt + completion_tokens * tier.cents_per_1k_completion
    return ceil(round(cents * MICROCENTS / 1000, 6))


def guess_tokens(texts: Iterable[str]) -> int:
    """Of texts that no engine counts: a token for three characters, and two more for each text."""
    return sum(len(text) // 3 + 2 for text in texts)


def to_microcents(cents: float) -> int:
    """Rounded down: a limit is never too large."""
    return int(round(cents * MICROCENTS, 6))


def to_cents(microcents: int) -> float:
    return microcents / MICROCENTS
