"""Validators: what looks at an answer, and at what it was made from, before anybody gets it. They advise, and policy
decides.

A validator that needs no more than a text and its sources keeps the `Validator` protocol, whether it counts characters
or runs a classification head. Those that need the whole ask, such as its schema and its tools, are checks (`checks`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from ..contracts.pool import Judgement


class LooksAt(StrEnum):
    """What of a call a validator is handed. Whoever asks it by name hands it a text of their own choice."""

    ANSWER = "answer"
    """what a tier wrote, with the ask's sources to compare it with"""
    MATERIAL = "material"
    """what was given to work with, each of the ask's sources and of its tools' outputs by itself"""
    REQUEST = "request"
    """what is wanted: the last message of the user"""


TRAINED = ("injection", "risk", "support")
"""The validators whose heads ship with Hanse."""


class Validator(Protocol):
    """One opinion of a text. Nothing may rely on it as a boundary."""

    @property
    def name(self) -> str:
        """As asks and policies name it: `injection`, `numbers`, …"""
        ...

    @property
    def looks_at(self) -> LooksAt:
        """Those that look at material or request guard what goes in: an ask cannot send them away."""
        return LooksAt.ANSWER

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """The calibrated probability that something is wrong with `text`, given what it must be supported by.

        Raises ModelUnavailable when it cannot say: then it has no opinion, which is journaled, and policy decides
        whether that is enough to refuse.
        """
        ...
