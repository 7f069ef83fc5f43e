"""The agent's transactional state, seen from inside handlers and from outside the engine."""

import asyncio
import dataclasses
import datetime
import enum
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel, Field

from hanse.agents import Agent, Context
from hanse.contracts import ContractBreach, Failed, InvalidInput, Refusal, capability

from .conftest import Start
from .desk import answer, call_of, error, output


class Colour(enum.StrEnum):
    RED = "red"


class Line(BaseModel):
    item: str
    price_cents: int = Field(alias="priceCents")
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Point:
    x: int
    seen: datetime.date


class Step(BaseModel):
    op: str
    collection: str = "box"
    key: str = ""
    value: Any = None
    limit: int | None = None


class Box(Agent):
    """Does to its state what it is told."""

    domain = "box"

    @capability(effect="irreversible")
    async def do(self, request: list[Step], context: Context) -> list[Any]:
        """Do the steps in order."""
        return [await self._do(each, context) for each in request]

    @capability(effect="irreversible")
    async def do_and_refuse(self, request: list[Step], context: Context) -> list[Any]:
        """Do the steps and refuse."""
        await self.do(request, context)
        raise Refusal("not today")

    @capability(effect="read")
    async def look(self, request: list[Step], context: Context) -> list[Any]:
        """Do the steps, which only read."""
        return await self.do(request, context)

    async def _do(self, step: Step, context: Context) -> Any:
        state = context.state
        match step.op:
            case "get":
                return await state.get(step.collection, step.key, default="nothing")
            case "put":
                return await state.put(step.collection, step.key, step.value)
            case "delete":
                return await state.delete(step.collection, step.key)
            case "scan":
                return [list(pair) for pair in await state.scan(step.collection, prefix=step.key, limit=step.limit)]


def put(key: str, value: Any, collection: str = "box") -> dict[str, Any]:
    return {"op": "put", "key": key, "value": value, "collection": collection}


def get(key: str, collection: str = "box") -> dict[str, Any]:
    return {"op": "get", "key": key, "collection": collection}


def delete(key: str) -> dict[str, Any]:
    return {"op": "delete", "key": key}


def scan(prefix: str = "", limit: int | None = None) -> dict[str, Any]:
    return {"op": "scan", "key": prefix, "limit": limit}


async def test_what_is_put_is_got_by_the_same_and_by_later_handlers(start: Start):
    engine = await start(Box)
    assert await answer(engine, "box.do", [put("a", {"n": [1, None]}), get("a")]) == [None, {"n": [1, None]}]
    assert await answer(engine, "box.do", [get("a"), get("b")]) == [{"n": [1, None]}, "nothing"]


async def test_a_refused_handler_leaves_no_trace_of_its_writes(start: Start):
    engine = await start(Box)
    await answer(engine, "box.do", [put("a", 1)])
    with pytest.raises(Refusal, match="not today"):
        await answer(engine, "box.do_and_refuse", [put("a", 2), put("b", 2), delete("a")])
    assert await answer(engine, "box.do", [get("a"), get("b"), scan()]) == [1, "nothing", [["a", 1]]]


async def test_what_is_deleted_is_gone_from_get_and_scan(start: Start):
    engine = await start(Box)
    await answer(engine, "box.do", [put("a", 1), put("b", 2)])
    assert await answer(engine, "box.do", [delete("a"), get("a"), scan()]) == [None, "nothing", [["b", 2]]]
    assert await answer(engine, "box.do", [get("a"), scan()]) == ["nothing", [["b", 2]]]
    assert await answer(engine, "box.do", [put("a", 3), scan()]) == [None, [["a", 3], ["b", 2]]]


async def test_a_scan_goes_by_prefix_in_the_order_of_code_points(start: Start):
    engine = await start(Box)
    keys = ["a", "ab", "aa", "a\u00e9", "a\U0001f600", "b", "Z", "a/1", "a\uffff"]
    await answer(engine, "box.do", [put(key, key) for key in keys])
    [found] = await answer(engine, "box.do", [scan("a")])
    assert [key for key, _ in found] == sorted(key for key in keys if key.startswith("a"))


