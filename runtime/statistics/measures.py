"""Rows of the analytical queries put together to outcomes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from ...contracts import InvalidInput, Tenant
from ...contracts.events import timestamp
from ...contracts.outcomes import Moment, Outcome, OutcomesView, Spread, Total
from .projection import Projection

BY = ("capability", "agent", "tenant")
PARTS = 24
"""Of a window, for its trend."""
_SPREADS = ("lasting", "recovering", "calling", "deciding")


def outcomes(projection: Projection, tenant: Tenant, since_ms: int, until_ms: int, by: str) -> OutcomesView:
    """The figures of a tenant for since < time ≤ until, in unix milliseconds. Raises InvalidInput, StorageError."""
    if by not in BY:
        raise InvalidInput(f"{by!r:.80} is nothing to group by. Write one of {', '.join(BY)}")
    if since_ms >= until_ms:
        raise InvalidInput("the window has no length: it must begin before it ends")
    window = {"tenant": tenant, "since": since_ms, "until": until_ms}
    rows = _outcomes(projection, {**window, "by": by})
    (entries,) = projection.rows("entries_read")
    return OutcomesView(
        since=timestamp(since_ms),
        until=timestamp(until_ms),
        by=by,
        total=next(iter(_outcomes(projection, {**window, "by": ""})), Outcome()),
        rows=sorted(rows, key=lambda row: (-row.tasks, row.name)),
        trend=_trend(projection, window),
        **entries,
    )


def totals(projection: Projection, tenant: Tenant) -> list[Total]:
    """Every series of a tenant. As many as there are capabilities and bounds, however long the journals are."""
    return [Total.model_validate(row) for row in projection.rows("totals", tenant=tenant)]


def _outcomes(projection: Projection, window: Mapping[str, Any]) -> list[Outcome]:
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for query in ("tasks", "steps", "decisions", "model_calls"):
        for row in projection.rows(query, **window):
            found[row["name"]] |= row
    for row in projection.rows("refusals", **window):
        found[row["name"]].setdefault("refusals", {})[row["refusal"]] = row["count"]
    return [_outcome({"name": name, **figures}) for name, figures in found.items()]


def _outcome(figures: Mapping[str, Any]) -> Outcome:
    read = {name: _spread(value) if name in _SPREADS else value for name, value in figures.items()}
    plain = Outcome.model_validate(read)
    return plain.model_copy(
        update={
            "success_rate": _share(plain.completed, plain.tasks),
            "cents_per_success": _share(plain.cost_cents, plain.completed),
            "model_cost_share": _share(plain.model_cents, plain.cost_cents),
            "intervention_rate": _share(plain.asked, plain.tasks),
            "override_rate": _share(plain.overridden, plain.decided),
            "compensation_rate": _share(plain.compensated, plain.tasks),
            "retries_per_step": _share(plain.retries, plain.steps),
        }
    )


def _spread(value: Iterable[float | None]) -> Spread:
    """Of a count and three quantiles in milliseconds, which are left out where the count is 0."""
    count, *quantiles = value
    p50, p95, p99 = (None if each is None else each / 1000 for each in quantiles or (None, None, None))
    return Spread(count=int(count or 0), p50=p50, p95=p95, p99=p99)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _trend(projection: Projection, window: Mapping[str, Any]) -> list[Moment]:
    found = {row["part"]: row for row in projection.rows("trend", **window, parts=PARTS)}
    step = (window["until"] - window["since"]) / PARTS
    return [
        Moment.model_validate({"since": timestamp(round(window["since"] + part * step)), **found.get(part, {})})
        for part in range(PARTS)
    ]
