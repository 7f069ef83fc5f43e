"""A pool whose answers a test writes, with everything else as the contract of `Models` says."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy

from hanse.contracts import Digest, ModelUnavailable, NotFound, Tenant
from hanse.contracts.caller import Caller
from hanse.contracts.pool import (
    Answer,
    Ask,
    Attempt,
    CacheView,
    CallView,
    Judgement,
    Piece,
    PromptView,
    TierState,
    TierView,
    ToolCall,
    Usage,
    UsageView,
)

TIERS = (
    TierView(name="planner", kind="generate", state=TierState.READY, digest="sha256:1", context_window=2048),
    TierView(name="embedder", kind="embed", state=TierState.READY, digest="sha256:2"),
    TierView(name="injection", kind="classify", state=TierState.READY, digest="sha256:3"),
)
DIMENSIONS = 4

Say = Callable[[Ask, Caller], Any]
"""Gives a text, data, an `Answer`, or an exception to raise."""


class ScriptedModels:
    """Says what `say` says. Keeps what it was asked."""

    def __init__(self, say: Say = lambda ask, caller: "yes", tiers: Sequence[TierView] = TIERS) -> None:
        self.say = say
        self.views = list(tiers)
        self.asked: list[tuple[Ask, Caller]] = []
        self.purged: list[tuple[Tenant | None, str]] = []
        self.ended = 0
        """Streams that came to an end, whoever ended them."""

    async def ask(self, ask: Ask, caller: Caller) -> Answer:
        self.asked.append((ask, caller))
        return self._answer(ask, caller)

    async def stream(self, ask: Ask, caller: Caller) -> AsyncIterator[Piece]:
        """A piece per word. An exception among the words is raised there."""
        self.asked.append((ask, caller))
        said = self.say(ask, caller)
        words = said if isinstance(said, list) else None
        try:
            if words is None:
                answer = self._answer(ask, caller, said)
                words = [word for word in answer.text.split(" ") if word]
            else:
                answer = self._answer(ask, caller, " ".join(word for word in words if isinstance(word, str)))
            for number, word in enumerate(words):
                if isinstance(word, Exception):
                    raise word
                if callable(word):
                    await word()
                else:
                    yield Piece(text=word if number == 0 else f" {word}")
            yield Piece(answer=answer)
        finally:
            self.ended += 1

    async def embed(self, texts: Sequence[str], caller: Caller) -> Any:
        rows = [[float(len(text)), 1.0, 0.0, float(index)] for index, text in enumerate(texts)]
        vectors = numpy.array(rows, dtype=numpy.float32).reshape(len(texts), DIMENSIONS)
        return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)

    async def judge(self, validator: str, text: str, caller: Caller, sources: Sequence[str] = ()) -> Judgement:
        if validator != "injection":
            raise NotFound(f"there is no validator {validator!r}. There are: injection")
        score = 0.9 if "ignore" in text else 0.1
        return Judgement(validator=validator, score=score, reason=f"{len(sources)} sources")

    async def tiers(self) -> list[TierView]:
        return list(self.views)

    async def calls(self, tenant: Tenant, limit: int = 50, before: str | None = None) -> list[CallView]:
        found = [(f"call-{n}", ask) for n, (ask, caller) in enumerate(self.asked, 1) if caller.tenant == tenant]
        views = [CallView(id=id, at_ms=0, tenant=tenant, purpose=ask.purpose) for id, ask in reversed(found)]
        return [view for view in views if before is None or view.id < before][:limit]

    async def text(self, tenant: Tenant, digest: str) -> str:
        raise NotFound(f"there is no text {digest}")

    async def usage(self, tenant: Tenant, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        calls = sum(caller.tenant == tenant for _, caller in self.asked)
        task = "t1" if by_task else ""
        return [UsageView(tenant=tenant, day="2026-11-21", task=task, tier="planner", calls=calls, cents=calls * 0.5)]

    async def caches(self, tenant: Tenant | None = None) -> list[CacheView]:
        return [CacheView(tenant=tenant or Tenant("all"), exact=3)]

    async def purge(self, tenant: Tenant | None, by: str) -> int:
        self.purged.append((tenant, by))
        return 3

    async def prompts(self) -> list[PromptView]:
        return [PromptView(name="extract", version="1", digest=Digest("sha256:9"), current=True)]

    def _answer(self, ask: Ask, caller: Caller, said: Any = None) -> Answer:
        said = self.say(ask, caller) if said is None else said
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Answer):
            return said
        text = said if isinstance(said, str) else json.dumps(said)
        usage = Usage(prompt_tokens=7, completion_tokens=len(text.split()), cents=0.0, latency_ms=1)
        return Answer(
            id=f"call-{len(self.asked)}",
            text=text,
            data=json.loads(text) if ask.answer is not None else None,
            tier=ask.tier or "planner",
            model="sha256:1",
            usage=usage,
            attempts=(Attempt(tier="planner", model="sha256:1", outcome="accepted", usage=usage),),
        )


def gone(ask: Ask, caller: Caller) -> ModelUnavailable:
    return ModelUnavailable("planner is warming, 40%")


def costing(cents: float, text: str = "yes") -> Answer:
    return Answer(id="paid", text=text, tier="planner", usage=Usage(prompt_tokens=3, completion_tokens=2, cents=cents))


def calling(name: str, arguments: str) -> Answer:
    """An answer that is the call of a tool."""
    call = ToolCall(id="call_1", name=name, arguments=arguments)
    return Answer(id="tool", tool_calls=(call,), finish_reason="tool_calls", tier="planner")
