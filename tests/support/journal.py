"""Events, made up: a short way to write down a history for tests of what is counted and drawn from one."""

from itertools import count
from typing import Any

from hanse.contracts import Epoch, Event, Kind, Sequence, StepId, TaskId


class History:
    """Events in the order in which they are written down, a hundred milliseconds apart."""

    def __init__(self, task: str = "t1") -> None:
        self.task = task
        self.events: list[Event] = []
        self._numbers = count(1)

    def add(self, kind: Kind, step: str | None = None, /, *, of: str | None = "", **data: Any) -> Event:
        """`of` is another task, or None for an event of the federation itself."""
        number = next(self._numbers)
        task = self.task if of == "" else of
        at_ms = 1_764_000_000_000 + 100 * number
        event = Event(
            Sequence(number),
            Epoch(1),
            at_ms,
            kind,
            TaskId(task) if task else None,
            StepId(step) if step else None,
            data,
        )
        self.events.append(event)
        return event

    def submitted(self, *calls: str, of: str = "") -> Event:
        """A task with a step for each `id=call`."""
        steps = [{"id": id, "call": call, "input": {}} for id, call in (each.split("=") for each in calls)]
        return self.add(Kind.TASK_SUBMITTED, of=of, plan={"steps": steps, "output": None})

    def awarded(self, step: str, agent: str = "north", attempt: int = 1, bids: Any = None, of: str = "") -> Event:
        offered = bids if bids is not None else [{"agent": agent, "price_cents": 1, "latency_ms": 5, "refusal": ""}]
        data = {"agent": agent, "attempt": attempt, "reason": "the cheapest", "bids": offered, "price_cents": 1}
        return self.add(Kind.STEP_AWARDED, step, of=of, **data)

    def completed(self, step: str, agent: str = "north", latency_ms: float = 5, replayed: bool = False) -> Event:
        return self.add(Kind.STEP_COMPLETED, step, agent=agent, latency_ms=latency_ms, replayed=replayed, output={})

    def failed(self, step: str, code: str = "failed", branch: str = "permanent", again_ms: int | None = None) -> Event:
        error = {"code": code, "branch": branch, "detail": f"it is {code}", "ids": {}}
        return self.add(Kind.STEP_FAILED, step, agent="north", attempt=1, error=error, retry_at_ms=again_ms)
