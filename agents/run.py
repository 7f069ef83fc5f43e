"""One step being executed: who waits for it, what it has done outside, and whether anybody still wants it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any

from ..contracts import AwardId, DeadlineExceeded, Digest, HanseError, KeyReused, TimedOut
from ..contracts.labels import NO_MARKS, Marks, joined, marked
from ..contracts.messages import Call
from ..contracts.token import NO_LABELS, Allowance
from .asking import NOTHING_USED, Purse, Used
from .deadlines import Deadlines
from .effects import Effects
from .marking import Marking
from .slots import Slots
from .state import Transaction


class Run:
    """From the moment a call is accepted until its receipt is on disk. Calls with the same key join it."""

    __slots__ = (
        "_allowance",
        "_aside",
        "_given_back",
        "accepted",
        "awards",
        "began",
        "call",
        "cause",
        "digest",
        "done",
        "effects",
        "given_up_at",
        "marking",
        "over",
        "purse",
        "slots",
        "task",
        "time",
        "transaction",
    )

    def __init__(
        self,
        call: Call,
        digest: Digest,
        transaction: Transaction,
        deadlines: Deadlines,
        accepted: float,
        allowance: Allowance = NO_LABELS,
    ) -> None:
        """`allowance` is what the token says of the data."""
        self.call = call
        self.accepted = accepted
        """When it was taken on, in monotonic seconds."""
        self.digest = digest
        self.transaction = transaction
        """Of the handler's present run; a new one each time it runs again."""
        self.began = 0.0
        """When the handler got its slot, in monotonic seconds."""
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.awards: set[AwardId] = {call.award}
        self.effects: Effects | None = None
        self.purse: Purse | None = None
        self.marking: Marking | None = None
        self._allowance = allowance
        self.over = False
        """The handler's part is over: it can no longer be given up."""
        self.cause: HanseError | None = None
        """Why it was given up."""
        self.given_up_at = 0.0
        self.done: asyncio.Future[tuple[Any, HanseError | None] | None] | None = None
        self.slots: list[Slots] = []
        """What it has taken, in the order in which they are taken."""
        self.time = Time(self.time_out, deadlines)
        self._aside = 0
        """Child tasks that its handler waits for."""
        self._given_back: list[Slots] = []

    def open_purse(self) -> Purse:
        """The step's own, the same in each run of its handler. Most steps need none."""
        self.purse = self.purse or Purse()
        return self.purse

    def open_marking(self) -> Marking:
        """What is known of the step's data, the same in each run of its handler. Most steps need none."""
        self.marking = self.marking or Marking(self._allowance)
        return self.marking

    @property
    def used(self) -> Used:
        """What models took for it, and the labels of what it has taken up."""
        used = Used(self.purse.cents, self.purse.tokens) if self.purse else NOTHING_USED
        return used._replace(labels=self.marking.data()) if self.marking and self.marking.taken else used

    @property
    def marks(self) -> Marks:
        """Labels of what it works on: those its token names, and those it has taken up."""
        taken = self.marking.taken if self.marking else NO_MARKS
        if not (taken or self._allowance.labels):
            return NO_MARKS
        given = (label for label in self._allowance.labels if label not in taken)
        return joined(marked(given, f"step {self.call.step} of task {self.call.task}"), taken)

    def check_same(self, call: Call, digest: Digest) -> None:
        """Raises KeyReused when the call is another one under the same key."""
        if digest != self.digest or call.capability != self.call.capability:
            raise key_reused(call)

    async def joined(self, award: AwardId) -> tuple[Any, bool] | None:
        """The outcome of the run that is under way. None when it was stopped for a reason of its own: begin anew."""
        self.awards.add(award)
        self.done = self.done or asyncio.get_running_loop().create_future()
        outcome = await asyncio.shield(self.done)
        if outcome is None:
            return None
        output, error = outcome
        if error:
            raise error
        return output, True

    def close(self) -> None:
        """The handler's part is over. Lets go of what holds this run in its turn: the collector would otherwise have
        to find some twenty objects for each call, which took a fifth of an agent's time.
        """
        self.over = True
        self.time.end()
        self.effects = None

    def end(self, outcome: tuple[Any, HanseError | None] | None) -> None:
        if self.done and not self.done.done():
            self.done.set_result(outcome)

    def drop(self, award: AwardId, cause: HanseError) -> None:
        """Nobody waits for this award any more; the last one to go stops the run."""
        self.awards.discard(award)
        if not self.awards:
            self.give_up(cause)

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """While the handler waits for a child task: others have its slots, and its own time stands still."""
        self._step_aside()
        try:
            yield
        except asyncio.CancelledError:
            self._aside -= 1
            raise
        except BaseException:
            await self._come_back()
            raise
        else:
            await self._come_back()

    def deadline_ms(self) -> int:
        """Unix milliseconds after which nobody waits, moved by what was waited for children; 0 when somebody does."""
        deadline = self.call.deadline_ms
        return deadline + round(self.time.stood_still * 1000) if deadline > 0 else deadline

    def _step_aside(self) -> None:
        self._aside += 1
        if self._aside == 1:
            self.time.stand_still()
            self._given_back, self.slots = self.slots, []
            for each in self._given_back:
                each.give()

    async def _come_back(self) -> None:
        """The last of several children brings the slots back, as soon as others have left them."""
        self._aside -= 1
        if self._aside:
            return
        slots, self._given_back = self._given_back, []
        for each in slots:
            await each.retake()
            self.slots.append(each)
        self.time.go_on()

    def time_out(self, error: type[HanseError], seconds: float) -> None:
        self.give_up(error(f"the handler did not end within {seconds:.3g} s"))

    def give_up(self, cause: HanseError) -> None:
        """Cancels the handler, unless its writes are admitted already."""
        if self.task and not (self.over or self.cause):
            self.cause, self.given_up_at = cause, asyncio.get_running_loop().time()
            self.task.cancel()

    @property
    def is_canceled(self) -> bool:
        """Whether somebody has asked for it to end, as against a handler that raises CancelledError by itself."""
        return bool(self.cause or (self.task and self.task.cancelling()))

    def pin(self) -> Awaitable[None]:
        return self.transaction.pin(self)

    def caught(self) -> HanseError | None:
        """After a CancelledError: the cause, if the run was given up. None when somebody else canceled the task."""
        if self.cause and self.task:
            self.task.uncancel()
        return self.cause


