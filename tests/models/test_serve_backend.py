"""The backend over a door that answers as a replica would."""

import asyncio

import numpy
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import InvalidInput, ModelUnavailable, Overloaded, TimedOut, TooLarge
from hanse.contracts.pool import Ask, TierState
from hanse.models import chat
from hanse.models.backend import Condition, Raw
from hanse.models.gate import SchemaGate
from hanse.models.serve_backend import ServeBackend, ServePooling
from hanse.models.tier import Kind, Tier

from .doubles import PaperDoor

TIER = Tier("planner", Kind.GENERATE, "tiny")
READY = Condition(TierState.READY, replicas=1, progress=1)


def ask(text: str = "hello", **more: object) -> Ask:
    return Ask.model_validate({"messages": [{"role": "user", "content": text}]} | more)


def completion(text: str | None, **message: object) -> bytes:
    choice = {"message": {"role": "assistant", "content": text} | message, "finish_reason": "length"}
    return orjson.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def events(*deltas: dict[str, object], **last: object) -> bytes:
    return orjson.dumps([{"choices": [{"delta": delta}]} for delta in deltas] + ([last] if last else []))


@pytest.fixture
def door() -> PaperDoor:
    return PaperDoor()


@pytest.fixture
def backend(door: PaperDoor) -> ServeBackend:
    made = ServeBackend(TIER, door, SchemaGate())
    made.known(READY)
    return made


def said(door: PaperDoor) -> dict[str, object]:
    return orjson.loads(door.asked[-1][1])


def test_who_watches_is_told_what_the_keeper_found(backend: ServeBackend) -> None:
    seen: list[int] = []
    backend.watch(lambda: seen.append(backend.condition().replicas))
    for replicas in (2, 1):
        backend.known(Condition(TierState.READY, replicas=replicas))
    assert seen == [2, 1]


async def test_an_ask_becomes_a_chat_completion(backend: ServeBackend, door: PaperDoor) -> None:
    door.answer = lambda method, body: completion("hi")
    schema = {"type": "object"}
    raw = await backend.complete(ask(answer=schema, seed=3, stop=["x"], temperature=0.5, max_tokens=9), 5)
    assert raw == Raw("hi", finish_reason="length", prompt_tokens=7, completion_tokens=3)
    body = said(door)
    assert body["model"] == "planner"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["response_format"]["json_schema"]["schema"] == schema  # type: ignore[index]
    assert (body["seed"], body["stop"], body["temperature"], body["max_tokens"]) == (3, ["x"], 0.5, 9)


async def test_calls_of_tools_go_both_ways(backend: ServeBackend, door: PaperDoor) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    door.answer = lambda method, body: completion(None, tool_calls=[call])
    messages = [
        {"role": "user", "content": "where?"},
        {"role": "assistant", "tool_calls": [{"id": "c0", "name": "find", "arguments": "{}"}]},
        {"role": "tool", "tool_call_id": "c0", "content": "nowhere"},
    ]
    raw = await backend.complete(Ask.model_validate({"messages": messages, "tools": [{"name": "find"}]}), 5)
    assert [(each.id, each.name, each.arguments) for each in raw.tool_calls] == [("c1", "find", '{"a": 1}')]
    assert raw.text == ""
    body = said(door)
    assert body["tool_choice"] == "auto"
    assert body["messages"][1]["tool_calls"][0]["function"] == {"name": "find", "arguments": "{}"}  # type: ignore[index]
    assert body["messages"][2]["tool_call_id"] == "c0"  # type: ignore[index]


async def test_a_stream_is_put_together(backend: ServeBackend, door: PaperDoor) -> None:
    first = {"index": 0, "id": "c1", "function": {"name": "find", "arguments": '{"a'}}
    second = {"index": 0, "function": {"arguments": '": 1}'}}
    door.items = [
        events({"role": "assistant", "content": ""}, {"content": "he"}),
        events({"content": "llo"}, {"tool_calls": [first]}, {"tool_calls": [second]}),
        events(usage={"prompt_tokens": 7, "completion_tokens": 4}, choices=[]),
    ]
    pieces = [piece async for piece in backend.stream(ask(), 5)]
    assert [piece.text for piece in pieces] == ["he", "llo", "", "", ""]
    whole = pieces[-1].raw
    assert whole is not None
    assert (whole.text, whole.tool_calls[0].arguments, whole.completion_tokens) == ("hello", '{"a": 1}', 4)
    assert said(door)["stream"] is True


