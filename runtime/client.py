"""One tenant's view of a federation: the verbs that the gateway, the CLI and `Federation` are made of.

Two classes keep this protocol: `LinkClient` here speaks frames to the coordinators of its own cluster, `HttpClient`
(`http_client.py`) speaks to a gateway. Both raise the errors of `contracts.errors`, never their transport's.
"""

import asyncio
import uuid
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from ..contracts import (
    AgentView,
    ApprovalView,
    AuditReport,
    Contract,
    Event,
    FederationView,
    Fork,
    HanseError,
    JsonObject,
    MemoryView,
    NotFound,
    ReplayReport,
    StepView,
    Submission,
    TaskId,
    TaskStatus,
    TaskView,
    Tenant,
    Unavailable,
)
from ..contracts.caller import Caller
from ..contracts.delegation import Delegation
from ..contracts.ids import shard_of
from ..contracts.memory import BoundMemory
from ..contracts.messages import Drop, Piece, Request, Response
from ..contracts.outcomes import OutcomesView, Total
from ..contracts.pool import TierView
from .budgets import summed
from .link import Link, Receiver
from .tenant_memory import LinkedMemory, ReachedMemory, memory_in_words
from .tenant_models import LinkedModels, ReachedPool, TenantModels, in_words

_END = object()
NO_POOL, SILENT_POOL = "not configured", "not answering"
POOL_SECONDS = 1.0
"""How long the status of a federation waits for that of its models."""
Dialer = Callable[[Receiver], Awaitable[Link]]
"""Makes a link to one coordinator. Raises Unavailable."""


class Client(Protocol):
    """All methods raise Unavailable when the coordinator cannot be reached; trying again is safe."""

    async def submit(self, submission: Submission) -> TaskView:
        """The task, on disk when this returns. The same idempotency key returns the first task.

        Raises InvalidPlan, InvalidInput, KeyReused (same key, another body), Overloaded, TooLarge.
        """
        ...

    async def task(self, task: str) -> TaskView:
        """Raises NotFound, also for a task of another tenant."""
        ...

    async def tasks(self, *, status: str | None = None, limit: int = 100, before: str | None = None) -> list[TaskView]:
        """Newest first; `before` is the last id of the previous page."""
        ...

    async def steps(self, task: str) -> list[StepView]: ...

    async def events(
        self,
        task: str | None = None,
        *,
        after: int = 0,
        wait_seconds: float = 0,
        limit: int = 1000,
        shard: int | None = None,
    ) -> list[Event]:
        """Events with a sequence above `after`, oldest first; waits up to `wait_seconds` for the first of them.

        Of one task, or (None) of every task of the tenant. An empty list means that the wait was over. With several
        shards `task=None` interleaves them and `after` applies to each shard; `shard` asks only one of them.
        """
        ...

    async def wait(self, task: str, seconds: float) -> TaskView:
        """The task as soon as it is terminal or needs a person, or as it is after `seconds`."""
        ...

    async def cancel(self, task: str, reason: str = "") -> TaskView: ...

    async def replay(self, task: str) -> ReplayReport:
        """Reads the task's journal again, and decides again whatever was decided. Calls no agent and no model."""
        ...

    async def fork(self, task: str, asked: Fork) -> TaskView:
        """A new task from a prefix of this one, on disk when this returns. The same idempotency key returns the first.

        Raises NotFound for a step that the plan does not have, InvalidInput where an effect of the prefix would be had
        twice, Conflict while the task is being rolled back, InvalidPlan, KeyReused, Overloaded.
        """
        ...

    async def resume(
        self, task: str, choice: str, *, step: str | None = None, note: str = "", result: Any = None, output: Any = None
    ) -> TaskView:
        """Says how a held step goes on, with one of the choices in `TaskView.held`; `step` where there are several.

        `result` is what the outside effect gave, when it `happened`; `output` that of a step done `by_hand`. The same
        choice again changes nothing. Raises InvalidInput, Conflict when nothing is held, NotFound.
        """
        ...

    async def agents(self) -> list[AgentView]: ...

    async def capabilities(self) -> list[Contract]: ...

    async def capability(self, name: str) -> Contract:
        """Raises NotFound, naming near ones."""
        ...

    async def approvals(self, *, pending: bool = True) -> list[ApprovalView]: ...

    async def decide(
        self, approval: str, *, approve: bool, digest: str, note: str = "", plan: str = "", input: Any = None
    ) -> ApprovalView:
        """Decides once. With `input` the step is approved with that instead of what was asked about.

        Raises DigestMismatch, also for another `plan` where one is given; NotFound, NotAllowed for whoever may not
        decide, InvalidInput for an input that breaks the contract, Conflict when it was decided otherwise before.
        """
        ...

    async def status(self) -> FederationView: ...

    async def stats(self, *, since_seconds: float = 86_400, by: str = "capability") -> OutcomesView:
        """How well work went in the last so many seconds, and what it cost, by capability, agent or tenant.

        Raises InvalidInput. Where there is much to read in the journals, the answer says that it is not complete.
        """
        ...

    async def totals(self) -> list[Total]:
        """The same since the beginning, as series that only grow. Raises Unavailable as `stats` does."""
        ...

    async def verify(self) -> AuditReport:
        """Checks the hash chain of every journal from its genesis."""
        ...

    async def bundle(self, task: str) -> JsonObject:
        """The evidence of a task, to be checked anywhere (`hanse audit check`). Raises NotFound, Unavailable for a
        federation in memory."""
        ...

    @property
    def models(self) -> TenantModels:
        """The model pool on behalf of this client. Raises Unavailable when none is configured."""
        ...

    @property
    def memory(self) -> BoundMemory:
        """The shared memory on behalf of this client. Raises Unavailable when none is configured."""
        ...

    async def close(self) -> None: ...


