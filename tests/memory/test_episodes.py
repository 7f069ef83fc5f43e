"""Who stands beside whom, against a sorted list."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hanse.memory.episodes import REACH, Episodes

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b"]), st.one_of(st.none(), st.integers(0, 9))),
        st.integers(0, 20),
    ),
    max_size=40,
)
"""A row that is put, or the place of one that is removed."""


@given(steps)
def test_neighbours_are_those_before_and_after_in_the_order_of_positions(steps):
    episodes, kept, row = Episodes(), dict[int, tuple[str, int | None]](), 0
    for step in steps:
        if isinstance(step, tuple):
            episodes.put(row, *step)
            kept[row], row = step, row + 1
        elif kept:
            gone = sorted(kept)[step % len(kept)]
            episodes.remove(gone, *kept.pop(gone))
    if kept:
        rows = np.array(sorted(kept), np.int32)
        assert episodes.around(rows).tolist() == [_around(row, kept) for row in rows.tolist()]


def _around(row: int, kept: dict[int, tuple[str, int | None]]) -> list[int]:
    episode = kept[row][0]
    order = [each for each in kept if kept[each][0] == episode]
    order.sort(key=lambda each: (float("inf") if kept[each][1] is None else kept[each][1], each))
    at, padding = order.index(row), [-1] * REACH
    before, after = [*reversed(order[:at]), *padding][:REACH], [*order[at + 1 :], *padding][:REACH]
    return [row, *before, *after]


def test_rows_of_no_episode_stand_alone():
    episodes = Episodes()
    for row in range(3):
        episodes.put(row, None, row)
    assert episodes.around(np.array([1], np.int32)).tolist() == [[1, -1, -1, -1, -1]]
