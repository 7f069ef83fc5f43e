"""Money: reserved before an engine is asked, settled after, never more than there is.

An account is one thing that money is limited for: a call, a step, a task, a tenant's day. A reservation holds the most
that an attempt can cost in every account of its caller, and is on disk before the engine is asked. It is settled with
what the attempt did cost. What happened to one that is never settled, because the process died or the answer was lost,
cannot be known, and the engine may have done all of the work: when its lease ends it counts as spent. So what was spent
and what is held never exceed a limit, at any point at which the process may die (I6).

    held + spent <= limit        for every account that has one, at every prefix of the journal

Amounts are whole microcents.
"""

import datetime
import heapq
from asyncio import Future
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..contracts import BudgetExhausted, Clock, Kind, Recorder, StepId, Store, TaskId, Tenant, Write
from ..contracts.caller import Caller
from .policy import Policy
from .price import to_cents, to_microcents

LEASE_SECONDS = 30.0
"""Beyond the longest that an attempt may take, until its reservation lapses."""
ACCOUNTS = 10_000
"""Kept in memory. An account that nothing is held in can be read from the store again."""


@dataclass(slots=True)
class Account:
    """What one thing may cost. `pins` counts the reservations and the writes that are not on disk yet."""

    name: str
    limit: int | None
    held: int = 0
    spent: int = 0
    pins: int = 0

    @property
    def left(self) -> int | None:
        return None if self.limit is None else self.limit - self.held - self.spent


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose money it is."""

    tenant: Tenant
    day: str
    task: str = ""
    step: str = ""


@dataclass(slots=True)
class Reservation:
    """Money held for one attempt."""

    id: str
    call: str
    owner: Owner
    tier: str
    microcents: int
    until_ms: int
    accounts: list[Account] = field(default_factory=list[Account])
    open: bool = True


@dataclass(frozen=True, slots=True)
class Used:
    """What an attempt took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    microcents: int = 0


