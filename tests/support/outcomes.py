"""Journals made up with their times, for figures that are worked out by hand."""

from typing import Any

from hanse.contracts import Epoch, Event, Kind, Sequence, StepId, TaskId

SECOND = 1000


class Book:
    """Entries of one journal, each at a moment in milliseconds of the test's choice."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, at_ms: int, kind: str, task: str | None, step: str | None = None, **data: Any) -> None:
        """A kind that is none of ours stays as it is written, as in a journal of a later version."""
        number = len(self.events) + 1
        known: Any = Kind(kind) if kind in tuple(Kind) else kind
        about = (TaskId(task) if task else None, StepId(step) if step else None)
        self.events.append(Event(Sequence(number), Epoch(1), at_ms, known, *about, data))

    def submitted(self, at_ms: int, task: str, tenant: str = "acme", **steps: str) -> None:
        """`steps` says which capability each calls; `undo` and `confirm` are no steps, they settle all of them."""
        settling = {by: {"capability": steps.pop(by)} if by in steps else None for by in ("undo", "confirm")}
        plan = {"steps": [{"id": id, "call": call, "input": {}} for id, call in steps.items()], "output": None}
        pins = {call.partition("@")[0]: {"version": "1.0", "effect": "read", **settling} for call in steps.values()}
        self.add(at_ms, "task.submitted", task, tenant=tenant, plan=plan, pins=pins)

    def awarded(self, at_ms: int, task: str, step: str, agent: str = "a", price: float = 0, attempt: int = 1) -> None:
        self.add(at_ms, "step.awarded", task, step, agent=agent, price_cents=price, attempt=attempt)

    def completed(self, at_ms: int, task: str, step: str, latency_ms: float = 10, model_cents: float = 0) -> None:
        self.add(at_ms, "step.completed", task, step, latency_ms=latency_ms, model_cents=model_cents, output={})

    def failed(
        self, at_ms: int, task: str, step: str, code: str = "failed", branch: str = "permanent", again: bool = False
    ) -> None:
        error = {"code": code, "branch": branch, "detail": "", "ids": {}}
        self.add(at_ms, "step.failed", task, step, error=error, attempt=1, retry_at_ms=at_ms + 1 if again else None)

    def asked(self, at_ms: int, task: str, step: str) -> None:
        self.add(at_ms, "approval.requested", task, step, approval=f"{task}:{step}")

    def decided(self, at_ms: int, task: str, step: str, decision: str = "approved", **more: Any) -> None:
        self.add(at_ms, "approval.decided", task, step, approval=f"{task}:{step}", decision=decision, **more)

    def ended(self, at_ms: int, task: str, status: str = "completed", cost: float = 0) -> None:
        self.add(at_ms, f"task.{status}", task, cost_cents=cost)
