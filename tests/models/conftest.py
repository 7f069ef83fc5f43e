"""What tests of the model pool get."""

from collections.abc import AsyncIterator

import pytest

from ..support.models import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A store in memory with a journal, a clock in hand, and chance from a seed."""
    made = World()
    yield made
    await made.store.close()
    assert not made.failures
