"""The embedder in this process against sentence-transformers: texts per second, time of one query, drift, recall.

All variants take turns within one run, text for text, so that whatever else the machine does falls on all of them;
ratios are medians over the rounds. Drift is the cosine to sentence-transformers' vector of the same text. With
`--conversations FILE` (the JSON of LoCoMo, CC BY-NC: not shipped) the texts are turns of long conversations, and
recall@10 is the share of the turns that answer a question among the 10 nearest ones of its conversation.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.retail import dataset
from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from ..models.graph import Precision
from ..models.minilm import Weights
from .machine import show

REFERENCE = "sentence-transformers"
Embed = Callable[[Sequence[str]], Awaitable[np.ndarray]]


@dataclass
class Variant:
    """One way to embed, and what it took."""

    name: str
    embed: Embed
    wall: list[float] = field(default_factory=list[float])
    processor: list[float] = field(default_factory=list[float])
    query: list[float] = field(default_factory=list[float])

    async def bulk(self, texts: Sequence[str]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        await self.embed(texts)
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)

    async def one(self, text: str) -> None:
        started = time.perf_counter()
        await self.embed([text])
        self.query.append(time.perf_counter() - started)


@dataclass(frozen=True)
class Conversation:
    """Turns by id, and questions with the ids of the turns that answer them."""

    turns: dict[str, str]
    questions: list[tuple[str, list[str]]]


async def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    conversations = _conversations(options.conversations) if options.conversations else []
    texts = [turn for each in conversations for turn in each.turns.values()] or _shipped_texts()
    async with AsyncExitStack() as stack:
        variants = await _variants(options, stack)
        await _take_turns(variants, texts[: options.texts], options)
        vectors = {variant.name: await variant.embed(texts) for variant in variants}
        recalls = {each.name: [await _recall(each, one) for one in conversations] for each in variants}
    rows = [_row(each, variants[0], vectors, recalls, min(options.texts, len(texts))) for each in variants]
    return rows, {"texts": len(texts), "worst": _worst(texts, vectors), "workers": options.workers}


async def _variants(options: argparse.Namespace, stack: AsyncExitStack) -> list[Variant]:
    import torch

    torch.set_num_threads(options.workers)
    variants = [_reference(REFERENCE)]
    if options.bf16:
        variants.append(_reference(f"{REFERENCE} bf16", dtype="bfloat16"))
    for precision in (Precision.FLOAT32, Precision.INT8):
        encoder = OnnxEncoder(options.folder, precision=precision)
        embedder = await stack.enter_async_context(LocalEmbedder(encoder, workers=options.workers))
        variants.append(Variant(f"embedder {precision}", embedder.embed))
    return variants


def _reference(name: str, **model: Any) -> Variant:
    from sentence_transformers import SentenceTransformer

    transformer = SentenceTransformer(str(Weights.packaged().folder), device="cpu", model_kwargs=model)

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = np.asarray(transformer.encode(list(texts), show_progress_bar=False), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    async def embed(texts: Sequence[str]) -> np.ndarray:
        return await asyncio.to_thread(encode, texts)

    return Variant(name, embed)


async def _take_turns(variants: Sequence[Variant], texts: Sequence[str], options: argparse.Namespace) -> None:
    for variant in variants:
        await variant.embed(texts[:32])
    for _ in range(options.rounds):
        for variant in variants:
            await variant.bulk(texts)
    for text in _queries(texts, options.queries):
        for variant in variants:
            await variant.one(text)


def _queries(texts: Sequence[str], count: int) -> list[str]:
    """The first sentence of texts here and there: as long as a question is."""
    return [text.split(". ")[0] for text in texts[:: max(1, len(texts) // count)]][:count]


async def _recall(variant: Variant, conversation: Conversation) -> float:
    ids = list(conversation.turns)
    turns = await variant.embed(list(conversation.turns.values()))
    questions = await variant.embed([question for question, _ in conversation.questions])
    nearest = np.argsort(-questions @ turns.T, axis=1, kind="stable")[:, :10]
    found = [
        len({ids[place] for place in row} & set(evidence)) / len(set(evidence))
        for row, (_, evidence) in zip(nearest, conversation.questions, strict=True)
    ]
    return statistics.fmean(found)


def _row(
    variant: Variant, reference: Variant, vectors: dict[str, np.ndarray], recalls: dict[str, list[float]], texts: int
) -> dict[str, Any]:
    cosines = _cosines(variant.name, vectors)
    row = {
        "variant": variant.name,
        "texts_per_second": texts / statistics.median(variant.wall),
        "times_reference": _ratio(reference.wall, variant.wall),
        "times_by_processor_time": _ratio(reference.processor, variant.processor),
        "query_ms": statistics.median(variant.query) * 1000,
        "query_times_reference": _ratio(reference.query, variant.query),
        "cosine_mean": f"{cosines.mean():.5f}",
        "cosine_worst": f"{cosines.min():.5f}",
    }
    return row | ({"recall_at_10": f"{statistics.fmean(recalls[variant.name]):.4f}"} if recalls[variant.name] else {})


def _ratio(reference: Sequence[float], own: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(reference, own, strict=True))


def _cosines(name: str, vectors: dict[str, np.ndarray]) -> np.ndarray:
    return (vectors[name] * vectors[REFERENCE]).sum(1)


def _worst(texts: Sequence[str], vectors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The text that moved farthest in 8 bits."""
    cosines = _cosines("embedder int8", vectors)
    place = int(cosines.argmin())
    return {"cosine": round(float(cosines[place]), 5), "text": texts[place][:500]}


def _conversations(file: Path) -> list[Conversation]:
    return [_conversation(each) for each in json.loads(file.read_bytes())]


def _conversation(data: dict[str, Any]) -> Conversation:
    sessions = [each for each in data["conversation"].values() if isinstance(each, list)]
    turns = {turn["dia_id"]: f"{turn['speaker']}: {turn['text']}" for session in sessions for turn in session}
    asked = [(each["question"], [id for id in each["evidence"] if id in turns]) for each in data["qa"]]
    return Conversation(turns, [(question, evidence) for question, evidence in asked if evidence])


def _shipped_texts() -> list[str]:
    """What the store's customers say, and its messages: the texts that come with the package."""
    found: dict[str, None] = {}

    def collect(value: Any) -> None:
        if isinstance(value, str) and len(value) > 20:
            found.update(dict.fromkeys(part for part in value.split("\n") if len(part) > 20))
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(part)

    collect(dataset.tasks())
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=Path, help="LoCoMo's JSON file, for recall@10")
    parser.add_argument("--texts", type=int, default=512, help="texts of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads of the embedder and of torch")
    parser.add_argument("--bf16", action="store_true", help="measure sentence-transformers in bfloat16, too")
    parser.add_argument("--folder", type=Path, default=Path("var/graphs"), help="where the embedder's graphs lie")
    rows, figures = asyncio.run(measure(parser.parse_args()))
    show("embedder", rows, **figures)


if __name__ == "__main__":
    main()
