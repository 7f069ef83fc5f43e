"""Trains the heads that ship: injected instructions, risk of a request, support of an answer by its sources.

    python -m hanse.benchmarks.heads --data FOLDER --out models/heads
    python -m hanse.benchmarks.heads --own texts.jsonl --name refunds --out heads

With `--own` it trains one head of your own, which `models.heads` in hanse.yaml names. Each line is an object with a
`text`, its `label` (1 for what is to be found, 0 for the rest), and if need be a `group`: texts of one group, such as
wordings of one request, are never on both sides of a split.

Each head is measured on what it was not trained on (see `report` in its file), calibrated on those same held-out
scores, and then trained once more on everything. The same data and embedder give the same files.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from ..models.head import Head
from ..models.learned import CLOSENESS, MODEL, TEXT_FEATURES, closeness
from ..models.logistic import Line, auroc, calibrate, fit, reliability, sigmoid
from ..models.windows import windows
from . import guard, heads_data
from .guard import Guard, Table
from .heads_data import Sample
from .machine import show

SEED = 7
FOLDS = 5

INJECTION_LIMITS = (
    "Trained and measured on English, on templated attacks in two domains and on requests put into benign texts. A "
    "writer who knows it gets past it: politeness, another language, encodings and stories lower the score. Benign "
    "texts that ask their reader for something, such as a landlord's letter, score high. The probability is that of "
    "the mix it was calibrated on, where attacks are frequent. Never a boundary: it advises."
)
RISK_LIMITS = (
    "Says whether a request asks to change or send something, not how bad that would be. Trained on office, shop, bank "
    "and travel requests in English whose recorded calls name what they do; read-only requests are few. A request that "
    "hides its purpose looks harmless. What a step may do is decided by its contract, its token and policy."
)
SUPPORT_LIMITS = (
    "Sees whether a statement is about what its sources are about, not whether it is true: a changed number, name or "
    "negation passes; `numbers`, `ids` and `entities` look at those. Trained on English sentences against passages of "
    "the same collections."
)


async def injection(data: Path, embedder: LocalEmbedder) -> Head:
    """Held out: attacked outputs by attack; benign texts and embedded requests by halves."""
    own = await Guard.load(data, embedder)
    scores, labels = _held_out(own)
    rows, _ = guard.evaluate(own)
    report = {"found_at_1_percent": rows} | _report(scores, labels)
    line = own.table.fit([*own.attacked, *own.embedded, *own.others, *own.dojo_benign])
    trained = ("agentdojo (MIT)", "WorkBench (MIT)", "tau2-bench retail (MIT)", "BFCL memory, NESTFUL (Apache-2.0)")
    return _head("injection", TEXT_FEATURES, line, scores, labels, report, INJECTION_LIMITS, trained)


def _held_out(own: Guard) -> tuple[np.ndarray, np.ndarray]:
    scores: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    benign, parts = [*own.dojo_benign, *own.held_out], guard.folds(own.attacked)["attack out"]
    for at, (trained, tested) in enumerate(parts):
        line = own.line(trained)
        groups = ([each for each in own.attacked if tested(each)], benign[at :: len(parts)])
        scores += [own.scores(line, group) for group in groups]
        labels += [np.full(len(group), float(label)) for label, group in zip((1, 0), groups, strict=True)]
    return np.concatenate(scores), np.concatenate(labels)


async def risk(data: Path, embedder: LocalEmbedder) -> Head:
    """Held out by template, so that no two wordings of one request stand on both sides."""
    samples = heads_data.requests_of(data)
    table = await Table.of((each.text for each in samples), embedder)
    scores, labels = _crossed(samples, lambda kept: _texts(table, kept), lambda line, s: table.score(line, s.text))
    report = _report(scores, labels) | _by_source(samples, table)
    trained = ("WorkBench (MIT)", "agentdojo (MIT)", "tau2-bench retail (MIT)", "NESTFUL (Apache-2.0)")
    return _head("risk", TEXT_FEATURES, _texts(table, samples), scores, labels, report, RISK_LIMITS, trained)


async def own(file: Path, name: str, limits: str, embedder: LocalEmbedder) -> Head:
    """Raises ValueError for texts of which nothing can be learned."""
    samples = _samples(file)
    table = await Table.of((each.text for each in samples), embedder)
    scores, labels = _crossed(samples, lambda kept: _texts(table, kept), lambda line, s: table.score(line, s.text))
    report = _report(scores, labels)
    return _head(name, TEXT_FEATURES, _texts(table, samples), scores, labels, report, limits, (file.name,))


def _samples(file: Path) -> list[Sample]:
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    samples = [
        Sample(line["text"], int(line["label"]), file.name, line.get("group") or str(number))
        for number, line in enumerate(lines)
    ]
    for label in (0, 1):
        if len({each.group for each in samples if each.label == label}) < 2 * FOLDS:
            raise ValueError(f"{file}: at least {2 * FOLDS} groups of texts with the label {label} are needed")
    return samples


def _texts(table: Table, samples: Sequence[Sample]) -> Line:
    """On whole requests, which mostly are one window: each of its windows has the label of the request."""
    features = [table.of_text(each.text) for each in samples]
    labels = np.concatenate([np.full(len(each), sample.label) for each, sample in zip(features, samples, strict=True)])
    return fit(np.concatenate(features), labels, penalty=guard.PENALTY)


def _by_source(samples: Sequence[Sample], table: Table) -> dict[str, Any]:
    """Trained on the other data sets alone."""
    found: dict[str, float] = {}
    for source in sorted({each.source for each in samples}):
        tested = [each for each in samples if each.source == source]
        labels = np.array([each.label for each in tested], float)
        if 0 < labels.sum() < len(labels):
            line = _texts(table, [each for each in samples if each.source != source])
            found[source] = round(auroc(np.array([table.score(line, each.text) for each in tested]), labels), 3)
    return {"auroc_with_the_data_set_left_out": found}


async def support(data: Path, embedder: LocalEmbedder) -> Head:
    """Held out by passage."""
    samples = heads_data.support(data, SEED)
    features = {id(each): await _closeness(each, embedder) for each in samples}

    def train(kept: Sequence[Sample]) -> Line:
        rows = np.concatenate([features[id(each)] for each in kept])
        labels = np.concatenate([np.full(len(features[id(each)]), each.label) for each in kept])
        return fit(rows, labels, penalty=0.1)

    scores, labels = _crossed(samples, train, lambda line, each: float(line.logits(features[id(each)]).max()))
    report = _report(scores, labels)
    trained = ("BFCL memory (Apache-2.0)", "WorkBench (MIT)")
    return _head("support", CLOSENESS, train(samples), scores, labels, report, SUPPORT_LIMITS, trained)


async def _closeness(sample: Sample, embedder: LocalEmbedder) -> np.ndarray:
    said, known = windows(sample.text), [piece for source in sample.sources for piece in windows(source)]
    vectors = await embedder.embed([*said, *known])
    return closeness(vectors[: len(said)], vectors[len(said) :], said, known)


def _crossed(samples: Sequence[Sample], train: Any, score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores of each sample by a line that was trained without its group."""
    groups = sorted({each.group for each in samples})
    order = np.random.default_rng(SEED).permutation(len(groups))
    fold = {groups[place]: at % FOLDS for at, place in enumerate(order)}
    scores = np.zeros(len(samples))
    for part in range(FOLDS):
        line = train([each for each in samples if fold[each.group] != part])
        for place, each in enumerate(samples):
            if fold[each.group] == part:
                scores[place] = score(line, each)
    return scores, np.array([each.label for each in samples], float)


