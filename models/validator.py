"""Validators: what looks at an answer before anybody gets it. They advise, and policy decides.

A validator that needs no more than a text and its sources keeps the `Validator` protocol, whether it counts characters
or runs a classification head. Those that need the whole ask, such as its schema and its tools, are checks (`checks`).
"""

from collections.abc import Sequence
from typing import Protocol

from ..contracts.pool import Judgement


class Validator(Protocol):
    """One opinion of a text. Nothing may rely on it as a boundary."""

    @property
    def name(self) -> str:
        """As asks and policies name it: `injection`, `numbers`, …"""
        ...

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """The calibrated probability that something is wrong with `text`, given what it must be supported by.

        Raises ModelUnavailable when it cannot say: then it has no opinion, which is journaled, and policy decides
        whether that is enough to refuse.
        """
        ...
