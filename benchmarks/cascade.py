"""What the cascade costs against always asking the largest tier, at the same accepted quality.

The task set: the requests of WorkBench (MIT) that a tool call solves, each to be answered with the tool that its
solution calls first, of 13. Requests are divided by their wording: no wording of the test was seen by a tier or a
validator. The tiers are no language models: they keep the `Backend` protocol and are of different strength for real.

    names    counts the words of a tool's name in the request
    shot     nearest of the tools' single examples by MiniLM
    all      softmax regression on MiniLM vectors of all training requests

The validator is a head of its own, calibrated on requests that no tier learned from: the probability that a proposed
tool is wrong. Cascade, router, jury, budget, caches and journal are the pool's own, on a store in memory;
the only thing that is made up is the price list (`--prices`). Where the cascade would ask a person, the largest tier's
answer is taken, so that both sides answer every request and can be compared; how often that was is in the table.

    python -m hanse.benchmarks.cascade --requests DIR --plot cascade.png
"""

import argparse
import asyncio
import csv
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson

from ..contracts import Digest, PersonNeeded, Tenant, digest
from ..contracts.caller import Caller
from ..contracts.pool import Ask, Judgement, Message, Purpose, TierState
from ..models.backend import Backend, Condition, Raw, RawPiece
from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from ..models.policy import Policy
from ..models.pool import Pool
from ..models.tier import Kind, Tier
from ..models.validator import LooksAt
from ..runtime.journal import Journal
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock
from .machine import show

FILES = ("analytics", "calendar", "customer_relationship_manager", "email", "project_management")
ACCEPTS_ALL = 1.01
"""A threshold that no score reaches."""
TRAINING, CALIBRATION = 0.6, 0.2
"""Shares of the wordings; the rest is the test."""
WRONG = "wrong_tool"
OFFICE = Tenant("office")
_TOOL = re.compile(r"(\w+\.\w+)\.func")


@dataclass(frozen=True)
class Request:
    """One request with the tool that its solution calls first."""

    text: str
    tool: str
    wording: str


@dataclass(frozen=True)
class Known:
    """Requests with their vectors, of which somebody may learn."""

    requests: Sequence[Request]
    vectors: Any

    @property
    def tools(self) -> list[str]:
        return [each.tool for each in self.requests]


class SeededEntropy:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def fraction(self) -> float:
        return self._random.random()


