"""`/healthz` and `/metrics`: for machines that watch machines."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from ...contracts import FederationView, HanseError, TaskStatus, Unavailable
from ...contracts.pool import TierState, TierView
from ..client import known_tiers
from . import answers
from .desk import Desk, client_of, desk_of
from .meter import metric
from .openapi import gives
from .schemas import Health
from .series import outcomes

router = APIRouter(tags=["federation"])

FRESH_SECONDS = 1.0
"""How long a finding is passed on. Anybody may ask for it, so asking must not cost the coordinator anything."""
PATIENCE_SECONDS = 2.0
ANSWERING = (TierState.READY, TierState.DEGRADED)


@dataclass(slots=True)
class Pulse:
    """Whether the coordinator answers, asked at most once a second."""

    looked_at: float = -FRESH_SECONDS
    beats: bool = False
    looking: "asyncio.Task[None] | None" = None

    async def feel(self, desk: Desk) -> bool:
        if time.monotonic() - self.looked_at >= FRESH_SECONDS and self.looking is None:
            self.looking = asyncio.create_task(self._look(desk))
        if self.looking is not None:
            await asyncio.shield(self.looking)
        return self.beats

    async def _look(self, desk: Desk) -> None:
        try:
            await asyncio.wait_for(desk.anybody().agents(), PATIENCE_SECONDS)
            self.beats = True
        except (HanseError, TimeoutError):
            self.beats = False
        finally:
            self.looked_at, self.looking = time.monotonic(), None


@router.get("/healthz", summary="Is it up?", responses=gives(_200=Health))
async def healthz(request: Request) -> Response:
    """200 when the coordinator answers, 503 when not. Needs no token and says nothing else."""
    if not await request.app.state.pulse.feel(desk_of(request)):
        raise Unavailable("the coordinator does not answer")
    return answers.view(Health(status="ok"))


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The caller's tasks, approvals and outcomes, the agents, the tiers, and the requests that were answered here."""
    desk, client = desk_of(request), client_of(request)
    view = await client.status()
    lines = [*_federation(view), *_tiers(await known_tiers(client, view)), *await outcomes(client), *_requests(desk)]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _federation(view: FederationView) -> Iterable[str]:
    healthy = sum(agent.healthy for agent in view.agents)
    tasks = [({"status": str(status)}, view.tasks.get(status, 0)) for status in TaskStatus]
    agents = [({"healthy": "true"}, healthy), ({"healthy": "false"}, len(view.agents) - healthy)]
    queues = [({"agent": agent.id}, agent.queue_depth) for agent in view.agents]
    yield from metric("hanse_tasks", "gauge", "Tasks of the tenant per status.", tasks)
    yield from metric(
        "hanse_approvals_pending", "gauge", "Questions that wait for a person.", [({}, view.approvals_pending)]
    )
    yield from metric("hanse_agents", "gauge", "Agents of the federation.", agents)
    yield from metric("hanse_agent_queue_depth", "gauge", "Calls accepted and not yet answered.", queues)
    yield from metric("hanse_journal_events", "gauge", "Entries in the journals.", [({}, view.events)])
    yield from _anchoring(view)
    yield from _memory(view)


def _memory(view: FederationView) -> Iterable[str]:
    """Of the processes of the shared memory, all tenants together."""
    figures = (
        ("hanse_memory_up", "gauge", "Whether the process answers.", lambda each: each.answers),
        ("hanse_memory_open_tenants", "gauge", "Tenants whose indexes it has open.", lambda each: each.tenants),
        ("hanse_memory_open_records", "gauge", "Records in these indexes.", lambda each: each.records),
        ("hanse_memory_reads_total", "counter", "Recalls and look-ups that it answered.", lambda each: each.reads),
    )
    for name, kind, help, figure in figures if view.memory_processes else ():
        samples = [({"process": each.name, "kind": each.kind}, float(figure(each))) for each in view.memory_processes]
        yield from metric(name, kind, help, samples)


def _anchoring(view: FederationView) -> Iterable[str]:
    """What nobody outside vouches for yet, and who does not answer. A federation in memory has none."""
    if not view.anchoring:
        return
    entries = [({"journal": each.journal}, each.unanchored) for each in view.anchoring]
    failing = [
        ({"journal": each.journal, "anchor": anchor.name}, bool(anchor.error))
        for each in view.anchoring
        for anchor in each.anchors
    ]
    alarms = [({"journal": each.journal}, bool(each.alarm)) for each in view.anchoring]
    yield from metric(
        "hanse_unanchored_entries", "gauge", "Entries behind the last head that is kept outside.", entries
    )
    yield from metric("hanse_anchor_failing", "gauge", "Whether the anchor did not take its last head.", failing)
    yield from metric(
        "hanse_journal_rolled_back", "gauge", "Whether an anchor holds what the journal does not.", alarms
    )


def _tiers(tiers: Sequence[TierView]) -> Iterable[str]:
    """Of the whole pool, all tenants together."""
    figures = (
        ("hanse_tier_ready", "gauge", "Whether the tier answers.", lambda tier: tier.state in ANSWERING),
        ("hanse_tier_replicas", "gauge", "Engines that answer.", lambda tier: tier.replicas),
        ("hanse_tier_queue_depth", "gauge", "Calls that wait for a place in the engine.", lambda tier: tier.queued),
        ("hanse_tier_in_flight", "gauge", "Calls in the engine.", lambda tier: tier.in_flight),
        ("hanse_tier_calls_total", "counter", "Calls answered.", lambda tier: tier.calls),
        ("hanse_tier_tokens_total", "counter", "Tokens read and written.", lambda tier: tier.tokens),
        ("hanse_tier_cents_total", "counter", "Cents spent.", lambda tier: tier.cents),
    )
    for name, kind, help, figure in figures if tiers else ():
        yield from metric(name, kind, help, [({"tier": tier.name}, float(figure(tier))) for tier in tiers])


def _requests(desk: Desk) -> Iterable[str]:
    counts = [
        ({"method": method, "route": route, "status": str(status)}, count)
        for (method, route, status), count in sorted(desk.meter.requests.items())
    ]
    seconds = [({"route": route}, spent) for route, spent in sorted(desk.meter.seconds.items())]
    admission = desk.admission
    inside = [({"state": "working"}, admission.in_flight), ({"state": "waiting"}, admission.waiting)]
    yield from metric("hanse_http_requests_total", "counter", "Requests answered by this process.", counts)
    yield from metric("hanse_http_request_seconds_total", "counter", "Time spent on them, in seconds.", seconds)
    yield from metric("hanse_http_requests_inside", "gauge", "Requests that are inside now.", inside)
