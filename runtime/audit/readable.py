"""The reading half of a store: all that an audit needs."""

from collections.abc import Sequence
from typing import Any, Protocol


class Readable(Protocol):
    """Rows of a named query. Raises StorageError, and Corrupt for what the store itself finds broken."""

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...
