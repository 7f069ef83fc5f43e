"""The way to a tier's replicas: bytes there and back."""

from collections.abc import AsyncIterator
from typing import Any, Protocol


class Door(Protocol):
    """Calls of one tier's replicas. Cancelling a call ends its work in the engine too."""

    async def call(self, method: str, body: bytes) -> bytes:
        """Raises ModelUnavailable when no replica answers, and then with `gone`; Overloaded when all are full."""
        ...

    def stream(self, method: str, body: bytes) -> AsyncIterator[bytes]:
        """Raises the same, also after the first item."""
        ...

    async def report(self) -> dict[str, Any]:
        """How one replica is. Raises ModelUnavailable."""
        ...
