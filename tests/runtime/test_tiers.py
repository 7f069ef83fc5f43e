"""Tiers as hanse.yaml describes them."""

from pathlib import Path

import pytest

from hanse.contracts import InvalidConfiguration
from hanse.models.tier import GIB, Kind, Tier
from hanse.models.validator import TRAINED
from hanse.runtime.config import Configuration, Models, TierEntry, load
from hanse.runtime.tiers import make_keeper
from hanse.runtime.world import SystemClock


def models(text: str, tmp_path: Path) -> Configuration:
    file = tmp_path / "hanse.yaml"
    file.write_text("version: 1\n" + text)
    return load(file, {})


def test_a_tier_is_what_the_file_says(tmp_path: Path) -> None:
    text = """
models:
  tiers:
    - name: planner
      source: /models/llama
      rank: 2
      replicas: {min: 1, max: 4}
      accelerator: H200
      engine: {tensor_parallel_size: 2}
"""
    (entry,) = models(text, tmp_path).models.tiers  # type: ignore[union-attr]
    tier = entry.tier()
    assert (tier.kind, tier.min_replicas, tier.max_replicas, tier.devices) == (Kind.GENERATE, 1, 4, 2)


def test_the_files_defaults_are_those_of_a_tier() -> None:
    assert TierEntry(name="a", source="tiny").tier() == Tier("a", Kind.GENERATE, "tiny")


def test_all_trained_validators_judge_by_a_tier_that_classifies_unless_it_names_some() -> None:
    assert TierEntry(name="a", source="x", kind=Kind.CLASSIFY).tier().heads == TRAINED
    assert TierEntry(name="a", source="x", kind=Kind.CLASSIFY, heads=("risk",)).tier().heads == ("risk",)
    assert TierEntry(name="a", source="x", kind=Kind.EMBED).tier().heads == ()


def test_weights_that_are_here_and_cannot_fit_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    with (tmp_path / "llama" / "model.safetensors").open("wb") as file:
        file.truncate(3 * GIB)  # a file with a hole: no disk holds it
    tier = "- {name: a, source: ./llama, memory_gb: 4}"
    with pytest.raises(InvalidConfiguration, match=r"hanse.yaml:4: .*weights are 3\.0 GiB.*memory_gb: 4\.8 or more"):
        models(f"models:\n  tiers:\n    {tier}\n", tmp_path)
    models(f"models:\n  tiers:\n    {tier.replace('4', '5')}\n", tmp_path)


def test_without_the_section_there_is_no_pool() -> None:
    assert Configuration().models is None
    assert Configuration(models=Models()).models is not None


@pytest.mark.parametrize(
    ("line", "about"),
    [
        ("- {name: a, source: x, replicas: {min: 3, max: 2}}", "max is below min"),
        ("- {name: a, source: x, contextwindow: 10}", "context_window"),
        ("- {name: a, source: x}\n    - {name: a, source: y}", "two models.tiers are called a"),
        ("- {name: a, source: x, digest: abc}", "digest"),
        ("- {name: a}", "source"),
        ("- {name: a, source: x, gpus: 0.5}", "tier a: gpus is a share of an accelerator: name it"),
        ("- {name: a, source: x, accelerator: L4, gpus: 1.5}", "gpus"),
        (
            "- {name: a, source: x, accelerator: L4, gpus: 0.5, engine: {tensor_parallel_size: 2}}",
            "an engine over several accelerators takes whole ones",
        ),
        (
            "- {name: a, source: x, accelerator: L4, gpus: 0.5, engine: {gpu_memory_utilization: 0.9}}",
            "0.9 is more than its share of the accelerator, gpus: 0.5",
        ),
        ("- {name: a, source: x, engine: {quantisation: fp8}}", "quantisation may not be set. Did you mean quantiz"),
        ("- {name: a, source: x, heads: [risk]}", "heads belong to a tier of kind: classify"),
        (
            "- {name: a, source: x, kind: classify, heads: [risks]}",
            "no trained validator is called risks. There is",
        ),
        (
            "- {name: a, source: x, kind: classify}\n    - {name: b, source: x, kind: classify, heads: [risk]}",
            "risk judges by a and by b",
        ),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, line: str, about: str) -> None:
    with pytest.raises(InvalidConfiguration, match=about):
        models(f"models:\n  tiers:\n    {line}\n", tmp_path)


def test_the_keeper_knows_the_tiers_before_there_is_a_cluster(tmp_path: Path) -> None:
    made = Configuration(models=Models(tiers=(TierEntry(name="a", source="tiny"),))).over(tmp_path)
    keeper = make_keeper(made, "hanse-test", SystemClock())
    assert [tier.name for tier in keeper.tiers] == ["a"]
    assert keeper.condition("a").state == "waiting"
