"""A door of Ray Serve's handles."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError

from ..contracts import HanseError, ModelUnavailable, Overloaded


class ServeDoor:
    """Handles of Ray Serve. Measured against HTTP to the same replica they carry a fifteenth more tokens per second.

    All calls come from one event loop, on which the router runs too: a thread of its own would cost each call two hops.

    A call for one answer is one call of Ray's. Serve would make a stream of two answers of it, the first of which says
    whether the replica takes it; half as slow again. The tier's queue sends no more than its replicas take, and what
    comes past it, such as texts to embed, waits in the replica.
    """

    def __init__(self, application: str, deployment: str, tier: str) -> None:
        self._application, self._deployment, self._tier = application, deployment, tier
        self._made: Any = None

    async def call(self, method: str, body: bytes) -> bytes:
        return await self._ask(getattr(self._handle, method), body)

    async def stream(self, method: str, body: bytes) -> AsyncIterator[bytes]:
        handle = self._handle.options(stream=True)
        try:
            answer = getattr(handle, method).remote(body)
        except Exception as error:
            raise translated(error, self._tier) from error
        try:
            async for item in answer:
                yield item
        except Exception as error:
            raise translated(error, self._tier) from error
        finally:
            answer.cancel()

    async def report(self) -> dict[str, Any]:
        return await self._ask(self._handle.report)

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        answer: Any = None
        try:
            answer = method.remote(*arguments)
            return await answer
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as error:
            raise translated(error, self._tier) from error

    @property
    def _handle(self) -> Any:
        if self._made is None:
            self._made = serve.get_deployment_handle(self._deployment, self._application)
            self._made._init(_run_router_in_separate_loop=False)
        self._expect_room(self._made._router._asyncio_router)
        return self._made

    def _expect_room(self, router: Any) -> None:
        """Once the router counts what it has sent to each replica: who was told before that it need not ask would not
        count either.
        """
        if router._request_router is not None:
            router._enable_strict_max_ongoing_requests = False


def translated(error: Exception, tier: str) -> HanseError:
    """The one border at which Ray Serve's errors become ours."""
    if isinstance(error, HanseError):
        return error
    if isinstance(error, BackPressureError):
        return Overloaded(f"the replicas of {tier} are full", tier=tier)
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    if isinstance(cause, HanseError):
        return cause
    words = (str(cause or error).splitlines() or [""])[0]
    detail = f"no replica of {tier} answers: {type(error).__name__}: {words}"
    return ModelUnavailable(detail, tier=tier, gone="replica")
