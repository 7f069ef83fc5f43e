"""Budgets: what a tenant's day, a task and a step may spend, and that none of them ever spends more (I6).

    tenant's day  ⊇  task  ⊇  step            cents, model tokens, minutes of people; seconds are ends of time

Before a step is awarded, its price is reserved at every level, and the award says how much; when it lands, what it took
is settled and the rest is free again. So at every prefix of the journal

    reserved + spent <= limit                 at each level, in cents and in minutes

A bid that would break this is not eligible: a cheaper one wins, and when all are too dear the step ends with
`BudgetExhausted`. What a step and a task have reserved is folded from their events; what a tenant's day has, from those
of its open tasks and from one row per day, written in the commit of the events that it sums up. Compensations are free:
undoing is never held up by a purse that is empty.

Tokens are granted rather than priced, because nobody knows before how many a step takes: it gets what its own budget
says, else an equal share of what its task has left among the steps that have not ended, and never more than its
tenant's day has left. Models are asked while the grant lasts, so it can be passed by what the calls under way still
write, and by no more.

Each shard owns an equal part of a tenant's day and lends nothing: two coordinators cannot then spend one cent twice,
whatever the network does. The price is that a shard may run dry while another has something left.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..contracts import (
    Amounts,
    Bid,
    Budget,
    BudgetExhausted,
    BudgetView,
    Clock,
    Event,
    HanseError,
    JsonObject,
    Kind,
    Store,
    Tenant,
    Verdict,
    Write,
)
from .execution import FREE, NOTHING_RESERVED, Reserved, Run, StepRun
from .journal import Journal

LEASE_SECONDS = 60.0
"""How long a dead agent's reservation stays, where what it holds is known to have changed nothing."""
TOKENS_PER_STEP = 10_000
"""What a step may use of its tenant's day when neither it nor its task has a limit of its own."""
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Cap:
    """What one tenant may spend on one day in UTC. None is no limit."""

    cents: float | None = None
    tokens: int | None = None
    human_minutes: float | None = None

    def part(self, shard: int, shards: int) -> "Cap":
        """This shard's part: equal ones, rounded down; what is left over is the first one's."""
        return Cap(
            _part(self.cents, _MICRO, shard, shards),
            None if (tokens := _part(self.tokens, 1, shard, shards)) is None else int(tokens),
            _part(self.human_minutes, _MICRO, shard, shards),
        )


@dataclass(slots=True)
class Account:
    """One tenant's day in this shard. Cents and minutes in millionths, so that sums are exact."""

    limit: Cap
    held: list[int]
    spent: list[int]

    def left(self, what: int) -> int | None:
        limit = _units(self.limit)[what]
        return None if limit is None else limit - self.held[what] - self.spent[what]

    def add(self, to: list[int], amounts: Sequence[int]) -> None:
        for what, amount in enumerate(amounts):
            to[what] += amount


@dataclass(frozen=True, slots=True)
class TooDear(Bid):
    """A bid that some budget does not cover."""

    level: str = ""
    left: float = 0


class _Was(NamedTuple):
    """How a step stood before an event."""

    step: StepRun
    held: Reserved
    charged: tuple[float, int, float]


MOST = 1e12
_CENTS, _TOKENS, _MINUTES = range(3)
_OF_STEP = frozenset(
    {
        Kind.STEP_AWARDED,
        Kind.STEP_COMPLETED,
        Kind.STEP_FAILED,
        Kind.STEP_HELD,
        Kind.STEP_RESUMED,
        Kind.STEP_RETURNED,
        Kind.APPROVAL_REQUESTED,
        Kind.APPROVAL_VOTED,
        Kind.APPROVAL_EDITED,
        Kind.APPROVAL_DECIDED,
    }
)
_OF_TASK = frozenset(
    {Kind.TASK_ABORTING, Kind.TASK_CANCELING, Kind.TASK_COMPLETED, Kind.TASK_FAILED, Kind.TASK_CANCELED}
)