class Classifier:
    """A tier's engine that chooses a tool. Subclasses say which."""

    def __init__(self, name: str) -> None:
        self._digest = digest(name)

    @property
    def digest(self) -> Digest:
        return self._digest

    def condition(self) -> Condition:
        return Condition(TierState.READY, replicas=1)

    def watch(self, tell: Callable[[], None]) -> None:
        """Its condition never changes."""

    async def count_tokens(self, ask: Ask) -> int:
        """Four characters a token, as texts in English have on average."""
        return sum(len(each.content or "") for each in ask.messages) // 4 + 1

    async def complete(self, ask: Ask, seconds: float) -> Raw:
        tool = self.choose(ask.messages[0].content or "")
        text = orjson.dumps(tool).decode()
        return Raw(text, (), "stop", await self.count_tokens(ask), len(text) // 4 + 1)

    async def stream(self, ask: Ask, seconds: float) -> AsyncIterator[RawPiece]:
        yield RawPiece("", await self.complete(ask, seconds))

    def choose(self, text: str) -> str:
        raise NotImplementedError


class Names(Classifier):
    """The tool of whose name most words stand in the request; the first of equals."""

    def __init__(self, tools: Sequence[str]) -> None:
        super().__init__("names")
        self._words = {tool: {word[:5] for word in re.findall("[a-z]+", tool)} for tool in tools}

    def choose(self, text: str) -> str:
        said = {word[:5] for word in re.findall("[a-z]+", text.lower())}
        return max(self._words, key=lambda tool: len(self._words[tool] & said))


class Vectors:
    """The vectors of all requests, computed once by the real embedder."""

    def __init__(self, texts: Sequence[str], rows: Any) -> None:
        self._rows = dict(zip(texts, rows, strict=True))

    def __getitem__(self, text: str) -> Any:
        return self._rows[text]


class Shot(Classifier):
    """The tool whose single example is nearest."""

    def __init__(self, known: Known, vectors: Vectors, chance: Random) -> None:
        super().__init__("shot")
        one = {tool: chance.choice([at for at, each in enumerate(known.tools) if each == tool]) for tool in known.tools}
        self._tools, self._vectors = list(one), vectors
        self._examples = known.vectors[list(one.values())]

    def choose(self, text: str) -> str:
        return self._tools[int(np.argmax(self._examples @ self._vectors[text]))]


class All(Classifier):
    """Softmax regression on all that is known."""

    def __init__(self, known: Known, vectors: Vectors) -> None:
        super().__init__("all")
        self._tools, self._vectors = sorted(set(known.tools)), vectors
        self._weights = softmax_regression(known.vectors, [self._tools.index(tool) for tool in known.tools])

    def choose(self, text: str) -> str:
        return self._tools[int(np.argmax(_with_one(self._vectors[text][None]) @ self._weights))]


class WrongTool:
    """The probability that a proposed tool is wrong: what its neighbours among known requests say, through a logistic
    curve (Platt, 1999) that was fitted on requests that no tier learned from, with no neighbour of their own wording.
    """

    name = WRONG

    def __init__(self, known: Known, vectors: Vectors, proposed: Sequence[tuple[Request, str]]) -> None:
        """`proposed` are answers of tiers to requests among the known ones that they did not learn from."""
        self._known, self._vectors = known, vectors
        self._tools = np.array(known.tools)
        wordings = np.array([each.wording for each in known.requests])
        rows = [
            self._features(np.where(wordings == request.wording, -1.0, self._nearness(request.text)), tool)
            for request, tool in proposed
        ]
        self._curve = logistic(np.array(rows), [tool != request.tool for request, tool in proposed])

    looks_at = LooksAt.ANSWER

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """`sources` is the request."""
        features = self._features(self._nearness(sources[0]), text)
        wrong = 1 / (1 + np.exp(-float(_with_one(features[None])[0] @ self._curve)))
        return Judgement(validator=self.name, score=min(1.0, max(0.0, wrong)), reason="its neighbours say otherwise")

    def _nearness(self, text: str) -> Any:
        return self._known.vectors @ self._vectors[text]

    def _features(self, nearness: Any, tool: str) -> Any:
        """How near the nearest request with this tool is, the nearest with another, and what the nearest five say."""
        same = self._tools == tool
        own, other = float(nearness[same].max(initial=-1)), float(nearness[~same].max(initial=-1))
        return np.array([own, other, 5 * (own - other), same[np.argsort(nearness)[-5:]].mean()])


def softmax_regression(rows: Any, labels: Sequence[int], penalty: float = 1e-3, steps: int = 400) -> Any:
    """Weights (dimensions + 1, classes), by gradient descent with momentum from zero."""
    x, y = _with_one(rows), np.eye(max(labels) + 1)[list(labels)]
    weights, speed = np.zeros((x.shape[1], y.shape[1])), 0.0
    for _ in range(steps):
        scores = x @ weights
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        speed = 0.9 * speed - 2.0 * (x.T @ (chances - y) / len(x) + penalty * weights)
        weights = weights + speed
    return weights


def logistic(rows: Any, wrong: Sequence[bool]) -> Any:
    """Weights of a logistic curve."""
    return np.diff(softmax_regression(rows, [int(each) for each in wrong], 1e-4, 3000), axis=1)[:, 0]


def _with_one(rows: Any) -> Any:
    return np.hstack([rows, np.ones((len(rows), 1))])


@dataclass(frozen=True)
class World:
    """One division of the requests, and all that was learned from it."""

    tools: list[str]
    engines: dict[str, Classifier]
    validator: WrongTool
    test: list[Request]
    informed: Classifier
    """The largest tier, had it learned from all that the validator knows too."""


def divided(requests: Sequence[Request], vectors: Vectors, seed: int) -> World:
    """By wordings, at random from the seed."""
    chance = Random(seed)
    wordings = sorted({each.wording for each in requests})
    chance.shuffle(wordings)
    ends = [round(len(wordings) * share) for share in (TRAINING, TRAINING + CALIBRATION)]
    parts = [set(wordings[: ends[0]]), set(wordings[ends[0] : ends[1]]), set(wordings[ends[1] :])]
    training, calibration, test = ([each for each in requests if each.wording in part] for part in parts)
    tools, known = sorted({each.tool for each in requests}), _known(training, vectors)
    engines: dict[str, Classifier] = {
        "names": Names(tools),
        "shot": Shot(known, vectors, chance),
        "all": All(known, vectors),
    }
    proposed = [(each, engine.choose(each.text)) for each in calibration for engine in engines.values()]
    chance.shuffle(test)
    everything = _known([*training, *calibration], vectors)
    return World(tools, engines, WrongTool(everything, vectors, proposed), test, All(everything, vectors))


def _known(requests: Sequence[Request], vectors: Vectors) -> Known:
    return Known(requests, np.array([vectors[each.text] for each in requests]))


@dataclass
class Tally:
    """What came of many calls. Where a person is needed, `right` has what came of taking the last proposal instead."""

    calls: int = 0
    accepted: int = 0
    accepted_right: int = 0
    right: int = 0
    cents: float = 0

    def add(self, other: "Tally") -> None:
        self.calls, self.accepted = self.calls + other.calls, self.accepted + other.accepted
        self.accepted_right, self.right = self.accepted_right + other.accepted_right, self.right + other.right
        self.cents += other.cents

    def figures(self, name: str) -> dict[str, float]:
        """Cost of a thousand calls; share that is right of all, of those accepted; share that would ask a person."""
        return {
            f"{name}_cents": round(1000 * self.cents / self.calls, 1),
            f"{name}_right": round(self.right / self.calls, 4),
            f"{name}_accepted_right": round(self.accepted_right / max(1, self.accepted), 4),
            f"{name}_person": round(1 - self.accepted / self.calls, 4),
        }


async def tally(world: World, prices: Sequence[float], threshold: float, begin: str | None, seed: int) -> Tally:
    """The test's requests, one after the other, through a new pool. `begin` is a tier, and None the router's choice."""
    store, clock, found = SqliteStore.open(":memory:", "models", inline=True), SystemClock(), Tally()
    journal = Journal(store, clock, _fail)
    tiers = [
        Tier(name, Kind.GENERATE, name, rank=rank, cents_per_1k_prompt=price, cents_per_1k_completion=price)
        for rank, (name, price) in enumerate(zip(world.engines, prices, strict=True))
    ]
    backends: dict[str, Backend] = dict(world.engines)
    policy = Policy(repairs=0, second_cents=0, thresholds={WRONG: threshold})
    pool = Pool(
        tiers, backends, store=store, recorder=journal, clock=clock, entropy=SeededEntropy(seed), policy=policy,
        validators={WRONG: world.validator},
    )  # fmt: skip
    await pool.start()
    for request in world.test:
        found.add(await _asked(pool, world, request, begin))
    await pool.stop()
    found.cents = sum(row.cents for row in await pool.usage(OFFICE, 2))
    await store.close()
    return found


async def _asked(pool: Pool, world: World, request: Request, begin: str | None) -> Tally:
    ask = Ask(
        messages=(Message(role="user", content=request.text),),
        purpose=Purpose.CHOOSE,
        answer={"enum": world.tools},
        validators=(WRONG,),
        sources=(request.text,),
        tier=begin,
        max_tokens=64,
    )
    try:
        answer = await pool.ask(ask, Caller(tenant=OFFICE, by="benchmark"))
    except PersonNeeded as error:
        last = orjson.loads(await pool.text(OFFICE, error.ids["proposals"][-1]))
        return Tally(1, 0, 0, int(last == request.tool))
    right = int(answer.data == request.tool)
    return Tally(1, 1, right, right)


def _fail(error: BaseException) -> None:
    raise error


def read(folder: Path) -> list[Request]:
    """WorkBench's requests that a tool call solves: others depend on what is in its databases."""
    rows = (row for name in FILES for row in _rows(folder / f"{name}_queries_and_answers.csv"))
    solved = ((row, _TOOL.search(row["answer"])) for row in rows)
    return [Request(row["query"], tool[1], row["chosen_template"]) for row, tool in solved if tool]


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


async def embedded(requests: Sequence[Request], folder: Path) -> Vectors:
    texts = sorted({each.text for each in requests})
    async with LocalEmbedder(OnnxEncoder(folder)) as embedder:
        return Vectors(texts, await embedder.embed(texts))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    requests = read(options.requests)
    with tempfile.TemporaryDirectory() as folder:
        vectors = await embedded(requests, Path(folder))
    worlds = [divided(requests, vectors, seed) for seed in range(options.first, options.first + options.splits)]
    lowest, *_, highest = worlds[0].engines
    largest = await _tallies(worlds, options.prices, ACCEPTS_ALL, highest)
    begins = {"routed": None, "lowest": lowest, "largest": highest}
    rows = [
        {name: await _tallies(worlds, options.prices, each, begin) for name, begin in begins.items()}
        for each in options.thresholds
    ]
    return {
        "curve": [_row(threshold, row) for threshold, row in zip(options.thresholds, rows, strict=True)],
        "largest": _sum(largest).figures("largest"),
        "at_equal_quality": at_equal_quality(options.thresholds, [row["routed"] for row in rows], largest),
        "at_equal_accepted_quality": at_equal_accepted_quality(
            [_sum(row["routed"]) for row in rows], [_sum(row["largest"]) for row in rows]
        ),
        "strengths": {
            **{name: _strength([(world.engines[name], world.test) for world in worlds]) for name in worlds[0].engines},
            "all, had it learned from the validator's requests too": _strength(
                [(world.informed, world.test) for world in worlds]
            ),
        },
        "requests": len(requests),
    }


def _strength(pairs: Sequence[tuple[Classifier, Sequence[Request]]]) -> float:
    """Share of the test's requests that a tier answers right, alone and unjudged."""
    right = [engine.choose(each.text) == each.tool for engine, test in pairs for each in test]
    return round(sum(right) / len(right), 4)


async def _tallies(
    worlds: Sequence[World], prices: Sequence[float], threshold: float, begin: str | None
) -> list[Tally]:
    """One for each division."""
    return [await tally(world, prices, threshold, begin, seed) for seed, world in enumerate(worlds)]


def _sum(tallies: Sequence[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        total.add(each)
    return total


def _row(threshold: float, row: dict[str, list[Tally]]) -> dict[str, Any]:
    figures = [_sum(each).figures(name).items() for name, each in row.items()]
    return {"refused_from": threshold, "calls": _sum(row["routed"]).calls} | dict(chain.from_iterable(figures))


def at_equal_quality(
    thresholds: Sequence[float], routed: Sequence[Sequence[Tally]], largest: Sequence[Tally]
) -> dict[str, Any]:
    """The cheapest cascade that is right as often as the largest tier, over all calls. The threshold is chosen on every
    second division, and the figures are those of the others.
    """
    bar = _sum(largest[::2])
    able = [
        at for at, each in enumerate(routed) if (half := _sum(each[::2])).right * bar.calls >= bar.right * half.calls
    ]
    if not able:
        return {"refused_from": None}
    chosen = min(able, key=lambda at: _sum(routed[at][::2]).cents)
    ours, theirs = _sum(routed[chosen][1::2]), _sum(largest[1::2])
    figures = ours.figures("routed") | theirs.figures("largest")
    return {
        "refused_from": thresholds[chosen],
        "calls": ours.calls,
        **figures,
        "cost": round(ours.cents / theirs.cents, 4),
    }


def at_equal_accepted_quality(cascade: Sequence[Tally], largest: Sequence[Tally]) -> list[dict[str, float]]:
    """What the cascade costs where what it accepts is right as often as what is accepted of the largest tier alone,
    judged by the same validator. Between two thresholds of the cascade lies the straight line; qualities that it does
    not reach are left out.
    """
    ours = sorted((each.figures("cascade") for each in cascade), key=lambda each: each["cascade_accepted_right"])
    quality = [each["cascade_accepted_right"] for each in ours]

    def ours_at(bar: float, name: str) -> float:
        return round(float(np.interp(bar, quality, [each[name] for each in ours])), 4)

    return [
        {
            "accepted_right": bar,
            "cost": round(ours_at(bar, "cascade_cents") / each["largest_cents"], 3),
            "asks_a_person": ours_at(bar, "cascade_person"),
            "largest_asks_a_person": each["largest_person"],
        }
        for each in (tally.figures("largest") for tally in largest)
        if quality[0] <= (bar := each["largest_accepted_right"]) <= quality[-1]
    ]


def plot(rows: Sequence[dict[str, Any]], largest: dict[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes, accepted = figure.subplots(1, 2)
    for name, label in (("lowest", "cascade from the lowest tier"), ("routed", "cascade, routed")):
        axes.plot(
            [row[f"{name}_cents"] for row in rows], [100 * row[f"{name}_right"] for row in rows], "o-", label=label
        )
    axes.plot(largest["largest_cents"], 100 * largest["largest_right"], "s", label="always the largest tier")
    axes.axhline(100 * largest["largest_right"], linewidth=0.5)
    for row in rows:
        place = (row["routed_cents"], 100 * row["routed_right"])
        axes.annotate(f"{row['refused_from']:g}", place, textcoords="offset points", xytext=(5, -10), fontsize=7)
    axes.set(xlabel="cents per 1,000 calls", ylabel="right answers, %", title="Labels: refused from this score")
    axes.legend()
    for name, label in (("routed", "cascade, routed"), ("largest", "the largest tier, judged alike")):
        accepted.plot(
            [row[f"{name}_cents"] for row in rows],
            [100 * row[f"{name}_accepted_right"] for row in rows],
            "o-",
            label=label,
        )
    accepted.set(xlabel="cents per 1,000 calls", ylabel="right of what is accepted, %", title="Equal accepted quality")
    accepted.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path, required=True, help="folder of WorkBench's *_queries_and_answers.csv")
    parser.add_argument("--splits", type=int, default=10, help="divisions of the wordings")
    parser.add_argument("--first", type=int, default=0, help="number of the first division")
    parser.add_argument("--prices", type=_numbers, default=[1, 8, 60], help="cents per 1,000 tokens, tier by tier")
    parser.add_argument("--thresholds", type=_numbers, default=[0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, ACCEPTS_ALL])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    result = asyncio.run(run(options))
    if options.plot:
        plot(result["curve"], result["largest"], options.plot)
    show("cascade", result.pop("at_equal_accepted_quality"), prices=options.prices, **result)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
