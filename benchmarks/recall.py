"""How well the memory recalls, as it is configured by default, and what each of its ingredients is worth.

LoCoMo: every turn of a conversation is an episodic record, its speaker's name before it, its session the episode. Of a
question's evidence (the turns that answer it) the share among the first 5, 10 and 50 hits, averaged over the questions
that name any. BFCL memory: every message of the user is a record; a question is hit when one of the first 5 hits says
one of the accepted answers (`answer`: words by their stems, all parts of a list), or when the very message that the
answer was taken from is among them (`source`). Some answers are said nowhere in the words asked for.

    python -m hanse.benchmarks.recall --locomo locomo10.json --bfcl bfcl_memory

`service` is the product: an agent remembers one message after the other, when it was said, through the write gate onto
the disk, and then asks. Before each it recalls what is known, so that the gate holds every message against what was
just recalled: a message that it takes for an echo is a loss. Evidence that the gate merged is found when the record is
that stands for it; what it set aside is lost. All rows below are of index and packing alone, over everything, which is
what they are to be compared with.

`packing` asks how much of the evidence fits a budget of tokens, by the way in which the budget is filled.

Neither is shipped. LoCoMo is CC BY-NC 4.0 (snap-research/LoCoMo), BFCL's memory part Apache-2.0 (bfcl_eval on PyPI);
nothing in the package was learnt from either.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.caller import Caller
from ..contracts.ids import AgentId, Tenant
from ..contracts.memory import Draft, Hit, Layer, Query, Record
from ..memory.analysis import stem
from ..memory.index import IndexSettings, TenantIndex, Weights
from ..memory.recall import recollect
from ..memory.service import MemoryService
from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from .machine import percentile, show
from .shard import Moved, shard

DEPTHS = (5, 10, 50)
DAY_MS = 86_400_000
RANK_CONSTANT = 60
"""Of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009."""
BUDGETS = (250, 500, 1000)
"""Tokens for all hits of a question together."""


@dataclass
class Question:
    text: str
    kind: str
    evidence: frozenset[str] = frozenset()
    answers: tuple[str, ...] = ()
    vector: Any = None


@dataclass
class Corpus:
    """One tenant: what it remembers, and what it is asked."""

    name: str
    records: list[Record]
    questions: list[Question]
    vectors: Any = field(default=None, repr=False)

    @property
    def now_ms(self) -> int:
        return max(each.created_ms for each in self.records) + DAY_MS


class ByRank(TenantIndex):
    """Fuses by the places in each list (reciprocal rank fusion), where the memory fuses by scores."""

    equally = False
    """All lists count the same, as in the paper; else by the memory's own weights."""

    def _fused(self, parts: dict[str, Any]) -> Any:
        lists = {name: parts[name] for name in ("neighbours", "vector", "context") if name in parts}
        weights = {name: 1.0 if self.equally else getattr(self._settings.weights, name) for name in lists}
        total = sum(weights[name] / (RANK_CONSTANT + _ranks(each)) * (each > 0) for name, each in lists.items())
        return np.asarray(total, np.float32) * RANK_CONSTANT


class ByRankEqually(ByRank):
    equally = True


