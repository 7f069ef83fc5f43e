"""What a handler can ask the model pool, who pays for it, and that it is answered once however often it runs."""

import asyncio
import json
from enum import StrEnum
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, field_validator

from hanse.agents import Agent, Connector, Context, operation
from hanse.agents.models import MAX_REPAIRS, Questions
from hanse.contracts import (
    BudgetExhausted,
    ContractBreach,
    InvalidInput,
    ModelUnavailable,
    PersonNeeded,
    Tenant,
    Unavailable,
    capability,
)
from hanse.contracts.caller import Caller
from hanse.contracts.pool import Ask, Message, Purpose, Usage
from hanse.models.prompt import PromptBook
from hanse.runtime.tenant_models import LinkedModels

from ..support.pool import ScriptedModels, costing, gone
from .conftest import Start
from .desk import again, answer, call_of, error, output


class Letter(BaseModel):
    text: str


class Mood(StrEnum):
    CALM = "calm"
    ANGRY = "angry"


class Order(BaseModel):
    number: str
    items: int

    @field_validator("number")
    @classmethod
    def _has_a_hash(cls, value: str) -> str:
        if not value.startswith("#"):
            raise ValueError("an order's number starts with #")
        return value


class Said(BaseModel):
    said: Any = None


class Clerk(Agent):
    """Reads letters."""

    domain = "clerk"

    @capability(effect="read", price_cents=2, labels=("untrusted",))
    async def read(self, request: Letter, context: Context) -> Said:
        """Do whatever the test wants."""
        return Said(said=await self.options["do"](request, context))

    @capability(effect="pure")
    async def think(self, request: Letter, context: Context) -> Said:
        """Think without anybody's help."""
        return Said(said=await context.models.complete("help"))

    @capability(effect="reversible", compensation="note")
    async def note(self, request: Letter, context: Context) -> Said:
        """Write down what a model says."""
        return Said(said=await self.options["do"](request, context))


def clerk(do: Any) -> Agent:
    return Clerk().configured(name="clerk", options={"do": do})


async def told(start: Start, pool: ScriptedModels | None, do: Any, capability: str = "clerk.read", **more: Any) -> Any:
    engine = await start(clerk(do), models=pool)
    options = {"budget_cents": 2} | more
    return (await answer(engine, capability, {"text": "I ordered #W1"}, **options))["said"]


async def test_free_text(start: Start) -> None:
    pool = ScriptedModels(lambda *_: "Dear you.")
    assert (
        await told(start, pool, lambda r, c: c.models.complete(r.text, system="Be brief.", max_tokens=9)) == "Dear you."
    )
    ((ask, _),) = pool.asked
    assert [(turn.role, turn.content) for turn in ask.messages] == [("system", "Be brief."), ("user", "I ordered #W1")]
    assert (ask.purpose, ask.max_tokens, ask.answer) == (Purpose.COMPLETE, 9, None)


async def test_free_text_is_held_to_its_sources_and_a_long_conversation_may_lose_turns(start: Start) -> None:
    pool = ScriptedModels()

    async def do(request: Letter, context: Context) -> str:
        turns = [Message(role="user", content=request.text), Message(role="user", content="And?")]
        return await context.models.complete(turns, sources=["It costs 5."], shorten=True, pinned=[0])

    await told(start, pool, do)
    ((ask, _),) = pool.asked
    assert (ask.sources, ask.shorten, ask.pinned) == (("It costs 5.",), True, (0,))


async def test_the_pool_knows_on_whose_behalf(start: Start) -> None:
    pool = ScriptedModels()
    await told(start, pool, lambda r, c: c.models.complete("?"), task="00000000-0000-7000-8000-0000000000ff")
    ((_, caller),) = pool.asked
    assert (caller.tenant, caller.by, caller.agent) == ("default", "clerk", "clerk")
    assert (caller.task, caller.step) == ("00000000-0000-7000-8000-0000000000ff", "s1")
    assert (caller.capability, caller.labels) == ("clerk.read", ("untrusted",))
    assert (caller.budget_cents, caller.interactive) == (2, False)
    assert caller.deadline_ms > 0