async def test_a_scan_sees_the_handlers_own_writes_laid_over_what_is_there(start: Start):
    engine = await start(Box)
    await answer(engine, "box.do", [put(f"k{n}", n) for n in range(5)])
    steps = [put("k1", "new"), delete("k2"), put("k15", "between"), put("other", 0, "elsewhere"), scan(limit=4)]
    *_, found = await answer(engine, "box.do", steps)
    assert found == [["k0", 0], ["k1", "new"], ["k15", "between"], ["k3", 3]]


async def test_collections_are_apart(start: Start):
    engine = await start(Box)
    await answer(engine, "box.do", [put("a", 1, "one"), put("a", 2, "two")])
    assert await answer(engine, "box.do", [get("a", "one"), get("a", "two")]) == [1, 2]


async def test_a_long_scan_is_read_page_by_page(start: Start):
    class Long(Agent):
        """Has many rows."""

        domain = "long"

        async def on_start(self, context: Context) -> None:
            for number in range(1000):
                await context.state.put("rows", f"{number:04}", number)

        @capability(effect="irreversible")
        async def first_over(self, request: int, context: Context) -> int | None:
            """Find the first that is larger, and delete every one on the way."""
            async for key, value in context.state.scan("rows", type=int):
                if value > request:
                    return value
                await context.state.delete("rows", key)

        @capability(effect="read")
        async def count(self, request: str, context: Context) -> int:
            """Count what is left after a key."""
            return len(await context.state.scan("rows", after=request))

    engine = await start(Long)
    assert await answer(engine, "long.count", "0499") == 500
    assert await answer(engine, "long.first_over", 699) == 700
    assert await answer(engine, "long.count", "") == 300


async def test_models_and_dataclasses_come_back_as_what_they_were(start: Start):
    class Typed(Agent):
        """Keeps models."""

        domain = "typed"

        @capability(effect="irreversible")
        async def keep(self, request: Line, context: Context) -> bool:
            """Keep one of each kind."""
            point = Point(3, datetime.date(2026, 11, 21))
            await context.state.put("lines", "a", request)
            await context.state.put("mixed", "b", {"lines": [request], "point": point})
            await context.state.put("points", "c", point)
            same_line = await context.state.get("lines", "a", type=Line) == request
            same_point = await context.state.get("points", "c", type=Point) == point
            mixed = await context.state.get("mixed", "b")
            return same_line and same_point and mixed["lines"][0]["priceCents"] == 5 and mixed["point"]["x"] == 3

        @capability(effect="read")
        async def wrong(self, request: str, context: Context) -> int | None:
            """Read a line as a number."""
            return await context.state.get("lines", request, type=int)

    engine = await start(Typed)
    assert await answer(engine, "typed.keep", {"item": "pen", "priceCents": 5})
    with pytest.raises(Failed, match="what is kept at lines/a is no int"):
        await answer(engine, "typed.wrong", "a")


async def test_a_handler_that_changes_what_it_got_changes_nothing(start: Start):
    class Careless(Agent):
        """Changes lists that are not its own."""

        domain = "careless"

        @capability(effect="irreversible")
        async def change(self, request: list[int], context: Context) -> list[int]:
            """Put a list, then change it."""
            await context.state.put("lists", "a", request)
            request.append(99)
            (await context.state.get("lists", "a")).append(98)
            return await context.state.get("lists", "a")

    engine = await start(Careless)
    assert await answer(engine, "careless.change", [1]) == [1]


@pytest.mark.parametrize(
    ("collection", "key", "message"),
    [
        ("", "a", "not empty"),
        ("box", "", "not empty"),
        ("box", "a\ud800", "surrogate"),
        ("box", "a\U0010ffff", "noncharacter"),
    ],
)
async def test_a_key_is_text_that_the_store_can_carry(start: Start, collection: str, key: str, message: str):
    class Keys(Agent):
        """Takes any key."""

        domain = "keys"

        @capability(effect="irreversible")
        async def put(self, request: int, context: Context) -> None:
            """Put under a bad key."""
            await context.state.put(collection, key, request)

    with pytest.raises(InvalidInput, match=message):
        await answer(await start(Keys), "keys.put", 1)


