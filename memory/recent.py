"""The last few things that were made of an object that is there all the while, such as a filter's answer."""

from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")

FEW = 4
"""Filters that are asked again and again, at most; one more makes what it needs anew."""


class Recent(Generic[Made]):
    """By the identity of what they were made of, which is kept with them, so that nothing else can have its place."""

    def __init__(self) -> None:
        self._made: list[tuple[object, Made]] = []

    def of(self, source: object, make: Callable[[], Made]) -> Made:
        """What was made of it, or is made now."""
        for known, made in self._made:
            if known is source:
                return made
        made = make()
        self._made = [*self._made[1 - FEW :], (source, made)]
        return made

    def clear(self) -> None:
        """What they were made of is not all that counts, and the rest has changed."""
        self._made = []
