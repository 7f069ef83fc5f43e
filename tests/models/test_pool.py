"""A call from its ask to its answer, and what it leaves behind."""

import asyncio
import json

import pytest

from hanse.contracts import (
    BudgetExhausted,
    DeadlineExceeded,
    InvalidConfiguration,
    InvalidInput,
    Kind,
    ModelUnavailable,
    NotAllowed,
    NotFound,
    Overloaded,
    PersonNeeded,
    StepId,
    TaskId,
    TooLarge,
)
from hanse.contracts.pool import Answer, Ask, Cached, Message, Piece, Purpose, TierState
from hanse.models.backend import Condition
from hanse.models.jury import Jury
from hanse.models.learned import learned
from hanse.models.policy import KNOWN, Policy
from hanse.models.pool import Pool
from hanse.models.tier import Kind as TierKind

from ..support.models import (
    SHOP,
    Gate,
    NamedTier,
    Says,
    ScriptedBackend,
    WordEmbedder,
    World,
    ask,
    caller,
    running,
    tier,
)

SMALL, LARGE = tier("small", 0, 0.1), tier("large", 1, 1.0)
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def extract(text: str = "how many?", **more: object) -> Ask:
    return ask(text, answer=NUMBER, purpose=Purpose.EXTRACT, **more)


async def test_an_answer_says_who_gave_it_and_what_it_took(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("fine")})) as pool:
        answer = await pool.ask(ask("hello"), caller())
    assert (answer.text, answer.tier, answer.cached) == ("fine", "small", Cached.NO)
    assert answer.model == ScriptedBackend().digest
    assert answer.usage.prompt_tokens == 2
    assert answer.usage.completion_tokens == 2
    assert answer.usage.cents == pytest.approx(4 * 0.1 / 1000)


async def test_bad_json_is_repaired_with_the_precise_error(world: World):
    small = ScriptedBackend('{"n": "five"}', '{"n": 5}')
    async with running(world.pool({SMALL: small})) as pool:
        answer = await pool.ask(extract(), caller())
    assert answer.data == {"n": 5}
    assert [each.outcome for each in answer.attempts] == ["rejected", "accepted"]
    *before, said, problem = small.asked[1].messages
    assert before == list(small.asked[0].messages)
    assert (said.role, said.content) == ("assistant", '{"n": "five"}')
    assert '/n: "five" is not of type "integer"' in (problem.content or "")


async def test_what_cannot_be_repaired_climbs_and_the_next_tier_sees_the_ask_as_it_came(world: World):
    small, large = ScriptedBackend("no", "still no"), ScriptedBackend('{"n": 5}')
    async with running(world.pool({SMALL: small, LARGE: large})) as pool:
        answer = await pool.ask(extract(tier="small"), caller())
    assert (answer.tier, answer.data) == ("large", {"n": 5})
    assert [(each.tier, each.outcome) for each in answer.attempts] == [
        ("small", "rejected"),
        ("small", "rejected"),
        ("large", "accepted"),
    ]
    assert large.asked[0].messages == small.asked[0].messages
    assert answer.usage.cents == pytest.approx(sum(each.usage.cents for each in answer.attempts))


async def test_the_same_wrong_words_again_are_not_asked_for_a_third_time(world: World):
    small, large = ScriptedBackend("no"), ScriptedBackend('{"n": 5}')
    async with running(world.pool({SMALL: small, LARGE: large}, Policy(repairs=5))) as pool:
        await pool.ask(extract(tier="small"), caller())
    assert len(small.asked) == 2


async def test_when_no_tier_will_do_a_person_is_needed_and_can_read_what_was_proposed(world: World):
    pool = world.pool({SMALL: ScriptedBackend("no"), LARGE: ScriptedBackend("nor this")}, Policy(repairs=0))
    async with running(pool):
        with pytest.raises(PersonNeeded) as raised:
            await pool.ask(extract(tier="small"), caller())
        ids = raised.value.ids
        assert [await pool.text(SHOP, each) for each in ids["proposals"]] == ["no", "nor this"]
        (view,) = await pool.calls(SHOP)
    assert (view.id, view.outcome) == (ids["call"], "person_needed")
    assert "the answer is no JSON" in view.attempts[0].reason


