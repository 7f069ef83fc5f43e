"""A tier against bare vLLM, and how the pool stands a recorded hour of asks.

Three ways to the same engine options and the same weights, which take turns within one run, ask for ask, so that
whatever else the machine does falls on all of them:

    bare      vLLM's `AsyncLLM` in this process, given the text of the prompt
    backend   the tier on Ray Serve, by its handle
    pool      the whole of it: cascade, queue, budget, journal on disk, then the tier; without validators and caches

And what the exact cache saves, when the pool is asked the same once more.

Tokens per second are those that were written, over all asks together. What a call costs is the difference to bare vLLM
for the same ask, one at a time. `--trace FILE` replays arrivals (TIMESTAMP, ContextTokens, GeneratedTokens, as in
Azure's LLM traces): its middle, scaled in tokens to the tier's window and in time to shares of what the pool can do.

    python -m hanse.benchmarks.pool --trace azure_llm_conv.csv --plot replay.png
"""

import argparse
import asyncio
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from ..contracts import HanseError, Overloaded, Tenant
from ..contracts.caller import Caller
from ..contracts.pool import Ask, Message
from ..models.backend import Backend, Raw
from ..models.chat import messages
from ..models.counting import TokenCounter
from ..models.gate import SchemaGate
from ..models.keeper import Keeper
from ..models.policy import Policy
from ..models.pool import Pool
from ..models.source import Sources
from ..models.tier import Kind, Tier
from ..models.vllm_tier import engine_options, environment_of
from ..runtime.cluster import join_ray
from ..runtime.config import Configuration
from ..runtime.journal import Journal
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock, SystemEntropy
from .machine import percentile, show

START_SECONDS = 600.0
CALLER = Caller(tenant=Tenant("bench"), by="bench")
POLICY = Policy(validators={}, thresholds={}, repairs=0, semantic_threshold=None)
"""Only asks that say that they are pure are kept in the cache: those of `repeated`."""
SUBJECTS = ("the order", "a refund", "my address", "this lamp", "the invoice", "two chairs", "a gift card", "delivery")
Way = Callable[[Ask], Awaitable[int]]
"""Answers an ask; gives the tokens that it wrote."""


RECORDED = (33, 53, 68, 81, 89, 95, 104, 118, 141, 171, 223, 389, 397, 411, 427, 502)
"""Tokens of an answer at 1/32, 3/32 … of Azure's recorded conversations (AzureLLMInferenceTrace_conv, CC BY 4.0,
Patel et al., "Splitwise", ISCA 2024): answers end one by one, as they do for real, and not all at once."""


@dataclass(frozen=True)
class Arrival:
    """One ask of the recorded hour. Seconds are from the first one."""

    seconds: float
    prompt_tokens: int
    answer_tokens: int


@dataclass
class Outcome:
    """What became of an ask."""

    seconds: float
    tokens: int = 0
    shed: bool = False
    failed: bool = False


CHARS_PER_TOKEN = 1.5
"""Of the words below with the tiny model's tokenizer, with some to spare; others put more into a token."""


def ask(number: int, max_tokens: int, prompt_tokens: int = 40) -> Ask:
    """Different from every other, so that no prefix of the prompt is in the engine's cache."""
    words = (SUBJECTS[(number + each) % len(SUBJECTS)] for each in range(prompt_tokens))
    text = f"{number}: what about {' and '.join(words)}?"[: round(prompt_tokens * CHARS_PER_TOKEN)]
    return Ask(messages=(Message(role="user", content=text),), max_tokens=max_tokens, only=True, validators=())


