"""A model of sentence-transformers as an `Encoder`: any folder of its kind, computed as the library itself would.

Slower than MiniLM on ONNX Runtime (benchmarks/embedder.py measures both), and for every other model the way without an
engine. Nothing is fetched and nothing of the model's own is run: weights are safetensors, and each module that
`modules.json` names is one of the library's. Loads torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts import Digest, ModelUnavailable
from ..contracts.schema import digest
from .encoder import Ids, sound
from .source import WEIGHTS, Weights

VERSION = 1
"""Raised whenever the same model gives other vectors here."""
LIBRARY = "sentence_transformers."
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")


class SentenceEncoder:
    """`threads` compute one batch, and several callers may be in `vectors` at the same time. Of a text
    `context_window` tokens are seen, or as many as the model was made for. Raises ModelUnavailable, whose `remedy` says
    what to do.
    """

    def __init__(self, weights: Weights, *, context_window: int, threads: int = 1) -> None:
        _check(weights.folder)
        self._torch, self._model = _loaded(weights.folder, threads)
        self._window = min(context_window, self._model.max_seq_length or context_window)
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "")
        settings = {"weights": weights.digest, "window": self._window, "prompt": self._prompt, "version": VERSION}
        self.digest: Digest = digest({"backend": "sentence-transformers", **settings})
        self.dimensions = int(self._model.get_embedding_dimension())

    def tokens(self, texts: Sequence[str]) -> list[Ids]:
        """What comes after the window is not seen."""
        said = [self._prompt + sound(text).strip() for text in texts]
        return self._model.tokenizer(said, truncation=True, max_length=self._window)["input_ids"] if said else []

    def vectors(self, ids: Sequence[Ids]) -> "NDArray[np.float32]":
        padded = self._model.tokenizer.pad({"input_ids": [list(each) for each in ids]}, return_tensors="pt")
        with self._torch.inference_mode():
            rows = self._model(dict(padded))["sentence_embedding"]
            return self._torch.nn.functional.normalize(rows.float(), dim=1).numpy()


def _check(folder: Path) -> None:
    """Raises ModelUnavailable for what is no model of sentence-transformers, or could run code when it is loaded."""
    try:
        modules: list[dict[str, str]] = json.loads((folder / "modules.json").read_bytes())
        kinds = {Path(each["path"]): each["type"] for each in modules}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refused(f"{folder} has no modules.json that could be read ({type(error).__name__})") from None
    for path, kind in kinds.items():
        if not kind.startswith(LIBRARY):
            raise _refused(f"{folder} wants {kind} to be run, which is not the library's own")
        part = folder / path
        if not part.resolve().is_relative_to(folder.resolve()):
            raise _refused(f"{folder} has a module outside of it: {path}")
        if any(any(part.glob(pattern)) for pattern in PICKLES) and not any(part.glob(WEIGHTS)):
            raise _refused(f"{part} has weights that are no safetensors, and can run code when they are loaded")


def _loaded(folder: Path, threads: int) -> tuple[Any, Any]:
    """torch and the model."""
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ModelUnavailable(
            "sentence-transformers is not installed, which the embedder is to be run by. Install it: pip install "
            "'hanse[sentence-transformers]', or leave out embedder.backend",
            package="sentence-transformers",
        ) from None
    torch.set_num_threads(threads)
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True}, **safe)
    except Exception as error:  # the library raises whatever its parts do
        raise _refused(f"{folder} cannot be loaded: {type(error).__name__}: {error}") from error
    if not hasattr(model.tokenizer, "pad"):
        raise _refused(f"{folder} begins with {type(model[0]).__name__}, and only a transformer's tokens are batched")
    if not all(getattr(module, "include_prompt", True) for module in model):
        raise _refused(f"{folder} leaves its prompt out of its vectors, which is not done here")
    return torch, model.eval()


def _refused(detail: str) -> ModelUnavailable:
    return ModelUnavailable(
        detail, remedy="Name a folder that sentence-transformers wrote with save_pretrained, or serve it as a tier"
    )
