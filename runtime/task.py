"""A task in somebody's hand: how it stands, what happens to it, and what it comes to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ..contracts import Canceled, Event, HanseError, JsonObject, Problem, StepView, TaskStatus, TaskView, TimedOut
from .client import Client, all_events
from .views import error_from

_PAGE_SECONDS = 60.0


class Task:
    """A task that was taken on. It goes on whether or not anybody holds this object."""

    def __init__(self, client: Client, view: TaskView) -> None:
        self._client = client
        self._view = view

    @property
    def id(self) -> str:
        return self._view.id

    async def view(self) -> TaskView:
        """How it stands now."""
        return await self._client.task(self.id)

    async def steps(self) -> list[StepView]:
        return await self._client.steps(self.id)

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """What happens, from the event after `after` to the task's end."""
        while True:
            for event in await self._client.events(self.id, after=after, wait_seconds=_PAGE_SECONDS):
                after = event.sequence
                yield event
                if event.kind.ends_task:
                    return

    async def result(self, timeout_seconds: float | None = None) -> Any:
        """The output. Raises the error that ended the task, or TimedOut, after which the task still goes on."""
        view = await self.wait(timeout_seconds)
        if view.status is TaskStatus.COMPLETED:
            return view.output
        raise error_of(view)

    async def wait(self, timeout_seconds: float | None = None) -> TaskView:
        """The task at its end. Waits through questions to people."""
        async with asyncio.timeout(timeout_seconds) as clock:
            try:
                return await self._wait()
            except TimeoutError:
                if not clock.expired():
                    raise
        raise TimedOut(f"not done within {timeout_seconds:g} s; it goes on", task=self.id)

    async def cancel(self, reason: str = "") -> TaskView:
        return await self._client.cancel(self.id, reason)

    async def bundle(self) -> JsonObject:
        """Its evidence, for `hanse audit check`. Raises Unavailable for a federation in memory."""
        return await self._client.bundle(self.id)

    async def resume(self, choice: str, *, step: str | None = None, note: str = "", **found: Any) -> TaskView:
        """Says how a held step goes on; `found` is the `result` of an effect, or the `output` of a step."""
        return await self._client.resume(self.id, choice, step=step, note=note, **found)

    async def _wait(self) -> TaskView:
        while not (view := await self._client.wait(self.id, _PAGE_SECONDS)).status.terminal:
            if view.status is TaskStatus.INPUT_REQUIRED:
                await self._client.events(self.id, after=await self._last(), wait_seconds=_PAGE_SECONDS)
        return view

    async def _last(self) -> int:
        events = await all_events(self._client, self.id)
        return events[-1].sequence if events else 0


def error_of(view: TaskView) -> HanseError:
    """The error that ended a task."""
    if view.status is TaskStatus.CANCELED:
        return Canceled(task=view.id)
    problem = view.error or Problem(type="", title="", status=500, detail="it failed", code="failed")
    return error_from(problem).about(task=view.id)
