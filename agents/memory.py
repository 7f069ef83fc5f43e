"""The shared memory as a handler uses it.

    await context.memory.remember("The customer prefers letters", layer="semantic", subject=customer)
    found = await context.memory.recall("how to reach the customer", subjects=[customer], token_budget=500)
    for hit in found.hits: ...

Who says it, in which task and step, is filled in. A handler may run again, so what one run of it says has a key made of
the step's and of its place among what the step says: said again it is the same, and said otherwise it takes the place
of what was said before.

What was recalled labels what is said, asked and answered after it in this step: who has read something untrusted speaks
untrusted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from ..contracts import IdempotencyKey, InvalidInput
from ..contracts.caller import Caller
from ..contracts.labels import Marks, joined, marked
from ..contracts.memory import (
    BoundMemory,
    Certificate,
    Change,
    Draft,
    Layer,
    Memory,
    Query,
    Recollection,
    Record,
    Remembered,
    Scope,
)
from ..contracts.schema import fitted
from .marking import of_records


class StepMemory:
    """Keeps `BoundMemory` for one run of a handler. The caller is made anew for each question: its labels grow."""

    def __init__(
        self,
        memory: Memory,
        caller: Callable[[], Caller],
        check: Callable[[bool], None],
        took: Callable[[Marks], None],
        check_outward: Callable[[str], None],
    ) -> None:
        """`check` raises when this may not be done, and is told whether it writes; `took` takes the labels of what
        was recalled; `check_outward` raises where these labels may not decide that something is gone for good.
        """
        self._memory, self._caller = memory, caller
        self._check, self._took, self._check_outward = check, took, check_outward

    async def remember(self, drafts: Sequence[Draft], *, key: IdempotencyKey | None = None) -> list[Remembered]:
        self._check(True)
        caller = self._caller()
        return await self._memory.remember([_placed(each, caller) for each in drafts], caller, key=key)

    async def recall(self, query: Query) -> Recollection:
        self._check(False)
        found = await self._memory.recall(query, self._caller())
        of_hits = of_records(hit.record for hit in found.hits)
        self._took(joined(of_hits, marked((each for each in found.labels if each not in of_hits), "what was recalled")))
        return found

    async def revise(self, id: str, change: Change, *, version: int, key: IdempotencyKey | None = None) -> Record:
        self._check(True)
        return await self._memory.revise(id, change, self._caller(), version=version, key=key)

    async def get(self, id: str) -> Record:
        self._check(False)
        record = await self._memory.get(id, self._caller())
        return self._seen([record])[0]

    async def history(self, id: str) -> list[Record]:
        self._check(False)
        return self._seen(await self._memory.history(id, self._caller()))

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        self._check(False)
        return self._seen(await self._memory.timeline(self._caller(), episode=episode, limit=limit, before=before))

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate:
        self._check(True)
        self._check_outward("forgetting")
        return await self._memory.forget(ids, self._caller(), reason=reason)

    async def pin(self, id: str, *, pinned: bool = True) -> Record:
        self._check(True)
        return await self._memory.pin(id, self._caller(), pinned=pinned)

    async def tell(self, verb: str, parameters: Mapping[str, Any]) -> Any:
        self._check(True)
        return await self._memory.tell(verb, parameters, self._caller())

    def _seen(self, records: list[Record]) -> list[Record]:
        self._took(of_records(records))
        return records


def _placed(draft: Draft, caller: Caller) -> Draft:
    """What a task notes down while it works is for nobody else, unless the draft says whose it is."""
    own = draft.layer is Layer.WORKING and caller.task is not None and "scope" not in draft.model_fields_set
    return draft.model_copy(update={"scope": Scope.TASK}) if own else draft


class Memories:
    """What can be asked of the memory. Every method raises Unavailable when it cannot be reached."""

    __slots__ = ("_key", "_memory", "_said")

    def __init__(self, memory: BoundMemory, key: IdempotencyKey | None = None) -> None:
        """`key` is that of the step in which it is asked."""
        self._memory, self._key = memory, key
        self._said = 0

    @overload
    async def remember(self, what: str | Draft, **fields: Any) -> Remembered: ...

    @overload
    async def remember(self, what: Sequence[str | Draft], **fields: Any) -> list[Remembered]: ...

    async def remember(self, what: str | Draft | Sequence[str | Draft], **fields: Any) -> Any:
        """What became of a text or a draft, or of several, all or none. `fields` are those of `contracts.memory.Draft`,
        for texts. Raises InvalidInput, NotAllowed, BudgetExhausted.
        """
        one = isinstance(what, str | Draft)
        drafts = [_draft(each, fields) for each in ((what,) if one else what)]
        results = await self._memory.remember(drafts, key=self._next())
        return results[0] if one else results

    async def recall(self, text: str | Query = "", **filters: Any) -> Recollection:
        """What fits best, of what this agent may read; the newest when nothing is asked for in words.

        `filters` are the fields of `contracts.memory.Query`: `limit`, `layers`, `subjects`, `payload`, `token_budget`…
        """
        query = text if isinstance(text, Query) else fitted(Query, {"text": text, **filters})
        return await self._memory.recall(query)

    async def revise(self, record: Record | str, *, version: int | None = None, **change: Any) -> Record:
        """The next version. `change` are fields of `contracts.memory.Change`. Raises Conflict when somebody else was
        faster; `version` is that of the record when it is given whole.
        """
        if version is None:
            if isinstance(record, str):
                raise InvalidInput("say which version you saw: revise(id, version=…), or give the record itself")
            version = record.version
        made = fitted(Change, change)
        return await self._memory.revise(_id(record), made, version=version, key=self._next())

    async def forget(self, records: Record | str | Sequence[Record | str], *, reason: str = "") -> Certificate:
        """Deletes records for good, and redacts what was derived from them."""
        ids = [_id(each) for each in ((records,) if isinstance(records, Record | str) else records)]
        return await self._memory.forget(ids, reason=reason)

    async def pin(self, record: Record | str, *, pinned: bool = True) -> Record:
        """Keeps hygiene away from a record. Raises NotAllowed: only people pin."""
        return await self._memory.pin(_id(record), pinned=pinned)

    async def get(self, id: str) -> Record:
        """Raises NotFound."""
        return await self._memory.get(id)

    async def history(self, record: Record | str) -> list[Record]:
        """Its versions, oldest first."""
        return await self._memory.history(_id(record))

    async def timeline(
        self, episode: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        """What happened, in order, newest last."""
        return await self._memory.timeline(episode=episode, limit=limit, before=before)

    async def tell(self, verb: str, **parameters: Any) -> Any:
        """The less frequent verbs, such as `grant`."""
        return await self._memory.tell(verb, parameters)

    @property
    def bound(self) -> "OwnMemory":
        """The memory for what takes one that is bound to its user, such as `hanse.memory.tools.Conversation`."""
        return OwnMemory(self._memory, self._next)

    def _next(self) -> IdempotencyKey | None:
        """The key of what is said next. Its place is what makes it the same in another run."""
        self._said += 1
        return None if self._key is None else IdempotencyKey(f"{self._key}/memory.{self._said}")


class OwnMemory:
    """What a model's tools need of the memory, in one step: said again it is the same."""

    __slots__ = ("_memory", "_next")

    def __init__(self, memory: BoundMemory, key: Callable[[], IdempotencyKey | None]) -> None:
        self._memory, self._next = memory, key

    async def remember(self, drafts: Sequence[Draft]) -> list[Remembered]:
        return await self._memory.remember(drafts, key=self._next())

    async def recall(self, query: Query) -> Recollection:
        return await self._memory.recall(query)

    async def revise(self, id: str, change: Change, *, version: int) -> Record:
        return await self._memory.revise(id, change, version=version, key=self._next())

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        return await self._memory.timeline(episode=episode, limit=limit, before=before)

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate:
        return await self._memory.forget(ids, reason=reason)


def _draft(what: str | Draft, fields: Mapping[str, Any]) -> Draft:
    if isinstance(what, Draft):
        if fields:
            raise InvalidInput("a draft is whole: write its fields into it")
        return what
    return fitted(Draft, {"text": what, **fields})


def _id(record: Record | str) -> str:
    return record if isinstance(record, str) else record.id
