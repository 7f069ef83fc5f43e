"""Whether a person is asked before a step runs: the rules of `hanse.yaml` against one step's very input.

Pure and deterministic: the rules are tried in order and the first that fits decides. Where a rule needs an amount
and the input has none, or has something that is no number, a person is asked: what cannot be judged is never let
through by silence.

A rule that samples lets most of what it fits run. Which ones are asked about is drawn by HMAC from a secret of the
federation, the step's key and the input's digest: nobody without the secret can tell before, the same step draws the
same lot after a restart, and a task that is submitted again is another one and draws anew.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..contracts import Contract, JsonObject, NotAllowed, digest
from ..contracts.labels import NO_MARKS, UNTRUSTED, Marks
from ..contracts.labels import concerning as labels_that_ask
from ..contracts.template import ABSENT, MissingOutput, look_up
from .config import Above, ApprovalRule, Mode


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a person is asked."""

    quorum: int = 1
    approvers: tuple[str, ...] = ()
    """Empty: everybody of the tenant."""
    delegates: Mapping[str, str] = field(default_factory=dict[str, str])
    """Who may decide in whose place."""
    four_eyes: bool = False
    escalate_seconds: float | None = None
    escalate_to: tuple[str, ...] = ()
    minutes: float = 2.0
    """Of a person's time, for one decision."""

    def to_data(self) -> JsonObject:
        return {
            "quorum": self.quorum,
            "approvers": list(self.approvers),
            "delegates": dict(self.delegates),
            "four_eyes": self.four_eyes,
            "escalate_to": list(self.escalate_to),
            "minutes": self.minutes,
        }


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say of one step."""

    review: bool
    """A person is asked before it runs."""
    words: str
    """The rule in words, as the journal and the person see it."""
    expires_seconds: float | None = None
    """How long the question stands, where there is one."""
    terms: Terms = Terms()
    about: str = field(default="", compare=False)
    """The rule without what is this step's own: the same for all that it asks about, so that they can be grouped."""
    amount: float | None = field(default=None, compare=False)
    """What the rule looked at, where that is a number."""
    refused: bool = False
    """It does not run at all, and nobody is asked."""

    @property
    def lets_run(self) -> bool:
        return not (self.review or self.refused)

    def refusal(self, step: str) -> NotAllowed:
        return NotAllowed(f"a rule refuses this: {self.words}", step=step)


class Situation(NamedTuple):
    """What rules may look at besides contract and input."""

    labels: Mapping[str, str] = {}
    """Of the task."""
    key: str = ""
    """The step's, for the lot that is drawn."""
    marks: Marks = NO_MARKS
    """What is known of the data that goes into the step: labels that came with it."""
    outward: bool = False
    """What the step does goes outward, whatever its contract says."""


GUARD_SECONDS = 86_400.0
"""How long a question stands that no rule asks, but the default."""
AUTOMATIC = Ruling(review=False, words="no approval rule fits: automatic")
NOWHERE = Situation()


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules of a federation, with the secret that its lots are drawn from."""

    rules: tuple[ApprovalRule, ...] = ()
    secret: bytes = field(default=b"", repr=False)

    def __call__(self, contract: Contract, input: Any, situation: Situation) -> Ruling:
        return rule_for(self.rules, contract, input, situation, self.secret)

    def minds(self, contract: Contract, of_task: Mapping[str, str]) -> frozenset[str]:
        """Labels of data without which the rules say of calling this contract what they say when the data has none:
        what is `untrusted`, and what a rule names that would ask or refuse.
        """
        known = _labels(contract, Situation(of_task))
        named = [_missed(rule, known) for rule in self.rules if _is_about(rule, contract)]
        return frozenset({UNTRUSTED}).union(*named)

    def foregone(self, contract: Contract, situation: Situation) -> Ruling | None:
        """The refusal of a rule that speaks of labels, where none before it can take its place, whatever the input and
        whatever labels come to those that are known by now. None where a step has to be looked at when it is its turn.
        """
        for rule in self.rules:
            if not _is_about(rule, contract):
                continue
            if not _selects(rule, contract, situation):
                if rule.mode is not Mode.REFUSE:
                    return None
            elif rule.mode is Mode.REFUSE and (rule.labels or rule.all_labels):
                return _ruling(rule, contract, None)
            else:
                return None
        return None

    @property
    def refuses_labels(self) -> bool:
        return any(rule.mode is Mode.REFUSE and (rule.labels or rule.all_labels) for rule in self.rules)


def lot_secret(root_key: bytes) -> bytes:
    """What lots are drawn from. Of the federation's key, and of no use for anything else."""
    return hmac.digest(root_key, b"hanse approval lots", "sha256")


