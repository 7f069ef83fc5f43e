"""Embedding: texts to vectors as the log keeps them, or the reason why there are none now.

Nothing waits for vectors: while the embedder is away, what is remembered is found by its words, and gets its vector
later.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..contracts import HanseError, StorageError
from ..contracts.pool import Embedder
from .log import packed, unpacked

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

DIMENSIONS = 384
"""Until an embedder says otherwise."""


class Vectors(NamedTuple):
    """Of some texts, in their order; all None with the reason."""

    rows: "Sequence[NDArray[float32] | None]"
    model: str | None
    missing: str = ""


class Embedding:
    """What the memory needs of an embedder."""

    def __init__(self, embedder: Embedder | None) -> None:
        self._embedder = embedder

    @property
    def model(self) -> str:
        """Digest of the embedder; empty when there is none. May raise nothing."""
        try:
            return str(self._embedder.digest) if self._embedder else ""
        except HanseError:
            return ""

    @property
    def expected(self) -> bool:
        """Whether there is an embedder, here or away."""
        return self._embedder is not None

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions if self._embedder and self.model else DIMENSIONS

    async def of(self, texts: Sequence[str], *, interactive: bool = False) -> Vectors:
        """Rounded as the log keeps them, so that a rebuilt index is the one that was."""
        if not texts:
            return Vectors([], None)
        if self._embedder is None:
            return Vectors([None] * len(texts), None, "no embedder is configured")
        if not self.model:
            return Vectors([None] * len(texts), None, "the embedder is not loaded yet, so words alone were compared")
        try:
            found = await self._embedder.embed(texts, interactive=interactive)
        except StorageError:
            raise
        except HanseError as error:
            return Vectors([None] * len(texts), None, f"the embedder cannot be used: {error.detail}")
        return Vectors([unpacked(packed(row)) for row in found], self.model)
