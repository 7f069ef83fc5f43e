"""Models of sentence-transformers as encoders: the library's own vectors, batches across callers, and no code."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanse.contracts import ModelUnavailable
from hanse.models.embedder import LocalEmbedder
from hanse.models.encoder import OnnxEncoder
from hanse.models.graph import Precision
from hanse.models.minilm import SOURCE
from hanse.models.source import Sources, Weights

from .test_encoder import TEXTS

pytest.importorskip("sentence_transformers")
from hanse.models.sentence_encoder import SentenceEncoder

WINDOW = 256


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("digests")
    return Sources(folder, folder).locate(SOURCE)


@pytest.fixture(scope="module")
def encoder(minilm: Weights) -> SentenceEncoder:
    return SentenceEncoder(minilm, context_window=WINDOW)


@pytest.fixture
def copy(minilm: Weights, tmp_path: Path) -> Path:
    """Of its folder, to be changed; the weights are a link."""
    folder = tmp_path / "model"
    shutil.copytree(minilm.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(minilm.folder / "model.safetensors")
    return folder


def vectors(encoder: Any, texts: list[str]) -> np.ndarray:
    return encoder.vectors(encoder.tokens(texts))


def test_its_vectors_are_the_librarys(encoder: SentenceEncoder, minilm: Weights) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = np.asarray(SentenceTransformer(str(minilm.folder), device="cpu").encode(TEXTS, show_progress_bar=False))
    ours = vectors(encoder, TEXTS)
    assert ours.shape == (len(TEXTS), encoder.dimensions)
    assert np.abs(ours - theirs).max() < 1e-5


def test_of_minilm_they_are_those_of_onnx_in_full_precision(encoder: SentenceEncoder, tmp_path: Path) -> None:
    exact = OnnxEncoder(tmp_path, precision=Precision.FLOAT32)
    assert (vectors(encoder, TEXTS) * vectors(exact, TEXTS)).sum(1).min() >= 0.9999
    assert encoder.digest != exact.digest, "they could be mixed"


async def test_it_batches_across_callers_and_gives_each_its_own(encoder: SentenceEncoder) -> None:
    alone = vectors(encoder, TEXTS)
    sizes: list[int] = []

    class Counting:
        digest, dimensions, tokens = encoder.digest, encoder.dimensions, staticmethod(encoder.tokens)

        def vectors(self, ids: Any) -> Any:
            sizes.append(len(ids))
            return encoder.vectors(ids)

    async with LocalEmbedder(Counting(), workers=1) as embedder:
        rows = await asyncio.gather(*(embedder.embed([text]) for text in TEXTS * 3))
    assert max(sizes) > 1, "one text at a time"
    assert np.abs(np.concatenate(rows) - np.concatenate([alone] * 3)).max() < 1e-5


def test_half_of_a_surrogate_pair_harms_nobody(encoder: SentenceEncoder) -> None:
    assert np.isfinite(vectors(encoder, ["\ud83d broken", "sound"])).all()
    assert encoder.tokens([]) == []


def test_what_decides_on_the_vectors_is_in_the_digest(encoder: SentenceEncoder, minilm: Weights, copy: Path) -> None:
    def other(window: int, weights: Weights = minilm) -> str:
        return SentenceEncoder(weights, context_window=window).digest

    assert other(WINDOW) == encoder.digest == other(4096), "the model sees no more than it was made for"
    assert other(16) != encoder.digest
    settings = json.loads((copy / "config_sentence_transformers.json").read_text())
    settings |= {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(settings))
    prompted = SentenceEncoder(replace(minilm, folder=copy), context_window=WINDOW)
    assert prompted.digest != encoder.digest
    assert np.abs(vectors(prompted, ["where"]) - vectors(encoder, ["query: where"])).max() < 1e-5


def _code(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "antigravity.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))


def _outside(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    (folder / "modules.json").write_text(json.dumps(modules))


def _pickle(folder: Path) -> None:
    (folder / "1_Pooling" / "pytorch_model.bin").write_bytes(b"\x80\x04")


def _damage(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "modules.json").unlink(), "modules.json"),
        (lambda folder: (folder / "modules.json").write_text("[{}]"), "modules.json"),
        (_code, "antigravity"),
        (_outside, "outside"),
        (_pickle, "safetensors"),
        (_damage, "cannot be loaded"),
    ],
)
def test_what_is_not_safe_or_not_whole_is_refused_with_a_remedy(
    harm: Callable[[Path], object], words: str, copy: Path, minilm: Weights
) -> None:
    harm(copy)
    with pytest.raises(ModelUnavailable, match=words) as caught:
        SentenceEncoder(replace(minilm, folder=copy), context_window=WINDOW)
    assert caught.value.ids["remedy"]


def test_a_missing_library_is_named_with_what_to_install(minilm: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModelUnavailable, match=r"sentence-transformers is not installed.*pip install"):
        SentenceEncoder(minilm, context_window=WINDOW)


def test_it_asks_no_network(minilm: Weights) -> None:
    """In a process whose every socket is refused, and where nobody says that it is offline."""
    code = f"""
import socket
from pathlib import Path
from hanse.contracts import Digest
from hanse.models.source import Weights
def refused(*_, **__):
    raise SystemExit("a socket was opened")
socket.socket.connect = socket.getaddrinfo = refused
from hanse.models.sentence_encoder import SentenceEncoder
encoder = SentenceEncoder(Weights(Path({str(minilm.folder)!r}), Digest("d"), 1), context_window=256)
print(encoder.vectors(encoder.tokens(["a"])).shape)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "(1, 384)", run.stderr
