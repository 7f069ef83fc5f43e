"""The memory as tools that a model may call, in the shape of MCP: a name, what it does, a schema of its input, hints.

The schemas are those of the contracts, less what a model may not decide: whose record it is, who pins, where it came
from. What a model sends is checked against the same models that every other caller's requests are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..contracts import InvalidInput, JsonObject, NotFound, TooLarge
from ..contracts.memory import (
    MAX_REASON,
    MAX_TEXT,
    Certificate,
    Change,
    Draft,
    Fact,
    Layer,
    Query,
    Recollection,
    Record,
    Remembered,
)
from ..contracts.pool import Tool
from ..contracts.schema import fitted

MAX_FOUND = 1000
"""Records that a model may find in one conversation."""
MAX_HITS = 50
"""Hits of one call: what a model reads, it pays for."""

Id = Annotated[str, Field(min_length=1, max_length=200, description="Id of the record.")]


class Own(Protocol):
    """The memory as one user has it: `Memory` of the contracts, with who asks settled."""

    async def remember(self, drafts: Sequence[Draft]) -> list[Remembered]: ...

    async def recall(self, query: Query) -> Recollection: ...

    async def revise(self, id: str, change: Change, *, version: int) -> Record: ...

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]: ...

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate: ...


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Remember(_Input):
    """Keep something for later: a fact, a preference, a rule, or something that happened."""

    text: str = Field(min_length=1, max_length=MAX_TEXT, description="One statement that can be understood alone.")
    layer: Layer = Field(
        default=Layer.SEMANTIC,
        description="`semantic` for what is so, `episodic` for what happened, `working` for the task at hand only.",
    )
    subject: str | None = Field(default=None, max_length=500, description="The person or thing that it is about.")
    fact: Fact | None = Field(
        default=None, description="The same as entity, attribute and value, where it is so plain."
    )
    importance: float = Field(default=0.5, ge=0, le=1, description="How much it would be missed.")
    confidence: float = Field(default=1, ge=0, le=1, description="How sure it is.")
    ttl_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Forgotten after so long.")


class Recall(_Input):
    """Find what is remembered about something. Says for each hit why it was found."""

    query: str = Field(max_length=4000, description="What to look for, in words. Empty gives the newest.")
    limit: int = Field(default=10, ge=1, le=MAX_HITS)
    layers: list[Layer] = Field(default_factory=list[Layer], description="Empty takes all.")
    subject: str | None = Field(default=None, max_length=500, description="Only about this person or thing.")
    as_of_ms: int | None = Field(default=None, description="What was known and valid then, in Unix milliseconds.")


class Revise(_Input):
    """Correct a record. Its earlier version is kept, and refused is what was changed by others meanwhile."""

    id: Id
    version: int = Field(ge=1, description="The version that you have seen.")
    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    fact: Fact | None = None
    importance: float | None = Field(default=None, ge=0, le=1)
    confidence: float | None = Field(default=None, ge=0, le=1)


class Forget(_Input):
    """Delete records for good, with what was derived from them. This cannot be undone."""

    ids: list[Id] = Field(min_length=1, max_length=100)
    reason: str = Field(default="", max_length=MAX_REASON)


class Timeline(_Input):
    """What happened, in order, the newest last."""

    episode: str | None = Field(default=None, max_length=500, description="One conversation or course of events.")
    limit: int = Field(default=20, ge=1, le=MAX_HITS)
    before: int | None = Field(default=None, description="Only what came before this position or time.")


_INPUTS: Mapping[str, type[_Input]] = {
    "memory_remember": Remember,
    "memory_recall": Recall,
    "memory_revise": Revise,
    "memory_forget": Forget,
    "memory_timeline": Timeline,
}
_READING = {"memory_recall", "memory_timeline"}


def descriptions() -> list[JsonObject]:
    """As in the answer to MCP's `tools/list`."""
    return [_description(name, model) for name, model in _INPUTS.items()]


def for_chat() -> list[Tool]:
    """As the pool's asks take them."""
    return [
        Tool(name=each["name"], description=each["description"], parameters=each["inputSchema"])
        for each in descriptions()
    ]


