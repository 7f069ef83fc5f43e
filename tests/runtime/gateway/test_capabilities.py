"""`/v1/capabilities`: contracts, and calling one of them."""

import httpx
import pytest

from .conftest import assert_problem, deposit


async def test_contracts_can_be_read(http: httpx.AsyncClient):
    names = [contract["name"] for contract in (await http.get("/v1/capabilities")).json()["capabilities"]]
    assert sorted(names) == ["ledger.balance", "ledger.deposit", "ledger.held", "ledger.withdraw"]
    contract = (await http.get("/v1/capabilities/ledger.deposit@1.0")).json()
    assert (contract["effect"], contract["compensation"]["capability"]) == ("reversible", "ledger.withdraw")
    assert contract["input_schema"]["required"] == ["account", "cents"]


async def test_an_unknown_capability_names_near_ones(http: httpx.AsyncClient):
    problem = assert_problem(await http.get("/v1/capabilities/ledger.deposi"), 404, "not_found")
    assert "ledger.deposit" in problem["detail"]


async def test_a_call_answers_with_the_output_and_names_its_task(http: httpx.AsyncClient):
    answer = await http.post("/v1/capabilities/ledger.deposit:call", json={"input": deposit(3)["input"]})
    assert (answer.status_code, answer.json()) == (200, {"cents": 3})
    task = (await http.get(f"/v1/tasks/{answer.headers['hanse-task']}")).json()
    assert (task["status"], task["output"]) == ("completed", {"cents": 3})


async def test_a_call_with_a_key_is_made_once(http: httpx.AsyncClient):
    for _ in range(2):
        answer = await http.post(
            "/v1/capabilities/ledger.deposit:call",
            json={"input": deposit(3)["input"]},
            headers={"Idempotency-Key": "three"},
        )
        assert answer.json() == {"cents": 3}


async def test_a_refused_call_answers_with_the_refusal(http: httpx.AsyncClient):
    answer = await http.post("/v1/capabilities/ledger.withdraw:call", json={"input": deposit(3)["input"]})
    problem = assert_problem(answer, 422, "ledger.too_poor")
    assert problem["ids"]["account"] == "a"
    assert problem["ids"]["task"] == answer.headers["hanse-task"]


async def test_a_call_that_needs_a_person_answers_with_the_task(http: httpx.AsyncClient):
    answer = await http.post("/v1/capabilities/ledger.withdraw:call", json={"input": deposit(501)["input"]})
    assert (answer.status_code, answer.json()["status"]) == (202, "input_required")


async def test_a_call_waits_as_long_as_it_is_told(http: httpx.AsyncClient):
    answer = await http.post("/v1/capabilities/ledger.held:call?wait=0.05", json={"input": deposit()["input"]})
    assert (answer.status_code, answer.json()["status"]) == (202, "working")


@pytest.mark.parametrize("name", ["ledger.nothing", "nothing.at_all"])
async def test_a_call_of_nothing_is_not_found(http: httpx.AsyncClient, name: str):
    assert_problem(await http.post(f"/v1/capabilities/{name}:call", json={}), 404, "not_found")


async def test_an_input_that_does_not_fit_says_where(http: httpx.AsyncClient):
    answer = await http.post("/v1/capabilities/ledger.deposit:call", json={"input": {"account": "a", "cents": "many"}})
    problem = answer.json()
    assert (answer.status_code, problem["code"] in ("invalid_input", "invalid_plan")) == (422, True), problem
    assert "cents" in problem["detail"]
