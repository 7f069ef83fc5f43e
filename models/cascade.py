"""The cascade: a tier proposes, validators judge, and then one of four things happens.

    accepted                        that is the answer
    refused, and can be repaired    the same tier again, with the precise error before its eyes
    refused for good                the next tier up, which sees the ask as it came
    refused at the top              a person is needed

A tier that cannot be reached is no verdict about its answers: the next one up takes over, or when there is none the
next one down. What to do is a function of what happened (`decide`); `climb` does it.

The idea of asking a dearer model only when a cheaper one's answer does not hold: FrugalGPT (Chen, Zaharia and Zou,
2023). Here what holds is said by checks and calibrated scores, never by the model that answered.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ..contracts import HanseError, InvalidInput, ModelUnavailable, PersonNeeded, TimedOut, TooLarge
from ..contracts.pool import Ask, Attempt, Usage
from .budget import Used
from .price import to_cents
from .proposal import Finding, Proposal, words_digest


@dataclass(frozen=True, slots=True)
class Work:
    """What one tier did about an ask: a proposal, or an error."""

    tier: str
    model: str
    proposal: Proposal | None = None
    error: HanseError | None = None
    used: Used = field(default_factory=Used)
    latency_ms: float = 0
    shortened: int = 0
    """Turns of the conversation that were left out."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What all validators together think of a proposal."""

    findings: tuple[Finding, ...] = ()
    """Why it is refused; none means that it is accepted."""
    scores: dict[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    """What does not refuse it: silent validators, advice."""

    def after(self, earlier: "Opinion") -> "Opinion":
        """This one and what was thought before it, as one."""
        scores = {**earlier.scores, **self.scores}
        return Opinion((*earlier.findings, *self.findings), scores, (*earlier.notes, *self.notes))


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Try:
    """One tier's work and what was thought of it."""

    work: Work
    opinion: Opinion = field(default_factory=Opinion)

    @property
    def tier(self) -> str:
        return self.work.tier

    @property
    def outcome(self) -> Outcome:
        if self.work.proposal is None:
            return Outcome.FAILED
        return Outcome.REJECTED if self.opinion.findings else Outcome.ACCEPTED

    @property
    def reason(self) -> str:
        if self.work.error is not None:
            return self.work.error.detail
        return "; ".join(map(str, self.opinion.findings or self.opinion.notes))[:1000]

    def attempt(self) -> Attempt:
        """As clients see it."""
        used = self.work.used
        usage = Usage(
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            cents=to_cents(used.microcents),
            latency_ms=round(self.work.latency_ms, 3),
        )
        return Attempt(
            tier=self.tier,
            model=self.work.model,
            outcome=self.outcome.value,
            reason=self.reason,
            scores=self.opinion.scores,
            usage=usage,
            answer=self.answer,
        )

    @property
    def answer(self) -> str:
        """Digest of what was written."""
        return words_digest(self.work.proposal.words) if self.work.proposal else ""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The tiers that may work for an ask, from the one where it begins."""

    up: tuple[str, ...]
    """The first is the start."""
    down: tuple[str, ...] = ()
    """Below the start and not below the floor, the highest first: for when those above cannot be reached."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How far a call goes on."""

    repairs: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Let this tier try; again, when it is told what was wrong."""

    tier: str
    repairs: Try | None = None


@dataclass(frozen=True, slots=True)
class Accept:
    """That is the answer."""

    by: Try


@dataclass(frozen=True, slots=True)
class Refuse:
    """There will be no answer."""

    error: HanseError


Move = Propose | Accept | Refuse

ELSEWHERE = (ModelUnavailable, TimedOut, InvalidInput, TooLarge)
"""Errors after which another tier may do better. A full queue is not among them: work that is pushed on to dearer
tiers when a cheap one is full would fill them all."""


def decide(ladder: Ladder, tries: Sequence[Try], rules: Rules) -> Move:
    """What to do next after `tries`, oldest first. A function of its arguments and nothing else."""
    if not tries:
        return Propose(ladder.up[0])
    last = tries[-1]
    if last.outcome is Outcome.ACCEPTED:
        return Accept(last)
    if last.work.error is not None and not isinstance(last.work.error, ELSEWHERE):
        return Refuse(last.work.error)
    if len(tries) >= rules.attempts:
        return Refuse(_the_end(tries))
    if last.outcome is Outcome.REJECTED and _may_repair(tries, rules):
        return Propose(last.tier, repairs=last)
    following = _following(ladder, tries)
    return Propose(following) if following else Refuse(_the_end(tries))


async def climb(
    ask: Ask,
    ladder: Ladder,
    rules: Rules,
    propose: Callable[[str, Ask], Awaitable[Work]],
    judge: Callable[[Proposal], Awaitable[Opinion]],
    repaired: Callable[[Ask, Try], Ask],
    tries: list[Try],
) -> Accept | Refuse:
    """Does what `decide` says until there is an answer or there will be none. Puts what happens into `tries`."""
    while isinstance(move := decide(ladder, tries, rules), Propose):
        work = await propose(move.tier, repaired(ask, move.repairs) if move.repairs else ask)
        tries.append(Try(work, await judge(work.proposal)) if work.proposal else Try(work))
    return move


def _may_repair(tries: Sequence[Try], rules: Rules) -> bool:
    """Not when the tier, told what is wrong, wrote the same words again: it would do so for ever."""
    of_tier = [each for each in tries if each.tier == tries[-1].tier and each.outcome is Outcome.REJECTED]
    texts = [each.work.proposal.text for each in of_tier if each.work.proposal]
    return len(of_tier) <= rules.repairs and len(set(texts)) == len(texts)


def _following(ladder: Ladder, tries: Sequence[Try]) -> str | None:
    """Up after a refusal: what was not good enough is not asked of a lower tier. After a failure also down, unless a
    higher tier's answer was refused before.
    """
    tried = {each.tier for each in tries}
    refused = any(each.outcome is Outcome.REJECTED for each in tries)
    left = [*ladder.up, *(() if refused else ladder.down)]
    return next((tier for tier in left if tier not in tried), None)


def _the_end(tries: Sequence[Try]) -> HanseError:
    if any(each.outcome is Outcome.REJECTED for each in tries):
        reasons = [f"{each.tier}: {each.reason}"[:300] for each in tries]
        return PersonNeeded(f"no tier's answer was accepted ({reasons[-1]}). A person has to answer", reasons=reasons)
    errors = {each.tier: each.work.error for each in tries if each.work.error is not None}
    last = tries[-1].work.error
    if len(errors) == 1 and last is not None:
        return last
    why = "; ".join(f"{tier}: {error.detail}" for tier, error in errors.items())
    return ModelUnavailable(f"no tier can answer ({why})", tiers=list(errors))
