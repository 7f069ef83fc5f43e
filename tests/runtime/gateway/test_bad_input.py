"""Whatever comes in: a typed, clear problem, nothing started, nothing lost, and the gateway goes on.

The bytes are hypothesis' own. Through the application they vary what a request says, on the socket the request.
"""

import asyncio
import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import TOKEN, Server, asking, deposit

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = {"Content-Type": "application/json"}
REQUEST = (
    f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    'Content-Length: 11\r\n\r\n{"call": 17'
).encode()

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
step = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", "b", "a b", "input", "", 5]),
        "call": st.sampled_from(["ledger.deposit", "ledger.nothing", "ledger", "nobody.does", "", 7, None]),
        "input": st.sampled_from(
            [{"$from": "b.x"}, {"$from": "a"}, {"$from": ""}, {"$from": 1}, {}, [], {"account": 1}]
        )
        | plain,
        "after": st.lists(st.sampled_from(["a", "b", "c", 1]), max_size=3),
        "when": st.sampled_from([{"$eq": [1]}, {"$nope": 1}, {"$ok": "zz"}, {"$and": 1}]) | plain,
        "for_each": st.sampled_from([{"$from": "input.list"}, {"$from": "zz"}]) | plain,
        "optional": st.booleans() | st.just("yes"),
        "surprise": st.just(1),
    },
)
broken_plan = st.fixed_dictionaries({"plan": st.fixed_dictionaries({"steps": st.lists(step, max_size=3)}) | plain})
broken_submission = st.one_of(
    plain,
    broken_plan,
    st.fixed_dictionaries({"call": plain, "input": plain}),
    st.fixed_dictionaries({"call": st.just("ledger.deposit"), "input": plain}),
    st.fixed_dictionaries({"call": st.just("ledger.deposit"), "input": st.just({"account": "a"}), "budget": plain}),
    st.fixed_dictionaries({"goal": plain, "plan": plain}),
)


