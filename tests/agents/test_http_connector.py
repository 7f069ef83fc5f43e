"""The HTTP connector against a real server on loopback: it judges honestly, and reaches nobody else."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hanse.agents.connectors import HttpConnector, HttpRefused
from hanse.contracts import (
    HanseError,
    InvalidConfiguration,
    InvalidInput,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unavailable,
)

from .outside import Service, http_service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with http_service() as service:
        yield service


async def post(service: Service, path: str = "/deposits", key: str = "k", **options: Any) -> Any:
    connector = HttpConnector(base_url=service.url, **{"timeout_seconds": 1.5} | options)
    try:
        return await connector.post(key, path, body={"cents": 5})
    finally:
        await connector.close()


async def get(service: Service, path: str = "/deposits", **options: Any) -> Any:
    connector = HttpConnector(base_url=service.url, **{"timeout_seconds": 1.5} | options)
    try:
        return await connector.get("", path, params={"a": "b c", "n": 1})
    finally:
        await connector.close()


async def test_a_request_carries_its_key_its_token_and_its_body(service: Service):
    reply = await post(service, token="secret", headers={"X-Shop": "north"})
    assert (reply.status, reply.body["done"]) == (200, 1)
    method, path, headers, body = service.requests[0]
    assert (method, path, body) == ("POST", "/api/deposits", b'{"cents":5}')
    assert headers["idempotency-key"] == "k"
    assert headers["authorization"] == "Bearer secret"
    assert headers["x-shop"] == "north"


async def test_a_question_has_no_key_and_quoted_parameters(service: Service):
    await get(service)
    method, path, headers, _ = service.requests[0]
    assert (method, path) == ("GET", "/api/deposits?a=b+c&n=1")
    assert "idempotency-key" not in headers


@pytest.mark.parametrize(
    ("fault", "effect", "question"),
    [
        ("reset before", OutcomeUnknown, Unavailable),
        ("reset after", OutcomeUnknown, Unavailable),
        ("hang after", OutcomeUnknown, Unavailable),
        ("half after", OutcomeUnknown, Unavailable),
        ("500 after", OutcomeUnknown, Unavailable),
        ("redirect", OutcomeUnknown, HttpRefused),
        ("refuse", HttpRefused, HttpRefused),
        ("408 not now", Unavailable, Unavailable),
        ("429 not now", Overloaded, Overloaded),
    ],
)
async def test_what_came_of_it_is_told_honestly(
    service: Service, fault: str, effect: type[HanseError], question: type[HanseError]
):
    service.faults.extend([fault, fault])
    with pytest.raises(HanseError) as told:
        await post(service)
    assert type(told.value) is effect
    with pytest.raises(HanseError) as told:
        await get(service)
    assert type(told.value) is question


async def test_a_server_that_is_busy_says_when_to_come_again(service: Service):
    service.faults.append("429 not now")
    with pytest.raises(Overloaded) as overloaded:
        await post(service)
    assert overloaded.value.retry_after_seconds == 7


async def test_a_refused_connection_means_that_nothing_happened(unused_tcp_port: int):
    connector = HttpConnector(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Unavailable, match="no connection"):
        await connector.post("k", "/a", body=1)
    await connector.close()


async def test_a_redirect_is_not_followed(service: Service):
    service.faults.append("redirect")
    with pytest.raises(HttpRefused):
        await get(service)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.test/",
        "//evil.test/",
        "evil.test",
        "@evil.test/",
        "/../admin",
        "/a/../../admin",
        "/a/%2e%2e/admin",
        "/a/..%2fadmin",
        "/a/%5c..%5cadmin",
        "/a\\..\\admin",
        "/a?b=c",
        "/a#b",
        "/a b",
        "/a\r\nHost: evil.test",
        "/\u00e9",
        "",
    ],
)
async def test_a_path_stays_below_the_base(service: Service, path: str):
    with pytest.raises(InvalidInput):
        await post(service, path)
    assert service.requests == []


async def test_a_path_that_names_another_host_after_a_slash_is_still_a_path(service: Service):
    await post(service, "/http://evil.test@evil.test:80/")
    assert service.requests[0][1] == "/api/http://evil.test@evil.test:80/"


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.test"}, {"authorization": "x"}, {"X": "a\r\nY: b"}, {"X Y": "a"}, {"X": "\u00e9"}]
)
async def test_a_handler_sets_no_header_that_is_not_its_own(service: Service, headers: dict[str, str]):
    connector = HttpConnector(base_url=service.url)
    with pytest.raises(InvalidInput):
        await connector.post("k", "/a", body=1, headers=headers)
    assert service.requests == []


async def test_neither_proxies_nor_netrc_of_the_environment_are_used(service: Service, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await post(service)).status == 200


async def test_an_answer_that_is_too_large_is_refused_but_what_was_done_was_done(service: Service):
    service.faults.extend(["huge", "huge", "gzip"])
    with pytest.raises(TooLarge):
        await get(service, max_response_bytes=1000)
    assert (await post(service, max_response_bytes=1000)).body is None
    assert (await post(service, key="k2")).body is None


async def test_an_answer_that_drips_is_cut_off_in_time(service: Service):
    from hanse.agents.effects import called

    service.faults.append("drip after")
    connector = HttpConnector(base_url=service.url, timeout_seconds=0.2)
    with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.2 s"):
        await called(
            connector, connector.operations["post"], "k", {"path": "/a", "body": None, "params": None, "headers": None}
        )
    await connector.close()


async def test_json_that_is_none_is_text(service: Service):
    service.faults.append("bad json")
    assert (await post(service)).body == '{"a": NaN}'


async def test_asked_for_a_key_it_says_done_absent_or_unknown(service: Service, unused_tcp_port: int):
    connector = HttpConnector(base_url=service.url, status_path="/by-key?key={key}", timeout_seconds=1.5)
    await connector.post("t/s1!0", "/deposits", body=1)
    assert (await connector.reconcile("post", "t/s1!0", {})).result["body"] == {"done": 1}  # pyright: ignore
    assert type(await connector.reconcile("post", "t/s1!1", {})).__name__ == "Absent"
    await connector.close()
    for url, options in (
        (service.url, {}),
        (f"http://127.0.0.1:{unused_tcp_port}", {"status_path": "/by-key?key={key}"}),
    ):
        connector = HttpConnector(base_url=url, **options)
        with pytest.raises(HanseError) as told:
            await connector.reconcile("post", "k", {})
        assert isinstance(told.value, OutcomeUnknown | Unavailable)
        await connector.close()


async def test_secrets_are_in_no_log_and_no_error(service: Service, caplog: pytest.LogCaptureFixture):
    service.faults.append("refuse")
    with caplog.at_level(logging.DEBUG), pytest.raises(HttpRefused) as refused:
        await post(service, token="hunter2", headers={"X-Key": "hunter3"})
    assert "hunter" not in caplog.text + str(refused.value.to_data())
    connector = HttpConnector(base_url=service.url, token="hunter2", headers={"X-Key": "hunter3"})
    assert "hunter" not in repr(connector.options)
    assert set(connector.secrets()) == {"hunter2", "hunter3"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base_url": "ftp://a"},
        {"base_url": "http://"},
        {"base_url": "http://user:pass@a"},
        {"base_url": "http://a?b"},
        {"base_url": "http://a", "status_path": "/status"},
        {"base_url": "http://a", "unknown": 1},
        {"base_url": "http://a", "timeout_seconds": 0},
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]):
    with pytest.raises(InvalidConfiguration):
        HttpConnector(**options)
