"""`/v1/approvals`: a person decides, once, about exactly what was seen."""

from typing import Any

import httpx
import pytest

from .conftest import OTHER_TOKEN, asking, assert_problem, deposit, withdrawal


@pytest.fixture
async def question(http: httpx.AsyncClient) -> dict[str, Any]:
    """A withdrawal of 600 cents waits for a person."""
    await http.post("/v1/tasks?wait=10", json=deposit(1000))
    await http.post("/v1/tasks?wait=10", json=withdrawal(600))
    (asked,) = (await http.get("/v1/approvals")).json()["approvals"]
    return asked


async def balance(http: httpx.AsyncClient) -> int:
    answer = await http.post("/v1/capabilities/ledger.balance:call", json={"input": deposit(0)["input"]})
    return answer.json()["cents"]


async def test_a_question_shows_what_would_run_and_which_rule_asks(question: dict[str, Any]):
    assert (question["capability"], question["input"]) == ("ledger.withdraw", {"account": "a", "cents": 600})
    assert question["digest"].startswith("sha256:")
    assert "500" in question["rule"]
    assert question["decision"] == "pending"


async def test_an_approved_step_runs_and_the_approver_is_the_credential(
    http: httpx.AsyncClient, question: dict[str, Any]
):
    body = {"digest": question["digest"], "note": "fine"}
    answer = await http.post(f"/v1/approvals/{question['id']}:approve", json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["decision"], answer.json()["by"], answer.json()["note"]) == ("approved", "ada", "fine")
    task = (await http.get(f"/v1/tasks/{question['task']}?wait=10")).json()
    assert (task["status"], task["output"]) == ("completed", {"cents": 400})
    assert (await http.get("/v1/approvals")).json()["approvals"] == []
    assert [each["by"] for each in (await http.get("/v1/approvals?pending=false")).json()["approvals"]] == ["ada"]


async def test_a_denied_step_does_not_run(http: httpx.AsyncClient, question: dict[str, Any]):
    answer = await http.post(f"/v1/approvals/{question['id']}:deny", json={"digest": question["digest"]})
    assert answer.json()["decision"] == "denied"
    task = (await http.get(f"/v1/tasks/{question['task']}?wait=10")).json()
    assert (task["status"], task["error"]["code"]) == ("failed", "approval_denied")
    assert await balance(http) == 1000


async def test_another_digest_decides_nothing(http: httpx.AsyncClient, question: dict[str, Any]):
    for verb in ("approve", "deny"):
        body = {"digest": "sha256:" + "0" * 64}
        assert_problem(await http.post(f"/v1/approvals/{question['id']}:{verb}", json=body), 409, "digest_mismatch")
    assert len((await http.get("/v1/approvals")).json()["approvals"]) == 1
    assert await balance(http) == 1000


@pytest.mark.parametrize("body", [{}, {"digest": 5}, {"digest": None}, {"note": "yes"}, [], "yes"])
async def test_a_decision_without_a_digest_decides_nothing(http: httpx.AsyncClient, question: dict[str, Any], body):
    assert_problem(await http.post(f"/v1/approvals/{question['id']}:approve", json=body), 422, "invalid_input")
    assert len((await http.get("/v1/approvals")).json()["approvals"]) == 1


async def test_nobody_decides_in_the_name_of_another(http: httpx.AsyncClient, question: dict[str, Any]):
    body = {"digest": question["digest"], "by": "the boss"}
    assert_problem(await http.post(f"/v1/approvals/{question['id']}:approve", json=body), 422, "invalid_input")


async def test_a_decision_is_made_once(http: httpx.AsyncClient, question: dict[str, Any]):
    body = {"digest": question["digest"]}
    await http.post(f"/v1/approvals/{question['id']}:approve", json=body)
    assert (await http.post(f"/v1/approvals/{question['id']}:approve", json=body)).status_code == 200
    assert_problem(await http.post(f"/v1/approvals/{question['id']}:deny", json=body), 409, "conflict")
    await http.get(f"/v1/tasks/{question['task']}?wait=10")
    assert await balance(http) == 400


async def test_another_tenant_neither_sees_nor_decides(app, http: httpx.AsyncClient, question: dict[str, Any]):
    async with asking(app, OTHER_TOKEN) as other:
        assert (await other.get("/v1/approvals?pending=false")).json()["approvals"] == []
        body = {"digest": question["digest"]}
        assert_problem(await other.post(f"/v1/approvals/{question['id']}:approve", json=body), 404, "not_found")
    assert len((await http.get("/v1/approvals")).json()["approvals"]) == 1


