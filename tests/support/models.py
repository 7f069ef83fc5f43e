"""A pool with engines that do as a script says, over a real store and a real journal, with time and chance in hand.

`ScriptedBackend` keeps the `Backend` protocol, and does whatever an engine can do wrong: words that are no JSON, ten
megabytes, the wrong tool, circles, nothing at all, half of a surrogate pair, counts that are no counts, errors that
nobody knows, silence, and an end in the middle.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy

from hanse.contracts import Digest, Event, Kind, ModelUnavailable, StorageError, Tenant, digest
from hanse.contracts.caller import Caller
from hanse.contracts.pool import Ask, Judgement, Message, TierState, ToolCall
from hanse.models.backend import Condition, Raw, RawPiece
from hanse.models.policy import Policy
from hanse.models.pool import Pool
from hanse.models.tier import Kind as TierKind
from hanse.models.tier import Tier
from hanse.models.validator import LooksAt, Validator
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore

SHOP = Tenant("shop")
Answers = Callable[[Ask], "Awaitable[Raw]"]
Move = str | Raw | BaseException | Answers


class HandClock:
    """Time that moves when it is told to."""

    def __init__(self, now_ms: int = 1_764_000_000_000) -> None:
        self.at_ms = now_ms

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.at_ms / 1000

    def pass_seconds(self, seconds: float) -> None:
        self.at_ms += round(seconds * 1000)


class SeededEntropy:
    def __init__(self, seed: int = 1) -> None:
        self._random = Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


class ScriptedBackend:
    """Says one line of its script at each call, and its last one for ever."""

    def __init__(self, *script: Move, weights: str = "v1") -> None:
        self.script: list[Move] = list(script or ["fine"])
        self.asked: list[Ask] = []
        self.state = TierState.READY
        self.weights = weights
        self.replicas = 1
        self._watchers: list[Callable[[], None]] = []
        self.pieces = 4
        self.dies_after: int | None = None
        """Pieces of a stream, after which it ends with an error."""

    @property
    def digest(self) -> Digest:
        return digest(self.weights)

    def condition(self) -> Condition:
        return Condition(self.state, "as the script says", "start it", 1.0, self.replicas)

    def watch(self, tell: Callable[[], None]) -> None:
        self._watchers.append(tell)

    def scale(self, replicas: int) -> None:
        self.replicas = replicas
        for tell in self._watchers:
            tell()

    async def count_tokens(self, ask: Ask) -> int:
        """A token has four characters here."""
        return sum(len(each.content or "") for each in ask.messages) // 4 + 1

    async def complete(self, ask: Ask, seconds: float) -> Raw:
        self.asked.append(ask)
        move = self.script[min(len(self.asked), len(self.script)) - 1]
        if isinstance(move, BaseException):
            raise move
        if isinstance(move, str):
            return await self._counted(ask, move)
        return move if isinstance(move, Raw) else await move(ask)

    async def stream(self, ask: Ask, seconds: float) -> AsyncIterator[RawPiece]:
        raw = await self.complete(ask, seconds)
        size = max(1, len(raw.text) // self.pieces)
        for number, start in enumerate(range(0, len(raw.text), size)):
            if number == self.dies_after:
                raise ModelUnavailable("the engine died")
            yield RawPiece(raw.text[start : start + size])
        if self.dies_after is None:
            yield RawPiece("", raw)

    async def _counted(self, ask: Ask, text: str) -> Raw:
        return Raw(text, (), "stop", await self.count_tokens(ask), min(len(text) // 4 + 1, ask.max_tokens))


class Gate:
    """An engine's work that goes on when the test says so."""

    def __init__(self, text: str = "fine") -> None:
        self.text, self.open, self.entered = text, asyncio.Event(), asyncio.Event()
        self.inside = 0

    async def holds(self, count: int) -> None:
        """Returns when so many are inside."""
        async with asyncio.timeout(5):
            while self.inside < count:
                self.entered.clear()
                await self.entered.wait()

    async def __call__(self, ask: Ask) -> Raw:
        self.inside += 1
        self.entered.set()
        await self.open.wait()
        self.inside -= 1
        return Raw(self.text, (), "stop", 5, 5)