async def test_only_means_no_other_tier(world: World):
    large = ScriptedBackend('{"n": 5}')
    async with running(world.pool({SMALL: ScriptedBackend("no"), LARGE: large})) as pool:
        with pytest.raises(PersonNeeded):
            await pool.ask(extract(tier="small", only=True), caller())
    assert not large.asked


async def test_a_threshold_of_no_validator_is_refused_and_that_of_one_that_is_not_installed_is_not(world: World):
    with pytest.raises(InvalidConfiguration, match="the policy names offtopic as validators"):
        world.pool({SMALL: ScriptedBackend()}, Policy(thresholds={"offtopic": 0.7}))
    world.pool({SMALL: ScriptedBackend()}, Policy(thresholds={"injection": 0.7}))


def test_the_known_validators_are_those_that_a_jury_has():
    assert set(Jury(learned(WordEmbedder()), Policy()).names) == KNOWN


async def test_a_tier_that_is_away_is_passed_over_and_costs_nothing(world: World):
    small, large = ScriptedBackend("fine"), ScriptedBackend("from above")
    small.state = TierState.WARMING
    async with running(world.pool({SMALL: small, LARGE: large})) as pool:
        answer = await pool.ask(ask(tier="small"), caller())
        assert answer.tier == "large"
        small.state, large.state = TierState.READY, TierState.BROKEN
        assert (await pool.ask(ask(tier="large"), caller())).tier == "small", "down, when there is none above"
    assert answer.attempts[0].usage.cents == 0
    assert "start it" in answer.attempts[0].reason


async def test_with_no_tier_there_the_error_says_what_to_do(world: World):
    small = ScriptedBackend()
    small.state = TierState.ABSENT
    async with running(world.pool({SMALL: small})) as pool:
        with pytest.raises(ModelUnavailable, match="start it"):
            await pool.ask(ask(), caller())


async def test_a_pool_that_is_not_running_says_so(world: World):
    pool = world.pool({SMALL: ScriptedBackend()})
    with pytest.raises(ModelUnavailable, match="not started"):
        await pool.ask(ask(), caller())
    async with running(pool):
        pass
    with pytest.raises(ModelUnavailable, match="stopping"):
        await pool.ask(ask(), caller())


async def test_everything_a_call_did_is_in_the_journal(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("no", '{"n": 5}')})) as pool:
        asked = caller(task=TaskId("t1"), step=StepId("s1"), agent="clerk", capability="bills.read")
        answer = await pool.ask(extract(sources=("it is 5",)), asked)
        (event,) = world.events(Kind.MODEL_CALLED)
        prompt = json.loads(await pool.text(SHOP, event.data["prompt"]))
        assert await pool.text(SHOP, event.data["answer"]) == '{"n": 5}'
    assert (event.task, event.step) == ("t1", "s1")
    said = event.data
    assert said["call"] == answer.id
    assert (said["tenant"], said["by"], said["agent"], said["capability"]) == ("shop", "ana", "clerk", "bills.read")
    assert (said["tier"], said["model"], said["outcome"]) == ("small", str(answer.model), "accepted")
    assert said["scores"]["numbers"] == 0
    assert said["microcents"] == round(answer.usage.cents * 1_000_000)
    assert [each["outcome"] for each in said["attempts"]] == ["rejected", "accepted"]
    assert prompt["messages"] == [{"role": "user", "content": "how many?"}]
    kinds = [each.kind for each in world.events()]
    assert kinds == [Kind.MODEL_RESERVED, Kind.MODEL_SETTLED] * 2 + [Kind.MODEL_CALLED]


async def test_the_words_of_a_prompt_are_kept_once(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("fine")})) as pool:
        for _ in range(3):
            await pool.ask(ask("the same"), caller())
        views = await pool.calls(SHOP)
    assert len({view.prompt for view in views}) == 1
    assert len(views) == 3


async def test_calls_and_words_of_another_tenant_are_not_there(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("secret")})) as pool:
        await pool.ask(ask("mine"), caller("shop"))
        (view,) = await pool.calls(SHOP)
        assert await pool.calls(caller("rival").tenant) == []
        with pytest.raises(NotFound):
            await pool.text(caller("rival").tenant, view.prompt)


