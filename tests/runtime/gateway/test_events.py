"""Event streams: whole, resumed, live, ended, and as pages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hanse.contracts import Kind, Tenant, Unavailable
from hanse.runtime import sse
from hanse.runtime.federation import Federation

from .conftest import OTHER_TOKEN, TOKEN, Ledger, Server, app_of, app_over, asking, assert_problem, deposit

HELD = {"call": "ledger.held", "input": {"account": "a", "cents": 1}}
WHOLE = [Kind.TASK_SUBMITTED, Kind.STEP_AWARDED, Kind.STEP_COMPLETED, Kind.TASK_COMPLETED]


async def _lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines():
        yield line
    yield ""


async def events_of(answer: httpx.Response) -> list[sse.Sent]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [sent async for sent in sse.read(_lines(answer.text))]


@pytest.fixture
async def done(http: httpx.AsyncClient) -> str:
    """A task that has ended."""
    return (await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"]


async def test_a_stream_tells_the_whole_story_and_ends(http: httpx.AsyncClient, done: str):
    seen = await events_of(await http.get(f"/v1/tasks/{done}/events"))
    assert [sent.name for sent in seen] == WHOLE
    assert all(f'"task":"{done}"' in sent.data for sent in seen)
    ids = [int(sent.id) for sent in seen]
    assert ids == sorted(set(ids))


async def test_a_stream_is_taken_up_where_it_broke(http: httpx.AsyncClient, done: str):
    seen = await events_of(await http.get(f"/v1/tasks/{done}/events"))
    by_header = await http.get(f"/v1/tasks/{done}/events", headers={"Last-Event-ID": seen[1].id})
    by_query = await http.get(f"/v1/tasks/{done}/events", params={"after": seen[1].id})
    assert await events_of(by_header) == await events_of(by_query) == seen[2:]


async def test_who_has_seen_everything_is_told_not_to_come_again(http: httpx.AsyncClient, done: str):
    seen = await events_of(await http.get(f"/v1/tasks/{done}/events"))
    answer = await http.get(f"/v1/tasks/{done}/events", headers={"Last-Event-ID": seen[-1].id})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "1,2", "9" * 19, "١٢"])
async def test_an_odd_cursor_is_refused(http: httpx.AsyncClient, done: str, cursor: str):
    for path in (f"/v1/tasks/{done}/events", "/v1/events"):
        assert_problem(await http.get(path, params={"after": cursor}), 400, "bad_request")


async def test_a_page_says_the_same_and_where_to_go_on(http: httpx.AsyncClient, done: str):
    as_json = {"Accept": "application/json"}
    first = (await http.get(f"/v1/tasks/{done}/events?limit=3", headers=as_json)).json()
    rest = (await http.get(f"/v1/tasks/{done}/events?after={first['next']}", headers=as_json)).json()
    assert [event["kind"] for event in first["events"] + rest["events"]] == WHOLE
    end = (await http.get(f"/v1/tasks/{done}/events?after={rest['next']}", headers=as_json)).json()
    assert end == {"events": [], "next": rest["next"]}


async def test_a_page_can_wait_for_news(http: httpx.AsyncClient):
    task = (await http.post("/v1/tasks", json=HELD)).json()["id"]
    as_json = {"Accept": "application/json"}
    first = (await http.get(f"/v1/tasks/{task}/events", headers=as_json)).json()
    asking_on = asyncio.create_task(http.get(f"/v1/tasks/{task}/events?wait=10&after={first['next']}", headers=as_json))
    Ledger.released.set()
    assert (await asking_on).json()["events"]


async def test_events_come_as_they_happen(server: Server):
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        task = (await http.post("/v1/tasks", json=HELD)).json()["id"]
        async with http.stream("GET", f"/v1/tasks/{task}/events") as answer:
            stream = sse.read(answer.aiter_lines())
            assert [(await anext(stream)).name, (await anext(stream)).name] == WHOLE[:2]
            Ledger.released.set()
            assert [sent.name async for sent in stream] == WHOLE[2:]


async def test_a_silent_stream_gives_signs_of_life(server: Server):
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        task = (await http.post("/v1/tasks", json=HELD)).json()["id"]
        async with http.stream("GET", f"/v1/tasks/{task}/events") as answer:
            lines = answer.aiter_lines()
            assert len([line async for line in _until(lines, ": still here", 3)]) > 3
        Ledger.released.set()


async def _until(lines: AsyncIterator[str], wanted: str, times: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        times -= line == wanted
        if not times:
            return


async def test_a_watcher_who_leaves_gives_the_place_back(app, server: Server):
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        task = (await http.post("/v1/tasks", json=HELD)).json()["id"]
        admission = app.state.desk.admission
        async with http.stream("GET", f"/v1/tasks/{task}/events") as answer:
            await anext(answer.aiter_lines())
            assert (admission.waiting, admission.in_flight) == (1, 0)
        async with asyncio.timeout(5):
            while admission.waiting:  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.01)
        Ledger.released.set()
    assert admission.in_flight == 0


async def test_a_tenant_is_watched_from_now_on(server: Server):
    async with httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        await http.post("/v1/tasks?wait=10", json=deposit())
        async with http.stream("GET", "/v1/events") as answer:
            stream = sse.read(answer.aiter_lines())
            task = (await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"]
            seen = [await anext(stream) for _ in WHOLE]
        assert [sent.name for sent in seen] == WHOLE
        assert all(task in sent.data for sent in seen)
        again = await http.get(f"/v1/events?after={seen[1].id}", headers={"Accept": "application/json"})
        assert [event["kind"] for event in again.json()["events"]] == WHOLE[2:]


async def test_nothing_of_another_tenant_is_told(app, http: httpx.AsyncClient, done: str):
    async with asking(app, OTHER_TOKEN) as other:
        page = (await other.get("/v1/events?after=0", headers={"Accept": "application/json"})).json()
    assert done not in str(page)
    assert {event["task"] for event in page["events"]} == {None}


async def test_watching_a_tenant_over_several_shards_misses_nothing():
    Ledger.released = asyncio.Event()
    async with Federation.in_process(agents=[Ledger], coordinator={"shards": 3}) as federation:
        app = app_over(federation)
        async with asking(app, TOKEN) as http:
            cursor = (await _page(http, None))["next"]
            assert cursor.count(",") == 2
            tasks = [(await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"] for _ in range(12)]
            seen: list[tuple[str, str]] = []
            while page := (got := await _page(http, cursor, limit=2))["events"]:
                cursor = got["next"]
                seen += [(event["task"], event["kind"]) for event in page]
            assert sorted(seen) == sorted((task, str(kind)) for task in tasks for kind in WHOLE)
            assert_problem(await http.get("/v1/events?after=5"), 400, "bad_request")
            one = await http.get("/v1/events?after=0&shard=1", headers={"Accept": "application/json"})
            assert {event["task"] for event in one.json()["events"]} < {*tasks, None}
            assert_problem(await http.get("/v1/events?shard=3"), 404, "not_found")


async def _page(http: httpx.AsyncClient, after: str | None, **query: Any) -> dict[str, Any]:
    params = {**query, **({"after": after} if after else {})}
    return (await http.get("/v1/events", params=params, headers={"Accept": "application/json"})).json()


async def test_a_stream_outlives_a_coordinator_that_comes_back(federation: Federation, done: str):
    lost = iter([Unavailable(), Unavailable()])
    client = Interrupted(federation.client, lost)
    async with asking(app_of(client), TOKEN) as http:
        answer = await http.get(f"/v1/tasks/{done}/events")
    assert [sent.name for sent in await events_of(answer)] == WHOLE
    assert answer.text.count(": still here") == 2


async def test_a_stream_says_so_when_the_coordinator_stays_away(federation: Federation, done: str):
    client = Interrupted(federation.client, iter(Unavailable, None))
    async with asking(app_of(client, patience_seconds=0), TOKEN) as http:
        (problem,) = await events_of(await http.get(f"/v1/tasks/{done}/events"))
    assert problem.name == "problem"
    assert '"code":"unavailable"' in problem.data


class Interrupted:
    """A real client whose event pages fail first."""

    def __init__(self, client: Any, errors: Any) -> None:
        self._client = client
        self._errors = errors

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._client, verb)

    async def events(self, *args: Any, **options: Any) -> Any:
        for error in self._errors:
            raise error
        return await self._client.events(*args, **options)


async def test_a_tenant_is_told_of_what_lies_behind_much_of_another(app, http: httpx.AsyncClient):
    """More events of somebody else than a page has room for, then one's own: they are found, and at once."""
    async with asking(app, OTHER_TOKEN) as other:
        for _ in range(15):
            await other.post("/v1/tasks?wait=10", json=deposit())
        start = (await _page(http, "0", limit=50))["next"]
        assert await _page(http, start, limit=50) == {"events": [], "next": start}
        task = (await http.post("/v1/tasks?wait=10", json=deposit())).json()["id"]
    page = await _page(http, start, limit=50)
    assert [(event["task"], event["kind"]) for event in page["events"]] == [(task, kind) for kind in WHOLE]


