"""MiniLM on ONNX Runtime: texts to token ids, token ids to vectors. It blocks; `LocalEmbedder` brings it callers.

The graph is written once into a folder and found again by its name, which holds the digest of what it was made from
and of its own bytes: a file that was damaged or half written is never loaded.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..contracts import Digest, ModelUnavailable
from ..contracts.schema import digest
from .files import write_whole
from .graph import Precision, graph
from .minilm import DIMENSIONS, MAX_TOKENS, Weights, missing, sha256_of
from .smoothing import factors, factors_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAPH_VERSION = 1
"""Raised whenever `graph` writes something else for the same tensors."""

_PREFIX_CHARACTERS = 4_000

Ids = list[int]
"""The tokens of one text, first and last mark included."""


class Encoder(Protocol):
    """What stands behind an embedder. Its methods block; `vectors` is called by several threads at once."""

    @property
    def digest(self) -> Digest: ...

    @property
    def dimensions(self) -> int: ...

    def tokens(self, texts: Sequence[str]) -> list[Ids]: ...

    def vectors(self, ids: Sequence[Ids]) -> "NDArray[np.float32]":
        """A row of length one for each, in the order given; fastest when their lengths are alike."""
        ...


class OnnxEncoder:
    """MiniLM with its graph in `folder`. Raises ModelUnavailable when a package or a file is missing.

    `threads` compute one batch, and several callers may be in `vectors` at the same time.
    """

    dimensions = DIMENSIONS

    def __init__(
        self,
        folder: Path,
        *,
        precision: Precision = Precision.INT8,
        threads: int = 1,
        weights: Weights | None = None,
    ) -> None:
        weights = weights or Weights.packaged()
        self.precision = Precision(precision)
        self.digest = digest_of(weights, self.precision)
        self._tokenizer = weights.tokenizer()
        self._session = _session(exported(weights, folder, self.precision), threads)

    def tokens(self, texts: Sequence[str]) -> list[Ids]:
        """At most MAX_TOKENS each; what comes after them is not seen, as in sentence-transformers."""
        whole = [sound(text) for text in texts]
        found = self._ids([_prefix(text) for text in whole])
        cut = [i for i, text in enumerate(whole) if len(text) > _PREFIX_CHARACTERS and len(found[i]) < MAX_TOKENS]
        for i, ids in zip(cut, self._ids([whole[i] for i in cut]), strict=True):
            found[i] = ids
        return found

    def vectors(self, ids: Sequence[Ids]) -> "NDArray[np.float32]":
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        padded = np.zeros((len(ids), lengths.max()), np.int64)
        for row, tokens in zip(padded, ids, strict=True):
            row[: len(tokens)] = tokens
        return self._session.run(["vectors"], {"ids": padded, "lengths": lengths})[0]

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]


def digest_of(weights: Weights, precision: Precision) -> Digest:
    """Of all that decides on the vectors."""
    settings = {"files": weights.sha256, "graph": GRAPH_VERSION, "max_tokens": MAX_TOKENS, "precision": precision.value}
    return digest(settings | ({"factors": factors_digest()} if precision is Precision.INT8 else {}))


def exported(weights: Weights, folder: Path, precision: Precision) -> Path:
    """The graph's file: the one that is there when it is sound, else a new one. Safe with other writers beside it."""
    made_from = digest_of(weights, precision).removeprefix("sha256:")[:16]
    for file in sorted(folder.glob(f"minilm-{made_from}-*.onnx")):
        if file.stem.endswith(sha256_of(file)):
            return file
        file.unlink(missing_ok=True)
    smooth = factors(weights) if precision is Precision.INT8 else None
    return _write(folder, f"minilm-{made_from}", graph(weights.tensors(), smooth))


def _write(folder: Path, name: str, content: bytes) -> Path:
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()}.onnx"
    try:
        write_whole(file, content)
    except OSError as error:
        raise ModelUnavailable(f"the embedder's graph cannot be written to {folder}: {error.strerror}") from error
    return file


def _session(file: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise missing("onnxruntime", "which runs the embedder") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # more would fuse, slower
    options.log_severity_level = 3  # errors only: warnings are about devices that are not used
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def sound(text: str) -> str:
    """Half of a surrogate pair is no character; the tokenizer would refuse the whole batch for it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _prefix(text: str) -> str:
    """As much of a long text as usually fills MAX_TOKENS, cut at a space, which no token spans."""
    if len(text) <= _PREFIX_CHARACTERS:
        return text
    return text[: max(text.rfind(" ", 0, _PREFIX_CHARACTERS), 0)]