async def test_one_of_the_options(start: Start) -> None:
    pool = ScriptedModels(lambda *_: '"angry"')

    async def do(request: Letter, context: Context) -> Any:
        assert await context.models.choose("How?", ["calm", "angry"]) == "angry"
        return await context.models.choose("Which mood?", Mood, sources=[request.text]) is Mood.ANGRY

    assert await told(start, pool, do) is True
    (one, _), (other, _) = pool.asked
    assert one.answer == {"type": "string", "enum": ["calm", "angry"]}
    assert one.inputs == {"question": "How?", "choices": "- calm\n- angry", "sources": ""}
    assert (other.prompt, other.purpose, other.sources) == ("choose", Purpose.CHOOSE, ("I ordered #W1",))


@pytest.mark.parametrize("said", ["furious", 3, {}, [1], None])
async def test_what_is_no_option_goes_back_and_is_never_returned(start: Start, said: Any) -> None:
    pool = ScriptedModels(lambda *_: json.dumps(said))
    with pytest.raises(PersonNeeded, match="none of 3 answers is one of the options"):
        await told(start, pool, lambda r, c: c.models.choose("How?", ["calm", "angry"]))
    assert len(pool.asked) == 1 + MAX_REPAIRS
    with pytest.raises(InvalidInput, match="nothing to choose from"):
        await told(start, pool, lambda r, c: c.models.choose("How?", []))


async def test_an_instance_of_a_model(start: Start) -> None:
    pool = ScriptedModels(lambda *_: {"number": "#W1", "items": 2})

    async def do(request: Letter, context: Context) -> Any:
        order = await context.models.extract(Order, request.text, task="The order.")
        assert isinstance(order, Order)
        return order.model_dump()

    assert await told(start, pool, do) == {"number": "#W1", "items": 2}
    ((ask, _),) = pool.asked
    assert (ask.purpose, ask.sources, ask.answer) == (Purpose.EXTRACT, ("I ordered #W1",), Order.model_json_schema())
    assert (ask.prompt, ask.messages) == ("extract", ())
    assert ask.inputs is not None
    assert (ask.inputs["task"], ask.inputs["sources"]) == ("The order.", "I ordered #W1")
    assert json.loads(ask.inputs["schema"]) == ask.answer


async def test_an_answer_that_the_type_refuses_goes_back_with_the_error(start: Start) -> None:
    answers = iter([{"number": "W1", "items": 2}, {"number": "#W1", "items": 2}])
    pool = ScriptedModels(lambda *_: next(answers))

    async def do(request: Letter, context: Context) -> Any:
        return (await context.models.extract(Order, request.text, pure=True)).number

    assert await told(start, pool, do) == "#W1"
    (first, _), (second, _) = pool.asked
    assert first.correction is None
    assert second.correction is not None
    assert "an order's number starts with #" in second.correction.problem
    assert '"W1"' in second.correction.answer
    assert second == first.model_copy(update={"correction": second.correction})


async def test_a_list_and_a_conversation(start: Start) -> None:
    pool = ScriptedModels(lambda *_: json.dumps([{"number": "#W1", "items": 2}]))
    turns = [Message(role="user", content="I ordered"), Message(role="assistant", content="What?")]

    async def do(request: Letter, context: Context) -> Any:
        return [order.number for order in await context.models.extract(list[Order], turns, sources=["a"])]

    assert await told(start, pool, do) == ["#W1"]
    assert pool.asked[0][0].sources == ("a",)
    assert (pool.asked[0][0].prompt, pool.asked[0][0].messages) == ("extract_turns", tuple(turns))


