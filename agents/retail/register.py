"""Documents of which the latest change can be taken back: the state behind every `…restore` compensation.

A change keeps the document as it was before, under the idempotency key of the step that made it. Taking a change back
is allowed only while it is the latest one: compensations run in reverse order, so a plan that undoes itself always
finds it so, and nobody else's later change is ever overwritten. Taking back twice is taking back once, because a
plan's own `undo` step and the compensation of an aborted task may both ask for it.
"""

from typing import Any, Generic, TypeVar

from pydantic import Field

from ..context import Context
from .document import Document, Request
from .refusals import ChangedSince, ChangeNotFound

Kept = TypeVar("Kept", bound=Document)


class PageRequest(Request):
    """Which part of an export is wanted."""

    after: str | None = None
    """The key the last page ended with; null begins at the beginning."""
    limit: int = Field(default=100, ge=1, le=1000)


class Page(Document):
    """A part of an export, in the order of keys."""

    documents: list[dict[str, Any]]
    next: str | None
    """Where the next page begins; null when this was the last."""


class Register(Generic[Kept]):
    """The documents of one collection. Holds no state itself: everything is in the context's."""

    def __init__(self, collection: str, kind: type[Kept]) -> None:
        self.collection, self.kind = collection, kind

    async def add(self, context: Context, key: str, document: Kept) -> None:
        """Stores a new document, without a way back."""
        await self._put(context, key, document.to_data(), None)

    async def get(self, context: Context, key: str) -> Kept | None:
        row = await context.state.get(self.collection, key)
        return None if row is None else self.kind.model_validate(row["document"])

    async def change(self, context: Context, key: str, document: Kept) -> str:
        """Stores the new document and returns the id of the change. The key must exist."""
        row, change = await context.state.get(self.collection, key), context.idempotency_key
        note = {"key": key, "document": row["document"], "previous": row["change"], "undone": False}
        await context.state.put(self._changes, change, note)
        await self._put(context, key, document.to_data(), change)
        return change

    async def restore(self, context: Context, key: str, change: str) -> bool:
        """Takes the change back; False when that was done before. Raises ChangeNotFound, ChangedSince."""
        note = await context.state.get(self._changes, change)
        if note is None or note["key"] != key:
            raise ChangeNotFound(key=key, change=change)
        if note["undone"]:
            return False
        await self._check_latest(context, key, change)
        await self._put(context, key, note["document"], note["previous"])
        await context.state.put(self._changes, change, {**note, "undone": True})
        return True

    async def page(self, context: Context, request: PageRequest) -> Page:
        rows = await context.state.scan(self.collection, after=request.after or "", limit=request.limit + 1)
        shown = rows[: request.limit]
        return Page(
            documents=[row["document"] for _, row in shown], next=shown[-1][0] if len(rows) > len(shown) else None
        )

    async def _check_latest(self, context: Context, key: str, change: str) -> None:
        row = await context.state.get(self.collection, key)
        if row["change"] != change:
            raise ChangedSince(key=key, change=change, latest=row["change"])

    async def _put(self, context: Context, key: str, document: dict[str, Any], change: str | None) -> None:
        await context.state.put(self.collection, key, {"document": document, "change": change})

    @property
    def _changes(self) -> str:
        return f"{self.collection}.changes"


class StoreOptions(Document):
    """Options of the agents that begin with data."""

    data: str | None = None
    """A file with a document set, JSON or gzipped JSON; the shipped one when left out."""


class Change(Request):
    """Which change of which order is to be taken back."""

    order_id: str
    change: str


class Restored(Document):
    """Whether something was taken back now; False when it had been before."""

    restored: bool


async def opened(context: Context) -> bool:
    """Whether the initial data is there already. Says so from the next time on."""
    there = await context.state.get("store", "opened", default=False)
    if not there:
        await context.state.put("store", "opened", True)
    return bool(there)
