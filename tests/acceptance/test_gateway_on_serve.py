"""The gateway as it is used: on Ray Serve, behind HAProxy, on real sockets.

What only the real thing can show: that nothing but the gateway's own port is open, that streams and refusals get
through the proxy, and that a replica that is killed takes neither a task nor a watcher with it.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr

from hanse import Federation
from hanse.contracts import Kind, NotAuthenticated, Submission, TaskStatus
from hanse.runtime import sse
from hanse.runtime.config import AgentEntry
from hanse.runtime.http_client import HttpClient

from ..support.ports import listeners, processes_with
from .town import Vault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

TOKEN = "sesame-through-the-proxy"
PUT = {"name": "gateway", "number": 1}
HELD: dict[str, Any] = {
    "steps": [
        {"id": "put", "call": "vault.put", "input": PUT},
        {"id": "back", "call": "vault.take_back", "input": PUT, "after": ["put"]},
    ]
}
"""Waits for a person in the middle."""
LOOPBACK = ("127.0.0.1", "::1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with Federation.local(
        agents=[AgentEntry(**{"class": Vault, "host": "town"})],
        data=tmp_path_factory.mktemp("gateway"),
        http=True,
        federation={"name": "gateway"},
        gateway={"port": 0},
        tenants=[{"name": "default", "token": SecretStr(TOKEN)}],
        approvals=[{"capability": "vault.take_back"}],
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(federation: Federation) -> AsyncIterator[HttpClient]:
    client = HttpClient(url_of(federation), TOKEN, patience_seconds=60)
    yield client
    await client.close()


@pytest_asyncio.fixture(loop_scope="module")
async def http(federation: Federation) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url_of(federation), headers=headers, trust_env=False) as http:
        yield http


def url_of(federation: Federation) -> str:
    assert federation.url is not None
    return federation.url


def ours() -> dict[int, str]:
    """Processes of this cluster."""
    variable = "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"
    return processes_with(variable, os.environ[variable])


def named(part: str) -> list[int]:
    return [pid for pid, name in ours().items() if part in name and pid != os.getpid()]


async def test_a_task_goes_all_the_way(http: httpx.AsyncClient):
    answer = await http.post("/v1/tasks?wait=30", json={"call": "vault.put", "input": {"name": "all", "number": 3}})
    assert (answer.status_code, answer.json()["output"]["total"]) == (200, 3)


async def test_nothing_but_the_gateways_own_port_is_open(federation: Federation):
    """Of the proxy. And no process of this cluster, Ray's included, listens to other machines."""
    proxies = named("haproxy")
    assert proxies
    assert {place for pid in proxies for place in listeners(pid)} == {("127.0.0.1", urlsplit(url_of(federation)).port)}
    elsewhere = {(name, *place) for pid, name in ours().items() for place in listeners(pid) if place[0] not in LOOPBACK}
    assert not elsewhere


async def test_from_another_address_of_this_machine_nobody_answers(federation: Federation):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, and tells which address would be used
        outside = probe.getsockname()[0]
    if outside.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((outside, urlsplit(url_of(federation)).port), timeout=5)