class Budget:
    """All accounts of one pool."""

    def __init__(self, store: Store, recorder: Recorder, clock: Clock, policy: Policy) -> None:
        self._store, self._recorder, self._clock, self._policy = store, recorder, clock, policy
        self._accounts: dict[str, Account] = {}
        self._leases: list[tuple[int, str]] = []
        self._reservations: dict[str, Reservation] = {}
        self._attempts = 0
        for row in store.read("reservations"):
            self._take_up(row)
        self.lapse()

    def owner(self, caller: Caller) -> Owner:
        return Owner(caller.tenant, day_of(self._clock.now_ms()), caller.task or "", caller.step or "")

    def open_call(self, call: str, caller: Caller) -> "CallBudget":
        """The accounts of one call."""
        return CallBudget(self, call, caller, Account(f"call {call}", self._limit_of_call(caller)))

    def lapse(self) -> int:
        """Counts reservations whose lease is over as spent. How many there were."""
        now, lapsed = self._clock.now_ms(), 0
        while self._leases and self._leases[0][0] <= now:
            _, id = heapq.heappop(self._leases)
            if (reservation := self._reservations.get(id)) is not None:
                self._lapse(reservation)
                lapsed += 1
        return lapsed

    def held(self, tenant: Tenant) -> int:
        """Microcents of the tenant's calls under way."""
        return sum(each.microcents for each in self._reservations.values() if each.owner.tenant == tenant)

    def use(self, owner: Owner, tier: str, used: Used, *, calls: int = 0, attempts: int = 1) -> None:
        """Adds to the figures. What costs money comes by a reservation instead."""
        tokens = (used.prompt_tokens, used.completion_tokens, used.microcents)
        row = (owner.tenant, owner.day, owner.task, owner.step, tier, calls, attempts, *tokens)
        self._recorder.write(Write("add_usage", row))

    def reserve(
        self, call: str, owner: Owner, own: Account, limits: Caller, tier: str, microcents: int, seconds: float
    ) -> Reservation:
        """Holds `microcents` for at most `seconds`. Raises BudgetExhausted, and then nothing is held."""
        self.lapse()
        accounts = [own, *self.accounts_of(owner, limits)]
        _check(accounts, microcents)
        self._attempts += 1
        until_ms = self._clock.now_ms() + int(seconds * 1000)
        id = f"{call}/{self._store.epoch}.{self._attempts}"
        reservation = Reservation(id, call, owner, tier, microcents, until_ms, accounts)
        self._hold(reservation)
        row = (id, *_columns(owner), tier, microcents, until_ms)
        self._record(Kind.MODEL_RESERVED, reservation, microcents, until_ms=until_ms)
        self._recorder.write(Write("insert_reservation", row))
        return reservation

    def settle(self, reservation: Reservation, used: Used) -> int:
        """Frees what was not spent. The microcents that count: never more than were held. Late is too late."""
        if not reservation.open:
            return reservation.microcents
        spent = min(max(used.microcents, 0), reservation.microcents)
        self._release(reservation, spent)
        self._record(Kind.MODEL_SETTLED, reservation, spent)
        self._close(reservation, Used(used.prompt_tokens, used.completion_tokens, spent))
        return spent

    def _lapse(self, reservation: Reservation) -> None:
        self._release(reservation, reservation.microcents)
        self._record(Kind.MODEL_LAPSED, reservation, reservation.microcents)
        self._close(reservation, Used(microcents=reservation.microcents))

    def _take_up(self, row: tuple[object, ...]) -> None:
        """A reservation of a process that is gone. Its call's own account went with it."""
        id, tenant, day, task, step, tier, microcents, until_ms = row
        owner = Owner(Tenant(str(tenant)), str(day), str(task), str(step))
        call = str(id).rpartition("/")[0]
        amount, until = int(str(microcents)), int(str(until_ms))
        accounts = list(self.accounts_of(owner, None))
        self._hold(Reservation(str(id), call, owner, str(tier), amount, until, accounts))

    def _hold(self, reservation: Reservation) -> None:
        self._reservations[reservation.id] = reservation
        heapq.heappush(self._leases, (reservation.until_ms, reservation.id))
        for account in reservation.accounts:
            account.held += reservation.microcents
            account.pins += 1

    def _release(self, reservation: Reservation, spent: int) -> None:
        reservation.open = False
        self._reservations.pop(reservation.id, None)
        for account in reservation.accounts:
            account.held -= reservation.microcents
            account.spent += spent

    def _close(self, reservation: Reservation, used: Used) -> None:
        self._recorder.write(Write("delete_reservation", (reservation.id,)))
        self.use(reservation.owner, reservation.tier, used)
        self._recorder.durable().add_done_callback(lambda done: self._unpin(done, reservation.accounts))
        self._forget_idle()

    def _unpin(self, done: "Future[None]", accounts: Iterable[Account]) -> None:
        """What was spent is on disk now. When it never will be, the accounts stay, with what they know."""
        if not done.cancelled() and done.exception() is None:
            for account in accounts:
                account.pins -= 1

    def _forget_idle(self) -> None:
        if len(self._accounts) > ACCOUNTS:
            idle = [name for name, account in self._accounts.items() if not account.pins]
            for name in idle[: len(self._accounts) - ACCOUNTS // 2]:
                del self._accounts[name]

    def _record(self, kind: Kind, about: Reservation, microcents: int, **more: int) -> None:
        data = {"call": about.call, "tenant": about.owner.tenant, "tier": about.tier, "microcents": microcents, **more}
        task, step = about.owner.task, about.owner.step
        self._recorder.append(kind, TaskId(task) if task else None, StepId(step) if step else None, data)

    def _limit_of_call(self, caller: Caller) -> int | None:
        """A caller's limit is its step's or its task's, where it has one; else it is this call's."""
        limits = [self._policy.call_cents, None if caller.task else caller.budget_cents]
        return _least(limits)

    def accounts_of(self, owner: Owner, caller: Caller | None) -> Iterator[Account]:
        """The caller's accounts, with the limits that hold now."""
        budget = caller.budget_cents if caller and caller.task else None
        yield self._account("spent_on_day", (owner.tenant, owner.day), _least([self._policy.tenant_day_cents]))
        if owner.task:
            of_task = [self._policy.task_cents, None if owner.step else budget]
            yield self._account("spent_on_task", (owner.tenant, owner.task), _least(of_task))
        if owner.task and owner.step:
            yield self._account("spent_on_step", (owner.tenant, owner.task, owner.step), _least([budget]))

    def _account(self, query: str, key: tuple[str, ...], limit: int | None) -> Account:
        name = "\0".join((query, *key))
        account = self._accounts.pop(name, None) or self._read(query, key)
        self._accounts[name] = account  # the one used last is forgotten last
        account.limit = limit
        return account

    def _read(self, query: str, key: tuple[str, ...]) -> Account:
        words = query.removeprefix("spent_on_")
        return Account(f"{words} {key[-1]}", None, spent=int(self._store.read(query, key)[0][0]))


class CallBudget:
    """The money of one call, all its attempts together."""

    def __init__(self, budget: Budget, call: str, caller: Caller, own: Account) -> None:
        self._budget, self._call, self._caller, self._own = budget, call, caller, own
        self.owner = budget.owner(caller)

    @property
    def spent(self) -> int:
        return self._own.spent

    def check(self, microcents: int) -> None:
        """Raises BudgetExhausted for what could not be reserved now, so that nobody queues for nothing."""
        _check([self._own, *self._budget.accounts_of(self.owner, self._caller)], microcents)

    def reserve(self, tier: str, microcents: int, seconds: float) -> Reservation:
        """Raises BudgetExhausted, and then nothing is held."""
        return self._budget.reserve(self._call, self.owner, self._own, self._caller, tier, microcents, seconds)

    def settle(self, reservation: Reservation, used: Used) -> int:
        return self._budget.settle(reservation, used)

    def use(self, tier: str, used: Used) -> None:
        """For what costs nothing: counted, not held."""
        self._budget.use(self.owner, tier, used)


def day_of(unix_ms: int) -> str:
    """The day in UTC, as `2026-11-21`."""
    return datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC).date().isoformat()


def _check(accounts: Iterable[Account], microcents: int) -> None:
    for account in accounts:
        left = account.left
        if left is not None and left < microcents:
            raise BudgetExhausted(
                f"the {account.name.partition(' ')[0]} has {to_cents(max(left, 0)):g} cents left for models, and this "
                f"may cost {to_cents(microcents):g}",
                account=account.name,
                left_cents=to_cents(max(left, 0)),
                needed_cents=to_cents(microcents),
            )


def _least(limits: Iterable[float | None]) -> int | None:
    known = [to_microcents(limit) for limit in limits if limit is not None]
    return min(known, default=None)


def _columns(owner: Owner) -> tuple[str, str, str, str]:
    return (owner.tenant, owner.day, owner.task, owner.step)
