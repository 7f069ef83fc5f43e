"""Who may come in, and what a request may look like."""

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from hanse.contracts import InvalidConfiguration, Tenant
from hanse.runtime.config import Configuration
from hanse.runtime.federation import Federation
from hanse.runtime.gateway import Credential, Settings
from hanse.runtime.gateway.edge import LINGER_BYTES

from .conftest import SETTINGS, TOKEN, Server, app_of, app_over, asking, assert_problem, deposit

OPEN = Settings(open_for=Tenant("default"))
GUARDED = [
    "/v1/tasks",
    "/v1/agents",
    "/v1/capabilities",
    "/v1/approvals",
    "/v1/events",
    "/v1/status",
    "/metrics",
    "/nope",
]


@pytest.mark.parametrize("path", GUARDED)
async def test_without_a_token_nothing_is_told_not_even_what_exists(app, path: str):
    async with asking(app) as http:
        answer = await http.get(path)
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
        "Bearer " + "x" * 5000,
    ],
)
async def test_a_wrong_token_is_refused(app, header: str):
    async with asking(app) as http:
        answer = await http.get("/v1/tasks", headers={b"Authorization": header.encode("latin-1")})
    assert_problem(answer, 401, "not_authenticated")
    assert TOKEN not in answer.text


async def test_two_tokens_are_none(app):
    async with asking(app) as http:
        both = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
        assert_problem(await http.get("/v1/tasks", headers=both), 401, "not_authenticated")


async def test_a_wrong_token_is_refused_also_where_none_is_asked_for(federation: Federation):
    async with asking(app_over(federation, OPEN), "wrong") as http:
        assert_problem(await http.get("/v1/tasks"), 401, "not_authenticated")


async def test_an_open_gateway_lets_this_machine_in(federation: Federation):
    app = app_over(federation, OPEN)
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        async with asking(app, host=host) as http:
            assert (await http.get("/v1/tasks")).status_code == 200


async def test_an_open_gateway_keeps_foreign_web_pages_out(federation: Federation):
    """By a name that somebody lets point here, and by what a page may send elsewhere without asking."""
    app = app_over(federation, OPEN)
    async with asking(app, host="evil.example:8000") as http:
        assert_problem(await http.get("/v1/tasks"), 421, "misdirected")
    async with asking(app) as http:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://[", ""):
            answer = await http.post("/v1/tasks", json=deposit(), headers={"Origin": origin})
            assert_problem(answer, 403, "not_allowed")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert_problem(await http.post("/v1/tasks", content=b"a=1", headers=form), 415, "unsupported_media_type")
        own = await http.post("/v1/tasks", json=deposit(), headers={"Origin": "http://127.0.0.1:8000"})
        assert own.status_code == 202


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.com", ""])
def test_an_open_gateway_cannot_listen_to_others(host: str):
    with pytest.raises(InvalidConfiguration, match="token"):
        Settings(open_for=Tenant("default"), host=host)


def test_a_gateway_that_nobody_could_use_is_refused():
    with pytest.raises(InvalidConfiguration, match="nobody"):
        Settings()


@pytest.mark.parametrize("token", ["", "two words", "smörgås", "line\nbreak"])
def test_a_token_that_no_header_can_carry_is_refused(token: str):
    with pytest.raises(InvalidConfiguration, match="token"):
        Credential.of("default", token)


def test_settings_hold_no_token():
    configuration = Configuration.for_agents([], tenants=[{"name": "default", "token": SecretStr(TOKEN)}])
    settings = Settings.of(configuration)
    assert settings.credentials[0].tenant == "default"
    assert TOKEN not in repr(settings)
    assert TOKEN.encode() not in settings.credentials[0].digest


