"""`/v1/memory` over the real service: records, versions, recall, subjects, verbs, tools, and who may see what."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from hanse.contracts import Conflict, IdempotencyKey, InvalidInput, NotFound, Unavailable
from hanse.contracts.memory import Certificate, Change, Draft, Query
from hanse.memory.certificates import problems_of
from hanse.runtime.federation import Federation
from hanse.runtime.gateway import Settings, create_app
from hanse.runtime.http_client import HttpClient

from ...memory.plain import WordEmbedder
from ...support.memory import clean_memory, client_for
from .conftest import OTHER_TOKEN, SETTINGS, TOKEN, Ledger, app_of, app_over, asking, assert_problem

TEA = "Ann Lee prefers green tea in the office."


@pytest.fixture
async def app() -> AsyncIterator[FastAPI]:
    async with clean_memory() as service:
        yield create_app(client_for(service), Settings(**SETTINGS))


async def kept(http: httpx.AsyncClient, text: str = TEA, **given: Any) -> dict[str, Any]:
    answer = await http.post("/v1/memory/records", json={"drafts": [{"text": text, **given}]})
    assert answer.status_code == 200, answer.text
    return answer.json()["remembered"][0]


async def test_what_is_remembered_is_recalled_with_its_reason(http):
    told = await kept(http, payload={"cup": "large"})
    assert (told["outcome"], told["record"]["provenance"]["by"]) == ("stored", "ada")
    found = (await http.post("/v1/memory/recall", json={"text": "green tea"})).json()
    assert [hit["record"]["id"] for hit in found["hits"]] == [told["record"]["id"]]
    assert {"score", "why", "parts", "record", "tokens"} <= set(found["hits"][0])


async def test_a_duplicate_says_what_it_was_merged_into(http):
    first = await kept(http)
    second = await kept(http, TEA.lower())
    assert (second["outcome"], second["record"]["id"]) == ("merged", first["record"]["id"])
    assert second["reason"]


async def test_the_same_key_stores_once_and_another_body_is_refused(http):
    headers = {"Idempotency-Key": "k1"}
    body = {"drafts": [{"text": "Depot nine closes in March."}]}
    first, second = [await http.post("/v1/memory/records", json=body, headers=headers) for _ in range(2)]
    assert first.json()["remembered"][0]["record"]["id"] == second.json()["remembered"][0]["record"]["id"]
    other = await http.post("/v1/memory/records", json={"drafts": [{"text": TEA}]}, headers=headers)
    assert_problem(other, 409, "key_reused")


async def test_records_are_listed_by_filters_and_by_id(http):
    tea = (await kept(http, subject="ann"))["record"]
    depot = (await kept(http, "Depot nine closes in March.", layer="episodic", episode="e"))["record"]
    for query, ids in (
        ("", {tea["id"], depot["id"]}),
        ("?subject=ann", {tea["id"]}),
        ("?layer=episodic&layer=working", {depot["id"]}),
        ("?episode=e", {depot["id"]}),
        ("?subject=nobody", set()),
        (f"?id={depot['id']}", {depot["id"]}),
    ):
        found = (await http.get(f"/v1/memory/records{query}")).json()["records"]
        assert {each["id"] for each in found} == ids, query
    assert_problem(await http.get("/v1/memory/records?id=nothing"), 404, "not_found")
    assert_problem(await http.get("/v1/memory/records?layer=deep"), 422, "invalid_input")


async def test_a_revision_names_the_version_it_saw(http):
    id = (await kept(http))["record"]["id"]
    path = f"/v1/memory/records/{id}"
    seen = await http.get(path)
    assert seen.headers["etag"] == '"1"'
    change = {"text": "Ann Lee prefers black tea in the office."}
    assert_problem(await http.patch(path, json=change), 428, "version_required")
    for wrong in ("one", '"0"', "*", '"1", "2"'):
        assert_problem(await http.patch(path, json=change, headers={"If-Match": wrong}), 400, "bad_request")
    revised = await http.patch(path, json=change, headers={"If-Match": seen.headers["etag"]})
    assert (revised.status_code, revised.headers["etag"], revised.json()["text"]) == (200, '"2"', change["text"])
    late = assert_problem(await http.patch(path, json=change, headers={"If-Match": '"1"'}), 412, "version_gone")
    assert late["ids"]["version"] == 2
    versions = (await http.get(f"{path}/history")).json()["records"]
    assert [each["text"] for each in versions] == [TEA, change["text"]]


async def test_the_timeline_is_in_order(http):
    for number in range(3):
        await kept(http, f"Parcel {number} came back from depot {number}.", layer="episodic", episode="e")
    found = (await http.get("/v1/memory/timeline?episode=e&limit=2")).json()["records"]
    assert [each["position"] for each in found] == [1, 2]


async def test_forgetting_gives_a_certificate_and_leaves_nothing(http):
    first = (await kept(http))["record"]["id"]
    derived = await kept(http, "Buy green tea.", provenance={"derived_from": [first]})
    answer = await http.delete(f"/v1/memory/records/{first}")
    certificate = Certificate.model_validate(answer.json())
    assert (certificate.records, certificate.derived) == ([first], [derived["record"]["id"]])
    assert problems_of(certificate, None) == []
    assert "tea" not in answer.text
    assert_problem(await http.get(f"/v1/memory/records/{first}"), 404, "not_found")
    assert (await http.get("/v1/memory/records")).json() == {"records": []}


async def test_a_subject_sees_and_erases_what_is_kept_about_it(http):
    own = (await kept(http, subject="ann lee/ä"))["record"]["id"]
    await kept(http, "Depot nine closes in March.")
    path = "/v1/memory/subjects/ann%20lee%2F%C3%A4"
    # A slash in a path segment is a slash to the router: such a subject goes through the verb.
    told = (await http.post("/v1/memory:access", json={"subject": "ann lee/ä"})).json()
    assert [each["id"] for each in told["records"]] == [own]
    assert_problem(await http.post(f"{path}:access"), 404, "not_found")
    await kept(http, "Ben Fu works in Oslo.", subject="ben fu")
    told = (await http.post("/v1/memory/subjects/ben%20fu:access")).json()
    assert len(told["records"]) == 1
    certificate = Certificate.model_validate((await http.post("/v1/memory/subjects/ben%20fu:erase")).json())
    assert (certificate.subject, certificate.by, len(certificate.records)) == ("ben fu", "ada", 1)
    assert (await http.post("/v1/memory/subjects/ben%20fu:access")).json()["records"] == []
    assert_problem(await http.post("/v1/memory/subjects/ben%20fu:sell"), 404, "not_found")


async def test_a_subject_is_erased_with_its_aliases_and_the_reason_of_what_is_forgotten_is_told(http):
    await kept(http, "Ben Fu works in Oslo.", subject="ben fu")
    other = (await kept(http, "The parcel for Benny Fu came back."))["record"]["id"]
    path = "/v1/memory/subjects/ben%20fu:erase"
    assert_problem(await http.post(path, json={"names": ["Benny Fu"]}), 422, "invalid_input")
    certificate = (await http.post(path, json={"aliases": ["Benny Fu"]})).json()
    assert len(certificate["records"]) == 1
    assert certificate["masked"]["derived"] == [other]
    assert (await http.get(f"/v1/memory/records/{other}")).json()["text"] == "The parcel for [pattern] came back."
    await http.post("/v1/memory:forget", json={"ids": [other], "reason": "asked for by mail"})
    gone = assert_problem(await http.get(f"/v1/memory/records/{other}/history"), 404, "not_found")
    assert gone["detail"].endswith(": asked for by mail")


async def test_pins_audit_export_and_redaction(http):
    id = (await kept(http, "Ring +49 30 901820 about the table."))["record"]["id"]
    assert (await http.post(f"/v1/memory/records/{id}:pin")).json()["pinned"] is True
    assert (await http.post(f"/v1/memory/records/{id}:unpin")).json()["pinned"] is False
    assert_problem(await http.post(f"/v1/memory/records/{id}:paint"), 404, "not_found")
    report = (await http.post("/v1/memory:audit")).json()
    assert (report["records"], report["score"]) == (1, 100)
    await http.post("/v1/memory:redact", json={"kinds": ["phone"]})
    [exported] = (await http.post("/v1/memory:export", json={"limit": 10})).json()["records"]
    assert exported["text"] == "Ring [phone] about the table."


async def test_certificates_are_kept_and_told_to_their_tenant_alone(http, app):
    first, second = [(await kept(http, text))["record"]["id"] for text in (TEA, "The depot closes in March.")]
    made = [(await http.delete(f"/v1/memory/records/{id}")).json() for id in (first, second)]
    listed = (await http.get("/v1/memory/certificates?limit=1")).json()["certificates"]
    assert listed == [made[1]]
    older = (await http.get("/v1/memory/certificates", params={"before": made[1]["id"]})).json()["certificates"]
    assert older == [made[0]]
    assert (await http.get(f"/v1/memory/certificates/{made[0]['id']}")).json() == made[0]
    assert_problem(await http.get("/v1/memory/certificates/none"), 404, "not_found")
    async with asking(app, OTHER_TOKEN) as other:
        assert (await other.get("/v1/memory/certificates")).json() == {"certificates": []}
        assert_problem(await other.get(f"/v1/memory/certificates/{made[0]['id']}"), 404, "not_found")


async def test_people_have_indexes_made_anew_and_make_room(http):
    for text in (TEA, "The depot closes in March."):
        await kept(http, text)
    assert (await http.post("/v1/memory:rebuild")).json() == {"records": 2}
    told = (await http.post("/v1/memory:tidy", json={"records": 1})).json()
    assert (len(told["evicted"]), told["records"]) == (1, 1)
    assert (await http.post("/v1/memory:progress")).json() == []


async def test_a_lost_store_is_restored_over_http(tmp_path):
    async with (
        clean_memory(tmp_path / "old.sqlite", snapshots=tmp_path / "s") as service,
        asking(create_app(client_for(service), Settings(**SETTINGS)), TOKEN) as http,
    ):
        id = (await kept(http))["record"]["id"]
        assert (await http.post("/v1/memory:snapshot")).json()["tenant"] == "default"
    async with clean_memory(tmp_path / "new.sqlite", snapshots=tmp_path / "s") as service:
        app = create_app(client_for(service), Settings(**SETTINGS))
        async with asking(app, OTHER_TOKEN) as other:
            assert_problem(await other.post("/v1/memory:restore"), 404, "not_found")
        async with asking(app, TOKEN) as http:
            await kept(http, "The depot closes in March.")
            assert_problem(await http.post("/v1/memory:restore"), 409, "conflict")
            assert_problem(await http.post("/v1/memory:restore", json={"merge": "yes"}), 422, "invalid_input")
            assert (await http.post("/v1/memory:restore", json={"merge": True})).json()["records"] == 1
            assert (await http.get(f"/v1/memory/records/{id}")).json()["text"] == TEA


@pytest.mark.parametrize("verb", ["compact", "check", "nothing", "__class__"])
async def test_verbs_of_the_house_are_not_for_callers(http, verb):
    assert_problem(await http.post(f"/v1/memory:{verb}"), 404, "not_found")


async def test_tenants_do_not_see_one_another(app, http):
    id = (await kept(http))["record"]["id"]
    async with asking(app, OTHER_TOKEN) as other:
        assert_problem(await other.get(f"/v1/memory/records/{id}"), 404, "not_found")
        assert_problem(await other.delete(f"/v1/memory/records/{id}"), 404, "not_found")
        assert_problem(
            await other.patch(f"/v1/memory/records/{id}", json={"text": "x"}, headers={"If-Match": '"1"'}),
            404,
            "not_found",
        )
        assert (await other.post("/v1/memory/recall", json={"text": "green tea"})).json()["hits"] == []
        assert (await kept(other))["outcome"] == "stored", "not merged into what another tenant has"
    async with asking(app) as nobody:
        assert_problem(await nobody.get("/v1/memory/records"), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/drafts"),
        ({"drafts": []}, "/drafts"),
        ({"drafts": [{"text": ""}]}, "/drafts/0/text"),
        ({"drafts": [{"text": "x" * 32_001}]}, "/drafts/0/text"),
        ({"drafts": [{"text": "x", "tenant": "other"}]}, "/drafts/0/tenant"),
        ({"drafts": [{"text": "x", "importance": 2}]}, "/drafts/0/importance"),
        ({"drafts": [{"text": "x", "provenance": {"agent": "ledger"}}]}, "/drafts/0/provenance/agent"),
        ({"drafts": [{"text": "x", "provenance": {"by": "eve"}}]}, "/drafts/0/provenance/by"),
    ],
)
async def test_a_draft_that_cannot_be_meant_is_refused_with_its_place(http, body, pointer):
    problem = assert_problem(await http.post("/v1/memory/records", json=body), 422, "invalid_input")
    assert problem["ids"]["pointer"] == pointer


async def test_tools_are_described_and_called(http):
    described = (await http.get("/v1/memory/tools")).json()["tools"]
    assert [each["name"].removeprefix("memory_") for each in described] == [
        "remember", "recall", "revise", "forget", "timeline",
    ]  # fmt: skip
    told = (await http.post("/v1/memory/tools/memory_remember:call", json={"text": TEA})).json()
    assert told["outcome"] == "stored"
    found = (await http.post("/v1/memory/tools/memory_recall:call", json={"query": "green tea"})).json()
    assert found["hits"][0]["id"] == told["id"]
    url = f"/v1/memory/tools/memory_remember:call?found={told['id']}"
    derived = (await http.post(url, json={"text": "Her cup stands in hall nine."})).json()
    record = (await http.get(f"/v1/memory/records/{derived['id']}")).json()
    assert record["provenance"]["derived_from"] == [told["id"]]
    assert_problem(await http.post(f"{url}x", json={"text": "Her cup is blue."}), 422, "invalid_input")
    assert_problem(await http.post("/v1/memory/tools/memory_pin:call", json={}), 404, "not_found")
    refused = await http.post("/v1/memory/tools/memory_remember:call", json={"text": TEA, "pinned": True})
    assert_problem(refused, 422, "invalid_input")


async def test_the_memory_of_a_running_federation_is_behind_the_same_routes():
    """Gateway, link, part, service: nothing between them is a double but the embedder."""
    async with (
        Federation.in_process(agents=[Ledger], memory={"shards": 2}, embedder=WordEmbedder()) as federation,
        asking(app_over(federation), TOKEN) as http,
        asking(app_over(federation), OTHER_TOKEN) as other,
    ):
        told = await kept(http)
        echo = await kept(http, f"As noted earlier, {TEA}")
        assert (echo["outcome"], echo["record"]["id"]) == ("merged", told["record"]["id"])
        found = (await http.post("/v1/memory/recall", json={"text": "green tea"})).json()
        assert [hit["record"]["id"] for hit in found["hits"]] == [told["record"]["id"]]
        assert (await other.post("/v1/memory/recall", json={"text": "green tea"})).json()["hits"] == []
        assert (await http.post("/v1/memory:audit")).json()["records"] == 1
        late = await http.patch(
            f"/v1/memory/records/{told['record']['id']}", json={"text": "x"}, headers={"If-Match": '"7"'}
        )
        assert_problem(late, 412, "version_gone")


async def test_without_a_memory_every_route_says_so(federation):
    async with asking(app_over(federation), TOKEN) as http:
        problem = assert_problem(await http.get("/v1/memory/records"), 503, "unavailable")
        assert "memory:" in problem["detail"]


async def test_the_surface_is_described(http):
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"/v1/memory/records", "/v1/memory/recall", "/v1/memory/records/{id}", "/v1/memory/timeline"} <= set(paths)
    assert {"get", "patch", "delete"} <= set(paths["/v1/memory/records/{id}"])


async def test_the_client_speaks_to_the_gateway_as_to_the_memory_itself(app, serve):
    """Over a socket: the errors that come back are those that the service raised."""
    server = await serve(app)
    client = HttpClient(server.url, TOKEN)
    memory = client.memory
    try:
        [told] = await memory.remember([Draft(text=TEA)], key=IdempotencyKey("k"))
        [again] = await memory.remember([Draft(text=TEA)], key=IdempotencyKey("k"))
        assert told.record.id == again.record.id
        id = told.record.id
        assert (await memory.recall(Query(text="green tea"))).hits[0].record.id == id
        revised = await memory.revise(id, Change(text="Ann Lee prefers coffee."), version=1)
        assert (await memory.get(id)) == revised
        with pytest.raises(Conflict):
            await memory.revise(id, Change(text="x"), version=1)
        assert [each.version for each in await memory.history(id)] == [1, 2]
        assert (await memory.pin(id)).pinned
        assert not (await memory.pin(id, pinned=False)).pinned
        assert await memory.timeline(episode="none") == []
        assert (await memory.tell("audit", {}))["records"] == 1
        with pytest.raises(InvalidInput):
            await memory.tell("redact", {})
        assert (await memory.forget([id], reason="done")).records == [id]
        with pytest.raises(NotFound):
            await memory.get(id)
    finally:
        await client.close()


async def test_a_memory_that_is_away_is_unavailable():
    class Gone:
        @property
        def memory(self) -> Any:
            raise Unavailable("the memory cannot be reached")

    async with asking(app_of(Gone()), TOKEN) as http:
        answer = await http.post("/v1/memory/recall", json={"text": "x"})
    assert_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