def _report(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Reliability of a calibration that was found on the other half."""
    halves = np.random.default_rng(SEED).random(len(scores)) < 0.5
    said = np.zeros(len(scores))
    for half in (halves, ~halves):
        slope, shift = calibrate(scores[half], labels[half])
        said[~half] = sigmoid(slope * scores[~half] + shift)
    error, rows = reliability(said, labels)
    return {
        "texts": len(scores),
        "positives": int(labels.sum()),
        "auroc": round(auroc(scores, labels), 4),
        "calibration_error": round(error, 4),
        "reliability": [[round(score, 3), round(share, 3), count] for score, share, count in rows],
    }


def _head(
    name: str,
    features: Sequence[str],
    line: Line,
    scores: np.ndarray,
    labels: np.ndarray,
    report: dict[str, Any],
    limits: str,
    trained: tuple[str, ...],
) -> Head:
    slope, shift = calibrate(scores, labels)
    rounded = Line(line.weights.astype("<f4").astype(np.float64), round(line.bias, 6))
    return Head(name, MODEL, tuple(features), rounded, round(slope, 6), round(shift, 6), report, limits, trained)


async def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    given.out.mkdir(parents=True, exist_ok=True)
    async with LocalEmbedder(OnnxEncoder(given.folder)) as embedder:
        if given.own:
            heads = [await own(given.own, given.name, given.limits, embedder)]
        else:
            heads = [await train(given.data, embedder) for train in (injection, risk, support)]
    for head in heads:
        (given.out / f"{head.name}.json").write_text(head.to_json() + "\n")
    return [_row(head) for head in heads]


def _row(head: Head) -> dict[str, Any]:
    names = ("texts", "positives", "auroc", "calibration_error")
    return {"head": head.name, "bytes": len(head.to_json())} | {name: head.report[name] for name in names}


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="the folder with guard/agentdojo, workbench, …")
    what.add_argument("--own", type=Path, help="texts with labels, a JSON object in each line")
    parser.add_argument("--name", default="own", help="of your own head")
    parser.add_argument("--limits", default="Nobody has written down what it cannot see.", help="of your own head")
    parser.add_argument("--out", type=Path, default=Path("models/heads"))
    parser.add_argument("--folder", type=Path, default=Path("var/graphs"), help="where the embedder's graph lies")
    return parser.parse_args(arguments)


def main() -> None:
    show("heads", asyncio.run(run(options())))


if __name__ == "__main__":
    main()
