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
Waiting = tuple[Run, StepRun]


class _Queue:
    """Those who wait in one place."""

    __slots__ = ("closed", "steps", "why")

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.steps = FairQueue[Waiting](weights)
        self.closed = False
        """Whether nobody at all can go on, rather than some tenants."""
        self.why = ""
        """What the one who tried last waits for."""


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
        self.places: dict[Place, _Queue] = {}
        """Those in which anybody waits."""
        self._turn: StepRun | None = None
        """The step that tries now."""
        self._stays = False
        """Whether it has to wait on."""
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(len(queue.steps) for queue in self.places.values())

    def has_to_wait(self, run: Run, step: StepRun) -> bool:
        """Parks a step when others were there before."""
        queue = None if step is self._turn else self.places.get(self._place(run, step))
        if queue is None or not (queue.closed or run.tenant in queue.steps):
            return False
        step.parked, step.waits = True, f"its turn; who is before it: {queue.why}"
        queue.steps.put(run.tenant, _rank(run, step), (run, step))
        return True

    def park(
        self, run: Run, step: StepRun, why: str, *, only_tenant: bool = False, seconds: float | None = None
    ) -> None:
        """`why` is shown. It may hold up only those of the same tenant. With `seconds`, all look again after so long,
        besides whenever something changes.
        """
        queue = self.places.setdefault(self._place(run, step), _Queue(self._weights))
        queue.closed, queue.why = not only_tenant, why
        step.parked, step.waits = True, why
        if step is self._turn:
            self._stays = True
            queue.steps.put_back(run.tenant, _rank(run, step), (run, step))
        else:
            queue.steps.put(run.tenant, _rank(run, step), (run, step))
        if seconds is not None:
            self._wake_in(seconds)

    def look_again(self) -> None:
        """Lets waiting steps try, in each place until the first that has to wait on."""
        for place, queue in list(self.places.items()):
            self._try(queue)
            if not queue.steps:
                del self.places[place]

    def tidy(self) -> None:
        """Forgets steps of tasks that have ended meanwhile, however long their place stays closed."""
        for place, queue in list(self.places.items()):
            queue.steps.keep(lambda item: _is_wanted(*item))
            if not queue.steps:
                del self.places[place]

    def stop(self) -> None:
        if self._alarm:
            self._alarm.cancel()

    def _try(self, queue: _Queue) -> None:
        queue.closed = False
        aside: set[Tenant] = set()
        while not queue.closed and (tenant := queue.steps.next(aside)) is not None:
            run, step = queue.steps.take(tenant)
            if _is_wanted(run, step) and self._stays_after_trying(run, step):
                aside.add(tenant)

    def _stays_after_trying(self, run: Run, step: StepRun) -> bool:
        self._turn, self._stays = step, False
        step.parked = False
        try:
            self._go_on(run)
        finally:
            self._turn = None
        return self._stays

    def _place(self, run: Run, step: StepRun) -> Place:
        return step.call, run.version(step), self._only_doer(step), is_suspect(step)

    def _wake_in(self, seconds: float) -> None:
        """The alarm rings for who has to wait least."""
        at = self._loop.time() + seconds
        if self._alarm is not None and self._alarm.when() > at:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:
            self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.look_again()


def _rank(run: Run, step: StepRun) -> int:
    """Of two suspects, the one that has seen fewer deaths goes first whatever its priority."""
    return run.priority - 10 * step.deaths


def _is_wanted(run: Run, step: StepRun) -> bool:
    """What undoes, confirms or was begun is wanted to the end, the rest while the plan goes forward."""
    return not run.status.terminal and (step.settles or step.begun or not run.winding_down)
