"""A host: a process in which one or several agents live. It dials the coordinators and answers their calls.

A lost link is dialed again, for ever. Results that were ready meanwhile are dropped: the coordinator sends the call
again, and the receipt answers it. So nothing here needs to be remembered.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..agents.engine import Engine
from ..contracts import AgentId, Clock, JsonObject, StorageError, Unavailable
from ..contracts.messages import Call, Calls, Hello, Offers, Proposal, Proposed, Result, Results, Stop, Welcome
from .link import Link, Receiver
from .outbox import batches

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
OFFER_SECONDS = 0.05
"""How soon a change of the queue is told to the coordinators."""
Dialer = Callable[[Receiver], Awaitable[Link]]


class Host:
    """Agents and their links. A plain class: the Ray actor around it is in `actors.py`."""

    def __init__(
        self,
        name: str,
        incarnation: str,
        clock: Clock,
        *,
        node: str = "",
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.name = name
        self._clock = clock
        self.engines: dict[AgentId, Engine] = {}
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._incarnation = incarnation
        self._node = node
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._answers: dict[Link, list[Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def take_in(self, engine: Engine, *closing: Callable[[], Awaitable[None]]) -> None:
        """Houses an agent before the start. `closing` is done after it has stopped."""
        self.engines[engine.agent_id] = engine
        self._closing += closing

    async def start(self, dialers: Sequence[Dialer]) -> None:
        """Restores every agent, then dials. No call reaches an agent before its state is restored."""
        for engine in self.engines.values():
            await engine.start()
        for dial in dialers:
            self._spawn(self._keep_linked(dial))
        self._spawn(self._beat())

    async def stop(self) -> None:
        self._stopping = True
        for link in list(self._links):
            link.close("the host stops")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self.engines.values():
            await engine.stop()
        for close in self._closing:
            await close()

    def send(self, message: Any) -> None:
        """To every coordinator."""
        for link in self._links:
            link.send(message)

    # Links

    async def _keep_linked(self, dial: Dialer) -> None:
        pause = 0.01
        while not self._stopping:
            seat = _Seat(self)
            try:
                link = await dial(seat)
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.25)
                continue
            pause = 0.01
            link.send(self._hello())
            await seat.gone.wait()

    def _hello(self) -> Hello:
        described = [engine.describe() | {"node": self._node, "pid": os.getpid()} for engine in self.engines.values()]
        return Hello(self.name, self._incarnation, described)

    async def _beat(self) -> None:
        told: list[Any] = []
        quiet = 0.0
        while True:
            offers = self._offers()
            if offers != told or quiet >= HEARTBEAT_SECONDS:
                self.send(Offers(offers, self._clock.now_ms()))
                told, quiet = offers, 0.0
            await asyncio.sleep(OFFER_SECONDS)
            quiet += OFFER_SECONDS

    def _offers(self) -> list[JsonObject]:
        return [engine.offer().to_data() for engine in self.engines.values()]

    def received(self, link: Link, message: Any) -> None:
        match message:
            case Calls(calls):
                for call in calls:
                    self._spawn(self._execute(link, call))
            case Stop(awards):
                for award in awards:
                    for engine in self.engines.values():
                        engine.stop_award(award)
            case Proposal():
                self._spawn(self._propose(link, message))
            case Welcome():
                self._links.add(link)
                link.send(Offers(self._offers(), self._clock.now_ms()))
            case _:
                link.close(f"a host does not take {type(message).__name__}")

    def lost(self, link: Link, reason: str) -> None:
        self._links.discard(link)
        self._answers.pop(link, None)
        if not self._stopping:
            _log.info("link to a coordinator lost: %s", reason, extra={"action": "link.lost"})

    # Calls

    async def _execute(self, link: Link, call: Call) -> None:
        engine = self.engines.get(AgentId(call.agent))
        if engine is None:
            error = Unavailable(f"{call.agent} does not live here", agent=call.agent)
            self._answer(link, Result(call.award, None, error.to_data()))
            return
        try:
            self._answer(link, await engine.execute(call))
        except StorageError as error:
            self._on_failure(error)

    def _answer(self, link: Link, result: Result) -> None:
        waiting = self._answers.get(link)
        if waiting is None:
            waiting = self._answers[link] = []
        if not waiting:
            self._loop.call_soon(self._flush, link)
        waiting.append(result)

    def _flush(self, link: Link) -> None:
        for batch in batches(self._answers.pop(link, [])):
            link.send(Results(batch))

    async def _propose(self, link: Link, proposal: Proposal) -> None:
        engine = self.engines.get(proposal.agent)
        if engine is not None:
            bid = await engine.propose(proposal)
            link.send(Proposed(proposal.number, bid.to_data()))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a host's task failed", exc_info=error, extra={"action": "host.failed"})
            self._on_failure(error)


class _Seat:
    """The host's end of one link."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.gone = asyncio.Event()

    def received(self, link: Link, message: Any) -> None:
        self._host.received(link, message)

    def closed(self, link: Link, reason: str) -> None:
        self._host.lost(link, reason)
        self.gone.set()
