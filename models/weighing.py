"""Whether weights can ever fit where a tier puts them, by their size on disk: said before anything is started.

Only what is certain is refused. Weights that are made smaller as they are loaded, and accelerators that are not in the
list, are left to the engine to judge.
"""

from math import ceil

from ..contracts import InvalidConfiguration
from .tier import GIB, Tier
from .vllm_tier import PROGRAMS_BYTES, SMALLEST_CACHE_BYTES, UTILIZATION

DEVICE_GB = {
    "T4": 16,
    "A10G": 24,
    "L4": 24,
    "V100": 32,
    "A100-40G": 40,
    "L40S": 48,
    "A100": 80,
    "A100-80G": 80,
    "H100": 80,
    "H20": 96,
    "H200": 141,
    "B200": 192,
    "B300": 288,
}
"""Ray's names of accelerators, and the memory of the largest of each kind, in 10^9 bytes."""
BESIDE_BYTES = PROGRAMS_BYTES + SMALLEST_CACHE_BYTES


def weigh(tier: Tier, weights: int) -> None:
    """Raises InvalidConfiguration, with what to write, when weights of so many bytes cannot fit."""
    if problem := _on_accelerators(tier, weights) if tier.accelerator else _in_memory(tier, weights):
        raise InvalidConfiguration(
            f"tier {tier.name}: its weights are {weights / GIB:.1f} GiB, and {problem}", tier=tier.name
        )


def _in_memory(tier: Tier, weights: int) -> str:
    least = (weights + BESIDE_BYTES) / GIB
    if least <= tier.memory_gb:
        return ""
    beside = f"programs and the smallest cache take {BESIDE_BYTES / GIB:.2f} more"
    return f"{beside}. Write memory_gb: {ceil(least * 10) / 10:g} or more; it is {tier.memory_gb:g}"


def _on_accelerators(tier: Tier, weights: int) -> str:
    size = DEVICE_GB.get(tier.accelerator or "")
    if size is None or tier.engine.get("quantization"):
        return ""
    share = tier.engine.get("gpu_memory_utilization", UTILIZATION * tier.gpus)
    room = size * 1e9 * share
    if weights <= room * tier.devices:
        return ""
    fitting = ceil(weights / (size * 1e9 * UTILIZATION))
    have = f"{tier.devices} of {tier.accelerator} give them {room * tier.devices / GIB:.1f} GiB"
    return f"{have}. Write engine: {{tensor_parallel_size: {fitting}}} or more, or a whole accelerator: gpus: 1"
