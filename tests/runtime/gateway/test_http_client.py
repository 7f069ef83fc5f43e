"""`HttpClient` over a real socket: the same verbs, the same views, the same errors as next to the coordinator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hanse.contracts import (
    Conflict,
    DigestMismatch,
    Event,
    InvalidInput,
    InvalidPlan,
    KeyReused,
    Kind,
    NotAuthenticated,
    NotFound,
    Overloaded,
    Problem,
    Refusal,
    Submission,
    TaskStatus,
    TooLarge,
    Unavailable,
)
from hanse.runtime.federation import Federation
from hanse.runtime.http_client import HttpClient
from hanse.runtime.views import error_from

from .conftest import TOKEN, Ledger, Server, app_over, deposit, withdrawal
from .test_events import WHOLE

HELD = Submission(call="ledger.held", input={"account": "a", "cents": 1})


@pytest.fixture
async def client(server: Server) -> AsyncIterator[HttpClient]:
    client = HttpClient(server.url, TOKEN)
    yield client
    await client.close()


def submission(body: dict[str, Any], key: str | None = None) -> Submission:
    return Submission(**body, idempotency_key=key)


async def test_every_verb_says_what_it_says_next_to_the_coordinator(federation: Federation, client: HttpClient):
    near = federation.client
    task = (await client.wait((await client.submit(submission(deposit(1000)))).id, 10)).id
    asked = await client.wait((await client.submit(submission(withdrawal(600)))).id, 10)
    assert asked.status is TaskStatus.INPUT_REQUIRED
    assert await client.task(task) == await near.task(task)
    assert await client.tasks() == await near.tasks()
    assert await client.tasks(status="completed", limit=1) == await near.tasks(status="completed", limit=1)
    assert await client.tasks(before=asked.id) == await near.tasks(before=asked.id)
    assert await client.steps(task) == await near.steps(task)
    assert _told(await client.events(task)) == _told(await near.events(task))
    assert _told(await client.events(after=0)) == _told(await near.events(after=0))
    assert _told(await client.events(shard=0, limit=2)) == _told(await near.events(shard=0, limit=2))
    assert await client.agents() == await near.agents()
    assert await client.capabilities() == await near.capabilities()
    assert await client.capability("ledger.deposit@1") == await near.capability("ledger.deposit")
    assert await client.approvals() == await near.approvals()
    assert await client.status() == await near.status()
    assert (await client.verify()).head == (await near.verify()).head
    (question,) = await client.approvals()
    decided = await client.decide(question.id, approve=True, digest=question.digest, note="ja")
    assert [decided] == await near.approvals(pending=False)
    assert decided.by == "ada"
    assert (await client.wait(asked.id, 10)).output == {"cents": 400}


def _told(events: list[Event]) -> list[dict[str, Any]]:
    return [event.to_json() for event in events]


async def test_errors_are_the_ones_that_were_raised(client: HttpClient):
    with pytest.raises(NotFound, match=r"ledger\.deposit") as missing:
        await client.capability("ledger.deposi")
    assert missing.value.ids["capability"] == "ledger.deposi"
    with pytest.raises(NotFound):
        await client.task("01a1fd73-dc61-7000-932e-a19ead76b56f")
    with pytest.raises(InvalidPlan):
        await client.submit(Submission(plan={"steps": []}))
    with pytest.raises(InvalidInput):
        await client.submit(Submission())
    with pytest.raises(TooLarge):
        await client.submit(Submission(call="ledger.deposit", input="x" * 2**20))
    await client.submit(submission(deposit(1), "once"))
    with pytest.raises(KeyReused) as reused:
        await client.submit(submission(deposit(2), "once"))
    assert reused.value.ids["key"] == "once"


async def test_decisions_fail_as_they_do_next_to_the_coordinator(client: HttpClient):
    await client.wait((await client.submit(submission(deposit(1000)))).id, 10)
    await client.wait((await client.submit(submission(withdrawal(600)))).id, 10)
    (question,) = await client.approvals()
    with pytest.raises(DigestMismatch):
        await client.decide(question.id, approve=True, digest="sha256:" + "0" * 64)
    await client.decide(question.id, approve=False, digest=question.digest)
    with pytest.raises(Conflict):
        await client.decide(question.id, approve=True, digest=question.digest)


async def test_a_refusal_of_the_domain_keeps_its_code(server: Server):
    async with Federation.connect(server.url, TOKEN) as federation:
        with pytest.raises(Refusal, match="too little") as refused:
            await federation.call("ledger.withdraw", {"account": "nobody", "cents": 1})
    assert refused.value.code == "ledger.too_poor"
    assert refused.value.ids["account"] == "nobody"


async def test_a_wrong_token_is_an_error_of_its_own(server: Server):
    client = HttpClient(server.url, "wrong")
    with pytest.raises(NotAuthenticated):
        await client.tasks()
    await client.close()


async def test_too_many_requests_are_not_repeated_but_told_with_their_time(federation, serve):
    server = await serve(app_over(federation, in_flight=0))
    client = HttpClient(server.url, TOKEN)
    with pytest.raises(Overloaded) as refused:
        await client.tasks()
    assert refused.value.retry_after_seconds == 1
    await client.close()


async def test_nobody_there_is_unavailable(server: Server):
    await server.stop()
    client = HttpClient(server.url, TOKEN, patience_seconds=0.1)
    with pytest.raises(Unavailable, match="gateway"):
        await client.tasks()
    await client.close()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://"])
def test_what_is_no_url_is_refused_at_once(url: str):
    with pytest.raises(Unavailable, match="http://HOST:PORT"):
        HttpClient(url)


async def test_a_gateway_that_comes_back_is_waited_for(server: Server):
    client = HttpClient(server.url, TOKEN)
    await client.tasks()
    await server.stop()
    asking = asyncio.create_task(client.submit(submission(deposit())))
    await asyncio.sleep(0.1)
    await server.start()
    assert (await client.wait((await asking).id, 10)).status is TaskStatus.COMPLETED
    await client.close()


class Dropping:
    """Lets every second request do its work and then loses the answer."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.lost = 0
        self._count = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._count += 1
        if self._count % 2 == 0:
            return await self._app(scope, receive, send)

        async def swallow(message: Any) -> None:
            """Says nothing."""

        await self._app(scope, receive, swallow)
        self.lost += 1
        raise ConnectionResetError


