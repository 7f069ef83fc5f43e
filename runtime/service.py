"""The coordinator's counter: answers what clients ask over a link. One method per verb of `client.Client`."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from ..contracts import (
    AgentId,
    AgentView,
    ApprovalStatus,
    Digest,
    Failed,
    FederationView,
    Fork,
    HanseError,
    InvalidInput,
    JsonObject,
    KeyReused,
    NotFound,
    StepId,
    Submission,
    TaskId,
    Tenant,
    Unavailable,
    digest,
)
from ..contracts.delegation import Delegation
from ..contracts.events import timestamp
from ..contracts.messages import Request, Response
from ..contracts.plain import check
from ..contracts.schema import Model, fitted
from ..contracts.wire import decode_event, unpack
from .audit.bundle import Notary, make_bundle
from .audit.chain import Audit
from .audit.head import Head
from .children import body_of, came_to_nothing
from .coordinator import Coordinator
from .directory import Member
from .execution import Run
from .fork import body_of as body_of_fork
from .fork import fork
from .holds import resumable, was_chosen
from .intake import Origin
from .link import Link
from .questions import Said
from .replay import Replay
from .store.place import place_of
from .views import agent_view, step_views, task_view

_log = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 300.0
MAX_PAGE = 1000
AUDIT_PAGE = 200
"""Entries that are verified before others get their turn: some milliseconds."""
GATHER_SECONDS = 10.0
"""How long a submission waits for agents that are still expected."""
_LAST = "\x7f"


class Service:
    """Answers requests. Whatever it says of the journal is on disk when it says it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._running: set[asyncio.Task[None]] = set()
        self._quick: dict[str, Callable[[Request], Any]] = {
            "agents": self._agents,
            "capabilities": self._capabilities,
            "capability": self._capability,
            "approvals": self._approvals,
            "status": self._status,
            "task": self._task,
            "tasks": self._tasks,
            "steps": self._steps,
        }
        self._slow: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "cancel": self._cancel,
            "decide": self._decide,
            "delegate": self._delegate,
            "events": self._events,
            "fork": self._fork,
            "gather": self._gather,
            "replay": self._replay,
            "resume": self._resume,
            "verify": self._verify,
            "bundle": self._bundle,
        }

    def handle(self, link: Link, request: Request) -> None:
        """Answers now, or later when the answer must wait for the disk or for an event."""
        try:
            if request.method == "submit":
                self._submit_or_wait(link, request)
            elif request.method == "wait":
                self._wait(link, request)
            elif (quick := self._quick.get(request.method)) is not None:
                self._tell(link, request, quick(request))
            else:
                self._start(link, request)
        except Exception as error:
            self._refuse(link, request, error)

    def _tell(self, link: Link, request: Request, result: Any) -> None:
        """What is said now is said when it is on disk."""

        def send() -> None:
            try:
                link.send(Response(request.number, result))
            except Exception as error:
                self._refuse(link, request, error)

        self._coordinator.journal.then(send, lambda error: self._refuse(link, request, error))

    def _refuse(self, link: Link, request: Request, error: BaseException) -> None:
        """Every question is answered. What nobody foresaw is logged here, and named there without its insides."""
        if not isinstance(error, HanseError):
            _log.error("%s failed", request.method, exc_info=error, extra={"action": "request.failed"})
            error = Failed(f"the coordinator could not answer {request.method}: {type(error).__name__}")
        link.send(Response(request.number, None, error.to_data()))

    def _start(self, link: Link, request: Request) -> None:
        slow = self._slow.get(request.method)
        if slow is None:
            raise NotFound(f"a coordinator has no method {request.method!r}")
        self._coordinator.check_reign()
        self._run_aside(self._answer(link, request, slow))

    def _run_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, link: Link, request: Request, slow: Callable[[Request], Awaitable[Any]]) -> None:
        try:
            self._tell(link, request, await slow(request))
        except Exception as error:
            self._refuse(link, request, error)

    # Tasks

    def _submit_or_wait(self, link: Link, request: Request) -> None:
        try:
            self._tell(link, request, self._submitted(request))
        except Unavailable:
            if not self._coordinator.is_gathering:
                raise
            self._run_aside(self._answer(link, request, self._submitted_when_gathered))

    async def _submitted_when_gathered(self, request: Request) -> JsonObject:
        await self._gathered()
        return self._submitted(request)

    async def _gathered(self) -> None:
        """Just after a start agents are still dialing in: a caller is held for a moment rather than sent away."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                while self._coordinator.is_gathering:
                    await self._coordinator.watchers.watch(None)

    def _submitted(self, request: Request) -> JsonObject:
        submission = read_submission(request.parameters)
        body = digest_of(submission)
        coordinator, key = self._coordinator, submission.idempotency_key

        run = self._first(request.tenant, key, body) if key is not None else None
        if run is None:
            run = coordinator.submit(Origin(request.tenant, request.by), submission, body)
        return _dump(task_view(run))

    def _first(self, tenant: Tenant, key: str, body: str) -> Run | None:
        """The task that this key was first used for. Raises KeyReused when it was for something else."""
        known = self._coordinator.keys.get((tenant, key))
        if known is None:
            rows = self._coordinator.store.read("task_by_key", (tenant, key))
            known = (TaskId(rows[0][0]), rows[0][3]) if rows else None
        if known is None:
            return None
        if known[1] != body:
            raise KeyReused(f"the key {key!r} was used before for another task body", key=key, task=known[0])
        return self._coordinator.run_of(tenant, known[0])

    def _run(self, request: Request) -> Run:
        return self._coordinator.run_of(request.tenant, TaskId(request.parameters["task"]))

    def _task(self, request: Request) -> JsonObject:
        return _dump(task_view(self._run(request)))

    def _steps(self, request: Request) -> list[JsonObject]:
        return [_dump(view) for view in step_views(self._run(request))]

    def _tasks(self, request: Request) -> list[JsonObject]:
        tenant, wanted = request.tenant, request.parameters
        limit = _limit(wanted, 100)
        before, status = wanted.get("before") or _LAST, wanted.get("status")
        if status in ("completed", "failed", "canceled"):
            rows = self._coordinator.store.read("tasks_with_status", (tenant, before, status, limit))
            return [self._listed(tenant, row) for row in rows]
        if status:
            return self._open_tasks(tenant, before, status, limit)
        return [self._listed(tenant, row) for row in self._coordinator.store.read("tasks", (tenant, before, limit))]

    def _open_tasks(self, tenant: Tenant, before: str, status: str, limit: int) -> list[JsonObject]:
        found = [
            run
            for run in self._coordinator.runs.values()
            if run.tenant == tenant and run.shown_status == status and run.task < before
        ]
        return [_dump(task_view(run)) for run in sorted(found, key=lambda run: run.task, reverse=True)[:limit]]

    def _listed(self, tenant: Tenant, row: tuple[Any, ...]) -> JsonObject:
        return _dump(task_view(self._coordinator.run_of(tenant, TaskId(row[0]))))

    def _wait(self, link: Link, request: Request) -> None:
        """Answers when the task has settled or the time is over. By callback: every caller waits, so this is hot."""
        self._wait_until(link, request, self._run(request), self._until(request, "seconds"))

    def _wait_until(self, link: Link, request: Request, run: Run, until: float) -> None:
        left = until - self._now()
        if run.status.terminal or run.waiting_for_person or left <= 0:
            self._tell(link, request, _dump(task_view(run)))
            return
        settled = self._coordinator.watchers.settled(run)
        timer = asyncio.get_running_loop().call_later(left, settled.cancel)

        def look_again(_: "asyncio.Future[None]") -> None:
            timer.cancel()
            self._wait_until(link, request, run, until)

        settled.add_done_callback(look_again)

    async def _cancel(self, request: Request) -> JsonObject:
        run = self._run(request)
        self._coordinator.cancel(run, request.parameters.get("reason") or "", request.by)
        return _dump(task_view(run))

    async def _when_gathered(self, answer: Callable[[Request], Awaitable[JsonObject]], request: Request) -> JsonObject:
        """What fails for want of an agent who is still dialing in is tried again when all are here."""
        try:
            return await answer(request)
        except (Unavailable, NotFound):
            if not self._coordinator.is_gathering:
                raise
        await self._gathered()
        return await answer(request)

    async def _fork(self, request: Request) -> JsonObject:
        return await self._when_gathered(self._forked, request)

    async def _forked(self, request: Request) -> JsonObject:
        """A new task from the prefix of another one, as that stands on disk."""
        coordinator, asked = self._coordinator, _read(Fork, request.parameters["fork"])
        source, key = self._run(request), asked.idempotency_key
        body = digest(body_of_fork(source.task, asked))
        await coordinator.journal.durable()
        run = self._first(request.tenant, key, body) if key is not None else None
        if run is None:
            made = fork(source, coordinator.journal.read(source.task), asked)
            run = coordinator.submit(Origin(request.tenant, request.by, made.origin), made.submission, body)
        return _dump(task_view(run))

    async def _delegate(self, request: Request) -> JsonObject:
        """A child task for a step that the asking agent has in hand; the same one when it asks again."""
        children, asked = self._coordinator.children, _read(Delegation, request.parameters["asked"])
        parent, step = self._run(request), StepId(request.parameters["step"])
        asked, run = self._child(parent, step, asked)
        if run is None:
            run = children.delegate(parent, step, AgentId(request.by), asked)
        elif not run.status.terminal:
            children.adopt(run)
        return _dump(task_view(run))

    def _child(self, parent: Run, step: StepId, asked: Delegation) -> tuple[Delegation, Run | None]:
        """The child, and under which key: a later attempt at the step goes past those that came to nothing before."""
        body = body_of(parent.task, step, asked)
        key, number = asked.key, 0
        while (run := self._first(parent.tenant, key, body)) and came_to_nothing(parent, step, run):
            number += 1
            key = f"{asked.key}~{number}"
        return asked.model_copy(update={"key": key}), run

    async def _replay(self, request: Request) -> JsonObject:
        """From the disk, page by page between other work. Not by way of the run: this may be what tells why it cannot
        be folded.
        """
        task, replay = TaskId(request.parameters["task"]), Replay()
        await self._coordinator.journal.durable()
        rows = self._coordinator.store.read("task", (task,))
        if not rows or rows[0][1] != request.tenant:
            raise NotFound(f"there is no task {task}", task=task)
        page, after = None, 0
        while page is None or page:
            page = self._coordinator.store.read("entries_of_task", (task, after, AUDIT_PAGE))
            for sequence, entry, _ in page:
                after = sequence
                replay.take(decode_event(entry), entry)
            await asyncio.sleep(0)
        return _dump(replay.end().report())

    async def _resume(self, request: Request) -> JsonObject:
        return await self._when_gathered(self._resumed, request)

    async def _resumed(self, request: Request) -> JsonObject:
        """A person has chosen how a held step goes on. The same choice again changes nothing."""
        run, answer = self._run(request), request.parameters
        if not was_chosen(run, answer, request.by):
            self._coordinator.holds.resume(run, resumable(run, answer.get("step")), answer, request.by)
        return _dump(task_view(run))

    # Events

    async def _events(self, request: Request) -> list[JsonObject]:
        task, until = request.parameters.get("task"), self._until(request, "wait_seconds")
        run = self._run(request) if task else None
        while True:
            news = self._coordinator.watchers.watch(run.task if run else None)
            found = self._page(request, run)
            left = until - self._now()
            if found or left <= 0 or (run and run.status.terminal):
                news.cancel()
                return found
            await _within(news, left)

    def _page(self, request: Request, run: Run | None) -> list[JsonObject]:
        """Events of the task, or of all tasks of the tenant and of the federation itself."""
        journal, after = self._coordinator.journal, int(request.parameters.get("after") or 0)
        limit = _limit(request.parameters, MAX_PAGE)
        events = journal.read(run.task, after, limit) if run else journal.read_tenant(request.tenant, after, limit)
        return [event.to_json() for event in events]

    def _until(self, request: Request, name: str) -> float:
        """The moment, on the event loop's clock, until which the caller wants to wait."""
        return self._now() + min(float(request.parameters.get(name) or 0), MAX_WAIT_SECONDS)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # Agents

    def _agents(self, request: Request) -> list[JsonObject]:
        return [_dump(self._agent(member)) for member in self._coordinator.members()]

    def _agent(self, member: Member) -> AgentView:
        return agent_view(member, self._objection(member), self._coordinator.breakers.troubles(member))

    def _objection(self, member: Member) -> str:
        return self._coordinator.directory.absence(member, self._coordinator.clock.monotonic())

    def _capabilities(self, request: Request) -> list[JsonObject]:
        return [contract.to_data() for contract in self._coordinator.directory.contracts()]

    def _capability(self, request: Request) -> JsonObject:
        name, _, version = str(request.parameters["name"]).partition("@")
        return self._coordinator.directory.contract(name, version or None).to_data()  # pyright: ignore[reportArgumentType]

    async def _gather(self, request: Request) -> list[str]:
        """Waits for the expected agents; those who are not here and well by then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(float(request.parameters["seconds"]), MAX_WAIT_SECONDS)):
                while self._absent():
                    await self._coordinator.watchers.watch(None)
        return self._absent()

    def _absent(self) -> list[str]:
        members, now = self._coordinator.directory.members, self._coordinator.clock.monotonic()
        return sorted(
            agent
            for agent in self._coordinator.settings.expected_agents
            if agent not in members or self._coordinator.directory.absence(members[AgentId(agent)], now)
        )

    # People

    def _approvals(self, request: Request) -> list[JsonObject]:
        if request.parameters.get("pending", True):
            rows = self._coordinator.store.read("approvals", (request.tenant, "pending"))
        else:
            rows = self._coordinator.store.read("all_approvals", (request.tenant,))
        return [unpack(body) for (body,) in rows]

    async def _decide(self, request: Request) -> JsonObject:
        return await self._when_gathered(self._decided, request)

    async def _decided(self, request: Request) -> JsonObject:
        wanted = request.parameters
        rows = self._coordinator.store.read("approval", (wanted["approval"],))
        if not rows or rows[0][0] != request.tenant:
            raise NotFound(f"there is no approval {wanted['approval']}", approval=wanted["approval"])
        view = unpack(rows[0][2])
        run = self._coordinator.run_of(request.tenant, TaskId(view["task"]))
        decision = ApprovalStatus.APPROVED if wanted["approve"] else ApprovalStatus.DENIED
        step = run.steps[StepId(view["step"])]
        said = Said(
            decision,
            str(wanted["digest"]),
            request.by,
            str(wanted.get("note") or ""),
            plan=str(wanted.get("plan") or ""),
            input=wanted.get("input"),
        )
        self._coordinator.questions.decide(run, step, said)
        await self._coordinator.journal.durable()
        return unpack(self._coordinator.store.read("approval", (wanted["approval"],))[0][2])

    # The whole

    def _status(self, request: Request) -> JsonObject:
        coordinator = self._coordinator
        counts = coordinator.standing.of(request.tenant)
        ((waiting,),) = coordinator.store.read("pending_count", (request.tenant,))
        for run in coordinator.runs.values():
            if run.tenant == request.tenant:
                counts[run.shown_status] = counts.get(run.shown_status, 0) + 1
        return _dump(
            FederationView(
                name=coordinator.settings.name,
                shards=coordinator.settings.shards,
                epoch=coordinator.store.epoch,
                started_at=timestamp(coordinator.started_ms),
                agents=[self._agent(member) for member in coordinator.members()],
                tasks=counts,
                budgets=[of_day] if (of_day := coordinator.budgets.of_tenant(request.tenant)) else [],
                approvals_pending=waiting,
                events=coordinator.journal.sequence,
                heads=[coordinator.journal.on_disk],
                coordinators=[os.getpid()],
                anchoring=[coordinator.anchoring.view()] if coordinator.anchoring else [],
            )
        )

    async def _verify(self, request: Request) -> JsonObject:
        """Page by page between other work: a thread of its own would get in the way of who reads the store here."""
        journal = self._coordinator.journal
        known = Head(journal.sequence, journal.head)
        await journal.durable()
        audit = Audit(self._coordinator.store, [known], has_subtrees=True)
        more = True
        while more:
            more = audit.read_on(AUDIT_PAGE) and audit.entries < known.sequence
            await asyncio.sleep(0)
        return _dump(audit.report())

    async def _bundle(self, request: Request) -> JsonObject:
        """The evidence of a task. It lies in many files, so a thread reads it, which is held up by nobody's disk."""
        run, coordinator = self._run(request), self._coordinator
        anchoring, data = coordinator.anchoring, coordinator.settings.data
        if anchoring is None or data is None:
            raise Unavailable("this federation keeps everything in memory, which proves nothing to anybody")
        await coordinator.journal.durable()
        held = anchoring.held()
        notary = Notary(anchoring.signer, coordinator.clock.now_ms(), {held.journal: held} if held else {})
        return await asyncio.to_thread(make_bundle, place_of(data), run.task, notary)


def read_submission(data: Mapping[str, Any]) -> Submission:
    """Raises InvalidInput unless it is plain data and asks for exactly one thing."""
    submission = _read(Submission, data)
    asked = [name for name in ("goal", "call", "plan") if getattr(submission, name) is not None]
    if len(asked) != 1:
        what = " and ".join(asked) or "none of them"
        raise InvalidInput(f"a task has exactly one of goal, call and plan; this one has {what}")
    return submission


def _read(model: type[Model], data: Mapping[str, Any]) -> Model:
    """Raises InvalidInput unless it is plain data that can be read."""
    check(dict(data))
    return fitted(model, data)


def digest_of(submission: Submission) -> Digest:
    """What the idempotency key stands for."""
    body = submission.to_data()
    body.pop("idempotency_key", None)
    return digest(body)


def _limit(wanted: Mapping[str, Any], default: int) -> int:
    return max(1, min(int(wanted.get("limit") or default), MAX_PAGE))


async def _within(future: "asyncio.Future[None]", seconds: float) -> None:
    await asyncio.wait([future], timeout=seconds)
    future.cancel()


def _dump(view: Any) -> JsonObject:
    return view.model_dump(mode="json")
