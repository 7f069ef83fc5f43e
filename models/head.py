"""Heads: a few kilobytes of weights over an embedder's vectors, each with its calibration, its figures and its limits.

A head is a JSON file of numbers with a digest over all of it: no code, nothing to unpickle. It fits any embedder that
serves the model it was trained on, in this process or as a pooling tier.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contracts import Corrupt, Digest, NotFound
from ..contracts.schema import digest
from .logistic import Line, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("heads")


@dataclass(frozen=True)
class Head:
    """One classifier."""

    name: str
    model: str
    """Whose vectors it takes."""
    features: tuple[str, ...]
    """Of each row, in order; `embedding:N` stands for N of them."""
    line: Line
    slope: float
    shift: float
    """Platt's calibration of the text's highest logit."""
    report: Mapping[str, Any]
    """What was measured on data that it was not trained on."""
    limits: str
    trained_on: tuple[str, ...]

    def logits(self, rows: "NDArray[np.floating]") -> "NDArray[np.float64]":
        return self.line.logits(rows)

    def probability(self, logit: float) -> float:
        """Calibrated, for as many positives as there were in training."""
        return float(sigmoid(np.array([self.slope * logit + self.shift]))[0])

    def to_json(self) -> str:
        data = self._data()
        return json.dumps(data | {"digest": digest(data)}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Head":
        """Raises Corrupt for anything but what `to_json` wrote."""
        try:
            data = json.loads(text)
            claimed = data.pop("digest")
            if claimed != digest(data):
                raise Corrupt("the head's digest is not that of its content: restore the file", file_digest=claimed)
            return cls(
                name=data["name"],
                model=data["model"],
                features=tuple(data["features"]),
                line=Line(_numbers(data["weights"]), data["bias"]),
                slope=data["slope"],
                shift=data["shift"],
                report=data["report"],
                limits=data["limits"],
                trained_on=tuple(data["trained_on"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"this is not a head: {error}") from None

    @property
    def digest(self) -> Digest:
        return digest(self._data())

    def _data(self) -> dict[str, Any]:
        packed = base64.b64encode(self.line.weights.astype("<f4").tobytes()).decode()
        own = {name: getattr(self, name) for name in ("name", "model", "slope", "shift", "limits")}
        lists = {"features": list(self.features), "trained_on": list(self.trained_on), "report": dict(self.report)}
        return own | lists | {"weights": packed, "bias": self.line.bias}


def load(name: str, folder: Path = FOLDER) -> Head:
    """One of those that ship. Raises NotFound, Corrupt."""
    try:
        return read(folder / f"{name}.json", name)
    except NotFound:
        there = ", ".join(sorted(file.stem for file in folder.glob("*.json")))
        raise NotFound(f"there is no head {name!r}, only {there or 'none'}") from None


def read(file: Path, name: str) -> Head:
    """The head in a file. Raises NotFound, and Corrupt for a file that holds something else."""
    try:
        content = file.read_bytes()
    except OSError:
        raise NotFound(f"there is no file {file} for the head {name!r}", name=name) from None
    head = Head.from_json(content)
    if head.name != name:
        raise Corrupt(f"the file of the head {name!r} holds {head.name!r}")
    return head


def _numbers(text: str) -> "NDArray[np.float64]":
    numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("its weights are not numbers")
    return numbers
