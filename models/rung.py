"""A rung: one tier at work. Its queue, its breaker, its engine, and what it costs to ask it.

An attempt goes: does it fit, is there money, wait for a place, hold the money on disk, ask the engine, settle. An
engine that says nothing in time is left to itself; one that died, or whose answer was lost, may have done all of the
work, and is paid for it. What an engine refuses before it began costs nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from ..contracts import (
    BudgetExhausted,
    Clock,
    ContractBreach,
    DeadlineExceeded,
    HanseError,
    InvalidInput,
    ModelUnavailable,
    Overloaded,
    TimedOut,
    TooLarge,
)
from ..contracts.breaker import Passage
from ..contracts.caller import Caller
from ..contracts.pool import Ask, Message, TierView
from .backend import Backend, Raw, RawPiece
from .budget import LEASE_SECONDS, CallBudget, Used
from .cascade import Work
from .compress import shorten
from .entrance import Entrance
from .policy import Policy
from .price import price
from .proposal import mended, propose, sane
from .queue import TierQueue
from .tier import Tier

GRACE_SECONDS = 0.25
"""That an engine has to say itself that time is up."""
LEAST_ROOM = 32
"""Tokens of an answer below which there is no use in asking."""

_NOT_BEGUN = (Overloaded, InvalidInput, TooLarge, BudgetExhausted, DeadlineExceeded)
_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """One attempt under way."""

    prompt_tokens: int
    max_tokens: int
    seconds: float = 0
    begun: bool = False
    raw: Raw | None = None
    used: Used = field(default_factory=Used)


class Rung:
    """One generative tier."""

    def __init__(
        self, tier: Tier, backend: Backend, clock: Clock, policy: Policy, durable: Callable[[], Awaitable[None]]
    ) -> None:
        """`durable` returns when what was journaled so far is on disk."""
        self.tier, self.backend = tier, backend
        self._clock, self._policy, self._durable = clock, policy, durable
        self.queue = TierQueue(tier.name, tier.concurrency, tier.queue, clock)
        self._entrance = Entrance(tier.name, backend.condition, clock, policy)
        backend.watch(self._fit_queue)
        self._fit_queue()

    @property
    def name(self) -> str:
        return self.tier.name

    @property
    def model(self) -> str:
        return str(self.backend.digest)

    def available(self) -> bool:
        """Whether there is any use in asking it now."""
        return self._entrance.open()

    def guess_cents(self, ask: Ask) -> float:
        """What an attempt may cost, before anything was learned: half of the tokens that the answer may have."""
        words = sum(len(each.content or "") for each in ask.messages)
        return price(self.tier, words // 4, ask.max_tokens // 2) / 1_000_000

    def view(self, calls: int, tokens: int, cents: float) -> TierView:
        condition = self._entrance.condition()
        return TierView(
            name=self.name,
            kind=self.tier.kind,
            state=condition.state,
            model=self.tier.source,
            digest=self.model,
            progress=condition.progress,
            detail=condition.detail,
            remedy=condition.remedy,
            replicas=condition.replicas,
            queued=self.queue.waiting,
            in_flight=self.queue.in_flight,
            context_window=self.tier.context_window,
            cents_per_1k_prompt=self.tier.cents_per_1k_prompt,
            cents_per_1k_completion=self.tier.cents_per_1k_completion,
            calls=calls,
            tokens=tokens,
            cents=cents,
        )

    async def attempt(self, ask: Ask, caller: Caller, money: CallBudget) -> Work:
        """One try. What goes wrong is in the work, and so is what it cost all the same."""
        started, turn, shortened = self._clock.monotonic(), Turn(0, 0), 0
        proposal, error = None, None
        try:
            ask, turn, shortened = await self._fitted(ask)
            async with self._turn(turn, caller, money):
                turn.raw = sane(await self._answer(ask, turn), turn.prompt_tokens, turn.max_tokens)
            proposal = propose(ask, turn.raw, self._policy.max_answer_chars)
        except HanseError as raised:
            error = raised.about(tier=self.name)
        milliseconds = (self._clock.monotonic() - started) * 1000
        return Work(self.name, self.model, proposal, error, turn.used, milliseconds, shortened)

    async def stream(self, ask: Ask, caller: Caller, money: CallBudget) -> AsyncGenerator[RawPiece | Work, None]:
        """Pieces as the engine writes them, and last the work. Raises what an attempt says in its work."""
        started = self._clock.monotonic()
        ask, turn, shortened = await self._fitted(ask)
        async with self._turn(turn, caller, money), aclosing(self._pieces(ask, turn)) as pieces:
            async for piece in pieces:
                yield piece
        proposal = propose(ask, turn.raw or Raw(""), self._policy.max_answer_chars)
        milliseconds = (self._clock.monotonic() - started) * 1000
        yield Work(self.name, self.model, proposal, None, turn.used, milliseconds, shortened)

    def _fit_queue(self) -> None:
        """Each replica has an engine of its own. With fewer calls than all of them take, none more would be started."""
        self.queue.resize(self.tier.concurrency * max(1, self.backend.condition().replicas))

    async def _fitted(self, ask: Ask) -> tuple[Ask, Turn, int]:
        """The ask as this tier's window takes it, with fewer turns or a shorter answer if need be."""
        tokens, window, changed = await self.backend.count_tokens(ask), self.tier.context_window, 0
        if tokens + ask.max_tokens > window and ask.shorten:
            ask, changed = self._shortened(ask, tokens)
            tokens = await self.backend.count_tokens(ask) if changed else tokens
        room = window - tokens
        if room < min(ask.max_tokens, LEAST_ROOM):
            raise InvalidInput(
                f"the prompt has {tokens} tokens, and tier {self.name!r} takes {window} with the answer. Shorten it, "
                "or let it be shortened (shorten)",
                tier=self.name,
            )
        if room < ask.max_tokens:
            ask = ask.model_copy(update={"max_tokens": room})
        return ask, Turn(tokens, ask.max_tokens), changed

    def _shortened(self, ask: Ask, tokens: int) -> tuple[Ask, int]:
        """Counts by the engine's mean of characters per token for this prompt, with a tenth to spare."""
        chars = sum(map(_length, ask.messages))
        per_char = tokens / max(1, chars)
        room = int((self.tier.context_window - min(ask.max_tokens, self.tier.context_window // 4)) * 0.9)
        result = shorten(
            ask.messages, room, lambda kept: int(sum(map(_length, kept)) * per_char) + 1, pinned=ask.pinned
        )
        return ask.model_copy(update={"messages": result.messages}), result.changed

    @asynccontextmanager
    async def _turn(self, turn: Turn, caller: Caller, money: CallBudget) -> AsyncIterator[None]:
        """A place in the engine with money held for it. Whatever ends it, both are given back."""
        most = price(self.tier, turn.prompt_tokens, turn.max_tokens)
        self._entrance.check()
        money.check(most)
        async with self.queue.place(caller.tenant, interactive=caller.interactive, deadline_ms=caller.deadline_ms):
            passage = self._entrance.enter()
            try:
                turn.seconds = self._seconds(caller)
                async with self._held(turn, money, most):
                    yield
            except BaseException as error:
                _tell(passage, error, begun=turn.begun, whole_time=turn.seconds >= self.tier.timeout_seconds)
                raise
            passage.succeeded()

    @asynccontextmanager
    async def _held(self, turn: Turn, money: CallBudget, most: int) -> AsyncIterator[None]:
        reservation = money.reserve(self.name, most, turn.seconds + LEASE_SECONDS) if most else None
        error: BaseException | None = None
        try:
            if reservation:
                await self._durable()
            turn.begun = True
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            turn.used = self._used(turn, error, most)
            if reservation is None:
                money.use(self.name, turn.used)
            else:
                counted = money.settle(reservation, turn.used)
                turn.used = Used(turn.used.prompt_tokens, turn.used.completion_tokens, counted)

    def _used(self, turn: Turn, error: BaseException | None, most: int) -> Used:
        if turn.raw is not None and error is None:
            tokens = turn.raw.prompt_tokens, turn.raw.completion_tokens
            return Used(*tokens, price(self.tier, *tokens))
        if not turn.begun or isinstance(error, _NOT_BEGUN):
            return Used()
        return Used(turn.prompt_tokens, turn.max_tokens, most)

    def _seconds(self, caller: Caller) -> float:
        if not caller.deadline_ms:
            return self.tier.timeout_seconds
        return max(0.001, min(self.tier.timeout_seconds, (caller.deadline_ms - self._clock.now_ms()) / 1000))

    async def _answer(self, ask: Ask, turn: Turn) -> Raw:
        """The engine's answer in time. One that does not stop when it is told to is not waited for."""
        work = asyncio.ensure_future(self.backend.complete(ask, turn.seconds))
        return await self._in_time(work, turn.seconds)

    async def _pieces(self, ask: Ask, turn: Turn) -> AsyncGenerator[RawPiece, None]:
        """The engine's pieces in time, until they are too many. The last one fills the turn."""
        stream, ends, chars = self.backend.stream(ask, turn.seconds), self._clock.monotonic() + turn.seconds, 0
        try:
            while turn.raw is None:
                step = asyncio.ensure_future(_next(stream))
                piece = await self._in_time(step, ends - self._clock.monotonic())
                chars += len(piece.text)
                self._check_end(chars)
                turn.raw = piece.raw and sane(piece.raw, turn.prompt_tokens, turn.max_tokens)
                yield RawPiece(mended(piece.text), turn.raw)
        finally:
            await _close(stream)

    def _check_end(self, chars: int) -> None:
        if chars > self._policy.max_answer_chars:
            raise ContractBreach(f"tier {self.name!r} wrote more than {self._policy.max_answer_chars} characters")

    async def _in_time(self, work: "asyncio.Future[T]", seconds: float) -> T:
        try:
            await asyncio.wait({work}, timeout=max(0.0, seconds) + GRACE_SECONDS)
        finally:
            if not work.done():
                work.cancel()
                work.add_done_callback(_heard)
        if not work.done():
            raise TimedOut(f"tier {self.name!r} gave no answer in {seconds:.3g} seconds", tier=self.name)
        return self._result(work)

    def _result(self, work: "asyncio.Future[T]") -> T:
        """Raises what an engine may raise; anything else is the engine's failure."""
        try:
            return work.result()
        except HanseError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            _log.error("tier %s failed", self.name, exc_info=error, extra={"action": "model.failed"})
            raise ModelUnavailable(f"tier {self.name!r} failed: {type(error).__name__}", tier=self.name) from None


async def _next(stream: AsyncIterator[RawPiece]) -> RawPiece:
    try:
        return await anext(stream)
    except StopAsyncIteration:  # which a task cannot carry
        raise ModelUnavailable("the engine ended in the middle of its answer") from None


async def _close(stream: AsyncIterator[RawPiece]) -> None:
    """One that is busy and does not listen is left to itself."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        with suppress(Exception):
            await close()


def _heard(work: "asyncio.Future[T]") -> None:
    """Takes notice of how work ended that nobody waits for, so that Python does not complain that nobody did."""
    if not work.cancelled():
        work.exception()


def _tell(passage: Passage, error: BaseException, *, begun: bool, whole_time: bool) -> None:
    """A full queue, an ask that is refused and a caller who goes away say nothing about the tier; nor does a time that
    was the caller's and shorter than the tier's own.
    """
    failed = isinstance(error, ModelUnavailable | ContractBreach) or (isinstance(error, TimedOut) and whole_time)
    if begun and failed:
        passage.failed()
    else:
        passage.said_nothing()


def _length(message: Message) -> int:
    return len(message.content or "") + sum(len(call.arguments) + len(call.name) for call in message.tool_calls) + 8
