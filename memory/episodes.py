"""What stands beside what: the records of a conversation or course of events, in their order."""

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

from .column import Column

if TYPE_CHECKING:
    from numpy import int32
    from numpy.typing import NDArray

REACH = 2
"""Neighbours on either side that are looked at."""


class Episodes:
    """Of every row, the one before it and the one after it. Rows of no episode have neither."""

    def __init__(self) -> None:
        self._order: dict[str, list[tuple[float, int]]] = {}
        self._before, self._after = Column(np.int32, -1), Column(np.int32, -1)

    def __len__(self) -> int:
        return len(self._order)

    def put(self, row: int, episode: str | None, position: int | None) -> None:
        """What has no position stands after what has one, in the order of its coming."""
        for column in (self._before, self._after):
            column.reach(row + 1)
        if episode is not None:
            order, place = self._order.setdefault(episode, []), _place(row, position)
            insort(order, place)
            at = bisect_left(order, place)
            self._join(order[at - 1][1] if at else -1, row)
            self._join(row, order[at + 1][1] if at + 1 < len(order) else -1)

    def remove(self, row: int, episode: str | None, position: int | None) -> None:
        """Its neighbours stand beside one another then."""
        if episode is not None:
            order = self._order[episode]
            del order[bisect_left(order, _place(row, position))]
            self._join(int(self._before.rows[row]), int(self._after.rows[row]))
            if not order:
                del self._order[episode]

    def around(self, rows: "NDArray[int32]") -> "NDArray[int32]":
        """Shape (rows, 1 + 2 REACH): each row, then its neighbours from the nearest on; -1 where there is none."""
        columns = [rows]
        for step in (self._before.rows, self._after.rows):
            reached = rows
            for _ in range(REACH):
                reached = np.where(reached < 0, np.int32(-1), step[reached])
                columns.append(reached)
        return np.stack(columns, axis=1)

    def renumber(self, moved: "NDArray[int32]", kept: "NDArray[int32]") -> None:
        """`moved` has the new number of each row, `kept` the old rows that stay, in their order."""
        onwards = np.append(moved, np.int32(-1))
        for name in ("_before", "_after"):
            column = Column(np.int32, -1)
            column.extend(onwards[getattr(self, name).rows[kept]])
            setattr(self, name, column)
        for order in self._order.values():
            order[:] = [(position, int(moved[row])) for position, row in order]

    @property
    def nbytes(self) -> int:
        return self._before.nbytes + self._after.nbytes + 120 * sum(map(len, self._order.values()))

    def _join(self, before: int, after: int) -> None:
        if before >= 0:
            self._after.rows[before] = after
        if after >= 0:
            self._before.rows[after] = before


def _place(row: int, position: int | None) -> tuple[float, int]:
    return (float("inf") if position is None else float(position), row)