async def test_a_body_that_says_it_is_too_large_is_answered_before_it_is_read(app):
    """The whole answer is there before anything of the body is asked for; what then comes is taken, to an end."""
    head = [(b"host", b"x"), (b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")]
    sent: list[Any] = []
    asked = 0

    async def receive():
        nonlocal asked
        asked += 1
        assert sent[-1]["type"] == "http.response.body"
        assert json.loads(sent[-1]["body"])["code"] == "too_large"
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    await _raw(app, [*head, (b"content-length", b"1048577")], receive, sent)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert sent[-1] == {"type": "http.response.body"}
    assert asked == LINGER_BYTES // 65536


async def test_a_body_of_exactly_the_limit_is_taken(http: httpx.AsyncClient):
    body = json.dumps({**deposit(), "labels": {"x": "y"}}).encode()
    assert (await http.post("/v1/tasks", content=body.ljust(1024 * 1024), headers=JSON)).status_code == 202
    answer = await http.post("/v1/tasks", content=body.ljust(1024 * 1024 + 1), headers=JSON)
    assert_problem(answer, 413, "too_large")


JSON = {"Content-Type": "application/json"}


async def test_a_chunked_body_is_cut_off_while_it_comes(server: Server):
    """The upload never ends; the answer comes all the same, soon after the limit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    answering = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    async with asyncio.timeout(20):
        while not answering.done() and sent < 64:
            writer.write(chunk)
            sent += 1
            await asyncio.sleep(0.005)
        head = await answering
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")
    assert 16 <= sent < 64
    assert b"application/problem+json" in head


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity", "nonsense"])
async def test_a_compressed_body_is_refused(http: httpx.AsyncClient, encoding: str):
    body = gzip.compress(json.dumps(deposit()).encode())
    answer = await http.post("/v1/tasks", content=body, headers={**JSON, "Content-Encoding": encoding})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/xml",
        "application/json; charset=latin-1",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
    ],
)
async def test_what_is_not_said_to_be_json_is_refused(http: httpx.AsyncClient, content_type: str | None):
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await http.post("/v1/tasks", content=json.dumps(deposit()).encode(), headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/vnd.hanse+json",
    ],
)
async def test_json_goes_by_several_names(http: httpx.AsyncClient, content_type: str):
    body = json.dumps(deposit()).encode()
    assert (await http.post("/v1/tasks", content=body, headers={"Content-Type": content_type})).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b"\xff",
        b'"\xed\xa0\x80"',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1} x',
        b'{"a": 1,}',
        b"[" * 100_000,
        b'{"call": 1' + b"0" * 400 + b"}",
    ],
)
async def test_what_is_no_json_is_refused_and_nothing_starts(http: httpx.AsyncClient, body: bytes):
    assert_problem(await http.post("/v1/tasks", content=body, headers=JSON), 400, "invalid_json")
    assert (await http.get("/v1/tasks")).json()["tasks"] == []


async def test_json_may_be_64_deep_and_no_deeper(http: httpx.AsyncClient):
    def nested(depth: int) -> bytes:
        return b'{"call":"ledger.deposit","input":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert "deeper" not in (await http.post("/v1/tasks", content=nested(64), headers=JSON)).text
    problem = assert_problem(await http.post("/v1/tasks", content=nested(65), headers=JSON), 422, "invalid_input")
    assert "deeper than 64" in problem["detail"]
    wide = b'{"call":"ledger.deposit","input":{"account":"a","cents":1,"x":[' + b",".join([b"[]"] * 500) + b"]}}"
    assert "deeper" not in (await http.post("/v1/tasks", content=wide, headers=JSON)).text


async def test_a_number_that_would_come_out_as_another_one_is_refused(http: httpx.AsyncClient):
    body = b'{"call":"ledger.deposit","input":{"account":"a","cents":36893488147419103232}}'
    problem = assert_problem(await http.post("/v1/tasks", content=body, headers=JSON), 422, "invalid_input")
    assert problem["ids"]["pointer"] == "/input/cents"


async def test_an_error_nobody_expected_says_nothing_of_the_inside(
    caplog: pytest.LogCaptureFixture,
):
    class Broken:
        async def tasks(self, **_):
            raise RuntimeError("the password is swordfish")

    async with asking(app_of(Broken()), TOKEN) as http:
        answer = await http.get("/v1/tasks")
    problem = assert_problem(answer, 500, "internal")
    assert "swordfish" not in answer.text
    assert "RuntimeError" not in answer.text
    assert problem["ids"]["incident"] in caplog.text
    assert "swordfish" in caplog.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "BREW"])
async def test_a_method_that_is_not_there_says_which_are(http: httpx.AsyncClient, method: str):
    answer = await http.request(method, "/v1/tasks")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert (await http.request(method, "/v1/agents")).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json", "/v1/tasks", "/v1/events", "/v1/tasks/x", "/v1/no"])
async def test_head_is_get_without_the_body(app, path: str):
    """Also of a stream, which would have no end."""
    async with asking(app, TOKEN) as http, asyncio.timeout(5):
        head = await http.head(path)
        if path != "/v1/events":
            got = await http.get(path)
            assert (head.status_code, head.headers) == (got.status_code, got.headers)
        assert head.content == b""
        assert head.status_code == {"/v1/tasks/x": 404, "/v1/no": 404}.get(path, 200)
    assert app.state.desk.admission.waiting == 0


async def test_a_parameter_that_is_not_there_is_refused_with_the_one_that_was_meant(http: httpx.AsyncClient):
    problem = assert_problem(await http.get("/v1/tasks?stauts=failed"), 422, "invalid_input")
    assert problem["detail"] == "/query/stauts: no such parameter. Did you mean status? Known: before, limit, status"
    assert_problem(await http.get("/v1/agents?x"), 422, "invalid_input")
    assert_problem(await http.post("/v1/tasks?wiat=5", json=deposit()), 422, "invalid_input")
    assert (await http.get("/v1/tasks")).json()["tasks"] == []
    assert (await http.get("/?utm_source=mail")).status_code == 200
    assert (await http.get("/v1/models?api-version=1")).status_code != 422


async def test_an_unknown_path_is_not_found(http: httpx.AsyncClient):
    for path in ("/v2/tasks", "/v1", "/v1/tasks/", "/v1//tasks", "/v1/tasks/x/y/z", "/docs", "/redoc"):
        assert_problem(await http.get(path), 404, "not_found")


async def test_a_trace_goes_along(http: httpx.AsyncClient):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert (await http.get("/v1/tasks", headers={"traceparent": trace})).headers["traceparent"] == trace
    for bad in ("00-xyz", trace.upper(), "ff" + trace[2:], "00-" + "0" * 32 + trace[35:], ""):
        assert "traceparent" not in (await http.get("/v1/tasks", headers={"traceparent": bad})).headers


async def test_answers_are_neither_sniffed_nor_kept(http: httpx.AsyncClient):
    headers = (await http.get("/v1/tasks")).headers
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


async def _raw(app, headers, receive, sent: list[Any]):
    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/tasks",
        "raw_path": b"/v1/tasks",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)


def test_the_settings_in_use_here_are_the_real_limits():
    assert Settings(**SETTINGS).body_bytes == 1024 * 1024
