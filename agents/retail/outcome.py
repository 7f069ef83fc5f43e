"""What became of a customer's actions, read from the steps of the plan that answered them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .plans import Action

NOT_REACHED = "nobody was identified"
_SILENT = frozenset({"label", "contact", "notice"})
"""Steps that decide nothing: an order is returned whether or not a label was found for it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action."""

    action: Action
    ok: bool
    error: str | None = None
    """The refusal in words."""


def outcomes(actions: Sequence[Action], steps: Mapping[str, str | None]) -> list[Outcome]:
    """By step id: None for a completed step, the error in words for a failed one; skipped steps are left out.

    An action is done when some of its deciding steps completed and none failed.
    """
    return [_outcome(action, _deciding(number, steps)) for number, action in enumerate(actions)]


def _outcome(action: Action, steps: Mapping[str, str | None]) -> Outcome:
    errors = [error for error in steps.values() if error is not None]
    if errors or not steps:
        return Outcome(action, False, errors[0] if errors else NOT_REACHED)
    return Outcome(action, True)


def _deciding(number: int, steps: Mapping[str, str | None]) -> dict[str, str | None]:
    parts = {step: step.partition("_") for step in steps}
    return {
        step: error for step, error in steps.items() if parts[step][0] == f"a{number}" and parts[step][2] not in _SILENT
    }
