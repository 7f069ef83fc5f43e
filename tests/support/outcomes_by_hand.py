"""The figures of `contracts.outcomes` once more, in plain Python over a list of events: a second opinion on the SQL."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from hanse.contracts import Event, Kind
from hanse.contracts.outcomes import Outcome, Spread

Names = Mapping[str, Outcome]


def expected(events: Sequence[Event], tenant: str, since_ms: int, until_ms: int, by: str) -> Names:
    """Name to figures; with `by` empty there is one name, the empty one, at most."""
    tasks = [_Task(history) for history in _by_task(events).values()]
    own = [task for task in tasks if task.tenant == tenant]
    found: defaultdict[str, _Sums] = defaultdict(_Sums)
    for task in own:
        task.count(found, by, lambda at: since_ms < at <= until_ms)
    return {name: sums.outcome(name) for name, sums in found.items() if sums.seen}


def _by_task(events: Iterable[Event]) -> Mapping[str, list[Event]]:
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.task is not None:
            found[event.task].append(event)
    return found


class _Sums:
    """What is added up for one name."""

    def __init__(self) -> None:
        self.seen = False
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.spans: defaultdict[str, list[float]] = defaultdict(list)
        self.cents = self.model_cents = 0.0

    def outcome(self, name: str) -> Outcome:
        n = self.counts
        return Outcome(
            name=name,
            tasks=n["tasks"],
            completed=n["completed"],
            failed=n["failed"],
            canceled=n["canceled"],
            success_rate=_rate(n["completed"], n["tasks"]),
            cost_cents=round(self.cents, 6),
            cents_per_success=_rate(self.cents, n["completed"]),
            model_cents=round(self.model_cents, 6),
            model_cost_share=_rate(self.model_cents, self.cents),
            asked=n["asked"],
            intervention_rate=_rate(n["asked"], n["tasks"]),
            decided=n["decided"],
            overridden=n["overridden"],
            override_rate=_rate(n["overridden"], n["decided"]),
            compensated=n["compensated"],
            compensation_rate=_rate(n["compensated"], n["tasks"]),
            steps=n["steps"],
            retries=n["retries"],
            retries_per_step=_rate(n["retries"], n["steps"]),
            refusals=dict(self.refusals),
            deciding=_spread(self.spans["deciding"]),
            recovering=_spread(self.spans["recovering"]),
            calling=_spread(self.spans["calling"]),
            lasting=_spread(self.spans["lasting"]),
        )


class _Task:
    """One task's events, looked through as often as there are questions."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.first, self.last, self.events = events[0], events[-1], events
        self.tenant = self.first.data["tenant"]
        self.steps = list(dict.fromkeys(event.step for event in events if event.step))

    def count(self, found: Mapping[str, _Sums], by: str, within: Any) -> None:
        if self.last.kind.ends_task and within(self.last.at_ms):
            for name in {name for step in self._called() if (name := self._name(step, by)) is not None} | (
                {"": {""}, "tenant": {self.tenant}}.get(by, set())
            ):
                self._count_task(found[name], [step for step in self._called() if self._name(step, by) == name])
        for step in self.steps:
            if (name := self._name(step, by)) is not None:
                self._count_step(found[name], step, within)
                self._count_decisions(found[name], step, within)

    def _count_task(self, sums: _Sums, steps: Sequence[str]) -> None:
        status = self.last.kind.partition(".")[2]
        sums.seen = True
        sums.counts.update({"tasks": 1, status: 1})
        sums.counts["asked"] += any(self._needed_a_person(step) for step in steps)
        sums.counts["compensated"] += any(self._is_done(f"{step}~") for step in steps)
        for step in steps:
            in_vain = sum(event.data.get("spent_cents") or 0.0 for event in self.events if event.step == step)
            price = self._of(step, Kind.STEP_AWARDED)[-1].data["price_cents"] if self._is_done(step) else 0.0
            sums.cents += max(price, in_vain)
        for step in filter(self._is_done, steps):
            sums.model_cents += sum(event.data["model_cents"] for event in self._of(step, Kind.STEP_COMPLETED))
        if status == "completed":
            sums.spans["lasting"].append(self.last.at_ms - self.first.at_ms)

    def _count_step(self, sums: _Sums, step: str, within: Any) -> None:
        end = self._end(step)
        if end is None or not within(end.at_ms):
            return
        sums.seen = True
        again = [event for event in self._of(step, Kind.STEP_FAILED) if event.data["retry_at_ms"] is not None]
        if self._of(step, Kind.STEP_AWARDED):
            sums.counts.update(steps=1, retries=len(again))
        kinds = (Kind.STEP_INTERRUPTED, Kind.STEP_HELD)
        trouble = [event.at_ms for event in (*again, *(event for kind in kinds for event in self._of(step, kind)))]
        if self._is_done(step):
            sums.spans["calling"] += [end.data["latency_ms"]] if end.kind is Kind.STEP_COMPLETED else []
            sums.spans["recovering"] += [end.at_ms - min(trouble)] if trouble else []
        elif end.kind is Kind.STEP_FAILED and end.data["error"]["branch"] == "policy":
            sums.refusals[end.data["error"]["code"]] += 1

    def _count_decisions(self, sums: _Sums, step: str, within: Any) -> None:
        asked = 0
        for event in self.events:
            if event.step == step and event.kind is Kind.APPROVAL_REQUESTED:
                asked = event.at_ms
            elif event.step == step and _is_by_a_person(event) and within(event.at_ms):
                sums.seen = True
                sums.counts.update(decided=1, overridden=event.data["decision"] == "denied")
                sums.spans["deciding"].append(event.at_ms - asked)

    def _called(self) -> list[str]:
        """Steps that were tried, asked about, or refused; none that settles another, none that only became members."""
        quiet = (Kind.STEP_SKIPPED, Kind.STEP_EXPANDED)
        return [
            step
            for step in self.steps
            if not step.endswith(("~", "+")) and any(e.step == step and e.kind not in quiet for e in self.events)
            if not self._of(step, Kind.STEP_SKIPPED)
        ]

    def _name(self, step: str, by: str) -> str | None:
        if by == "agent":
            awards = self._of(step, Kind.STEP_AWARDED)
            return awards[-1].data["agent"] if awards else None
        return {"": "", "tenant": self.tenant, "capability": self._capability(step)}[by]

    def _capability(self, step: str) -> str:
        base = step.removesuffix("~").removesuffix("+").split("[")[0]
        call = next(each["call"] for each in self.first.data["plan"]["steps"] if each["id"] == base)
        settles = {"~": "undo", "+": "confirm"}.get(step[-1])
        return self.first.data["pins"][call][settles]["capability"] if settles else call

    def _end(self, step: str) -> Event | None:
        return next((event for event in self.events if event.step == step and _settles(event)), None)

    def _is_done(self, step: str) -> bool:
        end = self._end(step)
        return end is not None and (end.kind is Kind.STEP_COMPLETED or end.data.get("choice") == "by_hand")

    def _needed_a_person(self, step: str) -> bool:
        held = [event for each in (step, f"{step}~", f"{step}+") for event in self._of(each, Kind.STEP_HELD)]
        return bool(held or self._of(step, Kind.APPROVAL_REQUESTED))

    def _of(self, step: str, kind: Kind) -> list[Event]:
        return [event for event in self.events if event.step == step and event.kind is kind]


def _settles(event: Event) -> bool:
    if event.kind is Kind.STEP_FAILED:
        return event.data["retry_at_ms"] is None
    if event.kind is Kind.STEP_RESUMED:
        return event.data["choice"] in ("by_hand", "give_up")
    return event.kind is Kind.STEP_COMPLETED


def _is_by_a_person(event: Event) -> bool:
    return event.kind is Kind.APPROVAL_DECIDED and event.data["decision"] != "expired"


def _rate(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _spread(values: Sequence[float]) -> Spread:
    ranked = sorted(values)

    def at(percent: int) -> float | None:
        return ranked[ceil(len(ranked) * percent / 100) - 1] / 1000 if ranked else None

    return Spread(count=len(ranked), p50=at(50), p95=at(95), p99=at(99))
