"""Logistic regression and what belongs to it: calibration, and the figures that say how good a score is.

Small, exact and reproducible: Newton's method (iteratively reweighted least squares) from zero, with no chance in it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Line:
    """A linear score: logit = features · weights + bias."""

    weights: "Vector"
    bias: float

    def logits(self, features: "Matrix") -> "Vector":
        return features @ self.weights + self.bias


def fit(features: "Matrix", labels: "Matrix", *, penalty: float, balance: bool = True, steps: int = 30) -> Line:
    """The minimum of the log loss plus penalty/2 · |weights|². With `balance` both classes weigh the same in sum."""
    x = np.hstack([np.asarray(features, np.float64), np.ones((len(features), 1))])
    y = np.asarray(labels, np.float64)
    share = np.where(y > 0.5, 0.5 / max(1, (y > 0.5).sum()), 0.5 / max(1, (y <= 0.5).sum())) * len(y)
    each = share if balance else np.ones(len(y))
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-6
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = sigmoid(x @ w)
        gradient = x.T @ (each * (p - y)) + ridge * w
        curvature = (x * (each * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        w -= step * min(1.0, 10 / max(float(np.abs(x @ step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return Line(w[:-1], float(w[-1]))


def calibrate(logits: "Vector", labels: "Vector") -> tuple[float, float]:
    """Slope and shift of Platt's scaling: probability = sigmoid(slope · logit + shift).

    With his smoothed targets (Platt 1999), so that few examples make no certainty. The slope is never negative.
    """
    positive, negative = (labels > 0.5).sum(), (labels <= 0.5).sum()
    targets = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    line = fit(logits[:, None], targets, penalty=1e-3, balance=False)
    return max(0.0, float(line.weights[0])), line.bias


def sigmoid(x: "Vector") -> "Vector":
    return 0.5 * (1 + np.tanh(0.5 * x))


def auroc(scores: "Vector", labels: "Vector") -> float:
    """Chance that a positive scores higher than a negative; ties count half (Mann-Whitney)."""
    positive, negative = scores[labels > 0.5], scores[labels <= 0.5]
    return float(((positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)).mean())


def threshold(negatives: "Vector", rate: float) -> float:
    """The least score that at most `rate` of the negatives exceed. What exceeds it is reported."""
    ordered = np.sort(negatives)
    return float(ordered[len(ordered) - 1 - int(rate * len(ordered))])


def reliability(
    scores: "Vector", labels: "Vector", bins: int = 10
) -> "tuple[float, Sequence[tuple[float, float, int]]]":
    """Expected calibration error, and for each filled bin the mean score, the share of positives, and how many."""
    places = np.minimum((scores * bins).astype(int), bins - 1)
    rows = [
        (float(scores[places == bin].mean()), float(labels[places == bin].mean()), int((places == bin).sum()))
        for bin in range(bins)
        if (places == bin).any()
    ]
    return sum(abs(said - found) * count for said, found, count in rows) / len(scores), rows