@pytest.mark.parametrize("value", [float("nan"), 2**70, {1: 2}, object(), b"bytes \xff", {"a": {"b": {1, object()}}}])
async def test_a_value_that_json_cannot_carry_is_refused(start: Start, value: Any):
    class Values(Agent):
        """Takes any value."""

        domain = "values"

        @capability(effect="irreversible")
        async def put(self, request: int, context: Context) -> None:
            """Put a bad value."""
            await context.state.put("box", "a", value)

    if value == {1: 2}:
        await answer(await start(Values), "values.put", 1)  # a whole number as a key becomes text, as in json.dumps
    else:
        with pytest.raises(InvalidInput):
            await answer(await start(Values), "values.put", 1)


async def test_a_capability_that_reads_cannot_write_even_if_it_hides_that(start: Start):
    class Sly(Agent):
        """Writes where it should read."""

        domain = "sly"

        @capability(effect="read")
        async def write(self, request: int, context: Context) -> int:
            """Write and hide it."""
            with suppress(ContractBreach):
                await context.state.put("box", "a", request)
            return 1

        @capability(effect="pure")
        async def look(self, request: int, context: Context) -> Any:
            """Read though pure."""
            return await context.state.get("box", "a")

    engine = await start(Sly)
    with pytest.raises(ContractBreach, match=r"says it only reads\. Write: @capability"):
        await answer(engine, "sly.write", 1)
    with pytest.raises(ContractBreach, match=r"says it is pure, so it has no state\. Write: @capability"):
        await answer(engine, "sly.look", 1)


async def test_state_cannot_be_used_after_the_handler_has_ended(start: Start):
    late: list[BaseException | None] = []

    class Late(Agent):
        """Goes on after its end."""

        domain = "late"
        released: asyncio.Event

        @capability(effect="irreversible")
        async def leave(self, request: int, context: Context) -> None:
            """Leave something running."""
            state = context.state
            self.task = asyncio.create_task(self._later(context, state))

        async def _later(self, context: Context, state: Any) -> None:
            await self.released.wait()
            for use in (state.get("a", "b"), state.put("a", "b", 1), context.state.get("a", "b")):
                try:
                    await use
                except ContractBreach as breach:
                    late.append(breach)

    agent = Late()
    agent.released = asyncio.Event()
    engine = await start(agent)
    await answer(engine, "late.leave", 1)
    agent.released.set()
    await agent.task
    assert len(late) == 3
    assert "the handler has ended" in str(late[0])


async def test_an_admitted_write_is_seen_at_once_and_answered_only_when_it_is_on_disk(start: Start, store: Any):
    engine = await start(Box)
    order: list[str] = []
    first = asyncio.create_task(engine.execute(call_of("box.do", [put("a", 1)])))
    first.add_done_callback(lambda _: order.append("written"))
    await asyncio.sleep(0)  # the handler has run, and its commit is under way
    read = asyncio.create_task(engine.execute(call_of("box.look", [get("a"), scan()])))
    read.add_done_callback(lambda _: order.append("read"))
    assert output(await read) == [1, [["a", 1]]]
    assert order[0] == "written", "what a reader saw was on disk before it was told"
    assert store.read("state", ("box", "a"))


async def test_a_refusal_based_on_an_admitted_write_waits_for_the_disk_too(start: Start, store: Any):
    class Account(Agent):
        """Has money once."""

        domain = "account"

        @capability(effect="irreversible")
        async def spend(self, request: int, context: Context) -> None:
            """Spend what is there."""
            if await context.state.get("account", "spent", default=False):
                raise Refusal("it is spent")
            await context.state.put("account", "spent", True)

    engine = await start(Account)
    first = asyncio.create_task(engine.execute(call_of("account.spend", 1)))
    second = asyncio.create_task(engine.execute(call_of("account.spend", 1)))
    assert "spent" in str(error(await second))
    assert store.read("state", ("account", "spent")), "the refusal left before its reason was on disk"
    assert (await first).error is None