async def throughput(ways: dict[str, Way], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second of each way, `concurrency` asks at once, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    asks = await long_answered(ways["bare"], options)
    for turn in range(options.rounds + 1):
        for name in _rotated(list(ways), turn):
            rate = await _rate(ways[name], asks, options.concurrency)
            if turn:  # the first one warms up
                rates[name].append(rate)
    return [_against_bare(name, rates) for name in ways]


async def long_answered(bare: Way, options: argparse.Namespace) -> list[Ask]:
    """Asks to which the model has much to say, so that writing is measured and not reading. All ways take them: at
    temperature 0 they write the same. They are shorter than a block of the prefix cache.
    """
    lengths = [options.tokens] if options.tokens else RECORDED
    asks = [ask(number, max(lengths)) for number in range(4 * options.asks)]
    written = await asyncio.gather(*map(bare, asks))
    ranked = sorted(zip(written, range(len(asks)), strict=True), reverse=True)[: options.asks]
    longest = sorted(islice(cycle(lengths), options.asks), reverse=True)
    chosen = [ask(number, most) for (_, number), most in zip(ranked, longest, strict=True)]
    Random(0).shuffle(chosen)
    return chosen


async def latency(ways: dict[str, Way], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds of one ask at a time, and what each way adds to bare vLLM for the same ask."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.single):
        for name in _rotated(list(ways), number):
            started = time.perf_counter()
            await ways[name](ask(10**6 + number, options.single_tokens))
            took[name].append((time.perf_counter() - started) * 1000)
    return [
        {
            "way": name,
            "p50_ms": round(statistics.median(times), 2),
            "added_p50_ms": round(statistics.median(map(_minus, times, took["bare"])), 2),
            "added_p95_ms": round(percentile(list(map(_minus, times, took["bare"])), 0.95), 2),
        }
        for name, times in took.items()
    ]


async def repeated(pool: Way, options: argparse.Namespace) -> dict[str, Any]:
    """The same pure asks twice. The second time they are answered from the exact cache."""
    asks = [ask(4 * 10**6 + number, options.repeated_tokens) for number in range(options.asks)]
    pure = [each.model_copy(update={"pure": True}) for each in asks]
    first, again = [await _seconds(pool, pure, options.concurrency) for _ in range(2)]
    return {
        "asks": len(pure),
        "asks_per_s_first": round(len(pure) / first, 1),
        "asks_per_s_again": round(len(pure) / again, 1),
        "times": round(first / again, 1),
    }


async def replay(way: Way, arrivals: Sequence[Arrival], share: float, capacity: float) -> tuple[dict[str, Any], Any]:
    """Sends asks at their times, whatever became of those before. `capacity` is in asks per second."""
    scale = len(arrivals) / (share * capacity) / arrivals[-1].seconds
    started = time.perf_counter()
    outcomes = await asyncio.gather(
        *(_arrive(way, each, number, started + each.seconds * scale) for number, each in enumerate(arrivals))
    )
    return _summary(outcomes, share, time.perf_counter() - started), outcomes


def read_trace(path: Path, count: int, window: int) -> list[Arrival]:
    """The middle `count` arrivals of the file, their tokens divided so that nine tenths fit the window; the others are
    cut to it.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = rows[(len(rows) - count) // 2 :][:count]
    totals = sorted(int(row["ContextTokens"]) + int(row["GeneratedTokens"]) for row in rows)
    divisor = max(1.0, totals[int(0.9 * len(totals))] / (0.9 * window))
    first = _moment(rows[0])
    return [_arrival(row, first, divisor, int(0.9 * window)) for row in rows]


async def capacity_of(way: Way, arrivals: Sequence[Arrival], concurrency: int) -> float:
    """Asks per second when the same asks come as fast as they are answered."""
    asks = [_asked(each, 3 * 10**6 + number) for number, each in enumerate(arrivals)]
    return len(asks) / await _seconds(way, asks, concurrency)


def _asked(arrival: Arrival, number: int) -> Ask:
    return ask(number, arrival.answer_tokens, arrival.prompt_tokens)


async def _arrive(way: Way, arrival: Arrival, number: int, due: float) -> Outcome:
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    try:
        tokens = await way(_asked(arrival, 2 * 10**6 + number))
    except Overloaded:
        return Outcome(time.perf_counter() - due, shed=True)
    except HanseError:
        return Outcome(time.perf_counter() - due, failed=True)
    return Outcome(time.perf_counter() - due, tokens)


def _summary(outcomes: Sequence[Outcome], share: float, seconds: float) -> dict[str, Any]:
    answered = [each for each in outcomes if not each.shed and not each.failed]
    times = [each.seconds for each in answered] or [float("nan")]
    return {
        "load": share,
        "asks": len(outcomes),
        "p50_s": round(statistics.median(times), 3),
        "p95_s": round(percentile(times, 0.95), 3),
        "p99_s": round(percentile(times, 0.99), 3),
        "goodput_tokens_per_s": round(sum(each.tokens for each in answered) / seconds),
        "shed_share": round(sum(each.shed for each in outcomes) / len(outcomes), 4),
        "failed": sum(each.failed for each in outcomes),
    }


async def _rate(way: Way, asks: Sequence[Ask], concurrency: int) -> float:
    """Tokens per second. Whoever is done takes the next ask."""
    waiting, tokens = iter(asks), 0

    async def take() -> None:
        nonlocal tokens
        for each in waiting:
            written = await way(each)
            tokens += written

    started = time.perf_counter()
    await asyncio.gather(*(take() for _ in range(concurrency)))
    return tokens / (time.perf_counter() - started)


async def _seconds(way: Way, asks: Sequence[Ask], concurrency: int) -> float:
    started = time.perf_counter()
    await _rate(way, asks, concurrency)
    return time.perf_counter() - started


def _against_bare(name: str, rates: dict[str, list[float]]) -> dict[str, Any]:
    ratios = [ours / bare for ours, bare in zip(rates[name], rates["bare"], strict=True)]
    return {
        "way": name,
        "tokens_per_s": round(statistics.median(rates[name])),
        "of_bare": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def _rotated(names: list[str], turn: int) -> list[str]:
    start = turn % len(names)
    return names[start:] + names[:start]


def _minus(a: float, b: float) -> float:
    return a - b


def _moment(row: dict[str, str]) -> float:
    return datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()


def _arrival(row: dict[str, str], first: float, divisor: float, most: int) -> Arrival:
    answer = min(most // 2, max(1, round(int(row["GeneratedTokens"]) / divisor)))
    prompt = min(most - answer, max(8, round(int(row["ContextTokens"]) / divisor)))
    return Arrival(_moment(row) - first, prompt, answer)


# The three ways


@asynccontextmanager
async def bare_vllm(tier: Tier, sources: Sources) -> AsyncIterator[Way]:
    """vLLM alone, in as many processes as the tier gives it."""
    os.environ.update(environment_of(tier))
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    weights = sources.locate(tier.source)
    options = engine_options(tier, weights)
    for front in ("enable_auto_tool_choice", "tool_call_parser"):
        options.pop(front, None)
    config = AsyncEngineArgs(model=str(weights.folder), **options).create_engine_config()
    if tier.accelerator is None:
        config.parallel_config.distributed_executor_backend = "uni"
    engine, counter = AsyncLLM.from_vllm_config(config, disable_log_stats=True), TokenCounter.load(weights.folder)
    assert counter is not None

    async def answer(wanted: Ask) -> int:
        sampling = SamplingParams(max_tokens=wanted.max_tokens, temperature=0, output_kind=RequestOutputKind.FINAL_ONLY)
        written = 0
        async for output in engine.generate(counter.text(messages(wanted)), sampling, os.urandom(8).hex()):
            written = len(output.outputs[0].token_ids)
        return written

    try:
        yield answer
    finally:
        engine.shutdown()


def by_backend(backend: Backend, seconds: float = 120) -> Way:
    async def answer(wanted: Ask) -> int:
        raw: Raw = await backend.complete(wanted, seconds)
        return raw.completion_tokens

    return answer


@asynccontextmanager
async def whole_pool(tier: Tier, backend: Backend, data: Path) -> AsyncIterator[Way]:
    clock = SystemClock()
    store = SqliteStore.open(data / "models.sqlite", "models")
    journal = Journal(store, clock, _fail)
    pool = Pool(
        [tier],
        {tier.name: backend},
        store=store,
        recorder=journal,
        clock=clock,
        entropy=SystemEntropy(),
        policy=POLICY,
    )
    await pool.start()

    async def answer(wanted: Ask) -> int:
        return (await pool.ask(wanted, CALLER)).usage.completion_tokens

    try:
        yield answer
    finally:
        await pool.stop()
        await store.close()


def _fail(error: BaseException) -> None:
    print(f"the journal cannot be written: {error}", file=sys.stderr)


@asynccontextmanager
async def kept(tier: Tier, sources: Sources, data: Path) -> AsyncIterator[Keeper]:
    """The tier on Ray Serve in a cluster of its own, ready."""
    await asyncio.to_thread(join_ray, Configuration.for_agents([], data=data))
    import ray
    from ray import serve
    from ray.serve.config import ProxyLocation

    from ..models.serve_deployer import ServeDeployer
    from ..runtime.gateway import proxy

    await asyncio.to_thread(serve.start, proxy_location=ProxyLocation.Disabled)
    clock = SystemClock()
    keeper = Keeper([tier], sources.locate, ServeDeployer("bench"), clock, SchemaGate())
    try:
        await keeper.start()
        await keeper.ready(tier.name, START_SECONDS)
        yield keeper
    finally:
        await keeper.stop()
        await asyncio.to_thread(ray.shutdown)
        proxy.discard(data)


async def run(options: argparse.Namespace) -> None:
    tier = Tier(
        "bench",
        Kind.GENERATE,
        options.source,
        context_window=options.window,
        concurrency=options.concurrency,
        queue=2 * options.concurrency,
        accelerator=options.accelerator,
        timeout_seconds=120,
    )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        sources = Sources(Path.cwd(), data / "models")
        async with (
            kept(tier, sources, data) as keeper,
            whole_pool(tier, keeper.backend("bench"), data) as pool,
            bare_vllm(tier, sources) as bare,
        ):
            ways = {"bare": bare, "backend": by_backend(keeper.backend("bench")), "pool": pool}
            rates = await throughput(ways, options)
            times = await latency(ways, options)
            again = await repeated(pool, options)
            replayed = await _replays(pool, options)
    _tell(rates, times, again, replayed, options)


async def _replays(pool: Way, options: argparse.Namespace) -> list[tuple[dict[str, Any], Any]]:
    if options.trace is None:
        return []
    arrivals = read_trace(options.trace, options.arrivals, options.window)
    capacity = await capacity_of(pool, arrivals, options.concurrency)
    return [await replay(pool, arrivals, share, capacity) for share in options.loads]


def _tell(rates: Any, times: Any, again: Any, replayed: Any, options: argparse.Namespace) -> None:
    if replayed:
        show("pool, replay", [row for row, _ in replayed], trace=options.trace.name)
        if options.plot:
            _plot(replayed, options.plot)
    show("pool, one at a time", times)
    show("pool, the same once more", [again])
    rows = [row for row, _ in replayed]
    show("pool", rates, concurrency=options.concurrency, single=times, repeated=again, replay=rows)


def _plot(replayed: Any, path: Path) -> None:
    """The share of asks that were answered within so many seconds, for each load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for row, outcomes in replayed:
        times = sorted(each.seconds for each in outcomes if not each.shed and not each.failed)
        shares = [(place + 1) / len(outcomes) for place in range(len(times))]
        axes.step(times, shares, where="post", label=f"{row['load']:g} of capacity, {row['shed_share']:.0%} shed")
    axes.set(xscale="log", xlabel="seconds", ylabel="share of asks answered", ylim=(0, 1), title="replay of arrivals")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="tiny", help="weights, as in hanse.yaml")
    parser.add_argument("--accelerator", help="Ray's name of one, such as H200; processors without")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--asks", type=int, default=128, help="of each round")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=0, help="of every answer; 0 takes recorded lengths")
    parser.add_argument("--single", type=int, default=100, help="asks that are sent one at a time")
    parser.add_argument("--single-tokens", type=int, default=16)
    parser.add_argument("--repeated-tokens", type=int, default=64, help="of an answer that is asked for twice")
    parser.add_argument("--trace", type=Path, help="CSV of arrivals")
    parser.add_argument("--arrivals", type=int, default=600, help="of the trace")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 1.2])
    parser.add_argument("--plot", type=Path)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