class Time:
    """What a handler may take: seconds of its own, and those to its call's deadline. Both can stand still: a task's own
    deadline is watched by its coordinator.
    """

    __slots__ = ("_deadline", "_deadlines", "_mine", "_over", "_seconds", "_stopped_at", "_to_deadline", "stood_still")

    def __init__(self, over: Callable[[type[HanseError], float], None], deadlines: Deadlines) -> None:
        self._over, self._deadlines = over, deadlines
        self._seconds = self._to_deadline = self._stopped_at = 0.0
        self._mine = self._deadline = inf
        self.stood_still = 0.0
        """Seconds, in all."""

    @property
    def ends(self) -> float:
        return min(self._mine, self._deadline)

    def start(self, seconds: float, to_deadline: float) -> None:
        """Both in seconds from now."""
        now = asyncio.get_running_loop().time()
        self._seconds, self._to_deadline = seconds, to_deadline
        self._mine, self._deadline = now + seconds, now + to_deadline
        self._deadlines.begin(self)

    def stand_still(self) -> None:
        self._deadlines.end(self)
        self._stopped_at = asyncio.get_running_loop().time()

    def go_on(self) -> None:
        still = asyncio.get_running_loop().time() - self._stopped_at
        self._mine, self._deadline = self._mine + still, self._deadline + still
        self.stood_still += still
        self._deadlines.begin(self)

    def is_up(self) -> None:
        if self._deadline < self._mine:
            self._over(DeadlineExceeded, self._to_deadline)
        else:
            self._over(TimedOut, self._seconds)

    def end(self) -> None:
        self._deadlines.end(self)
        self._over = _nobody


def _nobody(error: type[HanseError], seconds: float) -> None:
    """Is told when the time of a run is up that has ended."""


def key_reused(call: Call) -> KeyReused:
    return KeyReused(f"the key {call.key!r} was used before with another capability or input", key=call.key)
