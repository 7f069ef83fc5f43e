"""What machines and people look at: health, metrics, the console, the description."""

import re
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from jsonschema_rs import Draft202012Validator

from hanse.contracts import Unavailable
from hanse.runtime.gateway import console
from hanse.runtime.gateway.openai.errors import speaks

from .conftest import OTHER_TOKEN, TOKEN, app_of, asking, assert_problem, deposit, withdrawal


async def test_health_needs_no_token_and_tells_nothing(app):
    async with asking(app) as http:
        answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_health_is_503_while_the_coordinator_is_away_and_asks_it_once_a_second():
    class Gone:
        asked = 0

        async def agents(self) -> Any:
            self.asked += 1
            raise Unavailable

    gone = Gone()
    async with asking(app_of(gone)) as http:
        for _ in range(5):
            answer = await http.get("/healthz")
            assert_problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
    assert gone.asked == 1


async def test_metrics_are_the_callers_own(app, http: httpx.AsyncClient):
    await http.post("/v1/tasks?wait=10", json=deposit(1000))
    await http.post("/v1/tasks?wait=10", json=withdrawal(600))
    await http.get("/nope")
    mine = _samples((await http.get("/metrics")).text)
    assert mine['hanse_tasks{status="completed"}'] == 1
    assert mine['hanse_tasks{status="input_required"}'] == 1
    assert mine["hanse_approvals_pending"] == 1
    assert mine['hanse_agents{healthy="true"}'] == 1
    assert mine['hanse_http_requests_total{method="POST",route="/v1/tasks",status="200"}'] == 1
    assert mine['hanse_http_requests_total{method="POST",route="/v1/tasks",status="202"}'] == 1
    assert mine['hanse_http_requests_total{method="GET",route="unmatched",status="404"}'] == 1
    assert mine['hanse_http_requests_inside{state="working"}'] == 1
    async with asking(app, OTHER_TOKEN) as other:
        theirs = _samples((await other.get("/metrics")).text)
    assert theirs['hanse_tasks{status="completed"}'] == 0
    assert theirs["hanse_approvals_pending"] == 0


async def test_odd_methods_and_paths_do_not_multiply_the_metrics(http: httpx.AsyncClient):
    for i in range(20):
        await http.request(f"ODD{i}", f"/nowhere/{i}")
    samples = _samples((await http.get("/metrics")).text)
    assert [name for name in samples if "unmatched" in name and "total" in name] == [
        'hanse_http_requests_total{method="OTHER",route="unmatched",status="404"}',
        'hanse_http_request_seconds_total{route="unmatched"}',
    ]


def _samples(text: str) -> dict[str, float]:
    """Prometheus' text format, read strictly."""
    lines = text.splitlines()
    assert all(re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)+\})? [\d.e+-]+", line) for line in lines), (
        text
    )
    return {name: float(value) for line in lines if line[0] != "#" for name, _, value in [line.rpartition(" ")]}


async def test_the_console_runs_its_own_script_and_style_and_nothing_else(app):
    async with asking(app) as http:
        answer = await http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy == console.policy_of(answer.content)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_console_writes_text_only_and_fetches_nothing_from_elsewhere(app):
    async with asking(app) as http:
        page = (await http.get("/")).text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "javascript:", "srcdoc"):
        assert way not in page
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?[^\"']*", page) == ['href="data:,']
    assert "://" not in page
    assert not re.search(r"\son\w+\s*=\s*[\"']", page), "handlers in markup would need an unsafe policy"


async def test_what_the_console_asks_for_is_there(app):
    async with asking(app) as http:
        page = (await http.get("/")).text
    asked = {
        re.sub(r"\$\{[^}]*\}", "x", path).partition("?")[0] for path in re.findall(r"[\"`](/v1/[^\"`]+)[\"`]", page)
    }
    assert len(asked) >= 8
    routes = [route.path_regex for route in _routes(app)]
    expanded = {path.replace(":x", verb) for path in asked for verb in (":approve", ":deny")}
    assert [path for path in expanded if not any(regex.match(path) for regex in routes)] == []


def _routes(app: Any) -> list[APIRoute]:
    return [route for route in _flat(app.routes) if isinstance(route, APIRoute)]


