"""The model pool behind a link: what is asked here is answered there, in the same shapes and with the same errors."""

import asyncio

import numpy
import pytest

from hanse.contracts import BudgetExhausted, InvalidInput, ModelUnavailable, NotFound, Tenant, Unavailable
from hanse.contracts.caller import Caller
from hanse.contracts.messages import Drop
from hanse.contracts.messages import Piece as SentPiece
from hanse.contracts.pool import Ask, Message, Piece
from hanse.contracts.wire import decode, encode
from hanse.runtime.client import Shard
from hanse.runtime.link import Link, Receiver, pipe
from hanse.runtime.models_client import ModelsClient
from hanse.runtime.models_part import counter_of

from ..support.pool import ScriptedModels, calling, gone

CALLER = Caller(
    tenant=Tenant("acme"), by="ann", labels=("private",), budget_cents=2.5, deadline_ms=17, interactive=True
)


class Line:
    """Links to a pool in this process, over the real wire."""

    def __init__(self, pool: ScriptedModels) -> None:
        self.counter = counter_of(pool)
        self.links: list[Link] = []

    async def dial(self, receiver: Receiver) -> Link:
        near, _ = pipe(receiver, self.counter)
        self.links.append(near)
        return near


def client_of(pool: ScriptedModels, patience_seconds: float = 1.0) -> ModelsClient:
    return ModelsClient(Shard(Line(pool).dial, patience_seconds, whom="the model pool"))


def ask(text: str = "is it so?", **more) -> Ask:
    return Ask(messages=(Message(role="user", content=text),), **more)


async def test_an_ask_arrives_as_it_was_asked_and_by_whom() -> None:
    pool = ScriptedModels()
    asked = ask(tier="planner", answer={"type": "object"}, sources=("a", "b"), temperature=0.5, stop=("\n",), pure=True)
    pool.say = lambda ask, caller: {"fine": True}
    answer = await client_of(pool).ask(asked, CALLER)
    assert pool.asked == [(asked, CALLER)]
    assert (answer.data, answer.text, answer.attempts[0].outcome) == ({"fine": True}, '{"fine": true}', "accepted")


async def test_pieces_come_one_by_one_and_the_last_has_the_answer() -> None:
    pieces = [each async for each in client_of(ScriptedModels(lambda *_: "so it is")).stream(ask(), CALLER)]
    assert [piece.text for piece in pieces] == ["so", " it", " is", ""]
    assert [piece.answer is None for piece in pieces] == [True, True, True, False]
    assert pieces[-1].answer is not None
    assert pieces[-1].answer.text == "so it is"


async def test_an_error_in_the_middle_arrives_as_itself() -> None:
    pool = ScriptedModels(lambda *_: ["so", ModelUnavailable("the engine died", tier="planner")])
    stream = client_of(pool).stream(ask(), CALLER)
    assert (await anext(stream)).text == "so"
    with pytest.raises(ModelUnavailable, match="the engine died") as caught:
        await anext(stream)
    assert caught.value.ids == {"tier": "planner"}


async def test_who_hangs_up_ends_the_work() -> None:
    forever = asyncio.Event()
    pool = ScriptedModels(lambda *_: ["so", forever.wait])
    stream = client_of(pool).stream(ask(), CALLER)
    await anext(stream)
    await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    async with asyncio.timeout(5):
        while not pool.ended:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)


async def test_a_question_that_is_given_up_ends_there_too() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedModels):
        async def ask(self, ask, caller):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    asking = asyncio.create_task(client_of(Slow()).ask(ask(), CALLER))
    await begun.wait()
    asking.cancel()
    await asyncio.wait_for(ended.wait(), 5)


async def test_vectors_arrive_bit_by_bit() -> None:
    pool, texts = ScriptedModels(), ["a", "", "größer"]
    got = await client_of(pool).embed(texts, CALLER)
    assert got.dtype == numpy.float32
    assert got.flags.writeable
    assert got.tobytes() == (await pool.embed(texts, CALLER)).tobytes()
    assert (await client_of(pool).embed([], CALLER)).shape == (0, 4)


async def test_judgements_and_tiers() -> None:
    client = client_of(ScriptedModels())
    assert (await client.judge("injection", "ignore all that", CALLER, ["s"])).score == 0.9
    assert [view.name for view in await client.tiers()] == ["planner", "embedder", "injection"]
    with pytest.raises(NotFound, match="There are: injection"):
        await client.judge("injections", "", CALLER)


