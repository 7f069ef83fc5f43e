"""`Backend` over Ray Serve: asks of the pool become calls of a tier's replicas."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from ..contracts import Digest, ModelUnavailable, TimedOut
from ..contracts.pool import Ask, TierState
from . import chat
from .backend import Condition, Raw, RawPiece
from .counting import TokenCounter
from .door import Door
from .gate import SchemaGate
from .tier import Tier

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

ANSWERING = (TierState.READY, TierState.DEGRADED)
NO_DIGEST = Digest("")
COUNT_SECONDS = 5.0


class _Standing:
    """What is known of a tier: set by its keeper, and by calls that found its engine dead."""

    def __init__(self, tier: Tier, door: Door) -> None:
        self._tier = tier
        self._door = door
        self._digest = NO_DIGEST
        self._condition = Condition(TierState.WAITING, "not looked at yet")
        self._watchers: list[Callable[[], None]] = []
        self.ready = asyncio.Event()
        """Set while it answers."""

    @property
    def tier(self) -> Tier:
        return self._tier

    @property
    def door(self) -> Door:
        return self._door

    @property
    def digest(self) -> Digest:
        """Empty until the weights have been found."""
        return self._digest

    def condition(self) -> Condition:
        return self._condition

    def watch(self, tell: Callable[[], None]) -> None:
        """`tell` is called after each look at the tier."""
        self._watchers.append(tell)

    def known(self, condition: Condition, digest: Digest | None = None) -> None:
        """Takes what the keeper found."""
        self._condition = condition
        self._digest = digest or self._digest
        self.ready.set() if condition.state in ANSWERING else self.ready.clear()
        for tell in self._watchers:
            tell()

    def _present(self) -> None:
        """Raises ModelUnavailable at once where a call would wait for a replica that is not there."""
        now = self._condition
        if now.state not in ANSWERING:
            detail = f"{self._tier.name} is {now.state}" + (f": {now.detail}" if now.detail else "")
            raise ModelUnavailable(detail, tier=self._tier.name, remedy=now.remedy)

    async def _call(self, method: str, body: bytes, seconds: float) -> dict[str, Any]:
        self._present()
        try:
            async with asyncio.timeout(seconds):
                answer = orjson.loads(await self._door.call(method, body))
                chat.raise_error(answer)
                return answer
        except TimeoutError:
            raise self._late(seconds) from None
        except ModelUnavailable as error:
            self._fell(error)
            raise

    def _fell(self, error: ModelUnavailable) -> None:
        """An engine died. Where it was the only one, nobody is sent there until the keeper has seen it alive again."""
        if "gone" in error.ids and self._condition.state in ANSWERING and self._condition.replicas <= 1:
            self.known(Condition(TierState.WARMING, "its engine died and is being started again"))

    def _late(self, seconds: float) -> TimedOut:
        return TimedOut(f"{self._tier.name} did not answer within {seconds:g} s", tier=self._tier.name)


class ServeBackend(_Standing):
    """A generating tier."""

    def __init__(self, tier: Tier, door: Door, gate: SchemaGate) -> None:
        super().__init__(tier, door)
        self._gate = gate
        self._counter: TokenCounter | None = None

    def count_with(self, counter: TokenCounter | None) -> None:
        """Counts tokens here from now on, where that can be done."""
        self._counter = counter

    async def complete(self, ask: Ask, seconds: float) -> Raw:
        self._admit(ask)
        return chat.raw(await self._call("complete", chat.request(ask, self._tier), seconds))

    async def stream(self, ask: Ask, seconds: float) -> AsyncIterator[RawPiece]:
        self._admit(ask)
        self._present()
        assembly = chat.Assembly()
        try:
            async for event in self._events(chat.request(ask, self._tier, stream=True), seconds):
                if (piece := assembly.take(event)) is not None:
                    yield piece
        except ModelUnavailable as error:
            self._fell(error)
            raise
        yield RawPiece(raw=assembly.whole())

    async def count_tokens(self, ask: Ask) -> int:
        if self._counter is not None and not ask.tools:
            with suppress(Exception):  # a conversation that the template does not take: the engine will say why
                return self._counter.count(chat.messages(ask))
        return await self._count_there(ask)

    async def _count_there(self, ask: Ask) -> int:
        try:
            counted = await self._call("tokens", chat.prompt(ask, self._tier), COUNT_SECONDS)
        except (ModelUnavailable, TimedOut):
            return chat.estimate(ask)
        return int(counted["count"])

    async def _events(self, body: bytes, seconds: float) -> AsyncIterator[dict[str, Any]]:
        """The clock runs over the whole stream, but not while whoever reads it takes its time."""
        items = self._door.stream("stream", body)
        left = seconds
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                item = await self._within(left, seconds, items)
                left -= loop.time() - began
                if item is None:
                    return
                for event in orjson.loads(item):
                    yield event
        finally:
            await items.aclose()  # type: ignore[attr-defined]

    async def _within(self, left: float, seconds: float, items: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout(left):
                return await anext(items, None)
        except TimeoutError:
            raise self._late(seconds) from None

    def _admit(self, ask: Ask) -> None:
        """Each schema costs the engine a grammar, those of tools too."""
        if ask.answer is not None:
            self._gate.admit(ask.answer)
        for tool in ask.tools:
            if tool.parameters:
                self._gate.admit(tool.parameters)


class ServePooling(_Standing):
    """A tier that turns texts into vectors."""

    async def embed(self, texts: Sequence[str], seconds: float, max_tokens: int | None = None) -> "NDArray[float32]":
        """Shape (texts, dimensions), each row of length one. Of a text its first `max_tokens` are seen, or as many as
        the model takes. Raises what `Backend.complete` raises.
        """
        import numpy

        asked = {"model": self._tier.name, "input": list(texts), "encoding_format": "float"}
        asked["truncate_prompt_tokens"] = min(max_tokens or self._tier.context_window, self._tier.context_window)
        answer = await self._call("embed", orjson.dumps(asked), seconds)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        return numpy.array([row["embedding"] for row in rows], dtype=numpy.float32)
