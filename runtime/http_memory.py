"""`HttpMemory`: the shared memory behind a gateway.

Reading is safe to repeat, and so are forgetting and pinning. What is remembered carries a key, so that an answer that
was lost on the way does not store it twice; a revision says which version it saw.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ..contracts import IdempotencyKey
from ..contracts.memory import Certificate, Change, Draft, Query, Recollection, Record, Remembered

Ask = Callable[..., Awaitable[Any]]
"""`ask(method, path, body, headers=…, **query)`: the answer's JSON. Raises our errors."""

RECORDS = "/v1/memory/records"
VERB_SECONDS = 600.0
"""For which a verb may work: one may read all that a tenant has. Its work goes on when nobody waits any more."""


class HttpMemory:
    """Keeps `BoundMemory` over the HTTP surface."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def remember(self, drafts: Sequence[Draft], *, key: IdempotencyKey | None = None) -> list[Remembered]:
        body = {"drafts": [draft.model_dump(mode="json", exclude_defaults=True) for draft in drafts]}
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        told = await self._ask("POST", RECORDS, body, headers=headers)
        return [Remembered.model_validate(each) for each in told["remembered"]]

    async def recall(self, query: Query) -> Recollection:
        body = query.model_dump(mode="json", exclude_defaults=True)
        return Recollection.model_validate(await self._ask("POST", "/v1/memory/recall", body))

    async def revise(self, id: str, change: Change, *, version: int, key: IdempotencyKey | None = None) -> Record:
        headers = {"If-Match": f'"{version}"', "Idempotency-Key": key or uuid.uuid4().hex}
        body = change.model_dump(mode="json", exclude_none=True)
        return Record.model_validate(await self._ask("PATCH", _record(id), body, headers=headers))

    async def get(self, id: str) -> Record:
        return Record.model_validate(await self._ask("GET", _record(id)))

    async def history(self, id: str) -> list[Record]:
        return _records(await self._ask("GET", _record(id) + "/history"))

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        return _records(await self._ask("GET", "/v1/memory/timeline", episode=episode, limit=limit, before=before))

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate:
        body = {"ids": list(ids), "reason": reason}
        return Certificate.model_validate(await self._ask("POST", "/v1/memory:forget", body))

    async def pin(self, id: str, *, pinned: bool = True) -> Record:
        return Record.model_validate(await self._ask("POST", f"{_record(id)}:{'pin' if pinned else 'unpin'}", {}))

    async def tell(self, verb: str, parameters: Mapping[str, Any]) -> Any:
        """The verbs that the gateway offers: `access`, `audit`, `erase`, `export`, `redact`, `stats` and others."""
        path = f"/v1/memory:{quote(verb, safe='')}"
        return await self._ask("POST", path, dict(parameters), seconds=VERB_SECONDS)


def _record(id: str) -> str:
    return f"{RECORDS}/{quote(id, safe='')}"


def _records(page: Mapping[str, Any]) -> list[Record]:
    return [Record.model_validate(each) for each in page["records"]]
