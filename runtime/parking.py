"""Parking: steps that nobody can take now, until somebody can. Whose turn it is then, `fairness` says.

Steps wait in places: one for each capability, version, and agent that alone may do it, with suspects apart. Those in
one place are alike in who may take them, so when the first has to wait on, the others have to as well; except that a
tenant may be over a rate of its own, which holds up nobody else. What becomes ready while others wait in its place
waits behind them.
"""

import asyncio
from collections.abc import Callable, Mapping

from ..contracts import AgentId, CapabilityName, Tenant
from .execution import Run, StepRun
from .fairness import FairQueue
from .quarantine import is_suspect

Place = tuple[CapabilityName, str | None, AgentId | None, bool]
_Waiting = FairQueue[tuple[Run, StepRun]]


class Parking:
    """Waiting steps by place."""

    def __init__(
        self,
        go_on: Callable[[Run], None],
        only_doer: Callable[[StepRun], AgentId | None],
        weights: Mapping[str, float],
    ) -> None:
        """`only_doer` says which agent alone may do a step, if there is one."""
        self._go_on = go_on
        self._only_doer = only_doer
        self._weights = weights
        self._loop = asyncio.get_running_loop()
        self._places: dict[Place, _Waiting] = {}
        self._turn: StepRun | None = None
        """The step that tries now."""
        self._stays: bool | None = None
        """Whether only the tenant of the step that tried has to wait on; None when the step has gone."""
        self._alarm: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._places)

    def must_wait(self, step: StepRun) -> bool:
        """Whether others were there before."""
        return step is not self._turn and self._place(step) in self._places

    def park(
        self, run: Run, step: StepRun, why: str = "", *, only_tenant: bool = False, seconds: float | None = None
    ) -> None:
        """`why` is shown; with `seconds`, all look again after so long, besides whenever something changes."""
        step.parked, step.waits = True, why
        queue = self._places.setdefault(self._place(step), FairQueue(self._weights))
        if step is self._turn:
            self._stays = only_tenant
            queue.put_back(run.tenant, _rank(run, step), (run, step))
        else:
            queue.put(run.tenant, _rank(run, step), (run, step))
        if seconds is not None:
            self._wake_in(seconds)

    def look_again(self) -> None:
        """Lets waiting steps try, in each place until the first that has to wait on."""
        for place, queue in list(self._places.items()):
            self._try(queue)
            if not queue:
                del self._places[place]

    def tidy(self) -> None:
        """Forgets steps of tasks that have ended meanwhile, however long their place stays closed."""
        for place, queue in list(self._places.items()):
            queue.keep(lambda item: _is_wanted(*item))
            if not queue:
                del self._places[place]

    def stop(self) -> None:
        if self._alarm:
            self._alarm.cancel()

    def _try(self, queue: _Waiting) -> None:
        aside: set[Tenant] = set()
        while (tenant := queue.next(aside)) is not None:
            run, step = queue.take(tenant)
            if not _is_wanted(run, step):
                continue
            if not self._goes(run, step):
                if not self._stays:
                    return
                aside.add(tenant)

    def _goes(self, run: Run, step: StepRun) -> bool:
        """Whether it found somebody, or failed, rather than having to wait on."""
        self._turn, self._stays = step, None
        step.parked = False
        try:
            self._go_on(run)
        finally:
            self._turn = None
        return self._stays is None

    def _place(self, step: StepRun) -> Place:
        return step.call, step.version, self._only_doer(step), is_suspect(step)

    def _wake_in(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if self._alarm is None or self._alarm.cancelled() or not self._loop.time() < self._alarm.when() <= at:
            if self._alarm:
                self._alarm.cancel()
            self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.look_again()


def _rank(run: Run, step: StepRun) -> int:
    """Of two suspects, the one that has seen fewer deaths goes first whatever its priority."""
    return run.priority - 10 * step.deaths


def _is_wanted(run: Run, step: StepRun) -> bool:
    """What undoes something is wanted to the end, the rest while the plan goes forward."""
    return not run.status.terminal and (step.undoes is not None or not run.winding_down)