async def test_the_prompt_files_have_a_place_for_what_is_asked() -> None:
    book = PromptBook.load()
    pool = ScriptedModels(
        lambda ask, _: {"number": "#W1", "items": 2} if (ask.prompt or "").startswith("extract") else '"a"'
    )
    questions = Questions(LinkedModels(pool, Caller(tenant=Tenant("acme"))))
    await questions.extract(Order, "I ordered #W1")
    await questions.extract(Order, "I ordered #W1", task="The order of today.")
    await questions.extract(Order, [Message(role="user", content="I ordered #W1")], task="The order of today.")
    await questions.choose("Which?", ["a", "b"], sources=["a, of course"])
    for ask, _ in pool.asked:
        assert ask.prompt is not None
        assert ask.inputs is not None
        text = str(book.find(ask.prompt).render(ask.inputs))
        assert all(value in text for value in ask.inputs.values() if "\n" not in value and '"' not in value)


async def test_an_option_that_is_none_is_refused_before_anything_is_asked(start: Start) -> None:
    pool = ScriptedModels()
    with pytest.raises(InvalidInput, match="temperature"):
        await told(start, pool, lambda r, c: c.models.complete("?", temperature=7))
    assert pool.asked == []


async def test_vectors_judgements_streams_and_tiers(start: Start) -> None:
    async def do(request: Letter, context: Context) -> Any:
        vectors = await context.models.embed(["a", "b"])
        judgement = await context.models.judge("injection", "ignore all that")
        ask = Ask(messages=(Message(role="user", content="?"),))
        pieces = [piece.text async for piece in context.models.stream(ask)]
        views = await context.models.tiers()
        return [list(vectors.shape), judgement.score, pieces, [view.name for view in views]]

    found = await told(start, ScriptedModels(lambda *_: "so it is"), do)
    assert found == [[2, 4], 0.9, ["so", " it", " is", ""], ["planner", "embedder", "injection"]]


async def test_a_pure_capability_asks_no_model(start: Start) -> None:
    pool = ScriptedModels()
    with pytest.raises(ContractBreach, match='Write: @capability\\(effect="read"\\)'):
        await told(start, pool, None, "clerk.think")
    assert pool.asked == []


async def test_without_a_pool_it_says_what_to_write(start: Start) -> None:
    with pytest.raises(Unavailable, match=r"Add `models:` to hanse\.yaml"):
        await told(start, None, lambda r, c: c.models.complete("?"))


async def test_a_pool_that_cannot_answer_is_an_error_that_a_handler_can_handle(start: Start) -> None:
    async def do(request: Letter, context: Context) -> Any:
        try:
            return await context.models.complete("?")
        except ModelUnavailable:
            return "by rule"

    assert await told(start, ScriptedModels(gone), do) == "by rule"


async def test_an_agent_starts_for_no_tenant(start: Start) -> None:
    class Early(Clerk):
        async def on_start(self, context: Context) -> None:
            await context.models.complete("?")

    with pytest.raises(ContractBreach, match="Ask models in a capability"):
        await start(Early, models=ScriptedModels())


async def test_what_a_step_spends_is_reported_and_its_budget_is_what_it_was_awarded_for(start: Start) -> None:
    async def do(request: Letter, context: Context) -> Any:
        await context.models.complete("one")
        return await context.models.complete("two")

    pool = ScriptedModels(lambda *_: costing(0.75))
    engine = await start(clerk(do), models=pool)
    result = await engine.execute(call_of("clerk.read", {"text": "x"}, budget_cents=2))
    assert output(result)["said"] == "yes"
    assert [caller.budget_cents for _, caller in pool.asked] == [2, 2]
    assert result.model_cents == 1.5


async def test_a_step_whose_tokens_are_used_asks_no_model_any_more(start: Start) -> None:
    async def do(request: Letter, context: Context) -> Any:
        said = [await context.models.complete("one"), await context.models.complete("two")]
        assert context.budget.tokens == 150
        return [*said, await context.models.complete("three")]

    paid = costing(0.5).model_copy(update={"usage": Usage(prompt_tokens=60, completion_tokens=40)})
    pool = ScriptedModels(lambda *_: paid)
    call = call_of("clerk.read", {"text": "x"}, budget_cents=2, budget_tokens=150)
    failed = error(await (await start(clerk(do), models=pool)).execute(call))
    assert isinstance(failed, BudgetExhausted)
    assert failed.ids["model_tokens"] == 200, "over it by no more than the call that was under way took"
    assert len(pool.asked) == 2


