"""The figures of `benchmarks.unruly`, in small: what G13 asks for holds."""

import pytest

from hanse.benchmarks import unruly
from hanse.contracts import Tenant
from hanse.runtime.fairness import FairQueue
from hanse.runtime.parking import Waiting

WITHIN = {"<=": float.__le__, "<": float.__lt__, ">=": float.__ge__, ">": float.__gt__}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return unruly.measure(seeds=1, seconds=10)


def test_every_goal_is_met(rows: list[dict[str, object]]):
    missed = [row for row in rows if row["goal"] != "none" and not meets(str(row["goal"]), float(str(row["figure"])))]
    assert not missed


def meets(goal: str, figure: float) -> bool:
    sign, _, number = goal.rpartition(" ")
    return WITHIN[sign](figure, float(number)) if sign else figure == float(number)


@pytest.mark.parametrize(("goal", "figure"), [("<= 5", 6.0), ("1", 0.9), (">= 0.8", 0.7), ("< 5", 5.0), ("> 0", 0.0)])
def test_a_goal_can_be_missed(goal: str, figure: float):
    assert not meets(goal, figure)


def test_first_come_first_served_would_leave_others_nothing(monkeypatch: pytest.MonkeyPatch):
    """The scene is hard enough to need fair turns: with one queue for all and no shares, it is lost."""
    monkeypatch.setattr("hanse.runtime.parking.FairQueue", OneQueue)
    monkeypatch.setattr("hanse.runtime.fairness.Shares.admits", lambda self, tenant, open_tasks: open_tasks < 200)
    found = unruly.flooded(1, 10)
    assert min(found[name] for name in unruly.TENANTS[1:]) < 0.5


class OneQueue(FairQueue[Waiting]):
    """Knows no tenants."""

    def put(self, tenant: Tenant, priority: int, item: Waiting) -> None:
        super().put(ALL, priority, item)

    def put_back(self, tenant: Tenant, priority: int, item: Waiting) -> None:
        super().put_back(ALL, priority, item)


ALL = Tenant("all")