@pytest.mark.parametrize("id", ["nonsense", "01a1fd73-dc61-7000-932e-a19ead76b56f:call", "x" * 3000])
async def test_an_unknown_question_is_not_found(http: httpx.AsyncClient, id: str):
    body = {"digest": "sha256:" + "0" * 64}
    problem = assert_problem(await http.post(f"/v1/approvals/{id}:approve", json=body), 404, "not_found")
    assert problem["detail"].startswith("there is no approval")
    assert problem["ids"]["approval"] == id[: len(problem["ids"]["approval"])]


# Many at once, and changed ones


async def flood(http: httpx.AsyncClient, count: int = 30) -> dict[str, Any]:
    """So many withdrawals wait; the group that they are."""
    await http.post("/v1/tasks?wait=10", json=deposit(100_000))
    for number in range(count):
        await http.post("/v1/tasks?wait=10", json=withdrawal(501 + number))
    (group,) = (await http.get("/v1/approvals?group=true")).json()["groups"]
    return group


async def test_a_flood_is_one_prompt_and_each_is_decided_by_its_own_digest(http: httpx.AsyncClient):
    group = await flood(http)
    assert (group["count"], group["min"], group["max"]) == (30, 501, 530)
    answer = (await http.post("/v1/approvals:decide", json={"approve": True, "seen": group["seen"]})).json()
    assert (len(answer["decided"]), answer["refused"]) == (30, [])
    assert {each["decision"] for each in answer["decided"]} == {"approved"}
    assert await balance(http) == 100_000 - sum(range(501, 531))


async def test_what_was_not_seen_is_not_decided_with_the_group(http: httpx.AsyncClient):
    group = await flood(http, 2)
    late = (await http.post("/v1/tasks?wait=10", json=withdrawal(900))).json()
    seen = group["seen"] | {next(iter(group["seen"])): "sha256:" + "0" * 64}
    answer = (await http.post("/v1/approvals:decide", json={"approve": True, "seen": seen})).json()
    assert len(answer["decided"]) == 1
    assert [each["problem"]["code"] for each in answer["refused"]] == ["digest_mismatch"]
    assert late["status"] == "input_required"
    assert len((await http.get("/v1/approvals")).json()["approvals"]) == 2


@pytest.mark.parametrize("body", [{}, {"approve": True}, {"approve": True, "seen": {}}, {"seen": {"a": "b"}}])
async def test_a_decision_about_nothing_is_none(http: httpx.AsyncClient, body: Any):
    assert_problem(await http.post("/v1/approvals:decide", json=body), 422, "invalid_input")


async def test_a_changed_input_is_approved_in_one_go(http: httpx.AsyncClient, question: dict[str, Any]):
    body = {"digest": question["digest"], "input": {"account": "a", "cents": 100}, "plan": question["plan"]}
    answer = (await http.post(f"/v1/approvals/{question['id']}:approve", json=body)).json()
    assert (answer["decision"], answer["edited"]["by"], answer["input"]["cents"]) == ("approved", "ada", 100)
    await http.get(f"/v1/tasks/{question['task']}?wait=10")
    assert await balance(http) == 900


async def test_a_changed_input_that_breaks_the_contract_decides_nothing(
    http: httpx.AsyncClient, question: dict[str, Any]
):
    body = {"digest": question["digest"], "input": {"account": "a"}}
    assert_problem(await http.post(f"/v1/approvals/{question['id']}:approve", json=body), 422, "invalid_input")
    assert len((await http.get("/v1/approvals")).json()["approvals"]) == 1


async def test_another_plan_decides_nothing(http: httpx.AsyncClient, question: dict[str, Any]):
    body = {"digest": question["digest"], "plan": "sha256:" + "0" * 64}
    assert_problem(await http.post(f"/v1/approvals/{question['id']}:approve", json=body), 409, "digest_mismatch")


async def test_a_question_comes_with_what_is_needed_to_judge_it(question: dict[str, Any]):
    rows = {row["label"]: row["value"] for row in question["material"]}
    assert rows["changes"] == "something that ledger.deposit can undo; risk low"
    assert (rows["amount"], rows["input cents"], rows["asked by"]) == ("600", "600", "ada")


async def test_a_budget_shows_over_http(http: httpx.AsyncClient):
    body = deposit(5) | {"budget": {"cents": 3, "tokens": 100, "seconds": 60, "human_minutes": 4}}
    task = (await http.post("/v1/tasks?wait=10", json=body)).json()
    assert task["budget"]["limit"] == {"cents": 3, "tokens": 100, "seconds": 60, "human_minutes": 4}
    assert_problem(await http.post("/v1/tasks", json=body | {"budget": {"pence": 3}}), 422, "invalid_input")
