"""What the parts of a coordinator ask of it: to write down what happened, and to go on."""

from collections.abc import Sequence
from typing import Protocol

from ..contracts import AgentId, Event, HanseError, JsonObject, Kind
from .directory import Member
from .execution import Run, StepRun


class Driver(Protocol):
    """The coordinator, as its parts see it."""

    def record(self, run: Run, kind: Kind, step: StepRun | None, data: JsonObject) -> Event:
        """Folds and journals an event. Nothing else changes a run."""
        ...

    def fail(self, run: Run, step: StepRun, error: HanseError, agent: AgentId | None) -> None:
        """An attempt has failed; the type of the error carries the verdict."""
        ...

    def advance(self, run: Run) -> None:
        """Does what has become possible."""
        ...

    def eligible(self, step: StepRun) -> Sequence[Member]:
        """Who may take the step now."""
        ...