class Shard:
    """The way to one coordinator, or to another part that answers: dials when needed, matches answers to questions,
    dials again after a loss.
    """

    def __init__(self, dial: Dialer, patience_seconds: float, whom: str = "the coordinator") -> None:
        self._dial = dial
        self._whom = whom
        self._patience = patience_seconds
        self._link: Link | None = None
        self._dialing = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._pieces: dict[int, asyncio.Queue[Any]] = {}
        self._count = 0

    @property
    def is_reached(self) -> bool:
        """Whether there is a link now."""
        return self._link is not None

    async def reach(self) -> None:
        """Makes the link. Raises Unavailable."""
        await self._connect()

    async def ask(self, method: str, tenant: Tenant, by: str, parameters: Mapping[str, Any]) -> Any:
        """The answer. Asks again while the coordinator is coming back; every method is safe to repeat."""
        return await self._patiently(lambda: self._ask_once(method, tenant, by, parameters))

    async def _patiently(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """What the attempt gives, which is made again after each loss of the link until patience is at its end."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + self._patience
        pause = 0.01
        while True:
            try:
                return await attempt()
            except LinkLost as error:
                if clock() + pause > give_up:
                    raise self._away(error) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _away(self, error: "LinkLost") -> Unavailable:
        return Unavailable(f"{self._whom} cannot be reached: {error.detail}")

    async def _ask_once(self, method: str, tenant: Tenant, by: str, parameters: Mapping[str, Any]) -> Any:
        link = self._link or await self._connect()
        self._count += 1
        number, answer = self._count, asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            link.send(Request(number, method, tenant, parameters, by))
            return await answer
        finally:
            if answer.cancelled():
                link.send(Drop(number))
            self._waiting.pop(number, None)

    async def _connect(self) -> Link:
        async with self._dialing:
            if self._link is None:
                try:
                    self._link = await self._dial(self)
                except Unavailable as error:
                    raise LinkLost(error.detail) from error
            return self._link

    async def stream(self, method: str, tenant: Tenant, by: str, parameters: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The pieces of one answer as they come. Asked once: what was said already cannot be asked for again.

        Raises Unavailable when the link breaks in between. Between nodes only the last piece comes.
        """
        link = self._link or await self._patiently(self._connect)
        self._count += 1
        number, answer = self._count, asyncio.get_running_loop().create_future()
        pieces = self._pieces[number] = asyncio.Queue[Any]()
        self._waiting[number] = answer
        answer.add_done_callback(lambda _: pieces.put_nowait(_END))
        try:
            link.send(Request(number, method, tenant, parameters, by))
            count = 0
            while (piece := await pieces.get()) is not _END:
                count += 1
                yield piece
            last = await answer
            if count == 0:
                yield last
        except LinkLost as error:
            raise self._away(error) from error
        finally:
            if not answer.done():
                link.send(Drop(number))
            self._waiting.pop(number, None)
            self._pieces.pop(number, None)

    def received(self, link: Link, message: Any) -> None:
        if isinstance(message, Piece):
            if (pieces := self._pieces.get(message.number)) is not None:
                pieces.put_nowait(message.data)
        elif isinstance(message, Response) and (answer := self._waiting.get(message.number)) and not answer.done():
            if message.error is None:
                answer.set_result(message.result)
            else:
                answer.set_exception(HanseError.from_data(message.error))

    def closed(self, link: Link, reason: str) -> None:
        if self._link is link:
            self._link = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLost(reason))

    def close(self) -> None:
        if self._link is not None:
            self._link.close("the client is done")


class LinkLost(Unavailable):
    """The link broke before the answer came. Never leaves this module."""

    code = "link_lost"


async def known_tiers(client: Client, view: FederationView) -> list[TierView]:
    """None of them where the pool is away, which the view has found out already."""
    if view.models in (NO_POOL, SILENT_POOL):
        return []
    try:
        return await client.models.tiers()
    except HanseError:
        return []


