"""`hanse run retail`: the store's 74 customer tasks, live.

Starts the store's federation on fresh data, hands it every customer's wishes as one plan each, many at once, kills an
agent on the way, has large refunds decided (by the person at the terminal, else by a rule that is printed), and tells
at the end what happened, counted from the journal. The federation keeps serving until `hanse down`.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from rich.live import Live

from ...agents.retail.customer_tasks import CustomerTask, customer_tasks
from ...contracts import ApprovalView, AuditReport, Conflict, Event, Kind, TaskStatus, TaskView, TimedOut
from .. import runfile
from ..client import Client
from ..config import default_heads
from ..mailbox import deliveries
from ..report import Report, Tally, effects_of
from ..runfile import RunFile
from . import up
from .board import board, closing
from .command import Ended, Session
from .exits import Exit
from .output import Output
from .reach import Options
from .submission import submission_of
from .text import duration, inline
from .view import plain_line, question
from .watch import Feed

DATA = Path("var") / "retail"
AT_ONCE = 24
"""Tasks under way at a time."""
VICTIM = "payments"
"""The agent that is killed: it has a process of its own, and most tasks need it."""
KILL_AFTER = 20
"""Ended tasks before the kill, so that there is work before it and after it."""
WAIT_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""Without any event for so long, while tasks are open, something is wrong."""
APPROVED_UP_TO = 1500
"""Dollars: the rule where no person is at the terminal."""
_TOLD = frozenset(
    {Kind.TASK_COMPLETED, Kind.TASK_FAILED, Kind.TASK_CANCELED, Kind.AGENT_LEFT, Kind.AGENT_JOINED}
    | {Kind.COORDINATOR_STARTED, Kind.STEP_INTERRUPTED, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED}
)
"""What is printed where no picture can be drawn."""


async def run(session: Session) -> None:
    """The whole of it. Ends with FAILED when a task did not complete, an effect ran twice or the journal is broken."""
    data = Path.cwd() / DATA
    server = await asyncio.to_thread(_begin, session.out, data)
    async with session.reach(Options(url=server.url, token=server.token)) as client:
        store = Store(session.out, client, Tally(effects_of(await client.capabilities())))
        try:
            views = await store.serve(customer_tasks())
        except asyncio.CancelledError:
            me = program()
            session.out.remark(f"the store goes on: {me} tasks list, {me} approvals list. Stop it: {me} down")
            raise
        audit = await client.verify()
    _tell(session.out, server, data, store.tally.report(), views, audit)


@dataclass
class Store:
    """The run under way: one loop follows the journal, and everything else waits for what it sees."""

    out: Output
    client: Client
    tally: Tally
    _ended: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _asked: set[str] = field(default_factory=set[str])
    _person: bool = False
    _killed: bool = False
    _live: Live | None = None
    _people: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def serve(self, tasks: Sequence[CustomerTask]) -> list[TaskView]:
        """Every task as it ended, in their order."""
        async with self._screen(), asyncio.TaskGroup() as group:
            work = group.create_task(self._all(tasks))
            await self._follow(work, len(tasks), group)
        return work.result()

    async def _all(self, tasks: Sequence[CustomerTask]) -> list[TaskView]:
        """Many at once; but tasks of one customer one after the other, as the customer would ask."""
        room = asyncio.Semaphore(AT_ONCE)
        last: dict[str, asyncio.Task[TaskView]] = {}
        running = list[asyncio.Task[TaskView]]()
        for task in tasks:
            before = [last[customer] for customer in task.customers if customer in last]
            running.append(asyncio.create_task(self._one(task, before, room)))
            last |= dict.fromkeys(task.customers, running[-1])
        return await asyncio.gather(*running)

    async def _one(
        self, task: CustomerTask, before: Iterable[asyncio.Task[TaskView]], room: asyncio.Semaphore
    ) -> TaskView:
        await asyncio.gather(*before)
        body = {"plan": task.plan, "idempotency_key": f"retail-{task.id}", "labels": {"customer task": task.id}}
        async with room:
            view = await self.client.submit(submission_of(body))
            self._names[view.id] = task.id
            await self._end_of(view.id).wait()
        return await self.client.task(view.id)

    def _end_of(self, task: str) -> asyncio.Event:
        return self._ended.setdefault(task, asyncio.Event())

    async def _follow(self, work: "asyncio.Task[list[TaskView]]", expected: int, group: asyncio.TaskGroup) -> None:
        """Reads the journal until every task ended and the killed agent is back."""
        feed, quiet = Feed(self.client, (await self.client.status()).shards), 0.0
        while not (work.done() and self._is_back()):
            page = await feed.page(WAIT_SECONDS)
            quiet = 0.0 if page else quiet + WAIT_SECONDS
            if quiet > QUIET_SECONDS and not self.tally.waiting:
                raise TimedOut(
                    f"nothing has happened for {duration(quiet * 1000)}. Look: hanse status, hanse tasks list"
                )
            for event in page:
                self._see(event)
            self._draw(expected)
            await self._kill_once()
            self._ask(group)

    def _see(self, event: Event) -> None:
        self.tally.add(event)
        if event.kind.ends_task:
            self._end_of(str(event.task)).set()
        if self._live is None and not self.out.json and event.kind in _TOLD:
            self.out.draw(self._line(event))

    def _line(self, event: Event) -> str:
        """Where no picture can be drawn: customers' tasks by their number, without the long output."""
        if event.kind.ends_task:
            name = self._names.get(str(event.task), event.task)
            return f"{self._count_ended():3d} customer task {name}: {self.tally.tasks[str(event.task)]}"
        about = self._names.get(str(event.task))
        return f"    {plain_line(event)}" + (f" (customer task {about})" if about else "")

    def _draw(self, expected: int) -> None:
        if self._live is not None and self._live.is_started:
            self._live.update(board(self.tally, expected), refresh=True)

    # An agent is killed on the way

    async def _kill_once(self) -> None:
        """While it works, if it can be seen to; else once half of the work that is left is done."""
        ended = self._count_ended()
        busy = VICTIM in self.tally.in_flight.values()
        if self._killed or ended < KILL_AFTER or not (busy or ended >= 2 * KILL_AFTER):
            return
        for agent in await self.client.agents():
            apart = agent.pid != os.getpid() and runfile.process_started(agent.pid) is not None
            if agent.id == VICTIM and apart:
                self._killed = True
                self._say(f"killing the agent {agent.id}, process {agent.pid}")
                os.kill(agent.pid, signal.SIGKILL)

    def _count_ended(self) -> int:
        return sum(status != "open" for status in self.tally.tasks.values())

    def _say(self, text: str) -> None:
        """A remark, above the picture where there is one."""
        if self._live is not None and self._live.is_started:
            self.out.draw(text)
        else:
            self.out.remark(text, "yellow")

    def _is_back(self) -> bool:
        return not self._killed or self.tally.counts["recoveries"] > 0

    # People

    def _ask(self, group: asyncio.TaskGroup) -> None:
        for approval in set(self.tally.waiting) - self._asked:
            self._asked.add(approval)
            group.create_task(self._decide(approval))

    async def _decide(self, approval: str) -> None:
        seen = next((each for each in await self.client.approvals() if each.id == approval), None)
        if seen is None:
            return
        async with self._people:
            approve = await self._person_says(seen) if self._person else _rule_says(seen)
            note = "" if self._person else RULE
        try:
            await self.client.decide(seen.id, approve=approve, digest=seen.digest, note=note)
        except Conflict:
            self._say(f"{seen.id} was decided from elsewhere meanwhile")

    async def _person_says(self, seen: ApprovalView) -> bool:
        """Asks below a picture that stands still meanwhile. The work of the others goes on."""
        assert self._live is not None
        self._live.stop()
        try:
            self.out.draw(question(seen))
            answer = await self.out.ask("Let it run? y yes, n no, r let a rule decide this and the rest [y]")
            self._person = answer != "r"
            return answer in ("", "y", "yes") if self._person else _rule_says(seen)
        finally:
            self._live.start()

    @asynccontextmanager
    async def _screen(self) -> AsyncIterator[None]:
        """A picture where there is a terminal; else, first of all, the rule that stands in for the person."""
        self._person = self.out.live and sys.stdin.isatty()
        if not self._person:
            self.out.remark(f"nobody is at the terminal, so {RULE}")
        if not self.out.live:
            yield
            return
        self._live = Live(console=self.out.console, auto_refresh=False, vertical_overflow="crop")
        with self._live:
            yield


