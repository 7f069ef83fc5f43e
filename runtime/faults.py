"""The points of a coordinator's and a gateway's work at which a test may kill the process.

There are two for each kind of event that moves a task on: before its commit has begun, when only memory knows of it,
and after it is on disk, when nobody outside knows of it yet. Undoing has its own, and so has recovery. The agents'
points are in `agents.faults`.
"""

from typing import Final

from ..contracts import Kind

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


def before(kind: Kind, *, undoing: bool = False) -> str:
    """Appended, in memory only."""
    return f"coordinator.before.{'undo.' if undoing else ''}{kind}"


def after(kind: Kind, *, undoing: bool = False) -> str:
    """On disk, not acted upon."""
    return f"coordinator.after.{'undo.' if undoing else ''}{kind}"


POINTS: Final = (
    *(side(kind) for kind in _KINDS for side in (before, after)),
    *(side(kind, undoing=True) for kind in _UNDOING for side in (before, after)),
    RECOVERING,
)
"""Of the coordinator."""
