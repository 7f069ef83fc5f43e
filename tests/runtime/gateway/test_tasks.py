"""`/v1/tasks`: submitting, waiting, looking, canceling."""

import asyncio

import httpx
import pytest

from hanse.runtime.federation import Federation

from .conftest import OTHER_TOKEN, Ledger, asking, assert_problem, deposit, withdrawal

UNKNOWN = "01a1fd73-dc61-7000-932e-a19ead76b56f"


async def test_a_submitted_task_is_answered_with_202_and_where_to_find_it(http: httpx.AsyncClient):
    answer = await http.post("/v1/tasks", json=deposit())
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
    assert (await http.get(answer.headers["location"])).json()["id"] == answer.json()["id"]


async def test_waiting_to_the_end_is_answered_with_200_and_the_output(http: httpx.AsyncClient):
    answer = await http.post("/v1/tasks?wait=10", json=deposit(7))
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (200, "completed", {"cents": 7})


async def test_waiting_ends_when_a_person_is_needed(http: httpx.AsyncClient):
    await http.post("/v1/tasks?wait=10", json=deposit(1000))
    answer = await http.post("/v1/tasks?wait=10", json=withdrawal(501))
    assert (answer.status_code, answer.json()["status"]) == (202, "input_required")
    assert answer.json()["approvals"] == [f"{answer.json()['id']}:call"]


async def test_waiting_ends_when_the_time_is_over(http: httpx.AsyncClient):
    answer = await http.post("/v1/tasks?wait=0.05", json={"call": "ledger.held", "input": {"account": "a", "cents": 1}})
    assert (answer.status_code, answer.json()["status"]) == (202, "working")


async def test_a_look_can_wait_too(http: httpx.AsyncClient):
    asked = await http.post("/v1/tasks", json={"call": "ledger.held", "input": {"account": "a", "cents": 1}})
    looking = asyncio.create_task(http.get(f"/v1/tasks/{asked.json()['id']}?wait=10"))
    await asyncio.sleep(0)
    Ledger.released.set()
    assert (await looking).json()["status"] == "completed"


async def test_a_plan_runs_and_its_steps_say_why(http: httpx.AsyncClient):
    plan = {
        "steps": [
            {"id": "in", "call": "ledger.deposit", "input": {"account": "p", "cents": 9}},
            {"id": "out", "call": "ledger.withdraw", "input": {"account": "p", "cents": {"$from": "in.cents"}}},
        ],
        "output": {"$from": "out.cents"},
    }
    task = (await http.post("/v1/tasks?wait=10", json={"plan": plan, "labels": {"of": "test"}})).json()
    assert (task["output"], task["labels"]) == (0, {"of": "test"})
    steps = (await http.get(f"/v1/tasks/{task['id']}/steps")).json()["steps"]
    assert [(step["id"], step["status"], step["agent"]) for step in steps] == [
        ("in", "completed", "ledger"),
        ("out", "completed", "ledger"),
    ]
    assert all(step["reason"] and step["bids"] for step in steps)


async def test_the_same_key_is_the_same_task(http: httpx.AsyncClient):
    key = {"Idempotency-Key": "order-17"}
    first = await http.post("/v1/tasks?wait=10", json=deposit(), headers=key)
    again = await http.post("/v1/tasks?wait=10", json=deposit(), headers=key)
    in_body = await http.post("/v1/tasks", json={**deposit(), "idempotency_key": "order-17"})
    assert first.json()["id"] == again.json()["id"] == in_body.json()["id"]
    assert (await http.post("/v1/capabilities/ledger.balance:call", json={"input": deposit(0)["input"]})).json() == {
        "cents": 5
    }


async def test_the_same_key_for_something_else_is_refused(http: httpx.AsyncClient):
    key = {"Idempotency-Key": "order-17"}
    task = (await http.post("/v1/tasks", json=deposit(), headers=key)).json()
    problem = assert_problem(await http.post("/v1/tasks", json=deposit(6), headers=key), 409, "key_reused")
    assert problem["ids"] == {"key": "order-17", "task": task["id"]}


async def test_two_tenants_may_use_the_same_key(app, http: httpx.AsyncClient):
    key = {"Idempotency-Key": "order-17"}
    async with asking(app, OTHER_TOKEN) as other:
        mine, theirs = [await each.post("/v1/tasks", json=deposit(), headers=key) for each in (http, other)]
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel".encode(), "a\tb"])
async def test_an_odd_idempotency_key_is_refused(http: httpx.AsyncClient, key):
    assert_problem(await http.post("/v1/tasks", json=deposit(), headers={"Idempotency-Key": key}), 400, "bad_request")


async def test_two_different_idempotency_keys_are_refused(http: httpx.AsyncClient):
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(await http.post("/v1/tasks", json=deposit(), headers=twice), 400, "bad_request")
    body = {**deposit(), "idempotency_key": "b"}
    assert_problem(await http.post("/v1/tasks", json=body, headers={"Idempotency-Key": "a"}), 400, "bad_request")


