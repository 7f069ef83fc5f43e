"""Validators that were trained: injected instructions, risk of a request, answers that their sources do not support.

They keep the `Validator` protocol over any `Embedder`. They are opinions with known errors, which each head's `limits`
names; whoever writes a text can also write it so that a head does not mind. Nothing may rely on them as a boundary.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contracts import Corrupt, HanseError, ModelUnavailable, NotFound
from ..contracts.pool import Embedder, Judgement
from .head import Head, load, read
from .signs import NAMES, signs
from .validator import TRAINED, LooksAt, Validator
from .windows import MAX_WINDOWS, windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

MODEL = "all-MiniLM-L6-v2"
TEXT_FEATURES = ("embedding:384", *NAMES)
"""What heads for one text take of each of its windows."""
SHOWN = 160
MAX_CHARACTERS = 400_000


class _Learned:
    """What they have in common: a head, an embedder, and a limit on what is looked at."""

    def __init__(self, embedder: Embedder, head: Head) -> None:
        self._embedder = embedder
        self.head = head

    @property
    def name(self) -> str:
        return self.head.name

    async def _rows(self, pieces: Sequence[str]) -> "NDArray[np.float32]":
        vectors = await self._embedder.embed(pieces, interactive=True)
        if vectors.shape[1] + len(signs("")) != len(self.head.line.weights):
            raise ModelUnavailable(
                f"the head {self.name!r} takes vectors of {self.head.model}; the embedder has others"
            )
        return rows(vectors, pieces)

    def _judgement(self, logit: float, reason: str) -> Judgement:
        return Judgement(validator=self.name, score=self.head.probability(logit), reason=reason)


class Injection(_Learned):
    """Probability that a text from outside holds instructions to whoever reads it."""

    looks_at = LooksAt.MATERIAL

    def __init__(self, embedder: Embedder, head: Head | None = None) -> None:
        super().__init__(embedder, head or load("injection"))

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """The reason is the window that speaks most like an instruction."""
        pieces = _pieces(text)
        logits = self.head.logits(await self._rows(pieces))
        place = int(logits.argmax())
        return self._judgement(float(logits[place]), f"most like an instruction: {pieces[place][:SHOWN]!r}")


class OfText(_Learned):
    """A head of one's own over one text: the probability of whatever it was trained to find."""

    def __init__(self, embedder: Embedder, head: Head, looks_at: LooksAt) -> None:
        """Raises Corrupt for a head that takes something else than MiniLM's vectors and the signs of a text."""
        super().__init__(embedder, head)
        self.looks_at = looks_at
        if head.model != MODEL or head.features != TEXT_FEATURES:
            takes = f"{', '.join(head.features)} of {head.model}"
            raise Corrupt(f"the head {head.name!r} takes {takes}, and there is {', '.join(TEXT_FEATURES)} of {MODEL}")

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """The reason is the window that decided."""
        pieces = _pieces(text)
        logits = self.head.logits(await self._rows(pieces))
        place = int(logits.argmax())
        return self._judgement(float(logits[place]), f"{self.name}, most in: {pieces[place][:SHOWN]!r}")


class Silent:
    """In the place of a validator that could not be made: it has no opinion, and says why."""

    def __init__(self, name: str, looks_at: LooksAt, why: HanseError) -> None:
        self.name, self.looks_at, self._why = name, looks_at, why

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        raise ModelUnavailable(self._why.detail)


class Risk(_Learned):
    """Probability that doing what a request asks changes something or reaches outside, rather than only reads."""

    looks_at = LooksAt.REQUEST

    def __init__(self, embedder: Embedder, head: Head | None = None) -> None:
        super().__init__(embedder, head or load("risk"))

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        pieces = _pieces(text)
        logits = self.head.logits(await self._rows(pieces))
        place = int(logits.argmax())
        return self._judgement(float(logits[place]), f"asks to change something: {pieces[place][:SHOWN]!r}")


class Support(_Learned):
    """Probability that an answer is off its sources' topic. With no sources it has nothing to compare."""

    looks_at = LooksAt.ANSWER

    def __init__(self, embedder: Embedder, head: Head | None = None) -> None:
        super().__init__(embedder, head or load("support"))

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        """The reason is the sentence of the answer that is farthest from all sources."""
        if not sources or not text.strip():
            return Judgement(validator=self.name, score=0.0, reason="there are no sources to compare with")
        said, known = _pieces(text), [piece for source in sources for piece in _pieces(source)]
        if len(known) > MAX_WINDOWS:
            raise _too_long()
        vectors = await self._embedder.embed([*said, *known], interactive=True)
        logits = self.head.logits(closeness(vectors[: len(said)], vectors[len(said) :], said, known))
        place = int(logits.argmax())
        return self._judgement(float(logits[place]), f"farthest from the sources: {said[place][:SHOWN]!r}")


def learned(embedder: Embedder, others: Mapping[str, Embedder] | None = None) -> dict[str, Validator]:
    """All of them by name. Those that `others` names have an embedder of their own. Raises Corrupt when a head's file
    was changed.
    """
    by = dict.fromkeys(TRAINED, embedder) | dict(others or {})
    return {"injection": Injection(by["injection"]), "risk": Risk(by["risk"]), "support": Support(by["support"])}


def of_ones_own(name: str, file: Path, looks_at: LooksAt, embedder: Embedder) -> Validator:
    """The head in a file that `hanse.benchmarks.heads --own` wrote. One that is missing or damaged has no opinion."""
    try:
        return OfText(embedder, read(file, name), looks_at)
    except (NotFound, Corrupt) as error:
        _log.error("the head %s cannot be used: %s", name, error.detail, extra={"action": "head.refused"})
        return Silent(name, looks_at, error)


def rows(vectors: "NDArray[np.float32]", pieces: Sequence[str]) -> "NDArray[np.float32]":
    """What the heads for one text take: the embedding, then the signs. Shape (pieces, 384 + signs)."""
    return np.hstack([vectors, np.stack([signs(piece) for piece in pieces])])


CLOSENESS = ("highest_cosine", "second_cosine", "mean_of_three", "shared_words", "length")


def closeness(
    said: "NDArray[np.float32]", known: "NDArray[np.float32]", texts: Sequence[str], sources: Sequence[str]
) -> "NDArray[np.float32]":
    """What the head for support takes of each piece of an answer. Shape (pieces, CLOSENESS)."""
    cosines = -np.sort(-(said @ known.T), axis=1)[:, :3]
    words = {word for source in sources for word in _words(source)}
    shared = [len(own & words) / max(1, len(own)) for own in map(_words, texts)]
    lengths = [min(1.0, len(text) / 200) for text in texts]
    second = cosines[:, min(1, cosines.shape[1] - 1)]
    return np.column_stack([cosines[:, 0], second, cosines.mean(1), shared, lengths]).astype(np.float32)


def _words(text: str) -> set[str]:
    """Those that carry meaning: long ones and numbers, in lower case."""
    cleaned = (word.strip(".,;:!?()[]{}'\"").lower() for word in text.split())
    return {word for word in cleaned if len(word) > 3 or word.isdigit()}


def _pieces(text: str) -> list[str]:
    """Raises ModelUnavailable for a text that is too long to be looked at whole: the end is where one would hide."""
    if len(text) > MAX_CHARACTERS or len(pieces := windows(text)) > MAX_WINDOWS:
        raise _too_long()
    return pieces


def _too_long() -> ModelUnavailable:
    return ModelUnavailable(f"more than {MAX_WINDOWS} sentences are not judged at once: judge parts of the text")