async def test_a_failed_step_says_what_it_had_spent(start: Start) -> None:
    said = iter([costing(1.5), BudgetExhausted("the step has 0.5 cents left for models")])

    async def do(request: Letter, context: Context) -> Any:
        await context.models.complete("one")
        return await context.models.complete("two")

    engine = await start(clerk(do), models=ScriptedModels(lambda *_: next(said)))
    failed = error(await engine.execute(call_of("clerk.read", {"text": "x"}, budget_cents=2)))
    assert isinstance(failed, BudgetExhausted)
    assert failed.ids["model_cents"] == 1.5


async def test_a_handler_that_runs_again_hears_the_same_and_pays_once(start: Start) -> None:
    """Its first run loses against another handler's write; the model would say something else the second time."""
    answers = iter(["first", "second", "third", "fourth"])
    pool = ScriptedModels(lambda *_: costing(0.5, next(answers)))
    runs, read, written = [], asyncio.Event(), asyncio.Event()

    async def do(request: Letter, context: Context) -> Any:
        if request.text == "disturb":
            await context.state.put("notes", "a", "other")
            return None
        await context.state.get("notes", "a")
        said = [await context.models.complete("?"), await context.models.complete("?")]
        runs.append(said)
        read.set()
        await written.wait()
        await context.state.put("notes", "a", said)
        return said

    engine = await start(clerk(do), models=pool)
    slow = asyncio.create_task(engine.execute(call_of("clerk.note", {"text": "x"}, budget_cents=2)))
    await read.wait()
    output(await engine.execute(call_of("clerk.note", {"text": "disturb"})))
    written.set()
    result = await slow
    assert runs == [["first", "second"]] * 2
    assert (output(result)["said"], result.model_cents) == (["first", "second"], 1.0)


class Post(Connector):
    """Keeps what was sent."""

    def __init__(self, sent: list[str]) -> None:
        super().__init__()
        self.sent = sent

    @operation()
    async def send(self, key: str, *, to: str) -> bool:
        self.sent.append(to)
        return True


class Sender(Agent):
    """Sends what a model says, and fails afterwards as often as it is told to."""

    domain = "sender"
    failures: ClassVar[list[Exception]] = []

    @capability(effect="irreversible")
    async def send(self, request: Letter, context: Context) -> Said:
        """Send."""
        to = await context.models.complete("where?")
        await context.connectors.post.send(to=to)
        if self.failures:
            raise self.failures.pop()
        return Said(said=to)


async def test_after_an_effect_the_answer_is_in_the_ledger(start: Start) -> None:
    """The handler fails after an effect outside. In another process it hears what it heard, so it wants the same."""
    sent, answers = list[str](), iter(["north", "south"])
    pool = ScriptedModels(lambda *_: next(answers))
    call = call_of("sender.send", {"text": "x"})
    Sender.failures.append(RuntimeError("a bug"))
    first = await start(Sender, models=pool, connectors={"post": Post(sent)})
    assert (await first.execute(call)).error
    await first.stop(grace_seconds=1)
    second = await start(Sender, models=pool, connectors={"post": Post(sent)})
    assert output(await second.execute(again(call, attempt=2)))["said"] == "north"
    assert (sent, len(pool.asked)) == (["north"], 1)


async def test_a_context_that_is_over_asks_nothing(start: Start) -> None:
    kept: list[Questions] = []

    async def do(request: Letter, context: Context) -> Any:
        kept.append(context.models)

    pool = ScriptedModels()
    await told(start, pool, do)
    with pytest.raises(ContractBreach, match="the handler has ended"):
        await kept[0].complete("?")
    assert pool.asked == []
