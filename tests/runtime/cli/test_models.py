"""`hanse models` over a pool whose tiers are in every state there is."""

import asyncio
import json

import pytest

from hanse.contracts import ModelUnavailable, Tenant
from hanse.contracts.caller import Caller
from hanse.contracts.pool import Ask, CacheView, Message, TierState, TierView
from hanse.runtime.cli import models

from ...support.pool import ScriptedModels
from .shop import Shop
from .test_commands import Shell

TIERS = [
    TierView(
        name="planner", kind="generate", state=TierState.WARMING, progress=0.4, detail="loading weights", model="tiny"
    ),
    TierView(
        name="embedder", kind="embed", state=TierState.READY, digest="sha256:0123456789abcdef", calls=3, cents=0.5
    ),
    TierView(name="large", kind="generate", state=TierState.ABSENT, detail="no weights", remedy="Install \x1b[31mit"),
]


@pytest.fixture
def pool() -> ScriptedModels:
    return ScriptedModels(tiers=TIERS)


@pytest.fixture
def shell(tmp_path, pool) -> Shell:
    return Shell(Shop(tmp_path / "var", pool))


def test_the_tiers_are_shown_with_progress_and_with_what_to_do(shell):
    shown = shell("models").stdout
    assert shell("models", "list").stdout == shown
    planner, embedder, large = [line for line in shown.splitlines() if line.startswith(("planner", "embed", "large"))]
    assert "warming 40%: loading weights" in planner
    assert "ready" in embedder
    assert "0123456789ab " in embedder
    assert "0.5" in embedder
    assert "absent: no weights" in large
    assert "Install \N{REPLACEMENT CHARACTER}[31mit" in shown


def test_as_json_they_are_what_the_pool_says(shell):
    assert [TierView(**each) for each in shell.data("models")] == TIERS


def test_status_shows_them_too(shell):
    shown = shell("status").stdout
    assert "models planner warming 40%, embedder ready, large absent" in shown
    assert "warming 40%: loading weights" in shown
    assert shell.data("status")["models"] == "planner warming 40%, embedder ready, large absent"


def test_a_pool_that_does_not_answer_keeps_nobody_from_seeing_the_rest(shell, pool):
    async def away():
        raise ModelUnavailable("the model pool stopped")

    pool.tiers = away
    assert "models not answering" in shell("status").stdout
    assert "the model pool stopped" in shell("models", code=1).stderr


def test_usage_calls_prompts_and_purges(shell, pool):
    caller = Caller(tenant=Tenant("default"), by="ann")
    asyncio.run(pool.ask(Ask(messages=(Message(role="user", content="?"),)), caller))
    used = shell("models", "usage", "--days", "7").stdout
    assert used.splitlines()[1].split()[:3] == ["2026-11-21", "planner", "1"]
    assert "t1" in shell("models", "usage", "--by-task").stdout
    assert [call["id"] for call in shell.data("models", "calls", "--limit", "1")] == ["call-1"]
    assert "call-1" in shell("models", "calls").stdout
    assert "extract" in shell("models", "prompts").stdout
    assert shell("models", "purge").stdout == "3 kept answers forgotten\n"
    assert pool.purged == [("default", "local")]


def test_what_is_kept_can_be_seen_before_it_is_purged(shell, pool):
    async def caches(tenant: Tenant | None = None) -> list[CacheView]:
        assert tenant == "default"
        return [CacheView(tenant=tenant, exact=3, exact_hits=5, semantic=2, semantic_hits=1, misses=7, bytes=900)]

    pool.caches = caches
    (line,) = shell("models", "caches").stdout.splitlines()[1:]
    assert line.split() == ["default", "3", "5", "2", "1", "7", "900"]
    (found,) = shell.data("models", "caches")
    assert (found["exact"], found["misses"]) == (3, 7)


def test_without_a_pool_it_says_what_to_write(tmp_path):
    bare = Shell(Shop(tmp_path / "var"))
    assert "Add `models:` to hanse.yaml" in bare("models", code=3).stderr
    assert "models not configured" in bare("status").stdout


def test_it_looks_again_until_it_is_interrupted(shell, pool, monkeypatch):
    monkeypatch.setattr(models, "LOOK_SECONDS", 0)
    left = iter([TIERS, TIERS[:1]])

    async def tiers():
        if (found := next(left, None)) is None:
            raise KeyboardInterrupt
        return found

    pool.tiers = tiers
    seen = [json.loads(line) for line in shell("models", "--watch", "--json", code=130).stdout.splitlines()]
    assert [len(each) for each in seen] == [3, 1]