class Conversation:
    """The tools as one model has them in one conversation, or in one step of a task: what it keeps is derived from all
    that it has found before, has the labels of that, and is redacted with it. The model has no say in this.

        conversation = Conversation(memory)
        answer = await conversation.call("memory_recall", {"query": "green tea"})
    """

    def __init__(self, memory: Own, found: Iterable[str] = ()) -> None:
        """`found` are ids of records that were found earlier in it."""
        self._memory = memory
        self._found = dict.fromkeys(found)

    @property
    def found(self) -> tuple[str, ...]:
        """Ids of the records that the model has seen, for whoever goes on with it elsewhere."""
        return tuple(self._found)

    async def call(self, name: str, arguments: Any) -> JsonObject:
        """As `tools.call`. Raises InvalidInput also when a record that was found has been deleted since: what is made
        of it may not be kept.
        """
        try:
            return await call(name, arguments, self)
        except InvalidInput as error:
            if error.ids.get("pointer") != "/provenance":
                raise
            raise InvalidInput(f"{error.detail}: it was deleted meanwhile. Begin a new conversation") from None

    # Keeps `Own`

    async def remember(self, drafts: Sequence[Draft]) -> list[Remembered]:
        return await self._memory.remember([self._derived(each) for each in drafts])

    async def recall(self, query: Query) -> Recollection:
        found = await self._memory.recall(query)
        self._saw(hit.record for hit in found.hits)
        return found

    async def revise(self, id: str, change: Change, *, version: int) -> Record:
        sources = tuple(each for each in self._found if each != id) or None
        return await self._memory.revise(id, change.model_copy(update={"derived_from": sources}), version=version)

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        records = await self._memory.timeline(episode=episode, limit=limit, before=before)
        self._saw(records)
        return records

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate:
        certificate = await self._memory.forget(ids, reason=reason)
        for gone in (*certificate.records, *certificate.derived):
            self._found.pop(gone, None)
        return certificate

    def _saw(self, records: Iterable[Record]) -> None:
        self._found.update(dict.fromkeys(record.id for record in records))
        if len(self._found) > MAX_FOUND:
            raise TooLarge(f"a conversation finds {MAX_FOUND} records at most. Begin a new one")

    def _derived(self, draft: Draft) -> Draft:
        sources = tuple(dict.fromkeys((*draft.provenance.derived_from, *self._found)))
        return draft.model_copy(update={"provenance": draft.provenance.model_copy(update={"derived_from": sources})})


async def call(name: str, arguments: Any, memory: Own) -> JsonObject:
    """Does what a model asked for, and returns plain data for it to read. Knows of no call before it: see
    `Conversation`.

    Raises NotFound for an unknown tool, InvalidInput for arguments that do not fit its schema, and what the memory
    raises.
    """
    asked = _checked(name, arguments)
    if isinstance(asked, Remember):
        return await _remember(asked, memory)
    if isinstance(asked, Recall):
        return await _recall(asked, memory)
    if isinstance(asked, Revise):
        change = Change(**asked.model_dump(exclude={"id", "version"}, exclude_none=True))
        return brief(await memory.revise(asked.id, change, version=asked.version))
    if isinstance(asked, Forget):
        return (await memory.forget(asked.ids, reason=asked.reason)).model_dump(mode="json")
    assert isinstance(asked, Timeline)
    found = await memory.timeline(episode=asked.episode, limit=asked.limit, before=asked.before)
    return {"records": [brief(record) for record in found]}


def brief(record: Record) -> JsonObject:
    """What a model needs to know of a record."""
    given = record.model_dump(
        mode="json",
        include={"id", "version", "text", "layer", "subject", "fact", "labels", "confidence", "pinned", "created_ms"},
        exclude_none=True,
    )
    return {name: value for name, value in given.items() if value not in ([], False)}


async def _remember(asked: Remember, memory: Own) -> JsonObject:
    draft = Draft(**asked.model_dump(exclude_none=True))
    [told] = await memory.remember([draft])
    answer = {"id": told.record.id, "outcome": told.outcome, "version": told.record.version}
    return answer | ({"reason": told.reason} if told.reason else {}) | _disputed(told.contradicts)


def _disputed(contradicts: list[str]) -> JsonObject:
    return {"contradicts": contradicts} if contradicts else {}


async def _recall(asked: Recall, memory: Own) -> JsonObject:
    query = Query(
        text=asked.query,
        limit=asked.limit,
        layers=tuple(asked.layers),
        subjects=(asked.subject,) if asked.subject else (),
        as_of_ms=asked.as_of_ms,
    )
    found = await memory.recall(query)
    hits = [brief(hit.record) | {"why": hit.why} for hit in found.hits]
    return {"hits": hits} | ({"labels": found.labels} if found.labels else {})


def _checked(name: str, arguments: Any) -> _Input:
    model = _INPUTS.get(name)
    if model is None:
        raise NotFound(f"there is no tool {name[:64]!r}. Known: {', '.join(_INPUTS)}")
    if not isinstance(arguments, dict):
        raise InvalidInput(f"the arguments of {name} are an object")
    return fitted(model, arguments)


def _description(name: str, model: type[_Input]) -> JsonObject:
    schema = model.model_json_schema()
    text = " ".join(str(schema.pop("description", "")).split())
    schema.pop("title", None)
    hints = {
        "readOnlyHint": name in _READING,
        "destructiveHint": model is Forget,
        "idempotentHint": name in _READING or model is Forget,
        "openWorldHint": False,
    }
    title = name.partition("_")[2].capitalize()
    return {"name": name, "title": title, "description": text, "inputSchema": schema, "annotations": hints}
