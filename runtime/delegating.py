"""`LinkDelegates`: child tasks over links to the coordinators, from a host. Keeps the `Delegates` protocol."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..contracts import TaskId, TaskStatus, Unavailable
from ..contracts.delegation import ChildEnded, Delegation, Parent
from ..contracts.labels import marks_of, placed
from .client import LinkClient
from .task import Task, error_of

T = TypeVar("T")
PAUSE_SECONDS = (0.05, 1.0)
"""Between two attempts at a coordinator that is away: at first, and at most."""


class LinkDelegates:
    """Child tasks of any step in hand here. They are asked for at the coordinator of the step's own task."""

    def __init__(self, client: LinkClient) -> None:
        self._client = client

    async def run(self, asked: Delegation, parent: Parent) -> ChildEnded:
        client = self._client.acting(parent.tenant, parent.agent)
        view = await _patiently(lambda: client.delegate(parent.task, parent.step, asked))
        if not view.status.terminal:
            view = await _patiently(Task(client, view).wait)
        error = None if view.status is TaskStatus.COMPLETED else error_of(view)
        labels = placed(marks_of(view.output_labels), f"task {view.id}")
        return ChildEnded(TaskId(view.id), view.output, error, view.cost_cents, labels)

    async def close(self) -> None:
        await self._client.close()


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """What the attempt gives, when somebody can be reached. Whoever asks has a time of its own."""
    pause, longest = PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except Unavailable:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
