"""The embedder in this process: callers of all kinds, one encoder, and batches that never wait to be full.

Texts that arrive while a batch is computed form the next one. A call's texts are ordered by length first, so that a
batch holds texts of like length and computes little padding; the rows go back in the order of the call. Texts of
interactive calls go first, except that every `PATIENCE`-th batch is the others'; calls of one kind take turns, a batch
each, so that a small one does not wait for the whole of a large one.

    async with LocalEmbedder(OnnxEncoder(folder)) as embedder:
        vectors = await embedder.embed(["a text"])
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from ..contracts import Digest, InvalidInput, ModelUnavailable, Overloaded, TooLarge, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .encoder import Encoder, Ids

    Vectors = NDArray[np.float32]

MAX_CHARACTERS = 1_000_000
"""Of one text. Only its first 256 tokens are seen; what is so much longer was not meant to be one text."""
QUEUE = 16_384
"""Texts that may wait, of all callers together."""
BATCH_TOKENS = 512
"""Padding included. What so many work on stays in the processor's cache; larger batches are slower per text."""
PATIENCE = 8
"""Batches of interactive texts until one of the others' goes."""


@dataclass(eq=False)
class _Call:
    """One caller's texts: those not yet computed, longest last, and the rows of those that are."""

    left: list[tuple[int, "Ids"]]
    rows: "Vectors"
    done: asyncio.Future["Vectors"]
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.left)

    @property
    def is_over(self) -> bool:
        return self.done.done()

    def put(self, row: int, vector: "Vectors") -> None:
        self.rows[row] = vector
        self.missing -= 1
        if not self.missing and not self.is_over:
            self.done.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        if not self.is_over:
            self.done.set_exception(error)


class LocalEmbedder:
    """Keeps the `Embedder` protocol of the contracts. Belongs to one event loop; `close` it, or use it in `async with`.

    `queue` is how many texts may wait; a call that would exceed it is refused with Overloaded at once. `workers`
    compute a batch each at the same time; 0 takes one for each core. That does more than many threads at one batch,
    which would have to wait for one another after every operator.
    """

    def __init__(self, encoder: "Encoder", *, queue: int = QUEUE, workers: int = 0) -> None:
        self._encoder = encoder
        self._queue = queue
        self._waiting = 0
        self._calls: set[_Call] = set()
        self._interactive: deque[_Call] = deque()
        self._others: deque[_Call] = deque()
        self._workers = workers or len(os.sched_getaffinity(0))
        self._computing = ThreadPoolExecutor(self._workers, "embedder")
        self._cutting = ThreadPoolExecutor(1, "embedder-tokens")
        self._runners: set[asyncio.Task[None]] = set()
        self._turns = count(1)
        self._is_closed = False

    @property
    def digest(self) -> Digest:
        return self._encoder.digest

    @property
    def dimensions(self) -> int:
        return self._encoder.dimensions

    @property
    def waiting(self) -> int:
        """Texts taken and not yet answered."""
        return self._waiting

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> "Vectors":
        """Raises Overloaded, too, when too many texts wait, InvalidInput for what is none, Unavailable once closed."""
        self._check(texts)
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        self._waiting += len(texts)
        try:
            return await self._embed(texts, self._interactive if interactive else self._others)
        finally:
            self._waiting -= len(texts)

    async def close(self) -> None:
        """Ends the batch under way; those who wait get Unavailable. Idempotent."""
        self._is_closed = True
        runners = list(self._runners)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        for call in self._calls:
            call.fail(Unavailable("the embedder was closed"))
        for pool in (self._cutting, self._computing):
            pool.shutdown(wait=False)

    def _check(self, texts: Sequence[str]) -> None:
        if self._is_closed:
            raise Unavailable("the embedder was closed")
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput("texts must be a list of texts")
        if any(len(text) > MAX_CHARACTERS for text in texts):
            raise TooLarge(f"a text of more than {MAX_CHARACTERS:,} characters cannot be embedded: cut it into parts")
        if len(texts) > self._queue:
            raise TooLarge(f"{len(texts)} texts in one call; {self._queue} is the most: make several calls")
        if self._waiting + len(texts) > self._queue:
            raise Overloaded(f"{self._waiting} texts wait for the embedder already", retry_after_seconds=1)

    async def _embed(self, texts: Sequence[str], line: deque[_Call]) -> "Vectors":
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._cutting, self._encoder.tokens, texts)
        left = sorted(enumerate(tokens), key=lambda each: len(each[1]))
        call = _Call(left, np.empty((len(texts), self.dimensions), np.float32), loop.create_future())
        self._calls.add(call)
        try:
            self._begin(call, line)
            return await call.done
        finally:
            self._calls.discard(call)

    def _begin(self, call: _Call, line: deque[_Call]) -> None:
        if self._is_closed:
            raise Unavailable("the embedder was closed")
        line.append(call)
        for _ in range(self._workers - len(self._runners)):
            self._runners.add(asyncio.get_running_loop().create_task(self._run()))

    async def _run(self) -> None:
        """Batch after batch until nobody waits. It leaves the moment it sees that: who comes later starts another."""
        try:
            while batch := self._next():
                await self._compute(batch)
        finally:
            self._runners.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _compute(self, batch: "_Batch") -> None:
        tokens = [tokens for _, _, tokens in batch]
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._computing, self._encoder.vectors, tokens)
            for (call, row, _), vector in zip(batch, vectors, strict=True):
                call.put(row, vector)
        except Exception as error:  # whatever the engine raises harms only those whose texts were in the batch
            for call, _, _ in batch:
                call.fail(ModelUnavailable(f"the embedder failed: {type(error).__name__}: {error}"))

    def _next(self) -> "_Batch":
        lines = (self._interactive, self._others)
        for line in lines if next(self._turns) % PATIENCE else reversed(lines):
            if batch := _batch(line):
                return batch
        return []


_Batch = list[tuple[_Call, int, Any]]
"""A call, the row of one of its texts, and the tokens."""


def _batch(line: deque[_Call]) -> _Batch:
    """Texts of the calls in front, longest first, up to BATCH_TOKENS. Calls that nobody waits for are dropped."""
    batch: _Batch = []
    longest = 0
    for _ in range(len(line)):
        call = line.popleft()
        while call.left and not call.is_over:
            row, tokens = call.left[-1]
            longest = max(longest, len(tokens))
            if batch and longest * (len(batch) + 1) > BATCH_TOKENS:
                line.append(call)
                return batch
            call.left.pop()
            batch.append((call, row, tokens))
    return batch