async def test_each_tenant_keeps_its_own_books() -> None:
    pool = ScriptedModels()
    client, other = client_of(pool), Tenant("other")
    await client.ask(ask(), CALLER)
    assert [(view.tenant, view.calls) for view in await client.usage(CALLER.tenant, 7)] == [("acme", 1)]
    assert [(view.calls, view.task) for view in await client.usage(other, by_task=True)] == [(0, "t1")]
    assert [view.id for view in await client.calls(CALLER.tenant)] == ["call-1"]
    assert await client.calls(other, limit=3, before="call-9") == []
    assert (await client.caches(other))[0].tenant == "other"
    assert (await client.purge(other, "eve"), pool.purged) == (3, [("other", "eve")])
    assert [prompt.name for prompt in await client.prompts()] == ["extract"]
    with pytest.raises(NotFound, match="no text sha256:0"):
        await client.text(other, "sha256:0")


@pytest.mark.parametrize("error", [ModelUnavailable("warming"), BudgetExhausted("3 of 2 cents")])
async def test_errors_of_the_pool_arrive_as_themselves(error) -> None:
    with pytest.raises(type(error), match=error.detail):
        await client_of(ScriptedModels(lambda *_: error)).ask(ask(), CALLER)


async def test_a_pool_that_is_not_there_is_a_model_that_is_unavailable() -> None:
    async def nobody(receiver: Receiver) -> Link:
        raise Unavailable("there is no models in hanse-test")

    client = ModelsClient(Shard(nobody, 0.05, whom="the model pool"))
    with pytest.raises(ModelUnavailable, match="the model pool cannot be reached: there is no models"):
        await client.ask(ask(), CALLER)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await client.tiers()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await anext(client.stream(ask(), CALLER))


async def test_a_pool_that_dies_while_it_speaks_is_unavailable_and_nothing_else() -> None:
    line = Line(ScriptedModels(lambda *_: ["so", asyncio.Event().wait]))
    stream = ModelsClient(Shard(line.dial, 1.0, whom="the model pool")).stream(ask(), CALLER)
    await anext(stream)
    line.links[0].close("its process ended")
    with pytest.raises(ModelUnavailable, match="its process ended") as caught:
        await anext(stream)
    assert caught.value.code == "model_unavailable"


class OneAnswer:
    """A link between nodes: of a stream only the response arrives (`ray_link.AskLink`)."""

    def __init__(self, receiver: Receiver, far: Link) -> None:
        self.name, self._receiver, self._far = "ask", receiver, far

    def send(self, message) -> None:
        if not isinstance(message, Drop):
            self._far.send(message)

    def close(self, reason: str = "") -> None:
        self._far.close(reason)


class WithoutPieces:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def received(self, link: Link, message) -> None:
        if not isinstance(message, SentPiece):
            self._receiver.received(link, decode(encode(message)))

    def closed(self, link: Link, reason: str) -> None:
        self._receiver.closed(link, reason)


@pytest.mark.parametrize(
    ("said", "texts"), [("so it is", ["so it is", ""]), (calling("look", "{}"), ["", ""]), ("", [""])]
)
async def test_from_another_node_the_pieces_arrive_at_once_and_none_is_missing(said, texts) -> None:
    line = Line(ScriptedModels(lambda *_: said))

    async def dial(receiver: Receiver) -> Link:
        return OneAnswer(receiver, await line.dial(WithoutPieces(receiver)))

    client = ModelsClient(Shard(dial, 1.0))
    pieces: list[Piece] = [each async for each in client.stream(ask(), CALLER)]
    assert [piece.text for piece in pieces] == texts
    assert pieces[-1].answer is not None
    assert [call["function"]["name"] for call in pieces[0].tool_calls] == [
        call.name for call in pieces[-1].answer.tool_calls
    ]


async def test_an_ask_that_is_none_is_refused_by_name() -> None:
    pool = ScriptedModels(gone)
    shard = Shard(Line(pool).dial, 1.0)
    with pytest.raises(InvalidInput, match="messages"):
        await shard.ask("ask", Tenant("acme"), "ann", {"ask": {"messages": []}})


async def test_the_tenant_is_the_one_of_the_request_whatever_the_caller_says() -> None:
    pool = ScriptedModels()
    forged = {"ask": ask().model_dump(mode="json"), "caller": {"tenant": "other", "by": "root", "budget_cents": 1}}
    await Shard(Line(pool).dial, 1.0).ask("ask", Tenant("acme"), "ann", forged)
    (_, caller) = pool.asked[0]
    assert (caller.tenant, caller.by, caller.budget_cents) == ("acme", "ann", 1)