RULE = f"a rule decides: approved up to {APPROVED_UP_TO}, denied above"


def _rule_says(seen: ApprovalView) -> bool:
    amount = seen.input.get("amount") if isinstance(seen.input, dict) else None
    return isinstance(amount, int | float) and amount <= APPROVED_UP_TO


def _begin(out: Output, data: Path) -> RunFile:
    """The store's federation on fresh data; that of the last run is kept beside it, as `retail.before`."""
    run = runfile.read(data)
    if run is not None and run.alive:
        out.remark(f"stopping the store that still runs, process {run.pid}")
        up.stop(data, run, up.STOP_SECONDS, force=True)
    put_aside(data)
    out.remark("starting Ray, the agents and the gateway")
    with as_file(files("hanse.agents.retail") / "federation.yaml") as file:
        try:
            return up.start({"config": file, "folder": Path.cwd(), "mailbox": data / "mail"}, data)
        except Conflict as error:
            if "port" not in error.ids:
                raise
            raise Conflict(f"{error.detail.partition('. ')[0]}. Choose another: HANSE_PORT=0", **error.ids) from error


def program() -> str:
    """What to type for this program: `make run` calls it where no shell looks for it."""
    called = sys.argv[0]
    found = shutil.which("hanse")
    return "hanse" if found and os.path.exists(called) and os.path.samefile(found, called) else called


def put_aside(data: Path) -> None:
    """Keeps what the last run left as `NAME.before`, with the heads of its journals: beside another journal they would
    say that it was written anew. What was kept before is gone."""
    if not data.exists():
        return
    kept = data.with_name(f"{data.name}.before")
    shutil.rmtree(kept, ignore_errors=True)
    data.rename(kept)
    if default_heads(data).exists():
        default_heads(data).rename(default_heads(kept))


def _tell(
    out: Output, server: RunFile, data: Path, report: Report, views: Sequence[TaskView], audit: AuditReport
) -> None:
    """The closing table. Ends the command with FAILED when a promise was broken."""
    came = deliveries(data / "mail")
    twice = [letter for letter, count in came.items() if count > 1]
    letters = f"{len(came)}, " + (f"{len(twice)} of them more than once" if twice else "each exactly once")
    verdict = f"{audit.entries} entries, {'unbroken' if audit.ok else 'BROKEN'}"
    body = {"report": report, "letters": len(came), "letters_twice": len(twice), "audit": audit, "url": server.url}
    out.show(body, lambda: closing(report, [("letters at the mail server", letters), ("audit", verdict)]))
    me = program()
    out.remark(f"It keeps serving at {server.url}: {me} tasks list, {me} audit verify. Stop it: {me} down")
    not_completed = [view for view in views if view.status is not TaskStatus.COMPLETED]
    for view in not_completed:
        out.remark(f"hanse: task {view.id} {inline(view.labels)} is {view.status}", "red")
    if not_completed or twice or report.effects_doubled or not audit.ok:
        raise Ended(Exit.FAILED)
