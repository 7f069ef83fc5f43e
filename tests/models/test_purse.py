"""What tiers do for a call beside answering is reserved, settled and written down like the rest."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from hanse.contracts import Kind as Entry
from hanse.contracts import digest
from hanse.contracts.pool import Judgement, Purpose, TierState
from hanse.models.backend import Condition
from hanse.models.features import Features
from hanse.models.policy import Policy
from hanse.models.pool import Pool
from hanse.models.pooled import PooledEmbedder
from hanse.models.price import guess_tokens
from hanse.models.serve_backend import ServePooling
from hanse.models.tier import Kind, Tier
from hanse.models.validator import LooksAt

from ..support.models import SHOP, ScriptedBackend, WordEmbedder, World, ask, caller, running, tier
from .test_features import Engine

SMALL = tier("small", cents=1)
JUDGE = Tier("judge", Kind.CLASSIFY, "x", heads=("injection",), cents_per_1k_prompt=10)
ASKED, ANSWERED = "Where is my order?", "It left our house on Monday."


def cost(*texts: str) -> int:
    """Microcents at the judge: 10 cents for 1,000 tokens."""
    return guess_tokens(texts) * 10_000


class Guard:
    """Looks at what it is told to look at, by the vectors that it gets."""

    name = "injection"

    def __init__(self, features: Features, looks_at: LooksAt = LooksAt.ANSWER) -> None:
        self._features, self.looks_at = features, looks_at

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        await self._features.embed([text], interactive=True)
        return Judgement(validator=self.name, score=0.1)


class Court:
    """A pool whose validator judges by a tier with a price, and by this process where it must."""

    def __init__(self, world: World) -> None:
        self.world, self.engine, self.local = world, Engine(), WordEmbedder()
        self._pooling = ServePooling(JUDGE, self.engine)
        self.features = Features(PooledEmbedder(self._pooling, world.clock, Policy()), self.local, JUDGE.heads)

    async def opens(self) -> None:
        """The tier answers, and its vectors were compared. Nobody pays for that."""
        self._pooling.known(Condition(TierState.READY, replicas=1), digest("weights"))
        assert self.features._comparing is not None
        await self.features._comparing

    def pool(self, looks_at: LooksAt = LooksAt.ANSWER, **policy: object) -> Pool:
        rules = Policy(required=frozenset({"injection"}), **policy)  # type: ignore[arg-type]
        return self.world.pool({SMALL: ScriptedBackend(ANSWERED)}, rules, [Guard(self.features, looks_at)])

    def entries(self, kind: Entry) -> list[tuple[str, int]]:
        return [(each.data["tier"], each.data["microcents"]) for each in self.world.events(kind)]


@pytest_asyncio.fixture
async def court() -> AsyncIterator[Court]:
    world = World()
    yield Court(world)
    await world.store.close()


async def test_a_judgement_by_a_tier_is_reserved_settled_and_part_of_what_the_call_cost(court: Court) -> None:
    await court.opens()
    async with running(court.pool()) as pool:
        answer = await pool.ask(ask(ASKED), caller())
        (view,) = await pool.calls(SHOP)
        usage = {row.tier: row for row in await pool.usage(SHOP)}
    judged = cost(ANSWERED)
    assert court.entries(Entry.MODEL_RESERVED)[-1] == ("judge", judged)
    assert court.entries(Entry.MODEL_SETTLED)[-1] == ("judge", judged)
    own = sum(each.usage.cents for each in view.attempts)
    assert answer.usage.cents == view.usage.cents == pytest.approx(own + judged / 1e6)
    assert usage["judge"].cents == pytest.approx(judged / 1e6)
    assert usage["judge"].prompt_tokens == guess_tokens([ANSWERED])
    assert court.engine.asked_texts == [ANSWERED]
    assert [text for text in court.local.texts if text == ANSWERED] == [], "this process judged"


async def test_it_is_on_disk_that_it_may_cost_before_the_tier_is_asked(court: Court) -> None:
    """The call is one whose process dies while its tier judges."""
    await court.opens()
    seen: list[tuple[str, int]] = []
    embed = court.engine.model.embed

    async def watched(texts: Sequence[str], **how: bool) -> object:
        seen.extend(court.entries(Entry.MODEL_RESERVED))
        return await embed(texts, **how)

    court.engine.model.embed = watched  # type: ignore[method-assign]
    async with running(court.pool(LooksAt.REQUEST)) as pool:
        await pool.ask(ask(ASKED), caller())
    assert seen == [("judge", cost(ASKED))]


async def test_who_cannot_pay_for_a_tier_is_judged_by_this_process(court: Court) -> None:
    await court.opens()
    async with running(court.pool(LooksAt.REQUEST, call_cents=0.06)) as pool:
        answer = await pool.ask(ask(ASKED, max_tokens=32), caller())
    assert cost(ASKED) > 60_000
    assert (answer.scores["injection"], court.local.texts[-1]) == (0.1, ASKED)
    assert court.engine.asked_texts == []
    assert not [each for each in court.entries(Entry.MODEL_RESERVED) if each[0] == "judge"]


async def test_one_judgement_alone_is_paid_too(court: Court) -> None:
    await court.opens()
    async with running(court.pool()) as pool:
        await pool.judge("injection", ASKED, caller())
        (view,) = await pool.calls(SHOP)
        usage = {row.tier: row for row in await pool.usage(SHOP)}
    assert view.usage.cents == pytest.approx(cost(ASKED) / 1e6) == usage["judge"].cents
    assert (usage["injection"].calls, usage["injection"].prompt_tokens) == (1, 0), "its tokens are the tier's"


async def test_a_judgement_in_this_process_costs_nothing(court: Court) -> None:
    async with running(court.pool()) as pool:
        await pool.judge("injection", ASKED, caller())
        (row,) = await pool.usage(SHOP)
    assert (row.tier, row.cents, row.prompt_tokens) == ("injection", 0, guess_tokens([ASKED]))


async def test_a_stream_pays_for_its_judgement(court: Court) -> None:
    """One whose validator only advises: it is judged at its end."""
    await court.opens()
    advised = Policy(validators={Purpose.COMPLETE: ("injection",)})
    pool = court.world.pool({SMALL: ScriptedBackend(ANSWERED)}, advised, [Guard(court.features)])
    async with running(pool):
        pieces = [piece async for piece in pool.stream(ask(ASKED), caller())]
    assert len(pieces) > 2, "it was held back"
    assert court.entries(Entry.MODEL_SETTLED)[-1] == ("judge", cost(ANSWERED))
    assert pieces[-1].answer is not None
    assert pieces[-1].answer.usage.cents > cost(ANSWERED) / 1e6