def _flat(routes: Any) -> Any:
    """Included routers stand in the list as themselves."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from _flat(inner.routes) if inner is not None else [route]


@pytest.fixture
async def description(app) -> dict[str, Any]:
    async with asking(app) as http:
        return (await http.get("/openapi.json")).json()


async def test_every_route_is_described(app, description: dict[str, Any]):
    routes = {
        (route.path, method.lower())
        for route in _routes(app)
        if route.include_in_schema
        for method in route.methods or ()
    }
    described = {(path, method) for path, operations in description["paths"].items() for method in operations}
    assert described == routes
    assert len(described) >= 17


async def test_every_operation_says_who_may_ask_and_what_goes_wrong(description: dict[str, Any]):
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            shape = "application/json" if speaks(path) else "application/problem+json"
            assert operation["responses"]["default"]["content"].keys() == {shape}
            assert ("security" in operation) == (path not in ("/", "/healthz"))
            assert "422" not in operation["responses"]


async def test_every_reference_in_the_description_leads_somewhere(description: dict[str, Any]):
    wanted = set(re.findall(r"#/components/schemas/(\w+)", str(description)))
    assert wanted <= description["components"]["schemas"].keys()
    assert "HTTPValidationError" not in wanted


async def test_answers_are_what_the_description_says(http: httpx.AsyncClient, description: dict[str, Any]):
    task = (await http.post("/v1/tasks?wait=10", json=deposit(1000))).json()["id"]
    asked = (await http.post("/v1/tasks?wait=10", json=withdrawal(600))).json()
    digest = (await http.get("/v1/approvals")).json()["approvals"][0]["digest"]
    as_json = {"Accept": "application/json"}
    for method, path, template, body in [
        ("POST", "/v1/tasks", "/v1/tasks", deposit()),
        ("GET", "/v1/tasks", "/v1/tasks", None),
        ("GET", f"/v1/tasks/{task}", "/v1/tasks/{task}", None),
        ("GET", f"/v1/tasks/{task}/steps", "/v1/tasks/{task}/steps", None),
        ("GET", f"/v1/tasks/{task}/bundle", "/v1/tasks/{task}/bundle", None),
        ("GET", f"/v1/tasks/{task}/events", "/v1/tasks/{task}/events", None),
        ("GET", "/v1/events?after=0", "/v1/events", None),
        ("POST", f"/v1/tasks/{task}:cancel", "/v1/tasks/{task}:cancel", {}),
        ("GET", "/v1/capabilities", "/v1/capabilities", None),
        ("GET", "/v1/capabilities/ledger.deposit", "/v1/capabilities/{name}", None),
        ("POST", "/v1/capabilities/ledger.deposit:call", "/v1/capabilities/{name}:call", {"input": deposit()["input"]}),
        ("GET", "/v1/agents", "/v1/agents", None),
        ("GET", "/v1/status", "/v1/status", None),
        ("GET", "/v1/approvals", "/v1/approvals", None),
        (
            "POST",
            f"/v1/approvals/{asked['approvals'][0]}:approve",
            "/v1/approvals/{approval}:approve",
            {"digest": digest},
        ),
        ("POST", "/v1/audit:verify", "/v1/audit:verify", {}),
        ("GET", "/healthz", "/healthz", None),
        ("GET", "/v1/tasks/nonsense", "/v1/tasks/{task}", None),
    ]:
        answer = await http.request(method, path, headers=as_json, **({"json": body} if body is not None else {}))
        responses = description["paths"][template][method.lower()]["responses"]
        expected = responses.get(str(answer.status_code), responses["default"])["content"]
        schema = expected[answer.headers["content-type"].partition(";")[0]]["schema"]
        _validator(description, schema).validate(answer.json())


def _validator(description: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": description["components"]})


async def test_bodies_that_are_taken_fit_the_description(http: httpx.AsyncClient, description: dict[str, Any]):
    schema = description["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = _validator(description, schema)
    assert validator.is_valid(deposit())
    assert not validator.is_valid({**deposit(), "unknown": 1})
    assert not validator.is_valid({"labels": {"a": 1}})
    assert (await http.post("/v1/tasks", json={"labels": {"a": 1}})).status_code == 422


async def test_the_metrics_of_one_token_are_not_for_another(app):
    async with asking(app) as http:
        assert_problem(await http.get("/metrics"), 401, "not_authenticated")
    async with asking(app, TOKEN) as http:
        assert (await http.get("/metrics")).status_code == 200