async def test_a_lost_answer_makes_no_second_task(
    federation: Federation, app: Any, serve: Callable[[Any], Awaitable[Server]]
):
    """Without a key of the caller, too: the client makes one."""
    losing = Dropping(app)
    client = HttpClient((await serve(losing)).url, TOKEN)
    ids = {(await client.submit(submission(deposit()))).id for _ in range(5)}
    assert losing.lost == 5
    assert {task.id for task in await federation.client.tasks()} == ids
    await client.close()


async def test_a_lost_answer_to_a_decision_is_asked_for_again(federation: Federation, app: Any, serve):
    client = HttpClient((await serve(Dropping(app))).url, TOKEN)
    await client.wait((await client.submit(submission(deposit(1000)))).id, 10)
    await client.wait((await client.submit(submission(withdrawal(600)))).id, 10)
    (question,) = await client.approvals()
    assert (await client.decide(question.id, approve=True, digest=question.digest)).decision == "approved"
    await client.close()


async def test_a_wait_ends_with_the_task_or_with_the_time(client: HttpClient):
    task = (await client.submit(HELD)).id
    assert (await client.wait(task, 0.05)).status is TaskStatus.WORKING
    waiting = asyncio.create_task(client.wait(task, 10))
    Ledger.released.set()
    assert (await waiting).status is TaskStatus.COMPLETED


async def test_a_page_of_events_waits_for_the_first(client: HttpClient):
    task = (await client.submit(HELD)).id
    seen = await client.events(task)
    assert await client.events(task, after=seen[-1].sequence, wait_seconds=0.05) == []
    waiting = asyncio.create_task(client.events(task, after=seen[-1].sequence, wait_seconds=10))
    Ledger.released.set()
    assert (await waiting)[0].kind is Kind.STEP_COMPLETED


async def test_a_stream_goes_on_where_it_broke(client: HttpClient, server: Server):
    """The gateway is stopped in the middle and started again: no gap, no repetition, and an end."""
    task = (await client.submit(HELD)).id
    seen: list[Event] = []
    async for _, event in client.stream(task):
        seen.append(event)
        if len(seen) == 2:
            await server.stop()
            await server.start()
            Ledger.released.set()
    assert [event.kind for event in seen] == WHOLE


async def test_the_stream_of_something_unknown_says_so(client: HttpClient):
    with pytest.raises(NotFound):
        await anext(client.stream("01a1fd73-dc61-7000-932e-a19ead76b56f"))


async def test_a_federation_behind_a_gateway_is_the_same_object(server: Server):
    async with Federation.connect(server.url, TOKEN) as federation:
        assert await federation.call("ledger.deposit", {"account": "b", "cents": 5}) == {"cents": 5}
        task = await federation.submit(call="ledger.deposit", input={"account": "b", "cents": 2})
        assert [event.kind async for event in task.events()] == WHOLE
        assert await task.result() == {"cents": 7}


def test_a_refusal_that_only_its_author_knows_is_a_refusal_here_too():
    about = {"type": "urn:hanse:error:shop.closed", "title": "Closed", "status": 423, "detail": "come again tomorrow"}
    error = error_from(Problem(**about, code="shop.closed", base="refused", ids={"shop": 3}))
    assert isinstance(error, Refusal)
    assert (error.code, error.status, error.detail, error.ids) == (
        "shop.closed",
        423,
        "come again tomorrow",
        {"shop": 3},
    )
