"""Factors that make MiniLM's inputs to its linear maps fit for 8 bits: for each channel, in steps of a quarter octave.

They were found once, from the largest absolute value `a` of each channel over sample texts and that `w` of its
weights: a**ALPHA / w**(1 - ALPHA) (SmoothQuant, Xiao et al. 2023), over their geometric mean. They belong to weights
of one hash, and are shipped, so that every machine rounds alike. To find them again, over texts of one's own:

    python -m hanse.models.smoothing FILE-WITH-A-TEXT-A-LINE > models/smoothing.json
"""

import base64
import json
import sys
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contracts import Digest, ModelUnavailable
from ..contracts.schema import digest
from .graph import LAYERS, graph
from .minilm import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .minilm import Tensors

    Vector = NDArray[np.float32]

ALPHA = 0.6
STEPS_PER_OCTAVE = 4
_FILE = Path(__file__).with_name("smoothing.json")
_OWN = ("attention.self.query", "attention.self.key", "attention.self.value")


def factors(weights: Weights) -> "Mapping[str, Vector]":
    """By linear map, as `graph` names it. Raises ModelUnavailable for weights that they were not found for."""
    shipped = _shipped()
    if shipped["weights"] != weights.sha256[weights.tensors_file.name]:
        raise ModelUnavailable(
            f"{weights.tensors_file} is not the file that the 8-bit embedder was tuned for: use precision float32, or "
            "find its factors with python -m hanse.models.smoothing."
        )
    return {name: _unpacked(text) for name, text in shipped["factors"].items()}


def factors_digest() -> Digest:
    """Of those that are shipped: other factors make other vectors."""
    return digest(_shipped())


def found(weights: Weights, texts: Iterable[str]) -> dict[str, Any]:
    """The content of smoothing.json."""
    tensors = weights.tensors()
    largest = _largest(weights, tensors, texts)
    packed = {name: _packed(_steps(largest[name], _weight(tensors, name))) for name in largest}
    return {"weights": weights.sha256[weights.tensors_file.name], "alpha": ALPHA, "factors": packed}


def _steps(largest: "Vector", weight: "Vector") -> "NDArray[np.int8]":
    a, w = np.maximum(largest, 1e-4), np.maximum(np.abs(weight).max(1), 1e-4)
    octaves = ALPHA * np.log2(a) - (1 - ALPHA) * np.log2(w)
    return np.round(STEPS_PER_OCTAVE * (octaves - octaves.mean())).astype(np.int8)


def _largest(weights: Weights, tensors: "Tensors", texts: Iterable[str]) -> "dict[str, Vector]":
    """Largest absolute value of each channel that goes into a linear map, over all tokens of all texts."""
    tokenizer, (session, inputs) = weights.tokenizer(), _observed(tensors)
    largest: dict[str, Vector] = {}
    for text in texts:
        ids = tokenizer.encode(text).ids
        fed = {"ids": np.array([ids]), "lengths": np.array([len(ids)], np.int32)}
        for name, seen in zip(inputs, session.run(list(inputs.values()), fed), strict=True):
            largest[name] = np.maximum(np.abs(seen[0]).max(0), largest.get(name, 0))
    return largest


def _observed(tensors: "Tensors") -> tuple[Any, dict[str, str]]:
    """The graph in full precision, with what goes into the linear maps as further outputs."""
    import onnx
    import onnxruntime

    model = onnx.ModelProto.FromString(graph(tensors))
    products = {node.output[0].removesuffix(":product"): node.input[0] for node in model.graph.node}
    inputs = {name: products[name] for name in _maps()}
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in set(inputs.values()))
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        return onnxruntime.InferenceSession(file.name, providers=["CPUExecutionProvider"]), inputs


def _maps() -> list[str]:
    """Those with large channels. What attention gives is a mean of values, and has none."""
    parts = ("qkv", "intermediate.dense", "output.dense")
    return [f"encoder.layer.{layer}.{part}" for layer in range(LAYERS) for part in parts]


def _weight(tensors: "Tensors", name: str) -> "Vector":
    """Shape (channels, outputs)."""
    if not name.endswith("qkv"):
        return tensors[name + ".weight"].T
    at = name.removesuffix("qkv")
    return np.concatenate([tensors[f"{at}{own}.weight"].T for own in _OWN], 1)


def _packed(steps: "NDArray[np.int8]") -> str:
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode()


def _unpacked(text: str) -> "Vector":
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int8)
    return np.exp2(steps / STEPS_PER_OCTAVE).astype(np.float32)


@cache
def _shipped() -> dict[str, Any]:
    return json.loads(_FILE.read_bytes())


if __name__ == "__main__":
    lines = filter(None, Path(sys.argv[1]).read_text().splitlines())
    print(json.dumps(found(Weights.packaged(), lines), indent=1))
