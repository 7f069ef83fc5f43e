"""An embedder that is still being loaded: whoever asks meanwhile waits, and nobody else does."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..contracts import Digest, HanseError, ModelUnavailable
from ..contracts.pool import Embedder, TierState
from ..models.backend import Condition
from ..models.minilm import Weights as MiniLm
from ..models.source import Sources
from .config import Configuration, EmbedderEntry
from .weights import sources_of

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

WAIT_SECONDS = 30.0
"""How long a question waits for the weights."""


class LateEmbedder:
    """Keeps `Embedder` from the start. `load` blocks for as long as it takes, in a thread."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._loading: asyncio.Task[Embedder] | None = None

    def begin(self) -> None:
        """Starts loading, or starts again after a failure."""
        if self._loading is None or (self._loading.done() and not self._is_there()):
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))
            self._loading.add_done_callback(_heard)

    @property
    def digest(self) -> Digest:
        """Empty while it is loaded."""
        return self._there.digest if self._is_there() else Digest("")

    @property
    def dimensions(self) -> int:
        """0 while it is loaded."""
        return self._there.dimensions if self._is_there() else 0

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> "NDArray[float32]":
        """Raises ModelUnavailable also when it could not be loaded, or takes too long to be."""
        return await (await self.loaded()).embed(texts, interactive=interactive)

    async def loaded(self, seconds: float = WAIT_SECONDS) -> Embedder:
        """The embedder itself. Raises ModelUnavailable."""
        self.begin()
        assert self._loading is not None
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._loading)
        except TimeoutError:
            raise ModelUnavailable(f"the embedder is not loaded after {seconds:g} s") from None
        except HanseError:
            raise
        except Exception as error:
            raise ModelUnavailable(f"the embedder cannot be loaded: {type(error).__name__}: {error}") from error

    def condition(self) -> Condition:
        """For `hanse models`."""
        if self._is_there():
            return Condition(TierState.READY, progress=1.0, replicas=1)
        error = self._loading.exception() if self._loading and self._loading.done() else None
        if error is None:
            return Condition(TierState.WARMING, "loading weights")
        remedy = str(error.ids.get("remedy", "")) if isinstance(error, HanseError) else ""
        return Condition(TierState.ABSENT, str(getattr(error, "detail", error)), remedy)

    async def close(self) -> None:
        """Idempotent."""
        if self._is_there() and (close := getattr(self._there, "close", None)):
            await close()

    @property
    def _there(self) -> Embedder:
        assert self._loading is not None
        return self._loading.result()

    def _is_there(self) -> bool:
        loading = self._loading
        return loading is not None and loading.done() and not loading.cancelled() and loading.exception() is None


def _heard(loading: "asyncio.Task[Embedder]") -> None:
    """Takes notice of a failure that nobody waits for; `condition` tells it."""
    if not loading.cancelled():
        loading.exception()


def embedder_of(configuration: Configuration) -> LateEmbedder:
    """The one that the configuration names, in this process."""
    return LateEmbedder(partial(_load, configuration.embedder, sources_of(configuration)))


def minilm(configuration: Configuration) -> LateEmbedder:
    """MiniLM on ONNX Runtime in this process: whose vectors the heads of trained validators take."""
    return LateEmbedder(partial(_load, EmbedderEntry(), sources_of(configuration)))


def _load(entry: EmbedderEntry, sources: Sources) -> Embedder:
    """What is made of the weights lies in the data folder, for all processes."""
    from ..models.embedder import LocalEmbedder
    from ..models.encoder import OnnxEncoder

    if entry.is_default:
        return LocalEmbedder(OnnxEncoder(sources.cache))
    found = sources.locate(entry.source, entry.pinned)
    if entry.backend == "onnx":
        return LocalEmbedder(OnnxEncoder(sources.cache, weights=MiniLm(found.folder).checked()))
    from ..models.sentence_encoder import SentenceEncoder

    return LocalEmbedder(SentenceEncoder(found, context_window=entry.context_window))
