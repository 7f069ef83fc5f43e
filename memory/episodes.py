"""What stands beside what: the records of a conversation or course of events, in their order."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .column import Column

if TYPE_CHECKING:
    from numpy import int32
    from numpy.typing import NDArray

REACH = 2
"""Neighbours on either side that are looked at."""


class Episodes:
    """Of every row, those before it and after it. Rows of no episode have none.

    A search asks for thousands of rows, a write changes five: so what stands around a row lies there, in one place.
    """

    def __init__(self) -> None:
        self._order: dict[str, list[tuple[float, int]]] = {}
        self._around = Column(np.int32, -1, width=1 + 2 * REACH)

    def __len__(self) -> int:
        return len(self._order)

    def put(self, row: int, episode: str | None, position: int | None) -> None:
        """What has no position stands after what has one, in the order of its coming."""
        self._around.reach(row + 1)
        self._around.rows[row, 0] = row
        if episode is not None:
            order, place = self._order.setdefault(episode, []), _place(row, position)
            insort(order, place)
            self._tell(order, bisect_left(order, place))

    def remove(self, row: int, episode: str | None, position: int | None) -> None:
        """Its neighbours stand beside one another then."""
        if episode is not None:
            order = self._order[episode]
            at = bisect_left(order, _place(row, position))
            del order[at]
            self._tell(order, at)
            if not order:
                del self._order[episode]

    def around(self, rows: "NDArray[int32]") -> "NDArray[int32]":
        """Shape (rows, 1 + 2 REACH): each row, then its neighbours from the nearest on; -1 where there is none."""
        return self._around.rows.take(rows, axis=0)

    def renumber(self, moved: "NDArray[int32]", kept: "NDArray[int32]") -> None:
        """`moved` has the new number of each row, `kept` the old rows that stay, in their order."""
        around = np.append(moved, np.int32(-1))[self._around.rows[kept]]
        self._around.clear()
        self._around.extend(around)
        for order in self._order.values():
            order[:] = [(position, int(moved[row])) for position, row in order]

    @property
    def nbytes(self) -> int:
        return self._around.nbytes + 120 * sum(map(len, self._order.values()))

    def _tell(self, order: list[tuple[float, int]], at: int) -> None:
        """Those who stand near a place that somebody came to, or left, who stands around them now."""
        for place in range(max(at - REACH, 0), min(at + REACH + 1, len(order))):
            before, after = order[max(place - REACH, 0) : place][::-1], order[place + 1 : place + 1 + REACH]
            self._around.rows[order[place][1], 1:] = _rows(before) + _rows(after)


def _rows(places: Sequence[tuple[float, int]]) -> list[int]:
    """Of the nearest; -1 where there is none."""
    return [*(row for _, row in places), *[-1] * (REACH - len(places))]


def _place(row: int, position: int | None) -> tuple[float, int]:
    return (float("inf") if position is None else float(position), row)
