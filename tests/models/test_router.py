"""Where calls begin: learned, with costs, the same from the same seed, and again from the journal."""

from random import Random

import pytest

from hanse.contracts import Kind, Tenant
from hanse.contracts.pool import Purpose
from hanse.models.policy import Policy
from hanse.models.router import SUBJECTS, Result, Router

from ..support.models import SHOP, ScriptedBackend, World, ask, caller, running, tier

LADDER = [("small", 5.0), ("large", 10.0)]
SUBJECT = "bills.read"


def played(chance_small: float, seed: int, calls: int = 400) -> list[str]:
    """Begins of calls whose small tier is right with a fixed chance, and whose large one always is."""
    router, chance, world = Router(), Random(seed), Random(seed + 1000)
    begins = []
    for _ in range(calls):
        begin = router.choose(SHOP, SUBJECT, LADDER, chance).tier
        begins.append(begin)
        right = world.random() < chance_small
        results = [Result("small", right, 5.0)] if begin == "small" else []
        if begin == "large" or not right:
            results.append(Result("large", True, 10.0))
        router.learn(SHOP, SUBJECT, results)
    return begins


@pytest.mark.parametrize("seed", range(5))
def test_it_begins_low_where_that_is_cheap_and_high_where_it_is_not(seed: int):
    """Beginning low costs 5 + (1 - p) * 10, beginning high 10: low is cheaper when p is above a half."""
    assert played(0.95, seed)[-100:].count("small") >= 90
    assert played(0.05, seed)[-100:].count("large") >= 90


def test_what_changes_is_learned_anew():
    router, chance = Router(), Random(1)
    for right in [True] * 300 + [False] * 300:
        router.learn(SHOP, SUBJECT, [Result("small", right, 5.0), *([] if right else [Result("large", True, 10.0)])])
    begins = [router.choose(SHOP, SUBJECT, LADDER, chance).tier for _ in range(50)]
    assert begins.count("large") >= 25


def test_the_cost_of_the_climb_is_counted_in():
    router = Router()
    for _ in range(200):
        router.learn(SHOP, SUBJECT, [Result("small", False, 5.0), Result("large", True, 10.0)])
        router.learn(SHOP, SUBJECT, [Result("large", True, 10.0)])
    costs = router.means(SHOP, SUBJECT, LADDER)
    assert costs["large"] == pytest.approx(10, rel=0.1)
    assert costs["small"] == pytest.approx(5 + 10, rel=0.1)


def test_what_is_right_about_the_hard_is_trusted_with_the_rest():
    """Climbs to a tier that always succeeds make it worth beginning at, before it ever was."""
    router = Router()
    ladder = [("small", 5.0), ("mid", 6.0), ("large", 100.0)]
    for _ in range(100):
        router.learn(SHOP, SUBJECT, [Result("small", False, 5.0), Result("mid", True, 6.0)])
    costs = router.means(SHOP, SUBJECT, ladder)
    assert costs["mid"] < costs["small"] < costs["large"]


def test_the_same_seed_decides_the_same():
    assert played(0.5, 7) == played(0.5, 7)
    assert played(0.5, 7) != played(0.5, 8)


def test_nothing_of_one_tenant_or_subject_decides_for_another():
    router = Router()
    for _ in range(200):
        router.learn(Tenant("rival"), SUBJECT, [Result("small", False, 9.0), Result("large", True, 10.0)])
        router.learn(SHOP, "mail.sort", [Result("small", False, 9.0), Result("large", True, 10.0)])
    fresh = Router()
    assert router.means(SHOP, SUBJECT, LADDER) == fresh.means(SHOP, SUBJECT, LADDER)


def test_what_is_remembered_is_bounded():
    router = Router()
    for number in range(SUBJECTS + 50):
        router.learn(SHOP, str(number), [Result("small", True, 1.0)])
    assert len(router._subjects) == SUBJECTS


def test_without_tiers_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="no tier"):
        Router().choose(SHOP, SUBJECT, [], Random(1))


SMALL, LARGE = tier("small", 0, 0.5), tier("large", 1, 1.0)
NUMBER = {"type": "integer"}


async def test_the_pool_learns_and_knows_it_again_after_a_restart(world: World):
    tiers = {SMALL: ScriptedBackend("wrong"), LARGE: ScriptedBackend("5")}
    policy = Policy(repairs=0, second_cents=0)
    asked = ask(answer=NUMBER, purpose=Purpose.EXTRACT, max_tokens=8)
    who = caller(capability=SUBJECT)
    async with running(world.pool(tiers, policy)) as pool:
        for _ in range(60):
            await pool.ask(asked, who)
        known = pool._router.means(SHOP, SUBJECT, LADDER)
        begins = [event.data["attempts"][0]["tier"] for event in world.events(Kind.MODEL_CALLED)]
    assert "small" in begins[:20]
    assert begins[-20:].count("large") >= 15
    async with running(world.pool(tiers, policy)) as again:
        assert again._router.means(SHOP, SUBJECT, LADDER) == pytest.approx(known)


async def test_a_decision_is_journaled_with_what_it_was_taken_by(world: World):
    async with running(world.pool({SMALL: ScriptedBackend(), LARGE: ScriptedBackend()})) as pool:
        answer = await pool.ask(ask(), caller(capability=SUBJECT))
    (event,) = world.events(Kind.MODEL_ROUTED)
    assert event.data["call"] == answer.id
    assert event.data["subject"] == SUBJECT
    assert event.data["tier"] == min(event.data["expected"], key=event.data["expected"].get)


async def test_the_same_entropy_begins_at_the_same_tiers(world: World):
    begins = []
    for _ in range(2):
        other = World(seed=3)
        tiers = {SMALL: ScriptedBackend("wrong"), LARGE: ScriptedBackend("5")}
        async with running(other.pool(tiers, Policy(repairs=0, second_cents=0))) as pool:
            for _ in range(20):
                await pool.ask(ask(answer=NUMBER), caller())
        begins.append([event.data["tier"] for event in other.events(Kind.MODEL_ROUTED)])
        await other.store.close()
    assert begins[0] == begins[1]
    assert len(set(begins[0])) == 2


async def test_a_tier_that_is_away_is_not_begun_at(world: World):
    small, large = ScriptedBackend(), ScriptedBackend()
    async with running(world.pool({SMALL: small, LARGE: large}, None)) as pool:
        small.state = small.state.ABSENT
        assert (await pool.ask(ask(), caller())).attempts[0].tier == "large"
    assert world.events(Kind.MODEL_ROUTED) == []
