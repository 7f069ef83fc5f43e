"""The caches: the same words or the same meaning, and never across tenants, models, prompts, schemas or rules."""

import asyncio
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanse.contracts import Tenant
from hanse.contracts.pool import Answer, Ask, Cached, Message
from hanse.models.cache import Shelf
from hanse.models.policy import Policy
from hanse.models.semantic import SemanticCache, facts_of

from ..support.models import HandClock, ScriptedBackend, WordEmbedder, World, ask, caller, running, tier

SMALL, LARGE = tier("small", 0, 0.1), tier("large", 1, 1.0)


class Counting(ScriptedBackend):
    """Never says the same twice."""

    def __init__(self, weights: str = "v1") -> None:
        super().__init__(weights=weights)
        self.script = [f"answer {number}" for number in range(200)]


def pure(text: str = "how are you", **more: Any) -> Ask:
    return ask(text, pure=True, **more)


def turns(*texts: str) -> Ask:
    return Ask(messages=tuple(Message(role="user", content=text) for text in texts), pure=True)


DIFFERENT: dict[str, tuple[Ask, dict[str, Any]]] = {
    "another tenant": (pure(), {"tenant": "rival"}),
    "other labels": (pure(), {"labels": ("private",)}),
    "other words": (pure("how is she"), {}),
    "a schema": (pure(answer={"type": "string"}, validators=()), {}),
    "more tokens": (pure(max_tokens=7), {}),
    "a temperature": (pure(temperature=0.5), {}),
    "a seed": (pure(seed=5), {}),
    "a stop word": (pure(stop=("x",)), {}),
    "other sources": (pure(sources=("it is so",)), {}),
    "other validators": (pure(validators=("empty",)), {}),
    "a prompt's version": (pure(prompt="greet@2"), {}),
    "one tier only": (pure(tier="small", only=True), {}),
    "a turn before": (turns("well", "how are you"), {}),
}


@pytest.mark.parametrize(("other", "who"), DIFFERENT.values(), ids=DIFFERENT)
async def test_what_differs_in_anything_that_counts_is_asked_anew(world: World, other: Ask, who: dict[str, Any]):
    backends = {SMALL: Counting(), LARGE: Counting()}
    backends[SMALL].script = backends[LARGE].script = ['"well"', '"good"']
    async with running(world.pool(backends, embedder=WordEmbedder())) as pool:
        first = await pool.ask(pure(), caller())
        again = await pool.ask(other, caller(**who))
        assert again.cached is Cached.NO
        assert (await pool.ask(pure(), caller())).cached is Cached.EXACT
        assert (await pool.ask(pure(), caller())).text == first.text


@pytest.mark.parametrize("change", ["model", "model above", "policy", "floor"])
async def test_what_changes_behind_the_words_is_asked_anew(world: World, change: str):
    """The same cache would answer, were its key not made of these."""
    small, large = Counting(), Counting()
    async with running(world.pool({SMALL: small, LARGE: large}, embedder=WordEmbedder())) as pool:
        who = caller(capability="a.b")
        await pool.ask(pure(), who)
        if change == "model":
            small.weights = "v2"
        elif change == "model above":
            large.weights = "v2"
        else:
            policy = Policy(floors={"a.*": "large"}) if change == "floor" else Policy(thresholds={"empty": 0.9})
            caches, pool._caches._policy = pool._caches, policy
            pool._policy, pool._courses._policy, pool._caches = policy, policy, caches
        assert (await pool.ask(pure(), who)).cached is Cached.NO


async def test_an_ask_that_is_not_pure_neither_takes_nor_gives(world: World):
    async with running(world.pool({SMALL: Counting()}, embedder=WordEmbedder())) as pool:
        assert (await pool.ask(ask("how are you"), caller())).text == "answer 0"
        assert (await pool.ask(pure(), caller())).text == "answer 1"
        assert (await pool.ask(ask("how are you"), caller())).text == "answer 2"
        assert (await pool.ask(pure(), caller())).text == "answer 1"


async def test_what_was_not_accepted_is_not_kept(world: World):
    async with running(world.pool({SMALL: ScriptedBackend("", "fine")}, Policy(repairs=0))) as pool:
        with pytest.raises(Exception, match="person"):
            await pool.ask(pure(), caller())
        assert (await pool.ask(pure(), caller())).text == "fine"


