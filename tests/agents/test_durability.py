"""Nothing leaves an agent before it is on disk. The disk here is slow, so that whoever does not wait is seen."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from hanse.agents import Agent, Context, Status
from hanse.agents.connectors import HttpConnector
from hanse.contracts import Refusal, Write, capability
from hanse.runtime.store import SqliteStore

from .desk import answer, call_of, engine_of, error, output
from .outside import http_service


class SlowDisk:
    """The real store, whose commits take as long as a bad disk's: each group is told of a while after it is there."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.epoch = store.epoch
        self.read = store.read
        self.on_disk: list[Write] = []
        """Rows whose commit has been told of, in order."""

    def commit(self, writes: Iterable[Write]) -> "asyncio.Future[None]":
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rows = list(writes)
        task = asyncio.ensure_future(self._commit(rows, self._store.commit(rows), told))
        told.add_done_callback(lambda _: task.cancelled())  # keeps the task as long as somebody waits
        return told

    async def _commit(self, rows: list[Write], commit: "asyncio.Future[None]", told: "asyncio.Future[None]") -> None:
        await commit
        await asyncio.sleep(0.05)
        self.on_disk += rows
        told.set_result(None)

    async def close(self) -> None:
        await self._store.close()

    def has(self, statement: str, *values: Any) -> bool:
        return any(name == statement and set(values) <= set(row) for name, row in self.on_disk)


class Shop(Agent):
    """Takes orders."""

    domain = "shop"

    async def on_start(self, context: Context) -> None:
        await context.state.put("shop", "open", True)

    @capability(effect="irreversible")
    async def take(self, request: str, context: Context) -> str:
        """Take an order, once."""
        if await context.state.get("orders", request):
            raise Refusal("it is taken")
        await context.state.put("orders", request, True)
        return request

    @capability(effect="read")
    async def orders(self, request: str, context: Context) -> int:
        """How many orders there are."""
        return len(await context.state.scan("orders"))

    @capability(effect="read")
    async def is_open(self, request: str, context: Context) -> bool:
        """Whether it is open."""
        return await context.state.get("shop", "open")

    @capability(effect="irreversible")
    async def charge(self, request: str, context: Context) -> int:
        """Charge, and see what is on disk by then."""
        await context.connectors.bank.post("/charges", body=request)
        return len(self.seen.on_disk)

    seen: SlowDisk


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[SlowDisk]:
    disk = SlowDisk(SqliteStore.open(tmp_path / "shop.sqlite", "agent"))
    yield disk
    await disk.close()


async def test_a_start_is_over_when_its_data_is_on_disk(disk: SlowDisk):
    engine = engine_of(Shop(), disk)
    await engine.start()
    assert disk.has("write_state", "open")
    await engine.stop()


async def test_an_answer_leaves_when_state_and_receipt_are_on_disk(disk: SlowDisk):
    engine = engine_of(Shop(), disk)
    await engine.start()
    call = call_of("shop.take", "pen")
    tasks = [asyncio.create_task(engine.execute(call)) for _ in range(2)]
    for task in tasks:
        assert output(await task) == "pen"
        assert disk.has("insert_receipt", call.key)
        assert disk.has("write_state", "orders", "pen")
    await engine.stop()


async def test_what_was_seen_of_others_is_on_disk_before_it_is_told(disk: SlowDisk):
    engine = engine_of(Shop(), disk)
    await engine.start()
    taking = asyncio.create_task(engine.execute(call_of("shop.take", "pen")))
    await asyncio.sleep(0)
    refusing = asyncio.create_task(engine.execute(call_of("shop.take", "pen")))
    counting = asyncio.create_task(engine.execute(call_of("shop.orders", "")))
    assert isinstance(error(await refusing), Refusal)
    assert disk.has("write_state", "orders", "pen")
    assert output(await counting) == 1
    await taking
    await engine.stop()


async def test_who_saw_nothing_new_does_not_wait_for_the_disk(disk: SlowDisk):
    engine = engine_of(Shop(), disk)
    await engine.start()
    taking = asyncio.create_task(engine.execute(call_of("shop.take", "pen")))
    await asyncio.sleep(0)
    assert await answer(engine, "shop.is_open", "") is True
    assert not disk.has("write_state", "orders", "pen")
    await taking
    await engine.stop()


async def test_an_effect_is_claimed_on_disk_before_it_is_done_and_done_on_disk_before_the_handler_goes_on(
    disk: SlowDisk,
):
    async with http_service() as service:
        claimed: list[bool] = []
        service.heard = lambda key: claimed.append(disk.has("write_effect", key, Status.CLAIMED))
        bank = HttpConnector(base_url=service.url)
        agent = Shop()
        agent.seen = disk
        engine = engine_of(agent, disk, connectors={"bank": bank})
        await engine.start()
        call = call_of("shop.charge", "5")
        rows_then = output(await engine.execute(call))
        assert claimed == [True]
        assert [row[4] for name, row in disk.on_disk[:rows_then] if name == "write_effect"][-1] is Status.DONE
        await engine.stop()
        await bank.close()