def _ranks(scores: Any) -> Any:
    """1 for the highest."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


class Variant:
    """One way to weigh, over corpora that are embedded already."""

    def __init__(
        self,
        name: str,
        settings: IndexSettings | None = None,
        *,
        vectors: bool = True,
        make: type[TenantIndex] = TenantIndex,
        **asked: Any,
    ) -> None:
        """`asked` is what every query says beside its text and limit."""
        self.name, self.settings, self.with_vectors = name, settings or IndexSettings(), vectors
        self.make, self.asked = make, asked
        self.times: list[float] = []

    def found(self, corpus: Corpus, limit: int) -> Iterator[tuple[Question, list[Record]]]:
        """Each question with its hits, best first."""
        for question, hits in self.hits(corpus, limit):
            yield question, [hit.record for hit in hits]

    def hits(self, corpus: Corpus, limit: int) -> Iterator[tuple[Question, list[Hit]]]:
        index = self._filled(corpus)
        records = {each.id: each for each in corpus.records}
        for question in corpus.questions:
            query, started = Query(text=question.text, limit=limit, **self.asked), time.perf_counter()
            vector = question.vector if self.with_vectors else None
            scored = index.search(query, vector, None, corpus.now_ms)
            hits = recollect(query, scored, records, index, now_ms=corpus.now_ms).hits
            self.times.append(time.perf_counter() - started)
            yield question, hits

    def _filled(self, corpus: Corpus) -> TenantIndex:
        index = self.make(corpus.vectors.shape[1], self.settings, lambda job: job())
        for number, (record, vector) in enumerate(zip(corpus.records, corpus.vectors, strict=True)):
            index.put(record, vector if self.with_vectors else None, number)
        return index


def ablations() -> list[Variant]:
    """Each leaves out, or changes, one thing; the weights also by half and double, to see how flat the top is."""
    base = Weights()
    alone = Weights(text=0, neighbours=0, vector=0, context=0, recency=0, importance=0)
    changed = {
        "BM25 of the turn alone": replace(alone, text=1),
        "BM25 with neighbours alone": replace(alone, neighbours=1),
        "vector of the turn alone": replace(alone, vector=1),
        "BM25 and vector, no neighbours": replace(base, text=1, neighbours=0, context=0),
        "without vectors of neighbours": replace(base, context=0),
        "without the turn's own vector": replace(base, vector=0),
        "without recency and importance": replace(base, recency=0, importance=0),
        "with BM25 of the turn besides": replace(base, text=0.3),
        "vector weights × 0.5": replace(base, vector=base.vector / 2, context=base.context / 2),
        "vector weights × 2": replace(base, vector=base.vector * 2, context=base.context * 2),
        "neighbours nearer: 0.4, 0.15": replace(base, near=(0.4, 0.15)),
        "neighbours farther: 0.8, 0.5": replace(base, near=(0.8, 0.5)),
        "nearest neighbours only": replace(base, near=(0.6, 0.0)),
        "recency × 4": replace(base, recency=base.recency * 4),
    }
    return [
        Variant("default"),
        Variant("without an embedder", vectors=False),
        Variant("fused by reciprocal rank, same weights", make=ByRank),
        Variant("fused by reciprocal rank, equal weights", make=ByRankEqually),
        *(Variant(f"diversity {share:g}", diversity=share) for share in (0.1, 0.3, 0.5)),
        *(Variant(name, replace(IndexSettings(), weights=weights)) for name, weights in changed.items()),
    ]


class Service:
    """The product: what an agent remembered through the gate, and what it is given when it asks."""

    name = "service"

    def __init__(self, service: MemoryService, clock: Moved) -> None:
        self._service, self._clock = service, clock
        self.times = list[float]()
        self.became = Counter[str]()

    async def found(self, corpus: Corpus, limit: int) -> list[tuple[Question, list[Record]]]:
        """Each question with its hits under the ids of what they say: a record that stands for two messages is both."""
        caller = Caller(tenant=Tenant(corpus.name), by="scribe", agent=AgentId("scribe"))
        said = await self._remembered(corpus, caller)
        self._clock.ms, told = corpus.now_ms, list[tuple[Question, list[Record]]]()
        for question in corpus.questions:
            started = time.perf_counter()
            hits = (await self._service.recall(Query(text=question.text, limit=limit), caller)).hits
            self.times.append(time.perf_counter() - started)
            told.append((question, [said[hit.record.id] for hit in hits]))
        return told

    async def _remembered(self, corpus: Corpus, caller: Caller) -> dict[str, Record]:
        """The message of each record; of those that were merged into it, the one that is evidence."""
        said, evidence = dict[str, Record](), frozenset[str]().union(*(each.evidence for each in corpus.questions))
        for message in corpus.records:
            self._clock.ms = max(message.created_ms, self._clock.ms)
            draft = Draft(text=message.text, layer=message.layer, episode=message.episode)
            await self._service.recall(Query(text=message.text, limit=DEPTHS[0]), caller)
            [told] = await self._service.remember([draft], caller)
            self.became[told.outcome] += 1
            if told.record.id not in said or message.id in evidence:
                said[told.record.id] = message
        return said


def packing(corpora: Sequence[Corpus]) -> Iterator[dict[str, Any]]:
    """What a budget of tokens holds of the evidence. `cut` ends with the first hit that does not fit any more, as a
    prompt does that is filled from the top; the memory passes over it.
    """
    ways = {
        "packed, as by default": {},
        **{f"packed, diversity {share:g}": {"diversity": share} for share in (0.1, 0.3)},
    }
    for name, asked in ways.items():
        yield {"way": name} | {f"{budget}_tokens": _kept(corpora, budget, asked) for budget in BUDGETS}
    yield {"way": "cut at the first that does not fit"} | {
        f"{budget}_tokens": _kept(corpora, budget, {}, cut=True) for budget in BUDGETS
    }


def _kept(corpora: Sequence[Corpus], budget: int, asked: dict[str, Any], *, cut: bool = False) -> str:
    variant = Variant("packing", **asked) if cut else Variant("packing", token_budget=budget, **asked)
    shares = list[float]()
    for corpus in corpora:
        for question, hits in variant.hits(corpus, DEPTHS[-1]):
            if cut:
                fits = np.cumsum([hit.tokens for hit in hits]) <= budget
                hits = hits[: int(fits.sum())]
            shares.append(len(question.evidence & {hit.record.id for hit in hits}) / len(question.evidence))
    return f"{100 * statistics.fmean(shares):.1f}"


async def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    conversations = list(locomo(options.locomo)) if options.locomo else []
    scenarios = list(bfcl(options.bfcl)) if options.bfcl else []
    with tempfile.TemporaryDirectory() as folder:
        async with LocalEmbedder(OnnxEncoder(options.folder or Path(folder))) as embedder:
            for corpus in (*conversations, *scenarios):
                await _embed(corpus, embedder)
            rows, became = await _through_service(conversations, scenarios, embedder, Path(folder))
    for variant in ablations()[: None if options.ablation else 1]:
        found = {
            each.name: list(variant.found(each, _depth(each, conversations))) for each in (*conversations, *scenarios)
        }
        rows.append(_row(variant.name, found, conversations, variant.times))
    packed = list(packing(conversations)) if options.ablation and conversations else []
    return rows, {"service_made": became, "kinds": _by_kind(conversations), "packing": packed}


async def _through_service(
    conversations: Sequence[Corpus], scenarios: Sequence[Corpus], embedder: LocalEmbedder, folder: Path
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    clock = Moved(0)
    async with shard(folder, embedder, clock) as service:
        asked = Service(service, clock)
        found = {
            each.name: await asked.found(each, _depth(each, conversations)) for each in (*conversations, *scenarios)
        }
    return [_row(asked.name, found, conversations, asked.times)], dict(asked.became)


def _depth(corpus: Corpus, conversations: Sequence[Corpus]) -> int:
    return DEPTHS[-1] if corpus in conversations else DEPTHS[0]


async def _embed(corpus: Corpus, embedder: LocalEmbedder) -> None:
    corpus.vectors = await embedder.embed([each.text for each in corpus.records])
    for question, vector in zip(
        corpus.questions, await embedder.embed([each.text for each in corpus.questions]), strict=True
    ):
        question.vector = vector


Found = list[tuple[Question, list[Record]]]


def _row(name: str, found: dict[str, Found], conversations: Sequence[Corpus], times: Sequence[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": name}
    recalls = {each.name: [_recalls(*pair) for pair in found[each.name]] for each in conversations}
    if recalls:
        row["locomo_5_10_50"] = _shown([recall for each in recalls.values() for recall in each])
        row |= {corpus: _shown(each) for corpus, each in recalls.items()}
    answered = [pair for corpus, pairs in found.items() if corpus not in recalls for pair in pairs]
    if answered:
        row["bfcl_answer_at_5"] = f"{100 * statistics.fmean(_says_answer(*each) for each in answered):.1f}"
        row["bfcl_source_at_5"] = f"{100 * statistics.fmean(bool(_recalls(*each)[0]) for each in answered):.1f}"
    return row | {"ms_p50": percentile(times, 0.5) * 1000}


def _by_kind(conversations: Sequence[Corpus]) -> dict[str, str]:
    """The default's recall by category of question."""
    kinds = defaultdict[str, list[tuple[float, ...]]](list)
    variant = ablations()[0]
    for corpus in conversations:
        for question, records in variant.found(corpus, DEPTHS[-1]):
            kinds[question.kind].append(_recalls(question, records))
    return {kind: _shown(found) for kind, found in sorted(kinds.items())}


