"""Outcomes as Prometheus series: counters end in `_total`, spans are histograms in `_seconds`.

There are as many series as there are capabilities, statuses and bounds, and at most a hundred capabilities of a tenant
have their own; the rest is `other`. A scrape reads on in the journals from where the last one stopped.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from ...contracts import HanseError
from ...contracts.outcomes import Total
from ..client import Client
from .meter import histogram, metric

PATIENCE_SECONDS = 2.0
"""For the statistics. A scrape without them is better than none."""
_COUNTERS: Mapping[str, tuple[str, str, str]] = {
    "tasks": ("hanse_tasks_ended_total", "status", "Tasks of the tenant that ended."),
    "task_cents": ("hanse_tasks_cents_total", "", "Cents that these tasks cost."),
    "steps": ("hanse_steps_total", "status", "Steps that were completed, or failed for good."),
    "step_cents": ("hanse_steps_cents_total", "", "Cents that completed steps cost."),
    "step_model_cents": ("hanse_steps_model_cents_total", "", "Of these, what went to models."),
    "step_retries": ("hanse_steps_retries_total", "", "Attempts that failed and were tried again."),
    "step_refusals": ("hanse_steps_refused_total", "code", "Steps that a policy refused."),
    "compensations": ("hanse_compensations_total", "", "Steps that undid another."),
    "approvals": ("hanse_approvals_decided_total", "decision", "Questions that were decided, or expired."),
    "model_calls": ("hanse_model_calls_total", "tier", "Calls of the model pool."),
}
"""Metric to its name, what its label says, and help."""
_SPANS: Mapping[str, tuple[str, str]] = {
    "task_seconds": ("hanse_task_seconds", "Completed tasks, from submission to the end."),
    "step_seconds": ("hanse_step_seconds", "Completed calls, as their agents measured them."),
    "step_recovery_seconds": ("hanse_step_recovery_seconds", "Completed steps, from the first trouble to the end."),
    "approval_seconds": ("hanse_approval_seconds", "Questions, until a person decided."),
}
_PER_CAPABILITY = frozenset(
    {*("steps", "step_cents", "step_model_cents", "step_retries", "step_refusals", "compensations")}
    | {"step_seconds", "step_recovery_seconds"}
)


async def outcomes(client: Client) -> list[str]:
    """The lines of the caller's series; whether there are any is a series too."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            totals = await client.totals()
    except (HanseError, TimeoutError):
        totals = None
    up = metric("hanse_statistics_up", "gauge", "Whether outcomes can be counted.", [({}, totals is not None)])
    return [*up, *lines(totals or [])]


def lines(totals: Sequence[Total]) -> Iterator[str]:
    """In the order of their metrics, which must not be mixed."""
    of = {name: list(each) for name, each in groupby(sorted(totals, key=_metric), key=_metric)}
    for name, (full, label, help) in _COUNTERS.items():
        yield from metric(full, "counter", help, [(_labels(each, label), each.value) for each in of.get(name, [])])
    for name, (full, help) in _SPANS.items():
        yield from histogram(full, help, _spans(of.get(name, [])))


def _spans(totals: Iterable[Total]) -> Iterator[tuple[Mapping[str, str], Mapping[str, float]]]:
    for _, each in groupby(totals, key=lambda total: total.capability):
        own = list(each)
        yield _labels(own[0], ""), {total.label: total.value for total in own}


def _metric(total: Total) -> str:
    return total.metric


def _labels(total: Total, label: str) -> dict[str, str]:
    named = {"capability": total.capability} if total.metric in _PER_CAPABILITY else {}
    return named | ({label: total.label} if label else {})
