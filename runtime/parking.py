"""Parking: steps that nobody can take now, in the order they came, until somebody can."""

from collections import deque
from collections.abc import Callable

from ..contracts import CapabilityName
from .execution import Run, StepRun


class Parking:
    """Waiting steps per capability."""

    def __init__(self, go_on: Callable[[Run], None]) -> None:
        self._go_on = go_on
        self._waiting: dict[CapabilityName, deque[tuple[Run, StepRun]]] = {}

    def park(self, run: Run, step: StepRun) -> None:
        step.parked = True
        self._waiting.setdefault(step.call, deque()).append((run, step))

    def look_again(self) -> None:
        """Lets waiting steps try, per capability until the first that has to wait on."""
        for name in list(self._waiting):
            self._try(name, self._waiting.pop(name))

    def _try(self, name: CapabilityName, waiting: deque[tuple[Run, StepRun]]) -> None:
        while waiting:
            run, step = waiting.popleft()
            step.parked = False
            if not run.status.terminal:
                self._go_on(run)
            if step.parked:
                self._waiting.setdefault(name, deque()).extend(waiting)
                return
