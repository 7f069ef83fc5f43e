"""MiniLM as an ONNX graph, written node by node from its tensors.

No torch is needed to write it, and every node is the one that runs fastest: attention, its bias and its mask are one
operator, the sum of two branches and its normalisation another. Inputs: `ids` (batch, length) int64, padded at the
end; `lengths` (batch) int32. Output: `vectors` (batch, 384) float32 of length one.

The sum over the tokens needs no division by their number: what follows makes the length one anyway. Token types are
all 0 in one-text inputs, so their embedding is added to that of the positions here and now.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .minilm import DIMENSIONS, MAX_TOKENS, missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .minilm import Tensors

HEADS, LAYERS, EPSILON = 12, 6, 1e-12
FUSED = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def graph(tensors: "Tensors") -> bytes:
    """The serialized model. The same tensors give the same bytes. Raises ModelUnavailable without `onnx`."""
    return _Writer(tensors).write()


class _Writer:
    def __init__(self, tensors: "Tensors") -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError:
            raise missing("onnx", "which writes the embedder's graph") from None
        self._onnx, self._numpy = helper, numpy_helper
        self._tensors = tensors
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def write(self) -> bytes:
        x = self._embeddings()
        for layer in range(LAYERS):
            x = self._layer(f"encoder.layer.{layer}.", x)
        self._pool(x)
        helper = self._onnx
        graph = helper.make_graph(
            self._nodes,
            "minilm",
            [helper.make_tensor_value_info("ids", _INT64, ["batch", "length"]), self._lengths()],
            [helper.make_tensor_value_info("vectors", _FLOAT, ["batch", DIMENSIONS])],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="hanse")
        return model.SerializeToString(deterministic=True)

    def _lengths(self) -> Any:
        return self._onnx.make_tensor_value_info("lengths", _INT32, ["batch"])

    def _embeddings(self) -> str:
        """Of words and places."""
        words = self._weight("embeddings.word_embeddings.weight")
        places = self._tensor("embeddings.position_embeddings.weight")[:MAX_TOKENS]
        places = places + self._tensor("embeddings.token_type_embeddings.weight")[0]
        self._node("Gather", [words, "ids"], "words")
        self._node("Shape", ["ids"], "length", start=1, end=2)
        zero = self._constant("zero", np.zeros(1, np.int64))
        self._node("Slice", [self._constant("all_places", places), zero, "length", zero], "places")
        self._node("Add", ["words", "places"], "embedded")
        norm = "embeddings.LayerNorm."
        scale, bias = self._weight(norm + "weight"), self._weight(norm + "bias")
        return self._node("LayerNormalization", ["embedded", scale, bias], "x", axis=-1, epsilon=EPSILON)

    def _layer(self, at: str, x: str) -> str:
        x = self._add_norm(at + "attention.output.", self._attention(at, x), x)
        inner = self._linear(at + "intermediate.dense.", x)
        inner = self._node("BiasGelu", [inner, self._weight(at + "intermediate.dense.bias")], at + "gelu", FUSED)
        return self._add_norm(at + "output.", inner, x)

    def _attention(self, at: str, x: str) -> str:
        names = [f"{at}attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._tensor(name + ".weight").T for name in names], axis=1)
        bias = np.concatenate([self._tensor(name + ".bias") for name in names])
        inputs = [x, self._constant(at + "qkv", weight), self._constant(at + "qkv_bias", bias), "lengths"]
        return self._node("Attention", inputs, at + "attention", FUSED, num_heads=HEADS)

    def _add_norm(self, at: str, inner: str, x: str) -> str:
        """The end of a sub-layer: a linear map, the way around it, and the normalisation of their sum."""
        mapped = self._linear(at + "dense.", inner)
        scale, shift = self._weight(at + "LayerNorm.weight"), self._weight(at + "LayerNorm.bias")
        inputs = [mapped, x, scale, shift, self._weight(at + "dense.bias")]
        return self._node("SkipLayerNormalization", inputs, at + "normed", FUSED, epsilon=EPSILON)

    def _linear(self, at: str, x: str) -> str:
        """Without its bias, which the operator after it adds."""
        weight = self._constant(at + "transposed", self._tensor(at + "weight").T)
        return self._node("MatMul", [x, weight], at + "product")

    def _pool(self, x: str) -> None:
        """Sum over the tokens that are there, and length one."""
        one = self._constant("one", np.ones(1, np.int64))
        self._node("Cast", ["length"], "length32", to=_INT32)
        self._node("Squeeze", ["length32"], "length_scalar")
        bounds = [self._constant("first", np.int32(0)), "length_scalar", self._constant("step", np.int32(1))]
        self._node("Range", bounds, "range")
        self._node("Unsqueeze", ["lengths", one], "ends")
        self._node("Less", ["range", "ends"], "there")
        self._node("Cast", ["there"], "mask", to=_FLOAT)
        self._node("Unsqueeze", ["mask", one], "mask_row")
        self._node("MatMul", ["mask_row", x], "sum_row")
        self._node("Squeeze", ["sum_row", one], "sum")
        self._node("LpNormalization", ["sum"], "vectors", axis=-1, p=2)

    def _tensor(self, name: str) -> "NDArray[np.float32]":
        return self._tensors[name]

    def _weight(self, name: str) -> str:
        return self._constant(name, self._tensor(name))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._constants:
            self._constants[name] = self._numpy.from_array(np.asarray(value, order="C"), name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        node = self._onnx.make_node(
            operator, inputs, [output], name=f"{operator}:{output}", domain=domain, **attributes
        )
        self._nodes.append(node)
        return output


_FLOAT, _INT32, _INT64 = 1, 6, 7
"""`onnx.TensorProto.DataType`; part of the format."""
