"""What is said to the shared memory and what it answers: drafts, records, queries, hits.

A record belongs to one tenant, for good. Times are Unix milliseconds; importance, confidence and scores are in [0, 1].
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from .caller import Caller
from .ids import AgentId, Digest, IdempotencyKey, StepId, TaskId, Tenant
from .schema import JsonObject

MAX_TEXT = 32_000
"""Characters of one record. What is longer is a document: cut it into records with one `document`."""
MAX_REASON = 2000
"""Characters of why something is forgotten."""
OF_SNAPSHOT = "snapshot"
"""Under `of` among an error's ids: not the store is corrupt, but a copy of it."""
MAX_ALIASES = 50
"""Names and addresses of one subject that are masked with its erasure."""


class Layer(StrEnum):
    """How long it matters."""

    WORKING = "working"
    """for the task at hand; always with a time to live"""
    EPISODIC = "episodic"
    """what happened, in sequence"""
    SEMANTIC = "semantic"
    """what is so: facts, rules, preferences"""


class Scope(StrEnum):
    """Whose it is, within its tenant."""

    FEDERATION = "federation"
    DOMAIN = "domain"
    AGENT = "agent"
    """private: readable by others only with a grant"""
    TASK = "task"
    SUBJECT = "subject"
    """about one person or thing, which can ask to be forgotten"""


class State(StrEnum):
    LIVE = "live"
    QUARANTINED = "quarantined"
    """kept aside by the write gate: found only by those who ask for it"""
    SUPERSEDED = "superseded"
    """an earlier version, which queries of the past still find"""


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Fact(Value):
    """A typed statement: the `attribute` of `entity` is `value`. Two live facts that differ in value contradict."""

    entity: str = Field(min_length=1, max_length=500)
    attribute: str = Field(min_length=1, max_length=200)
    value: str | bool | int | float


class Provenance(Value):
    """Where a record comes from. Task, step and agent are filled in from the caller."""

    task: TaskId | None = None
    step: StepId | None = None
    agent: AgentId | None = None
    by: str = ""
    model: Digest | str | None = None
    """Digest of the model that wrote it, where one did."""
    document: str | None = None
    derived_from: tuple[str, ...] = ()
    """Ids of the records that it was made from: what is redacted in them is redacted here."""


class Draft(Value):
    """Something to remember."""

    text: str = Field(min_length=1, max_length=MAX_TEXT)
    layer: Layer = Layer.SEMANTIC
    scope: Scope = Scope.FEDERATION
    """What an agent keeps in the working layer is its task's when this is left out."""
    owner: str | None = None
    """The domain, agent, task or subject that the scope names. The caller's own when left out."""
    subject: str | None = None
    """Whom it is about, whatever its scope: for access and erasure."""
    episode: str | None = None
    """The conversation or course of events that it is a part of: its neighbours are found with it."""
    position: int | None = None
    """Its place there. After the last when left out."""
    payload: JsonObject = Field(default_factory=dict[str, Any])
    """Typed data that filters can ask for."""
    fact: Fact | None = None
    importance: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    confidence: float = Field(default=1, ge=0, le=1, allow_inf_nan=False)
    labels: tuple[str, ...] = ()
    valid_from_ms: int | None = None
    """From when it is so. Now when left out."""
    valid_to_ms: int | None = None
    ttl_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    pinned: bool = False
    """An anchor: kept by hygiene, never merged, never summarised away. Only people pin."""
    provenance: Provenance = Provenance()


class Record(Draft):
    """What the memory keeps."""

    id: str
    tenant: Tenant
    version: int = 1
    state: State = State.LIVE
    embedding: Digest | str | None = None
    """Digest of the embedder that made its vector."""
    created_ms: int
    updated_ms: int
    expires_ms: int | None = None


class Query(Value):
    """What to recall."""

    text: str = ""
    """Empty asks for the newest that fits the filters."""
    limit: int = Field(default=10, ge=1, le=1000)
    layers: tuple[Layer, ...] = ()
    """Empty takes all, as in all filters below."""
    scopes: tuple[Scope, ...] = ()
    owners: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    episodes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """All of these."""
    without_labels: tuple[str, ...] = ()
    """None of these."""
    payload: JsonObject = Field(default_factory=dict[str, Any])
    """Equal values by key, `{"status": "open"}`, or ranges, `{"cents": {"gte": 100, "lt": 500}}`."""
    as_of_ms: int | None = None
    """What was known and valid then. Now when left out."""
    min_confidence: float = Field(default=0, ge=0, le=1, allow_inf_nan=False)
    token_budget: int | None = Field(default=None, ge=1)
    """The hits together fit into so many tokens."""
    diversity: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """0 takes the best, 1 the most different."""
    include_quarantined: bool = False


class Hit(BaseModel):
    """A record that was recalled, and why."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    record: Record
    score: float
    why: str
    """In words: what spoke for it."""
    parts: dict[str, float] = Field(default_factory=dict[str, float])
    """What each ingredient gave: `text`, `vector`, `neighbours`, `recency`, `importance`, …"""
    tokens: int = 0


class Recollection(BaseModel):
    """The answer to a query."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    hits: list[Hit]
    labels: list[str] = Field(default_factory=list[str])
    """Of all hits together: they travel with what is made of them."""
    degraded: str = ""
    """What could not be used, such as vectors while the embedder is away. Empty when all was."""


