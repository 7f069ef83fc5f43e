"""One step being executed: who waits for it, what it has done outside, and whether anybody still wants it."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from ..contracts import AwardId, Digest, HanseError, KeyReused
from ..contracts.messages import Call
from .asking import NOTHING_USED, Purse, Used
from .effects import Effects
from .state import Transaction


class Run:
    """From the moment a call is accepted until its receipt is on disk. Calls with the same key join it."""

    __slots__ = (
        "accepted",
        "awards",
        "began",
        "call",
        "cause",
        "digest",
        "done",
        "effects",
        "given_up_at",
        "over",
        "purse",
        "task",
        "transaction",
    )

    def __init__(self, call: Call, digest: Digest, transaction: Transaction, accepted: float) -> None:
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
        self.over = False
        """The handler's part is over: it can no longer be given up."""
        self.cause: HanseError | None = None
        """Why it was given up."""
        self.given_up_at = 0.0
        self.done: asyncio.Future[tuple[Any, HanseError | None] | None] | None = None

    def open_purse(self) -> Purse:
        """The step's own, the same in each run of its handler. Most steps need none."""
        self.purse = self.purse or Purse()
        return self.purse

    @property
    def used(self) -> Used:
        """What models took for it."""
        return Used(self.purse.cents, self.purse.tokens) if self.purse else NOTHING_USED

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

    def end(self, outcome: tuple[Any, HanseError | None] | None) -> None:
        if self.done and not self.done.done():
            self.done.set_result(outcome)

    def drop(self, award: AwardId, cause: HanseError) -> None:
        """Nobody waits for this award any more; the last one to go stops the run."""
        self.awards.discard(award)
        if not self.awards:
            self.give_up(cause)

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


def key_reused(call: Call) -> KeyReused:
    return KeyReused(f"the key {call.key!r} was used before with another capability or input", key=call.key)
