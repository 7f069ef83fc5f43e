"""The model that is made on the spot."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hanse.models import tiny

pytest.importorskip("tokenizers")
DIGEST = "sha256:da545efc50acb8b0b4e34ce4ca83c2fdae0fdd5b729380708c77316d80f3084f"


def test_many_who_make_it_at_once_get_one_whole_model(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: tiny.make_tiny(tmp_path), range(4)))
    assert made == {tmp_path / tiny.NAME}
    assert [each.name for each in tmp_path.iterdir()] == [tiny.NAME]


def test_another_seed_or_size_is_another_model_beside_it(tmp_path: Path) -> None:
    made = {tiny.make_tiny(tmp_path), tiny.make_tiny(tmp_path, seed=7), tiny.make_tiny(tmp_path, layers=2)}
    assert len({(folder / "model.safetensors").read_bytes() for folder in made}) == 3
    sizes = [json.loads((folder / "config.json").read_text())["num_hidden_layers"] for folder in sorted(made)]
    assert sizes == [4, 2, 4]


def test_its_weights_have_the_shapes_that_its_configuration_says(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = tiny.make_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    with safe_open(folder / "model.safetensors", "np") as weights:
        assert weights.get_slice("lm_head.weight").get_shape() == [config["vocab_size"], config["hidden_size"]]
        count = len(list(weights.keys()))
    assert count == 3 + 9 * config["num_hidden_layers"]


def test_its_tokenizer_gives_back_every_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny.make_tiny(tmp_path) / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == tiny.VOCABULARY
    for text in ("The refund", "größer 😀 \x00", '{"a": [1, 2.5]}'):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_what_was_made_under_a_name_never_changes(tmp_path: Path) -> None:
    from hanse.models.source import Sources

    assert Sources(tmp_path, tmp_path).locate("tiny").digest == DIGEST, "give the changed model another NAME"