def _recalls(question: Question, records: Sequence[Record]) -> tuple[float, ...]:
    """Share of the evidence at each depth."""
    ids = [each.id for each in records]
    return tuple(len(question.evidence & set(ids[:depth])) / len(question.evidence) for depth in DEPTHS)


def _shown(recalls: Sequence[tuple[float, ...]]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in np.mean(recalls, axis=0))


def _says_answer(question: Question, records: Sequence[Record]) -> bool:
    return any(_says(each.text, answer) for answer in question.answers for each in records)


def _says(text: str, answer: str) -> bool:
    """Word for word, whatever their endings; of a list all parts, wherever they stand."""
    said = f" {_plain(text)} "
    return all(f" {_plain(part)} " in said for part in answer.split(","))


def _plain(text: str) -> str:
    """Words by their stems, numbers without leading zeros; `12.50` is one."""
    found = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text.lower())
    return " ".join(word.lstrip("0") or "0" if word[0].isdigit() else stem(word) for word in found)


def locomo(file: Path) -> Iterator[Corpus]:
    """A corpus for each conversation, with the questions that name turns as their evidence."""
    for each in json.loads(file.read_bytes()):
        records = list(_turns(each["sample_id"], each["conversation"]))
        known, questions = {record.id for record in records}, list[Question]()
        for asked in each["qa"]:
            named = frozenset(re.findall(r"D\d+:\d+", " ".join(asked.get("evidence", ())))) & known
            if named:
                questions.append(Question(asked["question"], f"category {asked['category']}", named))
        yield Corpus(each["sample_id"], records, questions)


