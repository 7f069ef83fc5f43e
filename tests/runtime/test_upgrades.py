"""Upgrades: a task keeps to the contracts it was planned under; who that leaves stranded is known before a start."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import apsw
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import Fork, Kind, StepView, TaskView, Unavailable, capability
from hanse.contracts.capability import satisfies
from hanse.contracts.wire import decode_event, encode_event
from hanse.runtime import faults
from hanse.runtime.cli import up
from hanse.runtime.cli.app import app
from hanse.runtime.config import Configuration
from hanse.runtime.contract_check import contracts
from hanse.runtime.federation import Federation
from hanse.runtime.simulation.referee import referee
from hanse.runtime.store.place import Folder
from hanse.runtime.upgrades import migrate, offered, stranded
from hanse.runtime.world import CRASH_VARIABLE, MARK_VARIABLE, SystemClock

from ..acceptance import outside
from ..support.histories import replayed

RULES = [{"capability": "shop.sell", "expires_seconds": 3600}]


class Sale(BaseModel):
    item: str


class Sold(BaseModel):
    item: str
    by: str


class Shop(Agent):
    """Sells."""

    domain = "shop"
    sold: ClassVar[list[str]] = []

    @capability(version="1.0", effect="irreversible")
    async def sell(self, request: Sale, context: Context) -> Sold:
        """Sell."""
        return self._sold(request.item, "1.0")

    def _sold(self, item: str, version: str) -> Sold:
        self.sold.append(f"{item} {version}")
        return Sold(item=item, by=version)


class LaterShop(Shop):
    """A minor version later."""

    domain = "shop"
    name = "shop"

    @capability(version="1.1", effect="irreversible")
    async def sell(self, request: Sale, context: Context) -> Sold:
        """Sell."""
        return self._sold(request.item, "1.1")


class NewShop(Shop):
    """Another major version, which takes and gives the same and more."""

    domain = "shop"
    name = "shop"

    @capability(version="2.0", effect="irreversible", price_cents=3)
    async def sell(self, request: Sale, context: Context) -> Sold:
        """Sell, and be paid for it."""
        return self._sold(request.item, "2.0")


class Order(BaseModel):
    item: str
    customer: str


class OtherShop(Shop):
    """Another major version, which needs more."""

    domain = "shop"
    name = "shop"

    @capability(version="3.0", effect="irreversible")
    async def sell(self, request: Order, context: Context) -> Sold:
        """Sell to somebody."""
        return self._sold(request.item, "3.0")


class SecondShop(OtherShop):
    """Stands beside the first one."""

    domain = "shop"
    name = "second-shop"


class Museum(Agent):
    """Has nothing to sell."""

    domain = "museum"

    @capability(effect="read")
    async def look(self, request: Sale, context: Context) -> Sold:
        """Look."""
        return Sold(item=request.item, by="museum")


@pytest.fixture(autouse=True)
def nothing_sold() -> None:
    Shop.sold.clear()


def running(agent: type, data: Path, **more: Any) -> Federation:
    return Federation.in_process([agent], data=data, approvals=RULES, **more)


async def asked(data: Path) -> str:
    """A task that waits for a person when its federation, of the first version, stops."""
    async with running(Shop, data) as federation:
        task = await federation.submit(call="shop.sell", input={"item": "hat"}, idempotency_key="k")
        await federation.client.wait(task.id, 10)
        return task.id


async def allowed(federation: Federation, task: str) -> None:
    (question,) = await federation.client.approvals()
    await federation.client.decide(question.id, approve=True, digest=question.digest)


async def step_of(federation: Federation, task: str, fits: Callable[[StepView], bool]) -> StepView:
    """Its step, as soon as it is as wanted."""
    async with asyncio.timeout(10):
        while not fits((await federation.client.steps(task))[0]):  # noqa: ASYNC110 - nothing is journaled of waiting
            await asyncio.sleep(0.01)
    return (await federation.client.steps(task))[0]


async def ended(federation: Federation, task: str) -> TaskView:
    view = await federation.client.wait(task, 10)
    assert view.status.terminal, view
    return view


def promised(*agents: type) -> Any:
    return offered(contracts(Configuration.for_agents(agents)))


async def test_a_later_minor_version_takes_over(tmp_path: Path):
    task = await asked(tmp_path)
    assert stranded(Folder(tmp_path), promised(LaterShop)) == []
    async with running(LaterShop, tmp_path) as federation:
        await allowed(federation, task)
        assert (await ended(federation, task)).output == {"item": "hat", "by": "1.1"}


async def test_a_changed_input_is_checked_by_the_contract_that_the_task_was_planned_under(tmp_path: Path):
    task = await asked(tmp_path)
    async with Federation.in_process([Shop, SecondShop], data=tmp_path, approvals=RULES) as federation:
        (question,) = await federation.client.approvals()
        await federation.client.decide(question.id, approve=True, digest=question.digest, input={"item": "cap"})
        assert (await ended(federation, task)).output == {"item": "cap", "by": "1.0"}


@pytest.mark.parametrize(
    ("agent", "why"), [(NewShop, r"offers version 2\.0, not 1\.0"), (Museum, r"nobody offers shop\.sell")]
)
async def test_without_an_agent_of_its_version_a_task_waits_and_says_for_what(tmp_path: Path, agent: type, why: str):
    task = await asked(tmp_path)
    async with running(agent, tmp_path) as federation:
        await allowed(federation, task)
        step = await step_of(federation, task, lambda step: bool(step.reason))
        assert (step.status, Shop.sold) == ("waiting", [])
        assert re.search(why, step.reason)
    async with running(Shop, tmp_path) as federation:
        assert (await ended(federation, task)).output == {"item": "hat", "by": "1.0"}


async def test_a_new_task_takes_the_new_version(tmp_path: Path):
    await asked(tmp_path)
    async with running(NewShop, tmp_path) as federation:
        task = await federation.submit(call="shop.sell", input={"item": "coat"})
        await federation.client.wait(task.id, 10)
        for question in await federation.client.approvals():
            await federation.client.decide(question.id, approve=True, digest=question.digest)
        assert (await ended(federation, task.id)).output == {"item": "coat", "by": "2.0"}
        assert Shop.sold == ["coat 2.0"]


class Slow(Shop):
    """Never comes to the end of a sale."""

    domain = "shop"
    name = "shop"

    @capability(version="1.0", effect="irreversible")
    async def sell(self, request: Sale, context: Context) -> Sold:
        """Sell, some day."""
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_was_begun_under_one_contract_is_not_done_under_another(tmp_path: Path):
    async with Federation.in_process([Slow], data=tmp_path) as federation:
        task = await federation.submit(call="shop.sell", input={"item": "hat"})
        await step_of(federation, task.id, lambda step: step.status == "working")
    (found,) = stranded(Folder(tmp_path), promised(NewShop))
    assert found.steps == ("call",)
    async with Federation.in_process([NewShop], data=tmp_path) as federation:
        step = await step_of(federation, task.id, lambda step: "was begun" in step.reason)
        assert step.reason == "was begun under shop.sell 1.0, and shop offers version 2.0"
        assert Shop.sold == []
    assert await migrate(Folder(tmp_path), [found], SystemClock(), "test") == 1
    async with Federation.in_process([NewShop], data=tmp_path) as federation:
        assert (await ended(federation, task.id)).output == {"item": "hat", "by": "2.0"}


async def test_a_call_that_a_changed_plan_makes_another_one_is_not_sent(tmp_path: Path):
    """F40: nobody knows what came of the first one, so nothing is done before somebody has looked."""
    async with Federation.in_process([Slow], data=tmp_path) as federation:
        task = await federation.submit(plan={"steps": [{"id": "s", "call": "shop.sell", "input": {"item": "hat"}}]})
        await step_of(federation, task.id, lambda step: step.status == "working")
    _change_plan(tmp_path / "coordinator-0.sqlite", task.id)
    async with Federation.in_process([Shop], data=tmp_path) as federation:
        other = await federation.submit(call="shop.sell", input={"item": "coat"})
        assert (await ended(federation, other.id)).status == "completed"
        step = await step_of(federation, task.id, lambda step: "another input" in step.reason)
        assert (step.status, Shop.sold) == ("working", ["coat 1.0"])
        report = await federation.client.replay(task.id)
        assert report.divergence is not None
        assert (report.divergence.what, report.divergence.step) == ("input", "s")


def _change_plan(path: Path, task: str) -> None:
    """Writes another plan into the journal."""
    with closing(apsw.Connection(str(path))) as connection:
        (sequence, entry) = next(
            connection.execute("SELECT sequence, entry FROM journal WHERE task = ? ORDER BY sequence", (task,))
        )
        event = decode_event(entry)
        event.data["plan"]["steps"][0]["input"]["item"] = "crown"
        connection.execute("UPDATE journal SET entry = ? WHERE sequence = ?", (encode_event(event), sequence))


async def test_what_would_be_stranded_is_known_before_anything_starts(tmp_path: Path):
    task = await asked(tmp_path)
    assert stranded(Folder(tmp_path), promised(Shop)) == []
    (new,) = stranded(Folder(tmp_path), promised(NewShop))
    assert (new.task, new.capability, new.pinned, new.offered) == (task, "shop.sell", "1.0", ("2.0",))
    assert (new.migratable, new.steps, new.tenant) == (True, ("call",), "default")
    (other,) = stranded(Folder(tmp_path), promised(OtherShop))
    assert (other.migratable, other.objections) == (False, ("input/customer: is required, and may be missing",))
    (gone,) = stranded(Folder(tmp_path), promised(Museum))
    assert (gone.migratable, gone.offered) == (False, ())


async def test_an_ended_task_is_never_stranded(tmp_path: Path):
    task = await asked(tmp_path)
    async with running(Shop, tmp_path) as federation:
        await federation.client.cancel(task)
        await ended(federation, task)
    assert stranded(Folder(tmp_path), promised(Museum)) == []


async def test_a_migrated_task_goes_on_under_the_new_contract_and_its_journal_says_so(tmp_path: Path):
    task = await asked(tmp_path)
    assert await migrate(Folder(tmp_path), stranded(Folder(tmp_path), promised(NewShop)), SystemClock(), "test") == 1
    assert stranded(Folder(tmp_path), promised(NewShop)) == []
    async with running(NewShop, tmp_path) as federation:
        await allowed(federation, task)
        view = await ended(federation, task)
        assert (view.output, view.cost_cents) == ({"item": "hat", "by": "2.0"}, 3)
        assert (await federation.client.replay(task)).ok
        assert (await federation.client.verify()).ok
        (event,) = [each for each in await federation.client.events(task) if each.kind is Kind.TASK_REPINNED]
        assert event.data["pins"]["shop.sell"]["version"] == "2.0"
        assert event.data["reason"] == "migrated to shop.sell@2.0"


async def test_a_federation_that_drains_ends_what_is_open_and_takes_nothing_new(tmp_path: Path):
    task = await asked(tmp_path)
    async with running(Shop, tmp_path, coordinator={"draining": True}) as federation:
        with pytest.raises(Unavailable, match="drains: it takes no new tasks, and 1 are still open"):
            await federation.submit(call="shop.sell", input={"item": "coat"})
        again = await federation.submit(call="shop.sell", input={"item": "hat"}, idempotency_key="k")
        assert again.id == task
        await allowed(federation, task)
        assert (await ended(federation, task)).status == "completed"
        with pytest.raises(Unavailable, match="drains"):
            await federation.client.fork(task, Fork(step="call"))
        assert len(await federation.client.tasks()) == 1


async def test_rolling_up_and_down_under_load_loses_nothing_and_does_nothing_twice(tmp_path: Path):
    """G16. Tasks of each version wait while another one runs, and each is done by an agent that keeps its contract."""
    tasks: dict[str, str] = {}
    for round, agent in enumerate((Shop, LaterShop, NewShop, Shop, NewShop, LaterShop)):
        async with Federation.in_process([agent], data=tmp_path) as federation:
            for number in range(15):
                item = f"{round}-{number}"
                task = await federation.submit(call="shop.sell", input={"item": item})
                tasks[task.id] = (await federation.client.capability("shop.sell")).version
    for agent in (LaterShop, NewShop):  # in the end there is one of each
        async with Federation.in_process([agent], data=tmp_path) as federation:
            for task, version in tasks.items():
                if version[0] == ("1" if agent is LaterShop else "2"):
                    view = await ended(federation, task)
                    assert satisfies(view.output["by"], version), (version, view.output)
                    events = await federation.client.events(task)
                    referee(events)
                    assert replayed(events).divergence is None
            assert (await federation.client.verify()).ok
    assert len(Shop.sold) == len({each.partition(" ")[0] for each in Shop.sold}) == len(tasks)


# `hanse up`


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration. What would be started is only noted: it would be a Ray cluster."""
    orders: list[Any] = []

    def start(order: Any, data: Path) -> Any:
        orders.append(order)
        raise Unavailable("a start was ordered")

    monkeypatch.setattr(up, "start", start)
    monkeypatch.setattr(up, "orders", orders, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def hanse_up(project: Path, version: str, *words: str, code: int) -> Any:
    """Orders a start of the shop in a version; 3 is what the start that is only noted ends with."""
    needs = "item: str\n    customer: str" if version == "3.0" else "item: str"
    (project / f"shop{version[0]}.py").write_text(SOURCE.replace("VERSION", version).replace("NEEDS", needs))
    (project / "hanse.yaml").write_text(
        f"version: 1\nfederation: {{data: ./var}}\nagents: [{{class: 'shop{version[0]}:Shop'}}]\n"
    )
    result = CliRunner(env={"HANSE_URL": ""}).invoke(app, ["up", *words, "--json"])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


SOURCE = '''
from pydantic import BaseModel
from hanse import Agent, Context, capability

class Sale(BaseModel):
    NEEDS

class Sold(BaseModel):
    item: str
    by: str

class Shop(Agent):
    """Sells."""
    domain = "shop"

    @capability(version="VERSION", effect="irreversible")
    async def sell(self, request: Sale, context: Context) -> Sold:
        """Sell."""
        return Sold(item=request.item, by="VERSION")
'''


def test_up_shows_who_would_be_stranded_and_starts_nothing(project: Path):
    task = asyncio.run(asked(project / "var"))
    shown = hanse_up(project, "2.0", code=1)
    assert (shown["started"], [each["task"] for each in shown["stranded"]]) == (False, [task])
    assert shown["stranded"][0]["migratable"]
    drawn = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["up"])
    assert drawn.exit_code == 1
    assert "Nothing was started" in drawn.stdout
    assert "--stranded" in drawn.stdout
    assert up.orders == []  # type: ignore[attr-defined]