async def test_calls_are_listed_newest_first_page_by_page(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("fine")})) as pool:
        ids = []
        for number in range(5):
            world.clock.pass_seconds(1)
            ids.append((await pool.ask(ask(f"{number}"), caller())).id)
        first = await pool.calls(SHOP, 3)
        rest = await pool.calls(SHOP, 3, before=first[-1].id)
    assert [view.id for view in [*first, *rest]] == ids[::-1]


async def test_usage_is_counted_by_day_task_and_tier(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("no", '{"n": 5}')})) as pool:
        answer = await pool.ask(extract(), caller(task=TaskId("t1")))
        (row,) = await pool.usage(SHOP)
        assert (row.tier, row.calls, row.attempts, row.task) == ("small", 1, 2, "")
        assert row.cents == pytest.approx(answer.usage.cents)
        (by_task,) = await pool.usage(SHOP, by_task=True)
        assert by_task.task == "t1"
        world.clock.pass_seconds(86_400)
        assert await pool.usage(SHOP) == []
        assert len(await pool.usage(SHOP, days=2)) == 1


# Policy


async def test_a_learned_score_refuses_only_where_policy_says_from_when(world: World):
    doubtful = Says("offtopic", 0.8)
    large = ScriptedBackend("better")
    backends = {SMALL: ScriptedBackend("well"), LARGE: large}
    async with running(world.pool(backends, Policy(repairs=0), [doubtful])) as pool:
        answer = await pool.ask(ask(tier="small", validators=("offtopic",)), caller())
        assert (answer.tier, answer.scores) == ("small", {"offtopic": 0.8}), "it advised"
    strict = Policy(repairs=0, thresholds={"offtopic": 0.7})
    async with running(world.pool(backends, strict, [doubtful])) as pool:
        with pytest.raises(PersonNeeded):
            await pool.ask(ask(tier="small", validators=("offtopic",)), caller())
    assert large.asked


@pytest.mark.parametrize("said", [float("nan"), 2.0, -0.1, "high", RuntimeError("no"), ModelUnavailable("away")])
async def test_a_validator_without_an_opinion_is_noted_and_refuses_only_where_it_is_required(world: World, said):
    silent = Says("grounded", said)
    async with running(world.pool({SMALL: ScriptedBackend("well")}, validators=[silent])) as pool:
        answer = await pool.ask(ask(validators=("grounded",)), caller())
        assert answer.scores == {}
        assert "no opinion" in answer.attempts[0].reason
        with pytest.raises(ModelUnavailable):
            await pool.judge("grounded", "x", caller())
    strict = Policy(required=frozenset({"grounded"}), repairs=0)
    async with running(world.pool({SMALL: ScriptedBackend("well")}, strict, [silent])) as pool:
        with pytest.raises(PersonNeeded, match="no opinion"):
            await pool.ask(ask(validators=("grounded",)), caller())


@pytest.mark.parametrize("more", [{}, {"validators": ()}, {"validators": ("empty",)}])
async def test_a_required_validator_looks_whatever_the_ask_names(world: World, more):
    strict = Policy(required=frozenset({"grounded"}), thresholds={"grounded": 0.7}, repairs=0)
    async with running(world.pool({SMALL: ScriptedBackend("well")}, strict, [Says("grounded", 0.6)])) as pool:
        assert (await pool.ask(ask(**more), caller())).scores["grounded"] == 0.6
    for refuses in (Says("grounded", 0.9), Says("grounded", ModelUnavailable("away"))):
        async with running(world.pool({SMALL: ScriptedBackend("well")}, strict, [refuses])) as pool:
            with pytest.raises(PersonNeeded, match="grounded"):
                await pool.ask(ask(**more), caller())


@pytest.mark.parametrize(
    "policy", [Policy(required=frozenset({"oracle"})), Policy(validators={Purpose.CHAT: ("empty", "oracle")})]
)
async def test_a_policy_that_names_a_validator_that_is_not_there_is_refused_at_the_start(world: World, policy: Policy):
    with pytest.raises(InvalidConfiguration, match=r"oracle as validators\. There is .*echo, .*grounded"):
        world.pool({SMALL: ScriptedBackend()}, policy, [Says("grounded", 0)])