async def test_the_proxys_administration_is_this_users_alone():
    folder = os.path.dirname(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"])
    assert os.stat(folder).st_mode & 0o077 == 0
    sockets = [
        os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name == "admin.sock"
    ]
    assert sockets
    assert all(os.stat(path).st_mode & 0o077 == 0 for path in sockets)


async def test_a_stranger_is_told_nothing(federation: Federation):
    client = HttpClient(url_of(federation))
    with pytest.raises(NotAuthenticated):
        await client.tasks()
    await client.close()


async def test_a_stream_goes_through_the_proxy_as_it_happens_and_is_taken_up_where_it_broke(http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks?wait=30", json={"plan": HELD})).json()
    assert task["status"] == "input_required"
    seen: list[sse.Sent] = []
    async with http.stream("GET", f"/v1/tasks/{task['id']}/events") as answer:
        async for sent in sse.read(answer.aiter_lines()):
            seen.append(sent)
            if sent.name == Kind.STEP_COMPLETED:
                break
    (question,) = [each for each in (await http.get("/v1/approvals")).json()["approvals"] if each["task"] == task["id"]]
    decided = await http.post(f"/v1/approvals/{question['id']}:approve", json={"digest": question["digest"]})
    assert decided.status_code == 200, decided.text
    async with http.stream("GET", f"/v1/tasks/{task['id']}/events", headers={"Last-Event-ID": seen[-1].id}) as answer:
        seen += [sent async for sent in sse.read(answer.aiter_lines())]
    whole = await http.get(f"/v1/tasks/{task['id']}/events", headers={"Accept": "application/json"})
    assert [orjson.loads(sent.data) for sent in seen] == whole.json()["events"]
    assert seen[-1].name == Kind.TASK_COMPLETED
    again = await http.get(f"/v1/tasks/{task['id']}/events", headers={"Last-Event-ID": seen[-1].id})
    assert again.status_code == 204


async def test_a_body_over_the_limit_is_refused_through_the_proxy(http: httpx.AsyncClient):
    headers = {"Content-Type": "application/json"}
    answer = await http.post("/v1/tasks", content=b" " * (1024 * 1024 + 1), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_body_without_an_end_is_cut_off_through_the_proxy(federation: Federation):
    port = urlsplit(url_of(federation)).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    answering = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    sent = 0
    while not answering.done() and sent < 400:
        writer.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        sent += 1
        await asyncio.sleep(0.005)
    head = await answering
    writer.close()
    assert head.startswith(b"HTTP/1.1 413"), head
    assert 64 <= sent < 400


async def test_what_is_no_http_is_refused_and_hung_up_on(federation: Federation):
    """In HAProxy's own words: it cannot be told others for what it cannot parse."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url_of(federation)).port)
    writer.write(b"what is this\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_replica_that_is_killed_takes_no_task_and_no_watcher_with_it(
    client: HttpClient, http: httpx.AsyncClient
):
    held = (await client.submit(Submission(plan=HELD))).id
    told: list[Kind] = []
    watching = asyncio.create_task(_watch(client, held, told))
    while Kind.APPROVAL_REQUESTED not in told:  # noqa: ASYNC110 - a list tells nobody
        await asyncio.sleep(0.05)
    submitting = [asyncio.create_task(client.submit(_put(i))) for i in range(10)]
    (replica,) = named("ray::ServeReplica:hanse")
    os.kill(replica, signal.SIGKILL)
    submitting += [asyncio.create_task(client.submit(_put(i))) for i in range(10, 20)]
    refusals = [answer async for answer in _until_well(http)]
    assert all(answer.json()["type"].startswith("urn:hanse:error:") for answer in refusals)
    tasks = [task.id for task in await asyncio.gather(*submitting)]
    assert len(set(tasks)) == 20
    assert [(await client.wait(task, 30)).status for task in tasks] == [TaskStatus.COMPLETED] * 20
    total = await client.wait((await client.submit(Submission(call="vault.total", input=_input(0)))).id, 30)
    assert total.output["total"] == 20
    await client.cancel(held)
    await asyncio.wait_for(watching, 30)
    assert told == [event.kind for event in await client.events(held)]
    assert named("ray::ServeReplica:hanse") != [replica]


def _input(number: int) -> dict[str, Any]:
    return {"name": "killed", "number": number}


def _put(number: int) -> Submission:
    return Submission(call="vault.put", input=_input(1), idempotency_key=f"killed-{number}")


async def _watch(client: HttpClient, task: str, told: list[Kind]) -> None:
    async for _, event in client.stream(task):
        told.append(event.kind)


async def _until_well(http: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    """What is answered until a request gets through again."""
    while True:
        try:
            answer = await http.get("/v1/tasks?limit=1", timeout=30)
        except httpx.TransportError:
            continue
        if answer.status_code == 200:
            return
        yield answer
        await asyncio.sleep(0.05)


async def test_a_proxy_that_is_killed_comes_back_and_leaves_none_behind(client: HttpClient):
    before = named("haproxy")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert await client.status()
    assert not set(before) & set(named("haproxy"))