class Change(Value):
    """A revision of a record: only what is given changes."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    payload: JsonObject | None = None
    fact: Fact | None = None
    importance: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    confidence: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    labels: tuple[str, ...] | None = None
    valid_to_ms: int | None = None
    ttl_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    derived_from: tuple[str, ...] | None = None
    """Ids of records that the new version was made from, beside those of the old one. It has their labels too."""


class Remembered(BaseModel):
    """What became of a draft."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    record: Record
    outcome: Literal["stored", "merged", "quarantined", "echo"]
    """`merged`: it said what a record says already; `echo`: it was recalled text, and is not stored again."""
    reason: str = ""
    contradicts: list[str] = Field(default_factory=list[str])
    """Ids of live facts that say otherwise."""


class Certificate(BaseModel):
    """What an erasure erased, for whoever asked for it. Holds no erased text."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    id: str
    tenant: Tenant
    subject: str | None = None
    at_ms: int
    by: str
    records: list[str]
    derived: list[str]
    places: dict[str, int]
    """Rows, vectors, text entries, cache entries and snapshots that were cleaned, by place."""
    reason: str = ""
    """In the words of whoever asked for it."""
    entry: int | None = None
    """Of the memory's journal: where it says that they went. None when there was nothing to erase."""
    digests: dict[str, str] = Field(default_factory=dict[str, str])
    """Of what was erased, by id, as the journal has them: salted, and the salt is gone."""
    digest: Digest | str
    """Over all of the above."""
    key: str = ""
    """The public key of the federation that signed it, in hex. It says which key to look for, not which to trust."""
    signature: str = ""
    """Ed25519, of the digest. Empty where a memory ends with its process."""
    pending: str = ""
    """Why it may still be in a file: it is forgotten, no question finds it any more, and it leaves the files as soon as
    that can be done. The certificate is issued then, under this id. Empty in every certificate that was issued."""


class Restored(BaseModel):
    """What came of bringing a tenant's memory back from a snapshot."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    tenant: Tenant
    taken_ms: int
    """When the snapshot was taken, unix milliseconds."""
    records: int = 0
    """That are there now because of it."""
    versions: int = 0
    known: int = 0
    """That were there, or had gone, and so stayed as they were."""
    left_out: int = 0
    """Of what the log knows as forgotten, or was derived from it."""
    evicted: int = 0
    """That went again, because the tenant's budget is smaller than what it has now."""


ONLY_READ = frozenset({"access", "audit", "export", "grants"})
"""Verbs that `tell` takes, which change nothing and need nothing but the records: readers answer them too."""


class Memory(Protocol):
    """The shared memory as its users see it. What a write acknowledges is on disk.

    Every method raises Unavailable when the memory cannot be reached, NotAllowed for what the caller may not see or
    do, InvalidInput for what cannot be meant. What another tenant has does not exist: NotFound.
    """

    async def remember(
        self, drafts: Sequence[Draft], caller: Caller, *, key: IdempotencyKey | None = None
    ) -> list[Remembered]:
        """What became of each, in order, all or none.

        The same key answers the same without storing twice; with other drafts it raises KeyReused, except within the
        step that the key belongs to: there a handler ran again and says something else, which takes the place of what
        it said before.
        """
        ...

    async def recall(self, query: Query, caller: Caller) -> Recollection: ...

    async def revise(
        self, id: str, change: Change, caller: Caller, *, version: int, key: IdempotencyKey | None = None
    ) -> Record:
        """Compare and set: raises Conflict when the record is not at `version` any more.

        The same key answers with the record as it is, instead of Conflict with itself.
        """
        ...

    async def get(self, id: str, caller: Caller) -> Record: ...

    async def history(self, id: str, caller: Caller) -> list[Record]:
        """Its versions, oldest first."""
        ...

    async def timeline(
        self, caller: Caller, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]:
        """Episodic records in order, newest last. `before` is a position within the episode, else Unix milliseconds."""
        ...

    async def forget(self, ids: Sequence[str], caller: Caller, *, reason: str = "") -> Certificate:
        """Deletes the records and redacts what was derived from them."""
        ...

    async def pin(self, id: str, caller: Caller, *, pinned: bool = True) -> Record: ...

    async def tell(self, verb: str, parameters: Mapping[str, Any], caller: Caller) -> Any:
        """The less frequent verbs: `audit`, `export`, `erase`, `access`, `grant`, `redact`, `snapshot`, `stats`, …"""
        ...


class BoundMemory(Protocol):
    """`Memory` on behalf of one caller. Raises what that raises."""

    async def remember(self, drafts: Sequence[Draft], *, key: IdempotencyKey | None = None) -> list[Remembered]: ...

    async def recall(self, query: Query) -> Recollection: ...

    async def revise(self, id: str, change: Change, *, version: int, key: IdempotencyKey | None = None) -> Record: ...

    async def get(self, id: str) -> Record: ...

    async def history(self, id: str) -> list[Record]: ...

    async def timeline(
        self, *, episode: str | None = None, limit: int = 100, before: int | None = None
    ) -> list[Record]: ...

    async def forget(self, ids: Sequence[str], *, reason: str = "") -> Certificate: ...

    async def pin(self, id: str, *, pinned: bool = True) -> Record: ...

    async def tell(self, verb: str, parameters: Mapping[str, Any]) -> Any: ...