async def test_work_of_a_capability_never_begins_below_its_floor(world: World):
    small = ScriptedBackend("cheap")
    policy = Policy(floors={"payments.*": "large"})
    async with running(world.pool({SMALL: small, LARGE: ScriptedBackend("dear")}, policy)) as pool:
        for wanted in (None, "small", "large"):
            answer = await pool.ask(ask(tier=wanted), caller(capability="payments.refund"))
            assert answer.tier == "large"
        with pytest.raises(NotAllowed, match="large"):
            await pool.ask(ask(tier="small", only=True), caller(capability="payments.refund"))
        assert not small.asked
        assert (await pool.ask(ask(tier="small"), caller(capability="mail.sort"))).tier == "small"


async def test_a_floor_holds_also_when_its_tier_is_away(world: World):
    large = ScriptedBackend()
    large.state = TierState.BROKEN
    policy = Policy(floors={"payments.*": "large"})
    async with running(world.pool({SMALL: ScriptedBackend(), LARGE: large}, policy)) as pool:
        with pytest.raises(ModelUnavailable):
            await pool.ask(ask(), caller(capability="payments.refund"))


async def test_a_floor_that_is_no_tier_is_found_at_the_start(world: World):
    with pytest.raises(NotFound, match="larger"):
        world.pool({SMALL: ScriptedBackend()}, Policy(floors={"*": "larger"}))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (ask(tier="huge"), NotFound),
        (ask(validators=("oracle",)), NotFound),
        (ask(answer={"type": "nope"}), InvalidInput),
        (ask(answer={"$ref": "http://127.0.0.1:9/x"}), InvalidInput),
        (ask("\ud800"), InvalidInput),
        (ask("x" * 5_000_000), TooLarge),
        (Ask(prompt="extract", inputs={"task": "x"}), InvalidInput),
        (Ask(prompt="divine", inputs={}), NotFound),
    ],
    ids=["tier", "validator", "schema", "remote schema", "unicode", "endless", "inputs", "prompt"],
)
async def test_an_ask_that_nobody_could_answer_is_refused_before_anybody_is_asked(world: World, wrong, error):
    small = ScriptedBackend()
    async with running(world.pool({SMALL: small})) as pool:
        with pytest.raises(error):
            await pool.ask(wrong, caller())
    assert not small.asked


# Time and queues


async def test_after_the_deadline_nobody_is_asked(world: World):
    small = ScriptedBackend()
    async with running(world.pool({SMALL: small})) as pool:
        with pytest.raises(DeadlineExceeded):
            await pool.ask(ask(), caller(deadline_ms=world.clock.at_ms))
    assert not small.asked


async def test_a_full_queue_refuses_and_says_when_to_come_again(world: World):
    gate = Gate()
    narrow = tier("small", concurrency=1, queue=1)
    async with running(world.pool({narrow: ScriptedBackend(gate)})) as pool:
        waiting = [asyncio.create_task(pool.ask(ask(), caller())) for _ in range(2)]
        await gate.entered.wait()
        with pytest.raises(Overloaded) as raised:
            await pool.ask(ask(), caller())
        assert raised.value.retry_after_seconds > 0
        (view,) = await pool.tiers()
        assert (view.queued, view.in_flight) == (1, 1)
        gate.open.set()
        assert [answer.text for answer in await asyncio.gather(*waiting)] == ["fine", "fine"]


async def standing(pool: Pool) -> tuple[int, int]:
    """Calls in the first tier, and before it."""
    view = (await pool.tiers())[0]
    return view.in_flight, view.queued


async def test_a_tier_takes_as_many_calls_for_each_replica_that_answers(world: World):
    gate = Gate()
    small = ScriptedBackend(gate)
    small.scale(2)
    async with running(world.pool({tier("small", concurrency=2): small})) as pool:
        calls = [asyncio.create_task(pool.ask(ask(str(number)), caller())) for number in range(9)]
        await gate.holds(4)
        assert await standing(pool) == (4, 5)
        small.scale(4)
        await gate.holds(8)
        small.scale(0)
        assert await standing(pool) == (8, 1), "what is under way goes on"
        gate.open.set()
        assert len(await asyncio.gather(*calls)) == 9


