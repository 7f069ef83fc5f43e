"""The model pool as a part of the federation: one process that holds tiers, caches and usage, and answers over links.

Nothing waits for it: a federation starts, and does structured work, while its tiers warm.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..contracts import JsonObject
from ..contracts.caller import Caller
from ..contracts.pool import Administration, Ask, Piece
from ..contracts.schema import invalid
from .answering import Asked, Counter
from .link import Receiver
from .models_client import plain_vectors

NAME = "models"
"""Of the part: its actor, its socket, its store."""

Model = TypeVar("Model", bound=BaseModel)


class ModelsPart:
    """A pool behind a counter. Not started."""

    def __init__(self, pool: Administration, start: Callable[[], Awaitable[None]], *stop: Callable[[], Any]) -> None:
        """`start` restores the pool and returns before its tiers are warm; `stop` is done in the order given."""
        self._start, self._stop = start, stop
        self.counter = counter_of(pool)

    async def start(self) -> Receiver:
        await self._start()
        return self.counter

    async def stop(self) -> None:
        await self.counter.stop()
        for stop in self._stop:
            await stop()


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
        answer = await self._pool.ask(_read(Ask, asked.parameters["ask"]), _caller(asked))
        return answer.model_dump(mode="json")

    async def stream(self, asked: Asked) -> AsyncIterator[Any]:
        async for piece in self._pool.stream(_read(Ask, asked.parameters["ask"]), _caller(asked)):
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
    return _read(Caller, {**asked.parameters.get("caller", {}), "tenant": asked.tenant, "by": asked.by})


def _read(model: type[Model], data: Any) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None


def _plain_all(values: Iterable[BaseModel]) -> list[JsonObject]:
    return [value.model_dump(mode="json") for value in values]


def _plain(piece: Piece) -> JsonObject:
    if piece.answer is None and not piece.tool_calls:
        return {"text": piece.text}
    return piece.model_dump(mode="json")
