"""Whatever an engine writes, the pool gives another tier's answer or an error with a name, in little room (F44)."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import ContractBreach, HanseError, Kind, PersonNeeded, TimedOut
from hanse.contracts.pool import Purpose, Tool
from hanse.models.backend import Raw
from hanse.models.policy import Policy

from ..support.models import (
    Gate,
    Says,
    ScriptedBackend,
    World,
    ask,
    call_of,
    caller,
    deaf,
    running,
    tier,
)

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "string"}, "cents": {"type": "integer"}},
    "required": ["order", "cents"],
}
SOURCE = "Order W-1042 of 3 May costs 995 cents."
GOOD = '{"order": "W-1042", "cents": 995}'
SMALL, LARGE = tier("small", 0, 0.1), tier("large", 1, 1.0)
REFUND = Tool(
    name="refund", parameters={"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
)

GARBAGE: dict[str, Any] = {
    "bad JSON": '{"order": "W-1042", "cents": 995',
    "words around JSON": f"Sure! {GOOD}",
    "empty": "",
    "blank": " \n\u200b ",
    "ten megabytes": "x" * 10_000_000,
    "ten megabytes of JSON": '{"order": "' + "x" * 10_000_000 + '", "cents": 995}',
    "missing": '{"order": "W-1042"}',
    "another type": '{"order": "W-1042", "cents": "995"}',
    "NaN": '{"order": "W-1042", "cents": NaN}',
    "an invented id": '{"order": "W-1043", "cents": 995}',
    "an invented number": '{"order": "W-1042", "cents": 996}',
    "hidden signs": '{"order": "W-1042\\u202e", "cents": 995}',
    "half a surrogate pair": '{"order": "\ud800", "cents": 995}',
    "too deep": "[" * 100_000,
    "a tool that nobody offered": call_of("refund", '{"id": "W-1042"}'),
    "no text": Raw(None),  # type: ignore[arg-type]
    "a refusal": "I'm sorry, but I cannot help with that.",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_never_an_answer(world: World, garbage: Any):
    asked = ask("Which order, how much?", answer=SCHEMA, sources=(SOURCE,), purpose=Purpose.EXTRACT, tier="small")
    async with running(world.pool({SMALL: ScriptedBackend(garbage), LARGE: ScriptedBackend(GOOD)})) as pool:
        answer = await pool.ask(asked, caller())
        assert (answer.tier, answer.data) == ("large", {"order": "W-1042", "cents": 995})
        with pytest.raises(PersonNeeded) as raised:
            await pool.ask(asked.model_copy(update={"only": True}), caller())
    assert len(str(raised.value)) < 20_000


@pytest.mark.parametrize(
    "words",
    [
        "I think so. " * 400,
        "na" * 500,
        "Well. " + "It is the case that it is the case that " * 50,
        "рaypal is fine",
        "read\u200bthis",
        "",
        "I can't help with that.",
    ],
    ids=["loop", "short loop", "loop at the end", "two alphabets", "hidden", "empty", "refusal"],
)
async def test_nor_is_it_where_words_are_asked_for(world: World, words: str):
    async with running(world.pool({SMALL: ScriptedBackend(words), LARGE: ScriptedBackend("Paris.")})) as pool:
        assert (await pool.ask(ask("Where?", tier="small"), caller())).text == "Paris."


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (call_of("delete_everything"), "there is no tool 'delete_everything'. There is refund"),
        (call_of("refund", "{"), "no JSON"),
        (call_of("refund", '{"id": 5}'), '/id: arguments of refund: 5 is not of type "string"'),
    ],
    ids=["unknown", "bad JSON", "bad arguments"],
)
async def test_a_wrong_tool_call_is_repaired_with_what_there_is(world: World, wrong: Raw, told: str):
    small = ScriptedBackend(wrong, call_of("refund", '{"id": "W-1"}'))
    async with running(world.pool({SMALL: small})) as pool:
        answer = await pool.ask(ask("Refund W-1.", tools=(REFUND,)), caller())
    assert [call.name for call in answer.tool_calls] == ["refund"]
    assert told in (small.asked[1].messages[-1].content or "")


@pytest.mark.parametrize(
    ("choice", "raw"),
    [
        ("none", call_of("refund", '{"id": "1"}')),
        ("required", "words"),
        ({"type": "function", "function": {"name": "refund"}}, "words"),
    ],
)
async def test_the_choice_of_a_tool_is_kept(world: World, choice: Any, raw: Any):
    async with running(world.pool({SMALL: ScriptedBackend(raw)}, Policy(repairs=0))) as pool:
        with pytest.raises(PersonNeeded):
            await pool.ask(ask("Refund.", tools=(REFUND,), tool_choice=choice), caller())


@pytest.mark.parametrize("tokens", [-1, 10**12, float("nan"), "many", None], ids=str)
async def test_counts_that_are_no_counts_become_the_largest_that_can_be(world: World, tokens: Any):
    odd = Raw("fine", (), "stop", tokens, tokens)
    async with running(world.pool({SMALL: ScriptedBackend(odd)})) as pool:
        answer = await pool.ask(ask("hello", max_tokens=50), caller())
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 50)


async def test_ten_megabytes_take_no_room_once_they_are_refused(world: World):
    async def endless(asked: object) -> Raw:
        return Raw("x" * 10_000_000)

    async with running(world.pool({SMALL: ScriptedBackend(endless)}, Policy(repairs=0))) as pool:
        tracemalloc.start()
        for _ in range(5):
            with pytest.raises(PersonNeeded):
                await pool.ask(ask("hello"), caller())
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 5_000_000
    assert all(len(str(event.data)) < 5_000 for event in world.events())


async def test_an_endless_stream_is_cut(world: World):
    endless = ScriptedBackend("word " * 100_000)
    endless.pieces = 1_000
    async with running(world.pool({SMALL: endless}, Policy(max_answer_chars=10_000))) as pool:
        stream = pool.stream(ask("hello"), caller())
        with pytest.raises(ContractBreach, match="10000"):
            await take(stream)


async def take(stream: Any) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize("deafness", [Gate(), deaf], ids=["hangs", "hangs and does not listen"])
async def test_an_engine_that_says_nothing_is_left_to_itself(world: World, deafness: Any):
    quick = tier("small", timeout_seconds=0.05, concurrency=1)
    async with running(world.pool({quick: ScriptedBackend(deafness, "fine")})) as pool:
        with pytest.raises(TimedOut):
            await pool.ask(ask(stop=("x",)), caller())
        assert (await pool.ask(ask(), caller())).text == "fine", "its place is free again"
    await bury(deafness)


async def bury(deafness: Any) -> None:
    """The one that does not listen is listened to now, so that the loop can end."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
        while not task.done() and deafness is deaf:
            asked = task.get_coro().cr_frame.f_locals.get("ask")  # type: ignore[union-attr]
            if asked is None:
                break
            object.__setattr__(asked, "stop", ("really",))
            task.cancel()
            await asyncio.sleep(0)


async def test_a_validator_that_hangs_has_no_opinion(world: World):
    class Hangs(Says):
        async def judge(self, text: str, sources: object = ()) -> Any:
            await asyncio.Event().wait()

    policy = Policy(judge_seconds=0.01)
    async with running(world.pool({SMALL: ScriptedBackend("fine")}, policy, [Hangs("slow", 0)])) as pool:
        answer = await pool.ask(ask(validators=("slow",)), caller())
    assert "no opinion" in answer.attempts[0].reason


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200) | st.builds(str, st.recursive(st.none() | st.booleans() | st.floats(), st.lists)))
def test_any_text_is_an_answer_that_fits_or_an_error_with_a_name(text: str):
    asyncio.run(answered(text))


async def answered(text: str) -> None:
    world = World()
    async with running(world.pool({SMALL: ScriptedBackend(text)}, Policy(repairs=0))) as pool:
        try:
            answer = await pool.ask(ask("?", answer=SCHEMA, sources=(SOURCE,), purpose=Purpose.EXTRACT), caller())
        except HanseError:
            pass
        else:
            assert {"order", "cents"} <= answer.data.keys()
    assert len(world.events(Kind.MODEL_CALLED)) == 1
    await world.store.close()