async def test_work_is_not_pushed_on_to_a_dearer_tier_because_a_cheap_one_is_full(world: World):
    gate, large = Gate(), ScriptedBackend()
    narrow = tier("small", concurrency=1, queue=0)
    async with running(world.pool({narrow: ScriptedBackend(gate), LARGE: large})) as pool:
        first = asyncio.create_task(pool.ask(ask(tier="small"), caller()))
        await gate.entered.wait()
        with pytest.raises(Overloaded):
            await pool.ask(ask(tier="small"), caller())
        gate.open.set()
        await first
    assert not large.asked


async def test_stopping_refuses_those_who_wait(world: World):
    gate = Gate()
    narrow = tier("small", concurrency=1)
    pool = world.pool({narrow: ScriptedBackend(gate)})
    await pool.start()
    first, second = (asyncio.create_task(pool.ask(ask(), caller())) for _ in range(2))
    await gate.entered.wait()
    assert (await pool.tiers())[0].queued == 1
    await pool.stop()
    with pytest.raises(ModelUnavailable, match="stopping"):
        await second
    gate.open.set()
    assert (await first).text == "fine"


# Streams


async def collect(pool: Pool, asked: Ask, into: list[Piece]) -> None:
    async for piece in pool.stream(asked, caller()):
        into.append(piece)  # noqa: PERF401 (what came before an error counts)


async def pieces_of(pool: Pool, asked: Ask) -> list[Piece]:
    return [piece async for piece in pool.stream(asked, caller())]


async def test_a_stream_gives_its_pieces_and_last_the_whole(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("one two three four")})) as pool:
        pieces = await pieces_of(pool, ask())
        (view,) = await pool.calls(SHOP)
    assert "".join(piece.text for piece in pieces) == "one two three four"
    assert len(pieces) > 3
    last = pieces[-1].answer
    assert isinstance(last, Answer)
    assert last.text == "one two three four"
    assert view.id == last.id


async def test_a_stream_with_a_schema_is_judged_before_it_leaves(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("no", '{"n": 5}')})) as pool:
        pieces = await pieces_of(pool, extract())
    assert [piece.text for piece in pieces] == ['{"n": 5}']


async def test_a_stream_that_turns_out_bad_says_so_at_its_end(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("I am sorry, I\u202e cannot")})) as pool:
        pieces = await pieces_of(pool, ask())
        (view,) = await pool.calls(SHOP)
    last = pieces[-1].answer
    assert last is not None
    assert last.finish_reason == "content_filter"
    assert view.outcome == "rejected"


async def test_another_tier_takes_over_a_stream_that_has_not_begun(world: World):
    small = ScriptedBackend(ModelUnavailable("died"))
    async with running(world.pool({SMALL: small, LARGE: ScriptedBackend("from above")})) as pool:
        pieces = await pieces_of(pool, ask(tier="small"))
    last = pieces[-1].answer
    assert last is not None
    assert (last.text, [each.outcome for each in last.attempts]) == ("from above", ["failed", "accepted"])


async def test_an_engine_that_dies_in_the_middle_of_a_stream_is_an_error_and_paid_for(world: World):
    small = ScriptedBackend("one two three four")
    small.dies_after = 2
    seen: list[Piece] = []
    async with running(world.pool({SMALL: small, LARGE: ScriptedBackend()})) as pool:
        with pytest.raises(ModelUnavailable, match="died"):
            await collect(pool, ask(tier="small", max_tokens=100), seen)
        (row,) = await pool.usage(SHOP)
        (view,) = await pool.calls(SHOP)
    assert len(seen) == 2
    assert row.cents == pytest.approx((2 + 100) * 0.1 / 1000)
    assert view.outcome == "model_unavailable"


async def test_who_goes_away_from_a_stream_gives_the_place_back(world: World):
    narrow = tier("small", concurrency=1, queue=0)
    async with running(world.pool({narrow: ScriptedBackend("one two three four")})) as pool:
        stream = pool.stream(ask(), caller())
        await anext(stream)
        await stream.aclose()
        assert (await pool.ask(ask(), caller())).text == "one two three four"