def rule_for(
    rules: Iterable[ApprovalRule], contract: Contract, input: Any, situation: Situation = NOWHERE, secret: bytes = b""
) -> Ruling:
    """What the first fitting rule says of calling `contract` with `input`; `AUTOMATIC` where none fits.

    Where that would let what is untrusted go outward, a person is asked all the same, unless the rule speaks of the
    very labels: who wrote "refunds are automatic" did not say so of refunds that a stranger's letter asks for.
    """
    for rule in rules:
        if _selects(rule, contract, situation) and (ruling := _ruling(rule, contract, input)):
            found = _sampled(rule, contract, input, situation, secret, ruling)
            return _guarded(found, {*(rule.labels or ()), *rule.all_labels}, contract, situation)
    return _guarded(AUTOMATIC, frozenset(), contract, situation)


def _guarded(ruling: Ruling, spoken_of: Set[str], contract: Contract, situation: Situation) -> Ruling:
    """The default of all policies: what is untrusted, alone or with what is private, goes outward when a person says
    so. What can be undone stays inside, keeps the labels and hands them on to whatever would go out; to ask about all
    of it would tire the person whose yes is to count. A rule asks there, too: `{labels: untrusted, effect: reversible}`
    """
    concerning = labels_that_ask(situation.marks) if situation.marks else frozenset[str]()
    if concerning <= spoken_of or not ruling.lets_run or not (contract.is_outward or situation.outward):
        return ruling
    words = f"{contract.name} takes outward what is {' and '.join(sorted(concerning))}"
    return Ruling(True, words, GUARD_SECONDS, about=words)


def seat_of(terms: Mapping[str, Any], by: str, taken: Iterable[str] = ()) -> str | None:
    """In whose place somebody decides: their own, or that of whom they are a delegate of. None when they may not.

    A delegate who may decide for several takes the first seat that nobody has taken.
    """
    approvers, delegates = terms.get("approvers") or [], terms.get("delegates") or {}
    if not approvers or by in approvers:
        return by
    theirs = [each for each in approvers if delegates.get(each) == by]
    free = [each for each in theirs if each not in set(taken)]
    return next(iter(free or theirs), None)


def seen_digest(about: Mapping[str, Any]) -> str:
    """What somebody says that they saw: the digest of the input or, where the data has labels, of these too."""
    return digest([about["digest"], about["labels"]]) if about.get("labels") else about["digest"]


def _missed(rule: ApprovalRule, known: Set[str]) -> Set[str]:
    """Labels one of which at least must come with the data for the rule to ask or refuse where it did not before. Of
    those that it wants together, one that never comes alone unasked is enough.
    """
    if rule.mode is Mode.AUTOMATIC:
        return frozenset()
    together = {*rule.all_labels} - known
    return {*(rule.labels or ())} | ({UNTRUSTED} & together or {*sorted(together)[:1]})


def _is_about(rule: ApprovalRule, contract: Contract) -> bool:
    return (
        fnmatchcase(contract.name, rule.capability)
        and (rule.risk is None or contract.risk in rule.risk)
        and (rule.effect is None or contract.effect in rule.effect)
    )


