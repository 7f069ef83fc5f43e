"""OpenAI's own client against the gateway: every call of it that there is a path for, and every error it knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import openai
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from hanse.contracts import (
    BudgetExhausted,
    ContractBreach,
    HanseError,
    InvalidInput,
    ModelUnavailable,
    NotAllowed,
    Overloaded,
    PersonNeeded,
    TimedOut,
)
from hanse.contracts.pool import Purpose, TierState, TierView
from hanse.runtime.federation import Federation

from ...support.pool import ScriptedModels, calling, costing
from .conftest import OTHER_TOKEN, TOKEN, Server, app_over, asking

ASKED: list[Any] = [{"role": "user", "content": "is it so?"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture
def pool() -> ScriptedModels:
    return ScriptedModels(lambda *_: "so it is")


@pytest.fixture
async def federation(pool: ScriptedModels) -> AsyncIterator[Federation]:
    async with Federation.in_process(pool=pool) as running:
        yield running


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_over(app) as made:
        yield made


@asynccontextmanager
async def client_over(app: FastAPI, token: str = TOKEN, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as http:
        made = openai.AsyncOpenAI(
            base_url="http://127.0.0.1:8000/v1",
            api_key=token,
            http_client=cast("Any", http),
            **{"max_retries": 0, **options},
        )
        async with made:
            yield made


async def test_a_conversation(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    turns: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "is it "}, {"type": "text", "text": "so?"}]},
    ]
    given = await client.chat.completions.create(
        model="planner", messages=turns, max_completion_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop="!", n=1
    )
    assert given.choices[0].message.content == "so it is"
    assert (given.choices[0].finish_reason, given.model) == ("stop", "planner")
    assert given.usage is not None
    assert (given.usage.prompt_tokens, given.usage.completion_tokens, given.usage.total_tokens) == (7, 3, 10)
    ((ask, caller),) = pool.asked
    assert [(turn.role, turn.content) for turn in ask.messages] == [("system", "Be brief."), ("user", "is it so?")]
    assert (ask.tier, ask.only, ask.purpose, ask.stop) == ("planner", True, Purpose.CHAT, ("!",))
    assert (ask.max_tokens, ask.temperature, ask.top_p, ask.seed) == (9, 0.5, 0.9, 3)
    assert (caller.tenant, caller.by, caller.interactive) == ("default", "ada", False)


async def test_hanse_lets_the_router_choose(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    given = await client.chat.completions.create(model="hanse", messages=ASKED)
    assert given.model == "planner"
    assert (pool.asked[0][0].tier, pool.asked[0][0].only) == (None, False)


async def test_what_a_call_took_stands_in_headers_and_under_hanse(client: openai.AsyncOpenAI, pool) -> None:
    pool.say = lambda *_: costing(0.25)
    raw = await client.chat.completions.with_raw_response.create(model="hanse", messages=ASKED)
    assert (raw.headers["hanse-cents"], raw.headers["hanse-tier"], raw.headers["hanse-call"]) == (
        *("0.25", "planner"),
        "paid",
    )
    given = raw.parse()
    assert given._request_id == "paid"
    assert given.model_extra is not None
    assert given.model_extra["hanse"]["usage"]["cents"] == 0.25


async def test_what_only_hanse_can_do_goes_along(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    more = {"purpose": "extract", "sources": ["s"], "validators": [], "pure": True, "budget_cents": 3, "labels": ["x"]}
    await client.chat.completions.create(
        model="hanse", messages=ASKED, service_tier="priority", extra_body={"hanse": more | {"deadline_seconds": 5}}
    )
    ((ask, caller),) = pool.asked
    assert (ask.purpose, ask.sources, ask.validators, ask.pure) == (Purpose.EXTRACT, ("s",), (), True)
    assert (caller.budget_cents, caller.labels, caller.interactive) == (3, ("x",), True)
    assert caller.deadline_ms > 0


async def test_pieces_of_an_answer(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    stream = await client.chat.completions.create(
        model="planner", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert text == ["", "so", " it", " is", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == ["stop"]
    assert [chunk.usage is None for chunk in chunks] == [True] * 5 + [False]
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 10)
    assert len({chunk.id for chunk in chunks}) == 1
    assert pool.asked[0][1].interactive


async def test_without_asking_a_stream_says_nothing_of_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True)
    assert [chunk.usage for chunk in [chunk async for chunk in stream]] == [None] * 5


async def test_text_of_any_kind_comes_through_a_stream_unharmed(client: openai.AsyncOpenAI, pool) -> None:
    words = ['"quotes"', "\n\ndata: x", "größer \u2028 🦆", "\\", "[DONE]", '{"error": 1}']
    pool.say = lambda *_: list(words)
    stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True)
    text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == " ".join(words)


class Verdict(BaseModel):
    fine: bool


async def test_data_in_the_shape_of_a_model(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    pool.say = lambda *_: {"fine": True}
    given = await client.chat.completions.parse(model="hanse", messages=ASKED, response_format=Verdict)
    assert given.choices[0].message.parsed == Verdict(fine=True)
    schema = pool.asked[0][0].answer
    assert schema is not None
    assert schema["properties"] == {"fine": {"title": "Fine", "type": "boolean"}}
    await client.chat.completions.create(model="hanse", messages=ASKED, response_format={"type": "json_object"})
    assert pool.asked[1][0].answer == {"type": "object"}
    await client.chat.completions.create(model="hanse", messages=ASKED, response_format={"type": "text"})
    assert pool.asked[2][0].answer is None


async def test_tools(client: openai.AsyncOpenAI, pool: ScriptedModels) -> None:
    pool.say = lambda *_: calling("look", '{"at": 1}')
    given = await client.chat.completions.create(
        model="planner", messages=ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    )
    choice = given.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("look", '{"at": 1}')
    back = {"role": "tool", "tool_call_id": call.id, "content": "a duck"}
    await client.chat.completions.create(
        model="planner", messages=cast("Any", [*ASKED, choice.message.model_dump(), back]), tools=TOOLS
    )
    turns = pool.asked[1][0].messages
    assert (turns[1].tool_calls[0].name, turns[2].tool_call_id, turns[2].content) == ("look", call.id, "a duck")
    assert pool.asked[0][0].tool_choice == "required"


async def test_embeddings_as_numbers_and_as_bytes(client: openai.AsyncOpenAI) -> None:
    plain = await client.embeddings.create(model="embedder", input=["a", "bb"], encoding_format="float")
    packed = await client.embeddings.create(model="hanse", input=["a", "bb"])  # base64 is the client's own choice
    assert [each.embedding for each in packed.data] == [each.embedding for each in plain.data]
    assert [each.index for each in plain.data] == [0, 1]
    one = await client.embeddings.create(model="embedder", input="größer", dimensions=4)
    assert (len(one.data), len(one.data[0].embedding), one.usage.prompt_tokens) == (1, 4, 4)


async def test_models(client: openai.AsyncOpenAI) -> None:
    found = [model async for model in client.models.list()]
    assert [model.id for model in found] == ["hanse", "planner", "embedder", "injection"]
    one = await client.models.retrieve("planner")
    assert one.model_extra is not None
    assert (one.id, one.owned_by, one.model_extra["hanse"]["state"]) == ("planner", "hanse", "ready")


async def test_scores(app: FastAPI) -> None:
    async with asking(app, TOKEN) as http:
        body = {"model": "injection", "text_1": ["fine", "ignore it"], "text_2": "source"}
        answer = (await http.post("/v1/score", json=body)).json()
        assert [(each["index"], each["score"], each["reason"]) for each in answer["data"]] == [
            (0, 0.1, "1 sources"),
            (1, 0.9, "1 sources"),
        ]
        # "fine", "ignore it" and twice "source": a third of the characters, and two each
        assert answer["usage"] == {"prompt_tokens": 3 + 5 + 4 + 4, "total_tokens": 16}
        missing = await http.post("/v1/score", json={"model": "injections", "text_1": "x"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert "There are: injection" in missing.json()["error"]["message"]


# What goes wrong


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (InvalidInput("too many tokens", pointer="/messages"), openai.BadRequestError, 400, "invalid_input"),
        (NotAllowed("not for you"), openai.PermissionDeniedError, 403, "not_allowed"),
        (Overloaded("full", retry_after_seconds=7), openai.RateLimitError, 429, "overloaded"),
        (BudgetExhausted("3 of 2 cents"), openai.RateLimitError, 429, "insufficient_quota"),
        (PersonNeeded("no answer was good enough"), openai.UnprocessableEntityError, 422, "person_needed"),
        (ModelUnavailable("planner is warming"), openai.InternalServerError, 503, "model_unavailable"),
        (TimedOut("too slow"), openai.InternalServerError, 504, "timed_out"),
        (ContractBreach("nonsense"), openai.InternalServerError, 502, "contract_breach"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_pool_is_a_typed_one_of_the_client(
    client: openai.AsyncOpenAI, pool: ScriptedModels, error: HanseError, kind: Any, status: int, code: str, stream: bool
) -> None:
    """Also before the first piece of a stream: until then nothing was said."""
    pool.say = lambda *_: error
    with pytest.raises(kind, match=error.detail) as caught:
        await client.chat.completions.create(model="planner", messages=ASKED, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    retry = caught.value.response.headers.get("retry-after")
    assert retry == {"overloaded": "7", "model_unavailable": "1"}.get(code)


async def test_a_client_comes_again_when_it_helps_and_only_then(app: FastAPI, pool: ScriptedModels) -> None:
    async with client_over(app, max_retries=2) as patient:
        said = iter([Overloaded("full", retry_after_seconds=0.1), "at last"])
        pool.say = lambda *_: next(said)
        given = await patient.chat.completions.create(model="planner", messages=ASKED)
        assert given.choices[0].message.content == "at last"
        pool.asked.clear()
        pool.say = lambda *_: BudgetExhausted("3 of 2 cents")
        with pytest.raises(openai.RateLimitError):
            await patient.chat.completions.create(model="planner", messages=ASKED)
    assert len(pool.asked) == 1


async def test_an_engine_that_dies_in_the_middle_is_an_error_after_what_it_said(client, pool) -> None:
    pool.say = lambda *_: ["so", ModelUnavailable("the engine of planner died")]
    stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True)
    assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "so"]
    with pytest.raises(openai.APIError, match="the engine of planner died") as caught:
        await anext(stream)
    assert caught.value.code == "model_unavailable"


UNKNOWN = {
    "chat": lambda client: client.chat.completions.create(model="planer", messages=ASKED),
    "embeddings": lambda client: client.embeddings.create(model="planer", input="x"),
    "retrieve": lambda client: client.models.retrieve("planer"),
}


@pytest.mark.parametrize("ask", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_an_unknown_model_is_not_found_and_near_ones_are_named(client: openai.AsyncOpenAI, ask: Any) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Did you mean 'planner'\?.*embedder") as caught:
        await ask(client)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_model_of_another_kind_is_a_bad_request(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embedder is for embeddings, not for chat completions"):
        await client.chat.completions.create(model="embedder", messages=ASKED)
    with pytest.raises(openai.BadRequestError, match="planner is for chat completions"):
        await client.embeddings.create(model="planner", input="x")


async def test_a_tier_that_does_not_embed_here_says_which_does(
    client: openai.AsyncOpenAI, pool: ScriptedModels
) -> None:
    pool.views.append(TierView(name="vectors", kind="embed", state=TierState.READY, instead="embedder"))
    with pytest.raises(openai.BadRequestError, match="vectors does not embed here, embedder does") as caught:
        await client.embeddings.create(model="vectors", input="x")
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"temperature": 7}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"tool_choice": "auto"}, None),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"stream_options": {"include_usage": True}}, None),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"extra_body": {"speling": 1}}, "speling"),
        ({"extra_body": {"hanse": {"sorces": []}}}, "hanse"),
        ({"extra_body": {"hanse": {"postconditions": [{"at": "/x", "rule": "nope"}]}}}, "postconditions"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(client, pool, wrong: Any, where: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(**{"model": "planner", "messages": ASKED, **wrong})
    assert where is None or (caught.value.param or "").startswith(where)
    assert pool.asked == []


@pytest.mark.parametrize("wrong", [{"input": ""}, {"input": []}, {"input": [1, 2]}, {"input": "x", "dimensions": 3}])
async def test_what_has_no_vector_is_refused(client: openai.AsyncOpenAI, wrong: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.embeddings.create(model="embedder", **wrong)


async def test_who_has_no_token_is_not_let_in(app: FastAPI) -> None:
    async with client_over(app, "wrong") as stranger:
        with pytest.raises(openai.AuthenticationError, match="not known here") as caught:
            await stranger.chat.completions.create(model="planner", messages=ASKED)
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")


async def test_a_body_over_the_cap_is_told_so(federation: Federation) -> None:
    async with client_over(app_over(federation, body_bytes=1000)) as client:
        with pytest.raises(openai.APIStatusError, match="at most 1000 bytes") as caught:
            await client.chat.completions.create(model="planner", messages=[{"role": "user", "content": "x" * 2000}])
    assert (caught.value.status_code, caught.value.code) == (413, "too_large")


async def test_too_many_at_once_are_told_to_come_again(federation: Federation, pool: ScriptedModels) -> None:
    async with client_over(app_over(federation, waiting=0)) as client:
        with pytest.raises(openai.RateLimitError, match="waiting already") as caught:
            await client.chat.completions.create(model="planner", messages=ASKED)
    assert caught.value.response.headers["retry-after"] == "1"
    assert pool.asked == []


async def test_a_path_and_a_method_that_are_none(app: FastAPI) -> None:
    async with asking(app, TOKEN) as http:
        missing = await http.post("/v1/chat/nonsense", json={})
        wrong = await http.get("/v1/embeddings")
        broken = await http.post("/v1/score", content=b"{", headers={"Content-Type": "application/json"})
    assert [answer.status_code for answer in (missing, wrong, broken)] == [404, 405, 400]
    for answer in (missing, wrong, broken):
        assert answer.json()["error"]["message"]
        assert answer.json()["error"]["hanse"]["status"] == answer.status_code


async def test_where_no_pool_is_configured_it_says_what_to_write(app: FastAPI) -> None:
    async with Federation.in_process() as bare, client_over(app_over(bare)) as client:
        assert [model async for model in client.models.list()] == []
        with pytest.raises(openai.NotFoundError, match=r"Add `models:` to hanse\.yaml"):
            await client.chat.completions.create(model="hanse", messages=ASKED)


async def test_tenants_ask_for_themselves(app: FastAPI, pool: ScriptedModels) -> None:
    async with client_over(app, OTHER_TOKEN) as other:
        await other.chat.completions.create(
            model="hanse", messages=ASKED, user="default", metadata={"tenant": "default"}
        )
    assert [(caller.tenant, caller.by) for _, caller in pool.asked] == [("other", "eve")]
    async with asking(app, TOKEN) as http:
        mine = (await http.get("/v1/tiers:usage")).json()["usage"]
        assert (await http.get("/v1/tiers:calls")).json()["calls"] == []
    assert [(line["tenant"], line["calls"]) for line in mine] == [("default", 0)]


# On a socket


async def test_who_hangs_up_ends_the_work(server: Server, pool: ScriptedModels) -> None:
    pool.say = lambda *_: ["so", asyncio.Event().wait]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=TOKEN) as client:
        stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        assert pool.ended == 0
        await stream.close()
    await _until(lambda: pool.ended == 1)


async def test_who_hangs_up_before_the_answer_ends_the_work(server: Server, pool: ScriptedModels) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def ask(*_: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    pool.ask = ask  # pyright: ignore[reportAttributeAccessIssue]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=TOKEN) as client:
        asking = asyncio.create_task(client.chat.completions.create(model="planner", messages=ASKED))
        await asyncio.wait_for(begun.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(ended.wait(), 5)


async def test_the_client_without_asyncio(server: Server) -> None:
    def talk() -> tuple[Any, ...]:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
            whole = client.chat.completions.create(model="hanse", messages=ASKED).choices[0].message.content
            stream = client.chat.completions.create(model="hanse", messages=ASKED, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            vectors = client.embeddings.create(model="embedder", input=["a", "b"]).data
            return whole, text, len(vectors), next(model.id for model in client.models.list())

    assert await asyncio.to_thread(talk) == ("so it is", "so it is", 2, "hanse")


async def test_a_piece_arrives_before_the_next_one_is_made(server: Server, pool: ScriptedModels) -> None:
    go_on = asyncio.Event()
    pool.say = lambda *_: ["so", go_on.wait, "it"]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=TOKEN) as client:
        stream = await client.chat.completions.create(model="planner", messages=ASKED, stream=True)
        text = []
        async for chunk in stream:
            text.append(chunk.choices[0].delta.content)
            if text[-1] == "so":
                go_on.set()
    assert text == ["", "so", " it", None]


async def _until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0.01)


# Beside OpenAI's paths


async def test_metrics_have_the_tiers(app: FastAPI, federation: Federation, pool: ScriptedModels) -> None:
    pool.views[0] = pool.views[0].model_copy(update={"calls": 3, "tokens": 70, "cents": 0.5, "queued": 2})
    async with asking(app, TOKEN) as http:
        text = (await http.get("/metrics")).text
    for line in (
        'hanse_tier_ready{tier="planner"} 1',
        'hanse_tier_queue_depth{tier="planner"} 2',
        'hanse_tier_calls_total{tier="planner"} 3',
        'hanse_tier_tokens_total{tier="planner"} 70',
        'hanse_tier_cents_total{tier="planner"} 0.5',
    ):
        assert line in text.splitlines()


async def test_metrics_and_status_do_without_a_pool(app: FastAPI, pool: ScriptedModels) -> None:
    async def away() -> Any:
        raise ModelUnavailable("stopped")

    pool.tiers = away
    async with asking(app, TOKEN) as http:
        assert "hanse_tier" not in (await http.get("/metrics")).text
        assert (await http.get("/v1/status")).json()["models"] == "not answering"
        assert (await http.get("/v1/tiers")).json()["code"] == "model_unavailable"


async def test_what_the_pool_keeps_is_shown_to_its_tenant(app: FastAPI, pool: ScriptedModels) -> None:
    async with asking(app, OTHER_TOKEN) as http:
        assert (await http.get("/v1/tiers")).json()["tiers"][0]["name"] == "planner"
        assert (await http.get("/v1/tiers:caches")).json()["caches"][0]["tenant"] == "other"
        assert (await http.get("/v1/tiers:prompts")).json()["prompts"][0]["name"] == "extract"
        assert (await http.get("/v1/tiers:text?digest=sha256:0")).status_code == 404
        assert (await http.post("/v1/tiers:purge", json={})).json() == {"purged": 3}
    assert pool.purged == [("other", "eve")]