async def test_a_stream_of_a_quiet_tenant_does_not_read_the_others_again_and_again(federation: Federation, app, serve):
    asked: list[int] = []

    class Listening(Interrupted):
        async def events(self, *args: Any, **options: Any) -> Any:
            asked.append(options["after"])
            return await super().events(*args, **options)

    server = await serve(app_of(Listening(app.state.desk.client_for(Tenant("other"), "eve"), ())))
    headers = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    async with (
        asking(app, TOKEN) as http,
        httpx.AsyncClient(base_url=server.url, headers=headers) as watcher,
        watcher.stream("GET", "/v1/events") as answer,
    ):
        lines = answer.aiter_lines()
        for _ in range(5):
            await http.post("/v1/tasks?wait=10", json=deposit())
        (head,) = (await federation.client.status()).heads
        while asked[-1] < head:
            assert (await anext(lines)).partition(":")[0] in ("", "retry"), "nothing of the others is told"
        task = (await watcher.post("/v1/tasks", json=deposit())).json()["id"]
        seen = [sent async for sent in _first(sse.read(lines), len(WHOLE))]
    assert [sent.name for sent in seen] == WHOLE
    assert all(task in sent.data for sent in seen)


async def _first(stream: AsyncIterator[sse.Sent], count: int) -> AsyncIterator[sse.Sent]:
    async for sent in stream:
        yield sent
        count -= 1
        if not count:
            return
