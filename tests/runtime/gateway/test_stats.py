"""`/v1/stats` and the outcome series of `/metrics`: the caller's own, counted as they happen."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hanse.contracts import Unavailable
from hanse.contracts.outcomes import Total
from hanse.runtime.client import Client
from hanse.runtime.gateway.series import lines, outcomes
from hanse.runtime.http_client import HttpClient

from .conftest import OTHER_TOKEN, TOKEN, Server, app_of, asking, assert_problem, deposit, withdrawal

HOUR = 3600
OUTCOMES = ("hanse_steps", "hanse_step_", "hanse_task_", "hanse_tasks_", "hanse_approval_", "hanse_approvals_decided")
"""What series of outcomes begin with."""


async def work(http: httpx.AsyncClient) -> None:
    """One that goes well, one that a rule refuses, and one that a person denies."""
    await http.post("/v1/tasks?wait=10", json=deposit(1000))
    await http.post("/v1/tasks?wait=10", json={**withdrawal(400), "input": {"account": "nobody", "cents": 400}})
    task = (await http.post("/v1/tasks?wait=10", json=withdrawal(600))).json()
    (asked,) = (await http.get("/v1/approvals")).json()["approvals"]
    answer = await http.post(f"/v1/approvals/{asked['id']}:deny", json={"digest": asked["digest"]})
    assert answer.status_code == 200
    await http.get(f"/v1/tasks/{task['id']}?wait=10")


async def test_outcomes_of_the_last_hour(http: httpx.AsyncClient):
    await work(http)
    answer = await http.get("/v1/stats", params={"since_seconds": HOUR})
    assert answer.status_code == 200
    view = answer.json()
    total = view["total"]
    assert (total["tasks"], total["completed"], total["failed"]) == (3, 1, 2)
    assert total["success_rate"] == 1 / 3
    assert (total["asked"], total["decided"], total["overridden"]) == (1, 1, 1)
    assert total["refusals"] == {"approval_denied": 1, "ledger.too_poor": 1}
    assert [(row["name"], row["tasks"], row["completed"]) for row in view["rows"]] == [
        ("ledger.withdraw", 2, 0),
        ("ledger.deposit", 1, 1),
    ]
    assert sum(part["tasks"] for part in view["trend"]) == 3


async def test_each_tenant_sees_its_own_alone(app, http: httpx.AsyncClient):
    await work(http)
    async with asking(app, OTHER_TOKEN) as other:
        for by in ("capability", "agent", "tenant"):
            view = (await other.get("/v1/stats", params={"by": by})).json()
            assert (view["total"]["tasks"], view["rows"]) == (0, [])
        assert (await other.get("/v1/stats:totals")).json() == {"totals": []}
        samples = read((await other.get("/metrics")).text)
        assert [name for name in samples if name.startswith(OUTCOMES)] == []


@pytest.mark.parametrize(
    "query",
    [{"by": "nothing"}, {"since_seconds": 0}, {"since_seconds": -1}, {"since_seconds": "nan"}, {"by": "x" * 99}],
)
async def test_what_makes_no_sense_is_refused(http: httpx.AsyncClient, query: Any):
    answer = await http.get("/v1/stats", params=query)
    assert_problem(answer, 422, "invalid_input")


async def test_both_clients_say_the_same(federation, app, http: httpx.AsyncClient):
    await work(http)
    async with over_http(app) as there:
        for by in ("capability", "agent", "tenant"):
            mine, theirs = [await each.stats(since_seconds=HOUR, by=by) for each in (federation.client, there)]
            assert (mine.total, mine.rows) == (theirs.total, theirs.rows)
        assert await there.totals() == await federation.client.totals()


@asynccontextmanager
async def over_http(app: Any) -> AsyncIterator[Client]:
    server = Server(app)
    await server.start()
    client = HttpClient(server.url, TOKEN)
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


async def test_series_follow_the_conventions_and_count_each_thing_once(http: httpx.AsyncClient):
    await work(http)
    for _ in range(2):  # a second scrape adds nothing
        samples = read((await http.get("/metrics")).text)
    assert samples["hanse_statistics_up"] == 1
    assert samples['hanse_tasks_ended_total{status="completed"}'] == 1
    assert samples['hanse_tasks_ended_total{status="failed"}'] == 2
    assert samples['hanse_steps_total{capability="ledger.deposit",status="completed"}'] == 1
    assert samples['hanse_steps_refused_total{capability="ledger.withdraw",code="ledger.too_poor"}'] == 1
    assert samples['hanse_approvals_decided_total{decision="denied"}'] == 1
    assert samples["hanse_approval_seconds_count"] == 1
    assert samples['hanse_step_seconds_bucket{capability="ledger.deposit",le="+Inf"}'] == 1
    assert samples['hanse_step_seconds_count{capability="ledger.deposit"}'] == 1
    await http.post("/v1/tasks?wait=10", json=deposit(1))
    again = read((await http.get("/metrics")).text)
    assert again['hanse_tasks_ended_total{status="completed"}'] == 2
    assert all(again[name] >= value for name, value in samples.items() if "_total" in name or "_bucket" in name)


def test_a_histogram_has_all_its_bounds_in_order_and_a_sum_and_a_count():
    values = {"0.1": 1.0, "0.5": 1.0, "+Inf": 3.0, "sum": 12.25}
    totals = [Total(metric="step_seconds", capability=name, label=label, value=value)
              for name in ("a.b", "c.d") for label, value in values.items()]  # fmt: skip
    found = [line for line in lines(totals) if line.startswith("hanse_step_seconds") and 'capability="a.b"' in line]
    assert found == [
        'hanse_step_seconds_bucket{capability="a.b",le="0.1"} 1',
        'hanse_step_seconds_bucket{capability="a.b",le="0.5"} 1',
        'hanse_step_seconds_bucket{capability="a.b",le="+Inf"} 3',
        'hanse_step_seconds_sum{capability="a.b"} 12.25',
        'hanse_step_seconds_count{capability="a.b"} 3',
    ]


def test_every_series_has_a_type_and_counters_are_named_as_such():
    text = [line for line in lines([]) if line.startswith("# TYPE")]
    types = dict(line.split()[2:] for line in text)
    assert all((kind == "counter") == name.endswith("_total") for name, kind in types.items())
    assert all(name.endswith("_seconds") for name, kind in types.items() if kind == "histogram")


def test_a_large_sum_shows_its_last_cent():
    (found,) = [line for line in lines([Total(metric="task_cents", value=123456789.25)]) if line[0] != "#"]
    assert found == "hanse_tasks_cents_total 123456789.25"


async def test_metrics_do_without_the_statistics():
    class Bare:
        async def totals(self) -> Any:
            raise Unavailable("they are being read")

        async def stats(self, **how: Any) -> Any:
            raise Unavailable("they are being read")

    found = await outcomes(Bare())  # type: ignore[arg-type]
    assert "hanse_statistics_up 0" in found
    async with asking(app_of(Bare()), TOKEN) as http:
        assert_problem(await http.get("/v1/stats"), 503, "unavailable")


def read(text: str) -> Mapping[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, value in (re.fullmatch(r"(\S+) (\S+)", line).groups() for line in lines)}  # type: ignore[union-attr]
    assert len(found) == len(lines), "a series is there twice"
    return found