@pytest.mark.parametrize("error", [InvalidInput("too long"), Overloaded("full"), ModelUnavailable("dead")])
async def test_errors_that_a_replica_sends_are_raised(backend: ServeBackend, door: PaperDoor, error: Exception) -> None:
    data = {"error": error.to_data()}  # type: ignore[attr-defined]
    door.answer = lambda method, body: orjson.dumps(data)
    door.items = [events({"content": "he"}), orjson.dumps([data])]
    with pytest.raises(type(error), match=str(error)):
        await backend.complete(ask(), 5)
    stream = backend.stream(ask(), 5)
    assert (await anext(stream)).text == "he"
    with pytest.raises(type(error), match=str(error)):
        await anext(stream)


@pytest.mark.parametrize("state", [TierState.ABSENT, TierState.WAITING, TierState.WARMING, TierState.BROKEN])
async def test_nobody_waits_for_a_tier_that_is_not_there(
    backend: ServeBackend, door: PaperDoor, state: TierState
) -> None:
    backend.known(Condition(state, "why", "what to do"))
    with pytest.raises(ModelUnavailable, match=f"planner is {state}: why") as error:
        await backend.complete(ask(), 5)
    assert error.value.ids["remedy"] == "what to do"
    with pytest.raises(ModelUnavailable):
        await anext(backend.stream(ask(), 5))
    assert door.asked == []


async def test_one_that_died_is_not_asked_again_before_the_keeper_saw_it(
    backend: ServeBackend, door: PaperDoor
) -> None:
    door.answer = lambda method, body: ModelUnavailable("gone", gone="replica")
    with pytest.raises(ModelUnavailable, match="gone"):
        await backend.complete(ask(), 5)
    with pytest.raises(ModelUnavailable, match="being started again"):
        await backend.complete(ask(), 5)
    assert len(door.asked) == 1


async def test_one_of_several_that_died_leaves_the_others(backend: ServeBackend, door: PaperDoor) -> None:
    backend.known(Condition(TierState.READY, replicas=2))
    door.answer = lambda method, body: ModelUnavailable("gone", gone="replica")
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="gone"):
            await backend.complete(ask(), 5)


async def test_time_runs_out(backend: ServeBackend, door: PaperDoor) -> None:
    door.silent = True
    with pytest.raises(TimedOut, match="planner"):
        await backend.complete(ask(), 0.01)
    door.items = [events({"content": "he"})]
    with pytest.raises(TimedOut, match="planner"):
        async for _ in backend.stream(ask(), 0.01):
            pass
    assert door.left == ["stream"]


async def test_a_slow_reader_takes_none_of_the_streams_time(backend: ServeBackend, door: PaperDoor) -> None:
    door.items = [events({"content": str(number)}) for number in range(5)]
    pieces = []
    async for piece in backend.stream(ask(), 0.05):
        await asyncio.sleep(0.03)
        pieces.append(piece)
    assert len(pieces) == 6


async def test_no_schema_is_too_large_for_an_engine_those_of_tools_too(backend: ServeBackend, door: PaperDoor) -> None:
    large = {"enum": ["x" * 100_000]}
    for asked in (ask(answer=large), ask(tools=[{"name": "t", "parameters": large}])):
        with pytest.raises(TooLarge, match="schema"):
            await backend.complete(asked, 5)
        with pytest.raises(TooLarge, match="schema"):
            await anext(backend.stream(asked, 5))
    assert door.asked == []


async def test_counts_tokens_with_the_engine_or_estimates_from_above(backend: ServeBackend, door: PaperDoor) -> None:
    door.answer = lambda method, body: b'{"count": 12, "max_model_len": 100, "tokens": []}'
    assert await backend.count_tokens(ask("hello")) == 12
    backend.known(Condition(TierState.WARMING))
    assert await backend.count_tokens(ask("hello")) >= 5


@given(st.text(max_size=200))
def test_the_estimate_is_never_too_low_for_a_tokenizer_of_bytes(text: str) -> None:
    assert chat.estimate(ask(text)) >= len(text.encode(errors="replace"))


async def test_vectors_come_in_the_order_of_the_texts(door: PaperDoor) -> None:
    pooling = ServePooling(Tier("vectors", Kind.EMBED, "x"), door)
    pooling.known(READY)
    rows = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    door.answer = lambda method, body: orjson.dumps({"data": rows})
    assert (await pooling.embed(["a", "b"], 5) == numpy.eye(2)).all()
