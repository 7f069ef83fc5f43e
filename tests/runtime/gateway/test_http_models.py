"""`Federation.connect(url).models`: the pool behind a gateway answers as the one in the cluster does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.contracts import BudgetExhausted, ModelUnavailable, NotFound
from hanse.contracts.pool import Answer, Ask, Cached, Correction, Message, Postcondition, Purpose, Tool, ToolCall
from hanse.runtime.federation import Federation
from hanse.runtime.http_client import HttpClient

from ...support.pool import ScriptedModels, calling, costing
from .conftest import TOKEN, Server, app_over


@pytest.fixture
def pool() -> ScriptedModels:
    return ScriptedModels(lambda *_: "so it is")


@pytest.fixture
async def federation(pool: ScriptedModels) -> AsyncIterator[Federation]:
    async with Federation.in_process(pool=pool) as running:
        yield running


@pytest.fixture
async def server(federation: Federation, serve: Callable[[Any], Awaitable[Server]]) -> Server:
    return await serve(app_over(federation))


@pytest.fixture
async def far(server: Server) -> AsyncIterator[Federation]:
    async with Federation.connect(server.url, TOKEN) as connected:
        yield connected


def ask(**more: Any) -> Ask:
    return Ask(messages=(Message(role="user", content="is it so?"),), **more)


class Order(BaseModel):
    number: str


async def test_the_same_questions_here_and_there(federation: Federation, far: Federation, pool: ScriptedModels) -> None:
    for models in (federation.models, far.models):
        pool.say = lambda *_: "so it is"
        assert await models.complete("is it so?", system="Be brief.") == "so it is"
        pool.say = lambda *_: '"yes"'
        assert await models.choose("is it so?", ["yes", "no"]) == "yes"
        pool.say = lambda *_: {"number": "#W1"}
        assert await models.extract(Order, "I ordered #W1", pure=True) == Order(number="#W1")
        assert (await models.judge("injection", "ignore it", ["s"])).score == 0.9
        assert [view.name for view in await models.tiers()] == ["planner", "embedder", "injection"]
    near, there = pool.asked[:3], pool.asked[3:]
    assert [one for one, _ in near] == [one for one, _ in there]
    assert [caller.by for _, caller in (near[0], there[0])] == ["local", "ada"]


async def test_vectors_are_the_same_to_the_bit(federation: Federation, far: Federation) -> None:
    here, there = await federation.models.embed(["a", "bb"]), await far.models.embed(["a", "bb"])
    assert here.tobytes() == there.tobytes()
    assert there.flags.writeable


async def test_everything_that_an_ask_can_say_arrives(far: Federation, pool: ScriptedModels) -> None:
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="look"),
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="look", arguments='{"at": 1}'),)),
        Message(role="tool", content="a duck", tool_call_id="1"),
    )
    asked = Ask(
        messages=turns,
        purpose=Purpose.EXTRACT,
        answer={"type": "object"},
        tools=(Tool(name="look", description="Look there.", parameters={"type": "object"}),),
        tool_choice="auto",
        tier="planner",
        only=False,
        validators=("numbers",),
        sources=("s",),
        postconditions=(Postcondition(at="/x", rule="at_most", value=5),),
        max_tokens=9,
        temperature=0.5,
        top_p=0.5,
        seed=3,
        stop=("!", "?"),
        pure=True,
        pinned=(1,),
        shorten=True,
    )
    pool.say = lambda *_: {"x": 1}
    answer = await far.client.models.ask(asked)
    assert (pool.asked[0][0], answer.data) == (asked, {"x": 1})


async def test_a_prompt_file_goes_by_its_name(far: Federation, pool: ScriptedModels) -> None:
    asked = Ask(prompt="extract@1", inputs={"text": "x"})
    await far.client.models.ask(asked)
    assert pool.asked[0][0] == asked


async def test_a_conversation_follows_a_prompt_and_a_correction_goes_along(far, pool: ScriptedModels) -> None:
    turns = (Message(role="user", content="I ordered #W1"),)
    correction = Correction(answer='{"n": 1}', problem="it is too low")
    asked = Ask(prompt="extract_turns", inputs={}, messages=turns, correction=correction)
    await far.client.models.ask(asked)
    assert pool.asked[0][0] == asked


async def test_an_answer_comes_back_whole(far: Federation, pool: ScriptedModels) -> None:
    said = costing(0.25).model_copy(update={"cached": Cached.EXACT, "scores": {"numbers": 0.1}, "model": "sha256:1"})
    pool.say = lambda *_: said
    assert await far.client.models.ask(ask()) == said
    pool.say = lambda *_: calling("look", '{"at": 1}')
    assert (await far.client.models.ask(ask())).tool_calls[0].arguments == '{"at": 1}'


async def test_what_a_request_may_cost_goes_along(far: Federation, pool: ScriptedModels) -> None:
    models = far.client.models.but(budget_cents=2, deadline_ms=4_000_000_000_000, interactive=True, labels=("private",))
    with pytest.raises(Exception, match="deadline_seconds"):  # a day is the most that a gateway takes
        await models.ask(ask())
    await far.client.models.but(budget_cents=2, interactive=True, labels=("private",)).ask(ask())
    _, caller = pool.asked[0]
    assert (caller.budget_cents, caller.interactive, caller.labels) == (2, True, ("private",))


@pytest.mark.parametrize("said", ["so it is", calling("look", '{"at": 1}'), {"fine": True}])
async def test_a_stream_ends_with_the_answer_that_its_pieces_make(far: Federation, pool, said: Any) -> None:
    pool.say = lambda *_: said
    asked = ask(answer={"type": "object"}) if isinstance(said, dict) else ask()
    pieces = [piece async for piece in far.models.stream(asked)]
    last = pieces[-1].answer
    assert last is not None
    assert last.text == "".join(piece.text for piece in pieces)
    if isinstance(said, dict):
        assert last.data == said
    if isinstance(said, Answer):
        assert [call.name for call in last.tool_calls] == ["look"]


@pytest.mark.parametrize("error", [ModelUnavailable("warming", tier="planner"), BudgetExhausted("3 of 2 cents")])
async def test_errors_are_what_they_were_and_are_not_asked_for_twice(far: Federation, pool, error: Any) -> None:
    pool.say = lambda *_: error
    with pytest.raises(type(error), match=error.detail) as caught:
        await far.client.models.ask(ask())
    assert caught.value.ids == error.ids
    assert len(pool.asked) == 1
    with pytest.raises(NotFound, match="no model 'planer'"):
        await far.client.models.ask(ask(tier="planer"))


async def test_an_error_in_the_middle_of_a_stream_is_what_it_was(far: Federation, pool: ScriptedModels) -> None:
    pool.say = lambda *_: ["so", ModelUnavailable("the engine died", tier="planner")]
    stream = far.models.stream(ask())
    assert (await anext(stream)).text == "so"
    with pytest.raises(ModelUnavailable, match="the engine died") as caught:
        await anext(stream)
    assert caught.value.ids == {"tier": "planner"}


async def test_a_gateway_that_is_gone_is_a_model_that_is_unavailable(server: Server) -> None:
    client = HttpClient(server.url, TOKEN, patience_seconds=0.1)
    await server.stop()
    for question in (client.models.ask(ask()), client.models.tiers(), anext(client.models.stream(ask()))):
        with pytest.raises(ModelUnavailable):
            await question
    await client.close()


async def test_the_books_of_the_tenant(far: Federation, pool: ScriptedModels) -> None:
    models = far.client.models
    await models.ask(ask())
    assert [call.id for call in await models.calls()] == ["call-1"]
    assert [line.calls for line in await models.usage(7, by_task=True)] == [1]
    assert [each.exact for each in await models.caches()] == [3]
    assert [each.name for each in await models.prompts()] == ["extract"]
    assert await models.purge() == 3
    with pytest.raises(NotFound):
        await models.text("sha256:0")
