"""The bursar: a second, independent opinion on money. Reads a journal entry by entry, and after each one looks whether
any tenant's day, any task or any step holds and has spent more than it may (I6).

It shares no code with `runtime.budgets`: it knows only what the events say. Amounts are whole millionths.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...contracts import Event, Kind

MICRO = 1_000_000
_LOOSE = frozenset({Kind.TASK_ABORTING, Kind.TASK_CANCELING})
"""After these nobody is asked any more."""


@dataclass
class Level:
    """One thing that money is limited for, in one kind of amount."""

    limit: int | None = None
    held: Counter[str] = field(default_factory=Counter[str])
    """By who holds it."""
    spent: int = 0

    @property
    def over(self) -> int:
        return 0 if self.limit is None else max(0, self.held.total() + self.spent - self.limit)


class Bursar:
    """Everything that is held and spent, at the entry that was read last."""

    def __init__(self, caps: Mapping[str, Mapping[str, float | None]]) -> None:
        """`caps` are those of each tenant's day: `cents` and `minutes`, of the shard whose journal this is."""
        self._caps = caps
        self.levels: dict[tuple[str, str, str], Level] = {}
        """By kind of amount, level and name."""
        self.overspent = 0
        """The most, in millionths, that any level was ever over its limit."""
        self.peaks: Counter[str] = Counter()
        self._tenants: dict[str, str] = {}
        self._plans: dict[str, Mapping[str, Any]] = {}
        self._holding: dict[tuple[str, str, str], tuple[str, int]] = {}
        self._prices: dict[str, int] = {}
        self._lost: Counter[str] = Counter()
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._day, self._lost_now = "", 0
        self._held: dict[str, bool] = {}
        """Steps that are held, and whether they did, or may have done, something outside."""
        self._winding: set[str] = set()
        """Tasks that go back."""

    def read(self, events: Iterable[Event]) -> Iterator[str]:
        """What is wrong, in words, entry by entry."""
        for event in events:
            if event.task is not None:
                yield from self._note(event)

    def _note(self, event: Event) -> Iterator[str]:
        if event.kind is Kind.TASK_SUBMITTED:
            self._tenants[str(event.task)] = event.data["tenant"]
            self._plans[str(event.task)] = event.data
        name = f"{event.task}/{event.step}"
        if event.kind in _LOOSE:
            self._winding.add(str(event.task))
        match event.kind:
            case Kind.STEP_HELD:
                self._hold_up(event, name)
            case Kind.STEP_RESUMED:
                self._resume(event, name)
            case Kind.STEP_AWARDED:
                self._award(event, name)
            case Kind.STEP_COMPLETED if not _settles(name):
                self._free("cents", event, name)
                self._pay("cents", event, name, max(0, self._prices[name] - self._lost[name]))
            case Kind.STEP_FAILED:
                self._lose(event, name)
            case Kind.STEP_RETURNED:
                self._take_back(event, name)
            case Kind.APPROVAL_REQUESTED | Kind.APPROVAL_EDITED:
                self._ask(event, name)
            case Kind.APPROVAL_VOTED | Kind.APPROVAL_DECIDED:
                self._heard(event, name)
            case kind if kind in _LOOSE or kind.ends_task:
                self._forget(event)
            case _:
                return
        for key, level in self.levels.items():
            if level.over:
                self.overspent = max(self.overspent, level.over)
                yield f"{event.sequence} {event.kind}: {' '.join(key)} is over its limit by {level.over / MICRO:g}"

    def _hold_up(self, event: Event, name: str) -> None:
        """Where nobody knows whether it was done, what was reserved stays, less what models took already."""
        day, amount = self._holding.get(("cents", str(event.task), name), ("", 0))
        self._lose(event, name)
        if event.data["why"] == "outcome_unknown" and day:
            self._keep("cents", event, name, max(0, amount - self._lost_now), day)
        begun = "stay_with" in event.data["error"].get("ids", {})
        self._held[name] = self._held.get(name, False) or begun

    def _resume(self, event: Event, name: str) -> None:
        choice = event.data["choice"]
        late = choice == "not_happened" and str(event.task) in self._winding and not _settles(name)
        if choice in ("give_up", "by_hand") or late:
            self._free("cents", event, name)
        if choice == "by_hand" and not _settles(name):
            self._pay("cents", event, name, max(0, self._prices[name] - self._lost[name]))

    def _lose(self, event: Event, name: str) -> None:
        self._lost_now = round((event.data.get("spent_cents") or 0) * MICRO)
        self._free("cents", event, name)
        self._lost[name] += self._lost_now
        self._pay("cents", event, name, self._lost_now)

    def _take_back(self, event: Event, name: str) -> None:
        """A child has ended: what it cost is out of its step's price, and people's time out of its task's."""
        cost = round(event.data["cost_cents"] * MICRO)
        day, amount = self._holding.get(("cents", str(event.task), name), ("", 0))
        self._free("cents", event, name)
        self._lost[name] += cost
        self._pay("cents", event, name, cost)
        if day:
            self._keep("cents", event, name, max(0, amount - cost), day)
        for level in self._levels("minutes", event, name, ""):
            level.spent += round(event.data["minutes"] * MICRO)

    def _award(self, event: Event, name: str) -> None:
        if _settles(name):
            return
        self._free("cents", event, name)
        self._prices[name] = round(event.data["price_cents"] * MICRO)
        reserved = event.data.get("reserved")
        if reserved is not None:
            self._keep("cents", event, name, round(reserved["cents"] * MICRO), reserved["day"])

    def _ask(self, event: Event, name: str) -> None:
        self._free("minutes", event, name)
        terms = self._asked[name] = event.data.get("terms") or {"minutes": 0, "quorum": 1, "day": ""}
        if terms["day"]:
            self._keep("minutes", event, name, round(terms["minutes"] * terms["quorum"] * MICRO), terms["day"])

    def _heard(self, event: Event, name: str) -> None:
        """A person's yes or no took its minutes; what the clock decides took nobody's."""
        minutes = 0 if event.data.get("decision") == "expired" else round(self._asked[name]["minutes"] * MICRO)
        holding = self._holding.get(("minutes", str(event.task), name))
        self._free("minutes", event, name)
        self._pay("minutes", event, name, minutes)
        if event.kind is Kind.APPROVAL_VOTED and holding is not None:
            self._keep("minutes", event, name, holding[1] - minutes, holding[0])

    def _forget(self, event: Event) -> None:
        for what, task, name in list(self._holding):
            is_over = what == "minutes" or self._held.get(name) is False
            if task == event.task and is_over:
                self._free(what, event, name)

    def _keep(self, what: str, event: Event, name: str, amount: int, day: str) -> None:
        self._holding[what, str(event.task), name] = (day, amount)
        for level in self._levels(what, event, name, day):
            level.held[name] += amount
            self.peaks[what] = max(self.peaks[what], level.held.total())

    def _free(self, what: str, event: Event, name: str) -> None:
        day, _ = self._holding.pop((what, str(event.task), name), ("", 0))
        for level in self._levels(what, event, name, day):
            level.held.pop(name, None)
        self._day = day

    def _pay(self, what: str, event: Event, name: str, amount: int) -> None:
        for level in self._levels(what, event, name, self._day):
            level.spent += amount

    def _levels(self, what: str, event: Event, name: str, day: str) -> Iterator[Level]:
        task, tenant = str(event.task), self._tenants[str(event.task)]
        yield self._level(what, "task", task, self._limit_of_task(what, task))
        step = next(
            each for each in self._plans[task]["plan"]["steps"] if each["id"] == _plain(str(event.step or name))
        )
        own = (step.get("budget") or {}).get(_FIELDS[what])
        yield self._level(what, "step", name, own)
        if day and not (what == "cents" and self._plans[task].get("parent")):
            yield self._level(what, "tenant", f"{tenant} {day}", self._caps.get(tenant, {}).get(what))

    def _limit_of_task(self, what: str, task: str) -> float | None:
        data = self._plans[task]
        return data["budget_cents"] if what == "cents" else (data.get("budget") or {}).get("human_minutes")

    def _level(self, what: str, kind: str, name: str, limit: float | None) -> Level:
        key = (what, kind, name)
        if key not in self.levels:
            self.levels[key] = Level(None if limit is None else round(limit * MICRO))
        return self.levels[key]


_FIELDS = {"cents": "cents", "minutes": "human_minutes"}


def _settles(step: str) -> bool:
    """Undoing and confirming are free."""
    return step.endswith(("~", "+"))


def _plain(step: str) -> str:
    """The step of the plan that a member belongs to."""
    return step.rpartition("/")[2].rstrip("~+").partition("[")[0]
