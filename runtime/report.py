"""What a run amounts to, counted from its events alone: the journal is the truth, and figures come from nowhere else.

`Tally` takes events one at a time, as a live board needs it; `Report.of` counts a whole list. Both give the same.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..contracts import CapabilityName, Contract, Event, JsonObject, Kind

RECENT = 8
"""Awards and recoveries that a tally remembers for showing."""

Effects = Mapping[CapabilityName, bool]
"""Capability to whether it changes anything."""


def effects_of(contracts: Iterable[Contract]) -> dict[CapabilityName, bool]:
    """What `Report.of` needs to tell effects from reads."""
    return {contract.name: contract.effect.writes for contract in contracts}


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a run. Times in milliseconds, money in cents."""

    tasks: Mapping[str, int] = field(default_factory=dict[str, int])
    """Count per status; what has not ended is `open`."""
    steps: Mapping[str, int] = field(default_factory=dict[str, int])
    """Count of completed, failed, skipped, compensated, inherited; members of a `for_each` count each."""
    bids: int = 0
    bids_declined: int = 0
    """Agents that would not, with a reason."""
    awards: int = 0
    contested: int = 0
    """Awards with more than one agent willing."""
    refusals: Mapping[str, int] = field(default_factory=dict[str, int])
    """Steps that a policy refused, per code."""
    approvals: Mapping[str, int] = field(default_factory=dict[str, int])
    """asked, approved, denied, expired, waiting."""
    retries: int = 0
    """Attempts that failed and were followed by another."""
    interruptions: int = 0
    """Calls whose outcome was unknown for a while: the agent was gone."""
    recoveries: int = 0
    """Agents that came back and coordinators that took up again."""
    effects: int = 0
    """Completed steps that changed something. Needs the contracts; 0 without them."""
    effects_doubled: int = 0
    """Of these, how many the journal shows to have run twice. Always 0, or something is broken."""
    receipts: int = 0
    """Calls that came twice and were answered from the receipt, with nothing run."""
    step_p50_ms: float | None = None
    step_p95_ms: float | None = None
    task_p50_ms: float | None = None
    task_p95_ms: float | None = None
    cost_cents: float = 0
    seconds: float = 0
    """From the first event to the last."""
    events: int = 0

    @staticmethod
    def of(events: Iterable[Event], effects: Effects | None = None) -> "Report":
        """The figures of a list of events. Events in the order of their sequence, shard by shard."""
        tally = Tally(effects or {})
        for event in events:
            tally.add(event)
        return tally.report()

    def to_data(self) -> JsonObject:
        """As `--json` shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AwardSeen:
    """One award, for showing."""

    task: str
    step: str
    agent: str
    reason: str
    bids: int


@dataclass(slots=True)
class Tally:
    """Figures that grow with each event, in memory proportional to tasks and steps."""

    effects: Effects = field(default_factory=dict[CapabilityName, bool])
    events: int = 0
    tasks: dict[str, str] = field(default_factory=dict[str, str])
    """Task to status: `open`, `completed`, `failed`, `canceled`."""
    steps: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Step to its last known status."""
    in_flight: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Step to the agent that works on it."""
    waiting: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Approval to what was asked, while nobody decided."""
    counts: Counter[str] = field(default_factory=Counter[str])
    refusals: Counter[str] = field(default_factory=Counter[str])
    awards: deque[AwardSeen] = field(default_factory=lambda: deque[AwardSeen](maxlen=RECENT))
    """The last awards that only one agent was there for."""
    contests: deque[AwardSeen] = field(default_factory=lambda: deque[AwardSeen](maxlen=RECENT // 2))
    """The last awards that more than one agent wanted."""
    happenings: deque[str] = field(default_factory=lambda: deque[str](maxlen=RECENT))
    """Losses and recoveries in words, the last ones."""
    step_ms: list[float] = field(default_factory=list[float])
    task_ms: list[float] = field(default_factory=list[float])
    cost_cents: float = 0
    first_ms: int | None = None
    last_ms: int = 0
    _submitted: dict[str, int] = field(default_factory=dict[str, int])
    _plans: dict[str, dict[str, CapabilityName]] = field(default_factory=dict[str, dict[str, CapabilityName]])
    _incarnations: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, event: Event) -> None:
        """Counts one event. An event that is not known changes only their number."""
        self.events += 1
        self.first_ms = event.at_ms if self.first_ms is None else self.first_ms
        self.last_ms = max(self.last_ms, event.at_ms)
        if count := _COUNTING.get(event.kind):
            count(self, event)

    def report(self) -> Report:
        return Report(
            tasks=dict(Counter(self.tasks.values())),
            steps=dict(Counter(self.steps.values())),
            bids=self.counts["bids"],
            bids_declined=self.counts["declined"],
            awards=self.counts["awards"],
            contested=self.counts["contested"],
            refusals=dict(self.refusals),
            approvals={name: self.counts[name] for name in _ASKED if self.counts[name]}
            | ({"waiting": len(self.waiting)} if self.waiting else {}),
            retries=self.counts["retries"],
            interruptions=self.counts["interruptions"],
            recoveries=self.counts["recoveries"],
            effects=self.counts["effects"],
            effects_doubled=self.counts["doubled"],
            receipts=self.counts["receipts"],
            step_p50_ms=percentile(self.step_ms, 50),
            step_p95_ms=percentile(self.step_ms, 95),
            task_p50_ms=percentile(self.task_ms, 50),
            task_p95_ms=percentile(self.task_ms, 95),
            cost_cents=self.cost_cents,
            seconds=(self.last_ms - (self.first_ms or self.last_ms)) / 1000,
            events=self.events,
        )

    def _task_submitted(self, event: Event) -> None:
        task = str(event.task)
        self.tasks.setdefault(task, "open")
        self._submitted.setdefault(task, event.at_ms)
        steps = (event.data.get("plan") or {}).get("steps", [])
        self._plans[task] = {step["id"]: CapabilityName(step["call"].partition("@")[0]) for step in steps}

    def _task_ended(self, event: Event) -> None:
        task = str(event.task)
        self.tasks[task] = event.kind.partition(".")[2]
        self.cost_cents += event.data.get("cost_cents") or 0
        if task in self._submitted:
            self.task_ms.append(event.at_ms - self._submitted.pop(task))

    def _awarded(self, event: Event) -> None:
        bids = event.data.get("bids") or []
        willing = [bid for bid in bids if not bid.get("refusal")]
        agent = str(event.data.get("agent"))
        self.counts.update(awards=1, bids=len(bids), declined=len(bids) - len(willing), contested=int(len(willing) > 1))
        self.in_flight[_step(event)] = agent
        self.steps[_step(event)] = "working"
        (self.contests if len(willing) > 1 else self.awards).append(
            AwardSeen(*_step(event), agent, event.data.get("reason", ""), len(bids))
        )

    def _interrupted(self, event: Event) -> None:
        self.counts["interruptions"] += 1
        self.happenings.append(
            f"{event.data.get('agent')} lost while doing {event.step}: {event.data.get('reason', '')}"
        )

    def _completed(self, event: Event) -> None:
        step = _step(event)
        again = self.steps.get(step) in ("completed", "compensated")
        self.in_flight.pop(step, None)
        self.counts["receipts"] += bool(event.data.get("replayed"))
        self.step_ms.extend([event.data["latency_ms"]] if event.data.get("latency_ms") is not None else [])
        if self._changes(event):
            self.counts["doubled" if again else "effects"] += 1
        self.steps[step] = "compensated" if step[1].endswith("~") else "completed"

    def _failed(self, event: Event) -> None:
        self.in_flight.pop(_step(event), None)
        if event.data.get("retry_at_ms") is not None:
            self.counts["retries"] += 1
            self.steps[_step(event)] = "retrying"
            return
        self.steps[_step(event)] = "failed"
        error = event.data.get("error") or {}
        if error.get("branch") == "policy":
            self.refusals[error.get("code", "policy")] += 1

    def _skipped(self, event: Event) -> None:
        self.steps[_step(event)] = "skipped"

    def _inherited(self, event: Event) -> None:
        """Another task has done it, and counts it."""
        self.steps[_step(event)] = "inherited"

    def _expanded(self, event: Event) -> None:
        """The step itself runs nothing: its members are the steps that count."""
        self.steps.pop(_step(event), None)

    def _asked(self, event: Event) -> None:
        self.counts["asked"] += 1
        self.waiting[str(event.data.get("approval"))] = event.data

    def _decided(self, event: Event) -> None:
        self.counts[event.data.get("decision", "decided")] += 1
        self.waiting.pop(str(event.data.get("approval")), None)

    def _joined(self, event: Event) -> None:
        agent, incarnation = str(event.data.get("agent")), str(event.data.get("incarnation"))
        if self._incarnations.get(agent, incarnation) != incarnation:
            self.counts["recoveries"] += 1
            self.happenings.append(f"{agent} is back")
        self._incarnations[agent] = incarnation

    def _left(self, event: Event) -> None:
        self._incarnations.setdefault(str(event.data.get("agent")), "")
        self.happenings.append(f"{event.data.get('agent')} is gone: {event.data.get('reason', '')}")

    def _coordinator_started(self, event: Event) -> None:
        if event.data.get("tasks"):
            self.counts["recoveries"] += 1
            self.happenings.append(f"coordinator {event.data.get('shard', 0)} took up {event.data['tasks']} open tasks")

    def _changes(self, event: Event) -> bool:
        task, step = _step(event)
        name = step.removesuffix("~").partition("[")[0]
        call = self._plans.get(task, {}).get(name)
        return step.endswith("~") or bool(call and self.effects.get(call))


_ASKED = ("asked", "approved", "denied", "expired")
_COUNTING = {
    Kind.TASK_SUBMITTED: Tally._task_submitted,
    Kind.TASK_COMPLETED: Tally._task_ended,
    Kind.TASK_FAILED: Tally._task_ended,
    Kind.TASK_CANCELED: Tally._task_ended,
    Kind.STEP_EXPANDED: Tally._expanded,
    Kind.STEP_INHERITED: Tally._inherited,
    Kind.STEP_AWARDED: Tally._awarded,
    Kind.STEP_INTERRUPTED: Tally._interrupted,
    Kind.STEP_COMPLETED: Tally._completed,
    Kind.STEP_FAILED: Tally._failed,
    Kind.STEP_SKIPPED: Tally._skipped,
    Kind.APPROVAL_REQUESTED: Tally._asked,
    Kind.APPROVAL_DECIDED: Tally._decided,
    Kind.AGENT_JOINED: Tally._joined,
    Kind.AGENT_LEFT: Tally._left,
    Kind.COORDINATOR_STARTED: Tally._coordinator_started,
}


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value with at least `share` percent of all at or below it. None of nothing."""
    if not values:
        return None
    rank = -(-len(values) * share // 100)
    return sorted(values)[max(0, int(rank) - 1)]


def _step(event: Event) -> tuple[str, str]:
    return str(event.task), str(event.step)
