"""Agents are tested with the real store, once in memory and once on disk."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hanse.agents import Agent, Engine
from hanse.runtime.store import SqliteStore

from .desk import engine_of

Start = Callable[..., Awaitable[Any]]
"""Gives an engine. Its agent is of the test's own class, so its type says nothing."""


@pytest.fixture(params=["in memory", "on disk"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    path = ":memory:" if request.param == "in memory" else tmp_path / "agent.sqlite"
    store = SqliteStore.open(path, "agent")
    yield store
    await store.close()


@pytest.fixture
async def start(store: SqliteStore) -> AsyncIterator[Start]:
    """Starts an agent over the store."""
    engines: list[Engine] = []

    async def start(agent: Agent | type[Agent], **options: Any) -> Engine:
        engine = engine_of(agent() if isinstance(agent, type) else agent, store, **options)
        await engine.start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        await engine.stop(grace_seconds=1)
