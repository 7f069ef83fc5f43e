"""MiniLM as an ONNX graph, written node by node from its tensors; no torch is needed.

Inputs: `ids` (batch, length) int64, padded at the end; `lengths` (batch) int32. Output: `vectors` (batch, 384) float32
of length one. What is folded here and now: token types, which are all 0 in one-text inputs, into the positions; and
the mean over the tokens needs no division by their number, because what follows makes the length one anyway.

INT8 computes the linear maps in 8 bits. Weights have a scale per output; inputs have a scale per token, taken from
that token alone, so that a text has the same vector whatever batch it comes in. A few input channels are much larger
than the others and would leave these no precision; they are divided by factors that the weights are multiplied by
(SmoothQuant, Xiao et al. 2023, with exponent 0.6): see `smoothing`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from .minilm import DIMENSIONS, MAX_TOKENS, missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .minilm import Tensors

    Matrix = NDArray[np.float32]

HEADS, LAYERS, EPSILON = 12, 6, 1e-12
FUSED = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


class Precision(StrEnum):
    """In what the linear maps are computed."""

    FLOAT32 = "float32"
    """the vectors of sentence-transformers to 1e-6"""
    INT8 = "int8"
    """twice as fast and more, with a drift that `hanse.benchmarks.embedder` measures"""


def graph(tensors: "Tensors", factors: "Mapping[str, Matrix] | None" = None) -> bytes:
    """The serialized model: INT8 when there are smoothing factors, FLOAT32 when not.

    The same tensors and factors give the same bytes. Raises ModelUnavailable without the package `onnx`.
    """
    return _Writer(tensors, factors).write()


class _Writer:
    def __init__(self, tensors: "Tensors", factors: "Mapping[str, Matrix] | None") -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError:
            raise missing("onnx", "which writes the embedder's graph") from None
        self._onnx, self._numpy = helper, numpy_helper
        self._tensors = tensors
        self._factors = factors
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def write(self) -> bytes:
        x = self._embeddings()
        for layer in range(LAYERS):
            x = self._layer(f"encoder.layer.{layer}.", x)
        self._pool(x)
        value, opset = self._onnx.make_tensor_value_info, self._onnx.make_opsetid
        inputs = [value("ids", _INT64, ["batch", "length"]), value("lengths", _INT32, ["batch"])]
        outputs = [value("vectors", _FLOAT, ["batch", DIMENSIONS])]
        graph = self._onnx.make_graph(self._nodes, "minilm", inputs, outputs, list(self._constants.values()))
        opsets = [opset("", 20), opset(FUSED, 1)]
        model = self._onnx.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="hanse")
        return model.SerializeToString(deterministic=True)

    def _embeddings(self) -> str:
        """Of words and places."""
        places = self._tensors["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        places = places + self._tensors["embeddings.token_type_embeddings.weight"][0]
        zero = self._constant("zero", np.zeros(1, np.int64))
        self._node("Gather", [self._weight("embeddings.word_embeddings.weight"), "ids"], "words")
        self._node("Shape", ["ids"], "length", start=1, end=2)
        self._node("Slice", [self._constant("all_places", places), zero, "length", zero], "places")
        return self._normalized("embeddings.LayerNorm.", self._node("Add", ["words", "places"], "embedded"))

    def _layer(self, at: str, x: str) -> str:
        x = self._sublayer(at + "attention.output.", self._attention(at, x), x)
        inner = self._linear(at + "intermediate.dense", x)
        inner = self._node("BiasGelu", [inner, self._weight(at + "intermediate.dense.bias")], at + "gelu", FUSED)
        return self._sublayer(at + "output.", inner, x)

    def _attention(self, at: str, x: str) -> str:
        """The three maps into queries, keys and values are one."""
        own = [f"{at}attention.self.{part}" for part in ("query", "key", "value")]
        joined = self._product(at + "qkv", x, np.concatenate([self._tensors[name + ".weight"].T for name in own], 1))
        bias = np.concatenate([self._tensors[name + ".bias"] for name in own])
        self._node("Add", [joined, self._constant(at + "qkv_bias", bias)], at + "qkv_biased")
        parts = [at + part for part in ("q", "k", "v")]
        self._nodes.append(self._onnx.make_node("Split", [at + "qkv_biased"], parts, axis=-1, num_outputs=3))
        return self._node("MultiHeadAttention", [*parts, "", "lengths"], at + "attention", FUSED, num_heads=HEADS)

    def _sublayer(self, at: str, inner: str, x: str) -> str:
        """Its end: a linear map, the way around it, and the normalisation of their sum."""
        self._node("Add", [self._linear(at + "dense", inner), x], at + "both")
        both = self._node("Add", [at + "both", self._weight(at + "dense.bias")], at + "sum")
        return self._normalized(at + "LayerNorm.", both)

    def _normalized(self, at: str, x: str) -> str:
        """Layer normalisation in single steps, each of which is vectorised; the fused operator is not."""
        last = self._constant("last", np.array([-1]))
        self._node("ReduceMean", [x, last], at + "mean", keepdims=1)
        self._node("Sub", [x, at + "mean"], at + "centered")
        self._node("ReduceSumSquare", [at + "centered", last], at + "squares", keepdims=1)
        self._node("Add", [at + "squares", self._scalar("epsilon", EPSILON * DIMENSIONS)], at + "positive")
        self._node("Sqrt", [at + "positive"], at + "root")
        self._node("Div", [self._scalar("root_of_size", DIMENSIONS**0.5), at + "root"], at + "inverse")
        self._node("Mul", [at + "centered", at + "inverse"], at + "unit")
        self._node("Mul", [at + "unit", self._weight(at + "weight")], at + "scaled")
        return self._node("Add", [at + "scaled", self._weight(at + "bias")], at + "out")

    def _linear(self, at: str, x: str) -> str:
        """Without its bias, which comes after it."""
        return self._product(at, x, self._tensors[at + ".weight"].T)

    def _product(self, at: str, x: str, weight: "Matrix") -> str:
        if self._factors is None:
            return self._node("MatMul", [x, self._constant(at + ":weight", weight)], at + ":product")
        if (factor := self._factors.get(at)) is not None:
            x = self._node("Mul", [x, self._constant(at + ":inverse", 1 / factor)], at + ":smooth")
            weight = weight * factor[:, None]
        return self._rounded_product(at, x, weight)

    def _rounded_product(self, at: str, x: str, weight: "Matrix") -> str:
        """x is rounded to 255 steps around 128 per token, the weight to 255 steps around 0 per output."""
        scale = np.abs(weight).max(0) / 127
        rounded, scales = np.round(weight / scale).astype(np.int8), scale.astype(np.float32)
        middle, one = self._constant("middle", np.uint8(128)), self._scalar("unity", 1)
        step = self._step(at, x)
        self._node("Div", [x, step], at + ":steps")
        self._node("QuantizeLinear", [at + ":steps", one, middle], at + ":x8")
        constants = [self._constant(at + ":weight", rounded), one, self._constant(at + ":scales", scales), middle]
        self._node("MatMulIntegerToFloat", [at + ":x8", *constants], at + ":in_steps", FUSED)
        return self._node("Mul", [at + ":in_steps", step], at + ":product")

    def _step(self, at: str, x: str) -> str:
        """The largest absolute value of each token's channels, over 127; never 0."""
        last = self._constant("last", np.array([-1]))
        self._node("ReduceMax", [x, last], at + ":max", keepdims=1)
        self._node("ReduceMin", [x, last], at + ":min", keepdims=1)
        self._node("Neg", [at + ":min"], at + ":-min")
        self._node("Max", [at + ":max", at + ":-min", self._scalar("tiny", 1e-12)], at + ":largest")
        return self._node("Mul", [at + ":largest", self._scalar("1/127", 1 / 127)], at + ":step")

    def _pool(self, x: str) -> None:
        """Sum over the tokens that are there, and length one."""
        one = self._constant("one", np.ones(1, np.int64))
        self._node("Cast", ["length"], "length32", to=_INT32)
        self._node("Squeeze", ["length32"], "length_scalar")
        bounds = [self._constant("first", np.int32(0)), "length_scalar", self._constant("stride", np.int32(1))]
        self._node("Range", bounds, "range")
        self._node("Unsqueeze", ["lengths", one], "ends")
        self._node("Less", ["range", "ends"], "there")
        self._node("Cast", ["there"], "mask", to=_FLOAT)
        self._node("Unsqueeze", ["mask", one], "mask_row")
        self._node("MatMul", ["mask_row", x], "sum_row")
        self._node("Squeeze", ["sum_row", one], "sum")
        self._node("LpNormalization", ["sum"], "vectors", axis=-1, p=2)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._tensors[name])

    def _scalar(self, name: str, value: float) -> str:
        return self._constant(name, np.float32(value))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._constants:
            self._constants[name] = self._numpy.from_array(np.asarray(value, order="C"), name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        make, name = self._onnx.make_node, f"{operator}:{output}"
        self._nodes.append(make(operator, inputs, [output], name=name, domain=domain, **attributes))
        return output


_FLOAT, _INT32, _INT64 = 1, 6, 7
"""`onnx.TensorProto.DataType`; part of the format."""