def _turns(name: str, conversation: dict[str, Any]) -> Iterator[Record]:
    sessions = sorted((key for key in conversation if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:]))
    for session in sessions:
        said = datetime.strptime(conversation[f"{session}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        for position, turn in enumerate(conversation[session]):
            picture = f" [{turn['blip_caption']}]" if turn.get("blip_caption") else ""
            text = f"{turn['speaker']}: {turn['text']}{picture}"
            yield _record(turn["dia_id"], text, f"{name} {session}", position, int(said.timestamp() * 1000))


def bfcl(folder: Path) -> Iterator[Corpus]:
    """A corpus for each scenario."""
    answers = {each["id"]: each for each in _lines(folder / "answers.jsonl")}
    asked = defaultdict[str, list[dict[str, Any]]](list)
    for each in _lines(folder / "questions.jsonl"):
        asked[each["scenario"]].append(each)
    for scenario, questions in asked.items():
        records = list(_messages(folder / f"memory_{scenario}.jsonl"))
        yield Corpus(f"bfcl {scenario}", records, [_asked(each, answers[each["id"]], records) for each in questions])


def _messages(file: Path) -> Iterator[Record]:
    for topic in _lines(file):
        for position, (message,) in enumerate(topic["question"]):
            yield _record(f"{topic['id']}/{position}", message["content"], topic["id"], position, 0)


def _asked(question: dict[str, Any], answer: dict[str, Any], records: Sequence[Record]) -> Question:
    """Its evidence is the message that shares the most words in a row with the quoted source."""
    quoted = [part for part in map(_plain, answer["source"].split("...")) if part]
    longest = max(quoted, key=len)
    held = [each.id for each in records if longest in _plain(each.text)]
    evidence = held or [max(records, key=lambda each: len(set(longest.split()) & set(_plain(each.text).split()))).id]
    text = question["question"][0][0]["content"]
    return Question(text, question["scenario"], frozenset(evidence[:1]), tuple(map(str, answer["ground_truth"])))


def _record(id: str, text: str, episode: str, position: int, at_ms: int) -> Record:
    return Record(
        id=id,
        tenant=Tenant("benchmark"),
        text=text,
        layer=Layer.EPISODIC,
        episode=episode,
        position=position,
        valid_from_ms=at_ms,
        created_ms=at_ms,
        updated_ms=at_ms,
    )


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locomo", type=Path, default=_path("HANSE_LOCOMO"), help="LoCoMo's JSON file")
    parser.add_argument("--bfcl", type=Path, default=_path("HANSE_BFCL"), help="folder of BFCL's memory part")
    parser.add_argument("--ablation", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, help="where the embedder's graphs lie; made anew when left out")
    options = parser.parse_args()
    if not (options.locomo or options.bfcl):
        parser.error("name --locomo FILE, --bfcl FOLDER or both: neither may be shipped with the package")
    rows, figures = asyncio.run(measure(options))
    show("recall", rows, **figures)


def _path(variable: str) -> Path | None:
    return Path(value) if (value := os.environ.get(variable)) else None


if __name__ == "__main__":
    main()
