"""A gateway that has too much to do says so at once, and when to come again."""

import asyncio
from typing import Any

import httpx
import pytest

from hanse.contracts import Fenced, Overloaded, Unavailable
from hanse.runtime.federation import Federation

from .conftest import TOKEN, Ledger, app_of, app_over, asking, assert_problem, deposit

HELD = {"call": "ledger.held", "input": {"account": "a", "cents": 1}}


class Slow:
    """A client that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def tasks(self, **_: Any) -> list[Any]:
        self.asked.set()
        await self.go.wait()
        return []


async def test_one_request_too_many_is_sent_away_at_once():
    slow = Slow()
    app = app_of(slow, in_flight=1)
    async with asking(app, TOKEN) as http:
        first = asyncio.create_task(http.get("/v1/tasks"))
        await slow.asked.wait()
        answer = await http.get("/v1/tasks")
        assert_problem(answer, 429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        slow.go.set()
        assert (await first).status_code == 200
        assert (await http.get("/v1/tasks")).status_code == 200


async def test_those_who_wait_do_not_keep_others_out(federation: Federation):
    app = app_over(federation, in_flight=1)
    async with asking(app, TOKEN) as http:
        waiting = [asyncio.create_task(http.post("/v1/tasks?wait=10", json=HELD))]
        await _waiters(app, 1)
        assert (await http.get("/v1/tasks")).status_code == 200
        Ledger.released.set()
        await asyncio.gather(*waiting)


async def test_one_waiter_too_many_is_sent_away_before_anything_starts(federation: Federation):
    app = app_over(federation, waiting=1)
    async with asking(app, TOKEN) as http:
        waiting = asyncio.create_task(http.post("/v1/tasks?wait=10", json=HELD))
        await _waiters(app, 1)
        for path in ("/v1/tasks?wait=10", "/v1/capabilities/ledger.deposit:call"):
            answer = await http.post(path, json=deposit() if "tasks" in path else {"input": deposit()["input"]})
            assert_problem(answer, 429, "overloaded")
        Ledger.released.set()
        held = (await waiting).json()["id"]
        assert [task["id"] for task in (await http.get("/v1/tasks")).json()["tasks"]] == [held]


async def test_one_watcher_too_many_is_sent_away(federation: Federation):
    app = app_over(federation, waiting=0)
    async with asking(app, TOKEN) as http:
        task = (await http.post("/v1/tasks", json=deposit())).json()["id"]
        for path in (f"/v1/tasks/{task}/events", f"/v1/tasks/{task}?wait=1", "/v1/events"):
            assert_problem(await http.get(path), 429, "overloaded")


async def _waiters(app: Any, count: int) -> None:
    async with asyncio.timeout(5):
        while app.state.desk.admission.waiting < count:  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0)


async def test_a_full_coordinator_is_passed_on():
    Ledger.released = asyncio.Event()
    async with Federation.in_process(agents=[Ledger], limits={"queued_tasks": 2}) as federation:
        app = app_over(federation)
        async with asking(app, TOKEN) as http:
            for _ in range(2):
                assert (await http.post("/v1/tasks", json=HELD)).status_code == 202
            answer = await http.post("/v1/tasks", json=HELD)
            problem = assert_problem(answer, 429, "overloaded")
            assert int(answer.headers["retry-after"]) >= problem["ids"]["retry_after_seconds"]
            assert len((await http.get("/v1/tasks")).json()["tasks"]) == 2
            Ledger.released.set()


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [(Overloaded(retry_after_seconds=7.2), 429, "8"), (Unavailable(), 503, "1"), (Fenced(), 503, "1")],
)
async def test_a_coordinator_that_cannot_answer_is_told_with_a_time(error, status, retry_after):
    class Failing:
        async def tasks(self, **_: Any) -> Any:
            raise error

    async with asking(app_of(Failing()), TOKEN) as http:
        answer = await http.get("/v1/tasks")
    assert_problem(answer, status, error.code)
    assert answer.headers["retry-after"] == retry_after


async def test_the_journal_is_verified_by_one_at_a_time(http: httpx.AsyncClient):
    await http.post("/v1/tasks?wait=10", json=deposit())
    answers = await asyncio.gather(*(http.post("/v1/audit:verify") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429]
    (report,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert report["ok"] is True
    assert report["entries"] > 0


async def test_a_tenant_that_submits_too_fast_is_told_when_to_come_again():
    limits = {"rates": [{"tenant": "*", "per_second": 0.2, "burst": 2}]}
    async with (
        Federation.in_process([Ledger], limits=limits) as federation,
        asking(app_over(federation), TOKEN) as http,
    ):
        for _ in range(2):
            assert (await http.post("/v1/tasks", json=deposit())).status_code == 202
        answer = await http.post("/v1/tasks", json=deposit())
        assert_problem(answer, 429, "overloaded")
        assert answer.headers["retry-after"] == "5"