async def test_tasks_are_listed_newest_first_and_page_by_page(http: httpx.AsyncClient):
    ids = [(await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"] for _ in range(5)]
    first = (await http.get("/v1/tasks?limit=3")).json()
    rest = (await http.get(f"/v1/tasks?limit=3&before={first['next']}")).json()
    assert [task["id"] for task in first["tasks"] + rest["tasks"]] == sorted(ids, reverse=True)
    assert rest["next"] is None
    assert [task["status"] for task in (await http.get("/v1/tasks?status=completed")).json()["tasks"]] == [
        "completed"
    ] * 5
    assert (await http.get("/v1/tasks?status=failed")).json() == {"tasks": [], "next": None}


async def test_a_canceled_task_ends_and_canceling_it_again_changes_nothing(http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks", json={"call": "ledger.held", "input": {"account": "a", "cents": 1}})).json()
    await http.post(f"/v1/tasks/{task['id']}:cancel", json={"reason": "changed my mind"})
    ended = (await http.get(f"/v1/tasks/{task['id']}?wait=10")).json()
    assert ended["status"] == "canceled"
    again = await http.post(f"/v1/tasks/{task['id']}:cancel")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


async def test_who_cancels_is_the_credential(federation: Federation, http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks", json={"call": "ledger.held", "input": {"account": "a", "cents": 1}})).json()
    body = {"reason": "no", "by": "somebody"}
    assert_problem(await http.post(f"/v1/tasks/{task['id']}:cancel", json=body), 422, "invalid_input")
    await http.post(f"/v1/tasks/{task['id']}:cancel", json={"reason": "no"})
    events = await federation.client.events(task["id"])
    assert [event.data["by"] for event in events if event.kind == "task.canceling"] == ["ada"]


async def test_a_step_that_is_not_held_cannot_be_resumed(http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks?wait=5", json=deposit())).json()
    answer = await http.post(f"/v1/tasks/{task['id']}:resume", json={"choice": "again"})
    assert "nothing of task" in assert_problem(answer, 409, "conflict")["detail"]
    assert_problem(await http.post(f"/v1/tasks/{task['id']}:resume", json={}), 422, "invalid_input")
    assert_problem(await http.post(f"/v1/tasks/{UNKNOWN}:resume", json={"choice": "again"}), 404, "not_found")


@pytest.mark.parametrize("path", [UNKNOWN, "nonsense", "..%2f..%2fetc", "%00", "0" * 5000])
async def test_an_unknown_task_is_not_found(http: httpx.AsyncClient, path: str):
    for method, tail in (("GET", ""), ("GET", "/steps"), ("GET", "/events"), ("POST", ":cancel")):
        assert_problem(await http.request(method, f"/v1/tasks/{path}{tail}"), 404, "not_found")


async def test_the_task_of_another_tenant_is_not_found(app, http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"]
    async with asking(app, OTHER_TOKEN) as other:
        for path in (f"/v1/tasks/{task}", f"/v1/tasks/{task}/steps", f"/v1/tasks/{task}/events"):
            assert_problem(await other.get(path), 404, "not_found")
        assert_problem(await other.post(f"/v1/tasks/{task}:cancel"), 404, "not_found")
        assert (await other.get("/v1/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("verb", ["rewind", "explode"])
async def test_a_verb_that_is_not_there_is_not_found(http: httpx.AsyncClient, verb: str):
    assert_problem(await http.post(f"/v1/tasks/{UNKNOWN}:{verb}"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_input"),
        ({"call": "ledger.deposit", "plan": {"steps": []}}, "invalid_input"),
        ({"call": "ledger.deposit", "unknown": 1}, "invalid_input"),
        ({"call": "ledger.deposit", "input": {"account": "a"}, "deadline_seconds": -1}, "invalid_input"),
        ({"call": "ledger.deposit", "budget": {"cents": "much"}}, "invalid_input"),
        ({"call": "nonsense"}, "invalid_plan"),
        ({"plan": {"steps": []}}, "invalid_plan"),
        ({"plan": {"steps": [{"id": "a", "call": "ledger.deposit", "after": ["a"]}]}}, "invalid_plan"),
    ],
)
async def test_what_is_no_task_is_refused_and_nothing_starts(http: httpx.AsyncClient, body: dict, code: str):
    assert_problem(await http.post("/v1/tasks", json=body), 422, code)
    assert (await http.get("/v1/tasks")).json()["tasks"] == []


async def test_a_goal_in_words_says_that_no_planner_is_there_and_is_not_worth_sending_again(http: httpx.AsyncClient):
    answer = await http.post("/v1/tasks", json={"goal": "make everybody happy"})
    assert_problem(answer, 422, "invalid_input")
    assert "planner" in answer.json()["detail"]
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "status=nonsense", f"before={'x' * 65}"])
async def test_an_odd_query_is_refused(http: httpx.AsyncClient, query: str):
    assert_problem(await http.get(f"/v1/tasks?{query}"), 422, "invalid_input")


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon"])
async def test_an_odd_wait_is_refused_and_nothing_starts(http: httpx.AsyncClient, wait: str):
    assert_problem(await http.post(f"/v1/tasks?wait={wait}", json=deposit()), 422, "invalid_input")
    assert (await http.get("/v1/tasks")).json()["tasks"] == []
