"""An embedder that is not there yet: loaded beside everything else, and ModelUnavailable until then."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts import Digest, HanseError, ModelUnavailable
from ..contracts.pool import Embedder

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)


class WarmingEmbedder:
    """Keeps the `Embedder` protocol. Belongs to the event loop on which it was made."""

    def __init__(self, load: Callable[[], Any], wrap: Callable[[Any], Embedder]) -> None:
        """`load` runs in a thread and may take its time; `wrap` makes an embedder of what it gives, on the loop."""
        self._embedder: Embedder | None = None
        self._why = "the embedder is still loading"
        self._loading = asyncio.create_task(self._load(load, wrap))

    @classmethod
    def local(cls, folder: Path) -> "WarmingEmbedder":
        """MiniLM in this process. `folder` keeps what is made of its weights."""

        def load() -> Any:
            from ..models.encoder import OnnxEncoder

            return OnnxEncoder(folder)

        def wrap(encoder: Any) -> Embedder:
            from ..models.embedder import LocalEmbedder

            return LocalEmbedder(encoder)

        return cls(load, wrap)

    @property
    def digest(self) -> Digest:
        return self._there().digest

    @property
    def dimensions(self) -> int:
        return self._there().dimensions

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> "NDArray[float32]":
        return await self._there().embed(texts, interactive=interactive)

    async def loaded(self) -> None:
        """Returns when it is loaded, or cannot be."""
        await asyncio.shield(self._loading)

    async def close(self) -> None:
        self._loading.cancel()
        await asyncio.gather(self._loading, return_exceptions=True)
        if close := getattr(self._embedder, "close", None):
            await close()

    def _there(self) -> Embedder:
        if self._embedder is None:
            raise ModelUnavailable(self._why)
        return self._embedder

    async def _load(self, load: Callable[[], Any], wrap: Callable[[Any], Embedder]) -> None:
        try:
            self._embedder = wrap(await asyncio.to_thread(load))
        except (HanseError, ImportError, OSError) as error:
            self._why = f"the embedder cannot be loaded: {error}"
            _log.warning("%s", self._why, extra={"action": "embedder.not_loaded"})
