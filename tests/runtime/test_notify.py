"""Telling people, against a real HTTP service and a real mail server on loopback."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hanse import Federation
from hanse.contracts import Tenant, Unavailable
from hanse.contracts.wire import pack
from hanse.runtime import notify
from hanse.runtime.notify import Notifier, letter
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock

from ..agents.outside import Post, Service, http_service, mail_server
from .test_flood import question
from .test_questions import Till

SECRET = "hook-secret"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with http_service() as running:
        yield running


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with mail_server(tmp_path / "mail") as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LOOK_SECONDS", 0.02)


def federation(*channels: dict[str, Any], rule: dict[str, Any] | None = None, **sections: Any) -> Federation:
    approvals = [{"capability": "till.pay", **(rule or {})}]
    return Federation.in_process(agents=[Till], approvals=approvals, notify=list(channels), **sections)


def webhook(service: Service) -> dict[str, Any]:
    return {"kind": "webhook", "url": f"{service.url}/hooks", "secret": SecretStr(SECRET)}


async def ask(running: Federation, count: int = 1) -> list[str]:
    tasks = [await running.submit(call="till.pay", input={"to": "ann", "cents": n}) for n in range(count)]
    for task in tasks:
        await running.client.wait(task.id, 10)
    return [task.id for task in tasks]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is awaited is outside of this process's hands
            await asyncio.sleep(0.01)


def bodies(service: Service) -> list[dict[str, Any]]:
    return [json.loads(body) for method, _, _, body in service.requests if method == "POST"]


async def test_a_webhook_is_told_with_a_signature_and_a_key(service: Service):
    async with federation(webhook(service)) as running:
        (task,) = await ask(running)
        await until(lambda: bool(service.requests))
        method, path, headers, body = service.requests[0]
        assert (method, path, headers["idempotency-key"]) == ("POST", "/api/hooks", f"{task}:call#requested")
        wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-hanse-signature"] == f"sha256={wanted}"
        told = json.loads(body)
        assert (told["what"], told["id"]) == ("approval.requested", f"{task}:call#requested")
        assert told["approval"]["digest"].startswith("sha256:")
        assert {row["label"] for row in told["approval"]["material"]} >= {"does", "changes", "rule", "if denied"}


@pytest.mark.parametrize("fault", ["500 after", "reset after", "reset before", "503 not now"])
async def test_what_was_not_taken_is_told_again_under_the_same_id(
    service: Service, fault: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notify, "MAX_PAUSE_SECONDS", 0.05)
    service.faults.extend([fault, fault])
    async with federation(webhook(service)) as running:
        await ask(running)
        await until(lambda: len(service.requests) >= 3)
        assert len({headers["idempotency-key"] for _, _, headers, _ in service.requests}) == 1


async def test_mail_says_what_and_how_to_decide(post: Post):
    connectors = {"mail": {"kind": "smtp", "host": "127.0.0.1", "port": post.port, "sender": "hanse@example.com"}}
    channel = {"kind": "mail", "connector": "mail", "to": ["desk@example.com"]}
    async with federation(channel, connectors=connectors) as running:
        (task,) = await ask(running)
        await until(lambda: bool(post.messages()))
        (message,) = post.messages()
        assert (message["To"], message["Subject"]) == ("desk@example.com", "Hanse: till.pay waits for a person")
        text = message.get_content()
        assert f"hanse approvals approve {task}:call" in text
        assert "if denied: the task ends" in text


async def test_a_flood_is_a_few_messages_and_nothing_is_left_out(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notify, "QUIET_SECONDS", 0.3)
    rule = {"above": {"field": "cents", "limit": -1}}
    async with federation(webhook(service), rule=rule) as running:
        asking = [running.submit(call="till.pay", input={"to": "ann", "cents": n}) for n in range(40)]
        wanted = {f"{task.id}:call" for task in await asyncio.gather(*asking)}
        await until(lambda: seen_in(bodies(service)) == wanted)
        assert len(service.requests) <= 8
        assert any(group["sum"] for body in bodies(service) for group in body.get("groups", []))


def seen_in(told: list[dict[str, Any]]) -> set[str]:
    """Questions that somebody was told of, alone or in a group."""
    alone = {body["approval"]["id"] for body in told if "approval" in body}
    return alone | {id for body in told for group in body.get("groups", []) for id in group["seen"]}


async def test_expiry_and_escalation_are_told_too(service: Service):
    rule = {"escalate_after_seconds": 0.05, "escalate_to": ["boss"], "expires_seconds": 0.3}
    async with federation(webhook(service), rule=rule) as running:
        await ask(running)
        await until(lambda: len(service.requests) >= 3)
        whats = [body["what"] for body in bodies(service)]
        assert whats == ["approval.requested", "approval.escalated", "approval.expired"]
        assert bodies(service)[1]["to"] == ["boss"]


async def test_what_waits_in_the_outbox_is_told_after_a_restart(service: Service, tmp_path: Path):
    nobody = {"kind": "webhook", "url": "http://127.0.0.1:9/nobody"}
    async with federation(nobody, data=tmp_path / "var") as running:
        (task,) = await ask(running)
    async with federation(webhook(service), data=tmp_path / "var"):
        await until(lambda: bool(service.requests))
        assert bodies(service)[0]["approval"]["task"] == task


async def test_a_channel_that_is_gone_holds_up_nobody(tmp_path: Path):
    nobody = {"kind": "webhook", "url": "http://127.0.0.1:9/nobody"}
    async with federation(nobody) as running:
        (task,) = await ask(running)
        (question,) = await running.client.approvals()
        await running.client.decide(question.id, approve=True, digest=question.digest)
        assert (await running.client.wait(task, 10)).status == "completed"


async def test_notices_of_a_tenant_go_to_its_own_channels(tmp_path: Path):
    store = SqliteStore.open(":memory:", "journal")
    told: list[tuple[str, str]] = []

    class To:
        def __init__(self, name: str, tenant: str | None) -> None:
            self.name, self.tenant = name, tenant and Tenant(tenant)

        async def send(self, id: str, notices: Any) -> None:
            told.append((self.name, id))
            if self.name == "broken":
                raise Unavailable("gone")

        async def close(self) -> None: ...

    class Writes:
        def write(self, write: Any) -> None:
            written.append(write)

    written: list[Any] = []
    channels = [To("all", None), To("ours", "ours"), To("theirs", "theirs"), To("broken", "ours")]
    notifier = Notifier(store, Writes(), SystemClock(), channels)  # type: ignore[arg-type]
    body = pack({"what": "approval.requested", "at": "2999-01-01T00:00:00Z"})
    await store.commit([notify.Write("insert_notice", ("n1", "ours", body))])
    await notifier.look()
    assert sorted(told) == [("all", "n1"), ("broken", "n1"), ("ours", "n1")]
    assert [(write.statement, write.row[0]) for write in written] == [("tell_notice", "all\nours")]
    await store.close()


def test_a_letter_about_many_says_how_many_and_how_to_decide_them():
    notices = [{"what": "approval.requested", "approval": question(n, amount=n).model_dump()} for n in range(9)]
    subject, text = letter(notices)
    assert subject == "Hanse: 9 questions wait for a person"
    assert "9 x till.pay\n  till.pay above 5\n  together 36, from 0 to 8\n  hanse approvals approve --group" in text


def test_a_value_cannot_write_a_line_of_its_own():
    view = {
        "id": "t:s",
        "task": "t",
        "step": "s",
        "capability": "till.pay",
        "input": {},
        "digest": "d",
        "rule": "r",
        "requested_at": "2026-11-21T00:00:00Z",
        "material": [{"label": "input to", "value": "ann\r\nBcc: eve@example.com\n\x1b[31m"}],
    }
    subject, text = letter([{"what": "approval.requested", "approval": view}])
    assert "\n" not in subject
    assert "input to: ann Bcc: eve@example.com [31m" in text.splitlines()
