"""What vLLM and Serve are told about a tier."""

from dataclasses import replace
from pathlib import Path

import pytest

from hanse.contracts import Digest, InvalidConfiguration
from hanse.models.room import fits, shortage
from hanse.models.source import Weights
from hanse.models.tier import GIB, Kind, Tier
from hanse.models.vllm_tier import (
    arguments,
    bundles,
    deployment_options,
    digest_of,
    engine_options,
    environment_of,
)

WEIGHTS = Weights(Path("/models/llama"), Digest("sha256:" + "1" * 64), 10_000_000)
PLANNER = Tier("planner", Kind.GENERATE, "./llama")
LARGE = replace(PLANNER, accelerator="H200", cpus=4, memory_gb=32, engine={"tensor_parallel_size": 2})

HALF = replace(PLANNER, accelerator="L4", gpus=0.5)


def test_nothing_of_the_models_own_is_run_and_nothing_is_fetched() -> None:
    options = engine_options(PLANNER, WEIGHTS)
    assert options["trust_remote_code"] is False
    assert options["load_format"] == "safetensors"
    assert arguments(PLANNER, WEIGHTS)["model_loading_config"]["model_source"] == "/models/llama"
    assert environment_of(PLANNER)["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("option", ["trust_remote_code", "model", "tokenizer", "load_format", "worker_extension_cls"])
def test_an_option_that_opens_a_door_may_not_be_set(option: str) -> None:
    with pytest.raises(InvalidConfiguration, match=option):
        engine_options(replace(PLANNER, engine={option: "x"}), WEIGHTS)


def test_a_mistyped_option_names_the_nearest() -> None:
    with pytest.raises(InvalidConfiguration, match="Did you mean quantization"):
        engine_options(replace(PLANNER, engine={"quantisation": "fp8"}), WEIGHTS)


def test_a_tier_of_vectors_is_a_pooling_model_and_compiles_no_schemas() -> None:
    options = engine_options(replace(PLANNER, kind=Kind.EMBED), WEIGHTS)
    assert options["runner"] == "pooling"
    assert "structured_outputs_config" not in options


def test_the_cache_is_what_the_memory_leaves() -> None:
    small = engine_options(replace(PLANNER, memory_gb=1.0), WEIGHTS)["kv_cache_memory_bytes"]
    large = engine_options(replace(PLANNER, memory_gb=8.0), WEIGHTS)["kv_cache_memory_bytes"]
    assert small == GIB // 4
    assert 6 * GIB < large < 7 * GIB
    assert "kv_cache_memory_bytes" not in engine_options(LARGE, WEIGHTS), "vLLM measures an accelerator itself"


def test_a_replica_reserves_its_processors_and_its_memory() -> None:
    assert bundles(PLANNER) == [{"CPU": 1.0, "memory": 2.0 * GIB}]


def test_a_replica_on_accelerators_has_a_bundle_for_each() -> None:
    first, second = bundles(LARGE)
    assert first == {"CPU": 4, "memory": 32 * GIB, "GPU": 1.0, "accelerator_type:H200": 0.001}
    assert second == {"GPU": 1.0, "accelerator_type:H200": 0.001}
    assert arguments(LARGE, WEIGHTS)["accelerator_config"] == {"kind": "gpu"}
    assert "OMP_NUM_THREADS" not in environment_of(LARGE)


def test_a_share_of_an_accelerator_is_one_of_its_memory_and_of_rays_count() -> None:
    (bundle,) = bundles(HALF)
    assert bundle == {"CPU": 1.0, "memory": 2.0 * GIB, "GPU": 0.5, "accelerator_type:L4": 0.001}
    assert engine_options(HALF, WEIGHTS)["gpu_memory_utilization"] == 0.45
    own = replace(HALF, engine={"gpu_memory_utilization": 0.3})
    assert engine_options(own, WEIGHTS)["gpu_memory_utilization"] == 0.3
    assert environment_of(HALF)["VLLM_RAY_PER_WORKER_GPUS"] == "0.5"
    assert "VLLM_RAY_PER_WORKER_GPUS" not in environment_of(LARGE)
    assert "gpu_memory_utilization" not in engine_options(LARGE, WEIGHTS), "vLLM's own"


def test_two_tiers_share_one_accelerator_and_a_third_waits() -> None:
    node = {"CPU": 8.0, "memory": 16.0 * GIB, "GPU": 1.0, "accelerator_type:L4": 1.0}
    assert fits(replace(HALF, min_replicas=2), [node])
    assert not fits(replace(HALF, min_replicas=3), [node])
    assert "0.5 accelerators" in shortage(HALF, [node])[0]


def test_replicas_are_fixed_or_follow_the_load() -> None:
    assert deployment_options(replace(PLANNER, min_replicas=2, max_replicas=2))["num_replicas"] == 2
    scaled = deployment_options(replace(PLANNER, min_replicas=1, max_replicas=4, concurrency=10))
    assert scaled["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8}
    assert "num_replicas" not in scaled


def test_a_replica_is_no_way_in() -> None:
    variables = arguments(PLANNER, WEIGHTS)["runtime_env"]["env_vars"]
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == variables["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"


def test_the_digest_is_of_weights_and_options() -> None:
    assert digest_of(PLANNER, WEIGHTS) == digest_of(replace(PLANNER, name="other", rank=3), WEIGHTS)
    assert digest_of(PLANNER, WEIGHTS) != digest_of(replace(PLANNER, engine={"dtype": "float32"}), WEIGHTS)
    assert digest_of(PLANNER, WEIGHTS) != digest_of(PLANNER, replace(WEIGHTS, digest=Digest("sha256:" + "2" * 64)))