class LinkClient:
    """A tenant's client over links to the coordinators of this cluster."""

    def __init__(
        self,
        shards: Sequence[Shard],
        tenant: Tenant,
        by: str,
        pool: ReachedPool | None = None,
        memory: ReachedMemory | None = None,
        statistics: Shard | None = None,
    ) -> None:
        self._shards = shards
        self._statistics = statistics
        self._memory = memory
        self._tenant = tenant
        self._by = by
        self._pool = pool

    def acting(self, tenant: Tenant, by: str) -> "LinkClient":
        """The same links, on behalf of somebody else."""
        return LinkClient(self._shards, tenant, by, self._pool, self._memory, self._statistics)

    @property
    def models(self) -> LinkedModels:
        if self._pool is None:
            raise Unavailable("no model pool is configured. Add `models:` to hanse.yaml")
        return LinkedModels(self._pool, Caller(tenant=self._tenant, by=self._by))

    @property
    def memory(self) -> LinkedMemory:
        if self._memory is None:
            raise Unavailable(
                "no shared memory is configured. Add `memory:` to hanse.yaml, such as memory: {shards: 1}"
            )
        return LinkedMemory(self._memory, Caller(tenant=self._tenant, by=self._by))

    async def submit(self, submission: Submission) -> TaskView:
        key = submission.idempotency_key or uuid.uuid4().hex
        body = submission.to_data() | {"idempotency_key": key}
        shard = zlib.crc32(f"{self._tenant}/{key}".encode()) % len(self._shards)
        return _submitted(await self._ask(shard, "submit", body))

    async def task(self, task: str) -> TaskView:
        return TaskView(**await self._ask_owner(task, "task"))

    async def tasks(self, *, status: str | None = None, limit: int = 100, before: str | None = None) -> list[TaskView]:
        found = await self._ask_all("tasks", {"status": status, "limit": limit, "before": before})
        merged = sorted((view for page in found for view in page), key=lambda view: view["id"], reverse=True)
        return [TaskView(**view) for view in merged[:limit]]

    async def steps(self, task: str) -> list[StepView]:
        return [StepView(**view) for view in await self._ask_owner(task, "steps")]

    async def events(
        self,
        task: str | None = None,
        *,
        after: int = 0,
        wait_seconds: float = 0,
        limit: int = 1000,
        shard: int | None = None,
    ) -> list[Event]:
        wanted = {"task": task, "after": after, "wait_seconds": wait_seconds, "limit": limit}
        if task is not None:
            shard = self._owner(task)
        if shard is not None:
            return [Event.from_json(event) for event in await self._ask(shard, "events", wanted)]
        pages = await self._ask_all("events", wanted)
        return sorted((Event.from_json(event) for page in pages for event in page), key=lambda event: event.sequence)

    async def wait(self, task: str, seconds: float) -> TaskView:
        return TaskView(**await self._ask_owner(task, "wait", seconds=seconds))

    async def cancel(self, task: str, reason: str = "") -> TaskView:
        return TaskView(**await self._ask_owner(task, "cancel", reason=reason))

    async def replay(self, task: str) -> ReplayReport:
        return ReplayReport(**await self._ask_owner(task, "replay"))

    async def fork(self, task: str, asked: Fork) -> TaskView:
        key = asked.idempotency_key or uuid.uuid4().hex
        return TaskView(**await self._ask_owner(task, "fork", fork=asked.to_data() | {"idempotency_key": key}))

    async def delegate(self, task: str, step: str, asked: Delegation) -> TaskView:
        """The child that a step has asked for, by the agent that has it in hand. For hosts: no gateway has this."""
        return TaskView(**await self._ask_owner(task, "delegate", step=step, asked=asked.to_data()))

    async def resume(
        self, task: str, choice: str, *, step: str | None = None, note: str = "", result: Any = None, output: Any = None
    ) -> TaskView:
        said = {"choice": choice, "step": step, "note": note, "result": result, "output": output}
        return TaskView(**await self._ask_owner(task, "resume", **said))

    async def agents(self) -> list[AgentView]:
        return [AgentView(**view) for view in await self._ask(0, "agents", {})]

    async def gather(self, seconds: float) -> list[str]:
        """Waits until every configured agent is here and well. Returns those who are not by then."""
        pages = await self._ask_all("gather", {"seconds": seconds})
        return sorted({agent for page in pages for agent in page})

    async def capabilities(self) -> list[Contract]:
        return [Contract.from_data(each) for each in await self._ask(0, "capabilities", {})]

    async def capability(self, name: str) -> Contract:
        return Contract.from_data(await self._ask(0, "capability", {"name": name}))

    async def approvals(self, *, pending: bool = True) -> list[ApprovalView]:
        pages = await self._ask_all("approvals", {"pending": pending})
        return [ApprovalView(**view) for page in pages for view in page]

    async def decide(
        self, approval: str, *, approve: bool, digest: str, note: str = "", plan: str = "", input: Any = None
    ) -> ApprovalView:
        wanted = {"approval": approval, "approve": approve, "digest": digest, "note": note, "plan": plan}
        wanted |= {} if input is None else {"input": input}
        try:
            return ApprovalView(**await self._ask(self._owner(approval.partition(":")[0]), "decide", wanted))
        except NotFound as error:  # it was asked for as a task's step, which is not what the caller spoke of
            raise NotFound(f"there is no approval {approval[:200]!r}", approval=approval[:200]) from error

    async def status(self) -> FederationView:
        views, models, memory = await asyncio.gather(
            self._ask_all("status", {}), self._models_in_words(), self._memory_processes()
        )
        more = {"models": models, "memory": memory_in_words(memory), "memory_processes": memory}
        return _merged([FederationView(**view) for view in views]).model_copy(update=more)

    async def _memory_processes(self) -> list[MemoryView]:
        return await self._memory.processes() if self._memory is not None else []

    async def _models_in_words(self) -> str:
        """A pool that is away must not keep anybody from seeing the rest."""
        if self._pool is None:
            return NO_POOL
        try:
            async with asyncio.timeout(POOL_SECONDS):
                return in_words(await self._pool.tiers())
        except (HanseError, TimeoutError):
            return SILENT_POOL

    async def stats(self, *, since_seconds: float = 86_400, by: str = "capability") -> OutcomesView:
        return OutcomesView(**await self._count("outcomes", {"since_seconds": since_seconds, "by": by}))

    async def totals(self) -> list[Total]:
        return [Total(**each) for each in await self._count("totals", {})]

    async def _count(self, method: str, parameters: Mapping[str, Any]) -> Any:
        if self._statistics is None:
            raise Unavailable("nothing is counted here. Write statistics: true under federation: in hanse.yaml")
        return await self._statistics.ask(method, self._tenant, self._by, parameters)

    async def verify(self) -> AuditReport:
        reports = [AuditReport(**report) for report in await self._ask_all("verify", {})]
        return AuditReport(
            ok=all(report.ok for report in reports),
            entries=sum(report.entries for report in reports),
            head=" ".join(report.head for report in reports),
            problems=[f"shard {i}: {text}" for i, report in enumerate(reports) for text in report.problems],
            seconds=max(report.seconds for report in reports),
        )

    async def bundle(self, task: str) -> JsonObject:
        return await self._ask_owner(task, "bundle")

    async def close(self) -> None:
        for shard in (*self._shards, *([self._statistics] if self._statistics else [])):
            shard.close()
        for each in (self._pool, self._memory):
            if each is not None:
                await each.close()

    def _owner(self, task: str) -> int:
        try:
            shard = shard_of(TaskId(task))
        except ValueError:
            raise NotFound(f"there is no task {task}", task=task) from None
        if shard >= len(self._shards):
            raise NotFound(f"there is no task {task}", task=task)
        return shard

    async def _ask_owner(self, task: str, method: str, **parameters: Any) -> Any:
        return await self._ask(self._owner(task), method, {"task": task, **parameters})

    async def _ask_all(self, method: str, parameters: Mapping[str, Any]) -> list[Any]:
        return await asyncio.gather(*(self._ask(i, method, parameters) for i in range(len(self._shards))))

    async def _ask(self, shard: int, method: str, parameters: Mapping[str, Any]) -> Any:
        return await self._shards[shard].ask(method, self._tenant, self._by, parameters)


def _submitted(view: dict[str, Any]) -> TaskView:
    """The view of a task just taken on. A new one is not checked again: this is the hot path."""
    if view["error"] is not None or view["status"] != TaskStatus.SUBMITTED:
        return TaskView(**view)
    return TaskView.model_construct(**{**view, "status": TaskStatus.SUBMITTED})


def _merged(views: Sequence[FederationView]) -> FederationView:
    tasks = Counter[str]()
    for view in views:
        tasks.update(view.tasks)
    return views[0].model_copy(
        update={
            "tasks": dict(tasks),
            "approvals_pending": sum(view.approvals_pending for view in views),
            "budgets": summed([budget for view in views for budget in view.budgets]),
            "events": sum(view.events for view in views),
            "heads": [head for view in views for head in view.heads],
            "coordinators": [pid for view in views for pid in view.coordinators],
            "anchoring": [each for view in views for each in view.anchoring],
        }
    )


async def all_events(client: Client, task: str) -> list[Event]:
    """Every event of a task so far, oldest first, a page at a time. Raises NotFound."""
    found = list[Event]()
    while page := await client.events(task, after=found[-1].sequence if found else 0):
        found += page
    return found
