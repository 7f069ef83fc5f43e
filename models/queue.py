"""The queue before a tier: as many calls in its engines as keep their batches full, others in a fair and bounded line.

Interactive work goes first, except that every eighth place goes to the line of the others when somebody waits there,
so that nobody starves. Within a line tenants take turns, whatever each has waiting. When the line is full, the tenant
with most calls in it loses its newest one to a tenant with fewer (longest-queue drop: McKenney, Stochastic Fairness
Queueing, INFOCOM 1990), so one tenant cannot shut the others out.

Whoever waits past the deadline is dropped, and is never handed to the engine.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..contracts import Clock, DeadlineExceeded, HanseError, Overloaded, Tenant

TURN_OF_THE_OTHERS = 8
_SMOOTHING = 0.2
_FIRST_GUESS_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class _Waiter:
    tenant: Tenant
    interactive: bool
    deadline_ms: int
    place: "asyncio.Future[None]"


class _Line:
    """Waiters of one priority, tenants in turn."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[Tenant, deque[_Waiter]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def put(self, waiter: _Waiter) -> None:
        self._tenants.setdefault(waiter.tenant, deque()).append(waiter)

    def take(self) -> _Waiter:
        tenant, waiting = next(iter(self._tenants.items()))
        waiter = waiting.popleft()
        self._tenants.move_to_end(tenant)
        self._forget_if_empty(tenant)
        return waiter

    def remove(self, waiter: _Waiter) -> bool:
        waiting = self._tenants.get(waiter.tenant)
        if waiting is None or waiter not in waiting:
            return False
        waiting.remove(waiter)
        self._forget_if_empty(waiter.tenant)
        return True

    def of(self, tenant: Tenant) -> int:
        return len(self._tenants.get(tenant, ()))

    def newest_of(self, tenant: Tenant) -> _Waiter | None:
        return self._tenants[tenant][-1] if tenant in self._tenants else None

    def tenants(self) -> list[Tenant]:
        return list(self._tenants)

    def _forget_if_empty(self, tenant: Tenant) -> None:
        if not self._tenants[tenant]:
            del self._tenants[tenant]


class TierQueue:
    """`async with queue.place(…):` is one call in an engine."""

    def __init__(self, name: str, width: int, limit: int, clock: Clock) -> None:
        """`width` calls are in the engines at once, and `limit` may wait."""
        self._name, self._width, self._limit, self._clock = name, width, limit, clock
        self._interactive, self._others = _Line(), _Line()
        self._granted = 0
        self._seconds = _FIRST_GUESS_SECONDS
        self._closed: HanseError | None = None
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        return len(self._interactive) + len(self._others)

    @asynccontextmanager
    async def place(self, tenant: Tenant, *, interactive: bool = False, deadline_ms: int = 0) -> AsyncIterator[None]:
        """Raises Overloaded, saying when to come again, and DeadlineExceeded when the turn comes too late."""
        await self._enter(tenant, interactive, deadline_ms)
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._seconds += _SMOOTHING * (self._clock.monotonic() - started - self._seconds)
            self._leave()

    def resize(self, width: int) -> None:
        """Lets in at once whoever has a place now. Where there are fewer places, calls under way are left to end."""
        self._width = width
        self._fill()

    def close(self, error: HanseError) -> None:
        """Those who wait, and all who come, get `error`."""
        self._closed = error
        while self.waiting:
            self._refuse((self._interactive if len(self._interactive) else self._others).take(), error)

    def retry_after_seconds(self) -> float:
        """When a newcomer may expect a place in the line, going by how long calls have taken."""
        return round(max(0.05, self._seconds * (self.waiting + 1) / self._width), 3)

    async def _enter(self, tenant: Tenant, interactive: bool, deadline_ms: int) -> None:
        if self._closed:
            raise self._closed
        if self.in_flight < self._width and not self.waiting:
            self._check(deadline_ms)
            self.in_flight += 1
            return
        self._make_room(tenant)
        place = asyncio.get_running_loop().create_future()
        await self._wait(_Waiter(tenant, interactive, deadline_ms, place))

    async def _wait(self, waiter: _Waiter) -> None:
        line = self._interactive if waiter.interactive else self._others
        line.put(waiter)
        try:
            async with asyncio.timeout(self._seconds_left(waiter.deadline_ms)):
                await waiter.place
        except BaseException as error:
            if not line.remove(waiter) and _was_granted(waiter):
                self._leave()
            raise self._too_late() if isinstance(error, TimeoutError) else error from None

    def _make_room(self, tenant: Tenant) -> None:
        """Refuses the newcomer, or somebody of the tenant that has more waiting."""
        if self.waiting < self._limit:
            return
        longest = max({*self._interactive.tenants(), *self._others.tenants()}, key=self._waiting_of, default=tenant)
        if self._waiting_of(longest) <= self._waiting_of(tenant) + 1:
            raise self._overloaded()
        waiter = self._others.newest_of(longest) or self._interactive.newest_of(longest)
        assert waiter is not None
        (self._interactive if waiter.interactive else self._others).remove(waiter)
        self._refuse(waiter, self._overloaded())

    def _waiting_of(self, tenant: Tenant) -> int:
        return self._interactive.of(tenant) + self._others.of(tenant)

    def _leave(self) -> None:
        self.in_flight -= 1
        self._fill()

    def _fill(self) -> None:
        while self.waiting and self.in_flight < self._width:
            self._grant(self._next())

    def _next(self) -> _Waiter:
        others_turn = self._granted % TURN_OF_THE_OTHERS == TURN_OF_THE_OTHERS - 1
        if not len(self._interactive) or (others_turn and len(self._others)):
            return self._others.take()
        return self._interactive.take()

    def _grant(self, waiter: _Waiter) -> None:
        if waiter.place.done():
            return
        if self._is_late(waiter.deadline_ms):
            self._refuse(waiter, self._too_late())
            return
        self._granted += 1
        self.in_flight += 1
        waiter.place.set_result(None)

    def _refuse(self, waiter: _Waiter, error: HanseError) -> None:
        if not waiter.place.done():
            waiter.place.set_exception(error)

    def _check(self, deadline_ms: int) -> None:
        if self._is_late(deadline_ms):
            raise self._too_late()

    def _is_late(self, deadline_ms: int) -> bool:
        return bool(deadline_ms) and self._clock.now_ms() >= deadline_ms

    def _seconds_left(self, deadline_ms: int) -> float | None:
        return max(0.0, (deadline_ms - self._clock.now_ms()) / 1000) if deadline_ms else None

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"{self._waiting_text()} for tier {self._name!r}, and its queue takes no more",
            tier=self._name,
            retry_after_seconds=self.retry_after_seconds(),
        )

    def _waiting_text(self) -> str:
        return f"{self.waiting} calls wait"

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the turn at tier {self._name!r} came after the deadline", tier=self._name)


def _was_granted(waiter: _Waiter) -> bool:
    """It got its place in the moment in which it gave up."""
    place = waiter.place
    return place.done() and not place.cancelled() and place.exception() is None