def assert_typed(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500 or answer.json()["code"] == "model_unavailable", (
        answer.status_code,
        answer.text,
    )
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:hanse:error:{problem['code']}"
    assert len(problem["detail"]) > 5
    assert "Traceback" not in answer.text


async def assert_nothing_started(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/tasks")).json()["tasks"] == []
    assert (await http.get("/healthz")).status_code == 200


@EXAMPLES
@given(body=st.binary(max_size=300))
async def test_random_bytes_start_nothing(http: httpx.AsyncClient, body: bytes):
    for path in ("/v1/tasks", "/v1/capabilities/ledger.deposit:call", "/v1/approvals/x:approve"):
        assert_typed(await http.post(path, content=body, headers=JSON))
    await assert_nothing_started(http)


@EXAMPLES
@given(cut=st.integers(0, 60), noise=st.binary(max_size=4), at=st.integers(0, 60))
async def test_damaged_json_starts_nothing_or_what_it_says(http: httpx.AsyncClient, cut: int, noise: bytes, at: int):
    whole = json.dumps(deposit()).encode()
    damaged = whole[: at % len(whole)] + noise + whole[at % len(whole) + cut :]
    answer = await http.post("/v1/tasks?wait=5", content=damaged, headers=JSON)
    if answer.status_code >= 300:
        assert_typed(answer)
    else:
        assert json.loads(damaged)["call"] == "ledger.deposit"


@EXAMPLES
@given(body=broken_submission)
async def test_what_is_no_task_starts_nothing(http: httpx.AsyncClient, body: Any):
    answer = await http.post("/v1/tasks", content=json.dumps(body).encode(errors="surrogatepass"), headers=JSON)
    if answer.status_code < 300:
        raise AssertionError(f"taken on: {body}")
    assert_typed(answer)
    await assert_nothing_started(http)


@EXAMPLES
@given(depth=st.integers(65, 5000), opening=st.sampled_from(["[", '{"a":', '[{"a":[']))
async def test_deep_json_starts_nothing(http: httpx.AsyncClient, depth: int, opening: str):
    for closed in (True, False):
        inside = opening * depth + "1" + (_closing(opening) * depth if closed else "")
        body = f'{{"call":"ledger.deposit","input":{inside}}}'.encode()
        assert_typed(await http.post("/v1/tasks", content=body, headers=JSON))
    await assert_nothing_started(http)


def _closing(opening: str) -> str:
    return "".join({"[": "]", "{": "}"}.get(letter, "") for letter in reversed(opening))


@EXAMPLES
@given(token=st.binary(max_size=60), scheme=st.sampled_from([b"Bearer ", b"bearer ", b"Basic ", b"", b"Bearer  "]))
async def test_a_wrong_token_starts_nothing(app, http: httpx.AsyncClient, token: bytes, scheme: bytes):
    value = scheme + bytes(byte for byte in token if byte >= 32 and byte != 127)
    if TOKEN.encode() in value:
        return
    async with asking(app) as stranger:
        answer = await stranger.post("/v1/tasks", json=deposit(), headers={b"Authorization": value})
    assert answer.status_code == 401
    assert_typed(answer)
    await assert_nothing_started(http)


@EXAMPLES
@given(digest=st.text(max_size=80) | st.none() | plain, verb=st.sampled_from(["approve", "deny"]))
async def test_a_wrong_digest_decides_nothing(http: httpx.AsyncClient, question_about_600: str, digest: Any, verb: str):
    id = question_about_600
    content = json.dumps({"digest": digest}).encode(errors="surrogatepass")
    assert_typed(await http.post(f"/v1/approvals/{id}:{verb}", content=content, headers=JSON))
    (asked,) = (await http.get("/v1/approvals")).json()["approvals"]
    assert (asked["id"], asked["decision"]) == (id, "pending")


@EXAMPLES
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "X"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=40),
    prefix=st.sampled_from(["/", "/v1/", "/v1/tasks/", "/v1/approvals/", "/v1/capabilities/", "/v1/tasks/x:"]),
)
async def test_any_other_method_and_path_is_a_typed_problem(
    http: httpx.AsyncClient, method: str, path: str, prefix: str
):
    answer = await http.request(method, httpx.URL("http://127.0.0.1:8000").copy_with(raw_path=(prefix + path).encode()))
    if answer.status_code >= 300 and method != "HEAD":
        assert_typed(answer)
    assert (await http.get("/v1/tasks")).json()["tasks"] == []


@EXAMPLES
@given(
    query=st.dictionaries(
        st.sampled_from(["wait", "limit", "status", "before", "after", "shard", "x"]), st.text(max_size=30)
    )
)
async def test_any_query_is_an_answer_or_a_typed_problem(http: httpx.AsyncClient, query: dict[str, str]):
    query = {name: value.encode(errors="replace").decode() for name, value in query.items()}
    for path in ("/v1/tasks", "/v1/events"):
        accept = {"Accept": "application/json"}
        answer = await asyncio.wait_for(http.get(path, params={**query, "wait": "0"}, headers=accept), 5)
        if answer.status_code != 200:
            assert_typed(answer)


@EXAMPLES
@given(
    at=st.integers(0, len(REQUEST)),
    skipped=st.integers(0, 20),
    noise=st.binary(max_size=30) | st.sampled_from([b"\r\n", b"\0" * 10, b"Transfer-Encoding: chunked\r\n"]),
)
async def test_any_bytes_on_the_socket_leave_the_gateway_standing(
    app, http: httpx.AsyncClient, server: Server, at: int, skipped: int, noise: bytes
):
    """Requests cut, doubled and mixed with noise. What is no HTTP at all the server refuses in its own words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST[:at] + noise + REQUEST[at + skipped :])
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer == b"" or answer[9:10] == b"4", answer
    await assert_nothing_started(http)
    assert (app.state.desk.admission.in_flight, app.state.desk.admission.waiting) == (0, 0)