# Caches, prompts and the rest at the door


async def test_a_pure_ask_is_answered_once(world: World):
    small = ScriptedBackend("first", "second")
    async with running(world.pool({SMALL: small})) as pool:
        first = await pool.ask(ask(pure=True), caller())
        again = await pool.ask(ask(pure=True), caller())
        impure = await pool.ask(ask(), caller())
        (row, kept) = sorted(await pool.usage(SHOP), key=lambda row: row.tier, reverse=True)
    assert (again.text, again.cached, again.usage.cents) == ("first", Cached.EXACT, 0)
    assert again.id != first.id
    assert impure.text == "second"
    assert (row.calls, kept.tier, kept.calls) == (2, "", 1)
    assert [event.data["cached"] for event in world.events(Kind.MODEL_CALLED)] == ["no", "exact", "no"]


async def test_what_was_kept_can_be_seen_and_purged(world: World):
    small = ScriptedBackend("first", "second")
    async with running(world.pool({SMALL: small}, embedder=WordEmbedder())) as pool:
        for _ in range(2):
            await pool.ask(ask(pure=True), caller())
        (view,) = await pool.caches()
        assert (view.tenant, view.exact, view.semantic, view.exact_hits, view.misses) == (SHOP, 1, 1, 1, 1)
        assert view.bytes > 0
        assert await pool.purge(caller("rival").tenant, "ana") == 0
        assert await pool.purge(SHOP, "ana") == 2
        assert (await pool.ask(ask(pure=True), caller())).text == "second"
    assert [event.data["entries"] for event in world.events(Kind.MODEL_PURGED)] == [0, 2]


async def test_a_prompt_file_makes_the_messages(world: World):
    small = ScriptedBackend('"billing"')
    inputs = {"question": "Which queue?", "choices": "- billing", "sources": ""}
    choices = {"enum": ["billing", "delivery"]}
    async with running(world.pool({SMALL: small})) as pool:
        answer = await pool.ask(Ask(prompt="choose", inputs=inputs, answer=choices, purpose=Purpose.CHOOSE), caller())
        (view,) = await pool.calls(SHOP)
    assert answer.data == "billing"
    assert view.template == "choose@1"
    assert [each.role for each in small.asked[0].messages] == ["system", "user"]


async def test_embedding_is_metered_and_capped(world: World):
    embedder = WordEmbedder()
    async with running(world.pool({SMALL: ScriptedBackend()}, embedder=embedder)) as pool:
        vectors = await pool.embed(["a b", "c"], caller())
        assert vectors.shape == (2, 64)
        await world.journal.durable()
        (row,) = await pool.usage(SHOP)
        assert (row.tier, row.attempts) == ("embedder", 1)
        with pytest.raises(TooLarge):
            await pool.embed(["x"] * 5000, caller())
    async with running(world.pool({SMALL: ScriptedBackend()})) as pool:
        with pytest.raises(ModelUnavailable, match="embed"):
            await pool.embed(["a"], caller())


async def test_the_first_tier_that_can_embed_does_and_is_paid_whatever_its_rank(world: World):
    first, second = (
        NamedTier(name, TierKind.EMBED, name, rank=rank, cents_per_1k_prompt=cents)
        for name, rank, cents in [("first", 2, 9), ("second", 1, 5)]
    )
    tiers, ready = {first: ScriptedBackend(), second: ScriptedBackend()}, lambda: Condition(TierState.READY)
    conditions, embedder = {"first": ready, "second": ready}, WordEmbedder()
    async with running(world.pool(tiers, embedder=embedder, conditions=conditions)) as pool:
        await pool.embed(["a b"], caller())
        await world.journal.durable()
        (row,) = await pool.usage(SHOP)
        assert (row.tier, row.cents) == ("first", pytest.approx(row.prompt_tokens * 9 / 1000))
        views = [(view.name, view.instead, view.digest) for view in await pool.tiers()]
    assert views == [("second", "first", ""), ("first", "", embedder.digest)]