async def test_other_words_of_the_same_meaning(world: World):
    async with running(world.pool({SMALL: Counting()}, embedder=WordEmbedder())) as pool:
        first = await pool.ask(pure("where is my parcel please"), caller())
        again = await pool.ask(pure("please where is my parcel"), caller())
        assert (again.text, again.cached) == (first.text, Cached.SEMANTIC)
        assert (await pool.ask(pure("who is the king"), caller())).cached is Cached.NO
        (view,) = await pool.caches()
        assert (view.exact, view.semantic, view.semantic_hits, view.misses) == (2, 2, 1, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("refund order 17 now", "refund order 18 now"),
        ("this may be sent", "this may not be sent"),
        ("move it from Bonn to Kiel", "move it from Kiel to Bonn"),
        ("mail it to Ana Lopez", "mail it to Bob Stone"),
        ("say 'yes' to them", "say 'no' to them"),
        ("orders before May", "orders after May"),
        ("the first five", "the last five"),
        ("pay in EUR", "pay in USD"),
    ],
)
def test_what_vectors_are_blind_to_is_told_apart(one: str, other: str):
    assert facts_of(one) != facts_of(other)


def test_wording_is_no_fact():
    assert facts_of("where is order 17, please") == facts_of("please: where is order 17")


async def test_the_nearest_is_not_enough_when_its_facts_differ(world: World):
    words = "please tell me what became of the parcel with the number"
    async with running(
        world.pool({SMALL: Counting()}, Policy(semantic_threshold=0.8), embedder=WordEmbedder())
    ) as pool:
        await pool.ask(pure(f"{words} 17"), caller())
        assert (await pool.ask(pure(f"{words} 18"), caller())).cached is Cached.NO
        assert (await pool.ask(pure(f"please please {words} 17"), caller())).cached is Cached.SEMANTIC


async def test_with_no_embedder_or_no_threshold_only_the_same_words_count(world: World):
    for embedder, policy in ((None, Policy()), (WordEmbedder(), Policy(semantic_threshold=None))):
        async with running(world.pool({SMALL: Counting()}, policy, embedder=embedder)) as pool:
            await pool.ask(pure("where is it"), caller())
            assert (await pool.ask(pure("it is where"), caller())).cached is Cached.NO
            assert (await pool.ask(pure("where is it"), caller())).cached is Cached.EXACT


async def test_an_answer_is_not_kept_for_ever(world: World):
    async with running(world.pool({SMALL: Counting()}, Policy(cache_seconds=60), embedder=WordEmbedder())) as pool:
        await pool.ask(pure(), caller())
        world.clock.pass_seconds(61)
        assert (await pool.ask(pure(), caller())).cached is Cached.NO


# The shelf


def answer(text: str) -> Answer:
    return Answer(id="x", text=text)


def shelf(entries: int = 100, bytes: int = 1_000_000) -> Shelf:
    return Shelf(HandClock(), entries, bytes, 3600)


def test_the_one_used_longest_ago_goes_first():
    kept = shelf(entries=2)
    for key in "ab":
        kept.put(Tenant("t"), key, answer(key))
    kept.get(Tenant("t"), "a")
    kept.put(Tenant("t"), "c", answer("c"))
    assert [kept.get(Tenant("t"), key) is not None for key in "abc"] == [True, False, True]


def test_what_is_too_large_is_not_kept():
    assert not shelf(bytes=10_000).put(Tenant("t"), "a", answer("x" * 1_000))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "purge"]), st.sampled_from("abc"), st.integers(0, 8)), max_size=120
    )
)
def test_whatever_is_asked_in_whatever_order_nothing_crosses_tenants_and_nothing_is_lost_count_of(moves):
    kept = shelf(entries=5, bytes=4_000)
    cache = SemanticCache(kept, 0.9)
    vectors = numpy.eye(9, 16, dtype=numpy.float32)
    last: dict[tuple[str, int], str] = {}
    for at, (move, name, number) in enumerate(moves):
        tenant = Tenant(name)
        if move == "put":
            last[name, number] = f"{name}/{number}/{at}"
            cache.put(tenant, "place", f"text {number}", vectors[number], answer(last[name, number]))
        elif move == "get":
            found = cache.get(tenant, "place", f"text {number}", vectors[number])
            assert found is None or found.text == last[name, number]
        else:
            kept.purge(tenant)
            assert cache.get(tenant, "place", f"text {number}", vectors[number]) is None
        assert kept.bytes <= 4_000
        assert kept.bytes == sum(kept.size(each) for each in kept.tenants())
        for each in map(Tenant, "abc"):
            assert kept.count(each) == cache.vectors(each) <= 5


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["hi there you", "you there hi", "bye"])), max_size=30)
)
def test_no_tenant_ever_gets_what_was_said_to_another(asks: list[tuple[str, str]]):
    asyncio.run(separate(asks))


async def separate(asks: list[tuple[str, str]]) -> None:
    world, seen = World(), dict[str, set[str]]()
    async with running(world.pool({SMALL: Counting()}, embedder=WordEmbedder())) as pool:
        for tenant, text in asks:
            said = await pool.ask(pure(text), caller(tenant))
            seen.setdefault(tenant, set()).add(said.text)
    for one in seen:
        for other in seen:
            assert one == other or not seen[one] & seen[other]
    await world.store.close()
