"""The embedder in this process: the same vectors whatever comes with a text, for callers that come, wait and go."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from hanse.contracts import InvalidInput, ModelUnavailable, Overloaded, TooLarge, Unavailable
from hanse.models import embedder as module
from hanse.models.embedder import LocalEmbedder
from hanse.models.encoder import OnnxEncoder
from hanse.models.minilm import MAX_TOKENS

TEXTS = ["An order was refunded.", "Der Zug fährt um acht.", "x", "A much longer text about ships and trade. " * 9]
SAME = 2e-6
"""Largest difference between two vectors of one text: rounding in another order of summing."""


class Gated:
    """A real encoder that waits before each batch until the test lets it go."""

    def __init__(self, encoder: OnnxEncoder) -> None:
        self.encoder, self.digest, self.dimensions = encoder, encoder.digest, encoder.dimensions
        self.gate, self.entered = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[int] = []
        self.fails = False

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return self.encoder.tokens(texts)

    def vectors(self, ids: Sequence[list[int]]) -> np.ndarray:
        self.batches.append(len(ids))
        self.entered.release()
        self.gate.acquire(timeout=20)
        if self.fails:
            raise RuntimeError("out of memory")
        return self.encoder.vectors(ids)

    async def is_computing(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=20)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    return OnnxEncoder(tmp_path_factory.mktemp("graphs"), threads=1)


@pytest.fixture
async def embedder(encoder: OnnxEncoder) -> AsyncIterator[LocalEmbedder]:
    async with LocalEmbedder(encoder) as embedder:
        yield embedder


@pytest.fixture
def gated(encoder: OnnxEncoder):
    gated = Gated(encoder)
    yield gated
    gated.gate.release(1000)


async def test_a_text_has_one_vector_whatever_it_comes_with(embedder: LocalEmbedder):
    together = await embedder.embed(TEXTS)
    alone = np.concatenate([await embedder.embed([text]) for text in TEXTS])
    among_others = (await embedder.embed([*(f"filling {i} " * (i % 40) for i in range(60)), *TEXTS]))[-len(TEXTS) :]
    assert together.shape == (4, embedder.dimensions)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.abs(together - alone).max() < SAME
    assert np.abs(together - among_others).max() < SAME


async def test_rows_come_in_the_order_of_the_texts(embedder: LocalEmbedder):
    texts = [f"number {i} " + "and so on " * (7 * i % 31) for i in range(100)]
    forwards, backwards = await asyncio.gather(embedder.embed(texts), embedder.embed(texts[::-1]))
    assert np.abs(forwards - backwards[::-1]).max() < SAME
    assert len({row.tobytes() for row in forwards}) == 100


async def test_many_callers_at_once_each_get_their_own(embedder: LocalEmbedder):
    groups = [[f"caller {i} says {j}" for j in range(i % 5)] for i in range(40)]
    answers = await asyncio.gather(*(embedder.embed(group, interactive=i % 2 == 0) for i, group in enumerate(groups)))
    expected = await embedder.embed([text for group in groups for text in group])
    assert [len(answer) for answer in answers] == [len(group) for group in groups]
    assert np.abs(np.concatenate(answers) - expected).max() < SAME
    assert embedder.waiting == 0


async def test_texts_that_arrive_during_a_batch_form_the_next_one(gated: Gated):
    async with LocalEmbedder(gated, workers=1) as embedder:
        calls = [asyncio.create_task(embedder.embed(["first"]))]
        await gated.is_computing()
        calls += [asyncio.create_task(embedder.embed([f"later {i}"])) for i in range(9)]
        await _all_waiting(embedder, 10)
        gated.gate.release(1000)
        await asyncio.gather(*calls)
    assert gated.batches == [1, 9]


async def test_one_large_call_keeps_all_workers_busy(gated: Gated):
    async with LocalEmbedder(gated, workers=2) as embedder:
        call = asyncio.create_task(embedder.embed(["many words " * 100] * 8))
        await gated.is_computing()
        await gated.is_computing()
        gated.gate.release(1000)
        await call


@pytest.mark.parametrize("workers", [1, 3])
async def test_who_comes_as_the_last_batch_ends_is_served(encoder: OnnxEncoder, workers: int):
    async def one_after_the_other(name: int) -> None:
        for i in range(15):
            await embedder.embed([f"{name} {i}"] * (i % 2 + 1))

    async with LocalEmbedder(encoder, workers=workers) as embedder, asyncio.timeout(60):
        await asyncio.gather(*(one_after_the_other(name) for name in range(4)))


async def test_interactive_texts_go_first(gated: Gated):
    async with LocalEmbedder(gated, workers=1) as embedder:
        order: list[str] = []
        calls = [_note([], "first", embedder.embed(["first"]))]
        await gated.is_computing()
        calls += [_note(order, "bulk", embedder.embed(["bulk " * 200] * 8))]
        await _all_waiting(embedder, 9)
        calls.append(_note(order, "person", embedder.embed(["a question"], interactive=True)))
        await _all_waiting(embedder, 10)
        gated.gate.release(1000)
        await asyncio.gather(*calls)
    assert order == ["person", "bulk"]


async def test_interactive_texts_do_not_starve_the_others(gated: Gated, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BATCH_TOKENS", 3)
    async with LocalEmbedder(gated, workers=1) as embedder:
        order: list[str] = []
        calls = [_note([], "first", embedder.embed(["first"]))]
        await gated.is_computing()
        calls += [_note(order, f"person {i}", embedder.embed(["hi"], interactive=True)) for i in range(20)]
        await _all_waiting(embedder, 21)
        calls.append(_note(order, "bulk", embedder.embed(["bulk"])))
        await _all_waiting(embedder, 22)
        gated.gate.release(1000)
        await asyncio.gather(*calls)
    assert order.index("bulk") < module.PATIENCE


async def test_a_small_call_does_not_wait_for_the_whole_of_a_large_one(gated: Gated):
    async with LocalEmbedder(gated, workers=1) as embedder:
        order: list[str] = []
        large = _note(order, "large", embedder.embed(["many words " * 100] * 12))
        await gated.is_computing()
        small = _note(order, "small", embedder.embed(["one"]))
        await _all_waiting(embedder, 13)
        gated.gate.release(1000)
        await asyncio.gather(large, small)
    assert order == ["small", "large"]


async def test_several_workers_compute_at_the_same_time(gated: Gated):
    async with LocalEmbedder(gated, workers=2) as embedder:
        first = asyncio.create_task(embedder.embed(["first"]))
        await gated.is_computing()
        second = asyncio.create_task(embedder.embed(["second"]))
        await gated.is_computing()
        gated.gate.release(1000)
        assert [each.shape for each in await asyncio.gather(first, second)] == [(1, 384)] * 2


async def test_a_caller_that_goes_away_harms_nobody(gated: Gated):
    async with LocalEmbedder(gated, workers=1) as embedder:
        going = asyncio.create_task(embedder.embed(["computed now", *["waits " * 250] * 6]))
        await gated.is_computing()
        staying = asyncio.create_task(embedder.embed(TEXTS))
        await _all_waiting(embedder, 11)
        going.cancel()
        gated.gate.release(1000)
        vectors = await staying
        with pytest.raises(asyncio.CancelledError):
            await going
        assert embedder.waiting == 0
    assert np.abs(vectors - gated.encoder.vectors(gated.encoder.tokens(TEXTS))).max() < SAME
    assert sum(gated.batches) < 11, "texts that nobody waits for were computed"


async def test_more_than_may_wait_is_refused_at_once(gated: Gated):
    async with LocalEmbedder(gated, queue=5, workers=1) as embedder:
        waiting = asyncio.create_task(embedder.embed(["a", "b", "c"]))
        await gated.is_computing()
        with pytest.raises(Overloaded) as refused:
            await embedder.embed(["d", "e", "f"])
        assert refused.value.retry_after_seconds > 0
        with pytest.raises(TooLarge, match="several calls"):
            await embedder.embed(["x"] * 6)
        gated.gate.release(1000)
        assert (await waiting).shape == (3, 384)
        assert (await embedder.embed(["d", "e", "f"])).shape == (3, 384), "room comes back"


async def test_a_batch_that_fails_is_an_error_for_its_callers_only(gated: Gated):
    async with LocalEmbedder(gated, workers=1) as embedder:
        gated.fails = True
        failing = asyncio.create_task(embedder.embed(["unlucky"]))
        await gated.is_computing()
        gated.gate.release(1000)
        with pytest.raises(ModelUnavailable, match="RuntimeError: out of memory"):
            await failing
        gated.fails = False
        assert (await embedder.embed(["lucky"])).shape == (1, 384)


async def test_closing_answers_those_who_wait(gated: Gated):
    embedder = LocalEmbedder(gated, workers=1)
    calls = [asyncio.create_task(embedder.embed([f"text {i}"])) for i in range(3)]
    await gated.is_computing()
    await embedder.close()
    gated.gate.release(1000)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await embedder.embed(["too late"])
    await embedder.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00",
        "\ud800 half a pair",
        "\U0001f9d1\u200d\U0001f680",
        "e\u0301" * 300,
        "漢字" * 400,
        "\u202eabc",
        "[SEP] [PAD]",
        "a" * 9000,
    ],
)
async def test_odd_texts_have_vectors_too(embedder: LocalEmbedder, text: str):
    vectors = await embedder.embed([text, "plain"])
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors[1] - (await embedder.embed(["plain"]))[0]).max() < SAME


async def test_no_texts_are_no_vectors(embedder: LocalEmbedder):
    assert (await embedder.embed([])).shape == (0, 384)


async def test_only_the_first_tokens_are_seen(encoder: OnnxEncoder):
    words = "ships and trade " * 2000
    (long,), (cut,) = encoder.tokens([words]), encoder.tokens(["ships and trade " * 100])
    assert len(long) == MAX_TOKENS
    assert long == cut


async def test_what_is_absurd_or_no_text_is_refused(embedder: LocalEmbedder):
    with pytest.raises(TooLarge, match="cut it into parts"):
        await embedder.embed(["a" * 1_000_001])
    for wrong in ("one text", [1], [None], [b"bytes"]):
        with pytest.raises(InvalidInput):
            await embedder.embed(wrong)  # pyright: ignore[reportArgumentType]


async def _all_waiting(embedder: LocalEmbedder, texts: int) -> None:
    """Until all calls are counted and cut into tokens: the one thread that cuts has nothing left to do."""
    await asyncio.sleep(0)
    assert embedder.waiting == texts
    await asyncio.get_running_loop().run_in_executor(embedder._cutting, int)
    await asyncio.sleep(0)


def _note(order: list[str], name: str, awaitable) -> asyncio.Task[None]:
    async def wait() -> None:
        await awaitable
        order.append(name)

    return asyncio.create_task(wait())
