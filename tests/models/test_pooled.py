"""Vectors of a tier on an engine: portions, turns, and an engine that fails."""

import asyncio

import numpy
import orjson
import pytest

from hanse.contracts import DeadlineExceeded, ModelUnavailable, Overloaded, TimedOut
from hanse.contracts.pool import TierState
from hanse.models.backend import Condition
from hanse.models.policy import Policy
from hanse.models.pooled import PORTIONS, PooledEmbedder
from hanse.models.serve_backend import ServePooling
from hanse.models.tier import Kind, Tier

from ..support.models import World, caller, running
from .doubles import PaperDoor, Watch

READY = Condition(TierState.READY, replicas=1)


class Engine(PaperDoor):
    """Embeds a text as its length, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.portions: list[list[str]] = []
        self.open, self.came = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.wrong = None

    async def call(self, method: str, body: bytes) -> bytes:
        asked = orjson.loads(body)
        self.portions.append(asked["input"])
        self.came.set()
        await self.open.wait()
        if self.wrong is not None:
            raise self.wrong
        rows = [{"index": at, "embedding": [float(len(text)), 1.0]} for at, text in enumerate(asked["input"])]
        return orjson.dumps({"data": rows})

    async def took(self, count: int) -> None:
        """Returns when so many portions have come."""
        async with asyncio.timeout(5):
            while len(self.portions) < count:
                self.came.clear()
                await self.came.wait()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def watch() -> Watch:
    return Watch()


def over(engine: Engine, watch: Watch, policy: Policy | None = None, *, queue: int = 256, **more: float):
    tier = Tier("vectors", Kind.EMBED, "x", concurrency=4, queue=queue)
    pooling = ServePooling(tier, engine)
    pooled = PooledEmbedder(pooling, watch, policy or Policy(), **more)  # type: ignore[arg-type]
    pooling.known(READY)
    return pooled


async def test_many_texts_go_in_portions_and_come_back_in_order(engine: Engine, watch: Watch) -> None:
    texts = ["x" * length for length in range(1, 11)]
    vectors = await over(engine, watch).embed(texts)
    assert vectors[:, 0].tolist() == list(range(1, 11))
    assert [len(portion) for portion in engine.portions] == [4, 4, 2]


async def test_no_texts_are_no_portion(engine: Engine, watch: Watch) -> None:
    pooled = over(engine, watch)
    await pooled.embed(["a"])
    assert (await pooled.embed([])).shape == (0, 2)
    assert len(engine.portions) == 1


async def test_who_is_watched_goes_before_the_rest_of_a_long_call(engine: Engine, watch: Watch) -> None:
    engine.open.clear()
    pooled = over(engine, watch)
    long = [asyncio.create_task(pooled.embed([name] * 8)) for name in "abc"]
    await engine.took(PORTIONS)
    short = asyncio.create_task(pooled.embed(["now"], interactive=True))
    await asyncio.sleep(0)
    assert (pooled.condition().queued, pooled.condition().in_flight) == (2, PORTIONS)
    engine.open.set()
    await asyncio.gather(*long, short)
    assert engine.portions[PORTIONS] == ["now"]


async def test_tenants_take_turns(engine: Engine, watch: Watch, world: World) -> None:
    """Asked through the pool, which knows whose a call is."""
    engine.open.clear()
    async with running(world.pool({}, embedder=over(engine, watch))) as pool:
        calls = [asyncio.create_task(pool.embed([f"a{number}"], caller("a"))) for number in range(PORTIONS + 3)]
        await engine.took(PORTIONS)
        calls.append(asyncio.create_task(pool.embed(["b"], caller("b"))))
        await asyncio.sleep(0)
        engine.open.set()
        await asyncio.gather(*calls)
    assert engine.portions.index(["b"]) <= PORTIONS + 1


async def test_who_waits_when_the_pool_stops_is_told(engine: Engine, watch: Watch, world: World) -> None:
    engine.open.clear()
    async with running(world.pool({}, embedder=over(engine, watch))) as pool:
        calls = [asyncio.create_task(pool.embed(["a"], caller())) for _ in range(PORTIONS + 1)]
        await engine.took(PORTIONS)
        await asyncio.sleep(0)
    with pytest.raises(ModelUnavailable, match="the model pool is stopping"):
        await asyncio.wait_for(calls[-1], 1)
    engine.open.set()
    await asyncio.gather(*calls[:-1])


async def test_a_turn_that_comes_too_late_is_not_taken_and_a_short_time_is_no_failure(
    engine: Engine, watch: Watch
) -> None:
    engine.open.clear()
    pooled = over(engine, watch, Policy(breaker_failures=1))
    with pytest.raises(TimedOut):
        await pooled.embed(["a"], deadline_ms=10)
    assert pooled.open(), "the caller's time was short, and the tier is left alone for it"
    calls = [asyncio.create_task(pooled.embed(["a"])) for _ in range(PORTIONS)]
    await engine.took(1 + PORTIONS)
    with pytest.raises(DeadlineExceeded):
        await pooled.embed(["late"], deadline_ms=10)
    engine.open.set()
    await asyncio.gather(*calls)
    assert ["late"] not in engine.portions


async def test_a_line_that_is_full_takes_no_more(engine: Engine, watch: Watch) -> None:
    engine.open.clear()
    pooled = over(engine, watch, queue=1)
    calls = [asyncio.create_task(pooled.embed(["a"])) for _ in range(PORTIONS + 1)]
    await engine.took(PORTIONS)
    with pytest.raises(Overloaded, match="vectors") as refused:
        await pooled.embed(["b"])
    assert refused.value.ids["retry_after_seconds"] > 0
    engine.open.set()
    await asyncio.gather(*calls)


async def test_each_replica_has_portions_of_its_own(engine: Engine, watch: Watch) -> None:
    engine.open.clear()
    pooled = over(engine, watch)
    pooled.pooling.known(Condition(TierState.READY, replicas=2))
    calls = [asyncio.create_task(pooled.embed(["a"])) for _ in range(5)]
    await engine.took(2 * PORTIONS)
    assert (pooled.condition().queued, pooled.condition().in_flight) == (1, 2 * PORTIONS)
    engine.open.set()
    await asyncio.gather(*calls)


async def test_an_engine_that_fails_is_left_alone_and_probed_again(engine: Engine, watch: Watch) -> None:
    pooled = over(engine, watch, Policy(breaker_failures=2, breaker_seconds=5))
    engine.wrong = ModelUnavailable("no")
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="no"):
            await pooled.embed(["a"])
    with pytest.raises(ModelUnavailable, match="left alone for 5"):
        await pooled.embed(["a"])
    assert len(engine.portions) == 2, "it was asked all the same"
    assert (pooled.open(), pooled.condition().state) == (False, TierState.DEGRADED)
    watch.now, engine.wrong = 6.0, None
    assert numpy.array_equal(await pooled.embed(["a"]), [[1, 1]])
    assert pooled.condition().state is TierState.READY


async def test_silence_counts_as_a_failure(engine: Engine, watch: Watch) -> None:
    pooled = over(engine, watch, Policy(breaker_failures=1), seconds=0.01)
    engine.open.clear()
    with pytest.raises(TimedOut):
        await pooled.embed(["a"])
    assert not pooled.open()


async def test_a_tier_that_is_away_is_not_asked(engine: Engine, watch: Watch) -> None:
    pooled = over(engine, watch)
    pooled.pooling.known(Condition(TierState.WARMING, "loading weights", "wait"))
    with pytest.raises(ModelUnavailable, match=r"is warming: loading weights\. wait"):
        await pooled.embed(["a"])
    assert not engine.portions
