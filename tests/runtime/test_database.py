"""A federation whose stores are in a database: it works, comes back, and is audited."""

import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, capability
from hanse.contracts import Conflict, InvalidConfiguration, TaskId, TaskView
from hanse.runtime.address import Address
from hanse.runtime.audit.bundle import Notary, make_bundle
from hanse.runtime.audit.compaction import compact, forget_receipts
from hanse.runtime.audit.folder import audit
from hanse.runtime.audit.head import Signer
from hanse.runtime.audit.reasons import check
from hanse.runtime.config import Configuration
from hanse.runtime.folder import all_replayed
from hanse.runtime.store.place import ADDRESS, Folder, place_of, settled
from hanse.runtime.world import SystemClock

from ..support.postgres import Server


class Amount(BaseModel):
    account: str
    cents: int


class Till(Agent):
    """Keeps accounts."""

    domain = "till"

    @capability(effect="reversible", compensation="withdraw")
    async def deposit(self, request: Amount, context: Context) -> Amount:
        """Add money."""
        return await self._add(request.account, request.cents, context)

    @capability(effect="reversible", compensation="deposit")
    async def withdraw(self, request: Amount, context: Context) -> Amount:
        """Take money."""
        return await self._add(request.account, -request.cents, context)

    async def _add(self, account: str, cents: int, context: Context) -> Amount:
        total = cents + await context.state.get("total", account, default=0)
        await context.state.put("total", account, total)
        return Amount(account=account, cents=total)


def over(server: Server, data: Path) -> Any:
    return Federation.in_process([Till], data=data, federation={"name": data.name}, store={"url": server.url})


async def deposited(federation: Federation, cents: int, **more: Any) -> TaskView:
    task = await federation.submit(call="till.deposit", input={"account": "a", "cents": cents}, **more)
    return await task.wait(20)


async def test_state_tasks_and_keys_are_there_again(server: Server, tmp_path: Path):
    data = tmp_path / "again"
    async with over(server, data) as federation:
        first = await deposited(federation, 5, idempotency_key="k")
    async with over(server, data) as federation:
        assert (await deposited(federation, 5, idempotency_key="k")).id == first.id
        assert (await deposited(federation, 2)).output == {"account": "a", "cents": 7}
        assert len(await federation.client.tasks()) == 2
    assert Folder(data).names() == []
    assert set(place_of(data).names()) >= {"agents/till", "coordinator-0"}


async def test_a_lost_data_folder_loses_no_work(server: Server, tmp_path: Path):
    """Only the signing key must be kept elsewhere, or what was signed before would be somebody else's."""
    lost, fresh = tmp_path / "lost", tmp_path / "fresh"
    store: Any = {"federation": {"name": "lost"}, "store": {"url": server.url}}
    async with Federation.in_process([Till], data=lost, **store) as federation:
        first = await deposited(federation, 5, idempotency_key="k")
    fresh.mkdir()
    shutil.copy(lost / "secret.key", fresh)
    shutil.rmtree(lost)
    async with Federation.in_process([Till], data=fresh, **store) as federation:
        assert (await deposited(federation, 5, idempotency_key="k")).id == first.id
        assert (await deposited(federation, 2)).output == {"account": "a", "cents": 7}
    assert all(each.report.ok for each in audit(fresh))


async def test_it_is_audited_replayed_and_proved_from_its_data_folder(server: Server, tmp_path: Path):
    data = tmp_path / "audited"
    async with over(server, data) as federation:
        task = await deposited(federation, 5)
    (coordinator,) = [each for each in audit(data) if each.journal == "coordinator-0"]
    assert (coordinator.report.ok, coordinator.report.entries) == (True, 7)
    assert [(each.run.task, each.divergence) for each in all_replayed(data) if each.run] == [(task.id, None)]
    notary = Notary(Signer("audited", (data / "secret.key").read_bytes()), 1, {})
    bundle = make_bundle(place_of(data), TaskId(task.id), notary)
    assert check(bundle, notary.signer.public, None).problems == []
    assert [receipt["agent"] for receipt in bundle["receipts"]] == ["till"]


async def test_what_ended_is_compacted_and_the_rest_still_verifies(server: Server, tmp_path: Path):
    data = tmp_path / "compacted"
    async with over(server, data) as federation:
        tasks = [TaskId((await deposited(federation, 5)).id) for _ in range(3)]
    place, soon = place_of(data), SystemClock().now_ms() + 1000
    await forget_receipts(place, ["agents/till"], tasks)
    done = await compact(place, "coordinator-0", soon, SystemClock(), archive=data / "archive", by="me")
    assert [each.task for each in done.tasks] == tasks
    (coordinator,) = audit(data)
    assert (coordinator.report.ok, coordinator.report.compacted) == (True, done.entries)
    async with over(server, data) as federation:
        assert (await deposited(federation, 2)).output == {"account": "a", "cents": 17}
        assert len(await federation.client.tasks()) == 1


async def test_an_edited_entry_is_found(server: Server, tmp_path: Path):
    data = tmp_path / "edited"
    async with over(server, data) as federation:
        await deposited(federation, 5)
    with psycopg.connect(server.url) as connection:
        connection.execute("""UPDATE "edited/coordinator-0".journal SET entry = entry || 'x' WHERE sequence = 4""")
    (coordinator,) = [each for each in audit(data) if each.journal == "coordinator-0"]
    assert not coordinator.report.ok


def test_a_folder_says_where_its_stores_are_and_to_nobody_else(tmp_path: Path):
    address = Address("postgresql://hanse:secret@db/hanse", "shop")
    settled(tmp_path, address)
    assert (tmp_path / ADDRESS).stat().st_mode & 0o777 == 0o600
    assert place_of(tmp_path).where("coordinator-0") == "postgresql://db/hanse#shop/coordinator-0"
    settled(tmp_path, Address("postgresql://hanse:other@db/hanse", "shop"))
    assert "other" in (tmp_path / ADDRESS).read_text()


async def test_nobody_begins_anew_beside_stores_that_are_there(server: Server, tmp_path: Path):
    files, database = tmp_path / "files", tmp_path / "database"
    async with Federation.in_process([Till], data=files) as federation:
        await deposited(federation, 5)
    with pytest.raises(Conflict, match="take another data folder"):
        async with over(server, files):
            pass
    async with over(server, database) as federation:
        await deposited(federation, 5)
    with pytest.raises(Conflict, match="the configuration names none"):
        async with Federation.in_process([Till], data=database):
            pass
    with pytest.raises(Conflict, match="are those of database, not of another"):
        async with Federation.in_process(
            [Till], data=database, federation={"name": "another"}, store={"url": server.url}
        ):
            pass


@pytest.mark.parametrize("url", ["mysql://db/hanse", "", "db"])
def test_another_kind_of_database_is_refused(url: str):
    with pytest.raises(InvalidConfiguration, match="write postgresql://USER@HOST/DATABASE"):
        Configuration.for_agents([Till], store={"url": url})


def test_memory_and_a_database_exclude_one_another():
    with pytest.raises(InvalidConfiguration, match="Write a folder"):
        Configuration.for_agents([Till], data=":memory:", store={"url": "postgresql://db/hanse"})


def test_a_configuration_does_not_show_the_address():
    configuration = Configuration.for_agents([Till], store={"url": "postgresql://hanse:secret@db/hanse"})
    assert "secret" not in repr(configuration)
