"""Whether a person is asked before a step runs: the rules of `hanse.yaml` against one step's very input.

Pure and deterministic: the rules are tried in order and the first that fits decides. Where a rule needs an amount
and the input has none, or has something that is no number, a person is asked: what cannot be judged is never let
through by silence.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..contracts import Contract
from ..contracts.template import MissingOutput, look_up
from .config import Above, ApprovalRule, Mode


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say of one step."""

    review: bool
    """A person is asked before it runs."""
    words: str
    """The rule in words, as the journal and the person see it."""
    expires_seconds: float | None = None
    """How long the question stands, where there is one."""


AUTOMATIC = Ruling(review=False, words="no approval rule fits: automatic")


def rule_for(rules: Iterable[ApprovalRule], contract: Contract, input: Any) -> Ruling:
    """What the first fitting rule says of calling `contract` with `input`; `AUTOMATIC` where none fits."""
    for rule in rules:
        if _selects(rule, contract) and (ruling := _ruling(rule, contract, input)):
            return ruling
    return AUTOMATIC


def _selects(rule: ApprovalRule, contract: Contract) -> bool:
    return (
        fnmatchcase(contract.name, rule.capability)
        and (rule.risk is None or contract.risk in rule.risk)
        and (rule.effect is None or contract.effect in rule.effect)
    )


def _ruling(rule: ApprovalRule, contract: Contract, input: Any) -> Ruling | None:
    """None when the amount lies within the rule's limit, so the next rule is tried."""
    if rule.mode is Mode.AUTOMATIC:
        return Ruling(review=False, words=f"{_subject(rule, contract)}: automatic")
    if rule.above is None:
        return Ruling(review=True, words=_subject(rule, contract), expires_seconds=rule.expires_seconds)
    why = _exceeds(rule.above, input)
    words = f"{_subject(rule, contract)} above {_number(rule.above.limit)} ({why})"
    return Ruling(review=True, words=words, expires_seconds=rule.expires_seconds) if why else None


def _subject(rule: ApprovalRule, contract: Contract) -> str:
    """What the rule was about: the capability's name, and by what it was chosen where that is not the name."""
    chosen = [f"pattern {rule.capability}"] if rule.capability not in ("*", contract.name) else []
    chosen += [f"risk {contract.risk}"] if rule.risk else []
    chosen += [f"effect {contract.effect}"] if rule.effect else []
    return f"{contract.name} [{', '.join(chosen)}]" if chosen else contract.name


def _exceeds(above: Above, input: Any) -> str:
    """Why a person is asked, or nothing when the amount is within the limit."""
    try:
        amount = look_up(f"input.{above.field}", lambda _: input)
    except MissingOutput:
        return f"{above.field} is not given"
    if not _is_amount(amount):
        return f"{above.field} is not a number"
    return f"{above.field} = {_number(amount)}" if amount > above.limit else ""


def _is_amount(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _number(value: float) -> str:
    """`500`, `612.50`, `0.125`: whole numbers bare, others with at least two decimals."""
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if value == round(value, 2) else repr(value)
