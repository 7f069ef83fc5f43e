"""The order in which a federation comes up, and goes down again when something of it cannot."""

import asyncio

import pytest

from hanse.contracts import StorageError
from hanse.runtime import launch


async def test_what_fails_at_the_start_ends_the_gateway_before_ray_is_taken_down() -> None:
    """It asks Ray from threads; one that asks a Ray that is gone ends the process, and nobody hears why."""
    ended: list[str] = []

    async def gateway() -> str:
        try:
            return await asyncio.Future[str]()
        finally:
            await asyncio.sleep(0)
            ended.append("gateway")

    async def actors() -> None:
        await asyncio.sleep(0)
        raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        await launch._beside(actors(), gateway())
    assert ended == ["gateway"]