def test_up_starts_at_once_when_nobody_is_stranded(project: Path):
    hanse_up(project, "2.0", code=3)
    asyncio.run(asked(project / "var"))
    hanse_up(project, "1.0", code=3)
    assert len(up.orders) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("choice", ["pin", "drain", "ignore"])
def test_up_starts_as_somebody_has_chosen(project: Path, choice: str):
    asyncio.run(asked(project / "var"))
    hanse_up(project, "2.0", "--stranded", choice, code=3)
    assert up.orders[0].get("draining", False) == (choice == "drain")  # type: ignore[attr-defined]


def test_up_migrates_all_or_nothing(project: Path):
    asyncio.run(asked(project / "var"))
    refused = hanse_up(project, "3.0", "--stranded", "migrate", code=1)
    assert refused["stranded"][0]["objections"] == ["input/customer: is required, and may be missing"]
    assert up.orders == []  # type: ignore[attr-defined]
    hanse_up(project, "2.0", "--stranded", "migrate", code=3)
    hanse_up(project, "2.0", code=3)
    assert len(up.orders) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("point", faults.MIGRATION_POINTS)
def test_up_that_is_killed_while_it_migrates_has_migrated_or_has_not(
    point: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    """F2, F6: a real process dies on either side of the commit; the next one sees what is left to do."""
    task, data = asyncio.run(asked(project / "var")), project / "var"
    hanse_up(project, "2.0", "--stranded", "pin", code=3)  # only the configuration
    monkeypatch.setenv(CRASH_VARIABLE, point)
    monkeypatch.setenv(MARK_VARIABLE, str(project / "crashed"))
    command = [sys.executable, "-m", "hanse.runtime.cli", "up", "--stranded", "migrate"]
    killed = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60)
    assert (killed.returncode, (project / "crashed").exists()) == (-signal.SIGKILL, True), killed.stderr
    found = stranded(Folder(data), promised(NewShop))
    assert [each.task for each in found] == ([task] if ".before." in point else [])
    hanse_up(project, "2.0", "--stranded", "migrate", code=3)
    asyncio.run(_sold_as("2.0", data, task))
    told = outside.check_journal(data, [task])
    outside.check_receipts(data, told)


async def _sold_as(version: str, data: Path, task: str) -> None:
    async with running(NewShop, data) as federation:
        await allowed(federation, task)
        assert (await ended(federation, task)).output == {"item": "hat", "by": version}
        assert Shop.sold == [f"hat {version}"]
        assert (await federation.client.replay(task)).ok
        kinds = [event.kind for event in await federation.client.events(task)]
        assert kinds.count(Kind.TASK_REPINNED) == 1
