"""How well work went, and what it cost: the figures of a window of time, each with its numerator and denominator.

A task belongs to the window in which it ended, a step to the one in which it was completed or failed for good, a
decision to the one in which it was made. A rate is null where its denominator is 0.
"""

from pydantic import Field

from .views import View


class Spread(View):
    """How long something takes, in seconds, by nearest rank: the smallest value with that share at or below it."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Outcome(View):
    """The figures of one capability, agent or tenant, or of everything.

    A capability or an agent has the tasks that called it: those with a step of it that was not skipped, compensations
    and confirmations aside. A task that called two is counted at both, each with its own steps' costs, so costs add up
    and tasks do not.
    """

    name: str = ""
    """Of the capability, agent or tenant; empty for everything."""

    tasks: int = 0
    """Tasks that ended."""
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    success_rate: float | None = None
    """completed ÷ tasks."""

    cost_cents: float = 0
    """Prices of the completed steps of these tasks, whatever became of the tasks; undoing and confirming is free."""
    cents_per_success: float | None = None
    """cost_cents ÷ completed: what fails is paid for by what succeeds."""
    model_cents: float = 0
    """What of cost_cents went to models, as the agents said."""
    model_cost_share: float | None = None
    """model_cents ÷ cost_cents."""

    asked: int = 0
    """Tasks in which a person was asked, or a step was held for one."""
    intervention_rate: float | None = None
    """asked ÷ tasks."""
    decided: int = 0
    """Questions that a person decided; one that expired was decided by nobody."""
    overridden: int = 0
    """Of these: denied, or approved with other arguments."""
    override_rate: float | None = None
    """overridden ÷ decided."""
    deciding: Spread = Field(default_factory=Spread)
    """From a question to a person's decision."""

    compensated: int = 0
    """Tasks in which a completed step was undone."""
    compensation_rate: float | None = None
    """compensated ÷ tasks."""

    steps: int = 0
    """Steps that were completed or failed for good after at least one attempt, compensations and confirmations too."""
    retries: int = 0
    """Attempts of these that failed and were followed by another, with nobody asked."""
    retries_per_step: float | None = None
    """retries ÷ steps."""
    recovering: Spread = Field(default_factory=Spread)
    """Of completed steps that were in trouble: from the first failure, interruption or hold to the completion, also by
    hand. Its p50 is the usual time to repair."""
    refusals: dict[str, int] = Field(default_factory=dict[str, int])
    """Steps that failed for good because a rule said no, by the error's code."""

    calling: Spread = Field(default_factory=Spread)
    """Latency of completed calls, as their agents measured it."""
    lasting: Spread = Field(default_factory=Spread)
    """Of completed tasks: from submission to the end, people's time included."""

    model_calls: int = 0
    """Calls of the model pool, those of clients and of agents."""
    model_tokens: int = 0
    pool_cents: float = 0
    """What these calls cost."""


class Moment(View):
    """One of the equal parts of a window."""

    since: str
    tasks: int = 0
    completed: int = 0


class OutcomesView(View):
    """What `hanse stats` shows."""

    since: str
    until: str
    by: str
    """`capability`, `agent` or `tenant`."""
    total: Outcome
    rows: list[Outcome] = Field(default_factory=list[Outcome])
    """Most tasks first."""
    trend: list[Moment] = Field(default_factory=list[Moment])
    entries: int = 0
    """Entries of the journals that these figures take in."""
    complete: bool = True
    """Whether that was all there were when it was asked for. After a first start there may be much to read."""


class Total(View):
    """One series since the beginning of the journals. It never falls, and a restart does not reset it."""

    metric: str
    capability: str = ""
    label: str = ""
    """A status, decision, code or tier; of a span its bound in seconds, up to `+Inf`, or `sum`."""
    value: float
