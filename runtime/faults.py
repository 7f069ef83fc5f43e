"""The points of a coordinator's and a gateway's work at which a test may kill the process.

There are two for each kind of event: before its commit has begun, when only memory knows of it, and after it is on
disk, when nobody outside knows of it yet. Undoing has its own, and so has recovery. `POINTS` are those that plans of
calls, questions and refusals come by; `RARE_POINTS` need somebody who dies, steps in or asks for more. The agents'
points are in `agents.faults`.
"""

from typing import Final

from ..contracts import Kind
from ..contracts.ports import Faults
from .journal import Journal

RECOVERING: Final = "coordinator.recovering"
"""Open tasks are folded again; the new reign is not journaled yet. Only reached when there are open tasks."""
BEFORE_ANSWER: Final = "gateway.before_answer"
"""The task is on disk; its caller has not been told."""

_KINDS = (
    Kind.TASK_SUBMITTED,
    Kind.STEP_EXPANDED,
    Kind.STEP_SKIPPED,
    Kind.STEP_AWARDED,
    Kind.STEP_COMPLETED,
    Kind.STEP_FAILED,
    Kind.APPROVAL_REQUESTED,
    Kind.APPROVAL_DECIDED,
    Kind.TASK_ABORTING,
    Kind.TASK_CANCELING,
    Kind.TASK_COMPLETED,
    Kind.TASK_FAILED,
    Kind.TASK_CANCELED,
)
_UNDOING = (Kind.STEP_AWARDED, Kind.STEP_COMPLETED)
_UNDOING_RARELY = (Kind.STEP_HELD, Kind.STEP_RESUMED)
"""What was done cannot be undone, until somebody sees to it."""
_RARE = (
    Kind.AGENT_JOINED,
    Kind.AGENT_LEFT,
    Kind.STEP_INTERRUPTED,
    Kind.STEP_SUSPECTED,
    Kind.STEP_HELD,
    Kind.STEP_RESUMED,
    Kind.STEP_DELEGATED,
    Kind.STEP_RETURNED,
    Kind.STEP_INHERITED,
    Kind.APPROVAL_VOTED,
    Kind.APPROVAL_EDITED,
    Kind.APPROVAL_ESCALATED,
)


def before(kind: Kind, *, undoing: bool = False) -> str:
    """Appended, in memory only."""
    return f"coordinator.before.{'undo.' if undoing else ''}{kind}"


def after(kind: Kind, *, undoing: bool = False) -> str:
    """On disk, not acted upon."""
    return f"coordinator.after.{'undo.' if undoing else ''}{kind}"


def pass_by(faults: Faults, journal: Journal, kind: Kind, *, undoing: bool = False) -> None:
    """Comes by both sides of the commit that an event which was just appended will be part of."""
    faults.reach(before(kind, undoing=undoing))
    journal.then(lambda: faults.reach(after(kind, undoing=undoing)))


POINTS: Final = (
    *(side(kind) for kind in _KINDS for side in (before, after)),
    *(side(kind, undoing=True) for kind in _UNDOING for side in (before, after)),
    RECOVERING,
)
"""Of the coordinator."""
RARE_POINTS: Final = (
    *(side(kind) for kind in _RARE for side in (before, after)),
    *(side(kind, undoing=True) for kind in _UNDOING_RARELY for side in (before, after)),
)
"""Of the coordinator too."""
MIGRATION_POINTS: Final = tuple(side(Kind.TASK_REPINNED) for side in (before, after))
"""Of `hanse up --stranded migrate`, while no coordinator runs."""
