"""The whole store as one document set, asked from the agents page by page."""

from collections.abc import Awaitable, Callable
from typing import Any

from .documents import Documents, DocumentSet, joined

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Calls one capability with an input and returns its output: `federation.call`, for one."""
PAGE = 200
"""Documents per page: about 250 kB of orders, well below what a frame may carry."""


async def exported(call: Call) -> DocumentSet:
    """Orders, users and products, each document with every field.

    Each page is consistent in itself. The whole is consistent only while nothing changes, because no agent knows when
    another one was asked.
    """
    return joined(
        orders=await _pages(call, "orders.export"),
        profiles=await _pages(call, "customers.export"),
        wallets=await _pages(call, "payments.export"),
        products=await _pages(call, "catalogue.export"),
    )


async def _pages(call: Call, capability: str) -> list[Documents]:
    documents: list[Documents] = []
    after: str | None = None
    while True:
        page = await call(capability, {"after": after, "limit": PAGE})
        documents += page["documents"]
        if (after := page["next"]) is None:
            return documents
