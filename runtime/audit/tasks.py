"""Whether a coordinator's table of tasks says what its journal says.

The journal is the truth, and the table is what a start reads to know which tasks are open: a task whose row said that
it had ended would be forgotten, whatever the journal holds.
"""

from ...contracts import Event, Kind, TaskStatus
from ..execution import STATUS_OF
from .readable import Readable

WATCHED = frozenset({Kind.TASK_SUBMITTED, *STATUS_OF})
_STATUSES = frozenset(map(str, TaskStatus))


class TaskTable:
    """Takes the events of `WATCHED` in, in order. Holds the tasks that have not ended yet."""

    def __init__(self, store: Readable) -> None:
        self._store = store
        self._open: dict[str, str] = {}

    def problem(self, event: Event) -> str:
        """What the table says otherwise. It may be ahead of the events, never behind them."""
        if event.task is None:
            return f"{event.kind} is about no task"
        if event.kind is Kind.TASK_SUBMITTED:
            return self._problem_of_new(event.task, event)
        known, expected = self._open.pop(event.task, None), STATUS_OF[event.kind]
        if known is None or known == expected or self._status(event.task) == expected:
            return ""
        return f"the table of tasks says that {event.task} is {known}, and it {event.kind.removeprefix('task.')}"

    def problem_at_end(self) -> str:
        """Tasks that ended, as the table says, and not the journal."""
        ended = [task for task, status in self._open.items() if status in STATUS_OF.values()]
        return f"the table of tasks says that {ended[0]} has ended, and the journal does not" if ended else ""

    def _problem_of_new(self, task: str, event: Event) -> str:
        rows = self._store.read("task", (task,))
        if not rows:
            return f"the table of tasks has no {task}"
        _, tenant, key, body, status, *_ = rows[0]
        self._open[task] = status
        if status not in _STATUSES:
            return f"the table of tasks says that {task} is {status!r:.40}, which no task is"
        said = tuple(event.data.get(name) for name in ("tenant", "key", "body"))
        return "" if said == (tenant, key, body) else f"the table of tasks says other things of {task} than the journal"

    def _status(self, task: str) -> str:
        return next((row[4] for row in self._store.read("task", (task,))), "")
