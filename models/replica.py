"""What one replica of a tier answers: an actor of Ray Serve that holds one engine. JSON in, JSON out; whatever goes
wrong travels as plain data too. It is crash-only: an engine that died takes the replica with it, and Serve makes a new
one.

This module loads nothing heavy: `vllm_server` has the replica itself, with its engine.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import orjson
from pydantic import ValidationError

from ..contracts import HanseError, InvalidInput, ModelUnavailable, Overloaded
from .gathering import gathered
from .tier import Tier

_log = logging.getLogger(__name__)

EXIT_ENGINE_DEAD = 72
LAST_WORDS_SECONDS = 0.5
"""Between finding the engine dead and ending: for the answers that say so."""
TOO_MANY = (429, 503)


class Model(Protocol):
    """A running engine, asked in JSON."""

    def chat(self, body: bytes) -> AsyncIterator[Any]:
        """Raises pydantic's ValidationError for a body that is no request, as the others do."""
        ...

    def embed(self, body: bytes) -> AsyncIterator[Any]: ...

    def tokens(self, body: bytes) -> AsyncIterator[Any]: ...

    def unfinished(self) -> int:
        """Requests in the engine."""
        ...

    async def check(self) -> None:
        """Raises what is wrong with the engine."""
        ...


class Answers:
    """The part of a replica that the doors of its tier call."""

    def _answer_by(self, model: Model, tier: Tier) -> None:
        self._model, self._tier, self._began = model, tier, time.monotonic()

    async def complete(self, body: bytes) -> bytes:
        """One chat completion."""
        return await self._answer(lambda: self._model.chat(body))

    async def stream(self, body: bytes) -> AsyncIterator[bytes]:
        """The same in pieces: each item is a list of the events that came since the last."""
        try:
            async for events in gathered(self._model.chat(body)):
                found = [await self._event(event) for event in events]
                yield b"[" + b",".join(each for each in found if each) + b"]"
        except Exception as error:
            yield b"[" + orjson.dumps(await self._wrong(error)) + b"]"

    async def embed(self, body: bytes) -> bytes:
        """Vectors of a pooling model."""
        return await self._answer(lambda: self._model.embed(body))

    async def tokens(self, body: bytes) -> bytes:
        """How many tokens a chat's prompt has."""
        return await self._answer(lambda: self._model.tokens(body))

    async def report(self) -> dict[str, Any]:
        """How it is. Raises what is wrong with the engine."""
        await self._model.check()
        return {"pid": os.getpid(), "unfinished": self._model.unfinished(), "up": time.monotonic() - self._began}

    async def check_health(self) -> None:
        """Serve asks every few seconds."""
        try:
            await self._model.check()
        except Exception:
            self._end()
            raise

    async def _answer(self, ask: Callable[[], AsyncIterator[Any]]) -> bytes:
        try:
            async for answer in ask():
                return orjson.dumps(await self._plain(answer.model_dump()))
        except Exception as error:
            return orjson.dumps(await self._wrong(error))
        return orjson.dumps(_error(ModelUnavailable("the engine said nothing", tier=self._tier.name)))

    async def _plain(self, answer: dict[str, Any]) -> dict[str, Any]:
        return await self._refused(answer["error"]) if "error" in answer else answer

    async def _event(self, event: Any) -> bytes:
        """One event of vLLM's stream, `data: {…}` or an error, as JSON. Empty for the mark of its end."""
        if not isinstance(event, str):
            return orjson.dumps(await self._plain(event.model_dump()))
        data = event.removeprefix("data: ").rstrip()
        if data.startswith('{"error"'):
            return orjson.dumps(await self._plain(orjson.loads(data)))
        return b"" if data == "[DONE]" else data.encode()

    async def _refused(self, error: dict[str, Any]) -> dict[str, Any]:
        """An error of vLLM, by its HTTP status. One of the engine's own may mean that it is dead."""
        code, words = int(error.get("code") or 500), str(error.get("message"))
        if code in TOO_MANY:
            return _error(Overloaded(words, tier=self._tier.name))
        if code < 500:
            return _error(InvalidInput(words, tier=self._tier.name))
        return await self._wrong(RuntimeError(words))

    async def _wrong(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, ValidationError):
            return _error(InvalidInput(_first(error), tier=self._tier.name))
        _log.error("the engine of %s failed", self._tier.name, exc_info=error, extra={"action": "engine.failed"})
        gone = {} if await self._lives() else {"gone": "engine"}
        words = f"the engine of {self._tier.name} failed: {error}"
        return _error(ModelUnavailable(words, tier=self._tier.name, **gone))

    async def _lives(self) -> bool:
        try:
            await self.check_health()
        except Exception as error:
            _log.error("%s ends: %s", self._tier.name, error, extra={"action": "engine.dead"})
            return False
        return True

    def _end(self) -> None:
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, os._exit, EXIT_ENGINE_DEAD)


def _error(error: HanseError) -> dict[str, Any]:
    return {"error": error.to_data()}


def _first(error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}"