def _selects(rule: ApprovalRule, contract: Contract, situation: Situation) -> bool:
    return (
        _is_about(rule, contract)
        and (rule.labels is None or not _labels(contract, situation).isdisjoint(rule.labels))
        and (not rule.all_labels or _labels(contract, situation).issuperset(rule.all_labels))
    )


def _labels(contract: Contract, situation: Situation) -> set[str]:
    of_task = situation.labels.items()
    of_data = (*contract.labels, *situation.marks)
    return {*of_data, *situation.labels, *(f"{name}={value}" for name, value in of_task)}


def _ruling(rule: ApprovalRule, contract: Contract, input: Any) -> Ruling | None:
    """None when the amount lies within the rule's limit, so the next rule is tried."""
    subject = _subject(rule, contract)
    if rule.mode is Mode.AUTOMATIC:
        return Ruling(review=False, words=f"{subject}: automatic")
    if rule.mode is Mode.REFUSE:
        return Ruling(review=False, words=f"{subject}: refused", refused=True)
    if rule.above is None:
        return Ruling(True, subject, rule.expires_seconds, _terms(rule), about=subject)
    amount = _amount(rule.above, input)
    why = _exceeds(rule.above, amount)
    about = f"{subject} above {_number(rule.above.limit)}"
    known = amount if _is_amount(amount) else None
    return Ruling(True, f"{about} ({why})", rule.expires_seconds, _terms(rule), about, known) if why else None


def _terms(rule: ApprovalRule) -> Terms:
    return Terms(
        rule.quorum,
        rule.approvers,
        rule.delegates,
        rule.four_eyes,
        rule.escalate_after_seconds,
        rule.escalate_to,
        rule.minutes,
    )


def _sampled(
    rule: ApprovalRule, contract: Contract, input: Any, situation: Situation, secret: bytes, ruling: Ruling
) -> Ruling:
    one_in = rule.sample.get(contract.risk, 1) if isinstance(rule.sample, dict) else rule.sample or 1
    if not ruling.review or one_in == 1:
        return ruling
    if _drawn(secret, situation.key, digest(input), one_in):
        words = f"{ruling.words}, drawn as one of {one_in}"
        return Ruling(True, words, ruling.expires_seconds, ruling.terms, ruling.about, ruling.amount)
    return Ruling(review=False, words=f"{ruling.words}, one in {one_in} is asked about and this one is not")


def _drawn(secret: bytes, key: str, seen: str, one_in: int) -> bool:
    lot = hmac.digest(secret, f"{key}\0{seen}".encode(), hashlib.sha256)
    return int.from_bytes(lot[:8], "big") % one_in == 0


def _subject(rule: ApprovalRule, contract: Contract) -> str:
    """What the rule was about: the capability's name, and by what it was chosen where that is not the name."""
    chosen = [f"pattern {rule.capability}"] if rule.capability not in ("*", contract.name) else []
    chosen += [f"risk {contract.risk}"] if rule.risk else []
    chosen += [f"effect {contract.effect}"] if rule.effect else []
    chosen += [f"labels {' or '.join(rule.labels)}"] if rule.labels else []
    chosen += [f"labels {' and '.join(rule.all_labels)}"] if rule.all_labels else []
    return f"{contract.name} [{', '.join(chosen)}]" if chosen else contract.name


def _exceeds(above: Above, amount: Any) -> str:
    """Why a person is asked, or nothing when the amount is within the limit."""
    if amount is ABSENT:
        return f"{above.field} is not given"
    if not _is_amount(amount):
        return f"{above.field} is not a number"
    return f"{above.field} = {_number(amount)}" if amount > above.limit else ""


def _amount(above: Above, input: Any) -> Any:
    """Whatever stands in the field; ABSENT where nothing does."""
    try:
        return look_up(f"input.{above.field}", lambda _: input)
    except MissingOutput:
        return ABSENT


def _is_amount(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _number(value: float) -> str:
    """`500`, `612.50`, `0.125`: whole numbers bare, others with at least two decimals."""
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if value == round(value, 2) else repr(value)
