"""The model pool as a part of the federation: one process that holds tiers, caches and usage, and answers over links.

Nothing waits for it: a federation starts, and does structured work, while its tiers warm.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from ..contracts import JsonObject, Store
from ..contracts.caller import Caller
from ..contracts.pool import Administration, Ask, Piece
from ..contracts.schema import fitted
from ..models.keeper import Keeper
from ..models.pool import Pool
from .answering import Asked, Counter
from .audit.anchoring import Anchoring
from .link import Receiver
from .models_client import plain_vectors


class Closable(Protocol):
    """Closing it again does nothing."""

    async def close(self) -> None: ...


class ModelsPart:
    """The pool, what it stands on, and a counter in front. Not started."""

    def __init__(
        self,
        pool: Pool,
        keeper: Keeper,
        store: Store,
        anchoring: Anchoring | None = None,
        *,
        begins: Callable[[], None] | None = None,
        ends: Sequence[Closable] = (),
    ) -> None:
        """`begins` starts what is loaded into this process; `ends` are closed with it, in their order."""
        self._pool, self._keeper, self._store = pool, keeper, store
        self._anchoring, self._begins, self._ends = anchoring, begins, ends
        self.counter = counter_of(pool)

    async def start(self) -> Receiver:
        """Returns when the pool knows again what it knew, and before any tier is warm."""
        if self._anchoring is not None:
            self._anchoring.start()
        await self._pool.start()
        await self._keeper.start()
        if self._begins:
            self._begins()
        return self.counter

    async def stop(self) -> None:
        await self.counter.stop()
        await self._pool.stop()
        await self._keeper.stop()
        for each in self._ends:
            await each.close()
        if self._anchoring is not None:
            await self._anchoring.stop()
        await self._store.close()


def counter_of(pool: Administration) -> Counter:
    """Answers what a `ModelsClient` asks."""
    methods = _Methods(pool)
    names = (*("ask", "stream", "embed", "judge", "tiers"), *("calls", "text", "usage", "caches", "purge", "prompts"))
    return Counter("the model pool", {name: getattr(methods, name) for name in names})


class _Methods:
    """Plain data to values and back."""

    def __init__(self, pool: Administration) -> None:
        self._pool = pool

    async def ask(self, asked: Asked) -> Any:
        answer = await self._pool.ask(fitted(Ask, asked.parameters["ask"]), _caller(asked))
        return answer.model_dump(mode="json")

    async def stream(self, asked: Asked) -> AsyncIterator[Any]:
        async for piece in self._pool.stream(fitted(Ask, asked.parameters["ask"]), _caller(asked)):
            yield _plain(piece)

    async def embed(self, asked: Asked) -> Any:
        return plain_vectors(await self._pool.embed(asked.parameters["texts"], _caller(asked)))

    async def judge(self, asked: Asked) -> Any:
        given = asked.parameters
        judgement = await self._pool.judge(given["validator"], given["text"], _caller(asked), given["sources"])
        return judgement.model_dump(mode="json")

    async def tiers(self, asked: Asked) -> Any:
        return _plain_all(await self._pool.tiers())

    async def calls(self, asked: Asked) -> Any:
        return _plain_all(await self._pool.calls(asked.tenant, **asked.parameters))

    async def text(self, asked: Asked) -> Any:
        return await self._pool.text(asked.tenant, **asked.parameters)

    async def usage(self, asked: Asked) -> Any:
        return _plain_all(await self._pool.usage(asked.tenant, **asked.parameters))

    async def caches(self, asked: Asked) -> Any:
        return _plain_all(await self._pool.caches(asked.tenant or None))

    async def purge(self, asked: Asked) -> Any:
        return await self._pool.purge(asked.tenant or None, asked.by)

    async def prompts(self, asked: Asked) -> Any:
        return _plain_all(await self._pool.prompts())


def _caller(asked: Asked) -> Caller:
    return fitted(Caller, {**asked.parameters.get("caller", {}), "tenant": asked.tenant, "by": asked.by})


def _plain_all(values: Iterable[BaseModel]) -> list[JsonObject]:
    return [value.model_dump(mode="json") for value in values]


def _plain(piece: Piece) -> JsonObject:
    if piece.answer is None and not piece.tool_calls:
        return {"text": piece.text}
    return piece.model_dump(mode="json")