async def deaf(ask: Ask) -> Raw:
    """Hangs, and does not stop when it is told to."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ask.stop == ("really",):
                raise


class WordEmbedder:
    """Vectors of the words in a text, by hashing: texts with the same words lie close. The protocol is the same."""

    def __init__(self, weights: str = "words") -> None:
        self.digest = digest(weights)
        self.dimensions = 64
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> Any:
        self.texts += texts
        rows = numpy.zeros((len(texts), self.dimensions), dtype=numpy.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[int(digest(word)[7:15], 16) % self.dimensions] += 1
            row /= max(1e-9, float(numpy.linalg.norm(row)))
        return rows


class Says:
    """A validator that says what it is told to, of every text or of each that it is told about."""

    def __init__(self, name: str, said: Any, looks_at: LooksAt = LooksAt.ANSWER) -> None:
        self.name: str = name
        self.looks_at: LooksAt = looks_at
        self.texts: list[str] = []
        self._said: Any = said

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        self.texts.append(text)
        if isinstance(self._said, BaseException):
            raise self._said
        if isinstance(self._said, Judgement):
            return self._said
        if isinstance(self._said, Mapping):
            return Judgement(validator=self.name, score=float(self._said[text]))
        return Judgement.model_construct(validator=self.name, score=self._said, reason="")


def ask(text: str = "hello", **more: Any) -> Ask:
    return Ask(messages=(Message(role="user", content=text),), **more)


def caller(tenant: str = "shop", **more: Any) -> Caller:
    return Caller(tenant=Tenant(tenant), by="ana", **more)


class NamedTier(Tier):
    """A tier that can be the key of a table."""

    def __hash__(self) -> int:
        return hash(self.name)


def tier(name: str, rank: int = 0, cents: float = 0.0, **more: Any) -> NamedTier:
    """`cents` per 1,000 tokens, in and out."""
    prices = {"cents_per_1k_prompt": cents, "cents_per_1k_completion": cents}
    return NamedTier(name, TierKind.GENERATE, f"models/{name}", rank=rank, **{**prices, **more})


def call_of(name: str, arguments: str = "{}") -> Raw:
    return Raw("", (ToolCall(id="c1", name=name, arguments=arguments),), "tool_calls", 5, 5)


class World:
    """A store and all that a pool needs, which lives on when the pool does not."""

    def __init__(self, path: Path | str = ":memory:", seed: int = 1) -> None:
        self.clock, self.entropy = HandClock(), SeededEntropy(seed)
        self.path = path
        self.failures: list[BaseException] = []
        self.open()

    def open(self) -> Self:
        self.store = SqliteStore.open(self.path, "models", inline=True)
        self.journal = Journal(self.store, self.clock, self.failures.append)
        return self

    def die(self) -> None:
        """What is not on disk by now never will be, as after a kill."""
        self.journal._broken = StorageError("killed")

    async def rise(self) -> None:
        """The next life: what it knows is on disk. A store in memory plays the disk."""
        if self.path == ":memory:":
            self.journal = Journal(self.store, self.clock, self.failures.append)
        else:
            await self.store.close()
            self.open()

    def pool(
        self,
        backends: Mapping[NamedTier, ScriptedBackend],
        policy: Policy | None = None,
        validators: Sequence[Validator] = (),
        **more: Any,
    ) -> Pool:
        return Pool(
            list(backends),
            {each.name: backend for each, backend in backends.items()},
            store=self.store,
            recorder=self.journal,
            clock=self.clock,
            entropy=self.entropy,
            policy=policy,
            validators={each.name: each for each in validators},
            **more,
        )

    def events(self, kind: Kind | None = None) -> list[Event]:
        """On disk."""
        return [event for event in self.journal.read() if kind in (None, event.kind)]


@asynccontextmanager
async def running(pool: Pool) -> AsyncIterator[Pool]:
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()
