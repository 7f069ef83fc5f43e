"""What one event of a journal says about outcomes, as rows: a pure function of the event.

A batch of rows is merged into tables by `statistics.sql`. A row of a step says only what its event says; the rest is
null, zero or false, and the merge puts the rows of one step together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...contracts import Event


def _typed(*, text: str = "", whole: str = "", real: str = "", truth: str = "") -> dict[str, str]:
    """Columns and their types, as Arrow names them."""
    of = {"string": text, "int64": whole, "double": real, "bool": truth}
    return {name: type for type, names in of.items() for name in names.split()}


COLUMNS: Mapping[str, Mapping[str, str]] = {
    "incoming_task": _typed(text="task tenant", whole="at_ms", truth="is_child"),
    "incoming_end": _typed(text="task status", whole="at_ms", real="cost_cents"),
    "incoming_plan": _typed(text="task base capability undo confirm"),
    "incoming_step": _typed(
        text="task step base status agent refusal",
        whole="sequence status_ms attempts retries down_ms",
        real="price in_vain child_cents latency_ms model_cents",
        truth="asked undone",
    ),
    "incoming_question": _typed(text="task step base approval", whole="sequence at_ms"),
    "incoming_decision": _typed(text="approval decision", whole="sequence at_ms", truth="overridden"),
    "incoming_call": _typed(text="tenant agent capability tier outcome", whole="at_ms tokens", real="cents"),
}
"""Table to its columns."""

_DEFAULTS = {"in_vain": 0.0, "child_cents": 0.0, "attempts": 0, "retries": 0, "asked": False, "undone": False}
MICROCENTS = 1_000_000


@dataclass(slots=True)
class Batch:
    """Rows by table, column by column."""

    columns: dict[str, dict[str, list[Any]]] = field(default_factory=dict[str, dict[str, list[Any]]])

    def __post_init__(self) -> None:
        for table, names in COLUMNS.items():
            self.columns[table] = {name: [] for name in names}

    def take(self, event: Event) -> None:
        """Adds what an event says. One of a kind that says nothing about outcomes adds nothing."""
        if read := _READ.get(str(event.kind)):
            read(self, event)

    def add(self, table: str, **values: Any) -> None:
        for name, column in self.columns[table].items():
            column.append(values.get(name, _DEFAULTS.get(name)))

    def _submitted(self, event: Event) -> None:
        data = event.data
        is_child = data.get("parent") is not None
        self.add("incoming_task", at_ms=event.at_ms, task=event.task, tenant=data.get("tenant"), is_child=is_child)
        pins = data.get("pins") or {}
        for step in (data.get("plan") or {}).get("steps", []):
            name = step["call"].partition("@")[0]
            settling = {by: ((pins.get(name) or {}).get(by) or {}).get("capability") for by in ("undo", "confirm")}
            self.add("incoming_plan", task=event.task, base=step["id"], capability=name, **settling)

    def _ended(self, event: Event) -> None:
        status, cost = str(event.kind).partition(".")[2], event.data.get("cost_cents") or 0.0
        self.add("incoming_end", at_ms=event.at_ms, task=event.task, status=status, cost_cents=cost)

    def _awarded(self, event: Event) -> None:
        data = event.data
        price = data.get("price_cents") or 0.0
        self._step(event, "working", agent=data.get("agent"), price=price, attempts=data.get("attempt") or 1)

    def _returned(self, event: Event) -> None:
        """What a child task cost is out of the step's price, and counts where it was spent."""
        self._step(event, child_cents=event.data.get("cost_cents") or 0.0)

    def _interrupted(self, event: Event) -> None:
        self._step(event, down_ms=event.at_ms)

    def _completed(self, event: Event) -> None:
        data = event.data
        self._step(event, "completed", latency_ms=data.get("latency_ms"), model_cents=data.get("model_cents") or 0.0)
        self._undid(event)

    def _failed(self, event: Event) -> None:
        error = event.data.get("error") or {}
        if event.data.get("retry_at_ms") is not None:
            self._step(event, "retrying", retries=1, down_ms=event.at_ms, in_vain=_in_vain(event))
        else:
            refusal = error.get("code", "policy") if error.get("branch") == "policy" else None
            self._step(event, "failed", refusal=refusal, in_vain=_in_vain(event))

    def _skipped(self, event: Event) -> None:
        self._step(event, "skipped")

    def _asked(self, event: Event) -> None:
        self._step(event, "waiting", asked=True)
        self.add(
            "incoming_question",
            sequence=event.sequence,
            at_ms=event.at_ms,
            task=event.task,
            step=event.step,
            base=_base(str(event.step)),
            approval=event.data.get("approval"),
        )

    def _held(self, event: Event) -> None:
        self._step(event, "held", asked=True, down_ms=event.at_ms, in_vain=_in_vain(event))
        if str(event.step).endswith(_SETTLING):
            self._of_settled(event, asked=True)

    def _resumed(self, event: Event) -> None:
        choice = event.data.get("choice")
        if choice == "by_hand":
            self._step(event, "completed", model_cents=0.0)
            self._undid(event)
        else:
            self._step(event, "failed" if choice == "give_up" else "waiting")

    def _decided(self, event: Event) -> None:
        data = event.data
        decision = str(data.get("decision"))
        self.add(
            "incoming_decision",
            sequence=event.sequence,
            at_ms=event.at_ms,
            approval=data.get("approval"),
            decision=decision,
            overridden=decision in _OVERRIDING or bool(data.get("edited")),
        )

    def _called(self, event: Event) -> None:
        data = event.data
        self.add(
            "incoming_call",
            at_ms=event.at_ms,
            **{name: data.get(name) for name in ("tenant", "agent", "capability", "tier", "outcome")},
            cents=(data.get("microcents") or 0) / MICROCENTS,
            tokens=(data.get("prompt_tokens") or 0) + (data.get("completion_tokens") or 0),
        )

    def _undid(self, event: Event) -> None:
        if str(event.step).endswith("~"):
            self._of_settled(event, undone=True)

    def _of_settled(self, event: Event, **said: Any) -> None:
        """What a compensation or a confirmation says about the step that it settles."""
        step = str(event.step)[:-1]
        self.add("incoming_step", task=event.task, step=step, base=_base(step), sequence=event.sequence, **said)

    def _step(self, event: Event, status: str | None = None, **said: Any) -> None:
        step = str(event.step)
        when = event.at_ms if status else None
        about = {"task": event.task, "step": step, "base": _base(step), "sequence": event.sequence}
        self.add("incoming_step", **about, status=status, status_ms=when, **said)


def _in_vain(event: Event) -> float:
    """What an attempt that did not succeed cost, in cents: it is part of the price of one that does."""
    return event.data.get("spent_cents") or 0.0


def _base(step: str) -> str:
    """The step of the plan that a member, a compensation or a confirmation belongs to: `s` of `s[2]~`."""
    return step.rstrip("".join(_SETTLING)).partition("[")[0]


_SETTLING = ("~", "+")
"""What the ids of compensations and confirmations end in."""
_OVERRIDING = ("denied", "edited")

_READ: Mapping[str, Callable[[Batch, Event], None]] = {
    "task.submitted": Batch._submitted,
    "task.completed": Batch._ended,
    "task.failed": Batch._ended,
    "task.canceled": Batch._ended,
    "step.awarded": Batch._awarded,
    "step.returned": Batch._returned,
    "step.interrupted": Batch._interrupted,
    "step.completed": Batch._completed,
    "step.failed": Batch._failed,
    "step.skipped": Batch._skipped,
    "step.held": Batch._held,
    "step.resumed": Batch._resumed,
    "approval.requested": Batch._asked,
    "approval.decided": Batch._decided,
    "model.called": Batch._called,
}
"""By the kind's name, because a journal may have been written by a version with kinds that this one does not know."""
