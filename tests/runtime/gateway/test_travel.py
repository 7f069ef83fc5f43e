"""`:replay` and `:fork` over HTTP, and the client's verbs for them."""

import httpx

from hanse.contracts import Fork
from hanse.runtime.http_client import HttpClient

from .conftest import OTHER_TOKEN, TOKEN, Server, asking, assert_problem

PLAN = {
    "steps": [
        {"id": "pay", "call": "ledger.deposit", "input": {"account": "a", "cents": 5}},
        {"id": "look", "call": "ledger.balance", "input": {"account": "a", "cents": 0}, "after": ["pay"]},
    ],
    "output": {"$from": "look"},
}


async def done(http: httpx.AsyncClient) -> str:
    return (await http.post("/v1/tasks?wait=10", json={"plan": PLAN})).json()["id"]


async def test_a_task_is_replayed(http: httpx.AsyncClient):
    task = await done(http)
    answer = await http.post(f"/v1/tasks/{task}:replay")
    assert answer.status_code == 200
    report = answer.json()
    assert (report["ok"], report["task"], report["events"]) == (True, task, 6)


async def test_a_fork_is_a_task_and_its_key_counts(http: httpx.AsyncClient):
    task = await done(http)
    answers = [
        await http.post(f"/v1/tasks/{task}:fork", json={"step": "look"}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    first, second = (answer.json() for answer in answers)
    assert first["id"] == second["id"] != task
    assert first["forked_from"] == {"task": task, "step": "look", "inherited": ["pay"]}
    reused = await http.post(f"/v1/tasks/{task}:fork", json={"step": "pay"}, headers={"Idempotency-Key": "k"})
    assert_problem(reused, 409, "key_reused")
    balance = (await http.get(f"/v1/tasks/{first['id']}?wait=10")).json()["output"]
    assert balance == {"cents": 5}


async def test_what_cannot_be_is_a_problem(http: httpx.AsyncClient, app):
    task = await done(http)
    nobody = "01932f3a-0000-7000-8000-000000000000"
    assert_problem(await http.post(f"/v1/tasks/{task}:fork", json={"step": "nowhere"}), 404, "not_found")
    assert_problem(await http.post(f"/v1/tasks/{task}:fork", json={}), 422, "invalid_input")
    assert_problem(await http.post(f"/v1/tasks/{task}:fork", json={"step": "pay", "x": 1}), 422, "invalid_input")
    assert_problem(await http.post(f"/v1/tasks/{task}:fork", json=[]), 422, "invalid_input")
    for verb in ("fork", "replay"):
        body = {"step": "pay"}
        assert_problem(await http.post(f"/v1/tasks/{nobody}:{verb}", json=body), 404, "not_found")
        async with asking(app, OTHER_TOKEN) as other:
            assert_problem(await other.post(f"/v1/tasks/{task}:{verb}", json=body), 404, "not_found")


async def test_the_client_speaks_both(http: httpx.AsyncClient, server: Server):
    task = await done(http)
    client = HttpClient(server.url, TOKEN)
    try:
        assert (await client.replay(task)).ok
        view = await client.fork(task, Fork(step="look", input=None, labels={"way": "other"}))
        assert view.forked_from is not None
        assert (view.forked_from.task, view.labels) == (task, {"way": "other"})
        assert (await client.replay(view.id)).ok
    finally:
        await client.close()
