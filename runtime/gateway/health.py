"""`/healthz` and `/metrics`: for machines that watch machines."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from ...contracts import FederationView, HanseError, TaskStatus, Unavailable
from . import answers
from .desk import Desk, client_of, desk_of
from .meter import metric
from .openapi import gives
from .schemas import Health

router = APIRouter(tags=["federation"])

FRESH_SECONDS = 1.0
"""How long a finding is passed on. Anybody may ask for it, so asking must not cost the coordinator anything."""
PATIENCE_SECONDS = 2.0


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
    """The caller's tasks and approvals, the agents, and the requests that this process answered."""
    desk = desk_of(request)
    lines = [*_federation(await client_of(request).status()), *_requests(desk)]
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
