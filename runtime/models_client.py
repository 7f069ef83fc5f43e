"""`ModelsClient`: the model pool over a link, from any process of the cluster.

On the pool's own node pieces of an answer come as they are written. From another node a question is one actor call
(`ray_link.AskLink`), so there the pieces of a stream arrive all at once, at its end.

Vectors travel as the bytes of little-endian float32 in rows, which msgpack carries as they are.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..contracts import JsonObject, ModelUnavailable, Tenant, Unavailable
from ..contracts.caller import Caller
from ..contracts.pool import Answer, Ask, CacheView, CallView, Judgement, Piece, PromptView, TierView, UsageView
from .client import Shard

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

NOBODY = Tenant("")
"""Who asks about the pool as a whole. No credential stands for it."""


class ModelsClient:
    """Keeps `Administration`, for one tenant at a time, over the way to the pool's part.

    A pool that cannot be reached is ModelUnavailable.
    """

    def __init__(self, way: Shard) -> None:
        self._way = way

    async def ask(self, ask: Ask, caller: Caller) -> Answer:
        return Answer.model_validate(await self._ask("ask", caller, ask=_plain(ask)))

    async def stream(self, ask: Ask, caller: Caller) -> AsyncIterator[Piece]:
        """Pieces as they come, at least two for an answer with text: one with the text and the last one."""
        said = False
        with reached():
            async for data in self._way.stream("stream", caller.tenant, caller.by, _about(caller, ask=_plain(ask))):
                piece = _piece(data)
                if piece.answer is not None and not said:
                    for each in _retold(piece.answer):
                        yield each
                    piece = piece.model_copy(update={"text": ""})  # it was told just now
                said = True
                yield piece

    async def embed(self, texts: Sequence[str], caller: Caller) -> "NDArray[float32]":
        return vectors_of(await self._ask("embed", caller, texts=list(texts)))

    async def judge(self, validator: str, text: str, caller: Caller, sources: Sequence[str] = ()) -> Judgement:
        found = await self._ask("judge", caller, validator=validator, text=text, sources=list(sources))
        return Judgement.model_validate(found)

    async def tiers(self) -> list[TierView]:
        return [TierView.model_validate(each) for each in await self._keep("tiers", NOBODY)]

    async def calls(self, tenant: Tenant, limit: int = 50, before: str | None = None) -> list[CallView]:
        return [CallView.model_validate(each) for each in await self._keep("calls", tenant, limit=limit, before=before)]

    async def text(self, tenant: Tenant, digest: str) -> str:
        return await self._keep("text", tenant, digest=digest)

    async def usage(self, tenant: Tenant, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        found = await self._keep("usage", tenant, days=days, by_task=by_task)
        return [UsageView.model_validate(each) for each in found]

    async def caches(self, tenant: Tenant | None = None) -> list[CacheView]:
        return [CacheView.model_validate(each) for each in await self._keep("caches", tenant or NOBODY)]

    async def purge(self, tenant: Tenant | None, by: str) -> int:
        return await self._keep("purge", tenant or NOBODY, by)

    async def prompts(self) -> list[PromptView]:
        return [PromptView.model_validate(each) for each in await self._keep("prompts", NOBODY)]

    async def _keep(self, method: str, tenant: Tenant, by: str = "", **parameters: Any) -> Any:
        with reached():
            return await self._way.ask(method, tenant, by, parameters)

    async def close(self) -> None:
        self._way.close()

    async def _ask(self, method: str, caller: Caller, **parameters: Any) -> Any:
        with reached():
            return await self._way.ask(method, caller.tenant, caller.by, _about(caller, **parameters))


def plain_vectors(vectors: "NDArray[float32]") -> JsonObject:
    """Vectors as data for the wire."""
    return {"shape": list(vectors.shape), "rows": vectors.astype("<f4", copy=False).tobytes()}


def vectors_of(data: JsonObject) -> "NDArray[float32]":
    """The vectors that `plain_vectors` wrote. They can be written to."""
    import numpy

    return numpy.frombuffer(bytearray(data["rows"]), dtype="<f4").reshape(data["shape"])


@contextmanager
def reached() -> Iterator[None]:
    """Who asks the pool handles one error for its absence, whether the pool says it or nobody is there to say so."""
    try:
        yield
    except Unavailable as error:
        raise ModelUnavailable(error.detail, **error.ids) from error


def _retold(answer: Answer) -> Iterator[Piece]:
    """The piece that a whole answer would have been preceded by."""
    if answer.text or answer.tool_calls:
        calls = tuple(
            {
                "index": index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(answer.tool_calls)
        )
        yield Piece(text=answer.text, tool_calls=calls)


def _piece(data: JsonObject) -> Piece:
    """Most pieces are a word, and there are thousands a second: those are not checked again."""
    return Piece.model_construct(text=data["text"]) if len(data) == 1 else Piece.model_validate(data)


def _plain(ask: Ask) -> JsonObject:
    return ask.model_dump(mode="json", exclude_defaults=True)


def _about(caller: Caller, **parameters: Any) -> JsonObject:
    """Tenant and name travel with the request itself, where a link's owner vouches for them."""
    return {"caller": caller.model_dump(mode="json", exclude={"tenant", "by"}, exclude_defaults=True), **parameters}
