"""A column of numbers that grows: what the index knows of its records, one row each, in memory."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Column:
    """Rows of one type, each a number or, with a `width`, so many of them. Room is doubled, so that adding a row costs
    the same whatever their number.

    What `rows` gave is of the rows there were then; it is asked for anew after an addition.
    """

    def __init__(self, dtype: "DTypeLike", fill: Any = 0, width: int | None = None) -> None:
        self._shape = () if width is None else (width,)
        self._fill = fill
        self._rows: NDArray[Any] = np.full((8, *self._shape), fill, dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> "NDArray[Any]":
        return self._rows[: self._count]

    def append(self, value: Any) -> None:
        self._make_room(self._count + 1)
        self._rows[self._count] = value
        self._count += 1

    def extend(self, values: "NDArray[Any]") -> None:
        self._make_room(self._count + len(values))
        self._rows[self._count : self._count + len(values)] = values
        self._count += len(values)

    def reach(self, count: int) -> None:
        """Has `count` rows at least, the new ones filled."""
        self._make_room(count)
        self._count = max(self._count, count)

    def clear(self) -> None:
        self._rows = np.full((8, *self._shape), self._fill, self._rows.dtype)
        self._count = 0

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def _make_room(self, count: int) -> None:
        if count > len(self._rows):
            room = np.full((max(count, 2 * len(self._rows)), *self._shape), self._fill, self._rows.dtype)
            room[: self._count] = self.rows
            self._rows = room
