"""Where a call begins: learned per capability from what came of earlier calls, by Thompson sampling with costs.

What a call costs when it begins at tier s is what s costs and, when its answer is not accepted, what the climb costs:

    cost(s) = c(s) + (1 - p(s)) * climb(s + 1)
    climb(t) = c(t) + (1 - q(t)) * climb(t + 1),        climb(above the top) = 0

c is the mean cost of a tier's attempts, its repairs and its seconds counted in; p the chance that the answer of the
tier where a call begins is accepted, and q the chance of one that was climbed to, which is another one because what is
left for it is harder. A person is asked only when the top has failed, wherever a call began, so what a person costs
decides nothing here.

Chances are Beta posteriors. Each decision draws from all of them and takes the tier with the least cost: it tries what
it knows little of, and stops trying what it knows to be dear (Thompson, Biometrika 1933; Chapelle and Li, NIPS 2011).
Old outcomes fade, also those of tiers that are not asked any more, which so come to be tried again: models and work
change (discounted Thompson sampling: Raj and Kalyani, 2017). The same outcomes and the same entropy give the same
decision.

Nothing learned of one tenant's work decides about another's.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ..contracts import Tenant

FADE = 0.995
"""Of each earlier outcome's weight that is left when the next one comes: about two hundred count."""
SUBJECTS = 10_000
"""Kept in memory; the one that was used longest ago is forgotten first."""
_PRIOR = (1.0, 1.0)
_FROM_CLIMBS, _FROM_BEGINS = 0.5, 0.1
"""What an outcome counts for in the other kind of chance. Who is right about what others failed at is right about the
rest; the reverse says less."""
_PRIOR_WEIGHT = 1.0
"""How many outcomes the tier's list price counts for, as its cost."""


@dataclass(slots=True)
class _Chance:
    """How often answers are accepted: a Beta posterior whose outcomes fade."""

    accepted: float = 0.0
    refused: float = 0.0

    def fade(self) -> None:
        self.accepted *= FADE
        self.refused *= FADE

    def learn(self, accepted: bool) -> None:
        self.accepted += accepted
        self.refused += not accepted

    def value(self, other: "_Chance", weight: float, chance: Random | None) -> float:
        """Drawn, or the mean where there is no chance, with the other kind's outcomes at their weight."""
        good = _PRIOR[0] + self.accepted + weight * other.accepted
        bad = _PRIOR[1] + self.refused + weight * other.refused
        return good / (good + bad) if chance is None else chance.betavariate(good, bad)


@dataclass(slots=True)
class _Cost:
    """The mean of a tier's costs, in cents, in which the first guess counts little."""

    total: float = 0.0
    weight: float = 0.0

    def learn(self, cents: float) -> None:
        self.total = self.total * FADE + cents
        self.weight = self.weight * FADE + 1

    @property
    def learned(self) -> float:
        """The mean without a guess. Not to be asked before anything was learned."""
        return self.total / self.weight

    def mean(self, guess: float) -> float:
        return (self.total + guess * _PRIOR_WEIGHT) / (self.weight + _PRIOR_WEIGHT)


class _Subject:
    """What is known of one kind of work."""

    def __init__(self) -> None:
        self.first: dict[str, _Chance] = {}
        self.climbed: dict[str, _Chance] = {}
        self.cost: dict[str, _Cost] = {}

    def fade(self) -> None:
        for chance in (*self.first.values(), *self.climbed.values()):
            chance.fade()

    def scale(self, ladder: Sequence[tuple[str, float]]) -> float:
        """How far guesses were from what was learned, by the tiers of which something was: what is wrong in all of
        them, such as how long answers are, must not decide between a tier that is known and one that is not.
        """
        known = [(guess, self.cost[name].learned) for name, guess in ladder if name in self.cost]
        guessed = sum(guess for guess, _ in known)
        return sum(mean for _, mean in known) / guessed if guessed else 1.0

    def begins_well(self, tier: str, chance: Random | None) -> float:
        """p in the formulas above."""
        first, climbed = self.first.get(tier, _Chance()), self.climbed.get(tier, _Chance())
        return first.value(climbed, _FROM_CLIMBS, chance)

    def ends_well(self, tier: str, chance: Random | None) -> float:
        """q in the formulas above."""
        first, climbed = self.first.get(tier, _Chance()), self.climbed.get(tier, _Chance())
        return climbed.value(first, _FROM_BEGINS, chance)


@dataclass(frozen=True, slots=True)
class Result:
    """What one tier made of a call, repairs included. `cents` has what its seconds are worth in it."""

    tier: str
    accepted: bool
    cents: float


@dataclass(frozen=True, slots=True)
class Route:
    """A decision, with the costs in cents that it was taken by."""

    tier: str
    expected: Mapping[str, float]
    reason: str


class Router:
    """The starting tier of each kind of work."""

    def __init__(self) -> None:
        self._subjects: OrderedDict[tuple[Tenant, str], _Subject] = OrderedDict()

    def choose(self, tenant: Tenant, subject: str, ladder: Sequence[tuple[str, float]], chance: Random) -> Route:
        """`ladder` are the tiers that may be begun at, lowest first, each with what a call is guessed to cost in cents.

        Raises ValueError for an empty ladder.
        """
        if not ladder:
            raise ValueError("there is no tier to choose from")
        if len(ladder) == 1:
            return Route(ladder[0][0], {}, "there is no other")
        expected = self._drawn(self._subject(tenant, subject), ladder, chance)
        tier = min(expected, key=lambda name: expected[name])
        return Route(tier, expected, "the least expected cost, drawn from what is known")

    def learn(self, tenant: Tenant, subject: str, results: Iterable[Result]) -> None:
        """`results` of one call, in the order in which the tiers were asked. A tier that was away taught nothing and
        is not among them.
        """
        known = self._subject(tenant, subject)
        known.fade()
        for place, result in enumerate(results):
            chances = known.climbed if place else known.first
            chances.setdefault(result.tier, _Chance()).learn(result.accepted)
            known.cost.setdefault(result.tier, _Cost()).learn(result.cents)

    def means(self, tenant: Tenant, subject: str, ladder: Sequence[tuple[str, float]]) -> dict[str, float]:
        """The expected cost in cents of beginning at each tier, with nothing drawn."""
        return self._costs(self._subject(tenant, subject), ladder, None)

    def _drawn(self, known: _Subject, ladder: Sequence[tuple[str, float]], chance: Random) -> dict[str, float]:
        return {name: round(cents, 6) for name, cents in self._costs(known, ladder, chance).items()}

    def _costs(self, known: _Subject, ladder: Sequence[tuple[str, float]], chance: Random | None) -> dict[str, float]:
        climb, costs, scale = 0.0, dict[str, float](), known.scale(ladder)
        for name, guess in reversed(ladder):
            cost = known.cost.get(name, _Cost()).mean(guess * scale)
            costs[name] = cost + (1 - known.begins_well(name, chance)) * climb
            climb = cost + (1 - known.ends_well(name, chance)) * climb
        return dict(reversed(costs.items()))

    def _subject(self, tenant: Tenant, subject: str) -> _Subject:
        key = (tenant, subject)
        known = self._subjects.pop(key, None) or _Subject()
        self._subjects[key] = known
        if len(self._subjects) > SUBJECTS:
            self._subjects.popitem(last=False)
        return known