class Budgets:
    """The money of one shard."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, caps: Mapping[Tenant, Cap]) -> None:
        """`caps` are this shard's parts."""
        self._store, self._journal, self._clock, self._caps = store, journal, clock, caps
        self._accounts: dict[tuple[Tenant, str], Account] = {}

    # Before

    def affordable(self, run: Run, step: StepRun, bids: Sequence[Bid]) -> Sequence[Bid]:
        """The bids, those that cost more than is left turned into refusals."""
        if step.settles or self._is_free(run, step):
            return bids
        left = self._left(run, step)
        return [_too_dear(bid, *left) if bid.price_cents > left[1] and not bid.refusal else bid for bid in bids]

    def objection(self, run: Run, step: StepRun, bids: Sequence[Bid]) -> BudgetExhausted | None:
        """When nobody takes a step: that it is for want of money, if it is."""
        dear = [bid for bid in bids if isinstance(bid, TooDear)]
        if not dear:
            return None
        least = min(dear, key=lambda bid: bid.price_cents)
        return BudgetExhausted(
            f"{step.call} costs {least.price_cents:g} cents; the {least.level} has {least.left:g} left",
            task=run.task,
            step=step.id,
            level=least.level,
            left=least.left,
            needed=least.price_cents,
        )

    def reserved(self, run: Run, step: StepRun, winner: Bid) -> JsonObject | None:
        """What an award reserves at each level, for the journal. None where there is nothing to reserve."""
        if step.settles:
            return None
        tokens = None if self._is_free(run, step) else self._grant(run, step)
        if not winner.price_cents and tokens is None:
            return None
        cents = round(max(0.0, winner.price_cents - step.charged_cents), 6)
        return {"day": self._today(), "cents": cents, "tokens": tokens}

    def may_ask(self, run: Run, step: StepRun, minutes: float) -> BudgetExhausted | None:
        """Why nobody may be asked for so many minutes; None when somebody may."""
        left = self._account(run.tenant, self._today()).left(_MINUTES)
        limits = [
            ("step", _minutes_left(step.budget, step.reserved.minutes + step.minutes)),
            ("task", _minutes_left(run.budget, run.reserved_minutes + run.spent_minutes)),
            ("tenant", None if left is None else left / _MICRO),
        ]
        for level, have in limits:
            if have is not None and round(minutes, 6) > round(have, 6):
                text = f"asking takes {minutes:g} minutes of people; the {level} has {max(have, 0):g} left"
                return BudgetExhausted(text, task=run.task, step=step.id, level=level, left=have, needed=minutes)
        return None

    def overdue(self, step: StepRun, error: HanseError) -> HanseError:
        """The error that ends an attempt: a step whose own time is over is not tried again."""
        ends = step.ends_ms
        if ends is None or self._clock.now_ms() < ends or error.verdict not in (Verdict.RETRY, Verdict.REAUCTION):
            return error
        return BudgetExhausted(f"the step's time is over: {error.detail}", step=step.id, level="step")

    # Around each event

    def before(self, run: Run, step: StepRun | None, kind: Kind, data: Mapping[str, Any]) -> "list[_Was]":
        """How the steps stand that such an event may settle. Given to `after` once it was folded in."""
        if kind in _OF_STEP and step is not None:
            return [] if _moves_nothing(step, kind, data) else [_Was(step, step.reserved, _charged(step))]
        if kind in _OF_TASK:
            holders = [*run.in_flight.values(), *run.asking.values(), *run.held.values()]
            return [_Was(step, step.reserved, _charged(step)) for step in holders]
        return []

    def after(self, run: Run, was: "Sequence[_Was]", event: Event) -> None:
        """Brings the tenant's day up to what the event made of its steps. A child's cents are paid by its parent's
        step, and people's time by the child.
        """
        for step, held, charged in was:
            if held is not step.reserved:
                self._hold(run, held, -1)
                self._hold(run, step.reserved, 1)
            if (now := _charged(step)) != charged:
                spent = [after - before for after, before in zip(now, charged, strict=True)]
                if run.path:
                    spent[_CENTS] = 0.0
                if event.kind is Kind.STEP_RETURNED:
                    spent[_MINUTES] = 0.0
                self._spend(run.tenant, held.day or step.reserved.day or day_of(event.at_ms), spent)

    def take_up(self, run: Run) -> None:
        """What an open task has reserved, after a start."""
        for step in run.steps.values():
            if step.reserved is not NOTHING_RESERVED:
                self._hold(run, step.reserved, 1)

    def _hold(self, run: Run, held: Reserved, sign: int) -> None:
        """A child's cents are part of its parent's step's price, which is reserved already."""
        if held.day:
            account = self._account(run.tenant, held.day)
            held = held._replace(cents=0.0) if run.path else held
            account.add(account.held, [sign * unit for unit in _of(held)])

    def _spend(self, tenant: Tenant, day: str, amounts: Sequence[float]) -> None:
        cents, tokens, minutes = round(amounts[0] * _MICRO), int(amounts[1]), round(amounts[2] * _MICRO)
        account = self._account(tenant, day)
        account.add(account.spent, (cents, tokens, minutes))
        self._journal.write(Write("add_spent", (tenant, day, cents, tokens, minutes)))

    # Looking

    def of_tenant(self, tenant: Tenant) -> BudgetView | None:
        """This shard's part of the tenant's day. None when it has no limit."""
        if tenant not in self._caps:
            return None
        day = self._today()
        account = self._account(tenant, day)
        limit = Budget(
            cents=account.limit.cents, tokens=account.limit.tokens, human_minutes=account.limit.human_minutes
        )
        return BudgetView(
            level="tenant",
            of=f"{tenant} {day}",
            limit=limit,
            reserved=_amounts(account.held),
            spent=_amounts(account.spent),
        )

    def _account(self, tenant: Tenant, day: str) -> Account:
        key = (tenant, day)
        if key not in self._accounts:
            self._forget_before(day)
            rows = self._store.read("spent_on_day", key)
            self._accounts[key] = Account(
                self._caps.get(tenant, Cap()), [0, 0, 0], list(rows[0]) if rows else [0, 0, 0]
            )
        return self._accounts[key]

    def _forget_before(self, day: str) -> None:
        """Days that are over and hold nothing. Those of a clock that was set back can be read again."""
        for key, account in list(self._accounts.items()):
            if key[1] < day and not any(account.held) and len(self._accounts) > 1000:
                del self._accounts[key]

    def _left(self, run: Run, step: StepRun) -> tuple[str, float]:
        """The level with the least cents left for this step, and how many. What models took before is paid already."""
        charged = step.charged_cents
        levels = [
            ("step", _cents_of(step.budget)),
            ("task", _less(run.budget_cents, run.reserved_cents, run.spent_cents)),
        ]
        cap = self._caps.get(run.tenant)
        if cap is not None and cap.cents is not None and not run.path:
            left = self._account(run.tenant, self._today()).left(_CENTS) or 0
            levels.append(("tenant", left / _MICRO))
        own = charged + step.reserved.cents  # of an attempt whose outcome nobody knows, which this one replaces
        known = [(have if level == "step" else have + own, level) for level, have in levels if have is not None]
        have, level = min(known, default=(float("inf"), ""))
        return level, round(have, 6)

    def _is_free(self, run: Run, step: StepRun) -> bool:
        """No level has a limit: the common case, which must cost nothing."""
        return step.budget is None and run.budget is FREE and run.tenant not in self._caps

    def _grant(self, run: Run, step: StepRun) -> int | None:
        """Tokens that models may read and write for a step. None when nobody limits them."""
        own = step.budget.tokens if step.budget is not None else None
        of_task = run.budget.tokens
        cap = self._caps.get(run.tenant)
        of_tenant = cap.tokens if cap is not None else None
        grants: list[int] = []
        if own is not None:
            grants.append(own - step.model_tokens)
        if of_task is not None:
            left = of_task - run.reserved_tokens - run.spent_tokens
            grants.append(left if own is not None else -(-left // max(1, run.unfinished - len(run.in_flight))))
        if of_tenant is not None:
            grants.append(self._account(run.tenant, self._today()).left(_TOKENS) or 0)
            grants.append(TOKENS_PER_STEP if len(grants) == 1 else grants[0])
        return max(0, min(grants)) if grants else None

    def _today(self) -> str:
        return day_of(self._clock.now_ms())


def task_budget(run: Run) -> BudgetView | None:
    """A task's own level. None when it has no limit."""
    if run.budget is FREE:
        return None
    return BudgetView(
        level="task",
        of=run.task,
        limit=run.budget,
        reserved=Amounts(cents=run.reserved_cents, tokens=run.reserved_tokens, human_minutes=run.reserved_minutes),
        spent=Amounts(
            cents=run.spent_cents,
            tokens=run.spent_tokens,
            seconds=(run.updated_ms - run.created_ms) / 1000,
            human_minutes=run.spent_minutes,
        ),
    )


def step_budget(run: Run, step: StepRun) -> BudgetView | None:
    """A step's own level. None when it has no limit."""
    if step.budget is None:
        return None
    held = step.reserved
    took = (run.updated_ms - step.began_ms) / 1000 if step.began_ms else 0
    return BudgetView(
        level="step",
        of=step.id,
        limit=step.budget,
        reserved=Amounts(cents=held.cents, tokens=held.tokens, human_minutes=held.minutes),
        spent=Amounts(cents=step.charged_cents, tokens=step.model_tokens, seconds=took, human_minutes=step.minutes),
    )


def out_of_time(run: Run) -> BudgetExhausted:
    """What ends a task whose budget's seconds are over."""
    text = f"the {run.budget.seconds:g} seconds that the task may take are over"
    return BudgetExhausted(text, task=run.task, level="task", limit=run.budget.seconds)


def spent_in_vain(step: StepRun, error: HanseError) -> JsonObject:
    """What models took for an attempt that failed, out of what it had reserved: for the journal."""
    cents, tokens = amount(error.ids.get("model_cents")), amount(error.ids.get("model_tokens"))
    return {"spent_cents": round(min(cents, step.reserved.cents), 6), "spent_tokens": int(tokens)}


def amount(said: Any) -> float:
    """What an agent says that it used. It may say anything."""
    is_amount = isinstance(said, (int, float)) and not isinstance(said, bool) and 0 <= said < MOST
    return said if is_amount else 0


def summed(views: Sequence[BudgetView]) -> list[BudgetView]:
    """The parts of several shards as one, by what they are of."""
    by_name: dict[str, list[BudgetView]] = {}
    for view in views:
        by_name.setdefault(view.of, []).append(view)
    return [_sum(each) for each in by_name.values()]


def _sum(views: Sequence[BudgetView]) -> BudgetView:
    def total(part: str, name: str) -> float | None:
        values = [getattr(getattr(view, part), name) for view in views]
        return None if any(value is None for value in values) else round(sum(values), 6)

    parts = {
        part: {name: total(part, name) for name in ("cents", "tokens", "human_minutes")}
        for part in ("limit", "reserved", "spent")
    }
    return BudgetView.model_validate({"level": views[0].level, "of": views[0].of, **parts})


def day_of(unix_ms: int) -> str:
    """The day in UTC, as `2026-11-21`."""
    return datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC).date().isoformat()


def _moves_nothing(step: StepRun, kind: Kind, data: Mapping[str, Any]) -> bool:
    """An award of what costs nothing, and its end: the common case, which must cost nothing."""
    if step.reserved is not NOTHING_RESERVED:
        return False
    if kind is Kind.STEP_AWARDED:
        return data["reserved"] is None
    free = kind is Kind.STEP_COMPLETED and not (data["model_cents"] or data["model_tokens"])
    return free and not (step.award["price_cents"] or step.charged_cents)


def _charged(step: StepRun) -> tuple[float, int, float]:
    """What was spent for a step so far: cents, tokens, minutes of people."""
    return (step.charged_cents, step.model_tokens, step.minutes)


def _too_dear(bid: Bid, level: str, left: float) -> TooDear:
    refusal = f"{bid.price_cents:g} cents, and the {level} has {max(left, 0):g} left"
    return TooDear(**{**bid.to_data(), "refusal": refusal}, level=level, left=left)


def _part(whole: float | None, unit: int, shard: int, shards: int) -> float | None:
    if whole is None:
        return None
    units = round(whole * unit)
    return (units // shards + (units % shards if shard == 0 else 0)) / unit


def _units(cap: Cap) -> tuple[int | None, int | None, int | None]:
    return (_micro(cap.cents), cap.tokens, _micro(cap.human_minutes))


def _of(held: Reserved) -> tuple[int, int, int]:
    return (round(held.cents * _MICRO), held.tokens, round(held.minutes * _MICRO))


def _micro(value: float | None) -> int | None:
    return None if value is None else round(value * _MICRO)


def _amounts(units: Sequence[int]) -> Amounts:
    return Amounts(cents=units[0] / _MICRO, tokens=units[1], human_minutes=units[2] / _MICRO)


def _cents_of(budget: Budget | None) -> float | None:
    return budget.cents if budget is not None else None


def _minutes_left(budget: Budget | None, used: float) -> float | None:
    return _less(budget.human_minutes if budget is not None else None, used)


def _less(limit: float | None, *used: float) -> float | None:
    return None if limit is None else limit - sum(used)