async def test_validators_can_be_asked_by_name(world: World):
    async with running(world.pool({SMALL: ScriptedBackend()}, validators=[Says("injection", 0.25)])) as pool:
        assert (await pool.judge("injection", "x", caller())).score == 0.25
        assert (await pool.judge("numbers", "It is 6.", caller(), ["It is 5."])).score == 1
        with pytest.raises(NotFound, match="injection"):
            await pool.judge("oracle", "x", caller())


async def test_a_judgement_is_counted_and_written_down(world: World):
    validators = [Says("injection", 0.25), Says("grounded", ModelUnavailable("away"))]
    async with running(world.pool({SMALL: ScriptedBackend()}, validators=validators)) as pool:
        await pool.judge("injection", "six letters", caller(task="t1"), ["source"])
        world.clock.pass_seconds(1)
        with pytest.raises(ModelUnavailable):
            await pool.judge("grounded", "x", caller())
        with pytest.raises(NotFound):
            await pool.judge("oracle", "x", caller())
        silent, said = await pool.calls(SHOP)
        assert json.loads(await pool.text(SHOP, said.prompt)) == {"text": "six letters", "sources": ["source"]}
        usage = {row.tier: (row.task, row.calls, row.prompt_tokens) for row in await pool.usage(SHOP, by_task=True)}
    assert (said.purpose, said.tier, said.outcome, said.scores) == (
        "judge",
        "injection",
        "accepted",
        {"injection": 0.25},
    )
    assert (said.task, said.usage.prompt_tokens) == ("t1", 5 + 4)
    assert (silent.tier, silent.outcome, silent.scores) == ("grounded", "model_unavailable", {})
    assert usage == {"injection": ("t1", 1, 9), "grounded": ("", 1, 2)}


async def test_a_tenant_that_asks_with_ever_other_schemas_holds_up_nobody_else(world: World):
    def shaped(number: int, pure: bool = False) -> Ask:
        return ask(answer={"type": "object", "title": str(number)}, pure=pure)

    async with running(world.pool({SMALL: ScriptedBackend('{"total": 5}')})) as pool:
        for number in range(256):
            await pool.ask(shaped(number, pure=number == 0), caller("greedy"))
        world.clock.pass_seconds(1)
        tools = [{"name": "t", "parameters": {"type": "object", "title": "another"}}]
        for wrong in (shaped(256), ask(tools=tools)):
            with pytest.raises(Overloaded, match="256 different schemas"):
                await pool.ask(wrong, caller("greedy"))
        (last, *_) = await pool.calls(caller("greedy").tenant)
        assert last.outcome == "overloaded"
        assert (await pool.ask(shaped(256), caller("modest"))).data == {"total": 5}
        assert (await pool.ask(shaped(0, pure=True), caller("greedy"))).cached is Cached.EXACT


async def test_half_of_a_surrogate_pair_is_not_judged(world: World):
    async with running(world.pool({SMALL: ScriptedBackend()})) as pool:
        with pytest.raises(InvalidInput, match="surrogate"):
            await pool.judge("numbers", "\ud800", caller())


async def test_a_conversation_that_is_too_long_is_shortened_only_with_leave(world: World):
    narrow = tier("small", context_window=300)
    small = ScriptedBackend("fine")
    turns = tuple(Message(role="user", content=f"Turn {n}. " + "Words and words. " * 8) for n in range(20))
    async with running(world.pool({narrow: small})) as pool:
        with pytest.raises(InvalidInput, match="300"):
            await pool.ask(Ask(messages=turns, max_tokens=50), caller())
        await pool.ask(Ask(messages=turns, max_tokens=50, shorten=True), caller())
        *_, event = world.events(Kind.MODEL_CALLED)
    assert small.asked[0].messages[-1] == turns[-1]
    assert event.data["shortened"] > 0


async def test_money_ends_before_the_call_that_would_cost_too_much(world: World):
    policy = Policy(tenant_day_cents=0.12)
    words = " ".join(f"word{number}" for number in range(60))
    async with running(world.pool({LARGE: ScriptedBackend(words)}, policy)) as pool:
        await pool.ask(ask(max_tokens=100), caller())
        with pytest.raises(BudgetExhausted, match="day"):
            await pool.ask(ask(max_tokens=100), caller())
        assert (await pool.ask(ask(max_tokens=10), caller("rival"))).text
